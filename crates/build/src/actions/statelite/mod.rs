//! The list of paths that are a node's own: `statelite.json`.

pub mod inputs;
pub mod run;

/// Part of the keys; raised with what the action gives. 1: first.
pub const VERSION: u32 = 1;
