//! The initrd, of imgbuild itself or composed by dracut.

pub(crate) mod compose;
pub(crate) mod dracut;
mod firmware;
pub(crate) mod inputs;
pub(crate) mod kdump;
pub(crate) mod request;
pub(crate) mod run;

/// Part of the keys; raised with what the action gives. 1: first; 2: settings in usr/lib/modprobe.d; 3: zstd
/// compresses it as a whole; 5: microcode, firmware through linked directories; 6: bonds and VLANs; 7: the names
/// of its drivers.
pub(crate) const VERSION: u32 = 7;

/// The value of an initrd's record that has the names of its drivers, with blanks between.
pub(crate) const DRIVERS: &str = "drivers";
