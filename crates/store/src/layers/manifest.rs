//! The canonical manifest: the truth of a layer (D6).
//!
//! Text, one entry a line, sorted by path, fields separated by tabs:
//!
//! ```text
//! imgbuild manifest 1
//! usr/bin/ping  f  755  0  0  1700000000  90568  <blake3>  -  security.capability=<hex>
//! ```
//!
//! Fields: path without leading slash (`.` is the root), kind, permission bits in octal, owner, group, mtime in
//! seconds, size in bytes or device number, content digest or link target, first path of the hard-link group,
//! xattrs as `name=hex` joined by commas. `-` stands for what a kind does not have. Tab, newline, backslash and
//! other control bytes in names are written `\xHH`, and so are bytes that are not UTF-8.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};

use base::digest::Digest;
use node_words::name::{byte_of, text_of};

/// The id that chown(2) takes for none.
const NO_ID: u32 = u32::MAX;

const FIRST_LINE: &str = "imgbuild manifest 1";

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    Directory,
    /// A regular file: size in bytes and content.
    File {
        /// Bytes.
        size: u64,
        digest: Digest,
    },
    Symlink(String),
    /// A character device: major, minor.
    Character(u32, u32),
    /// A block device: major, minor.
    Block(u32, u32),
    Fifo,
    Socket,
    /// Says that a lower layer's path is gone.
    Whiteout,
}

/// What an entry does to a tree that a layer is laid over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// It is a directory, and what was in it stays.
    Directory,
    /// It is something else, in which nothing can be.
    Other,
    /// It is gone, with all below it.
    Gone,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub kind: Kind,
    /// Permission bits, set-id and sticky bits included.
    pub mode: u32,
    /// Owner, as root inside sees it.
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970, clamped to the image's epoch.
    pub mtime: i64,
    /// First path of the hard-link group, if it has several names.
    pub link_group: Option<String>,
    pub xattrs: BTreeMap<String, Vec<u8>>,
}

impl Entry {
    pub fn whiteout() -> Self {
        Self { kind: Kind::Whiteout, mode: 0, uid: 0, gid: 0, mtime: 0, link_group: None, xattrs: BTreeMap::new() }
    }

    /// Whether a layer of an image can have such an entry: what `verify` would call damaged is not taken.
    pub fn check(&self, path: &str) -> Result<(), &'static str> {
        let plain = |part: &str| !matches!(part, "" | "." | "..");
        if path != "." && !path.split('/').all(plain) || path.contains('\0') {
            return Err("is not a path of an image");
        }
        if self.mode & !0o7777 != 0 {
            return Err("has an invalid mode");
        }
        if self.uid == NO_ID || self.gid == NO_ID {
            return Err("has an invalid owner");
        }
        match &self.kind {
            Kind::Symlink(target) if target.is_empty() || target.contains('\0') => Err("points nowhere"),
            _ => Ok(()),
        }
    }

    /// Bytes of a regular file, counted at the first of its names.
    pub fn file_bytes(&self, path: &str) -> u64 {
        match self.kind {
            Kind::File { size, .. } if self.link_group.as_ref().is_none_or(|group| group == path) => size,
            _ => 0,
        }
    }

    pub fn place(&self) -> Place {
        match self.kind {
            Kind::Directory => Place::Directory,
            Kind::Whiteout => Place::Gone,
            _ => Place::Other,
        }
    }

    pub fn is_directory(&self) -> bool {
        self.kind == Kind::Directory
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Manifest(pub BTreeMap<String, Entry>);

/// Why a manifest's text cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("line {line}: {problem}")]
pub struct ManifestError {
    line: usize,
    problem: &'static str,
}

fn escape(text: &str, out: &mut String) {
    for character in text.chars() {
        match character {
            '\\' | ',' | '=' => {
                let _ = write!(out, "\\x{:02x}", character as u32);
            }
            control if (control as u32) < 0x20 || control as u32 == 0x7f => {
                let _ = write!(out, "\\x{:02x}", control as u32);
            }
            other => match byte_of(other) {
                Some(byte) => {
                    let _ = write!(out, "\\x{byte:02x}");
                }
                None => out.push(other),
            },
        }
    }
}

fn unescape(text: &str) -> Option<String> {
    if !text.contains('\\') {
        return Some(text.to_owned());
    }
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let code = rest.get(at + 2..at + 4)?;
        if rest.as_bytes().get(at + 1) != Some(&b'x') {
            return None;
        }
        let byte = u8::from_str_radix(code, 16).ok()?;
        // From 0x80 on it is a byte of a name that is not UTF-8.
        if byte.is_ascii() {
            out.push(char::from(byte))
        } else {
            out.push_str(&text_of(&[byte]))
        }
        rest = &rest[at + 4..];
    }
    out.push_str(rest);
    Some(out)
}

#[derive(Debug, Default)]
pub(crate) struct Lines {
    count: usize,
    last: String,
}

impl Lines {
    /// Takes a line without its end; gives its entry, which comes behind all that were before. The first line has none.
    /// Errors: [`ManifestError`] as of [`Manifest::parse`].
    pub(crate) fn next(&mut self, line: &str) -> Result<Option<(String, Entry)>, ManifestError> {
        self.next_as(line, entry_of)
    }

    /// As [`Self::next`], of an entry only what decides where a tree has others.
    /// Errors: [`ManifestError`]; what the other fields say is not read.
    pub(crate) fn next_place(&mut self, line: &str) -> Result<Option<(String, Place)>, ManifestError> {
        self.next_as(line, place_of)
    }

    fn next_as<T>(
        &mut self,
        line: &str,
        read: fn(&str) -> Result<(String, T), &'static str>,
    ) -> Result<Option<(String, T)>, ManifestError> {
        self.count += 1;
        if self.count == 1 {
            return if line == FIRST_LINE { Ok(None) } else { Err(NO_MANIFEST) };
        }
        let wrong = |problem| ManifestError { line: self.count, problem };
        let (path, entry) = read(line).map_err(wrong)?;
        if self.count > 2 && path <= self.last {
            return Err(wrong("the path appears twice or out of order"));
        }
        self.last.clone_from(&path);
        Ok(Some((path, entry)))
    }

    /// No line follows.
    /// Errors: [`ManifestError`] where there was none.
    pub(crate) fn end(&self) -> Result<(), ManifestError> {
        if self.count == 0 { Err(NO_MANIFEST) } else { Ok(()) }
    }
}

const NO_MANIFEST: ManifestError = ManifestError { line: 1, problem: "this is not a manifest of format 1" };

/// What a line says of its path alone.
fn place_of(line: &str) -> Result<(String, Place), &'static str> {
    let mut fields = line.split('\t');
    let path = fields.next().unwrap_or_default();
    let place = match fields.next().ok_or("there must be ten fields")? {
        "d" => Place::Directory,
        "w" => Place::Gone,
        "f" | "l" | "c" | "b" | "p" | "s" => Place::Other,
        _ => return Err("unknown kind"),
    };
    Ok((unescape(path).ok_or("the path is badly escaped")?, place))
}

fn entry_of(line: &str) -> Result<(String, Entry), &'static str> {
    let mut fields = line.split('\t');
    let fields: [&str; 10] = std::array::from_fn(|_| fields.next().unwrap_or_default());
    let [path, kind, mode, uid, gid, mtime, third, fourth, group, xattrs] = fields;
    if line.bytes().filter(|byte| *byte == b'\t').count() != 9 {
        return Err("there must be ten fields");
    }
    let device = || {
        let (major, minor) = third.split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    };
    let kind = match kind {
        "d" => Kind::Directory,
        "f" => Kind::File {
            size: third.parse().map_err(|_| "the size is not a number")?,
            digest: Digest::parse(fourth).map_err(|_| "the digest is invalid")?,
        },
        "l" => Kind::Symlink(unescape(fourth).ok_or("the link target is badly escaped")?),
        "c" | "b" => {
            let (major, minor) = device().ok_or("the device number is invalid")?;
            if kind == "c" { Kind::Character(major, minor) } else { Kind::Block(major, minor) }
        }
        "p" => Kind::Fifo,
        "s" => Kind::Socket,
        "w" => Kind::Whiteout,
        _ => return Err("unknown kind"),
    };
    let link_group = match group {
        "-" => None,
        text => Some(unescape(text).ok_or("the hard-link group is badly escaped")?),
    };
    let mut attributes = BTreeMap::new();
    if xattrs != "-" {
        for pair in xattrs.split(',') {
            let (name, value) = pair.split_once('=').ok_or("an xattr has no value")?;
            let name = unescape(name).ok_or("an xattr's name is badly escaped")?;
            attributes.insert(
                name,
                HEXLOWER_PERMISSIVE.decode(value.as_bytes()).map_err(|_| "an xattr's value is not hexadecimal")?,
            );
        }
    }
    let entry = Entry {
        kind,
        mode: u32::from_str_radix(mode, 8).map_err(|_| "the mode is not an octal number")?,
        uid: uid.parse().map_err(|_| "the owner is not a number")?,
        gid: gid.parse().map_err(|_| "the group is not a number")?,
        mtime: mtime.parse().map_err(|_| "the time is not a number")?,
        link_group,
        xattrs: attributes,
    };
    Ok((unescape(path).ok_or("the path is badly escaped")?, entry))
}

impl Manifest {
    pub fn to_text(&self) -> String {
        let mut out = String::with_capacity(self.0.len() * 160 + 32);
        out.push_str(FIRST_LINE);
        out.push('\n');
        for (path, entry) in &self.0 {
            escape(path, &mut out);
            let (kind, third, fourth) = match &entry.kind {
                Kind::Directory => ('d', "-".to_owned(), None),
                Kind::File { size, digest } => ('f', size.to_string(), Some(digest.to_string())),
                Kind::Symlink(target) => ('l', "-".to_owned(), Some(target.clone())),
                Kind::Character(major, minor) => ('c', format!("{major}:{minor}"), None),
                Kind::Block(major, minor) => ('b', format!("{major}:{minor}"), None),
                Kind::Fifo => ('p', "-".to_owned(), None),
                Kind::Socket => ('s', "-".to_owned(), None),
                Kind::Whiteout => ('w', "-".to_owned(), None),
            };
            let _ = write!(out, "\t{kind}\t{:o}\t{}\t{}\t{}\t{third}\t", entry.mode, entry.uid, entry.gid, entry.mtime);
            match fourth {
                Some(text) => escape(&text, &mut out),
                None => out.push('-'),
            }
            out.push('\t');
            match &entry.link_group {
                Some(group) => escape(group, &mut out),
                None => out.push('-'),
            }
            out.push('\t');
            if entry.xattrs.is_empty() {
                out.push('-');
            }
            for (index, (name, value)) in entry.xattrs.iter().enumerate() {
                if index > 0 {
                    out.push(',');
                }
                escape(name, &mut out);
                out.push('=');
                HEXLOWER.encode_append(value, &mut out);
            }
            out.push('\n');
        }
        out
    }

    /// Reads the canonical text.
    /// Errors: [`ManifestError`] with the line for anything that [`Manifest::to_text`] does not write.
    pub fn parse(text: &str) -> Result<Self, ManifestError> {
        let mut entries = BTreeMap::new();
        let mut lines = Lines::default();
        for line in text.lines() {
            entries.extend(lines.next(line)?);
        }
        lines.end()?;
        Ok(Self(entries))
    }

    /// Bytes of its regular files; those with several names count once.
    pub fn file_bytes(&self) -> u64 {
        self.0.iter().map(|(path, entry)| entry.file_bytes(path)).sum()
    }

    pub fn digest(&self) -> Digest {
        Digest::of(self.to_text().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_entry() -> impl Strategy<Value = Entry> {
        let kind = prop_oneof![
            Just(Kind::Directory),
            (any::<u64>(), any::<[u8; 32]>()).prop_map(|(size, bytes)| Kind::File { size, digest: Digest(bytes) }),
            "[^\0]{1,20}".prop_map(Kind::Symlink),
            (any::<u32>(), any::<u32>()).prop_map(|(major, minor)| Kind::Character(major, minor)),
            Just(Kind::Whiteout),
        ];
        let xattrs = proptest::collection::btree_map("[a-z.=,]{1,9}", any::<Vec<u8>>(), 0..3);
        (kind, 0u32..0o10000, any::<u32>(), any::<i64>(), proptest::option::of("[^\0-]{1,9}"), xattrs).prop_map(
            |(kind, mode, uid, mtime, link_group, xattrs)| Entry { kind, mode, uid, gid: 7, mtime, link_group, xattrs },
        )
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(
            entries in proptest::collection::btree_map("[^\0]{1,30}", any_entry(), 0..8)
        ) {
            let manifest = Manifest(entries);
            let text = manifest.to_text();
            prop_assert_eq!(&Manifest::parse(&text).unwrap(), &manifest);
            // The places alone are those of the entries.
            let mut lines = Lines::default();
            let places: Vec<_> = text.lines().filter_map(|line| lines.next_place(line).unwrap()).collect();
            let expected: Vec<_> = manifest.0.iter().map(|(path, entry)| (path.clone(), entry.place())).collect();
            prop_assert_eq!(places, expected);
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "\\PC{0,200}") {
            let text = format!("{FIRST_LINE}\n{text}");
            let _ = Manifest::parse(&text);
            let mut lines = Lines::default();
            text.lines().for_each(|line| drop(lines.next_place(line)));
        }
    }
}
