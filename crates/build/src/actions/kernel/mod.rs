//! The kernel stage: the kernel, its modules and drivers.

pub mod device_trees;
pub mod directory;
pub mod drivers;
pub mod inputs;
pub mod modules;
pub mod payload;
pub mod run;

/// Part of the keys; raised with what the action gives. 1: first; 2: of RPM drivers for several other kernels the newest is rpm's, and files with several names are taken under each;
/// 4: firmware and microcode of packages that earlier transactions brought.
pub const VERSION: u32 = 4;
