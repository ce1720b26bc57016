//! `[services]`: units that are enabled, disabled and masked.

pub(crate) mod inputs;
pub(crate) mod inside;
pub(crate) mod run;

/// Part of the keys; raised with what the action gives. 1: first.
pub(crate) const VERSION: u32 = 1;
