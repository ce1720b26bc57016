//! Installs pinned packages over an image's layers, with no network.

use super::PinnedPackage;
use super::blame::failure;
use super::inside::InstallRequest;
use crate::distro::inside::common::Made;
use crate::distro::{DistroError, Install, Layer, ready_name};
use crate::sandbox::Namespace;
use crate::sandbox::emulator::HostCpu;
use crate::store::Store;

/// Version of what [`install`] does; part of the keys. 1: first; 2: kernel hooks really off; 3: tells the accounts;
/// 4: random keys are taken out; 5: by the list of secrets;
/// 6: so are logs of packages' own directories and names of initiators; scripts find a full name of the machine;
/// 7: what differs from run to run in a Berkeley DB of names of mail is taken out, and hooks of kernels make no initrd;
/// 8: so is the time in Octave's list of its packages, and times in Java's list of authorities are the epoch;
/// 9: systemd's tools find a chroot, `uname` and /proc tell the image's kernel.
pub const INSTALL_VERSION: u32 = 9;

/// What dpkg leaves out when it installs the kernel's packages over the payload, which has it: patterns of its option
/// `--path-exclude`.
const LEFT_OUT: [&str; 8] = [
    "/boot/vmlinuz-*",
    "/boot/vmlinux-*",
    "/boot/config-*",
    "/boot/System.map-*",
    "/lib/modules/*",
    "/usr/lib/modules/*",
    "/lib/firmware/*",
    "/usr/lib/firmware/*",
];

/// Installs packages and commits the layer.
/// Errors: [`DistroError::MaintainerScript`] with the package when one of its scripts fails, [`DistroError::PackageManager`]
/// with the log's last lines for anything else.
pub fn install(
    store: &Store,
    namespace: &Namespace,
    request: &Install<'_>,
    progress: &mut dyn FnMut(&str),
) -> Result<Layer, DistroError> {
    let scratch = store.scratch()?;
    for package in request.packages {
        scratch.link(&store.directory().join(ready_name(request.ready, &package.sha256)), &package.file_name())?;
    }
    let inside = InstallRequest {
        scratch: scratch.name.clone(),
        links: scratch.links_name.clone(),
        tools: request.tools.clone(),
        base: request.base.clone(),
        packages: request.packages.iter().map(PinnedPackage::file_name).collect(),
        remove: request.remove.to_vec(),
        remove_after: request.remove_after.to_vec(),
        architecture: (!HostCpu::here().runs(&request.uname.machine))
            .then(|| super::architecture(&request.uname.machine).map(str::to_owned))
            .flatten(),
        automatic: request
            .packages
            .iter()
            .filter(|package| package.automatic)
            .map(|package| (package.name.clone(), package.architecture.clone()))
            .collect(),
        accounts: request.accounts.clone(),
        uname: request.uname.clone(),
        left_out: if request.over_payload { LEFT_OUT.map(str::to_owned).to_vec() } else { Vec::new() },
        variables: request.variables.to_vec(),
        epoch: request.epoch,
        log: request.log.clone(),
    };
    match namespace.call("apt-install", &inside, progress)? {
        Made::Layer(answer, accounts) => Ok((answer, accounts)),
        Made::AsksRelease => Err(DistroError::AsksRelease),
        Made::Failed(result) => Err(failure("installing packages", &result, &store.directory().join(&request.log))),
    }
}
