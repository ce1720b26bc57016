//! Packages: tools roots, the base, and transactions of the package manager.

pub mod accounts;
pub mod container;
pub mod emulator;
pub mod inputs;
pub mod needs;
pub mod requests;
pub mod run;
pub mod tools;
