//! Whose the state is: one directory is written by a server that runs as an account of its own, and by root's commands. What root writes
//! there belongs to the owner of the directory.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use rustix::fs::{Gid, Mode, OFlags, Uid, fchown, open};

use super::{State, StateError};
use crate::fault;

/// Gives a file to the owner of a directory, if this process may do so and has to.
pub(super) fn as_directory(file: &File, directory: &Path) -> io::Result<()> {
    let (owner, found) = (std::fs::metadata(directory)?, file.metadata()?);
    // A file with several names may be another place's.
    if !rustix::process::geteuid().is_root() || found.uid() == owner.uid() || found.is_file() && found.nlink() > 1 {
        return Ok(());
    }
    fchown(file, Some(Uid::from_raw(owner.uid())), Some(Gid::from_raw(owner.gid()))).map_err(io::Error::from)
}

/// Opens a file of the state; a new one has mode 0644. The account that the directory belongs to may have put there what it likes, and who
/// reads may be root: a link is not followed, and no pipe is waited for.
pub(super) fn opened(path: &Path, flags: OFlags) -> io::Result<File> {
    let other = || io::Error::new(io::ErrorKind::InvalidInput, "it is a link, or no file");
    let link = if fault::planted("state-follows-links") { OFlags::empty() } else { OFlags::NOFOLLOW };
    let file = match open(path, flags | link | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::from_raw_mode(0o644)) {
        Err(rustix::io::Errno::LOOP) => return Err(other()),
        opened => File::from(opened?),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(other()) }
}

/// The bytes of a file of the state.
pub(super) fn bytes(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    opened(path, OFlags::RDONLY)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Gives a file or a directory to an account. Links are left alone, and so are files with several names: they may be another place's.
fn give(path: &Path, (uid, gid): (u32, u32)) -> io::Result<()> {
    let file = match open(path, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty()) {
        Err(rustix::io::Errno::LOOP) => return Ok(()),
        opened => File::from(opened?),
    };
    let found = file.metadata()?;
    if !found.is_dir() && (!found.is_file() || found.nlink() != 1) {
        return Ok(());
    }
    fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(io::Error::from)
}

impl State {
    /// Makes the directory, and gives it to the account that the server will run as; what is the account's already is left as it is.
    /// Errors: It cannot be made or given.
    pub fn hand_to(&self, account: (u32, u32)) -> Result<(), StateError> {
        self.make()?;
        let owner = std::fs::metadata(&self.directory).map_err(StateError::of("read", &self.directory))?;
        if owner.uid() == account.0 {
            return Ok(());
        }
        // The directory comes last: until then no one else puts anything there.
        for entry in walkdir::WalkDir::new(&self.directory).follow_links(false).contents_first(true) {
            let entry = entry.map_err(|error| StateError::of("read", &self.directory)(error.into()))?;
            give(entry.path(), account).map_err(StateError::of("give to the server's account", entry.path()))?;
            fault::point("state.given");
        }
        Ok(())
    }

    /// Whether this process may write what a server writes. That a disk is full is said when something is lost.
    /// Errors: It may not.
    pub fn try_to_write(&self) -> Result<(), StateError> {
        self.make()?;
        let made = tempfile::Builder::new().prefix(crate::files::TEMPORARY).tempfile_in(&self.directory);
        match made.map(drop) {
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                Err(StateError::of("write in", &self.directory)(error))
            }
            _ => Ok(()),
        }
    }
}
