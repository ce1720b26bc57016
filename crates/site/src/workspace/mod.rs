//! A workspace made of a site's osimages, and kept up with what changes there.

mod again;
mod attributes;
mod copies;
mod file;
mod keep;
mod reads;
mod report;
mod write;

use std::path::PathBuf;

pub use again::brought_up_to_date;
pub use attributes::{AttributeChange, Edits};
pub use copies::write_whole;
pub use file::Wanted;
pub use keep::keep_attributes;
pub use reads::{Reads, included, reads};
pub use report::{ImportReport, ImportState, ImportedImage};
pub use write::{import, imported, stanza_text, with_wanted};

#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// The workspace, created if missing.
    pub into: PathBuf,
    /// Whether lists and synced files are copied into it; otherwise they are read where they lie.
    pub copy: bool,
    /// Whether nothing of this host is read or allowed but the files that the places name, as for definitions that someone else
    /// wrote.
    pub sealed: bool,
    /// Whether nothing is written.
    pub dry_run: bool,
}

/// Why nothing was imported.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ImportError {
    #[error("no definition of an osimage was found")]
    #[diagnostic(help(
        "pass the output of `lsdef -t osimage -z`, or of `tabdump osimage` and `tabdump linuximage`, or a directory with such files"
    ))]
    Nothing,
    #[error("`{path}`: {problem}; nothing was written")]
    Unreadable { path: PathBuf, problem: String },
    #[error("`{path}` cannot be written: {problem}; nothing was written")]
    #[diagnostic(help("replace the link by a folder, or import into another directory"))]
    Linked { path: PathBuf, problem: String },
    #[error("`{path}` cannot be written: {error}")]
    #[diagnostic(help("images reported as written are complete; fix this and run the import again"))]
    Unwritable { path: PathBuf, error: std::io::Error },
}
