//! Debian and its kin: apt resolves and installs, imgbuild downloads, checks and unpacks.
//!
//! The release's own apt and dpkg run in a tools root that [`bootstrap`] makes from that release's packages; the
//! host needs none of them.

mod archive;
mod blame;
mod bootstrap;
mod closure;
mod container;
mod dracut;
mod inside;
mod install;
mod plain;
mod query;
mod resolve;
mod root;

pub use archive::index::{Archive, Candidate, SuiteIndex};
pub use archive::local::{LocalRepository, package_files, scan_local};
pub use archive::release::{SuiteRelease, fetch_suite};
pub use archive::source::{HostSources, Source, architecture, only_suites, sources_for};
pub use archive::sources_file::{Entry, SignedBy, read_sources_file};
pub use closure::tools_closure;

pub use recipe::PinnedPackage;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use crate::{
    ContainerOperations, DistroError, Gathering, Makes, Names, PackageArchive, PackageManager, Transaction, Unusable,
    VersionOrder, Versions,
};
use recipe::{Base, Distro, Recipe};
use sandbox::CommandResult;
use sandbox::helper::{Operation, answer};

/// The release of the kernel that a package brings: Debian's names have it.
fn kernel_release(package: &PinnedPackage) -> Option<String> {
    let rest = package.name.strip_prefix("linux-image-")?;
    // Debian's and Ubuntu's names of one that no one signed.
    let rest = rest.strip_prefix("unsigned-").unwrap_or(rest);
    let is_release = rest.starts_with(|c: char| c.is_ascii_digit());
    let is_other = ["-dbg", "-template"].iter().any(|ending| rest.ends_with(ending));
    (is_release && !is_other).then(|| rest.strip_suffix("-unsigned").unwrap_or(rest).to_owned())
}

pub fn kernel_releases(packages: &[PinnedPackage]) -> Vec<(String, PinnedPackage)> {
    packages.iter().filter_map(|one| Some((kernel_release(one)?, one.clone()))).collect()
}

/// The package with programs that run those of other CPUs.
const EMULATOR: &str = "qemu-user-static";

#[derive(Debug, Clone, Copy)]
pub struct Apt;

impl PackageManager for Apt {
    fn architecture(&self, machine: &str) -> &'static str {
        architecture(machine).unwrap_or("amd64")
    }

    fn names(&self, recipe: &Recipe) -> Names {
        let all = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        Names {
            tools: match archive::named::Architectures::of(recipe).tools {
                None => all(&["apt", "kmod"]),
                Some(_) => all(&["apt", "kmod", EMULATOR]),
            },
            solver: Vec::new(),
            base: all(&["?essential"]),
            first: match recipe.model.packages.base {
                Base::Essential => Vec::new(),
                Base::Minbase => all(&["~prequired", "apt"]),
            },
            script_tools: all(&["kmod"]),
            dracut: all(&dracut::DRACUT_PACKAGES),
            driver_tools: all(&["make", "binutils", "mawk"]),
            kernel: match recipe.model.image.distro {
                Distro::Ubuntu => "linux-image-generic".to_owned(),
                // Debian calls its kernels of little-endian POWER otherwise than its architecture.
                _ => match archive::named::architecture_of(recipe) {
                    "ppc64el" => "linux-image-powerpc64le".to_owned(),
                    name => format!("linux-image-{name}"),
                },
            },
        }
    }

    fn versions(&self) -> Versions {
        Versions {
            unpack: bootstrap::UNPACK_VERSION,
            bootstrap: bootstrap::BOOTSTRAP_VERSION,
            install: install::INSTALL_VERSION,
        }
    }

    fn container(&self) -> ContainerOperations {
        ContainerOperations {
            version: container::CONTAINER_VERSION,
            make: "apt-container",
            packages: "apt-container-packages",
        }
    }

    fn base_needs_tools(&self) -> bool {
        false
    }

    fn is_kernel(&self, package: &str) -> bool {
        package.starts_with("linux-image-")
    }

    fn order(&self) -> VersionOrder {
        VersionOrder::Debian
    }

    fn names_tell_kernels(&self) -> bool {
        true
    }

    fn headers_release(&self, package: &PinnedPackage) -> Option<String> {
        let rest = package.name.strip_prefix("linux-headers-")?;
        // What flavours share has none in its name: `-common` in Debian, nothing in Ubuntu.
        let flavour = rest.rsplit('-').next().unwrap_or_default();
        let is_flavour = flavour != "common" && flavour.starts_with(|c: char| c.is_ascii_alphabetic());
        let is_release = rest.starts_with(|c: char| c.is_ascii_digit()) && is_flavour;
        is_release.then(|| rest.to_owned())
    }

    fn exactly(&self, package: &PinnedPackage) -> String {
        format!("{}={}", package.name, package.version)
    }

    fn plain_name<'a>(&self, item: &'a str) -> &'a str {
        item.split(['=', '/', ':']).next().unwrap_or(item)
    }

    fn package_files(&self, directory: &Path) -> Result<Vec<PathBuf>, DistroError> {
        package_files(directory)
    }

    fn archive<'a>(&self, gathering: &Gathering<'a>) -> Result<Box<dyn PackageArchive + 'a>, DistroError> {
        Ok(Box::new(archive::gather::gather(gathering)?))
    }

    fn check(&self, gathering: &Gathering<'_>, online: bool) -> Vec<Unusable> {
        archive::check::check(gathering, online)
    }

    fn local<'a>(&self, gathering: &Gathering<'a>) -> Result<Box<dyn PackageArchive + 'a>, DistroError> {
        Ok(Box::new(archive::gather::gather_local(gathering)?))
    }

    fn is_local(&self, gathering: &Gathering<'_>) -> bool {
        archive::check::is_local(gathering)
    }

    fn roots(&self, gathering: &Gathering<'_>) -> Result<BTreeMap<String, Vec<String>>, DistroError> {
        archive::gather::roots(gathering)
    }

    fn vendor(&self, gathering: &Gathering<'_>, directory: &Path) -> Result<BTreeSet<PathBuf>, DistroError> {
        archive::gather::vendor(gathering, directory)
    }

    fn vendored(&self, directory: &Path, origin: &str) -> PathBuf {
        archive::vendored::suite_directory(directory, origin)
    }

    fn plain_operation(&self) -> &'static str {
        "apt-plain"
    }

    fn operation(&self, makes: Makes) -> &'static str {
        match makes {
            Makes::Root | Makes::Base => "apt-root",
            Makes::Layer => "apt-install",
        }
    }

    fn asked(&self, transaction: &Transaction<'_>) -> serde_json::Value {
        match transaction.makes {
            Makes::Root | Makes::Base => serde_json::json!(bootstrap::request(transaction)),
            Makes::Layer => serde_json::json!(install::request(transaction)),
        }
    }

    fn failure(&self, makes: Makes, result: &CommandResult, log: &Path) -> DistroError {
        let what = match makes {
            Makes::Root | Makes::Base => "configuring the base packages",
            Makes::Layer => "installing packages",
        };
        blame::failure(what, result, log)
    }
}

pub fn operations() -> Vec<(&'static str, Operation)> {
    vec![
        ("apt-root", |request, progress| answer(request, progress, root::inside)),
        ("apt-install", |request, progress| answer(request, progress, inside::install)),
        ("apt-plain", |request, progress| answer(request, progress, plain::inside)),
        ("apt-container", |request, progress| answer(request, progress, container::make)),
        ("apt-container-packages", |request, progress| answer(request, progress, container::packages)),
        ("apt-query", |request, progress| answer(request, progress, query::query)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_kernels_and_headers_tell_releases_in_debian_and_ubuntu() {
        let package = |name: &str| PinnedPackage {
            name: name.to_owned(),
            version: "1".to_owned(),
            architecture: "amd64".to_owned(),
            size: 1,
            sha256: base::digest::Sha256::of(b""),
            origin: String::new(),
            file: String::new(),
            automatic: false,
            beside: false,
        };
        for (name, release) in [
            ("linux-image-6.1.0-30-amd64", Some("6.1.0-30-amd64")),
            ("linux-image-6.1.0-30-amd64-unsigned", Some("6.1.0-30-amd64")),
            ("linux-image-6.8.0-31-generic", Some("6.8.0-31-generic")),
            ("linux-image-unsigned-6.8.0-31-generic", Some("6.8.0-31-generic")),
            ("linux-image-generic", None),
            ("linux-image-amd64", None),
            ("linux-image-6.1.0-30-amd64-dbg", None),
        ] {
            assert_eq!(kernel_release(&package(name)).as_deref(), release, "{name}");
        }
        for (name, release) in [
            ("linux-headers-6.1.0-30-amd64", Some("6.1.0-30-amd64")),
            ("linux-headers-6.1.0-30-cloud-amd64", Some("6.1.0-30-cloud-amd64")),
            ("linux-headers-6.1.0-30-common", None),
            ("linux-headers-6.8.0-31-generic", Some("6.8.0-31-generic")),
            ("linux-headers-6.8.0-31", None),
            ("linux-headers-generic", None),
        ] {
            assert_eq!(Apt.headers_release(&package(name)).as_deref(), release, "{name}");
        }
    }
}
