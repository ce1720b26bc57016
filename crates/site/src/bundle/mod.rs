//! Bundles: an image with its definition, its lists and what nodes boot, in one file (xCAT: imgexport, imgimport).
//!
//! A bundle is a tar archive, with gzip or without, with a folder for each image: manifest.xml, the files that it names by their
//! base names, and `extra/`. imgbuild's own bundles have [`MEMBERS`] beside it, and the recipe in [`OWN`]; imgimport passes
//! over both. What others wrote is hostile: nothing is written outside of the workspace.

mod begun;
mod import;
mod members;
mod rename;
mod unpack;
mod write;

use std::path::PathBuf;

use base::source::Finding;

pub use import::{BundleImport, BundleReport, import_bundle};
pub use write::{BundleExport, Written, export_bundle};

/// File of a bundle's folder with what it holds: a name, a size and a SHA-256 for each member.
pub const MEMBERS: &str = "imgbuild.json";

/// Folder of a bundle's folder with the recipe's own files.
pub const OWN: &str = "imgbuild";

pub const RECORDS: &str = "store.saved";

/// The SHA-256 of a file, in hexadecimal digits.
pub fn sha256_of(path: &std::path::Path) -> Option<String> {
    members::measure(path).ok().map(|(_, digest)| digest)
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum BundleError {
    #[error("`{path}` is refused: {problem}; nothing was written")]
    #[diagnostic(help(
        "use a bundle written by imgexport or `imgbuild export bundle`: fetch it again, or do not trust it"
    ))]
    Refused { path: PathBuf, problem: String },
    #[error("the manifest of `{path}` has errors; nothing was written")]
    Manifest { path: PathBuf, findings: Vec<Finding> },
    #[error("{what} already exists; nothing was written")]
    #[diagnostic(help(
        "`--force` uses the bundle's and keeps the existing files as FILE.ORIG; `--profile NAME` imports it under another name"
    ))]
    Taken { what: String },
    #[error("{problem}; no bundle was written")]
    #[diagnostic(help("{help}"))]
    Missing { problem: String, help: String },
    #[error("`{path}`: {error}")]
    Io { path: PathBuf, error: std::io::Error },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Import(#[from] super::workspace::ImportError),
}
