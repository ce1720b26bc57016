//! Packages: tools roots, the base, and transactions of the package manager.

pub(crate) mod accounts;
pub(crate) mod container;
pub(crate) mod emulator;
pub(crate) mod inputs;
pub(crate) mod needs;
pub(crate) mod requests;
pub(crate) mod run;
pub(crate) mod tools;
