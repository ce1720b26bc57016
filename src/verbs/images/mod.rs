//! Commands for what was built: boot it, look into it, compare it.

pub mod boot;
pub mod boot_entry;
pub mod delta;
pub mod diff;
pub mod fetch;
pub mod publish;
pub mod pull;
pub mod push;
pub mod registry;
pub mod shell;
pub mod size;
