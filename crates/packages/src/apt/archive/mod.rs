//! The archives of a recipe: which they are, their indices, and directories of packages.

pub(super) mod check;
pub(super) mod gather;
pub(super) mod index;
pub(super) mod local;
pub(super) mod named;
pub(super) mod relations;
pub(super) mod release;
pub(super) mod source;
pub(super) mod sources_file;
pub(super) mod vendored;
pub(super) mod words;
