//! Commands that plan, build, and tell what was built and why.

pub mod against;
pub mod build;
pub mod explain;
pub mod log;
pub mod plan;
pub mod update;
pub mod vendor;
