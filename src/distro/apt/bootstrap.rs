//! A configured root made of packages alone: tools roots, and the base of each image.

use super::PinnedPackage;
use super::inside::{BootstrapRequest, Made, PackageFile};
use crate::distro::DistroError;
use crate::sandbox::Namespace;
use crate::store::{ScanAnswer, Store};

/// Version of what [`bootstrap`] does; part of the keys of tools roots (D9). 1: first.
pub const BOOTSTRAP_VERSION: u32 = 1;

/// What to make a root of.
#[derive(Debug)]
pub struct Bootstrap<'a> {
    /// Its packages; all of them are in the store.
    pub packages: &'a [PinnedPackage],
    /// No time in it is later than this.
    pub epoch: i64,
    /// Name of its log in the store.
    pub log: String,
}

/// Unpacks and configures packages in an empty root and commits the layer.
///
/// # Errors
/// [`DistroError::PackageManager`] with the log's last lines when a script fails.
pub fn bootstrap(
    store: &Store,
    namespace: &Namespace,
    request: &Bootstrap<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<ScanAnswer, DistroError> {
    let scratch = store.scratch()?;
    for package in request.packages {
        store.check_package(&package.sha256)?;
        scratch.link(&store.package(&package.sha256), &package.file_name())?;
    }
    let inside = BootstrapRequest {
        scratch: scratch.name.clone(),
        links: scratch.links_name.clone(),
        packages: request
            .packages
            .iter()
            .map(|package| PackageFile { file: Store::package_name(&package.sha256), name: package.name.clone() })
            .collect(),
        epoch: request.epoch,
        log: request.log.clone(),
    };
    match namespace.call("apt-bootstrap", &inside, progress)? {
        Made::Layer(answer) => Ok(answer),
        Made::Failed(result) => Err(DistroError::PackageManager {
            what: "configuring the base packages".to_owned(),
            status: result.status,
            lines: result.last_lines.join("\n"),
            log: store.directory().join(&request.log).display().to_string(),
        }),
    }
}
