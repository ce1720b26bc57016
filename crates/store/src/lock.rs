//! File locks that the kernel releases when their holder dies.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::StoreError;

#[derive(Debug)]
pub struct FileLock {
    file: File,
    path: PathBuf,
}

impl FileLock {
    fn open(path: &Path) -> Result<File, StoreError> {
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent).map_err(|source| StoreError::io("create the directory", parent, source))?;
        }
        // Others may write beside a name that was given: a link there is not followed, and no one waits for a pipe.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        std::os::unix::fs::OpenOptionsExt::custom_flags(
            File::options().create(true).truncate(false).write(true),
            flags.bits().cast_signed(),
        )
        .open(path)
        .map_err(|source| match source.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) {
            true => std::io::Error::other("it is a link, which is not followed: remove it"),
            false => source,
        })
        .map_err(|source| StoreError::io("open the lock", path, source))
    }

    /// Takes the lock, waiting for it.
    /// Errors: [`StoreError::Io`] when the file cannot be opened or locked.
    pub fn take(path: &Path) -> Result<Self, StoreError> {
        loop {
            let file = Self::open(path)?;
            file.lock().map_err(|source| StoreError::io("lock", path, source))?;
            if Self::is_current(&file, path) {
                return Ok(Self { file, path: path.to_owned() });
            }
        }
    }

    /// Takes the lock together with others who share it, waiting for anyone who holds it alone.
    /// Errors: As [`FileLock::take`].
    pub fn share(path: &Path) -> Result<Self, StoreError> {
        let file = Self::open(path)?;
        file.lock_shared().map_err(|source| StoreError::io("lock", path, source))?;
        Ok(Self { file, path: path.to_owned() })
    }

    /// The same for anyone who only reads; none where there is no lock and none can be made.
    /// Errors: As [`FileLock::take`].
    pub fn share_to_read(path: &Path) -> Result<Option<Self>, StoreError> {
        let Ok(file) = File::open(path) else { return Self::share(path).map(Some).or(Ok(None)) };
        file.lock_shared().map_err(|source| StoreError::io("lock", path, source))?;
        Ok(Some(Self { file, path: path.to_owned() }))
    }

    /// Takes the lock if no one holds it.
    /// Errors: As [`FileLock::take`].
    pub fn try_take(path: &Path) -> Result<Option<Self>, StoreError> {
        let file = Self::open(path)?;
        match file.try_lock() {
            Ok(()) if Self::is_current(&file, path) => Ok(Some(Self { file, path: path.to_owned() })),
            Ok(()) | Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(source)) => Err(StoreError::io("lock", path, source)),
        }
    }

    /// Whether the locked file still is the one that the path names: its last holder may have removed it.
    fn is_current(file: &File, path: &Path) -> bool {
        use std::os::unix::fs::MetadataExt;
        match (file.metadata(), std::fs::metadata(path)) {
            (Ok(held), Ok(named)) => held.dev() == named.dev() && held.ino() == named.ino(),
            _ => false,
        }
    }

    pub fn remove(self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}
