//! What can go wrong with copies of images.

use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use base::digest::Sha256;
use packages::DistroError;

#[derive(Debug, Error, Diagnostic)]
pub enum FetchError {
    /// The server, or what lies between.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Server(DistroError),
    #[error("`{file}` is not at {url}: {answer}")]
    #[diagnostic(
        code(fetch::not_there),
        help(
            "give the address of a directory that `imgbuild build` published: that of its build.json, in a recipe's directory out/NAME. If it is, the image was republished meanwhile: run the command again"
        )
    )]
    NotThere { file: String, url: String, answer: String },
    #[error("cannot fetch `{file}` from {url}: {problem}")]
    #[diagnostic(
        code(fetch::unreached),
        help(
            "check that the server can be reached from here, and run the command again: what was already downloaded is kept"
        )
    )]
    Unreached { file: String, url: String, problem: String },
    #[error("`{}` is a file, but the image needs a directory", path.display())]
    #[diagnostic(code(fetch::a_file), help("give a separate directory for the image, empty or new"))]
    AFile { path: PathBuf },
    #[error("{url} {problem}")]
    #[diagnostic(
        code(fetch::not_an_image),
        help("give the address of a directory that `imgbuild build` published: that of its build.json")
    )]
    NotAnImage { url: String, problem: String },
    #[error("`{file}` of {url} has the SHA-256 {found}, but {expected} was expected")]
    #[diagnostic(
        code(fetch::digest),
        help(
            "the image may have been republished meanwhile: run the command again; if the error remains, the server's copy is damaged. The local directory is unchanged"
        )
    )]
    Digest { file: String, url: String, expected: Sha256, found: Sha256 },
    #[error("`{}` has `{file}`, which is not part of an image that imgbuild fetched", directory.display())]
    #[diagnostic(
        code(fetch::foreign),
        help("give a separate directory for the image, empty or new; nothing was changed")
    )]
    Foreign { directory: PathBuf, file: String },
    /// Something that is not ours has the name of the half that is made.
    #[error("cannot use `{}`: {problem}", path.display())]
    #[diagnostic(
        code(fetch::planted),
        help("the new files are collected there; remove it, and give a directory whose parent only you can write to")
    )]
    Planted { path: PathBuf, problem: String },
    #[error("cannot {intent} `{}`: {source}", path.display())]
    #[diagnostic(
        code(fetch::keep),
        help("the directory is unchanged; what was already downloaded is kept for the next run")
    )]
    Keep { intent: &'static str, path: PathBuf, source: std::io::Error },
    /// Another command works on the same directory.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] store::StoreError),
}

impl From<DistroError> for FetchError {
    /// In the words of a server with images.
    fn from(error: DistroError) -> Self {
        match error {
            DistroError::NotThere { file, place, answer } => Self::NotThere { file, url: place, answer },
            DistroError::Download { file, place, problem, .. } => Self::Unreached { file, url: place, problem },
            other => Self::Server(other),
        }
    }
}

/// Wraps an I/O error with what was being done to which file.
pub(super) fn keeping(intent: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FetchError + use<> {
    let path = path.to_owned();
    move |source| FetchError::Keep { intent, path, source }
}

/// The same of what may have been put there by another user.
pub(super) fn planted(intent: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FetchError + use<> {
    let path = path.to_owned();
    move |source| match source.kind() {
        std::io::ErrorKind::InvalidInput if source.get_ref().is_some() => {
            FetchError::Planted { path, problem: source.to_string() }
        }
        _ => FetchError::Keep { intent, path, source },
    }
}
