//! What can go wrong while a bill is written.

use std::io;
use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

#[derive(Debug, Error, Diagnostic)]
pub enum BillError {
    #[error("cannot read `{}`: {source}", path.display())]
    #[diagnostic(code(bill::read))]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is not a published image: {problem}", path.display())]
    #[diagnostic(
        code(bill::not_an_image),
        help(
            "name an image, or a directory that `imgbuild build`, `fetch` or `pull` wrote: the one with its build.json"
        )
    )]
    NotAnImage { path: PathBuf, problem: String },
    #[error("`{}` is not as it was published: `{file}` {problem}", path.display())]
    #[diagnostic(
        code(bill::damaged),
        help("`imgbuild verify` lists all that differs; `imgbuild build`, `fetch` or `pull` replaces it")
    )]
    Damaged { path: PathBuf, file: String, problem: String },
    /// The packed image, or the package database in it.
    #[error("what `{}` contains is unknown: {problem}", path.display())]
    #[diagnostic(code(bill::contents), help("name an image that imgbuild built: its package database must be whole"))]
    Contents { path: PathBuf, problem: String },
}
