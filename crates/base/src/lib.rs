//! What all crates have in common: digests, positions in source files with their messages, failures, versions of formats, XML.
//!
//! It knows no thread, no process and no image. Begin with `source` (where a message points) and `digest` (what names bytes).

pub mod device;
pub mod digest;
pub mod failure;
pub mod format;
pub mod source;
pub mod xml;
