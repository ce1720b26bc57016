//! The repositories of a recipe, fetched and read.

pub mod check;
pub mod gather;
pub mod local;
pub mod medium;
pub mod metadata;
pub mod packages;
pub mod reading;
mod relations;
mod repo_files;
pub mod sources;
pub mod vendor;
pub mod vendored;
