//! The workspace, and which of its images a command is for.

pub(crate) mod executor;
pub(crate) mod file;
pub(crate) mod select;
