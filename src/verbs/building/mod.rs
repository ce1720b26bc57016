//! Commands that plan, build, and tell what was built and why.

pub(crate) mod against;
pub(crate) mod away;
pub(crate) mod build;
pub(crate) mod build_arguments;
pub(crate) mod explain;
pub(crate) mod log;
pub(crate) mod on;
pub(crate) mod only;
pub(crate) mod plan;
pub(crate) mod slurm;
pub(crate) mod update;
pub(crate) mod vendor;
