//! The repositories of a recipe, fetched and read.

pub(super) mod check;
pub(super) mod gather;
pub(super) mod local;
pub(super) mod medium;
pub(super) mod metadata;
pub(super) mod packages;
pub(super) mod reading;
mod relations;
mod repo_files;
pub(super) mod sources;
pub(super) mod vendor;
pub(super) mod vendored;
