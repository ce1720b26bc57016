//! Scripts that nodes run, the program that runs them, and the units that start it.

pub(crate) mod inputs;
pub(crate) mod plan;
pub(crate) mod run;

/// Part of the keys; raised with what the action gives. 1: first.
pub(crate) const VERSION: u32 = 1;
