//! Package files: headers, payloads, and roots of unpacked packages.

pub(super) mod caps;
pub(super) mod file;
pub(super) mod header;
pub(super) mod installed;
pub(super) mod named;
pub(super) mod payload;
pub(super) mod plain;
pub(super) mod root;
