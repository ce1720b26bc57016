//! A root of unpacked packages, from inside: tools roots.

use serde::{Deserialize, Serialize};

use crate::distro::DistroError;
use crate::sandbox::Namespace;
use crate::sandbox::helper::News;
use crate::store::{ScanAnswer, Store};

/// Version of what [`make_root`] does; part of the keys of what runs in tools roots (D9). 1: first.
pub const ROOT_VERSION: u32 = 1;

/// A package file: where it is in the store and what messages call it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RpmFile {
    /// Path relative to the store's directory.
    pub file: String,
    /// Name.
    pub name: String,
}

/// What to make a root of.
#[derive(Debug)]
pub struct RpmRoot<'a> {
    /// Its packages, in the order of unpacking; those that bring only directories and links go first anyway.
    pub packages: &'a [RpmFile],
    /// No time in it is later than this.
    pub epoch: i64,
}

/// Asks for a root.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RpmRootRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    /// The packages.
    pub packages: Vec<RpmFile>,
    /// No time is later than this.
    pub epoch: i64,
}

/// Unpacks packages in an empty root and commits the layer. No script runs.
///
/// # Errors
/// [`DistroError::Sandbox`] for what cannot be unpacked.
pub fn make_root(
    store: &Store,
    namespace: &Namespace,
    request: &RpmRoot<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<ScanAnswer, DistroError> {
    let scratch = store.scratch()?;
    let inside =
        RpmRootRequest { scratch: scratch.name.clone(), packages: request.packages.to_vec(), epoch: request.epoch };
    Ok(namespace.call("rpm-root", &inside, progress)?)
}

/// Runs inside.
pub fn inside(request: RpmRootRequest, progress: News<'_>) -> Result<ScanAnswer, String> {
    let _ = (request, progress);
    Err("is not unpacked yet".to_owned())
}
