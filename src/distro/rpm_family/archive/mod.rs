//! The repositories of a recipe, fetched and read.

pub mod gather;
pub mod local;
pub mod metadata;
pub mod packages;
pub mod reading;
pub mod sources;
pub mod vendor;
pub mod vendored;
