//! Gates after postinstall: what the script must not do behind the other stages' backs (D20, D24).

pub mod checks;
pub mod inputs;
pub mod run;

/// Part of the keys; raised with what the action gives. 1: first.
pub const VERSION: u32 = 1;
