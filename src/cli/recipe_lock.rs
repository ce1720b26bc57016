//! One at a time: commands that read a recipe's files and write them again.

use std::fs::File;
use std::path::Path;

use crate::recipe::Workspace;

/// The turn to edit the recipes of a workspace, or of a directory that lies in none; it ends when this is dropped.
pub struct RecipeLock {
    _held: Option<File>,
}

impl RecipeLock {
    /// Waits for the turn. The directory itself is locked, so that no file is left behind. Where the file system cannot lock
    /// a directory (NFS), there is no turn: anyone who writes compares what it read with what is there.
    pub fn take(directory: &Path) -> Self {
        let root = Workspace::root_of(directory).unwrap_or_else(|| directory.to_owned());
        let locked = File::open(root).and_then(|file| file.lock().map(|()| file));
        Self { _held: locked.ok() }
    }
}
