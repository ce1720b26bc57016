//! Looking at what was built: differences, sizes, a shell, an action once more.

pub(crate) mod against;
pub mod diff;
pub(crate) mod excluded;
pub(crate) mod reproduce;
pub(crate) mod shell;
pub(crate) mod size;
