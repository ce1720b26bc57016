//! What can go wrong with registries, each with its remedy.

use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use base::digest::Sha256;

#[derive(Debug, Error, Diagnostic)]
pub enum OciError {
    #[error("cannot {doing} of {place}: {problem}")]
    #[diagnostic(
        code(oci::unreached),
        help(
            "check that the registry can be reached from here, and run the command again: what it has is not sent again, and what came is kept. For a registry with a certificate of the site's own: --ca FILE; for one without TLS: --plain-http"
        )
    )]
    Unreached { doing: String, place: String, problem: String },
    /// It wants to know who asks, or lets someone else do it.
    #[error("{registry} does not let this user {doing} `{name}`: {problem}")]
    #[diagnostic(
        code(oci::denied),
        help(
            "log in with a user who may: `podman login {registry}`, `skopeo login` or `docker login`; REGISTRY_AUTH_FILE names the file if it is not the usual one"
        )
    )]
    Denied { registry: String, name: String, doing: &'static str, problem: String },
    #[error("{place} refuses to {doing}: {problem}")]
    #[diagnostic(code(oci::refused), help("{help}"))]
    Refused { doing: String, place: String, status: u16, problem: String, help: &'static str },
    #[error("{place} does not exist: {answer}")]
    #[diagnostic(code(oci::not_there), help("{help}"))]
    NotThere { place: String, answer: String, help: String },
    #[error("{place} {problem}")]
    #[diagnostic(
        code(oci::not_an_image),
        help("name an image that `imgbuild push` sent; container images are for podman, docker and skopeo")
    )]
    NotAnImage { place: String, problem: String },
    /// Something has that name that no root file system can begin with.
    #[error("{place} {problem}")]
    #[diagnostic(code(oci::not_a_base), help("{help}"))]
    NotABase { place: String, problem: String, help: String },
    /// What is under the tag of an image's referrers is something else.
    #[error("the tag `{tag}` of {place} is not a list of what is about the image: {problem}")]
    #[diagnostic(
        code(oci::not_an_index),
        help(
            "it stays as it is; remove the tag with the registry's own tools if no other program needs it, or push to another repository"
        )
    )]
    NotAnIndex { place: String, tag: String, problem: String },
    #[error("{what} of {place} has the SHA-256 {found}, but {expected} was expected")]
    #[diagnostic(
        code(oci::digest),
        help(
            "the registry's copy is damaged, or something between changes it: push the image again, or pull it by a digest from another registry. The published image here is unchanged"
        )
    )]
    Digest { what: String, place: String, expected: Sha256, found: Sha256 },
    #[error("{registry} names the address `{address}` {problem}")]
    #[diagnostic(
        code(oci::address),
        help(
            "nothing was sent there. A registry behind a proxy must know its public address: `http.host` in its configuration, or X-Forwarded-Proto from the proxy"
        )
    )]
    Address { registry: String, address: String, problem: &'static str },
    #[error("the credentials for {registry} cannot be used: {problem}")]
    #[diagnostic(code(oci::credentials), help("log in again: `podman login {registry}` or `docker login {registry}`"))]
    Credentials { registry: String, problem: String },
    #[error("{problem}")]
    #[diagnostic(code(oci::usage), help("{help}"))]
    Usage { problem: String, help: &'static str },
    #[error("`{}` {problem}", path.display())]
    #[diagnostic(code(oci::modified), help("run `imgbuild build` to publish the image again; nothing was tagged"))]
    Modified { path: PathBuf, problem: String },
    #[error("cannot {intent} `{}`: {source}", path.display())]
    #[diagnostic(code(oci::keep), help("the published image is unchanged"))]
    Keep { intent: &'static str, path: PathBuf, source: std::io::Error },
    #[error("`{}` {problem}", path.display())]
    #[diagnostic(code(oci::layout), help("name an empty or new directory, or one in OCI's layout"))]
    Layout { path: PathBuf, problem: String },
}

impl OciError {
    /// Wraps an I/O error with what was being done to which file.
    pub fn keeping(intent: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self + use<> {
        let path = path.to_owned();
        move |source| Self::Keep { intent, path, source }
    }
}
