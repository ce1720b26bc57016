//! Files kept by content.

use std::io::{Read, Write};
use std::path::Path;

use super::{BlobRef, Store, StoreError};
use crate::digest::Digest;

impl Store {
    /// Keeps some bytes; may be repeated.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be written.
    pub fn ensure_blob(&self, bytes: &[u8]) -> Result<BlobRef, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.blob(&digest);
        if !path.is_file() {
            self.write_file(&path, bytes)?;
        }
        Ok(BlobRef { digest, size: bytes.len() as u64 })
    }

    /// Keeps a copy of a file; may be repeated.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read or written.
    pub fn ensure_blob_of(&self, file: &Path) -> Result<BlobRef, StoreError> {
        let said = |source: std::io::Error| StoreError::io("keep a copy of", file, source);
        let mut input = std::fs::File::open(file).map_err(said)?;
        let mut copy = self.half_written()?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0u8; 1 << 20];
        let mut size = 0;
        loop {
            let read = input.read(&mut buffer).map_err(said)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
            copy.write_all(&buffer[..read]).map_err(said)?;
            size += read as u64;
        }
        let digest = Digest(*hasher.finalize().as_bytes());
        let path = self.blob(&digest);
        if !path.is_file() {
            use std::os::unix::fs::PermissionsExt;
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent).map_err(said)?;
            }
            copy.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(said)?;
            copy.persist(&path).map_err(|error| said(error.error))?;
        }
        Ok(BlobRef { digest, size })
    }

    /// Checks that a package file is what its name says; one that is not is removed, to be fetched again.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it was not, [`StoreError::Io`] when it cannot be read.
    pub fn check_package(&self, digest: &crate::digest::Sha256) -> Result<(), StoreError> {
        let path = self.package(digest);
        let bytes = std::fs::read(&path).map_err(|source| StoreError::io("read", &path, source))?;
        if crate::digest::Sha256::of(&bytes) == *digest {
            return Ok(());
        }
        let _ = std::fs::remove_file(&path);
        Err(StoreError::Damaged {
            path,
            problem: "had other content than its name says, and was removed: run the build again".to_owned(),
        })
    }

    /// Reads a blob and checks that it is what its name says.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the content is another, [`StoreError::Io`] when it cannot be read.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob(digest);
        let bytes = crate::witness::read(&path).map_err(|source| StoreError::io("read", &path, source))?;
        if Digest::of(&bytes) != *digest {
            return Err(StoreError::Damaged { path, problem: "has other content than its name says".to_owned() });
        }
        Ok(bytes)
    }
}
