//! One at a time: commands that read a recipe's files and write them again.

use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::Command;
use std::sync::{Mutex, PoisonError};

use rustix::io::{FdFlags, fcntl_setfd};

use recipe::Workspace;

/// Number of the descriptor by which a command that imgbuild runs has its turn.
const LENT: &str = "IMGBUILD_TURN";

/// The descriptor that commands of this process get.
static LENDING: Mutex<Option<i32>> = Mutex::new(None);

/// The turn to edit the recipes of a workspace, or of a directory that lies in none; it ends when this is dropped.
pub(crate) struct RecipeLock {
    held: Option<File>,
}

impl RecipeLock {
    /// Waits for the turn, unless the command that runs this one lent it. The directory itself is locked, so that no file is left
    /// behind. Where the file system cannot lock a directory (NFS), there is no turn: anyone who writes compares what it read with
    /// what is there.
    pub(crate) fn take(directory: &Path) -> Self {
        let root = Workspace::root_of(directory).unwrap_or_else(|| directory.to_owned());
        if is_lent(&root) {
            return Self { held: None };
        }
        let locked = File::open(root).and_then(|file| file.lock().map(|()| file));
        Self { held: locked.ok() }
    }

    /// Lends the turn to commands of imgbuild that this process runs, see [`lend`]. They keep it where this process is killed: what
    /// comes next waits for their end.
    pub(crate) fn with_commands(self) -> Self {
        if let Some(file) = &self.held
            && fcntl_setfd(file, FdFlags::empty()).is_ok()
        {
            *LENDING.lock().unwrap_or_else(PoisonError::into_inner) = Some(file.as_raw_fd());
        }
        self
    }
}

impl Drop for RecipeLock {
    fn drop(&mut self) {
        let number = self.held.as_ref().map(File::as_raw_fd);
        let mut lending = LENDING.lock().unwrap_or_else(PoisonError::into_inner);
        lending.take_if(|lent| Some(*lent) == number);
    }
}

/// Names the turn of this process, where it lends it, to a command of imgbuild, which would wait for it for ever.
pub(crate) fn lend(command: &mut Command) {
    if let Some(number) = *LENDING.lock().unwrap_or_else(PoisonError::into_inner) {
        command.env(LENT, number.to_string());
    }
}

/// Whether the descriptor that was named is that of the directory.
fn is_lent(root: &Path) -> bool {
    let of = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let lent = std::env::var(LENT).ok().and_then(|number| number.parse::<u32>().ok());
    lent.is_some_and(|number| {
        let found = of(&Path::new("/proc/self/fd").join(number.to_string()));
        found.is_some() && found == of(root)
    })
}
