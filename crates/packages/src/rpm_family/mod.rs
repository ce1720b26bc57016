//! The RPM distributions: dnf or zypper resolves, rpm installs, imgbuild downloads, checks and unpacks.
//!
//! Solver and rpm are the release's own and run in a tools root made of that release's packages. Only the answer to
//! "which packages" is the solver's; the transaction itself is rpm's with exactly the packages of the lock, so that both
//! families install in one way.

mod archive;
mod blame;
mod container;
mod database;
mod depmod;
mod inside;
mod install;
mod kernels;
mod packages;
mod releases;
mod resolve;

pub(crate) use resolve::solver::{Answer, Doing, Picked, Question, Refusal, Solver};

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::inside::plain;
use super::inside::plain::PlainRequest;
use super::rpm::{self, RpmRootRequest};
use super::{
    ContainerOperations, DistroError, Gathering, Makes, Names, PackageArchive, PackageManager, Transaction, Unusable,
    VersionOrder, Versions,
};
use base::source::Finding;
use recipe::{PinnedPackage, Recipe};
use sandbox::CommandResult;
use sandbox::helper::{News, Operation, answer};

/// The package manager of a family: rpm with one of the solvers.
#[derive(Debug)]
pub(crate) struct RpmFamily(pub &'static dyn Solver);

pub(crate) fn operations() -> Vec<(&'static str, Operation)> {
    vec![
        ("rpm-container", |request, progress| answer(request, progress, container::make)),
        ("rpm-container-packages", |request, progress| answer(request, progress, container::packages)),
        ("rpm-base", |request, progress| answer(request, progress, resolve::base::inside)),
        ("rpm-ask", |request, progress| answer(request, progress, resolve::session::inside)),
        ("rpm-forget", |request, progress| answer(request, progress, resolve::session::forget)),
        ("rpm-plain", |request, progress| answer(request, progress, plain)),
        ("rpm-install", |request, progress| answer(request, progress, inside::install)),
    ]
}

/// Makes packages plain; runs inside.
fn plain(request: PlainRequest, news: News<'_>) -> Result<usize, String> {
    plain::inside(request, news, |from, to| rpm::write_plain(from, to))
}

/// Version of what [`inside::install`] does; part of the keys. 1: first; 2: random keys are taken out;
/// 3: by the list of secrets; 4: so are logs of packages' own directories and names of initiators;
/// 5: so is openldap's; times of Berkeley DB, of rpm before 4.14 and of Java's authorities are the epoch;
/// 6: systemd's tools find a chroot, `uname` and /proc tell the image's kernel; 7: scripts that fail are found wherever rpm reports them,
/// what stands beside others does by what it provides, and the package database is compared with the lock; 8: more identities are taken out,
/// and ids and times of slapd; scripts see fixed processors and memory; what stands in for programs does so by whatever path they are started.
const INSTALL_VERSION: u32 = 8;

impl PackageManager for RpmFamily {
    fn architecture(&self, machine: &str) -> &'static str {
        match machine {
            "aarch64" => "aarch64",
            "ppc64le" => "ppc64le",
            "s390x" => "s390x",
            _ => "x86_64",
        }
    }

    fn names(&self, _: &Recipe) -> Names {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Names {
            tools: all(&["filesystem", "bash", "coreutils", "rpm", "kmod|module-init-tools"]),
            solver: all(self.0.seeds()),
            base: all(self.0.base()),
            first: Vec::new(),
            script_tools: all(&["kmod|module-init-tools"]),
            dracut: all(&["dracut", "kmod|module-init-tools", "cpio", "gzip", "util-linux"]),
            // What Debian calls essential has to be named here.
            driver_tools: all(&[
                "make",
                "gcc",
                "binutils",
                "gawk|mawk",
                "findutils",
                "filesystem",
                "bash",
                "coreutils",
                "diffutils",
                "grep",
                "sed",
            ]),
            kernel: self.0.kernel().to_owned(),
        }
    }

    fn versions(&self) -> Versions {
        Versions { unpack: rpm::ROOT_VERSION, bootstrap: INSTALL_VERSION, install: INSTALL_VERSION }
    }

    fn container(&self) -> ContainerOperations {
        ContainerOperations {
            version: container::CONTAINER_VERSION,
            make: "rpm-container",
            packages: "rpm-container-packages",
        }
    }

    fn base_needs_tools(&self) -> bool {
        true
    }

    fn is_kernel(&self, package: &str) -> bool {
        kernels::is_kernel(package)
    }

    fn order(&self) -> VersionOrder {
        VersionOrder::Rpm
    }

    fn exactly(&self, package: &PinnedPackage) -> String {
        self.0.exactly(&package.name, &package.version, &package.architecture)
    }

    fn plain_name<'a>(&self, item: &'a str) -> &'a str {
        item
    }

    fn package_files(&self, directory: &Path) -> Result<Vec<PathBuf>, DistroError> {
        rpm::package_files(directory)
    }

    fn archive<'a>(&self, gathering: &Gathering<'a>) -> Result<Box<dyn PackageArchive + 'a>, DistroError> {
        Ok(Box::new(archive::gather::gather(self.0, gathering)?))
    }

    fn check(&self, gathering: &Gathering<'_>, online: bool) -> Vec<Unusable> {
        archive::check::check(gathering, online)
    }

    fn local<'a>(&self, gathering: &Gathering<'a>) -> Result<Box<dyn PackageArchive + 'a>, DistroError> {
        Ok(Box::new(archive::gather::gather_local(self.0, gathering)?))
    }

    fn is_local(&self, gathering: &Gathering<'_>) -> bool {
        archive::check::all_local(gathering)
    }

    fn roots(&self, gathering: &Gathering<'_>) -> Result<BTreeMap<String, Vec<String>>, DistroError> {
        archive::reading::roots(gathering)
    }

    fn roots_of_part(&self, roots: &BTreeMap<String, Vec<String>>, origin: &str) -> Vec<String> {
        archive::medium::roots_of_part(roots, origin)
    }

    fn vendor(&self, gathering: &Gathering<'_>, directory: &Path) -> Result<BTreeSet<PathBuf>, DistroError> {
        archive::vendor::vendor(gathering, directory)
    }

    fn vendored(&self, directory: &Path, origin: &str) -> PathBuf {
        archive::vendored::repository_directory(directory, origin)
    }

    fn plain_operation(&self) -> &'static str {
        "rpm-plain"
    }

    fn operation(&self, makes: Makes) -> &'static str {
        match makes {
            Makes::Root => "rpm-root",
            Makes::Base | Makes::Layer => "rpm-install",
        }
    }

    fn asked(&self, transaction: &Transaction<'_>) -> serde_json::Value {
        match transaction.makes {
            Makes::Root => serde_json::json!(RpmRootRequest {
                scratch: transaction.scratch.clone(),
                packages: transaction.files(packages::package_file),
                epoch: transaction.epoch,
            }),
            Makes::Base | Makes::Layer => serde_json::json!(install::request(self.0, transaction)),
        }
    }

    fn failure(&self, _: Makes, result: &CommandResult, log: &Path) -> DistroError {
        blame::failure("installing packages", result, log)
    }

    /// rpm itself goes on after most scripts that fail.
    fn failing(&self, log: &Path, allowed: &[String]) -> Option<DistroError> {
        blame::failing(log, allowed)
    }

    fn complaints(&self, log: &Path) -> Vec<Finding> {
        blame::missing_accounts(log)
    }
}
