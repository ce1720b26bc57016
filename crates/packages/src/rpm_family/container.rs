//! Container images with an rpm database, as the base of an image whose recipe names one.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;

use super::inside::NORMALISED;
use crate::inside::accounts::{MAKERS, text_in};
use crate::inside::container::lost::{Packaged, Tree};
use crate::inside::container::{
    self, ContainerFamily, ContainerMade, ContainerPackage, ContainerPackages, ContainerRequest, OsRelease,
    PackagesRequest, Refused, TEXT_LIMIT,
};
use crate::installed::{self, Installed, InstalledPackage, LONGEST_DATABASE, RPM_PLACES, rpm_database_files};
use archive::Extractor;
use base::source::counted_as;
use recipe::Distro;
use sandbox::helper::News;
use store::{Kind, LayerReader, TreeEditor};

/// Version of what a container image is made into; part of the key. 1: first.
pub(super) const CONTAINER_VERSION: u32 = 1;

/// Where images for ostree and bootc have the database, whose other places are links to it.
const OSTREE: [&str; 2] = ["usr/share/rpm/rpmdb.sqlite", "usr/share/rpm/Packages"];

/// What no system can do without, whatever dnf's files say.
const ESSENTIAL: [&str; 5] = ["filesystem", "setup", "glibc", "bash", "rpm"];
/// Where packages say that they must not be removed. Source: dnf.conf(5), `protected_packages`.
const PROTECTED: [&str; 2] = ["etc/dnf/protected.d", "etc/yum/protected.d"];

/// Settings by which files are left out when packages are installed: file, a line's beginning, and what has to be in it.
const LEAVE_OUT: [(&str, &str, &str); 4] = [
    ("etc/dnf/dnf.conf", "tsflags", "nodocs"),
    ("etc/yum.conf", "tsflags", "nodocs"),
    ("etc/zypp/zypp.conf", "rpm.install.excludedocs", "yes"),
    ("usr/etc/zypp/zypp.conf", "rpm.install.excludedocs", "yes"),
];
/// Where rpm has macros of the machine, and those by which it leaves files out.
const MACROS: &str = "etc/rpm";
const LEAVING_MACROS: [&str; 2] = ["%_install_langs", "%_excludedocs"];

/// Where versions are held back: dnf's, dnf5's, yum's and zypper's files.
const HELD: [&str; 4] = [
    "etc/dnf/plugins/versionlock.list",
    "etc/dnf/versionlock.toml",
    "etc/yum/pluginconf.d/versionlock.list",
    "etc/zypp/locks",
];

/// Units of packages.
const UNITS: [&str; 2] = ["usr/lib/systemd/system/", "lib/systemd/system/"];
/// How many names a message has.
const SHOWN: usize = 4;

/// Runs inside.
pub(super) fn make(request: ContainerRequest, progress: News<'_>) -> Result<ContainerMade, String> {
    container::inside(&OfRpm::default(), request, progress)
}

/// Reads what the layer of a container image has installed. Runs inside.
pub(super) fn packages(request: PackagesRequest, _: News<'_>) -> Result<Result<ContainerPackages, String>, String> {
    let reader = LayerReader::open(&[request.layer])?;
    let mut files = BTreeMap::new();
    for path in rpm_database_files() {
        files.extend(reader.read(&path)?.map(|bytes| (path, bytes)));
    }
    let mut protected = String::new();
    for folder in PROTECTED {
        let start = format!("{folder}/");
        let own =
            reader.tree.0.range(start.clone()..).map(|(path, _)| path).take_while(|path| path.starts_with(&start));
        let is_text = |path: &&String| {
            let kind = reader.tree.0.get(*path).map(|found| &found.entry.kind);
            path.ends_with(".conf") && matches!(kind, Some(Kind::File { size, .. }) if *size <= TEXT_LIMIT)
        };
        for path in own.filter(is_text) {
            let bytes = reader.read(path)?.unwrap_or_default();
            protected.push_str(&String::from_utf8_lossy(&bytes));
            protected.push('\n');
        }
    }
    let found = installed::read(&files).map(|found| found.map(|found| found.packages).unwrap_or_default());
    Ok(found.and_then(|found| by_name(found, &protected, &request.architecture)))
}

/// The packages by name.
fn by_name(found: Vec<InstalledPackage>, protected: &str, architecture: &str) -> Result<ContainerPackages, String> {
    let protected: BTreeSet<&str> = protected.lines().map(str::trim).chain(ESSENTIAL).collect();
    // As those that a lock may have: they are words of commands.
    let is_plain = |text: &str, more: &str| {
        text.starts_with(|letter: char| letter.is_ascii_alphanumeric() || letter == '_')
            && text.chars().all(|letter| letter.is_ascii_alphanumeric() || more.contains(letter))
    };
    let mut all = ContainerPackages::new();
    for InstalledPackage { name, version, arch, .. } in found {
        let is_version = is_plain(version.trim_start_matches('.'), ".+-:~^_");
        if !is_plain(&name, "-+._") || !is_version || !is_plain(&arch, "_") {
            let shown = format!("{name}-{version}.{arch}").escape_default().to_string();
            return Err(format!("it has a package with an invalid name: `{shown}`"));
        }
        // A CPU's newer generations are called `x86_64_v2` and so on.
        if arch != "noarch" && arch.split("_v").next() != Some(architecture) {
            return Err(format!("its package `{name}` is of {arch}, but an image has packages of one architecture"));
        }
        let essential = protected.contains(name.as_str());
        let one = ContainerPackage { version, architecture: arch, automatic: false, essential, text: String::new() };
        let (version, again) = (one.version.clone(), name.clone());
        if let Some(other) = all.insert(name, one) {
            return Err(format!(
                "its package `{again}` is there twice, as {} and {version}: remove one there (`dnf remove --duplicates`)",
                other.version
            ));
        }
    }
    if all.is_empty() { Err("its database has no installed package".to_owned()) } else { Ok(all) }
}

/// rpm.
#[derive(Default)]
struct OfRpm {
    /// The database, once it was read.
    found: OnceCell<Result<Option<Installed>, String>>,
}

impl OfRpm {
    fn database(&self, editor: &TreeEditor) -> &Result<Option<Installed>, String> {
        self.found.get_or_init(|| {
            let mut files = BTreeMap::new();
            for path in rpm_database_files() {
                let Some(file) = editor.open_file(&path) else { continue };
                let mut bytes = Vec::new();
                let read = file.take(LONGEST_DATABASE).read_to_end(&mut bytes);
                read.map_err(|error| format!("the package database /{path} cannot be read: {error}"))?;
                files.insert(path, bytes);
            }
            installed::read(&files)
        })
    }

    fn packages(&self, editor: &TreeEditor) -> Result<&[InstalledPackage], String> {
        match self.database(editor) {
            Ok(found) => Ok(found.as_ref().map(|found| found.packages.as_slice()).unwrap_or_default()),
            Err(problem) => Err(problem.clone()),
        }
    }
}

impl ContainerFamily for OfRpm {
    fn of_containers(&self) -> &'static [&'static str] {
        &[]
    }

    fn normalised(&self) -> &'static [&'static str] {
        &NORMALISED
    }

    fn caches(&self) -> &'static [&'static str] {
        &["var/cache/dnf", "var/cache/libdnf5", "var/cache/yum", "var/cache/zypp"]
    }

    fn is_release(&self, request: &ContainerRequest, release: &OsRelease, _: &Extractor) -> bool {
        is_release(request.distro, &request.release, release)
    }

    fn problem(&self, tree: &Extractor, editor: &TreeEditor) -> Option<Refused> {
        if let Some(path) =
            rpm_database_files().find(|path| tree.size(path).is_some_and(|size| size > LONGEST_DATABASE))
        {
            return Some((
                format!("/{path} of the container image has more than {LONGEST_DATABASE} bytes"),
                "name another image: no database of packages is as large",
            ));
        }
        match self.database(editor) {
            Ok(Some(_)) => None,
            Ok(None) if OSTREE.iter().any(|path| tree.size(path).is_some()) => Some((
                "the container image is one for bootc or ostree: its package database is below /usr/share/rpm, and it has a kernel".to_owned(),
                "name the image without a kernel that it was made from, or put its packages on a container image of the distribution",
            )),
            Ok(None) => {
                let places = RPM_PLACES.map(|place| format!("/{}", place.trim_end_matches('/'))).join(", ");
                Some((
                    format!("the container image has no database of packages ({places}): none can be installed over it"),
                    "name an image with an rpm database; those that are made of copied files alone have none",
                ))
            }
            Err(problem) => Some((
                format!("the container image cannot be the base: {}", problem.escape_default()),
                "mend it there (`rpm --rebuilddb`) and push it again, or name another image",
            )),
        }
    }

    fn notes(&self, _: &Extractor, editor: &TreeEditor) -> Result<Vec<String>, String> {
        let packages = self.packages(editor)?;
        let all = [left_out(packages, editor), held(editor), without_units(packages, editor), lost(packages, editor)];
        Ok(all.into_iter().flatten().collect())
    }

    fn scripts(&self, path: &str) -> Result<Vec<(String, String)>, String> {
        let editor = TreeEditor::open(path)?;
        let makes = |text: &&String| MAKERS.iter().any(|tool| text.contains(tool));
        let of = |one: &InstalledPackage| {
            let texts: Vec<String> = one.scripts.iter().filter(makes).cloned().collect();
            texts.into_iter().map(|text| (one.name.clone(), text)).collect::<Vec<_>>()
        };
        Ok(self.packages(&editor)?.iter().flat_map(of).collect())
    }
}

/// What distributions call themselves. Source: their os-release files.
fn ids(distro: Distro) -> &'static [&'static str] {
    match distro {
        Distro::Rhel => &["rhel"],
        Distro::Rocky => &["rocky"],
        Distro::Alma => &["almalinux"],
        Distro::Centos => &["centos"],
        Distro::Oracle => &["ol"],
        Distro::Fedora => &["fedora"],
        Distro::Sles => &["sles", "sles_sap", "sle_hpc"],
        Distro::Opensuse => &["opensuse-leap", "opensuse"],
        Distro::Debian | Distro::Ubuntu => &[],
    }
}

fn is_release(distro: Distro, wanted: &str, found: &OsRelease) -> bool {
    match (distro, wanted) {
        // It calls itself by the day.
        (Distro::Opensuse, "tumbleweed") => return found.id == "opensuse-tumbleweed",
        (Distro::Fedora, "rawhide") => return found.id == "fedora" && found.product == "rawhide",
        _ => {}
    }
    // `15-SP5` and `9-stream` are other words for 15.5 and 9.
    let wanted = wanted.to_ascii_lowercase().replace("-sp", ".");
    let wanted = wanted.strip_suffix("-stream").unwrap_or(&wanted);
    let starts =
        |one: &str, with: &str| one.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with('.'));
    // CentOS's number has no minor release.
    let is_number = !found.number.is_empty() && (starts(&found.number, wanted) || starts(wanted, &found.number));
    ids(distro).contains(&found.id.as_str()) && is_number
}

/// The first names of some, and how many more there are.
fn shown(names: &[String]) -> String {
    let first: Vec<String> = names.iter().take(SHOWN).map(|name| name.escape_default().to_string()).collect();
    let more = if names.len() > SHOWN { ", .." } else { "" };
    format!("{}{more}", first.join(", "))
}

/// What its own packages lack, because of which settings.
fn left_out(packages: &[InstalledPackage], editor: &TreeEditor) -> Option<String> {
    let count: usize = packages.iter().map(|one| one.left_out).sum();
    let mut settings = Vec::new();
    for (path, start, word) in LEAVE_OUT {
        let text = text_in(editor, path).unwrap_or_default();
        if text.lines().any(|line| line.trim_start().starts_with(start) && line.contains(word)) {
            settings.push(format!("{start} in /{path}"));
        }
    }
    for name in editor.names(MACROS).into_iter().filter(|name| name.starts_with("macros")) {
        let text = text_in(editor, &format!("{MACROS}/{name}")).unwrap_or_default();
        let has = |word: &&&str| text.lines().any(|line| line.trim_start().starts_with(**word));
        settings.extend(LEAVING_MACROS.iter().filter(has).map(|word| format!("{word} in /{MACROS}/{name}")));
    }
    (count > 0 || !settings.is_empty()).then(|| {
        let why = if settings.is_empty() { String::new() } else { format!(" ({})", shown(&settings)) };
        let own = if count > 0 { format!(", {} of its own", counted_as(count, "file", "files")) } else { String::new() };
        format!(
            "the container image leaves documentation or translations out of packages{why}{own}; packages of the lists are whole"
        )
    })
}

/// What the image's maker holds back: it counts on running systems alone.
fn held(editor: &TreeEditor) -> Option<String> {
    let is_said = |path: &&&str| {
        let text = text_in(editor, path).unwrap_or_default();
        text.lines().any(|line| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
    };
    let files: Vec<String> = HELD.iter().filter(is_said).map(|path| format!("/{path}")).collect();
    (!files.is_empty()).then(|| {
        format!(
            "the container image holds versions of packages back ({}), which has no effect on the lists: name `package=version` there",
            files.join(", ")
        )
    })
}

/// What files no longer have that the database says of them, as `rpm -V` tells it.
fn lost(packages: &[InstalledPackage], editor: &TreeEditor) -> Option<String> {
    let files = packages.iter().flat_map(|one| one.files.iter().map(move |file| (one, file)));
    let packaged = files.filter(|(_, file)| !file.ghost).map(|(one, file)| Packaged {
        package: &one.name,
        path: &file.path,
        mode: file.mode.unwrap_or(0),
        owner: file.owner.as_ref().map(|(user, group)| (user.as_str(), group.as_str())),
        has_capabilities: file.has_capabilities,
    });
    Tree::new(editor).note(packaged, "dnf reinstall")
}

/// Units that its packages have and someone deleted, as recipes for systemd in containers do: no node starts without them.
fn without_units(packages: &[InstalledPackage], editor: &TreeEditor) -> Option<String> {
    let mut names = BTreeSet::new();
    let mut owners = BTreeSet::new();
    for one in packages {
        for file in one.files.iter().filter(|file| !file.ghost) {
            let Some(name) = UNITS.iter().find_map(|start| file.path.strip_prefix(start)) else { continue };
            if !UNITS.iter().any(|start| editor.exists(&format!("{start}{name}"))) {
                owners.insert(one.name.clone());
                names.insert(name.to_owned());
            }
        }
    }
    let (names, owners): (Vec<String>, Vec<String>) = (names.into_iter().collect(), owners.into_iter().collect());
    (!names.is_empty()).then(|| {
        format!(
            "the container image lacks {} of its packages ({}), so nodes may not start: reinstall {} there",
            counted_as(names.len(), "unit", "units"),
            shown(&names),
            shown(&owners)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(id: &str, number: &str) -> OsRelease {
        OsRelease { id: id.to_owned(), number: number.to_owned(), ..OsRelease::default() }
    }

    #[test]
    fn releases_are_known_by_their_numbers() {
        for (distro, wanted, id, number, is) in [
            (Distro::Rocky, "9", "rocky", "9.4", true),
            (Distro::Rocky, "9.4", "rocky", "9.4", true),
            (Distro::Rocky, "9.2", "rocky", "9.4", false),
            (Distro::Rocky, "9", "rocky", "90", false),
            (Distro::Rocky, "9", "rocky", "", false),
            (Distro::Rocky, "9", "rhel", "9.4", false),
            (Distro::Alma, "8", "almalinux", "8.10", true),
            (Distro::Centos, "7.6", "centos", "7", true),
            (Distro::Centos, "9-stream", "centos", "9", true),
            (Distro::Oracle, "9", "ol", "9.3", true),
            (Distro::Fedora, "41", "fedora", "41", true),
            (Distro::Fedora, "40", "fedora", "41", false),
            (Distro::Fedora, "rawhide", "fedora", "42", false),
            (Distro::Sles, "15-SP5", "sles", "15.5", true),
            (Distro::Sles, "15.6", "sles", "15.5", false),
            (Distro::Opensuse, "15.6", "opensuse-leap", "15.6", true),
            (Distro::Opensuse, "15.6", "opensuse-tumbleweed", "20240601", false),
            (Distro::Opensuse, "tumbleweed", "opensuse-tumbleweed", "20240601", true),
        ] {
            assert_eq!(is_release(distro, wanted, &release(id, number)), is, "{wanted} {id} {number}");
        }
        let rawhide = OsRelease { product: "rawhide".to_owned(), ..release("fedora", "42") };
        assert!(is_release(Distro::Fedora, "rawhide", &rawhide));
    }

    fn package(name: &str, version: &str, arch: &str) -> InstalledPackage {
        let [name, version, arch] = [name, version, arch].map(str::to_owned);
        InstalledPackage { name, version, arch, ..InstalledPackage::default() }
    }

    #[test]
    fn the_packages_of_a_container_are_taken_or_refused() {
        let good = vec![
            package("glibc", "2.34-1", "x86_64"),
            package("dnf", "4-1", "noarch"),
            package("a", "1:1-1", "x86_64_v2"),
        ];
        let all = by_name(good, "# of dnf\n dnf \n", "x86_64").unwrap();
        let essential: Vec<&str> = all.iter().filter(|(_, one)| one.essential).map(|(name, _)| name.as_str()).collect();
        assert_eq!(essential, ["dnf", "glibc"]);
        assert_eq!(all["a"].version, "1:1-1");
        for (packages, said) in [
            (vec![package("glibc", "1-1", "i686")], "`glibc` is of i686"),
            (vec![package("a", "1-1", "noarch"), package("a", "2-1", "noarch")], "twice, as 1-1 and 2-1"),
            (vec![package("a b", "1-1", "noarch")], "invalid name: `a b-1-1.noarch`"),
            (vec![package("--eval=x", "1-1", "noarch")], "invalid name"),
            (vec![], "no installed package"),
        ] {
            let problem = by_name(packages, "", "x86_64").unwrap_err();
            assert!(problem.contains(said), "{problem}");
        }
    }
}
