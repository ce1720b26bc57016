//! Versions, dependencies, and what a solver sees of packages.

pub(super) mod candidate;
pub(super) mod closure;
pub(super) mod rich;
pub(super) mod version;
