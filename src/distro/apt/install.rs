//! Installs pinned packages over an image's layers, with no network.

use super::blame::failure;
use super::inside::{InstallRequest, Made};
use super::{PinnedPackage, plain_name};
use crate::digest::Digest;
use crate::distro::DistroError;
use crate::recipe::Accounts;
use crate::sandbox::Namespace;
use crate::store::{ScanAnswer, Store};

/// Version of what [`install`] does; part of the keys. 1: first; 2: kernel hooks really off; 3: tells the accounts.
pub const INSTALL_VERSION: u32 = 3;

/// One transaction.
#[derive(Debug)]
pub struct Install<'a> {
    /// Layers of the tools root.
    pub tools: Vec<Digest>,
    /// Layers of the image so far.
    pub base: Vec<Digest>,
    /// What to install.
    pub packages: &'a [PinnedPackage],
    /// Directory of the store that has them with uncompressed content.
    pub plain: &'a str,
    /// Users and groups that are made first.
    pub accounts: &'a Accounts,
    /// What dpkg leaves out, because a layer below has it: patterns of its option `--path-exclude`.
    pub left_out: &'a [&'a str],
    /// Names to remove in the same transaction.
    pub remove: &'a [String],
    /// Names to remove afterwards.
    pub remove_after: &'a [String],
    /// Environment that a list asks for.
    pub variables: &'a [(String, String)],
    /// No time in the layer is later than this.
    pub epoch: i64,
    /// Name of its log in the store.
    pub log: String,
}

/// Installs packages and commits the layer.
///
/// # Errors
/// [`DistroError::MaintainerScript`] with the package when one of its scripts fails, [`DistroError::PackageManager`]
/// with the log's last lines for anything else.
pub fn install(
    store: &Store,
    namespace: &Namespace,
    request: &Install<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<(ScanAnswer, Accounts), DistroError> {
    let scratch = store.scratch()?;
    for package in request.packages {
        scratch.link(&store.directory().join(plain_name(request.plain, &package.sha256)), &package.file_name())?;
    }
    let inside = InstallRequest {
        scratch: scratch.name.clone(),
        links: scratch.links_name.clone(),
        tools: request.tools.clone(),
        base: request.base.clone(),
        packages: request.packages.iter().map(PinnedPackage::file_name).collect(),
        remove: request.remove.to_vec(),
        remove_after: request.remove_after.to_vec(),
        automatic: request
            .packages
            .iter()
            .filter(|package| package.automatic)
            .map(|package| (package.name.clone(), package.architecture.clone()))
            .collect(),
        accounts: request.accounts.clone(),
        left_out: request.left_out.iter().map(|pattern| (*pattern).to_owned()).collect(),
        variables: request.variables.to_vec(),
        epoch: request.epoch,
        log: request.log.clone(),
    };
    match namespace.call("apt-install", &inside, progress)? {
        Made::Layer(answer, accounts) => Ok((answer, accounts)),
        Made::Failed(result) => Err(failure("installing packages", &result, &store.directory().join(&request.log))),
    }
}
