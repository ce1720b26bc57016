//! Commands for what a published image is made of, and whether it still is that.

pub(crate) mod beside;
pub(crate) mod facts;
pub(crate) mod provenance;
pub(crate) mod sbom;
pub(crate) mod verify;
