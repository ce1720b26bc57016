//! `[services]`: units that are enabled, disabled and masked.

pub mod inputs;
pub mod inside;
pub mod run;

/// Part of the keys; raised with what the action gives. 1: first.
pub const VERSION: u32 = 1;
