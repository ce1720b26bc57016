//! Archives: entries in, bytes out, and the one extractor for what packages bring.
//!
//! This room must not know recipes or processes.

mod deb;
mod extract;

pub use deb::{DebError, control_stanza, read_members};
pub use extract::{Extractor, Meta, extract_tar};
