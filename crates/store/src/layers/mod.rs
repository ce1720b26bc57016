//! Layers: manifests, trees that become layers, layers over one another.

pub mod check;
pub mod commit;
pub mod edit;
pub mod inside;
pub mod looked_at;
pub mod manifest;
pub mod merge;
pub mod read;
pub mod reader;
pub mod scan;
