//! A root made of packages alone: tools roots, and the base of each image.

use super::PinnedPackage;
use super::root::RootRequest;
use crate::{Makes, Transaction};

/// Version of what [`super::root::inside`] does with configured packages. 1: first; 2: tells the accounts; 3: /proc tells no kernel of the host;
/// 4: nor its processors and memory.
pub(super) const BOOTSTRAP_VERSION: u32 = 4;

/// Version of what [`super::root::inside`] does without configuring; part of the keys of what runs in tools roots (D9). 1: first.
pub(super) const UNPACK_VERSION: u32 = 1;

/// Architectures whose programs name a loader in /lib64. Source: the ABIs' supplements, and base-files of Debian.
const LIB64: [&str; 2] = ["amd64", "ppc64el"];

/// What the inside is asked for a root or a base.
pub(super) fn request(transaction: &Transaction<'_>) -> RootRequest {
    RootRequest {
        scratch: transaction.scratch.clone(),
        packages: transaction.files(PinnedPackage::file_name),
        configure: transaction.makes == Makes::Base,
        lib64: transaction.packages.iter().any(|package| LIB64.contains(&package.architecture.as_str())),
        epoch: transaction.epoch,
        log: transaction.log.clone(),
    }
}
