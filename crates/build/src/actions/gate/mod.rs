//! Gates after postinstall: what the script must not do behind the other stages' backs (D20, D24).

pub(crate) mod checks;
pub(crate) mod inputs;
mod leftovers;
pub(crate) mod options;
pub(crate) mod programs;
pub(crate) mod run;

/// Part of the keys; raised with what the action gives. 1: first; 2: homes, modules of kernels that are not there; 3:
/// options of drivers.
pub(crate) const VERSION: u32 = 3;
