//! Commands that plan, build, and tell what was built and why.

pub mod against;
pub mod away;
pub mod build;
pub mod build_arguments;
pub mod explain;
pub mod log;
pub mod on;
pub mod only;
pub mod plan;
pub mod slurm;
pub mod update;
pub mod vendor;
