//! Looking at what was built: differences, sizes, a shell, an action once more.

pub mod against;
pub mod diff;
pub mod excluded;
pub mod reproduce;
pub mod shell;
pub mod size;
