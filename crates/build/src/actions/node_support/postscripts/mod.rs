//! Scripts that nodes run, the program that runs them, and the units that start it.

pub mod inputs;
pub mod plan;
pub mod run;

/// Part of the keys; raised with what the action gives. 1: first.
pub const VERSION: u32 = 1;
