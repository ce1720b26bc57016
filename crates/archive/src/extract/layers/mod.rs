//! Layers of container images over one another. Source: opencontainers/image-spec 1.1, "Image Layer Filesystem Changeset".
//!
//! A layer is read twice: once to its end, so that it is known to be what the configuration says before anything of it is made,
//! and what it takes away is known; then it is unpacked. What a layer takes away is of the layers below, wherever in the archive
//! that stands.

#[cfg(test)]
mod tests;
mod unpack;

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};

use tar::EntryType;

use super::{clean, records};
use crate::{open_tar, over};
use base::digest::Sha256;
use node_words::name::shown;

/// Start of the names that take something away, and the name that takes away all that a directory had.
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// Names that aufs kept for itself.
const RESERVED: &str = ".wh..wh.";

/// Folders in one another at most.
const DEEPEST: usize = 256;
/// Bytes of a path and of a name at most. Source: limits.h, PATH_MAX and NAME_MAX; what takes a name away has four more.
const LONGEST_PATH: usize = 4096;
const LONGEST_NAME: usize = 255 + WHITEOUT.len();

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerLook {
    /// Paths that it takes away.
    pub gone: BTreeSet<String>,
    /// Directories of which it takes all that was in them.
    pub emptied: BTreeSet<String>,
    /// Device nodes below /dev, which are left out.
    pub devices: BTreeSet<String>,
    pub size: LayerSize,
}

/// Bytes and entries of a layer, or how many it may have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LayerSize {
    /// Bytes, not compressed.
    pub bytes: u64,
    /// Files, directories, whiteouts, ..
    pub entries: u64,
}

/// Hashes and counts what is read, up to a limit.
struct Hashed<R> {
    inner: R,
    hasher: sha2::Sha256,
    bytes: u64,
    most: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        sha2::Digest::update(&mut self.hasher, &buffer[..read]);
        self.bytes += read as u64;
        if self.bytes > self.most { Err(over(self.most, "unpacked bytes")) } else { Ok(read) }
    }
}

/// A layer without its compression, which its first bytes tell.
pub fn plain_layer<'a>(file: impl Read + 'a) -> std::io::Result<Box<dyn Read + 'a>> {
    let mut file = BufReader::with_capacity(1 << 17, file);
    let start = file.fill_buf()?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable(start) {
        Box::new(zstd::Decoder::with_buffer(file)?)
    } else {
        Box::new(file)
    })
}

/// Whether it begins with what decoders of zstd skip: zstd:chunked does. Source: RFC 8878, 3.1.2.
fn is_skippable(start: &[u8]) -> bool {
    start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18]
}

enum Part {
    Gone(String),
    Emptied(String),
    Reserved,
    Made(String),
}

fn part_of(path: &[u8]) -> Result<Part, String> {
    let path = clean(path)?;
    if path.len() > LONGEST_PATH || path.split('/').any(|part| part.len() > LONGEST_NAME) {
        let start: String = path.chars().take(60).collect();
        return Err(format!("`{}..` is longer than a path can be", shown(&start)));
    }
    if path.split('/').count() > DEEPEST {
        return Err(format!("`{}` is more than {DEEPEST} folders deep", shown(&path)));
    }
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
    if parent.split('/').any(|part| part.starts_with(WHITEOUT)) {
        return Err(format!("`{}` is below a name that takes something away", shown(&path)));
    }
    let below = |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
    Ok(match name.strip_prefix(WHITEOUT) {
        None => Part::Made(path),
        Some(_) if name == OPAQUE => Part::Emptied(parent.to_owned()),
        Some(_) if name.starts_with(RESERVED) => Part::Reserved,
        Some("" | "." | "..") => return Err(format!("`{}` takes away what is not a name", shown(&path))),
        Some(name) => Part::Gone(below(name)),
    })
}

/// Reads a layer to its end, compares it with its digest, and says what it takes away. Nothing is made.
/// Errors: A text that says what is wrong with it: its digest, an entry that no image can have, more of it than `most`.
pub fn look_at_layer(stream: &mut dyn Read, expected: &Sha256, most: LayerSize) -> Result<LayerLook, String> {
    let mut look = LayerLook::default();
    let mut hashed = Hashed { inner: stream, hasher: sha2::Digest::new(), bytes: 0, most: most.bytes };
    let mut count = 0;
    let mut archive = open_tar(&mut hashed);
    let damaged = |error: std::io::Error| format!("the archive is damaged: {error}");
    // Bytes that are not what they should be are said to be that, whatever they look like.
    let mut problem = None;
    for entry in archive.entries().map_err(damaged)? {
        let one = entry.map_err(damaged).and_then(|mut entry| {
            count += 1;
            if count > most.entries {
                return Err(over(most.entries, "entries").to_string());
            }
            look_at(&mut entry, &mut look)
        });
        if let Err(said) = one {
            problem = Some(said);
            break;
        }
    }
    drop(archive);
    let rest = std::io::copy(&mut hashed, &mut std::io::sink());
    let found = Sha256(sha2::Digest::finalize(hashed.hasher).into());
    if rest.is_ok() && found != *expected && !fault::planted("unchecked-layer") {
        return Err(format!("its content has the SHA-256 {found}, but the configuration says {expected} (diff_id)"));
    }
    match (problem, rest) {
        (Some(said), _) => Err(said),
        (None, Err(error)) => Err(damaged(error)),
        (None, Ok(_)) => {
            look.size = LayerSize { bytes: hashed.bytes, entries: count };
            Ok(look)
        }
    }
}

fn look_at<R: Read>(entry: &mut tar::Entry<'_, R>, look: &mut LayerLook) -> Result<(), String> {
    let path = entry.path_bytes().into_owned();
    let kind = entry.header().entry_type();
    if kind == EntryType::XGlobalHeader {
        return Ok(());
    }
    let path = match part_of(&path)? {
        Part::Gone(path) => {
            look.gone.insert(path);
            return Ok(());
        }
        Part::Emptied(path) => {
            look.emptied.insert(path);
            return Ok(());
        }
        Part::Reserved => return Ok(()),
        Part::Made(path) => path,
    };
    // GNU tar's files with holes in PAX archives: a map stands before their data, under another name.
    if records(entry, &path)?.iter().any(|(key, _)| key.starts_with("GNU.sparse.")) {
        return Err(format!("`{}` is a file with holes (GNU.sparse), which is not supported", shown(&path)));
    }
    match kind {
        EntryType::Directory | EntryType::Regular | EntryType::Continuous | EntryType::Symlink | EntryType::Fifo => {}
        EntryType::Link => {
            let to = entry.link_name_bytes().ok_or_else(|| format!("the link `{}` has no target", shown(&path)))?;
            clean(&to)?;
        }
        // A node's kernel makes its own.
        EntryType::Char | EntryType::Block if path.starts_with("dev/") => {
            look.devices.insert(path);
        }
        other => {
            return Err(format!(
                "`{}` is a special file ({other:?}): device nodes are supported below /dev alone, where nodes make their own, and files with holes nowhere",
                shown(&path)
            ));
        }
    }
    Ok(())
}
