//! image.lock: its format, and reading it.

pub mod base;
pub mod file;
pub mod places;
pub mod read;
pub mod role;
