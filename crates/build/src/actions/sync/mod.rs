//! The sync layer: files of the build host, copied, appended or merged (D25).

mod accounts;
mod earlier;
pub mod inputs;
pub mod inside;
pub mod run;

/// Part of the keys; raised with what the action gives. 1: first.
pub const VERSION: u32 = 3;
