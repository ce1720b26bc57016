//! What packed trees hold, entry by entry, without unpacking them: owners and modes as they were packed.

use std::io::{self, Read};
use std::rc::Rc;

use node_words::name::text_of;

use crate::cpio::read_entry;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Path without a slash or `./` in front; empty for the root.
    pub path: String,
    /// Type and permission bits, as stat(2) has them.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Seconds since 1970 when the content was changed.
    pub mtime: i64,
    /// Target of a link, where the archive keeps it apart from the content: a symbolic link of tar.
    pub target: Option<String>,
    /// Which other path has the content: a hard link of tar.
    pub same_as: Option<String>,
    /// Number of the file in the archive, and how many names it has: hard links of cpio.
    pub file: Option<(u64, u32)>,
    /// Device number: major, minor.
    pub device: (u32, u32),
    /// Extended attributes, where the archive has them.
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// Longest name of a file, in bytes. Source: Linux, include/uapi/linux/limits.h, NAME_MAX.
const LONGEST_NAME: usize = 255;
/// Longest path, in bytes: the kernel's PATH_MAX, where bytes that are no UTF-8 stand as four.
const LONGEST_PATH: usize = 4 * 4095;

/// What a directory of a file system names, until it is looked at. The directory's path is there once for all of them, so that
/// an image cannot ask for more memory than a few times its own bytes.
#[derive(Debug)]
pub(crate) struct Named<Inode> {
    directory: Rc<str>,
    name: Box<str>,
    pub inode: Inode,
}

impl<Inode> Named<Inode> {
    pub(crate) fn root(inode: Inode) -> Self {
        Self { directory: "".into(), name: "".into(), inode }
    }

    /// A name in a directory.
    /// Errors: `InvalidData` for what no system can name.
    pub(crate) fn new(directory: &Rc<str>, name: &[u8], inode: Inode) -> io::Result<Self> {
        let text = text_of(name);
        if name.len() > LONGEST_NAME || directory.len() + text.len() >= LONGEST_PATH {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a path is longer than the limit of 4095 bytes"));
        }
        Ok(Self { directory: directory.clone(), name: text.into(), inode })
    }

    /// Its path; empty for the root.
    pub(crate) fn path(&self) -> String {
        if self.directory.is_empty() { self.name.to_string() } else { format!("{}/{}", self.directory, self.name) }
    }
}

pub type Look<'a> = dyn FnMut(&Listed, &mut dyn Read) -> io::Result<()> + 'a;

/// `./a//b/.` as `a/b`, so that no name has two forms; `..` stays, for anyone who looks to refuse.
fn clean(path: &str) -> String {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").collect::<Vec<_>>().join("/")
}

/// Lists an archive in cpio's `newc` form that is not compressed.
/// Errors: `InvalidData` for what is no such archive; the reader's and `look`'s.
pub(crate) fn list_cpio(input: &mut dyn Read, look: &mut Look<'_>) -> io::Result<()> {
    let mut input = input;
    loop {
        let (name, mut reader) = read_entry(input)?;
        let entry = reader.entry();
        if entry.is_trailer() {
            return Ok(());
        }
        let path = clean(&name);
        let listed = Listed {
            path,
            mode: entry.mode(),
            uid: entry.uid(),
            gid: entry.gid(),
            size: u64::from(entry.file_size()),
            mtime: i64::from(entry.mtime()),
            target: None,
            same_as: None,
            file: (entry.nlink() > 1 && entry.mode() & 0o170_000 == 0o100_000).then(|| {
                let device = u64::from(entry.dev_major()) << 16 | u64::from(entry.dev_minor());
                (device << 32 | u64::from(entry.ino()), entry.nlink())
            }),
            device: (entry.rdev_major(), entry.rdev_minor()),
            xattrs: Vec::new(),
        };
        look(&listed, &mut reader)?;
        // What was not looked at is still to be read.
        io::copy(&mut reader, &mut io::sink())?;
        input = reader.finish()?.into_inner().1;
    }
}

/// Lists a tar archive that is not compressed; extended attributes are those of GNU tar's `SCHILY.xattr`.
/// Errors: As [`list_cpio`].
pub(crate) fn list_tar(input: &mut dyn Read, look: &mut Look<'_>) -> io::Result<()> {
    // Source: tar(5), POSIX.1 pax headers, and stat(2) for the bits of types.
    let mut archive = super::guard::open_tar(input);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let mut xattrs: Vec<(String, Vec<u8>)> = Vec::new();
        for record in entry.pax_extensions()?.into_iter().flatten().flatten() {
            let Ok(key) = record.key() else { continue };
            // Their content begins with a map, which a reader that does not know it takes for the file's own.
            if key.starts_with("GNU.sparse.") {
                let problem =
                    "it contains a sparse file in pax format, which is not supported: pack it without --sparse";
                return Err(io::Error::new(io::ErrorKind::Unsupported, problem));
            }
            if let Some(name) = key.strip_prefix("SCHILY.xattr.") {
                xattrs.push((name.to_owned(), record.value_bytes().to_vec()));
            }
        }
        let header = entry.header();
        let kind = header.entry_type();
        let type_bits = match kind {
            tar::EntryType::Directory => 0o040_000,
            tar::EntryType::Symlink => 0o120_000,
            tar::EntryType::Char => 0o020_000,
            tar::EntryType::Block => 0o060_000,
            tar::EntryType::Fifo => 0o010_000,
            _ => 0o100_000,
        };
        let text = |bytes: &[u8]| text_of(bytes).into_owned();
        let link = entry.link_name_bytes().map(|name| text(&name));
        let listed = Listed {
            path: clean(&text(&entry.path_bytes())),
            mode: type_bits | header.mode()? & 0o7777,
            uid: u32::try_from(header.uid()?).unwrap_or(u32::MAX),
            gid: u32::try_from(header.gid()?).unwrap_or(u32::MAX),
            size: entry.size(),
            mtime: header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0),
            target: link.clone().filter(|_| kind == tar::EntryType::Symlink),
            same_as: link.filter(|_| kind == tar::EntryType::Link).map(|name| clean(&name)),
            file: None,
            device: match kind {
                tar::EntryType::Char | tar::EntryType::Block => {
                    (header.device_major()?.unwrap_or(0), header.device_minor()?.unwrap_or(0))
                }
                // GNU tar leaves the fields of others empty.
                _ => (0, 0),
            },
            xattrs,
        };
        look(&listed, &mut entry)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Body, Head, write_entry, write_trailer};

    fn names(list: impl FnOnce(&mut Look<'_>) -> io::Result<()>) -> Vec<(String, u32, u64, String)> {
        let mut found = Vec::new();
        list(&mut |entry, content| {
            let mut text = String::new();
            content.read_to_string(&mut text)?;
            found.push((entry.path.clone(), entry.mode, entry.size, text));
            Ok(())
        })
        .unwrap();
        found
    }

    #[test]
    fn both_kinds_of_archives_are_listed_alike() {
        let mut packed = Vec::new();
        let head = Head { inode: 1, links: 1, mode: 0o644, uid: 7, gid: 8, mtime: 0 };
        write_entry(&mut packed, "a/b", head, Body::File(4, Some(Box::new(&b"text"[..])))).unwrap();
        write_trailer(&mut packed).unwrap();
        let expected = [("a/b".to_owned(), 0o100_644, 4, "text".to_owned())];
        assert_eq!(names(|look| list_cpio(&mut &packed[..], look)), expected);
        let mut builder = tar::Builder::new(Vec::new());
        let mut header = tar::Header::new_gnu();
        header.set_size(4);
        header.set_mode(0o644);
        header.set_uid(7);
        header.set_gid(8);
        header.set_cksum();
        builder.append_data(&mut header, "./a/b", &b"text"[..]).unwrap();
        let packed = builder.into_inner().unwrap();
        assert_eq!(names(|look| list_tar(&mut &packed[..], look)), expected);
    }

    #[test]
    fn a_path_is_no_longer_than_a_path_can_be() {
        let root = Named::root(1);
        assert_eq!(root.path(), "");
        assert_eq!(Named::new(&Rc::from(""), b"a", 2).unwrap().path(), "a");
        assert_eq!(Named::new(&Rc::from("a/b"), &[b'c'; LONGEST_NAME], 3).unwrap().path().len(), 4 + LONGEST_NAME);
        assert!(Named::new(&Rc::from("a/b"), &[b'c'; LONGEST_NAME + 1], 3).is_err());
        let deep: Rc<str> = "d/".repeat(LONGEST_PATH / 2 - 1).into();
        assert!(Named::new(&deep, b"e", 3).is_ok());
        assert!(Named::new(&deep, b"too long", 3).is_err());
    }

    #[test]
    fn gibberish_is_an_error() {
        let bytes = [b'x'; 2000];
        assert!(list_cpio(&mut &bytes[..], &mut |_, _| Ok(())).is_err());
        assert!(list_tar(&mut &bytes[..], &mut |_, _| Ok(())).is_err());
    }
}
