//! What can go wrong while an image is published.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

#[derive(Debug, Error, Diagnostic)]
pub enum Error {
    #[error("cannot {intent} `{}`: {source}", path.display())]
    #[diagnostic(
        code(publish::io),
        help("nothing that was published before is changed; repeat the command once that is mended")
    )]
    Io { intent: &'static str, path: PathBuf, source: std::io::Error },
    /// A name that a site's own files have.
    #[error("`{}` was not written by imgbuild", path.display())]
    #[diagnostic(code(publish::not_ours), help("move it away, or replace it with `--replace`"))]
    NotOurs { path: PathBuf },
    #[error("`{}` belongs to the image `{image}`", path.display())]
    #[diagnostic(code(publish::other_image), help("give each image a directory of its own"))]
    OfAnotherImage { path: PathBuf, image: String },
    #[error("{destination}: this image cannot be booted there: {problem}")]
    #[diagnostic(code(publish::unfit))]
    Unfit {
        destination: String,
        problem: String,
        #[help]
        help: String,
    },
    #[error("`{}` is not as it was built: `{file}` {problem}", path.display())]
    #[diagnostic(code(publish::damaged), help("`imgbuild build` writes it again"))]
    Damaged { path: PathBuf, file: String, problem: String },
    /// A server answered with an error, or not in the form that was expected.
    #[error("{url}: {problem}")]
    #[diagnostic(code(publish::server))]
    Server {
        url: String,
        problem: String,
        #[help]
        help: String,
    },
    /// Another tool's file that cannot be understood.
    #[error("`{}`: {problem}", path.display())]
    #[diagnostic(code(publish::foreign))]
    Foreign {
        path: PathBuf,
        problem: String,
        #[help]
        help: String,
    },
}
