//! Reads files of layers seen as one tree. Runs inside the namespace.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::{Kind, Merged, Store, merged_of};
use base::digest::Digest;
use base::failure::{DAMAGED, Failure};
use node_words::name::{bytes_of, shown};

/// Layers laid over one another, and their directories.
#[derive(Debug)]
pub struct LayerReader {
    pub tree: Arc<Merged>,
    roots: Vec<OwnedFd>,
}

impl LayerReader {
    /// Opens layers, lowest first.
    /// Errors: A text with the layer that is missing or damaged.
    pub fn open(layers: &[Digest]) -> Result<Self, String> {
        let mut roots = Vec::new();
        for digest in layers {
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let root = Store::tree_name(digest);
            roots.push(rustix::fs::open(&root, flags, Mode::empty()).map_err(|error| format!("{root}: {error}"))?);
        }
        Ok(Self { tree: merged_of(layers)?, roots })
    }

    /// Takes the tree away; files can be opened on.
    pub fn take_tree(&mut self) -> Merged {
        Arc::unwrap_or_clone(std::mem::take(&mut self.tree))
    }

    /// Opens a regular file of a layer, whose content is compared with the manifest's digest as it is read.
    /// Errors: The kernel's; a link on the way is one. At the end of the file: that it does not match its manifest.
    pub fn open_in(&self, layer: usize, path: &str, (size, expected): (u64, &Digest)) -> io::Result<Checked> {
        let root = self.roots.get(layer).ok_or(io::ErrorKind::NotFound)?;
        // A named pipe in a file's place is not waited for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file =
            rustix::fs::openat2(root, &*bytes_of(path), flags, Mode::empty(), resolve).map_err(
                |error| match error {
                    Errno::NOENT | Errno::NOTDIR | Errno::LOOP | Errno::ISDIR | Errno::NXIO => damaged(),
                    error => error.into(),
                },
            )?;
        let file = File::from(file);
        let metadata = file.metadata()?;
        if !metadata.is_file() || metadata.len() != size {
            return Err(damaged());
        }
        Ok(Checked { file, hasher: blake3::Hasher::new(), expected: *expected, done: false })
    }

    /// Reads a regular file of the tree; none where the path is no such file.
    /// Errors: The file's, with its path.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        let Some(found) = self.tree.0.get(path) else { return Ok(None) };
        let Kind::File { size, digest } = found.entry.kind else { return Ok(None) };
        let said = |error: io::Error| format!("cannot read `{path}`: {error}", path = shown(path));
        self.open_in(found.layer, path, (size, &digest)).and_then(Checked::whole).map(Some).map_err(said)
    }

    /// Names directly below a directory.
    pub fn names_in(&self, directory: &str) -> BTreeSet<String> {
        let prefix = format!("{directory}/");
        self.tree
            .0
            .range(prefix.clone()..)
            .take_while(|(path, _)| path.starts_with(&prefix))
            .filter_map(|(path, _)| path[prefix.len()..].split('/').next())
            .map(str::to_owned)
            .collect()
    }
}

fn damaged() -> io::Error {
    let words = format!("{DAMAGED}: the file does not match its manifest");
    io::Error::new(io::ErrorKind::InvalidData, Failure::Damaged.met(words))
}

/// A file of a layer; reading it to its end gives an error if it does not match the manifest.
#[derive(Debug)]
pub struct Checked {
    file: File,
    hasher: blake3::Hasher,
    expected: Digest,
    done: bool,
}

impl Checked {
    /// All of the file that was not read yet, at once.
    /// Errors: As of reading it to its end.
    pub fn whole(mut self) -> io::Result<Vec<u8>> {
        let mut bytes = Vec::with_capacity(usize::try_from(self.file.metadata()?.len()).unwrap_or(0));
        self.file.read_to_end(&mut bytes)?;
        self.hasher.update(&bytes);
        match Digest(*self.hasher.finalize().as_bytes()) == self.expected {
            true => Ok(bytes),
            false => Err(damaged()),
        }
    }
}

impl Read for Checked {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        if read == 0 && !buffer.is_empty() && !self.done {
            self.done = true;
            if Digest(*self.hasher.finalize().as_bytes()) != self.expected {
                return Err(damaged());
            }
        }
        Ok(read)
    }
}
