//! The list of paths that are a node's own: `statelite.json`.

pub(crate) mod inputs;
pub(crate) mod run;

/// Part of the keys; raised with what the action gives. 1: first.
pub(crate) const VERSION: u32 = 1;
