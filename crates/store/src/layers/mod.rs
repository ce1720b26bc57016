//! Layers: manifests, trees that become layers, layers over one another.

pub(crate) mod check;
pub(crate) mod commit;
pub(crate) mod edit;
pub(crate) mod inside;
pub(crate) mod looked_at;
pub(crate) mod manifest;
pub(crate) mod merge;
pub(crate) mod read;
pub(crate) mod reader;
pub(crate) mod scan;
