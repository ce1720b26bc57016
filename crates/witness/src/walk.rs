//! Recorded directory walks.

use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};

use super::kind::Kind;
use super::read::{list, metadata_of};
use super::stamp::Stamp;

#[derive(Debug, Clone)]
pub struct Found {
    pub path: PathBuf,
    /// Its kind; for a link that is followed, the kind of its target.
    pub kind: Kind,
    pub is_link: bool,
    /// How deep below the start; the start has 0.
    pub depth: usize,
}

#[derive(Debug, thiserror::Error)]
pub enum WalkProblem {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
    #[error("{} points back to {}, which contains it", path.display(), ancestor.display())]
    Loop { path: PathBuf, ancestor: PathBuf },
}

impl WalkProblem {
    /// Whether it is a link below the start that leads nowhere, or back: what it could lead to is not there, or is found elsewhere.
    pub fn is_of_link(&self, start: &Path) -> bool {
        match self {
            Self::Loop { .. } => true,
            Self::Io { path, error } => path != start && error.kind() == io::ErrorKind::NotFound,
        }
    }
}

#[derive(Clone, Copy)]
pub struct Walk<'a> {
    follow: bool,
    depth: usize,
    enter: &'a dyn Fn(usize, &OsStr) -> bool,
}

/// A walk through a directory and all below it, sorted by name, directories before what is in them. Links are not
/// followed, but for the start itself.
pub fn walk<'a>() -> Walk<'a> {
    Walk { follow: false, depth: usize::MAX, enter: &|_, _| true }
}

impl<'a> Walk<'a> {
    pub fn following(self) -> Self {
        Self { follow: true, ..self }
    }

    pub fn at_most(self, depth: usize) -> Self {
        Self { depth, ..self }
    }

    /// Leaves out what the filter does not let pass, given depth and name, and all below it.
    pub fn only(self, enter: &'a dyn Fn(usize, &OsStr) -> bool) -> Self {
        Self { enter, ..self }
    }

    pub fn through(self, start: &Path) -> Vec<Result<Found, WalkProblem>> {
        let mut found = Vec::new();
        let kind = match metadata_of(start) {
            Ok(stamp) => stamp,
            Err(error) => return vec![Err(WalkProblem::Io { path: start.to_owned(), error })],
        };
        self.one(
            Found { path: start.to_owned(), kind: Kind::of_mode(kind.mode), is_link: false, depth: 0 },
            &mut Vec::new(),
            &mut found,
        );
        found
    }

    fn one(self, here: Found, above: &mut Vec<(PathBuf, Stamp)>, found: &mut Vec<Result<Found, WalkProblem>>) {
        let (path, depth) = (here.path.clone(), here.depth);
        let goes_in = here.kind == Kind::Directory && depth < self.depth;
        if goes_in && self.follow {
            let stamp = match metadata_of(&path) {
                Ok(stamp) => stamp,
                Err(error) => return found.push(Err(WalkProblem::Io { path, error })),
            };
            let same = |other: &Stamp| (other.device, other.inode) == (stamp.device, stamp.inode);
            if here.is_link
                && let Some((ancestor, _)) = above.iter().find(|(_, other)| same(other))
            {
                let ancestor = ancestor.clone();
                return found.push(Err(WalkProblem::Loop { path, ancestor }));
            }
            above.push((path.clone(), stamp));
        }
        found.push(Ok(here));
        if !goes_in {
            return;
        }
        match list(&path) {
            Err(error) => found.push(Err(WalkProblem::Io { path, error })),
            Ok(names) => {
                for (name, kind) in names.into_iter().filter(|(name, _)| (self.enter)(depth + 1, name)) {
                    let below = path.join(name);
                    let is_link = kind == Kind::Link;
                    let kind = if is_link && self.follow {
                        match metadata_of(&below) {
                            Ok(stamp) => Kind::of_mode(stamp.mode),
                            Err(error) => {
                                found.push(Err(WalkProblem::Io { path: below, error }));
                                continue;
                            }
                        }
                    } else {
                        kind
                    };
                    self.one(Found { path: below, kind, is_link, depth: depth + 1 }, above, found);
                }
            }
        }
        if self.follow {
            above.pop();
        }
    }
}
