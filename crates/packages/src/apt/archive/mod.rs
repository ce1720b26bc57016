//! The archives of a recipe: which they are, their indices, and directories of packages.

pub mod check;
pub mod gather;
pub mod index;
pub mod local;
pub mod named;
pub mod relations;
pub mod release;
pub mod source;
pub mod sources_file;
pub mod vendored;
pub mod words;
