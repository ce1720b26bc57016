//! Commands for what was built: boot it, look into it, compare it.

pub(crate) mod boot;
pub(crate) mod boot_entry;
pub(crate) mod delta;
pub(crate) mod diff;
pub(crate) mod fetch;
pub(crate) mod provision;
pub(crate) mod publish;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod registry;
pub(crate) mod shell;
pub(crate) mod size;
