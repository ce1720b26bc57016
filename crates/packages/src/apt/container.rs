//! Container images of Debian and Ubuntu, as the base of an image whose recipe names one.

use super::inside::{NORMALISED, scripts_that_make_accounts};
use crate::inside::accounts::text_in;
use crate::inside::container::lost::{Packaged, Tree};
use crate::inside::container::{
    self, ContainerFamily, ContainerMade, ContainerPackage, ContainerPackages, ContainerRequest, OsRelease,
    PackagesRequest, Refused, TEXT_LIMIT,
};
use crate::installed::dpkg::field;
use archive::Extractor;
use sandbox::helper::News;
use store::{LayerReader, TreeEditor};

/// Version of what a container image is made into; part of the key. 1: first.
pub(super) const CONTAINER_VERSION: u32 = 1;

/// Where dpkg and apt keep what is installed.
const STATUS: &str = "var/lib/dpkg/status";
/// Which packages came for others' sake.
const MARKS: &str = "var/lib/apt/extended_states";
/// Bytes that each of them has at most. Debian's own, with all of 60,000 packages, would have as many.
const LARGEST_STATUS: u64 = 64 << 20;

/// Runs inside.
pub(super) fn make(request: ContainerRequest, progress: News<'_>) -> Result<ContainerMade, String> {
    container::inside(&OfDebian, request, progress)
}

/// Reads what the layer of a container image has installed. Runs inside.
pub(super) fn packages(request: PackagesRequest, _: News<'_>) -> Result<Result<ContainerPackages, String>, String> {
    let reader = LayerReader::open(&[request.layer])?;
    let text = |path: &str| -> Result<String, String> {
        Ok(reader.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default())
    };
    Ok(read_status(&text(STATUS)?, &text(MARKS)?, &request.architecture))
}

/// dpkg and apt.
struct OfDebian;

impl ContainerFamily for OfDebian {
    fn of_containers(&self) -> &'static [&'static str] {
        // Keeps packages from starting services: on nodes they are to start.
        &["usr/sbin/policy-rc.d"]
    }

    fn normalised(&self) -> &'static [&'static str] {
        &NORMALISED
    }

    fn is_release(&self, request: &ContainerRequest, release: &OsRelease, tree: &Extractor) -> bool {
        let debian_version = tree.text("etc/debian_version", TEXT_LIMIT).unwrap_or_default();
        is_release(request, release, &debian_version)
    }

    fn problem(&self, tree: &Extractor, _: &TreeEditor) -> Option<Refused> {
        for path in [STATUS, MARKS] {
            if tree.size(path).is_some_and(|bytes| bytes > LARGEST_STATUS) {
                return Some((
                    format!("/{path} of the container image has more than {LARGEST_STATUS} bytes"),
                    "name another image: no database of packages is as large",
                ));
            }
        }
        tree.text(STATUS, 1).is_none_or(|text| text.is_empty()).then(|| {
            (
                format!("the container image has no database of packages (/{STATUS}): none can be installed over it"),
                "name an image with dpkg; those that are called distroless or chiselled have none",
            )
        })
    }

    fn notes(&self, _: &Extractor, editor: &TreeEditor) -> Result<Vec<String>, String> {
        Ok([left_out(editor), lost(editor)].into_iter().flatten().collect())
    }

    fn scripts(&self, path: &str) -> Result<Vec<(String, String)>, String> {
        scripts_that_make_accounts(path)
    }
}

fn is_release(request: &ContainerRequest, release: &OsRelease, debian_version: &str) -> bool {
    // Debian's unstable release calls itself by the name of the next one.
    let is_unstable = debian_version.trim().ends_with(&format!("/{}", request.release));
    let number = &release.number;
    release.id == request.distro.name()
        && match (release.codename.is_empty(), &request.number) {
            (false, _) => release.codename == request.release || is_unstable,
            (true, Some(wanted)) => number == wanted || number.starts_with(&format!("{wanted}.")),
            (true, None) => is_unstable || number.is_empty(),
        }
}

/// What dpkg of the tree leaves out of packages: lines of its configuration.
fn left_out(editor: &TreeEditor) -> Option<String> {
    let folder = "etc/dpkg/dpkg.cfg.d";
    let mut files = Vec::new();
    let mut patterns = Vec::new();
    for name in editor.names(folder) {
        let text = text_in(editor, &format!("{folder}/{name}")).unwrap_or_default();
        let excluded = |line: &str| {
            let rest = line.trim().strip_prefix("path-exclude")?.trim_start_matches(['=', ' ', '\t']);
            Some(rest.trim().escape_default().to_string())
        };
        let found: Vec<String> = text.lines().filter_map(excluded).collect();
        if !found.is_empty() {
            files.push(format!("/{folder}/{name}"));
            patterns.extend(found);
        }
    }
    let count = patterns.len();
    patterns.truncate(4);
    let more = if count > patterns.len() { ", .." } else { "" };
    (count > 0).then(|| {
        format!(
            "the container image's dpkg leaves files out of all packages, those of the lists too: {}{more} ({})",
            patterns.join(", "),
            files.join(", ")
        )
    })
}

/// What dpkg itself gives files, whatever package has them: `USER GROUP MODE PATH`. Source: dpkg-statoverride(1).
const OVERRIDES: &str = "var/lib/dpkg/statoverride";

/// Programs that have been set-user-id root in each release: dpkg knows no modes of packages' files.
const SET_ID: [(&str, &str); 10] = [
    ("mount", "usr/bin/mount"),
    ("mount", "usr/bin/umount"),
    ("passwd", "usr/bin/chfn"),
    ("passwd", "usr/bin/chsh"),
    ("passwd", "usr/bin/gpasswd"),
    ("passwd", "usr/bin/passwd"),
    ("sudo", "usr/bin/sudo"),
    ("util-linux", "usr/bin/su"),
    ("fuse3", "usr/bin/fusermount3"),
    ("polkitd", "usr/bin/pkexec"),
];

/// What files no longer have that dpkg or each release gives them.
fn lost(editor: &TreeEditor) -> Option<String> {
    let text = text_in(editor, OVERRIDES).unwrap_or_default();
    let overridden = text.lines().filter_map(|line| {
        let mut words = line.splitn(4, ' ');
        let (user, group) = (words.next()?, words.next()?);
        let mode = u32::from_str_radix(words.next()?, 8).ok()?;
        let (path, owner) = (words.next()?.trim_start_matches('/'), Some((user, group)));
        Some(Packaged { package: "dpkg-statoverride", path, mode, owner, has_capabilities: false })
    });
    let set_id = SET_ID.into_iter().map(|(package, path)| {
        let owner = Some(("root", "root"));
        Packaged { package, path, mode: 0o4755, owner, has_capabilities: false }
    });
    Tree::new(editor).note(overridden.chain(set_id), "apt-get install --reinstall")
}

/// Reads the packages of a container image, by name, from dpkg's status and apt's marks.
/// Errors: A text that says what cannot be gone on from.
fn read_status(status: &str, marks: &str, architecture: &str) -> Result<ContainerPackages, String> {
    let automatic: std::collections::BTreeSet<&str> = marks
        .split("\n\n")
        .filter(|stanza| field(stanza, "Auto-Installed") == Some("1"))
        .filter_map(|stanza| field(stanza, "Package"))
        .collect();
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let mut all = ContainerPackages::new();
    for stanza in status.split("\n\n").filter(|stanza| !stanza.trim().is_empty()) {
        let (Some(name), Some(version), Some(own), Some(state)) = (
            field(stanza, "Package"),
            field(stanza, "Version").or(Some("")),
            field(stanza, "Architecture").or(Some("")),
            field(stanza, "Status"),
        ) else {
            return Err("a stanza of its database names no package".to_owned());
        };
        let state = state.rsplit(' ').next().unwrap_or_default();
        if ["not-installed", "config-files"].contains(&state) {
            continue;
        }
        if ![name, version, own].into_iter().all(is_word) {
            return Err(format!("its package `{}` has no version or architecture", name.escape_default()));
        }
        if state != "installed" {
            return Err(format!("its package `{name}` is {state}: run `dpkg --configure -a` there"));
        }
        if own != "all" && own != architecture {
            return Err(format!("its package `{name}` is of {own}, but an image has packages of one architecture"));
        }
        // What apt has no use for here, and is half of the text.
        let mut text = String::new();
        let mut is_kept = true;
        for line in stanza.trim().lines() {
            if !line.starts_with([' ', '\t']) {
                is_kept = !line.starts_with("Conffiles:");
            }
            if is_kept {
                text.push_str(line);
                text.push('\n');
            }
        }
        let (version, architecture) = (version.to_owned(), own.to_owned());
        let essential = text.lines().any(|line| line == "Essential: yes" || line == "Protected: yes");
        let automatic = automatic.contains(name);
        let stanza = ContainerPackage { version, architecture, automatic, essential, text };
        if all.insert(name.to_owned(), stanza).is_some() {
            return Err(format!("its package `{name}` is there twice"));
        }
    }
    if all.is_empty() { Err("its database has no installed package".to_owned()) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use recipe::Distro;

    fn request(release: &str, number: Option<&str>) -> ContainerRequest {
        ContainerRequest {
            scratch: String::new(),
            layers: Vec::new(),
            distro: Distro::Debian,
            release: release.to_owned(),
            number: number.map(str::to_owned),
            epoch: 0,
        }
    }

    #[test]
    fn another_distribution_or_release_is_known() {
        let bookworm =
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        let noble = "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\nVERSION_CODENAME=noble\n";
        let debian = request("bookworm", Some("12"));
        let is = |request: &ContainerRequest, text: &str, version: &str| {
            is_release(request, &OsRelease::read(text), version)
        };
        assert!(is(&debian, bookworm, "12.5\n"));
        assert!(is(&debian, "ID=debian\nVERSION_ID='12'\n", ""));
        for text in [noble, "ID=debian\nVERSION_CODENAME=trixie\n", "ID=debian\nVERSION_ID=11\n", "ID=\u{1b}[31m\n"] {
            assert!(!is(&debian, text, ""), "{text}");
        }
        assert_eq!(OsRelease::read("ID=\u{1b}[31m\n").id, "\\u{1b}[31m");
        let sid = request("sid", None);
        assert!(is(&sid, "ID=debian\nVERSION_CODENAME=forky\n", "forky/sid\n"));
        assert!(!is(&sid, bookworm, "12.5\n"));
    }

    #[test]
    fn set_id_bits_and_overrides_that_a_layer_lost_are_named() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        for (path, mode) in [("usr/bin/sudo", 0o755), ("usr/bin/su", 0o4755), ("usr/lib/helper", 0o755)] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
            std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        }
        std::fs::create_dir_all(folder.path().join("var/lib/dpkg")).unwrap();
        std::fs::write(folder.path().join(OVERRIDES), "root messagebus 4754 /usr/lib/helper\nodd\n").unwrap();
        let editor = TreeEditor::open(folder.path().to_str().unwrap()).unwrap();
        let note = lost(&editor).unwrap();
        let words = "set-id bits (dpkg-statoverride: /usr/lib/helper, sudo: /usr/bin/sudo)";
        assert!(note.contains(words) && note.contains("apt-get install --reinstall"), "{note}");
        std::fs::set_permissions(folder.path().join("usr/bin/sudo"), PermissionsExt::from_mode(0o4755)).unwrap();
        std::fs::remove_file(folder.path().join(OVERRIDES)).unwrap();
        assert_eq!(lost(&editor), None);
    }

    #[test]
    fn the_database_of_a_container_is_read_or_refused() {
        let stanza = |name: &str, state: &str, architecture: &str| {
            format!(
                "Package: {name}\nStatus: install ok {state}\nVersion: 1\nArchitecture: {architecture}\nConffiles:\n /etc/x 0123\nDescription: x\n more\n"
            )
        };
        let good =
            [stanza("a", "installed", "amd64"), stanza("b", "config-files", "amd64"), stanza("c", "installed", "all")];
        let marks = "Package: c\nArchitecture: amd64\nAuto-Installed: 1\n\nPackage: a\nArchitecture: amd64\nAuto-Installed: 0\n";
        let all = read_status(&good.join("\n"), marks, "amd64").unwrap();
        assert_eq!(
            all.iter().map(|(name, one)| (&name[..], one.automatic)).collect::<Vec<_>>(),
            [("a", false), ("c", true)]
        );
        assert_eq!(
            all["a"].text,
            "Package: a\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\nDescription: x\n more\n"
        );
        for (text, said) in [
            (stanza("a", "half-configured", "amd64"), "dpkg --configure"),
            (stanza("a", "installed", "i386"), "`a` is of i386"),
            ([stanza("a", "installed", "amd64"), stanza("a", "installed", "all")].join("\n"), "twice"),
            ("Version: 1\n".to_owned(), "names no package"),
            ("Package: a\nStatus: install ok installed\n".to_owned(), "no version"),
            (String::new(), "no installed package"),
        ] {
            let problem = read_status(&text, "", "amd64").unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
    }
}
