//! Package files: headers, payloads, and roots of unpacked packages.

pub mod caps;
pub mod file;
pub mod header;
pub mod installed;
pub mod payload;
pub mod plain;
pub mod root;
