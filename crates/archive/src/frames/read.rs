//! Reads frames back: what an archive is made of, frame by frame.

use std::io::{self, Read};

use crate::cpio::read_entry;
use crate::{Container, container, plain};
use node_words::name::text_of;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEntry {
    /// Path without a slash in front; `.` is the root.
    pub path: String,
    pub is_directory: bool,
    /// Its bytes; of a file with several names, they come with one of them.
    pub bytes: Vec<u8>,
}

/// Largest frame that is read, in bytes before compression: what one entry of the format can hold, and its heads.
const MOST: u64 = (4 << 30) + (64 << 20);

/// All entries of a compressed frame.
/// Errors: `InvalidData` for what is no such archive; those of the compression.
pub fn read_frame(compressed: impl Read) -> io::Result<Vec<FrameEntry>> {
    let mut bytes = Vec::new();
    plain(compressed)?.take(MOST).read_to_end(&mut bytes)?;
    // The end of a tar archive is zeros alone.
    if bytes.iter().all(|byte| *byte == 0) {
        return Ok(Vec::new());
    }
    if container(&bytes) == Some(Container::Tar) {
        return read_tar_frame(&bytes);
    }
    let mut entries = Vec::new();
    let mut rest = bytes.as_slice();
    while !rest.is_empty() {
        let (name, mut reader) = read_entry(&mut rest)?;
        let entry = reader.entry();
        if entry.is_trailer() {
            break;
        }
        let path = name.trim_start_matches("./").trim_matches('/').to_owned();
        // Source of the bits: stat(2).
        let is_directory = entry.mode() & 0o170_000 == 0o040_000;
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        reader.finish()?;
        entries.push(FrameEntry { path, is_directory, bytes });
    }
    Ok(entries)
}

fn read_tar_frame(bytes: &[u8]) -> io::Result<Vec<FrameEntry>> {
    let mut archive = crate::open_tar(bytes);
    let mut entries = Vec::new();
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = text_of(&entry.path_bytes()).trim_start_matches("./").trim_matches('/').to_owned();
        let kind = entry.header().entry_type();
        let mut bytes = Vec::new();
        // As in cpio: a link's target is its content.
        match entry.link_name_bytes().filter(|_| kind.is_symlink()) {
            Some(target) => bytes.extend_from_slice(&target),
            None => drop(entry.read_to_end(&mut bytes)?),
        }
        let path = if path.is_empty() { ".".to_owned() } else { path };
        entries.push(FrameEntry { path, is_directory: kind.is_dir(), bytes });
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Compression, Stream, cut_tree};
    use base::digest::Digest;
    use store::{Entry, Kind};

    #[test]
    fn frames_of_tar_are_read_back() {
        let of = |path: &str, kind| (path.to_owned(), Entry { kind, ..Entry::whiteout() }, 0);
        let file = Kind::File { size: 4, digest: Digest::of(b"text") };
        let entries =
            vec![of(".", Kind::Directory), of("a", file), of("l", Kind::Symlink("a".to_owned())), of("p", Kind::Fifo)];
        let mut found = Vec::new();
        for frame in cut_tree(entries) {
            let mut bytes = Vec::new();
            let content = |_: &_| -> io::Result<Box<dyn Read>> { Ok(Box::new(&b"text"[..])) };
            frame.write((Stream::Tar, Compression::Zstd(1)), &mut bytes, &content).unwrap();
            found.extend(read_frame(&bytes[..]).unwrap());
        }
        let found: Vec<(&str, &[u8])> = found.iter().map(|one| (one.path.as_str(), one.bytes.as_slice())).collect();
        assert_eq!(found, [(".", &b""[..]), (".", b""), ("a", b"text"), ("l", b"a"), ("p", b"")]);
    }
}
