//! A distribution's media as a repository of the site's own (xCAT: copycds, section 10).
//!
//! Media are read without mounting: ISO 9660 images, devices with one, and directories. What already exists stays; what is
//! new appears whole, in one rename of the directory.

mod copy;
mod identify;
mod recipes;
mod source;

use std::path::PathBuf;

use serde::Serialize;

pub use copy::{MediaImport, import_media};
pub use identify::{Family, Medium, identify};

#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct MediaReport {
    pub format_version: String,
    pub media: Vec<ImportedMedium>,
    /// Recipes that were written, from the workspace.
    pub recipes: Vec<String>,
    pub notes: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ImportedMedium {
    pub source: String,
    /// What it is, as xCAT calls it: `rocky9.4`.
    pub name: String,
    /// Its CPU, as `uname -m` prints it.
    pub arch: String,
    /// Which disc of a set it is, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub disc: Option<String>,
    pub repository: PathBuf,
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    pub kept: usize,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum MediaError {
    #[error("`{path}` is not a medium that imgbuild knows: {problem}")]
    #[diagnostic(help(
        "supported media: RHEL and derivatives (.discinfo), SLES and Leap (media.1), Debian and Ubuntu (.disk/info); for others, pass --name and --arch"
    ))]
    Unknown { path: PathBuf, problem: String },
    #[error("`{path}` is for {found}, but --arch is {said}; nothing was written")]
    #[diagnostic(help("leave --arch out, or name the right medium"))]
    Other { path: PathBuf, found: String, said: String },
    #[error("the medium `{path}` is damaged: {problem}; the partial copy is kept in `{partial}`; no recipe uses it")]
    #[diagnostic(help(
        "compare it with the checksum that its distribution publishes, fetch it again, and repeat the command: it continues where it stopped"
    ))]
    Damaged {
        path: PathBuf,
        problem: String,
        /// Where its files are so far.
        partial: PathBuf,
    },
    #[error("`{path}` has {free} MB free, and the media need {needed} MB more; nothing was written")]
    #[diagnostic(help("free space there, or choose another directory with --repository"))]
    Full {
        path: PathBuf,
        /// Bytes that are free, in millions.
        free: u64,
        /// Bytes that are needed, in millions.
        needed: u64,
    },
    #[error("`{path}` cannot be written: {problem}; nothing was written")]
    #[diagnostic(help(
        "replace the link by a folder; for a repository elsewhere name its directory with --repository"
    ))]
    Linked { path: PathBuf, problem: String },
    #[error("`{path}`: {error}")]
    Io { path: PathBuf, error: std::io::Error },
}
