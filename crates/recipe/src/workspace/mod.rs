//! The workspace, and which of its images a command is for.

pub mod executor;
pub mod file;
pub mod select;
