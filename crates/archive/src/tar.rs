//! tar in its pax interchange format, entry by entry. Source: POSIX.1-2017, pax, "pax Interchange Format"; extended
//! attributes as `SCHILY.xattr.`, which GNU tar (`--xattrs --xattrs-include='*'`) and bsdtar read.
//!
//! The headers are the `tar` crate's; what it leaves to its user is done here: records for what a header has no place for,
//! content counted, and no end of archive after each frame.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use tar::{EntryType, Header};

use node_words::name::bytes_of;
use store::{Entry, Kind};

/// Version of how tar is written; part of the keys of its frames. 1: first; 2: frames of zstd have whole blocks; 3: they are compressed
/// as a whole.
pub const TAR_VERSION: u32 = 3;

/// Bytes of a block.
const BLOCK: u64 = 512;
/// Bytes of a name, or of a link's target, that a header holds.
const NAME: usize = 100;
/// Largest owner that a header holds: seven octal digits.
const OWNER: u32 = 0o7_777_777;
/// Largest size and time that a header holds: eleven octal digits.
const NUMBER: u64 = 0o77_777_777_777;

/// Records of a pax header, in order.
#[derive(Default)]
struct Records(Vec<u8>);

impl Records {
    /// Adds a record: its length in decimal, its own digits counted, a blank, the key, `=`, the value, a newline.
    fn add(&mut self, key: &str, value: &[u8]) {
        let rest = key.len() + value.len() + 3;
        let mut length = rest;
        while length != rest + length.to_string().len() {
            length = rest + length.to_string().len();
        }
        self.0.extend_from_slice(format!("{length} {key}=").as_bytes());
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }

    /// Adds a name that a header has no place for.
    fn add_name(&mut self, key: &str, name: &[u8]) {
        if std::str::from_utf8(name).is_err() {
            self.add("hdrcharset", b"BINARY");
        }
        self.add(key, name);
    }
}

fn pad(out: &mut dyn Write, size: u64) -> io::Result<()> {
    let left = usize::try_from(size.next_multiple_of(BLOCK) - size).unwrap_or(0);
    out.write_all(&[0; BLOCK as usize][..left])
}

/// A name in a field of a header, as much of it as there is place for.
fn field(place: &mut [u8], name: &[u8]) {
    let most = place.len().min(name.len());
    place[..most].copy_from_slice(&name[..most]);
}

/// Writes one entry; `content` is the file's, where it is a file and not a further name of `link_to`.
/// Errors: `InvalidData` when the content is not as long as the entry says, `InvalidInput` for what tar cannot hold: a socket.
pub fn write_entry(
    out: &mut dyn Write,
    path: &str,
    entry: &Entry,
    link_to: Option<&str>,
    content: Option<Box<dyn Read + '_>>,
) -> io::Result<()> {
    let mut header = Header::new_ustar();
    let mut records = Records::default();
    let mut target = None;
    let mut size = 0;
    let kind = match &entry.kind {
        _ if link_to.is_some() => {
            target = link_to;
            EntryType::Link
        }
        Kind::Directory => EntryType::Directory,
        Kind::File { size: own, .. } => {
            size = *own;
            EntryType::Regular
        }
        Kind::Symlink(to) => {
            target = Some(to);
            EntryType::Symlink
        }
        Kind::Character(major, minor) | Kind::Block(major, minor) => {
            header.set_device_major(*major)?;
            header.set_device_minor(*minor)?;
            if matches!(entry.kind, Kind::Character(..)) { EntryType::Char } else { EntryType::Block }
        }
        Kind::Fifo => EntryType::Fifo,
        Kind::Socket | Kind::Whiteout => return Err(io::ErrorKind::InvalidInput.into()),
    };
    let name = bytes_of(path);
    let mut name = if path == "." { b"./".to_vec() } else { name.into_owned() };
    if kind == EntryType::Directory && name.last() != Some(&b'/') {
        name.push(b'/');
    }
    let target = target.map(bytes_of).unwrap_or_default();
    if name.len() > NAME {
        records.add_name("path", &name);
    }
    if target.len() > NAME {
        records.add_name("linkpath", &target);
    }
    if size > NUMBER {
        records.add("size", size.to_string().as_bytes());
    }
    let mtime = u64::try_from(entry.mtime).ok().filter(|time| *time <= NUMBER);
    if mtime.is_none() {
        records.add("mtime", entry.mtime.to_string().as_bytes());
    }
    for (key, owner) in [("uid", entry.uid), ("gid", entry.gid)] {
        if owner > OWNER {
            records.add(key, owner.to_string().as_bytes());
        }
    }
    // A further name has the attributes of the first.
    let none = BTreeMap::new();
    for (key, value) in if link_to.is_some() { &none } else { &entry.xattrs } {
        records.add(&format!("SCHILY.xattr.{key}"), value);
    }
    if !records.0.is_empty() {
        let mut pax = Header::new_ustar();
        pax.set_entry_type(EntryType::XHeader);
        pax.set_size(records.0.len() as u64);
        pax.set_mode(0o644);
        pax.set_mtime(0);
        field(&mut pax.as_old_mut().name, &[b"PaxHeaders/", &name[..]].concat());
        pax.set_cksum();
        out.write_all(pax.as_bytes())?;
        out.write_all(&records.0)?;
        pad(out, records.0.len() as u64)?;
    }
    header.set_entry_type(kind);
    header.set_size(size.min(NUMBER));
    header.set_mode(entry.mode);
    header.set_mtime(mtime.unwrap_or(0));
    header.set_uid(u64::from(entry.uid.min(OWNER)));
    header.set_gid(u64::from(entry.gid.min(OWNER)));
    field(&mut header.as_old_mut().name, &name);
    field(&mut header.as_old_mut().linkname, &target);
    header.set_cksum();
    out.write_all(header.as_bytes())?;
    if size > 0 {
        let content = content.ok_or(io::ErrorKind::InvalidInput)?;
        let written = io::copy(&mut content.take(size + 1), out)?;
        if written != size {
            let problem = if written < size { "shorter" } else { "longer" };
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!("the file is {problem} than in its manifest"),
            ));
        }
        pad(out, size)?;
    }
    Ok(())
}

/// Writes the end of the archive: two blocks of zeros.
/// Errors: The sink's.
pub fn write_trailer(out: &mut dyn Write) -> io::Result<()> {
    out.write_all(&[0; 2 * BLOCK as usize])
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::digest::Digest;

    fn file(size: u64) -> Entry {
        Entry { kind: Kind::File { size, digest: Digest::of(b"") }, mode: 0o4755, mtime: 7, ..Entry::whiteout() }
    }

    #[test]
    fn a_file_of_another_length_is_an_error() {
        for content in [&b"ab"[..], b"abcd"] {
            let error = write_entry(&mut Vec::new(), "x", &file(3), None, Some(Box::new(content))).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let socket = Entry { kind: Kind::Socket, ..Entry::whiteout() };
        assert_eq!(
            write_entry(&mut Vec::new(), "x", &socket, None, None).unwrap_err().kind(),
            io::ErrorKind::InvalidInput
        );
    }

    #[test]
    fn what_headers_have_no_place_for_is_in_records() {
        let mut out = Vec::new();
        let long = format!("a/{}/caf\u{e9}", "n".repeat(120));
        let mut entry = Entry { uid: 3_000_000, gid: 33, mtime: -5, ..file(3) };
        entry.xattrs.insert("user.note".to_owned(), b"\0\xff".to_vec());
        write_entry(&mut out, &long, &entry, None, Some(Box::new(&b"abc"[..]))).unwrap();
        write_entry(&mut out, "b", &entry, Some(&long), None).unwrap();
        let link = Entry { kind: Kind::Symlink("t".repeat(150)), ..Entry::whiteout() };
        write_entry(&mut out, "link", &link, None, None).unwrap();
        write_trailer(&mut out).unwrap();
        assert_eq!(out.len() % 512, 0);
        let mut archive = tar::Archive::new(&out[..]);
        let mut entries = archive.entries().unwrap();
        let mut first = entries.next().unwrap().unwrap();
        assert_eq!(first.path().unwrap().to_str(), Some(&long[..]));
        let records: Vec<(String, Vec<u8>)> = first
            .pax_extensions()
            .unwrap()
            .unwrap()
            .map(|record| {
                record.map(|record| (record.key().unwrap().to_owned(), record.value_bytes().to_vec())).unwrap()
            })
            .collect();
        let value = |key: &str| records.iter().find(|record| record.0 == key).map(|record| record.1.clone());
        assert_eq!(value("SCHILY.xattr.user.note"), Some(b"\0\xff".to_vec()));
        assert_eq!(value("mtime"), Some(b"-5".to_vec()));
        assert_eq!(value("uid"), Some(b"3000000".to_vec()));
        let mut text = String::new();
        first.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        let second = entries.next().unwrap().unwrap();
        assert_eq!(second.header().entry_type(), EntryType::Link);
        assert_eq!(second.link_name_bytes().unwrap(), long.as_bytes());
        let third = entries.next().unwrap().unwrap();
        assert_eq!(third.link_name_bytes().unwrap().len(), 150);
        assert!(entries.next().is_none());
    }
}
