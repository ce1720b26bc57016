//! The packages that actions are given.

use crate::actions::kernel_packages;
use packages::PackageManager;
use plan::{Action, ActionKind};
use recipe::{Lock, PinnedPackage};

pub(crate) fn packages_of(manager: &dyn PackageManager, lock: &Lock, action: &Action) -> Vec<PinnedPackage> {
    let own = |name: &str| lock.pass(name).map(|pass| pass.packages.clone()).unwrap_or_default();
    match action.kind {
        ActionKind::Unpack | ActionKind::Bootstrap | ActionKind::Install => own(action.layer()),
        ActionKind::Kernel => kernel_packages(manager, lock, &own("kernel")),
        ActionKind::Lock
        | ActionKind::Container
        | ActionKind::Driver
        | ActionKind::System
        | ActionKind::Role
        | ActionKind::Postinstall
        | ActionKind::Services
        | ActionKind::Gate
        | ActionKind::NodeSupport
        | ActionKind::Postscripts
        | ActionKind::Sync
        | ActionKind::Initrd
        | ActionKind::Dracut
        | ActionKind::Pack
        | ActionKind::Statelite
        | ActionKind::Publish => Vec::new(),
    }
}

pub(crate) fn bytes_of(packages: &[PinnedPackage]) -> u64 {
    packages.iter().map(|package| package.size).sum()
}
