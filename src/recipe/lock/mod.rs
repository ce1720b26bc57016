//! image.lock: its format, and reading it.

pub mod file;
pub mod places;
pub mod read;
pub mod role;
