//! The initrd, of imgbuild itself or composed by dracut.

pub mod compose;
pub mod dracut;
pub mod inputs;
pub mod request;
pub mod run;

/// Part of the keys; raised with what the action gives. 1: first; 2: settings in usr/lib/modprobe.d; 3: zstd
/// compresses it as a whole.
pub const VERSION: u32 = 4;
