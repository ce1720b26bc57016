//! What is sent to a registry or a layout, and asked of one.

use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Mutex;

use super::document::{Descriptor, Manifest};
use super::error::OciError;
use base::digest::Sha256;
use packages::Progress;

const CONNECTIONS: usize = 4;

#[derive(Debug, Clone)]
pub enum Content {
    Bytes(Vec<u8>),
    /// So many bytes of a file as the descriptor says, from one on.
    Part(PathBuf, u64),
}

impl Content {
    /// A reader from the first byte on.
    /// Errors: Those of the file.
    pub fn open(&self, size: u64) -> std::io::Result<Box<dyn Read>> {
        match self {
            Self::Bytes(bytes) => Ok(Box::new(std::io::Cursor::new(bytes.clone()))),
            Self::Part(path, from) => Ok(Box::new(At { file: File::open(path)?, at: *from }.take(size))),
        }
    }

    /// Compares it with what is said of it.
    /// Errors: [`OciError::Modified`], [`OciError::Keep`].
    pub fn check(&self, blob: &Descriptor) -> Result<(), OciError> {
        let Self::Part(path, _) = self else { return Ok(()) };
        let mut hasher: sha2::Sha256 = sha2::Digest::new();
        let mut reader = self.open(blob.size).map_err(OciError::keeping("read", path))?;
        let mut buffer = vec![0; 1 << 20];
        loop {
            match reader.read(&mut buffer).map_err(OciError::keeping("read", path))? {
                0 => break,
                read => sha2::Digest::update(&mut hasher, &buffer[..read]),
            }
        }
        match Sha256(sha2::Digest::finalize(hasher).into()) == blob.digest {
            true => Ok(()),
            false => {
                let problem = "is not as it was published: its SHA-256 differs".to_owned();
                Err(OciError::Modified { path: path.clone(), problem })
            }
        }
    }
}

/// A file read from a byte on, wherever others read.
pub(super) struct At {
    pub file: File,
    pub at: u64,
}

impl Read for At {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read_at(buffer, self.at)?;
        self.at += read as u64;
        Ok(read)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    There,
    Mounted,
    Sent,
}

/// Hears of bytes that went.
pub type Moved<'a> = &'a (dyn Fn(u64) + Sync);

/// A reader that says how much was read.
pub(super) struct Counted<'a> {
    pub reader: Box<dyn Read + 'a>,
    pub moved: Moved<'a>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        (self.moved)(read as u64);
        Ok(read)
    }
}

pub trait Destination: Sync {
    /// Takes a blob, unless it has it; `moved` hears of bytes as they go.
    fn take(&self, blob: &Descriptor, content: &Content, moved: Moved<'_>) -> Result<Kept, OciError>;

    /// Takes the manifest of something that is about what is pushed, which may not be there yet.
    fn attach(&self, about: &Manifest) -> Result<(), OciError>;

    /// Takes the manifest and gives it its name: what is pushed exists from now on.
    fn finish(&self, manifest: &[u8], digest: Sha256) -> Result<(), OciError>;
}

pub trait Source: Sync {
    fn place(&self) -> String;

    /// The manifest's bytes.
    fn manifest(&self) -> Result<Vec<u8>, OciError>;

    /// Manifests of what is about a manifest, of some kinds, by digest: its referrers.
    fn attached(&self, _subject: &Sha256, _kinds: &[&str]) -> Result<Vec<Manifest>, OciError> {
        Ok(Vec::new())
    }

    fn read(&self, blob: &Descriptor, what: &str) -> Result<Vec<u8>, OciError>;

    /// Writes a blob to where it belongs in a file, compared with its digest.
    fn write(&self, blob: &Descriptor, what: &str, to: &File, from: u64) -> Result<(), OciError>;
}

#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize)]
pub struct Sent {
    /// Digest of the manifest, `sha256:..`.
    pub digest: String,
    /// Blobs in all, and their bytes.
    pub blobs: usize,
    pub size: u64,
    pub blobs_sent: usize,
    pub sent: u64,
    pub blobs_mounted: usize,
}

/// Sends what is missing, several blobs at a time, and then the manifest.
/// Errors: The first [`OciError`]: nothing has a name then.
pub fn send(
    to: &dyn Destination,
    blobs: &[(Descriptor, Content)],
    manifest: &Manifest,
    progress: &dyn Progress,
) -> Result<Sent, OciError> {
    send_with(to, blobs, manifest, &[], progress)
}

/// The same with what is about it: all of it is there before the manifest has its name.
/// Errors: As [`send`].
pub fn send_with(
    to: &dyn Destination,
    blobs: &[(Descriptor, Content)],
    manifest: &Manifest,
    attached: &[Manifest],
    progress: &dyn Progress,
) -> Result<Sent, OciError> {
    let bytes = manifest.bytes();
    let digest = Sha256::of(&bytes);
    let size = blobs.iter().map(|(blob, _)| blob.size).sum();
    let sent = Mutex::new(Sent { digest: format!("sha256:{digest}"), blobs: blobs.len(), size, ..Sent::default() });
    // Blobs that are there, their bytes, and bytes of those that are on their way.
    let done = Mutex::new((0, 0, 0u64));
    let news = |more: usize, bytes: u64, moved: u64| {
        if let Ok(mut done) = done.lock() {
            *done = (done.0 + more, done.1 + bytes, (done.2 + moved).saturating_sub(bytes));
            progress.downloaded(done.0, blobs.len(), size.min(done.1 + done.2), size);
        }
    };
    news(0, 0, 0);
    let one = |(blob, content): &(Descriptor, Content)| -> Result<(), OciError> {
        let kept = to.take(blob, content, &|moved| news(0, 0, moved))?;
        if let Ok(mut sent) = sent.lock() {
            match kept {
                Kept::There => {}
                Kept::Mounted => sent.blobs_mounted += 1,
                Kept::Sent => {
                    sent.blobs_sent += 1;
                    sent.sent += blob.size;
                }
            }
        }
        news(1, blob.size, 0);
        Ok(())
    };
    side_by_side(blobs, &one)?;
    fault::point("oci.blobs-sent");
    attached.iter().try_for_each(|one| to.attach(one))?;
    to.finish(&bytes, digest)?;
    Ok(sent.into_inner().unwrap_or_default())
}

/// Does something with all, several at a time; the first error ends it.
pub fn side_by_side<T: Sync>(all: &[T], one: &(dyn Fn(&T) -> Result<(), OciError> + Sync)) -> Result<(), OciError> {
    packages::side_by_side(all, CONNECTIONS, &|item, _| one(item))
}
