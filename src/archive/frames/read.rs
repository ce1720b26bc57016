//! Reads frames back: what an archive is made of, frame by frame.

use std::io::{self, Read};

use crate::archive::cpio::read_entry;
use crate::archive::plain;

/// An entry of a frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FrameEntry {
    /// Path without a slash in front; `.` is the root.
    pub path: String,
    /// Whether it is a directory.
    pub is_directory: bool,
    /// Its bytes; of a file with several names, they come with one of them.
    pub bytes: Vec<u8>,
}

/// Largest frame that is read, in bytes before compression: what one entry of the format can hold, and its heads.
const MOST: u64 = (4 << 30) + (64 << 20);

/// All entries of a compressed frame.
///
/// # Errors
/// `InvalidData` for what is no such archive; those of the compression.
pub fn read_frame(compressed: impl Read) -> io::Result<Vec<FrameEntry>> {
    let mut bytes = Vec::new();
    plain(compressed)?.take(MOST).read_to_end(&mut bytes)?;
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
