//! The one seam: what the stages ask of a distribution's package manager.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::dnf::Dnf;
use super::inside::common::PackageFile;
use super::inside::container::ContainerPackages;
use super::inside::plain::make_plain;
use super::inside::uname::Uname;
use super::rpm_family::{self, RpmFamily};
use super::zypper::Zypper;
use super::{DistroError, Fetcher, Progress, apt, rpm};
use base::digest::{Digest, Sha256};
use base::source::Finding;
use recipe::{Accounts, Family, LockedSuite, PinnedPackage, Recipe};
use sandbox::helper::Operation;
use sandbox::{CommandResult, Namespace};
use store::Store;

/// Where packages come from, instead of where the recipe says.
#[derive(Debug, Clone, Default)]
pub struct PackageSources {
    pub mirror: Option<String>,
    /// A directory that `imgbuild vendor` made: nothing else is asked then.
    pub vendor: Option<PathBuf>,
    /// How long a mirror may say nothing; none: the usual time.
    pub patience: Option<Duration>,
}

pub trait News: Sync {
    fn progress(&self, text: &str);
    fn finding(&self, finding: &Finding);
    fn downloads<'a>(&'a self, what: &'static str) -> Box<dyn Progress + 'a>;
}

pub struct Gathering<'a> {
    pub recipe: &'a Recipe,
    pub places: &'a PackageSources,
    pub fetcher: &'a Fetcher,
    pub store: &'a Store,
    pub news: &'a dyn News,
}

pub struct Unusable {
    /// Which [[repo]] names it, where one does.
    pub repo: Option<usize>,
    pub error: DistroError,
    /// Whether the recipe and its files are good, and what they name is not.
    pub is_of_place: bool,
}

/// What the distribution calls the packages that imgbuild asks for by itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Names {
    pub tools: Vec<String>,
    /// The tools root in which packages are resolved, where that takes more; empty: the same one.
    pub solver: Vec<String>,
    /// The image's lowest layer.
    pub base: Vec<String>,
    /// What the first transaction of the lists begins with.
    pub first: Vec<String>,
    pub script_tools: Vec<String>,
    /// The kernel, where the recipe names none.
    pub kernel: String,
    pub dracut: Vec<String>,
    /// What builds drivers, besides the kernel's headers.
    pub driver_tools: Vec<String>,
}

/// Versions of what a package manager's operations do, part of the keys of their actions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    /// Roots that are only unpacked.
    pub unpack: u32,
    /// The image's lowest layer.
    pub bootstrap: u32,
    pub install: u32,
}

/// How a container image becomes the image's lowest layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerOperations {
    /// Version of what is made of it, part of its key.
    pub version: u32,
    /// The operation that makes a root of its layers.
    pub make: &'static str,
    /// The operation that reads what is installed in that.
    pub packages: &'static str,
}

/// A container image that was made a layer, on which the first pass stands.
#[derive(Debug, Clone, Copy)]
pub struct ContainerBase<'a> {
    /// The layer.
    pub layer: Digest,
    /// What it has installed.
    pub packages: &'a ContainerPackages,
}

/// How versions are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum VersionOrder {
    Debian,
    Rpm,
}

impl VersionOrder {
    /// Compares two releases of kernels; for dpkg those that are no versions as text.
    pub fn compare(self, a: &str, b: &str) -> Ordering {
        match self {
            Self::Rpm => rpm::Evr::parse(a).cmp(&rpm::Evr::parse(b)),
            Self::Debian => match (a.parse::<debversion::Version>(), b.parse::<debversion::Version>()) {
                (Ok(a), Ok(b)) => a.cmp(&b),
                _ => a.cmp(b),
            },
        }
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Pass {
    /// Names, versions and patterns, as the package manager writes them; `folder/name` selects a local repository.
    pub install: Vec<String>,
    pub remove: Vec<String>,
    pub remove_after: Vec<String>,
    /// Whether it goes over what the first pass installed alone, and later passes do not see it.
    pub aside: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resolution {
    /// Packages to install, in the package manager's order.
    pub packages: Vec<PinnedPackage>,
    /// Names of packages that go, for whatever reason.
    pub removed: Vec<String>,
    /// Names of packages that go with those that are to be removed, because they need one of them.
    pub remove_with: Vec<String>,
    /// Names that are to be removed and come all the same, because others of the transaction need them.
    pub needed: Vec<String>,
    /// Names of packages of the container image that go because others of the transaction conflict with them or replace them, where
    /// the package manager does not find them by itself.
    pub conflicting: Vec<String>,
    /// Streams of modules that are switched on with it: `name:stream`.
    pub modules: Vec<String>,
}

/// What packages of one transaction have to do with each other, by their places in its list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Relations {
    /// Which others each package needs.
    pub needs: Vec<Vec<usize>>,
    /// Which packages each name means that was asked for; none where they were installed before.
    pub asked: Vec<Vec<usize>>,
}

pub struct Solving<'a> {
    pub store: &'a Store,
    pub namespace: &'a Namespace,
    pub tools: Vec<Digest>,
    /// Seconds since 1970.
    pub epoch: i64,
    /// Start of the log's name.
    pub log: String,
    /// What is installed before the first pass, where the image begins with a container image.
    pub base: Option<ContainerBase<'a>>,
    /// Brings packages into the store.
    pub have: &'a dyn Fn(&[PinnedPackage]) -> Result<(), DistroError>,
}

pub trait PackageArchive {
    fn suites(&self) -> Vec<LockedSuite>;
    /// The newest package of each name of the local directories whose origin is `start` or below; of kernels, where they
    /// share a name, all.
    /// Errors: [`DistroError::Format`] for a package that cannot be pinned.
    fn of_origin(&self, start: &str) -> Result<Vec<PinnedPackage>, DistroError>;
    /// Files of the local directories whose origin is `start` or below, by their path there, as they were when they were read.
    fn scanned(&self, start: &str) -> BTreeMap<String, Sha256>;
    /// Names of all packages, and what they provide by a name.
    fn names(&self) -> BTreeSet<String>;
    /// All packages of a name.
    /// Errors: [`DistroError::Format`] for a package that cannot be pinned.
    fn all(&self, name: &str) -> Result<Vec<PinnedPackage>, DistroError>;
    /// A package by its name: of that version, or the newest.
    /// Errors: [`DistroError::Format`] for a package that cannot be pinned.
    fn find(&self, name: &str, version: Option<&str>) -> Result<Option<PinnedPackage>, DistroError>;
    /// Those of some packages that bring a whole kernel, each with what `uname -r` prints then, as names, metadata or
    /// lists of files tell.
    /// Errors: [`DistroError::Format`] for metadata that cannot be read.
    fn kernel_releases(&self, packages: &[PinnedPackage]) -> Result<Vec<(String, PinnedPackage)>, DistroError>;
    /// Those of some packages that bring more modules of a release, where a kernel comes in parts.
    fn kernel_parts(&self, _release: &str, _packages: &[PinnedPackage]) -> Vec<PinnedPackage> {
        Vec::new()
    }
    /// How the package with the headers of a kernel is called, and it itself, where a repository has it for the release.
    /// Errors: As [`PackageArchive::kernel_releases`].
    fn headers(&self, kernel: &PinnedPackage, release: &str) -> Result<(String, Option<PinnedPackage>), DistroError>;
    /// Whether all names mean something.
    /// Errors: [`DistroError::UnknownPackages`] with all that do not, and near names.
    fn check_names(&self, names: &[String]) -> Result<(), DistroError>;
    /// Whether all words of transactions mean something, versions and folders too, as a solver would find one after another; `is_installed`
    /// says what need be in no repository.
    /// Errors: [`DistroError::UnknownPackages`] with all that mean nothing, and near names.
    fn check_passes(&self, passes: &[Pass], is_installed: &dyn Fn(&str) -> bool) -> Result<(), DistroError>;
    /// The same of words with a folder of the recipe's directories alone.
    /// Errors: As [`PackageArchive::check_passes`].
    fn check_folders(&self, passes: &[Pass]) -> Result<(), DistroError>;
    /// The packages of the tools root; those in `held` keep their versions while a repository has them.
    /// Errors: [`DistroError::Closure`] for a dependency that nothing satisfies.
    fn tools(&self, seed: &[String], held: &[PinnedPackage]) -> Result<Vec<PinnedPackage>, DistroError>;
    /// The same of a root whose programs make what runs on the image's CPU, a compiler for instance: all of it is that CPU's.
    /// Errors: As [`PackageArchive::tools`].
    fn tools_of_image(&self, seed: &[String], held: &[PinnedPackage]) -> Result<Vec<PinnedPackage>, DistroError> {
        self.tools(seed, held)
    }
    /// Checks packages against the keys of those who sign them, where no one signs the index; `have` brings them into the
    /// store.
    /// Errors: [`DistroError::Signature`] for a package that is not signed well.
    fn check_signatures(
        &self,
        _store: &Store,
        _have: &dyn Fn(&[PinnedPackage]) -> Result<(), DistroError>,
        _packages: &[PinnedPackage],
    ) -> Result<(), DistroError> {
        Ok(())
    }
    /// What packages that are to be installed together need of each other, and what of them is meant by the names that were
    /// asked for. Not known: they stay together.
    /// Errors: [`DistroError::Format`] for metadata that cannot be read.
    fn relations(&self, packages: &[PinnedPackage], install: &[String]) -> Result<Option<Relations>, DistroError>;
    /// Resolves passes one after another; each sees what the earlier ones installed. Packages in `held` keep their
    /// version where they are wanted (D13), unless they stand in the solver's way.
    /// Errors: [`DistroError::UnknownPackages`] or [`DistroError::Unsatisfiable`] with the solver's own words.
    fn resolve(
        &self,
        solving: &Solving<'_>,
        passes: &[Pass],
        held: Vec<PinnedPackage>,
    ) -> Result<Vec<Resolution>, DistroError>;
}

/// What a transaction makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Makes {
    /// A root whose programs are run: packages are only unpacked.
    Root,
    /// The lowest layer of an image: its package manager configures the packages.
    Base,
    /// A layer over others.
    Layer,
}

/// A transaction, without a network.
pub struct Transaction<'a> {
    pub makes: Makes,
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    /// Layers of the tools root; none: the packages themselves do all.
    pub tools: Vec<Digest>,
    /// What it is installed over.
    pub base: Vec<Digest>,
    pub packages: &'a [PinnedPackage],
    /// Directory of the store that has them made ready.
    pub ready: &'a str,
    pub accounts: &'a Accounts,
    pub uname: Uname,
    /// Whether the layer below has the kernel's files already.
    pub over_payload: bool,
    pub remove: &'a [String],
    pub remove_after: &'a [String],
    pub remove_with: &'a [String],
    /// Names of installed packages that go because some of these conflict with them.
    pub conflicting: &'a [String],
    /// What is installed afterwards, as it is compared: name, version, architecture; none: the lock does not tell.
    pub installed: Option<&'a [String]>,
    /// Streams of modules that are switched on with it.
    pub modules: &'a [String],
    pub variables: &'a [(String, String)],
    /// No time in the layer is later than this.
    pub epoch: i64,
    /// Log file, relative to the store's directory.
    pub log: String,
}

impl Transaction<'_> {
    /// Its packages by the names that the package manager wants.
    pub fn files(&self, called: impl Fn(&PinnedPackage) -> String) -> Vec<PackageFile> {
        let file = |one: &PinnedPackage| PackageFile {
            file: ready_name(self.ready, &one.sha256),
            name: one.name.clone(),
            called: called(one),
        };
        self.packages.iter().map(file).collect()
    }
}

pub trait PackageManager: Sync + std::fmt::Debug {
    /// What it calls a CPU that `uname -m` calls so.
    fn architecture(&self, machine: &str) -> &'static str;
    /// Its names of what imgbuild asks for by itself.
    fn names(&self, recipe: &Recipe) -> Names;
    fn versions(&self) -> Versions;
    /// How a container image becomes the image's lowest layer.
    fn container(&self) -> ContainerOperations;
    /// Whether the image's lowest layer is made by programs of the tools root.
    fn base_needs_tools(&self) -> bool;
    /// Whether a package of this name may bring a kernel.
    fn is_kernel(&self, package: &str) -> bool;
    fn order(&self) -> VersionOrder;
    /// Whether the names of packages tell which kernel they bring; else image.lock keeps it.
    fn names_tell_kernels(&self) -> bool {
        false
    }
    /// The release whose headers a package brings, where its name tells.
    fn headers_release(&self, _package: &PinnedPackage) -> Option<String> {
        None
    }
    /// Exactly this package, in the words of a list.
    fn exactly(&self, package: &PinnedPackage) -> String;
    /// The name in what a list asks for, without version, architecture and folder.
    fn plain_name<'a>(&self, item: &'a str) -> &'a str;
    /// All package files below a directory, sorted.
    /// Errors: [`DistroError::Format`] for a directory that cannot be read.
    fn package_files(&self, directory: &Path) -> Result<Vec<PathBuf>, DistroError>;
    /// Fetches, checks and reads the indices of all repositories, local ones too.
    fn archive<'a>(&self, gathering: &Gathering<'a>) -> Result<Box<dyn PackageArchive + 'a>, DistroError>;
    /// Looks at the recipe's repositories, and gives those that cannot be used. Without `online` no server is asked:
    /// files of the recipe and directories of this machine alone.
    fn check(&self, gathering: &Gathering<'_>, online: bool) -> Vec<Unusable>;
    /// Reads the recipe's own directories of packages alone.
    /// Errors: As [`PackageManager::archive`].
    fn local<'a>(&self, gathering: &Gathering<'a>) -> Result<Box<dyn PackageArchive + 'a>, DistroError>;
    /// Whether the recipe's repositories are directories of this machine, all of them: none of a server is asked for.
    fn is_local(&self, gathering: &Gathering<'_>) -> bool;
    /// Roots of the repositories by the origin that the lock has.
    /// Errors: [`DistroError`] for sources that cannot be used.
    fn roots(&self, gathering: &Gathering<'_>) -> Result<BTreeMap<String, Vec<String>>, DistroError>;
    /// Roots of an origin that is a part of a repository of [`PackageManager::roots`]; none where there are no such.
    fn roots_of_part(&self, _: &BTreeMap<String, Vec<String>>, _: &str) -> Vec<String> {
        Vec::new()
    }
    /// Writes today's indices of all repositories into a directory of vendored packages, and the mark by which it is
    /// known; gives the files, and where below the directory a package of an origin goes.
    fn vendor(&self, gathering: &Gathering<'_>, directory: &Path) -> Result<BTreeSet<PathBuf>, DistroError>;
    fn vendored(&self, directory: &Path, origin: &str) -> PathBuf;
    fn plain_operation(&self) -> &'static str;
    /// Makes packages of the store ready in a directory of it, as [`ready_name`] calls them; `done` is called for each, from
    /// the calling thread.
    /// Errors: [`DistroError`] when a file is not what its name says (it is removed, to be fetched again), is no package, or
    /// there is no space.
    fn make_ready(
        &self,
        work: (&Store, &Namespace),
        directory: &str,
        packages: &[PinnedPackage],
        done: &mut dyn FnMut(Sha256),
    ) -> Result<(), DistroError> {
        make_plain(self.plain_operation(), work, directory, packages, done)
    }
    /// What the inside calls a transaction; its answer is [`super::Made`].
    fn operation(&self, makes: Makes) -> &'static str;
    /// What the inside is asked then.
    fn asked(&self, transaction: &Transaction<'_>) -> serde_json::Value;
    /// What is said of a command of a transaction that failed, by its log.
    fn failure(&self, makes: Makes, result: &CommandResult, log: &Path) -> DistroError;
    /// What is said of a script that failed in a transaction that went on; not those of the packages `allowed`.
    fn failing(&self, _log: &Path, _allowed: &[String]) -> Option<DistroError> {
        None
    }
    /// What a person would want to know of a transaction that was done, by its log.
    fn complaints(&self, _log: &Path) -> Vec<Finding> {
        Vec::new()
    }
}

/// Path below a local directory of a file of one of its folders; `.` is the directory itself.
pub fn in_folder_of(folder: &str, file: &str) -> String {
    if folder == "." { file.to_owned() } else { format!("{folder}/{file}") }
}

/// Path of a package that was made ready, relative to the store's directory.
pub fn ready_name(directory: &str, digest: &Sha256) -> String {
    format!("{directory}/{digest}")
}

pub fn manager(recipe: &Recipe) -> &'static dyn PackageManager {
    match recipe.model.image.distro.family() {
        Family::Debian => &apt::Apt,
        Family::RedHat => &RpmFamily(&Dnf),
        Family::Suse => &RpmFamily(&Zypper),
    }
}

pub fn operations() -> Vec<(&'static str, Operation)> {
    let mut all = apt::operations();
    all.extend(rpm::operations());
    all.extend(rpm_family::operations());
    all
}

/// Name of the file that marks a directory of vendored packages.
pub const VENDOR_MARK: &str = "vendor.toml";

#[cfg(test)]
mod tests {
    use super::VersionOrder;

    #[test]
    fn releases_are_compared_as_each_family_compares_versions() {
        let sorted = |order: VersionOrder, mut releases: Vec<&'static str>| {
            releases.sort_by(|a, b| order.compare(a, b));
            releases
        };
        let debian = vec!["5.9.0-1", "5.14.0-427.9.1", "5.14.0-427.13.1"];
        assert_eq!(sorted(VersionOrder::Debian, debian.iter().rev().copied().collect()), debian);
        // dpkg would put the one without a number before the distribution's mark last.
        let rpm = vec![
            "5.9.0-1.el9.x86_64",
            "5.14.0-427.el9.x86_64",
            "5.14.0-427.9.1.el9_4.x86_64",
            "5.14.0-427.13.1.el9_4.x86_64",
        ];
        assert_eq!(sorted(VersionOrder::Rpm, rpm.iter().rev().copied().collect()), rpm);
        assert_ne!(sorted(VersionOrder::Debian, rpm.iter().rev().copied().collect()), rpm);
    }
}
