//! image.lock: its format, and reading it.

pub(crate) mod base;
pub(crate) mod file;
pub(crate) mod installed;
pub(crate) mod places;
pub(crate) mod read;
pub(crate) mod role;
