//! Files kept by content.

use std::io::{Read, Write};
use std::path::Path;

use super::{BlobRef, Store, StoreError};
use crate::digest::{Digest, Sha256};
use crate::fault;

impl Store {
    /// Keeps some bytes; may be repeated. What was there under their name is read: other content is replaced.
    ///
    /// # Errors
    /// [`StoreError`] when they cannot be written.
    pub fn ensure_blob(&self, bytes: &[u8]) -> Result<BlobRef, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.blob(&digest);
        if !is_there(&path, &digest, bytes.len() as u64) {
            self.write_file(&path, bytes)?;
        }
        Ok(BlobRef { digest, size: bytes.len() as u64 })
    }

    /// Keeps a copy of a file; may be repeated, as [`Store::ensure_blob`].
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be read or written.
    pub fn ensure_blob_of(&self, file: &Path) -> Result<BlobRef, StoreError> {
        let said = |source: std::io::Error| StoreError::io("keep a copy of", file, source);
        let mut input = std::fs::File::open(file).map_err(said)?;
        let mut copy = self.half_written()?;
        let (digest, _, size) = copy_and_hash(&mut input, &mut copy).map_err(said)?;
        let path = self.blob(&digest);
        if !is_there(&path, &digest, size) {
            self.place(copy, &path)?;
        }
        Ok(BlobRef { digest, size })
    }

    /// Gives a file that is whole its place, over whatever is there.
    ///
    /// # Errors
    /// [`StoreError`] when that cannot be.
    pub(super) fn place(&self, copy: tempfile::NamedTempFile, place: &Path) -> Result<(), StoreError> {
        use std::os::unix::fs::PermissionsExt;
        let said = |source| StoreError::io("write", place, source);
        let parent = place.parent().unwrap_or(self.directory());
        std::fs::create_dir_all(parent).map_err(said)?;
        copy.as_file().set_permissions(std::fs::Permissions::from_mode(0o644)).map_err(said)?;
        copy.as_file().sync_all().map_err(said)?;
        fault::point("store.before-rename");
        self.clear_place(place)?;
        copy.persist(place).map_err(|error| said(error.error))?;
        std::fs::File::open(parent).and_then(|directory| directory.sync_all()).map_err(said)
    }

    /// Takes away a directory that has a file's place.
    pub(super) fn clear_place(&self, place: &Path) -> Result<(), StoreError> {
        match (place.symlink_metadata(), place.strip_prefix(self.directory())) {
            (Ok(found), Ok(below)) if found.is_dir() => self.remove(&[below.to_string_lossy().into_owned()]),
            _ => Ok(()),
        }
    }

    /// Copies a blob to a new file, or shares its blocks, and compares it with its name. Gives the SHA-256.
    ///
    /// # Errors
    /// [`StoreError::Damaged`], and [`StoreError::Io`] for either file.
    pub fn copy_blob(&self, blob: &BlobRef, to: &Path) -> Result<Sha256, StoreError> {
        let path = self.blob(&blob.digest);
        let said = |source| StoreError::io("write", to, source);
        let mut file = std::fs::File::options().write(true).create_new(true).open(to).map_err(said)?;
        let mut input = match std::fs::File::open(&path) {
            Ok(input) => input,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Damaged { path, problem: "is gone".to_owned() });
            }
            Err(source) => return Err(StoreError::reading(&path)(source)),
        };
        // Where the file system shares blocks, there is only something to read.
        let is_shared = rustix::fs::ioctl_ficlone(&file, &input).is_ok();
        let sink: &mut dyn Write = if is_shared { &mut std::io::sink() } else { &mut file };
        match copy_and_hash(&mut input, sink) {
            Ok((digest, sha256, _)) if digest == blob.digest => Ok(sha256),
            Err(source) if source.kind() != std::io::ErrorKind::IsADirectory => Err(said(source)),
            _ => Err(StoreError::Damaged { path, problem: "has other content than its name says".to_owned() }),
        }
    }

    /// Takes a file away that was found damaged, unless somebody put a whole one into its place meanwhile.
    fn take_away(&self, path: &Path, is_whole: &dyn Fn(&Path) -> bool) -> Result<(), StoreError> {
        use rustix::fs::{CWD, RenameFlags};
        let said = |source: std::io::Error| StoreError::io("remove", path, source);
        let aside = tempfile::Builder::new().prefix("gone-").tempdir_in(self.aside_directory()?).map_err(said)?;
        let out = aside.path().join("file");
        match std::fs::rename(path, &out) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => return Err(said(source)),
            _ => {}
        }
        if is_whole(&out) {
            // Where another one came in the meantime, that one stays.
            let _ = rustix::fs::renameat_with(CWD, &out, CWD, path, RenameFlags::NOREPLACE);
            return Ok(());
        }
        Err(StoreError::Damaged {
            path: path.to_owned(),
            problem: "had other content than its name says, and was removed: run the build again".to_owned(),
        })
    }

    /// Checks that a package file is what its name says; one that is not is removed, to be fetched again.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it was not, [`StoreError::Io`] when it cannot be read.
    pub fn check_package(&self, digest: &Sha256) -> Result<(), StoreError> {
        let path = self.package(digest);
        let read = |path: &Path| std::fs::File::open(path).and_then(super::sha256_of);
        match read(&path) {
            Ok(found) if found == *digest => Ok(()),
            Err(source) if source.kind() != std::io::ErrorKind::IsADirectory => {
                Err(StoreError::io("read", &path, source))
            }
            _ => self.take_away(&path, &|out| read(out).is_ok_and(|found| found == *digest)),
        }
    }

    /// Reads a blob and checks that it is what its name says.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when the content is another, [`StoreError::Io`] when it cannot be read.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob(digest);
        let bytes = crate::witness::read(&path).map_err(StoreError::reading(&path))?;
        if Digest::of(&bytes) != *digest {
            return Err(StoreError::Damaged { path, problem: "has other content than its name says".to_owned() });
        }
        Ok(bytes)
    }
}

/// Whether a file has the content that its name promises.
fn is_there(path: &Path, digest: &Digest, size: u64) -> bool {
    let is_file = path.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() == size);
    let read = || -> std::io::Result<Digest> {
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::open(path)?)?;
        Ok(Digest(*hasher.finalize().as_bytes()))
    };
    is_file && read().is_ok_and(|found| found == *digest)
}

/// Copies all of it; gives BLAKE3, SHA-256 and the number of bytes.
pub(super) fn copy_and_hash(from: &mut dyn Read, to: &mut dyn Write) -> std::io::Result<(Digest, Sha256, u64)> {
    use sha2::Digest as _;
    let (mut blake, mut sha) = (blake3::Hasher::new(), sha2::Sha256::new());
    let mut buffer = vec![0u8; 1 << 18];
    let mut size = 0;
    loop {
        let read = from.read(&mut buffer)?;
        if read == 0 {
            break;
        }
        blake.update(&buffer[..read]);
        sha.update(&buffer[..read]);
        to.write_all(&buffer[..read])?;
        size += read as u64;
    }
    Ok((Digest(*blake.finalize().as_bytes()), Sha256(sha.finalize().into()), size))
}
