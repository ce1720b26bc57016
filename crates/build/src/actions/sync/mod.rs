//! The sync layer: files of the build host, copied, appended or merged (D25).

mod accounts;
mod earlier;
pub(crate) mod inputs;
pub(crate) mod inside;
pub(crate) mod run;

/// Part of the keys; raised with what the action gives. 1: first.
pub(crate) const VERSION: u32 = 3;
