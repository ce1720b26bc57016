//! Versions, dependencies, and what a solver sees of packages.

pub mod candidate;
pub mod closure;
pub mod rich;
pub mod version;
