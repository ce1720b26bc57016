//! A root made of packages alone: tools roots, and the base of each image.

use super::PinnedPackage;
use super::blame::failure;
use super::inside::{Made, PackageFile};
use super::plain_name;
use super::root::RootRequest;
use crate::distro::DistroError;
use crate::recipe::Accounts;
use crate::sandbox::Namespace;
use crate::store::{ScanAnswer, Store};

/// Version of what [`bootstrap`] does with configured packages. 1: first; 2: tells the accounts.
pub const BOOTSTRAP_VERSION: u32 = 2;

/// Version of what [`bootstrap`] does without configuring; part of the keys of what runs in tools roots (D9). 1: first.
pub const UNPACK_VERSION: u32 = 1;

/// What to make a root of.
#[derive(Debug)]
pub struct Bootstrap<'a> {
    /// Its packages.
    pub packages: &'a [PinnedPackage],
    /// Directory of the store that has them with uncompressed content.
    pub plain: &'a str,
    /// Whether dpkg configures them.
    pub configure: bool,
    /// No time in it is later than this.
    pub epoch: i64,
    /// Name of its log in the store.
    pub log: String,
}

/// Unpacks packages in an empty root, configures them where that is asked for, and commits the layer.
///
/// # Errors
/// [`DistroError::MaintainerScript`] when a script fails, [`DistroError::PackageManager`] for anything else.
pub fn bootstrap(
    store: &Store,
    namespace: &Namespace,
    request: &Bootstrap<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<(ScanAnswer, Accounts), DistroError> {
    let scratch = store.scratch()?;
    for package in request.packages {
        scratch.link(&store.directory().join(plain_name(request.plain, &package.sha256)), &package.file_name())?;
    }
    let inside = RootRequest {
        scratch: scratch.name.clone(),
        links: scratch.links_name.clone(),
        packages: request
            .packages
            .iter()
            .map(|package| PackageFile { file: plain_name(request.plain, &package.sha256), name: package.name.clone() })
            .collect(),
        configure: request.configure,
        epoch: request.epoch,
        log: request.log.clone(),
    };
    match namespace.call("apt-root", &inside, progress)? {
        Made::Layer(answer, accounts) => Ok((answer, accounts)),
        Made::Failed(result) => {
            Err(failure("configuring the base packages", &result, &store.directory().join(&request.log)))
        }
    }
}
