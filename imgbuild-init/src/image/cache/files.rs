//! Files of a disk that anybody may have written: links are not followed, and nothing but plain files is opened.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use crate::image::index::INDEX_LIMIT;

/// Bytes at a frame's beginning that tell whether it was ever written.
const PROBE: usize = 4096;

/// Opens a plain file. A pipe would wait for a writer for ever.
pub(super) fn open(path: &Path, options: &mut std::fs::OpenOptions) -> io::Result<File> {
    let file = options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, format!("{} is not a file", path.display()))),
    }
}

/// A text no longer than an index may be; empty if it is missing.
pub(super) fn text(path: &Path) -> String {
    let mut bytes = Vec::new();
    let read = open(path, File::options().read(true)).and_then(|file| file.take(INDEX_LIMIT).read_to_end(&mut bytes));
    read.ok().and_then(|_| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// Writes a file, whole or not at all.
pub(super) fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside = path.with_extension("new");
    let written = std::fs::remove_file(&aside)
        .or_else(|error| if error.kind() == io::ErrorKind::NotFound { Ok(()) } else { Err(error) })
        .and_then(|()| open(&aside, File::options().write(true).create_new(true)))
        .and_then(|mut file| io::Write::write_all(&mut file, bytes))
        .and_then(|()| std::fs::rename(&aside, path));
    written.inspect_err(|_| drop(std::fs::remove_file(&aside)))
}

/// A folder, made if it is not there; nothing else may have its name.
pub(super) fn folder(path: &Path) -> io::Result<()> {
    match path.symlink_metadata() {
        Ok(found) if found.is_dir() => Ok(()),
        Ok(_) => Err(io::Error::new(io::ErrorKind::NotADirectory, format!("{} is not a directory", path.display()))),
        Err(_) => std::fs::DirBuilder::new().mode(0o700).create(path),
    }
}

/// Names in a folder; none where it is something else.
pub(super) fn names(path: &Path) -> Vec<String> {
    let is_folder = path.symlink_metadata().is_ok_and(|found| found.is_dir());
    let entries = is_folder.then(|| std::fs::read_dir(path)).into_iter().flatten().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

/// Where the bytes of a frame are said to be.
#[derive(Debug, Clone)]
pub(super) struct Held {
    /// A frame's own file, or an image.
    pub file: PathBuf,
    /// Where in it.
    pub offset: u64,
    /// How many bytes.
    pub size: u64,
    /// What the file is.
    pub kind: Kind,
}

/// What has the bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A plain file of a disk that anybody may have written.
    File,
    /// A block device that the kernel made of the image that runs.
    Device,
}

impl Held {
    /// Its bytes, whatever they are.
    pub(super) fn bytes(&self) -> io::Result<Vec<u8>> {
        let size = usize::try_from(self.size).map_err(io::Error::other)?;
        let mut file = self.open()?;
        // Before anything is taken of memory. A device has its length at its end alone.
        let length = match self.kind {
            Kind::File => file.metadata()?.len(),
            Kind::Device => io::Seek::seek(&mut file, io::SeekFrom::End(0))?,
        };
        if length < self.offset.saturating_add(self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut bytes = vec![0; size];
        file.read_exact_at(&mut bytes, self.offset).map(|()| bytes)
    }

    fn open(&self) -> io::Result<File> {
        match self.kind {
            Kind::File => open(&self.file, File::options().read(true)),
            Kind::Device => File::open(&self.file),
        }
    }

    /// Whether anything was ever written there: an image that was begun has room for all frames.
    pub(super) fn is_written(&self) -> bool {
        let mut probe = [0; PROBE];
        let probe = &mut probe[..usize::try_from(self.size).unwrap_or(PROBE).min(PROBE)];
        let read = self.open().and_then(|file| file.read_exact_at(probe, self.offset));
        read.is_ok() && probe.iter().any(|byte| *byte != 0)
    }
}
