//! Errors of this module, each with its remedy.

use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

#[derive(Debug, Error, Diagnostic)]
pub enum StoreError {
    #[error("cannot {intent} `{path}`: {source}")]
    #[diagnostic(code(store::io))]
    Io { intent: &'static str, path: PathBuf, source: std::io::Error },
    #[error("no space left while imgbuild tried to {intent} `{path}`")]
    #[diagnostic(
        code(store::full),
        help(
            "free some space on that file system, run `imgbuild gc`, or use a store on another one: --store DIR, or IMGBUILD_STORE=DIR in the environment; nothing was lost"
        )
    )]
    Full { intent: &'static str, path: PathBuf },
    #[error("the store is damaged: `{path}` {problem}")]
    #[diagnostic(
        code(store::damaged),
        help(
            "`imgbuild store verify --repair` removes damaged items, and the next build recreates them; if this happens again, check the disk"
        )
    )]
    Damaged { path: PathBuf, problem: String },
    #[error("the store `{path}` belongs to user {owner}, not to user {user}")]
    #[diagnostic(code(store::owner), help("choose another store with --store or IMGBUILD_STORE"))]
    Owner { path: PathBuf, owner: u32, user: u32 },
    #[error("others can replace what is in the store `{}`", path.display())]
    #[diagnostic(code(store::open), help("chmod o-w {}; where others wrote to it, remove it and build again", path.display()))]
    Open { path: PathBuf },
    #[error("`{}` is not a store: it is not empty and was not made by imgbuild", path.display())]
    #[diagnostic(code(store::not_a_store), help("name an empty or a new directory"))]
    NotAStore { path: PathBuf },
    #[error("`{}` {problem}", path.display())]
    #[diagnostic(
        code(store::not_saved),
        help("`imgbuild store save FILE` writes one; without it the next build makes everything again")
    )]
    NotSaved { path: PathBuf, problem: String },
    #[error("the store `{path}` was made with the id map `{was}`, but it would now be `{now}`")]
    #[diagnostic(
        code(store::id_map_changed),
        help("restore the earlier range in /etc/subuid and /etc/subgid, or choose another store with --store")
    )]
    IdMapChanged { path: PathBuf, was: String, now: String },
    /// A later imgbuild changed the store's form.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Newer(#[from] base::format::Newer),
    #[error("there is no place for the store: neither XDG_CACHE_HOME nor HOME is set")]
    #[diagnostic(code(store::no_home), help("name one with --store DIR or IMGBUILD_STORE"))]
    NoHome,
}

impl StoreError {
    /// Wraps an error of reading a file of the store; something else in its place is damage.
    pub fn reading(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| match source.kind() {
            std::io::ErrorKind::IsADirectory | std::io::ErrorKind::NotADirectory | std::io::ErrorKind::InvalidData => {
                Self::Damaged { path, problem: format!("cannot be read: {source}") }
            }
            _ => Self::io("read", path, source),
        }
    }

    /// Wraps an I/O error with what was being done to which file.
    pub fn io(intent: &'static str, path: impl Into<PathBuf>, source: impl Into<std::io::Error>) -> Self {
        let (path, source) = (path.into(), source.into());
        if source.kind() == std::io::ErrorKind::StorageFull {
            return Self::Full { intent, path };
        }
        Self::Io { intent, path, source }
    }
}
