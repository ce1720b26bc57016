//! Files kept by content.

use std::io::{Read, Write};
use std::path::Path;

use super::{BlobRef, Store, StoreError};
use base::digest::{Digest, Sha256};

impl Store {
    /// Keeps some bytes; may be repeated. What was there under their name is read: other content is replaced.
    pub fn ensure_blob(&self, bytes: &[u8]) -> Result<BlobRef, StoreError> {
        let digest = Digest::of(bytes);
        let path = self.blob(&digest);
        if !is_there(&path, &digest, bytes.len() as u64) {
            self.write_file(&path, bytes)?;
        }
        Ok(BlobRef { digest, size: bytes.len() as u64 })
    }

    /// Keeps a copy of a file; may be repeated, as [`Store::ensure_blob`].
    pub fn ensure_blob_of(&self, file: &Path) -> Result<BlobRef, StoreError> {
        let said = |source: std::io::Error| StoreError::io("keep a copy of", file, source);
        let mut input = std::fs::File::open(file).map_err(said)?;
        let mut copy = self.half_written()?;
        let mut holes = Holes::new(copy.as_file_mut());
        let (digest, _, size) = copy_and_hash(&mut input, &mut holes).map_err(said)?;
        holes.finish().map_err(said)?;
        let path = self.blob(&digest);
        if !is_there(&path, &digest, size) {
            self.place(copy, &path)?;
        }
        Ok(BlobRef { digest, size })
    }

    /// Whether a blob is there and has the content of its name; it is read.
    pub fn is_whole_blob(&self, digest: &Digest) -> bool {
        let path = self.blob(digest);
        std::fs::metadata(&path).is_ok_and(|found| found.is_file() && is_there(&path, digest, found.len()))
    }

    /// Gives a file that is whole its place, over whatever is there.
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

    /// Takes a frame that came from elsewhere, with the text that describes it; both were checked.
    pub fn take_frame(&self, name: &Digest, file: &Path, info: &str) -> Result<(), StoreError> {
        let place = self.directory().join(Self::frame_name(name));
        let said = |source| StoreError::io("keep", &place, source);
        let mut copy = self.half_written()?;
        std::fs::copy(file, copy.path()).map_err(said)?;
        self.place(copy, &place)?;
        // What describes it comes last: a frame without it does not count.
        copy = self.half_written()?;
        std::io::Write::write_all(&mut copy, info.as_bytes()).map_err(said)?;
        self.place(copy, &place.with_extension("info"))
    }

    /// Takes away a directory that has a file's place.
    pub(super) fn clear_place(&self, place: &Path) -> Result<(), StoreError> {
        match (place.symlink_metadata(), place.strip_prefix(self.directory())) {
            (Ok(found), Ok(below)) if found.is_dir() => self.remove(&[below.to_string_lossy().into_owned()]),
            _ => Ok(()),
        }
    }

    /// Copies a blob to a new file, or shares its blocks, and compares it with its name. Gives the SHA-256.
    /// Errors: [`StoreError::Damaged`], and [`StoreError::Io`] for either file.
    pub fn copy_blob(&self, blob: &BlobRef, to: &Path) -> Result<Sha256, StoreError> {
        let path = self.blob(&blob.digest);
        let said = |source| StoreError::io("write", to, source);
        let mut file = std::fs::File::options().write(true).create_new(true).open(to).map_err(said)?;
        let mut input = match std::fs::File::open(&path) {
            Ok(input) => input,
            Err(source) if source.kind() == std::io::ErrorKind::NotFound => {
                return Err(StoreError::Damaged { path, problem: "is missing".to_owned() });
            }
            Err(source) => return Err(StoreError::reading(&path)(source)),
        };
        // Where the file system shares blocks, there is only something to read.
        let is_shared = rustix::fs::ioctl_ficlone(&file, &input).is_ok();
        let sink: &mut dyn Write = if is_shared { &mut std::io::sink() } else { &mut file };
        match copy_and_hash(&mut input, sink) {
            Ok((digest, sha256, _)) if digest == blob.digest => Ok(sha256),
            Err(source) if source.kind() != std::io::ErrorKind::IsADirectory => Err(said(source)),
            _ => Err(StoreError::Damaged { path, problem: "does not match the digest in its name".to_owned() }),
        }
    }

    /// Takes a file away that was found damaged, unless someone put a whole one into its place meanwhile.
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
            problem: "did not match the digest in its name and was removed: run the build again".to_owned(),
        })
    }

    /// Checks that a package file is what its name says; one that is not is removed, to be fetched again.
    /// Errors: [`StoreError::Damaged`] when it was not, [`StoreError::Io`] when it cannot be read.
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
    /// Errors: [`StoreError::Damaged`] when the content is another, [`StoreError::Io`] when it cannot be read.
    pub fn read_blob(&self, digest: &Digest) -> Result<Vec<u8>, StoreError> {
        let path = self.blob(digest);
        let bytes = witness::read(&path).map_err(StoreError::reading(&path))?;
        if Digest::of(&bytes) != *digest {
            return Err(StoreError::Damaged { path, problem: "does not match the digest in its name".to_owned() });
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

/// Writes a file that is empty, and leaves holes where there are only zeros: a disk image of a gigabyte may take a megabyte.
pub struct Holes<'f> {
    file: &'f mut std::fs::File,
    at: u64,
    /// Up to where the file is written.
    end: u64,
}

/// What is a hole at least, in bytes: a block of most file systems.
const HOLE: usize = 4096;

impl<'f> Holes<'f> {
    pub fn new(file: &'f mut std::fs::File) -> Self {
        Self { file, at: 0, end: 0 }
    }

    /// Gives the file its length: what ends with a hole has it otherwise too short.
    pub fn finish(self) -> std::io::Result<()> {
        if self.end < self.at { self.file.set_len(self.at) } else { Ok(()) }
    }
}

impl Write for Holes<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let mut done = 0;
        while done < bytes.len() {
            // In pieces that end where blocks end.
            let length = (HOLE - (self.at % HOLE as u64) as usize).min(bytes.len() - done);
            let piece = &bytes[done..done + length];
            if piece.iter().all(|byte| *byte == 0) {
                self.at += length as u64;
                done += length;
                continue;
            }
            // All that follows without a hole at once.
            let mut length = length;
            while done + length < bytes.len() {
                let next = &bytes[done + length..(done + length + HOLE).min(bytes.len())];
                if next.iter().all(|byte| *byte == 0) {
                    break;
                }
                length += next.len();
            }
            std::os::unix::fs::FileExt::write_all_at(self.file, &bytes[done..done + length], self.at)?;
            self.at += length as u64;
            self.end = self.at;
            done += length;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
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

#[cfg(test)]
mod tests {
    use super::Holes;
    use std::io::Write;
    use std::os::unix::fs::MetadataExt;

    #[test]
    fn zeros_become_holes_and_all_bytes_stay() {
        let zeros = |count: usize| vec![0u8; count];
        for pieces in [
            vec![zeros(10 << 20), b"end".to_vec()],
            vec![b"start".to_vec(), zeros(10 << 20)],
            vec![zeros(5), b"x".to_vec(), zeros((8 << 20) + 7), b"y".to_vec(), zeros(3 << 20)],
            vec![zeros(0)],
            vec![zeros(1)],
        ] {
            let mut file = tempfile::tempfile().unwrap();
            let mut holes = Holes::new(&mut file);
            for piece in &pieces {
                // In writes of any length.
                piece.chunks(8191).for_each(|chunk| holes.write_all(chunk).unwrap());
            }
            holes.finish().unwrap();
            let wanted = pieces.concat();
            let mut found = vec![1u8; wanted.len()];
            std::os::unix::fs::FileExt::read_exact_at(&file, &mut found, 0).unwrap();
            assert!(found == wanted);
            let metadata = file.metadata().unwrap();
            assert_eq!(metadata.len(), wanted.len() as u64);
            assert!(metadata.blocks() * 512 <= 64 << 10, "{} blocks", metadata.blocks());
        }
    }
}
