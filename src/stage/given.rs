//! What an action is given: packages, and how much that is.

use super::actions::kernel_packages;
use crate::distro::PackageManager;
use crate::plan::Action;
use crate::recipe::{Lock, PinnedPackage};

/// The action of the artefacts, in the history only.
pub const PUBLISH: &str = "publish";

/// Packages that an action is given.
pub fn packages_of(manager: &dyn PackageManager, lock: &Lock, action: &Action) -> Vec<PinnedPackage> {
    let own = |name: &str| lock.pass(name).map(|pass| pass.packages.clone()).unwrap_or_default();
    match action.kind {
        "unpack" | "bootstrap" | "install" => own(action.layer()),
        "kernel" => kernel_packages(manager, lock, &own("kernel")),
        _ => Vec::new(),
    }
}

/// Bytes of packages.
pub fn bytes_of(packages: &[PinnedPackage]) -> u64 {
    packages.iter().map(|package| package.size).sum()
}
