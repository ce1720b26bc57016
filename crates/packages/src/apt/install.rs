//! Pinned packages over an image's layers.

use super::PinnedPackage;
use super::inside::InstallRequest;
use crate::Transaction;
use sandbox::emulator::HostCpu;

/// Version of what [`super::inside::install`] does; part of the keys. 1: first; 2: kernel hooks really off; 3: tells the accounts;
/// 4: random keys are taken out; 5: by the list of secrets;
/// 6: so are logs of packages' own directories and names of initiators; scripts find a full name of the machine;
/// 7: what differs from run to run in a Berkeley DB of names of mail is taken out, and hooks of kernels make no initrd;
/// 8: so is the time in Octave's list of its packages, and times in Java's list of authorities are the epoch;
/// 9: systemd's tools find a chroot, `uname` and /proc tell the image's kernel; 10: more identities are taken out, and ids and times of slapd;
/// scripts see fixed processors and memory; what stands in for programs does so by whatever path they are started.
pub(super) const INSTALL_VERSION: u32 = 10;

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

/// What the inside is asked for a layer.
pub(super) fn request(transaction: &Transaction<'_>) -> InstallRequest {
    let Transaction { packages, uname, .. } = transaction;
    InstallRequest {
        scratch: transaction.scratch.clone(),
        tools: transaction.tools.clone(),
        base: transaction.base.clone(),
        packages: transaction.files(PinnedPackage::file_name),
        remove: transaction.remove.to_vec(),
        remove_after: transaction.remove_after.to_vec(),
        architecture: (!HostCpu::here().runs(&uname.machine))
            .then(|| super::architecture(&uname.machine).map(str::to_owned))
            .flatten(),
        automatic: packages
            .iter()
            .filter(|package| package.automatic)
            .map(|package| (package.name.clone(), package.architecture.clone()))
            .collect(),
        accounts: transaction.accounts.clone(),
        uname: uname.clone(),
        left_out: if transaction.over_payload { LEFT_OUT.map(str::to_owned).to_vec() } else { Vec::new() },
        variables: transaction.variables.to_vec(),
        epoch: transaction.epoch,
        log: transaction.log.clone(),
    }
}
