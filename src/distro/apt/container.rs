//! A root made of a container image's layers: the base of an image whose recipe names one.

use std::collections::BTreeMap;
use std::fs::File;

use serde::{Deserialize, Serialize};

use super::inside::{NORMALISED, scripts_that_make_accounts};
use crate::archive::{Extractor, LayerSize, look_at_layer, plain_layer};
use crate::digest::Sha256;
use crate::distro::inside::accounts::{self, text_in};
use crate::distro::inside::common::normalise;
use crate::distro::inside::keystore;
use crate::failure::Failure;
use crate::fault;
use crate::recipe::Accounts;
use crate::sandbox::helper::News;
use crate::store::{ScanAnswer, ScanRequest, TreeEditor, in_scratch, make_directories, scan};

/// Version of what a container image is made into; part of the key. 1: first.
pub const CONTAINER_VERSION: u32 = 1;

/// Where dpkg and apt keep what is installed.
const STATUS: &str = "var/lib/dpkg/status";
/// Which packages came for others' sake.
const MARKS: &str = "var/lib/apt/extended_states";
/// Bytes that each of them has at most. Debian's own, with all of 60,000 packages, would have as many.
const LARGEST_STATUS: u64 = 64 << 20;
/// Who made the image.
const OS_RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
const TEXT_LIMIT: u64 = 1 << 20;
/// Bytes of all layers at most once they are decompressed; of one layer, whatever its size, and for each byte of it: compressors make
/// much of the zeros in /var/log/lastlog.
const MOST: LayerSize = LayerSize { bytes: 64 << 30, entries: 5_000_000 };
const LAYER_BYTES: (u64, u64) = (4 << 30, 1000);

/// What marks a container or belongs to one: a node is not one. One reason a line.
const OF_CONTAINERS: [&str; 4] = [
    ".dockerenv",           // systemd and others take the machine for a container
    ".dockerinit",          // of old Dockers
    "run/.containerenv",    // podman's
    "usr/sbin/policy-rc.d", // keeps packages from starting services: on nodes they are to start
];

/// What engines make empty to mount their own over it. Nodes have theirs by DHCP, or by a list or script.
const MOUNT_POINTS: [&str; 3] = ["etc/resolv.conf", "etc/hostname", "etc/hosts"];

/// Names at the top that lead into /usr, without which no program starts.
const MERGED: [&str; 4] = ["bin", "sbin", "lib", "lib64"];

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerLayer {
    /// Path relative to the store's directory.
    pub file: String,
    /// Digest of the archive once it is decompressed.
    pub diff: Sha256,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ContainerRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    /// The layers, lowest first.
    pub layers: Vec<ContainerLayer>,
    /// Distribution, and the names of its release: the archive's and the number.
    pub distro: String,
    pub release: String,
    pub number: Option<String>,
    /// No time is later than this.
    pub epoch: i64,
}

#[derive(Debug, Serialize, Deserialize)]
pub enum ContainerMade {
    /// A committed layer, its users and groups, and what is to be said.
    Layer(ScanAnswer, Accounts, Vec<String>),
    /// It cannot be the base: why, and what to do.
    Refused(String, String),
}

/// Fields of os-release. Source: os-release(5).
fn fields(text: &str) -> BTreeMap<&str, &str> {
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name, value.trim().trim_matches(['"', '\'']))).collect()
}

/// Why a tree is not of a distribution and release: what it is instead.
fn other_release(request: &ContainerRequest, os_release: Option<&str>, debian_version: &str) -> Option<String> {
    let wanted = format!("{} {}", request.distro, request.release);
    let Some(text) = os_release else {
        return Some(format!("has no /etc/os-release, so it is not an image of {wanted} as [image] says"));
    };
    let fields = fields(text);
    let of = |name: &str| fields.get(name).copied().unwrap_or_default().escape_default().to_string();
    let (id, codename, number) = (of("ID"), of("VERSION_CODENAME"), of("VERSION_ID"));
    // Debian's unstable release calls itself by the name of the next one.
    let is_unstable = debian_version.trim().ends_with(&format!("/{}", request.release));
    let is_release = match (codename.is_empty(), &request.number) {
        (false, _) => codename == request.release || is_unstable,
        (true, Some(wanted)) => number == *wanted || number.starts_with(&format!("{wanted}.")),
        (true, None) => is_unstable || number.is_empty(),
    };
    if id == request.distro && is_release {
        return None;
    }
    let release = if codename.is_empty() { number } else { codename };
    Some(format!("is {id} {release}, but [image] says {wanted}"))
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

/// Units that the image's maker masked, because no container has a use for them.
fn masked(extractor: &Extractor, editor: &TreeEditor) -> Option<String> {
    let folder = "etc/systemd/system";
    let is_masked = |name: &String| extractor.link(&format!("{folder}/{name}")).as_deref() == Some("/dev/null");
    let names: Vec<String> = editor.names(folder).into_iter().filter(is_masked).collect();
    let shown: Vec<String> = names.iter().take(8).map(|name| name.escape_default().to_string()).collect();
    let more = if names.len() > shown.len() { ", .." } else { "" };
    (!names.is_empty()).then(|| {
        format!(
            "the container image masks units, which do not start on nodes: {}{more}; `enable` in [services] starts them",
            shown.join(", ")
        )
    })
}

/// Takes out what makes a container of a tree, and what differs from image to image by chance.
fn settle(request: &ContainerRequest, tree: &str, extractor: &Extractor) -> Result<Vec<String>, String> {
    let editor = TreeEditor::open(tree)?;
    for path in OF_CONTAINERS {
        editor.remove(path)?;
    }
    for path in MOUNT_POINTS {
        let is_empty = |file: File| file.metadata().is_ok_and(|found| found.len() == 0);
        if editor.open_file(path).is_some_and(is_empty) {
            editor.remove(path)?;
        }
    }
    keystore::settle(&editor, request.epoch)?;
    normalise(tree, &NORMALISED)?;
    Ok(left_out(&editor).into_iter().chain(masked(extractor, &editor)).collect())
}

pub fn inside(request: ContainerRequest, progress: News<'_>) -> Result<ContainerMade, String> {
    in_scratch(&request.scratch, || {
        let tree = format!("{}/tree", request.scratch);
        make_directories(&tree, &[""])?;
        let mut extractor = Extractor::new(&tree)?;
        let refused = |problem: String, help: &str| Ok(ContainerMade::Refused(problem, help.to_owned()));
        let (mut devices, mut left) = (0, MOST);
        for (index, layer) in request.layers.iter().enumerate() {
            progress(&format!("unpacking layer {} of {}", index + 1, request.layers.len()));
            fault::point("container.layer");
            let open = || -> Result<(File, u64), String> {
                let file = File::open(&layer.file).map_err(|error| format!("{}: {error}", layer.file))?;
                let size = file.metadata().map_err(|error| error.to_string())?.len();
                Ok((file, size))
            };
            let links = MERGED.map(|name| extractor.link(name));
            let mut unpack = || -> Result<_, String> {
                let (file, size) = open()?;
                let bytes = left.bytes.min(size.saturating_mul(LAYER_BYTES.1).saturating_add(LAYER_BYTES.0));
                let most = LayerSize { bytes, ..left };
                let mut plain = plain_layer(file).map_err(|error| error.to_string())?;
                let look = look_at_layer(&mut plain, &layer.diff, most)?;
                let mut plain = plain_layer(open()?.0).map_err(|error| error.to_string())?;
                extractor.layer(&mut plain, &look)?;
                Ok(look)
            };
            match unpack() {
                Ok(look) => {
                    devices += look.devices.len();
                    // No more than was left, or it would have been refused.
                    left.bytes = left.bytes.saturating_sub(look.size.bytes);
                    left.entries = left.entries.saturating_sub(look.size.entries);
                }
                Err(problem) if Failure::told_by(&problem).is_some() => return Err(problem),
                Err(problem) => {
                    let place = format!("layer {} of the container image cannot be unpacked: {problem}", index + 1);
                    return refused(place, "name an image whose layers can be, or mend this one and push it again");
                }
            }
            // As engines do it; and no program starts afterwards.
            let gone = MERGED.iter().zip(links).find(|(name, link)| link.is_some() && extractor.link(name).is_none());
            if let Some((name, Some(link))) = gone {
                let (number, link) = (index + 1, link.escape_default());
                return refused(
                    format!("layer {number} of the container image replaces /{name}, a link to {link}, by a directory"),
                    "put its files below /usr there, and push it again",
                );
            }
        }
        let os_release = OS_RELEASE.iter().find_map(|path| extractor.text(path, TEXT_LIMIT));
        let debian_version = extractor.text("etc/debian_version", TEXT_LIMIT).unwrap_or_default();
        if let Some(problem) = other_release(&request, os_release.as_deref(), &debian_version) {
            return refused(
                format!("the container image {problem}"),
                "name an image of that distribution and release, or change `distro` and `release` in [image]",
            );
        }
        for path in [STATUS, MARKS] {
            if extractor.size(path).is_some_and(|bytes| bytes > LARGEST_STATUS) {
                return refused(
                    format!("/{path} of the container image has more than {LARGEST_STATUS} bytes"),
                    "name another image: no database of packages is as large",
                );
            }
        }
        if extractor.text(STATUS, 1).is_none_or(|text| text.is_empty()) {
            return refused(
                format!("the container image has no database of packages (/{STATUS}): none can be installed over it"),
                "name an image with dpkg; those that are called distroless or chiselled have none",
            );
        }
        let mut notes = settle(&request, &tree, &extractor)?;
        if devices > 0 {
            notes.push(format!("{devices} device nodes of the container image are left out: nodes make their own"));
        }
        let accounts = accounts::found(&tree, &[], &scripts_that_make_accounts(&tree)?)?;
        fault::point("container.done");
        let answer = scan(&ScanRequest { tree, base: Vec::new(), epoch: request.epoch, whole: false })?;
        Ok(ContainerMade::Layer(answer, accounts, notes))
    })
}

/// What dpkg's database says of one installed package.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseStanza {
    pub version: String,
    pub architecture: String,
    /// Whether it came in only because another package needed it.
    pub automatic: bool,
    pub text: String,
}

fn field<'a>(stanza: &'a str, name: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

/// Reads the packages of a container image, by name, from dpkg's status and apt's marks.
/// Errors: A text that says what cannot be gone on from.
pub fn read_status(status: &str, marks: &str, architecture: &str) -> Result<BTreeMap<String, BaseStanza>, String> {
    let automatic: std::collections::BTreeSet<&str> = marks
        .split("\n\n")
        .filter(|stanza| field(stanza, "Auto-Installed") == Some("1"))
        .filter_map(|stanza| field(stanza, "Package"))
        .collect();
    let is_word = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
    let mut all = BTreeMap::new();
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
        let stanza = BaseStanza { version, architecture, automatic: automatic.contains(name), text };
        if all.insert(name.to_owned(), stanza).is_some() {
            return Err(format!("its package `{name}` is there twice"));
        }
    }
    if all.is_empty() { Err("its database has no installed package".to_owned()) } else { Ok(all) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(distro: &str, release: &str, number: Option<&str>) -> ContainerRequest {
        ContainerRequest {
            scratch: String::new(),
            layers: Vec::new(),
            distro: distro.to_owned(),
            release: release.to_owned(),
            number: number.map(str::to_owned),
            epoch: 0,
        }
    }

    #[test]
    fn another_distribution_or_release_is_told_with_both_names() {
        let bookworm =
            "PRETTY_NAME=\"Debian GNU/Linux 12 (bookworm)\"\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\nID=debian\n";
        let noble = "ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\nVERSION_CODENAME=noble\n";
        let debian = request("debian", "bookworm", Some("12"));
        assert_eq!(other_release(&debian, Some(bookworm), "12.5\n"), None);
        assert_eq!(other_release(&debian, Some("ID=debian\nVERSION_ID='12'\n"), ""), None);
        for (text, said) in [
            (Some(noble), "is ubuntu noble, but [image] says debian bookworm"),
            (Some("ID=debian\nVERSION_CODENAME=trixie\n"), "is debian trixie"),
            (Some("ID=debian\nVERSION_ID=11\n"), "is debian 11"),
            (Some("ID=\u{1b}[31m\n"), "\\u{1b}"),
            (None, "no /etc/os-release"),
        ] {
            let problem = other_release(&debian, text, "").unwrap();
            assert!(problem.contains(said), "{problem}");
        }
        let sid = request("debian", "sid", None);
        assert_eq!(other_release(&sid, Some("ID=debian\nVERSION_CODENAME=forky\n"), "forky/sid\n"), None);
        assert!(other_release(&sid, Some(bookworm), "12.5\n").is_some());
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
