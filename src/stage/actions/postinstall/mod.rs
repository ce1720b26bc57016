//! The postinstall script: xCAT's arguments and environment, in a sandbox (D23).

pub mod inputs;
pub mod remedy;
pub mod run;
pub mod script;

/// Part of the keys; raised with what the action gives. 1: first.
pub const VERSION: u32 = 2;
