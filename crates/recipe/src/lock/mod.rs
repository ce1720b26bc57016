//! image.lock: its format, and reading it.

pub mod base;
pub mod file;
pub mod installed;
pub mod places;
pub mod read;
pub mod role;
