//! Reads cpio archives in the `newc` form that other programs wrote.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::read_entry;
use node_words::name::text_of;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    Directory,
    /// A regular file with its bytes.
    File(Vec<u8>),
    Symlink(String),
    Special,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// Permission bits, with set-id and sticky.
    pub mode: u32,
    pub content: Content,
}

/// Several names of one file: the bytes come with one of them.
#[derive(Default)]
struct Linked {
    bytes: Vec<u8>,
    names: Vec<String>,
}

/// Reads an archive that is not compressed, by paths without a slash in front; the root itself is left out. All names of
/// a hard link get its bytes.
/// Errors: `InvalidData` for what is no such archive and for paths that lead upwards; the reader's.
pub fn read_archive(input: &mut dyn Read) -> io::Result<BTreeMap<String, Found>> {
    let mut found = BTreeMap::new();
    let mut linked: BTreeMap<(u32, u32, u32), Linked> = BTreeMap::new();
    let mut input = input;
    loop {
        let (name, mut reader) = read_entry(input)?;
        let entry = reader.entry();
        if entry.is_trailer() {
            break;
        }
        let name = name.trim_start_matches("./").trim_matches('/').to_owned();
        if name.split('/').any(|part| part == "..") && !fault::planted("cpio-leads-out") {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("the path `{name}` escapes its root")));
        }
        let (mode, links) = (entry.mode(), entry.nlink());
        let file = (entry.dev_major(), entry.dev_minor(), entry.ino());
        let size = entry.file_size();
        let mut bytes = Vec::new();
        reader.read_to_end(&mut bytes)?;
        if bytes.len() != size as usize {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("`{name}` is truncated")));
        }
        input = reader.finish()?.into_inner().1;
        if name.is_empty() || name == "." {
            continue;
        }
        // Source: stat(2).
        let content = match mode & 0o170_000 {
            0o040_000 => Content::Directory,
            0o120_000 => Content::Symlink(text_of(&bytes).trim_end_matches('\0').to_owned()),
            0o100_000 => {
                if links > 1 {
                    let group = linked.entry(file).or_default();
                    group.names.push(name.clone());
                    if !bytes.is_empty() {
                        group.bytes.clone_from(&bytes);
                    }
                }
                Content::File(bytes)
            }
            _ => Content::Special,
        };
        found.insert(name, Found { mode: mode & 0o7777, content });
    }
    for Linked { bytes, names } in linked.into_values() {
        for name in names {
            if let Some(Found { content: Content::File(own), .. }) = found.get_mut(&name) {
                own.clone_from(&bytes);
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, Head, write_entry, write_trailer};

    fn archive(entries: &[(&str, u32, u32, &[u8])]) -> Vec<u8> {
        let mut out = Vec::new();
        for (path, inode, links, bytes) in entries {
            let head = Head { inode: *inode, links: *links, mode: 0o644, uid: 7, gid: 7, mtime: 7 };
            write_entry(&mut out, path, head, Body::File(bytes.len() as u64, Some(Box::new(*bytes)))).unwrap();
        }
        write_trailer(&mut out).unwrap();
        out
    }

    #[test]
    fn all_names_of_a_hard_link_have_its_bytes() {
        let bytes = archive(&[("./a", 5, 2, b""), ("b/c", 5, 2, b"text"), ("d", 6, 1, b"")]);
        let found = read_archive(&mut &bytes[..]).unwrap();
        let text = |name: &str| found[name].content.clone();
        assert_eq!((text("a"), text("b/c")), (Content::File(b"text".to_vec()), Content::File(b"text".to_vec())));
        assert_eq!(text("d"), Content::File(Vec::new()));
        assert_eq!(found.len(), 3);
    }

    #[test]
    fn what_is_no_archive_is_an_error() {
        let bytes = archive(&[("a", 1, 1, b"text")]);
        for bad in [&b""[..], b"gibberish, and long enough to be a header of some kind", &bytes[..bytes.len() / 2]] {
            assert!(read_archive(&mut &bad[..]).is_err());
        }
        let bytes = archive(&[("a/../../b", 1, 1, b"text")]);
        assert!(read_archive(&mut &bytes[..]).unwrap_err().to_string().contains("escapes its root"));
    }
}
