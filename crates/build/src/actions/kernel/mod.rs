//! The kernel stage: the kernel, its modules and drivers.

pub(crate) mod device_trees;
pub(crate) mod directory;
pub(crate) mod drivers;
pub(crate) mod inputs;
pub(crate) mod modules;
pub(crate) mod payload;
pub(crate) mod run;

/// Part of the keys; raised with what the action gives. 1: first; 2: of RPM drivers for several other kernels the newest is rpm's, and files with several names are taken under each;
/// 4: firmware and microcode of packages that earlier transactions brought.
pub(crate) const VERSION: u32 = 4;
