//! Inputs: everything that can change what an action gives.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::digest::Digest;
use crate::recipe::PinnedPackage;
use crate::source::Span;

/// Where a person wrote something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// File, relative to the recipe.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
}

impl From<&Span> for Place {
    fn from(span: &Span) -> Self {
        Self { file: span.file.name.clone(), line: span.line() }
    }
}

/// One input. Its name and value are what the key is made of; the place only serves explanations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Kind and name, separated by a blank: `package bash`, `file site/motd`, `parameter level`.
    pub name: String,
    /// Value, readable.
    pub value: String,
    /// Where it was asked for.
    pub place: Option<Place>,
}

impl Input {
    /// A setting of the recipe or of imgbuild.
    pub fn parameter(name: &str, value: impl ToString) -> Self {
        Self { name: format!("parameter {name}"), value: value.to_string(), place: None }
    }

    /// A package, pinned.
    pub fn package(package: &PinnedPackage) -> Self {
        Self {
            name: format!("package {}:{}", package.name, package.architecture),
            value: format!("{} {}", package.version, package.sha256),
            place: None,
        }
    }

    /// A file: content and permission bits without those for group and others to write (D25).
    pub fn file(name: &str, mode: u32, digest: &Digest) -> Self {
        Self { name: format!("file {name}"), value: format!("{mode:04o} {digest}"), place: None }
    }

    /// Says where it was asked for.
    pub fn at(mut self, span: Option<&Span>) -> Self {
        self.place = span.map(Place::from);
        self
    }
}

/// The permission bits of a file that count: checkouts and umasks differ in those for group and others.
pub fn counted_mode(mode: u32) -> u32 {
    mode & 0o7777 & !0o022
}

/// Hashes a file of the build host; gives the input, the mode that counts, and the content's digest.
///
/// # Errors
/// The I/O error.
pub fn file_input(name: &str, path: &Path) -> std::io::Result<(Input, u32, Digest)> {
    let (mode, digest) = crate::witness::digest(path)?;
    let mode = counted_mode(mode);
    Ok((Input::file(name, mode, &digest), mode, digest))
}
