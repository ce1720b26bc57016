//! A git repository, read only: which commit a revision is, and its files. No checkout is touched and no git program runs.

mod checkout;
mod files;
mod index;
mod tree;

use std::path::{Path, PathBuf};

use miette::Diagnostic;
use thiserror::Error;

use base::failure::contained;

pub use checkout::Unlike;
pub use files::Files;
pub use index::{Tracked, is_whole, tracked, unfetched};

/// Most bytes that are written or read: recipes are text, and packages lie elsewhere.
const BYTES_LIMIT: u64 = 2 << 30;

/// Most files, links and directories.
const ENTRIES_LIMIT: usize = 200_000;
/// Largest object of any kind that is inflated, in bytes.
const OBJECT_LIMIT: u64 = 256 << 20;
/// Largest commit or tag, in bytes: a message and some names.
const COMMIT_LIMIT: u64 = 1 << 20;
/// Largest tree, in bytes: about half a million entries of one directory.
const TREE_LIMIT: u64 = 16 << 20;
/// Largest recipe or lock, in bytes.
const RECIPE_LIMIT: u64 = 64 << 20;

#[derive(Debug, Error, Diagnostic)]
pub enum GitError {
    #[error("`{}` is not in a git repository", .0.display())]
    #[diagnostic(code(git::no_repository), help("a revision can be compared only in a clone: `git init` makes one"))]
    NoRepository(PathBuf),
    #[error("the git repository `{}` has no work tree", .0.display())]
    #[diagnostic(code(git::bare), help("run it in a clone with a work tree: git clone DIRECTORY"))]
    Bare(PathBuf),
    #[error("the git repository `{}` uses the reftable format, which is not supported yet", .0.display())]
    #[diagnostic(
        code(git::reftable),
        help(
            "`git refs migrate --ref-format=files` (git 2.46 or later) rewrites them as files; or use a clone: git clone --ref-format=files"
        )
    )]
    Reftable(PathBuf),
    #[error("there is no revision `{revision}` in this repository: {reason}")]
    #[diagnostic(code(git::unknown_revision))]
    Unknown {
        revision: String,
        reason: String,
        #[help]
        help: String,
    },
    #[error("`{0}` is not a revision: is the variable it comes from set?")]
    #[diagnostic(code(git::no_revision), help("name a branch, a tag or a commit, or HEAD if that is intended"))]
    NoRevision(String),
    #[error("`{path}` of revision `{revision}` cannot be read: {reason}")]
    #[diagnostic(
        code(git::object),
        help("`git fsck` shows what is wrong with the repository; `git fetch` downloads what is missing")
    )]
    Object {
        revision: String,
        /// Path below the repository's root.
        path: String,
        reason: String,
    },
    #[error("`{path}` of revision `{revision}` is the object {id}, which has {size} bytes; the limit is {limit}")]
    #[diagnostic(code(git::object_too_large), help("no file of a recipe is that large; use another revision"))]
    LargeObject {
        revision: String,
        path: String,
        /// The object's name, in hex.
        id: String,
        /// Bytes.
        size: u64,
        /// Bytes.
        limit: u64,
    },
    #[error("revision `{revision}` has the entry `{path}` twice")]
    #[diagnostic(code(git::twice), help("no checkout can have that; `git fsck` names the tree"))]
    Twice { revision: String, path: String },
    #[error("revision `{revision}` has the entry `{path}`, which escapes the checkout")]
    #[diagnostic(code(git::entry), help("no checkout has such a file; use another revision"))]
    Entry { revision: String, path: String },
    #[error("revision `{revision}` contains more than {limit}")]
    #[diagnostic(
        code(git::too_large),
        help(
            "only what the recipes name below the workspace is read: an imgbuild.toml above the recipes makes that smaller"
        )
    )]
    TooLarge { revision: String, limit: String },
    #[error("`{}` cannot be written: {source}", path.display())]
    #[diagnostic(code(git::write), help("the files of a revision are put below $TMPDIR, or else /tmp"))]
    Write { path: PathBuf, source: std::io::Error },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    pub revision: String,
    /// The whole name of the commit, in hex.
    pub id: String,
}

#[derive(Clone)]
pub struct Repository {
    inner: gix::Repository,
    root: PathBuf,
}

impl Repository {
    /// The repository that a directory is in.
    /// Errors: [`GitError::NoRepository`], [`GitError::Bare`].
    pub fn around(directory: &Path) -> Result<Self, GitError> {
        let inner = contained(|| discover(directory)).ok().flatten();
        let inner = inner.ok_or_else(|| GitError::NoRepository(directory.to_owned()))?;
        let root = inner.workdir().and_then(|root| root.canonicalize().ok());
        let root = root.ok_or_else(|| GitError::Bare(inner.git_dir().to_owned()))?;
        Ok(Self { inner, root })
    }

    /// The root of its work tree, without links.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Finds the commit of a revision in git's words. `A...B` is where both began, `A...` where A and HEAD began.
    /// Errors: [`GitError::Reftable`]; [`GitError::NoRevision`] where nothing is named, as `""` and `...` (git would take HEAD); [`GitError::Unknown`]
    /// with what to do about it.
    pub fn commit(&self, revision: &str) -> Result<Commit, GitError> {
        if revision.split("...").next().is_none_or(|first| first.trim().is_empty()) {
            return Err(GitError::NoRevision(revision.to_owned()));
        }
        let storage = self.inner.config_snapshot().string("extensions.refStorage");
        if storage.is_some_and(|storage| storage.eq_ignore_ascii_case(b"reftable")) {
            return Err(GitError::Reftable(self.root.clone()));
        }
        // gix panics at some objects that git would call corrupt.
        contained(|| self.commit_of(revision)).unwrap_or_else(|panic| {
            let help = "`git fsck` shows which object is corrupt".to_owned();
            let reason = format!("an object on the way to it is corrupt ({panic})");
            Err(GitError::Unknown { revision: revision.to_owned(), reason, help })
        })
    }

    fn commit_of(&self, revision: &str) -> Result<Commit, GitError> {
        let unknown =
            |reason: String| GitError::Unknown { revision: revision.to_owned(), reason, help: self.help_for(revision) };
        let single = |text: &str| -> Result<gix::ObjectId, GitError> {
            let text = if text.is_empty() { "HEAD" } else { text };
            let found = self.inner.rev_parse_single(text).map_err(|error| unknown(plainly(&error)))?;
            let header = found.header().map_err(|error| unknown(format!("object {found}: {}", plainly(&error))))?;
            if header.size() > COMMIT_LIMIT {
                let (id, size, limit) = (found.to_string(), header.size(), COMMIT_LIMIT);
                return Err(GitError::LargeObject {
                    revision: revision.to_owned(),
                    path: String::new(),
                    id,
                    size,
                    limit,
                });
            }
            let object = found.object().map_err(|error| unknown(format!("object {found}: {}", plainly(&error))))?;
            let commit = object.peel_to_kind(gix::object::Kind::Commit).map_err(|error| unknown(plainly(&error)))?;
            Ok(commit.id)
        };
        let id = match revision.split_once("...") {
            Some((one, other)) => {
                let (one, other) = (single(one)?, single(other)?);
                self.inner.merge_base(one, other).map_err(|error| unknown(plainly(&error)))?.detach()
            }
            None => single(revision)?,
        };
        Ok(Commit { revision: revision.to_owned(), id: id.to_string() })
    }

    fn help_for(&self, revision: &str) -> String {
        let branch = revision.split(['~', '^', ':', '@', '.']).next().unwrap_or(revision);
        let branch = branch.strip_prefix("origin/").unwrap_or(branch);
        let branch = if branch.is_empty() || branch == "HEAD" { "BRANCH" } else { branch };
        if self.inner.is_shallow() {
            format!(
                "this clone is shallow and holds only its last commits: `git fetch --depth=100 origin {branch}` downloads more of them, `git fetch --unshallow` all (GitHub: `fetch-depth: 0` of actions/checkout; GitLab: \
                 `GIT_DEPTH: 0`)"
            )
        } else {
            format!(
                "`git fetch origin {branch}` downloads a branch, which is then called origin/{branch}; `git log --oneline` lists commits"
            )
        }
    }
}

/// Opens the repository around a directory; no object above the limit is inflated, no matter who asks for it.
fn discover(directory: &Path) -> Option<gix::Repository> {
    let bounded =
        |options: gix::open::Options| options.config_overrides([format!("gitoxide.objects.allocLimit={OBJECT_LIMIT}")]);
    let plain = gix::sec::trust::Mapping::<gix::open::Options>::default();
    let trust = gix::sec::trust::Mapping { full: bounded(plain.full), reduced: bounded(plain.reduced) };
    let found = gix::ThreadSafeRepository::discover_opts(directory, Default::default(), trust).ok()?;
    Some(found.to_thread_local())
}

/// The innermost reason of an error, in one line.
fn plainly(error: &(dyn std::error::Error + 'static)) -> String {
    let mut innermost = error;
    while let Some(inner) = innermost.source() {
        innermost = inner;
    }
    innermost.to_string().lines().next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
