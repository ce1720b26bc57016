//! Packages of a lock on running nodes (xCAT: `updatenode -S`): what a node lacks comes from the store over ssh, and the node's own
//! package manager installs these files, with no repository and no network. Nothing is removed, and no kernel is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::connection::{Connection, unclear};
use super::node::{Mode, Put, opened, put};
use super::stream::{Bytes, Entry};
use super::words::{encoded, quoted};
use super::{Answer, Change, Executed, What};
use base::source::counted_as;
use recipe::{Family, Lock, PassRole, PinnedPackage, plain_version};

/// Installs packages on a Debian node.
const APT: &str = include_str!("scripts/apt.sh");
const RPM: &str = include_str!("scripts/rpm.sh");
/// What a script says that found no package manager.
const NO_MANAGER: i32 = 90;
/// What is not a package, though rpm lists it: keys.
const NO_PACKAGE: &str = "gpg-pubkey";
/// So many packages of a node that the lock does not have are listed; no image has as many of its own.
const MOST_SURPLUS: usize = 2000;
/// So many names are said.
const SHOWN: usize = 4;

#[derive(Debug)]
pub struct Packages {
    family: Family,
    wanted: Vec<Package>,
    /// What the container image below has, by name and architecture, with the version: there is no file of these.
    base: BTreeMap<(String, String), String>,
}

#[derive(Debug)]
struct Package {
    pinned: PinnedPackage,
    /// The version without an epoch of 0.
    version: String,
    file: PathBuf,
    line: String,
    is_of_kernel: bool,
}

impl Package {
    fn key(&self) -> (&str, &str) {
        (&self.pinned.name, &self.pinned.architecture)
    }

    /// The name of its file on the node: as apt and dnf know them.
    fn file_name(&self) -> String {
        let PinnedPackage { name, architecture, .. } = &self.pinned;
        let version = self.version.replace(':', "%3a");
        let ending = if self.file_is_deb() { "deb" } else { "rpm" };
        format!("{name}_{version}_{architecture}.{ending}")
    }

    fn file_is_deb(&self) -> bool {
        Path::new(&self.pinned.file).extension().is_some_and(|ending| ending == "deb")
    }
}

impl Packages {
    /// Those that are in an image of a lock at the end; `file` says where the file of one is on this host.
    pub fn of(family: Family, (lock, lock_name): (&Lock, &str), file: &dyn Fn(&PinnedPackage) -> PathBuf) -> Self {
        let (mut wanted, mut base) = (Vec::new(), BTreeMap::new());
        for one in lock.in_image() {
            let version = plain_version(one.version).to_owned();
            let Some((pass, pinned)) = one.brought else {
                base.insert((one.name.to_owned(), one.architecture.to_owned()), version);
                continue;
            };
            wanted.push(Package {
                version,
                file: file(pinned),
                line: format!("{lock_name}: {}", pass.name),
                is_of_kernel: pass.role() == PassRole::Kernel,
                pinned: pinned.clone(),
            });
        }
        Self { family, wanted, base }
    }
}

/// Packages of a node: name and architecture, and the versions that are installed.
type Installed = BTreeMap<(String, String), BTreeSet<String>>;

fn installed(connection: &mut Connection, family: Family) -> Result<Installed, String> {
    let database = if family == Family::Debian { "dpkg" } else { "rpm" };
    connection.send(&format!("l {database}\n"))?;
    match connection.words()?.as_slice() {
        [word] if word == "l" => {}
        other => return Err(unclear(&other.join(" "))),
    }
    let lines = connection.lines()?;
    let code = match connection.words()?.as_slice() {
        [word, code] if word == "l" => code.clone(),
        other => return Err(unclear(&other.join(" "))),
    };
    let mut found = Installed::new();
    for line in &lines {
        let line = String::from_utf8_lossy(line).into_owned();
        if let [state, name, version, architecture] = line.split('\t').collect::<Vec<_>>().as_slice()
            && state.chars().nth(1) == Some('i')
            && *name != NO_PACKAGE
        {
            connection.spend(line.len() + 64)?;
            let key = ((*name).to_owned(), (*architecture).to_owned());
            found.entry(key).or_default().insert(plain_version(version).to_owned());
        }
    }
    if code != "0" || found.is_empty() {
        let last = lines.last().map(|line| format!(": {}", String::from_utf8_lossy(line).trim())).unwrap_or_default();
        return Err(format!(
            "the node has no database of {database} packages{last}: its image left it out, so boot it with a new build"
        ));
    }
    Ok(found)
}

/// What a node lacks, and what is in the way of that.
#[derive(Default)]
struct Difference<'a> {
    lacking: Vec<(&'a Package, Change)>,
    kernel: Vec<Change>,
    /// Packages of the container image that a node lacks or has in another version.
    base: Vec<Change>,
    removed: Vec<Change>,
}

fn difference<'a>(packages: &'a Packages, found: &Installed) -> Difference<'a> {
    let mut difference = Difference::default();
    for one in &packages.wanted {
        let PinnedPackage { name, architecture, .. } = &one.pinned;
        let versions = found.get(&(name.clone(), architecture.clone()));
        if versions.is_some_and(|versions| versions.contains(&one.version)) {
            continue;
        }
        let (path, what) = match versions.and_then(|versions| versions.last()) {
            Some(was) => (format!("{name} {was} -> {}", one.version), What::Version),
            None => (format!("{name} {}", one.version), What::Package),
        };
        let change = |what| Change { path: path.clone(), what: vec![what], line: one.line.clone() };
        match one.is_of_kernel && !fault::planted("sync-kernel-as-any") {
            true => difference.kernel.push(change(What::Kernel)),
            false => difference.lacking.push((one, change(what))),
        }
    }
    for ((name, architecture), version) in &packages.base {
        let versions = found.get(&(name.clone(), architecture.clone()));
        if versions.is_none_or(|versions| !versions.contains(version)) {
            let was = versions.and_then(|versions| versions.last());
            let path = was.map_or_else(|| format!("{name} {version}"), |was| format!("{name} {was} -> {version}"));
            let what = vec![if was.is_some() { What::Version } else { What::Package }];
            difference.base.push(Change { path, what, line: "[image] from".to_owned() });
        }
    }
    let of_base = packages.base.keys().map(|(name, architecture)| (name.as_str(), architecture.as_str()));
    let wanted: BTreeSet<(&str, &str)> = packages.wanted.iter().map(Package::key).chain(of_base).collect();
    let is_wanted = |(name, architecture): &(String, String)| wanted.contains(&(name.as_str(), architecture.as_str()));
    let removed = |path: String| Change { path, what: vec![What::Removed], line: "on the node".to_owned() };
    let surplus = || found.iter().filter(|(key, _)| !is_wanted(key));
    difference.removed = surplus()
        .take(if fault::planted("sync-surplus-without-end") { usize::MAX } else { MOST_SURPLUS })
        // The other architecture of a package that is there in both forms goes by its own name.
        .map(|((name, _), versions)| removed(format!("{name} {}", versions.last().map_or("", String::as_str))))
        .collect();
    let more = surplus().count() - difference.removed.len();
    if more > 0 {
        difference.removed.push(removed(format!("{} more", counted_as(more, "package", "packages"))));
    }
    difference
}

fn named(changes: &[Change]) -> String {
    let names: Vec<&str> = changes.iter().take(SHOWN).map(|change| change.path.as_str()).collect();
    match changes.len().saturating_sub(SHOWN) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// Why a node cannot get the packages without a boot, if it cannot.
fn refused(difference: &Difference<'_>) -> Option<String> {
    if !difference.kernel.is_empty() {
        let names = named(&difference.kernel);
        return Some(format!(
            "the kernel's packages are different: {names}: only a boot changes a kernel: run `imgbuild build` and `imgbuild nodeset`, and boot the node"
        ));
    }
    if !difference.base.is_empty() {
        let names = named(&difference.base);
        return Some(format!(
            "the container image that `[image] from` names has other packages than the node: {names}: there are no files of these: boot the node with a new build"
        ));
    }
    if !difference.removed.is_empty() && !fault::planted("sync-surplus-passed-over") {
        let names = named(&difference.removed);
        return Some(format!(
            "the node has packages that the lock does not have: {names}: nothing is removed from running nodes: remove them on the node, or boot it with a new build"
        ));
    }
    None
}

/// Installs what a node lacks, or says it.
/// Errors: What cannot be, before anything is installed; or what the node's package manager says.
pub(crate) fn install(
    connection: &mut Connection,
    packages: &Packages,
    mode: Mode,
    answer: &mut Answer,
) -> Result<(), String> {
    let found = installed(connection, packages.family)?;
    let difference = difference(packages, &found);
    let changes = difference.lacking.iter().map(|(_, change)| change.clone());
    answer.changes.extend(
        changes.chain(difference.kernel.clone()).chain(difference.base.clone()).chain(difference.removed.clone()),
    );
    if let Some(problem) = refused(&difference).filter(|_| mode == Mode::Write || !difference.lacking.is_empty()) {
        // For a plan too: what it lacks would not come.
        return Err(problem);
    }
    if mode == Mode::Look || difference.lacking.is_empty() {
        return Ok(());
    }
    let lacking: Vec<&Package> = difference.lacking.iter().map(|(one, _)| *one).collect();
    if let Some(one) = lacking.iter().find(|one| !one.file.is_file()) {
        return Err(format!("`{}` is not in the store: run `imgbuild build` first, which fetches it", one.pinned.name));
    }
    let run = opened(connection)?;
    let folder = run.join("packages");
    let text = script(packages.family, &folder, &lacking);
    let entry = |path: PathBuf, mode: u32, bytes: Bytes| Entry { path, mode, uid: 0, gid: 0, bytes };
    let mut puts: Vec<Put> = lacking
        .iter()
        .map(|one| Put {
            // apt reads packages as its own user where it can.
            entry: entry(folder.join(one.file_name()), 0o644, Bytes::File(one.file.clone(), one.pinned.size)),
            sha256: one.pinned.sha256.to_string(),
            guard: None,
            source: None,
        })
        .collect();
    let program = run.join("install");
    let others = [entry(program.clone(), 0o700, Bytes::Text(std::sync::Arc::new(text.into_bytes())))];
    put(connection, &format!("m {} {} 755 0:0\n", puts.len(), encoded(&folder)), &mut puts, &others, 0)?;
    connection.send(&format!("e 0 - {} {} \n", encoded(&program), encoded(Path::new("/bin/sh"))))?;
    let exit: i32 = match connection.words()?.as_slice() {
        [word, _, exit] if word == "e" => exit.parse().map_err(|_| unclear(exit))?,
        other => return Err(unclear(&other.join(" "))),
    };
    let output = connection.output()?;
    if exit != 0 {
        let last = complaint(&output);
        answer.scripts.push(Executed { name: "packages".to_owned(), exit, reason: None, output });
        return Err(match exit {
            NO_MANAGER => "the node has no package manager".to_owned(),
            _ => format!("the node's package manager exited with {exit}: {last}"),
        });
    }
    // What the manager says is one thing.
    let found = installed(connection, packages.family)?;
    let left: Vec<Change> = self::difference(packages, &found).lacking.into_iter().map(|(_, change)| change).collect();
    if !left.is_empty() {
        let count = counted_as(left.len(), "package", "packages");
        return Err(format!(
            "{count} not installed, though the node's package manager reports success: {}",
            named(&left)
        ));
    }
    Ok(())
}

/// The line of a package manager's output that says most.
fn complaint(output: &str) -> String {
    let lines = || output.lines().map(str::trim).filter(|line| !line.is_empty());
    let errors = ["E: ", "dpkg: error", "error: ", "Error: ", "Problem: ", " Depends: "];
    let error = lines().find(|line| errors.iter().any(|start| line.contains(start)));
    error.or_else(|| lines().next_back()).unwrap_or_default().to_owned()
}

fn script(family: Family, folder: &Path, lacking: &[&Package]) -> String {
    let automatic: Vec<String> = lacking
        .iter()
        .filter(|one| one.pinned.automatic)
        .map(|one| match one.pinned.architecture.as_str() {
            "all" => one.pinned.name.clone(),
            architecture => format!("{}:{architecture}", one.pinned.name),
        })
        .collect();
    let body = if family == Family::Debian { APT } else { RPM };
    let folder = quoted(&folder.display().to_string());
    let automatic = quoted(&automatic.join(" "));
    format!("folder={folder}\nautomatic={automatic}\nno_manager={NO_MANAGER}\n{body}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::digest::Sha256;

    fn lock(passes: &str) -> Lock {
        let head = "format = 1\nepoch = 1\ntarget = \"debian bookworm x86_64\"\nsuite = []\n";
        Lock::parse(&format!("{head}{passes}")).unwrap()
    }

    fn package(name: &str, version: &str) -> String {
        let zeros = "0".repeat(64);
        format!(
            "    {{ name = \"{name}\", version = \"{version}\", arch = \"amd64\", size = 1, sha256 = \"{zeros}\", origin = \"o\", file = \"{name}.deb\" }},\n"
        )
    }

    fn pass(name: &str, more: &str, packages: &[(&str, &str)]) -> String {
        let packages: String = packages.iter().map(|(name, version)| package(name, version)).collect();
        format!("\n[[pass]]\nname = \"{name}\"\ninstall = []\n{more}packages = [\n{packages}]\n")
    }

    fn found(packages: &[(&str, &str)]) -> Installed {
        let one = |(name, version): &(&str, &str)| {
            (((*name).to_owned(), "amd64".to_owned()), BTreeSet::from([(*version).to_owned()]))
        };
        packages.iter().map(one).collect()
    }

    #[test]
    fn a_node_gets_what_it_lacks_and_nothing_where_a_boot_is_needed() {
        let text = pass("tools", "", &[("apt", "2")])
            + &pass("base", "", &[("bash", "5"), ("nano", "7")])
            + &pass(
                "packages-1",
                "remove = [\"nano\"]\nremove_after = [\"vim\"]\n",
                &[("htop", "0:3"), ("vim", "9"), ("bash", "5.1")],
            )
            + &pass("kernel", "", &[("linux-image-6", "6.1")]);
        let packages = Packages::of(Family::Debian, (&lock(&text), "image.lock"), &|_| PathBuf::new());
        let names: Vec<&str> = packages.wanted.iter().map(|one| one.pinned.name.as_str()).collect();
        assert_eq!(names, ["htop", "bash", "linux-image-6"]);
        let all = [("bash", "5"), ("linux-image-6", "6.1")];
        let of =
            |changes: Vec<(&Package, Change)>| changes.into_iter().map(|(_, change)| change.path).collect::<Vec<_>>();
        let now = difference(&packages, &found(&all));
        assert_eq!(refused(&now), None);
        assert_eq!(of(now.lacking), ["htop 3", "bash 5 -> 5.1"]);
        let kernel = difference(&packages, &found(&[("bash", "5.1"), ("htop", "3"), ("linux-image-6", "6.0")]));
        assert!(kernel.lacking.is_empty());
        assert!(refused(&kernel).unwrap().contains("linux-image-6 6.0 -> 6.1"));
        let removed =
            difference(&packages, &found(&[("bash", "5.1"), ("htop", "3"), ("linux-image-6", "6.1"), ("nano", "7")]));
        assert!(refused(&removed).unwrap().contains("nano 7"));
    }

    #[test]
    fn packages_of_a_container_image_are_known_and_only_a_boot_brings_them() {
        let one = |name: &str, version: &str| recipe::BasePackage {
            name: name.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
        };
        let text = pass("base", "", &[])
            + &pass("packages-1", "conflicting = [\"small\"]\n", &[("bash", "5.1"), ("large", "1")]);
        let document = || recipe::LockedDocument { sha256: Sha256([0; 32]), size: 1 };
        let mut lock = lock(&text);
        lock.base = Some(recipe::LockedBase {
            manifest: document(),
            config: document(),
            layers: Vec::new(),
            packages: vec![one("bash", "5"), one("libc6", "0:2"), one("small", "1")],
        });
        let packages = Packages::of(Family::Debian, (&lock, "image.lock"), &|_| PathBuf::new());
        let same = difference(&packages, &found(&[("libc6", "2"), ("bash", "5"), ("large", "1")]));
        assert_eq!(refused(&same), None);
        assert_eq!(same.lacking.iter().map(|(_, change)| change.path.as_str()).collect::<Vec<_>>(), ["bash 5 -> 5.1"]);
        let other = difference(&packages, &found(&[("libc6", "1"), ("bash", "5.1"), ("large", "1")]));
        assert!(refused(&other).unwrap().contains("libc6 1 -> 2: there are no files"), "{:?}", refused(&other));
        let left = difference(&packages, &found(&[("libc6", "2"), ("bash", "5.1"), ("large", "1"), ("small", "1")]));
        assert!(refused(&left).unwrap().contains("small 1"));
    }
}
