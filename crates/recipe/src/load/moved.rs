//! Recipes that were sent to another machine: their workspace is in another directory, and what they name outside of it lies
//! below a directory, too. Messages and keys call all of it as it was called where it came from.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::inherit::relative::{between, plain};
use crate::owners::Owned;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// The workspace's directory, without links.
    pub workspace: PathBuf,
    /// What had an absolute path, without links.
    pub outside: PathBuf,
    pub was: PathBuf,
    /// User, group and mode of what has others there than the files that were made, by path.
    pub owners: BTreeMap<PathBuf, (u32, u32, u32)>,
}

static MOVED: OnceLock<Moved> = OnceLock::new();

/// Says so for all recipes that this process reads from now on.
pub fn set(moved: Moved) {
    let _ = MOVED.set(moved);
}

impl Moved {
    fn place(&self, path: &Path) -> PathBuf {
        let path = plain(path);
        if path.starts_with(&self.workspace) || path.starts_with(&self.outside) {
            return path;
        }
        // What leads out of the workspace led out of where it was.
        let above = self.workspace.parent().filter(|above| path.starts_with(above));
        let was = above.map_or(path.clone(), |_| plain(&self.was.join(between(&self.workspace, &path))));
        self.outside.join(was.strip_prefix("/").unwrap_or(&was))
    }

    fn original(&self, path: &Path) -> PathBuf {
        match (path.strip_prefix(&self.workspace), path.strip_prefix(&self.outside)) {
            (Ok(below), _) => self.was.join(below),
            (_, Ok(below)) => Path::new("/").join(below),
            _ => path.to_owned(),
        }
    }
}

pub fn place(path: PathBuf) -> PathBuf {
    MOVED.get().map_or_else(|| path.clone(), |moved| moved.place(&path))
}

/// What a path was where the recipe came from.
pub fn original(path: &Path) -> Cow<'_, Path> {
    MOVED.get().map_or(Cow::Borrowed(path), |moved| Cow::Owned(moved.original(path)))
}

pub fn is_moved() -> bool {
    MOVED.get().is_some()
}

/// Owner and mode that a file had where it came from, where git's index was read; none for what was not sent.
pub fn owned(path: &Path) -> Option<std::io::Result<Owned>> {
    let moved = MOVED.get()?;
    let of = |(uid, gid, mode): (u32, u32, u32)| Owned { uid, gid, mode: mode & 0o7777, is_tracked: false };
    let real = witness::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    if let Some(owner) = moved.owners.get(&real) {
        return Some(Ok(of(*owner)));
    }
    let is_sent = real.starts_with(&moved.workspace) || real.starts_with(&moved.outside);
    is_sent.then(|| witness::mode(path).map(|mode| of((0, 0, mode))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_recipe_names_is_found_and_called_as_before() {
        let moved = Moved {
            workspace: "/d/ws".into(),
            outside: "/d/abs".into(),
            was: "/home/a/site".into(),
            owners: BTreeMap::new(),
        };
        for (asked, found, called) in [
            ("/d/ws/files/motd", "/d/ws/files/motd", "/home/a/site/files/motd"),
            ("/d/ws/images/x/../../motd", "/d/ws/motd", "/home/a/site/motd"),
            ("/etc/hosts", "/d/abs/etc/hosts", "/etc/hosts"),
            ("/d/ws/../other/motd", "/d/abs/home/a/other/motd", "/home/a/other/motd"),
            ("/d/abs/etc/hosts", "/d/abs/etc/hosts", "/etc/hosts"),
        ] {
            assert_eq!(moved.place(Path::new(asked)), Path::new(found), "{asked}");
            assert_eq!(moved.original(Path::new(found)), Path::new(called), "{asked}");
        }
    }
}
