//! cpio in its `newc` form, entry by entry. Source: kernel, Documentation/driver-api/early-userspace/buffer-format.rst.
//!
//! The headers are the `cpio` crate's; what it leaves to its user is done here: no flush between entries, content
//! counted, sizes beyond the format refused, hard links with their data on the last name.

pub(crate) mod read;

use std::borrow::Cow;
use std::io::{self, Read, Write};

use cpio::newc;

use node_words::name::{bytes_of, text_of};

/// Largest file that the format can hold: its size field has 32 bits.
#[cfg(test)]
const CPIO_FILE_LIMIT: u64 = u32::MAX as u64;

/// File type bits of a mode. Source: stat(2).
mod kind {
    pub(super) const DIRECTORY: u32 = 0o040_000;
    pub(super) const FILE: u32 = 0o100_000;
    pub(super) const SYMLINK: u32 = 0o120_000;
    pub(super) const CHARACTER: u32 = 0o020_000;
    pub(super) const BLOCK: u32 = 0o060_000;
    pub(super) const FIFO: u32 = 0o010_000;
    pub(super) const SOCKET: u32 = 0o140_000;
}

pub enum Body<'a> {
    Directory,
    /// A regular file of a size, with its content; a further name of a hard link has none.
    File(u64, Option<Box<dyn Read + 'a>>),
    Symlink(&'a str),
    Character(u32, u32),
    Block(u32, u32),
    Fifo,
    Socket,
}

#[derive(Debug, Clone, Copy)]
pub struct Head {
    /// Inode number; the same for all names of a hard link (D29).
    pub inode: u32,
    pub links: u32,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
}

/// Keeps flushes from the compressor: the crate flushes after each entry, which would cut the stream to pieces.
struct NoFlush<W>(W);

impl<W: Write> Write for NoFlush<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Most bytes of a file that are copied at once.
const COPIED: usize = 1 << 17;

/// Bytes before an entry's name.
const HEADER: u64 = 110;

/// Writes a name over the one in an entry's header.
struct Named<'a> {
    inner: &'a mut dyn Write,
    name: &'a [u8],
    /// Bytes of the entry so far; beyond all of them where the name is to stay.
    at: u64,
}

impl Write for Named<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let end = HEADER + self.name.len() as u64;
        if self.at >= end {
            return self.inner.write(bytes);
        }
        let left = if self.at < HEADER { HEADER } else { end } - self.at;
        let most = usize::try_from(left).unwrap_or(usize::MAX).min(bytes.len());
        let piece = match usize::try_from(self.at.saturating_sub(HEADER)) {
            Ok(from) if self.at >= HEADER => &self.name[from..from + most],
            _ => &bytes[..most],
        };
        let written = self.inner.write(piece)?;
        self.at += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Writes one entry; gives the bytes of content written.
/// Errors: `InvalidData` when the content is not as long as announced, `FileTooLarge` for a file beyond the format.
pub fn write_entry(out: &mut dyn Write, path: &str, head: Head, body: Body<'_>) -> io::Result<u64> {
    let (bits, device) = match &body {
        Body::Directory => (kind::DIRECTORY, None),
        Body::File(..) => (kind::FILE, None),
        Body::Symlink(_) => (kind::SYMLINK, None),
        Body::Character(major, minor) => (kind::CHARACTER, Some((*major, *minor))),
        Body::Block(major, minor) => (kind::BLOCK, Some((*major, *minor))),
        Body::Fifo => (kind::FIFO, None),
        Body::Socket => (kind::SOCKET, None),
    };
    let name = bytes_of(path);
    // The crate takes names that are UTF-8: any other is written over one of its length.
    let substitute = "x".repeat(name.len());
    let is_plain = matches!(name, Cow::Borrowed(_));
    let mut named = Named { inner: out, name: &name, at: if is_plain { u64::MAX } else { 0 } };
    let out: &mut dyn Write = &mut named;
    let mut builder = newc::Builder::new(if is_plain { path } else { &substitute })
        .ino(head.inode)
        .nlink(head.links)
        .mode(bits | head.mode)
        .uid(head.uid)
        .gid(head.gid)
        .mtime(u32::try_from(head.mtime.max(0)).unwrap_or(u32::MAX));
    if let Some((major, minor)) = device {
        builder = builder.rdev_major(major).rdev_minor(minor);
    }
    let out = NoFlush(out);
    match body {
        Body::File(size, Some(mut content)) => {
            let declared = u32::try_from(size).map_err(|_| io::Error::from(io::ErrorKind::FileTooLarge))?;
            let mut writer = builder.write(out, declared);
            let mut left = size;
            // One byte more: at the end of the file its content is compared.
            let mut buffer = vec![0u8; usize::try_from(size).map_or(COPIED, |size| (size + 1).min(COPIED))];
            while left > 0 {
                let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let read = content.read(&mut buffer[..most])?;
                if read == 0 {
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is shorter than in its manifest"));
                }
                writer.write_all(&buffer[..read])?;
                left -= read as u64;
            }
            if content.read(&mut buffer[..1])? != 0 && !fault::planted("cpio-longer-file") {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the file is longer than in its manifest"));
            }
            writer.finish()?;
            Ok(size)
        }
        Body::Symlink(target) => {
            let target = bytes_of(target);
            let mut writer = builder.write(out, u32::try_from(target.len()).unwrap_or(0));
            writer.write_all(&target)?;
            writer.finish()?;
            Ok(target.len() as u64)
        }
        _ => {
            builder.write(out, 0).finish()?;
            Ok(0)
        }
    }
}

/// Longest name of an entry that is read, in bytes: the kernel's PATH_MAX.
const NAME_LIMIT: usize = 4096;

/// What the crate's reader reads: the head of an entry, and what comes after it.
pub(crate) type Entry<'a> = io::Chain<io::Cursor<Vec<u8>>, &'a mut dyn Read>;

/// Begins to read an entry; gives its name too, which may be no UTF-8. The reader's `finish` gives the input back, as the second
/// part of what it read.
/// Errors: `InvalidData` for what is no entry; the input's.
pub(crate) fn read_entry(input: &mut dyn Read) -> io::Result<(String, newc::Reader<Entry<'_>>)> {
    let mut head = vec![0; HEADER as usize];
    input.read_exact(&mut head)?;
    // Source: as above; the length of the name is the twelfth field, with its NUL.
    let length = std::str::from_utf8(&head[94..102]).ok().and_then(|text| usize::from_str_radix(text, 16).ok());
    let length = length.filter(|length| (1..=NAME_LIMIT).contains(length));
    let length = length.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "an entry has a bad header"))?;
    head.resize(HEADER as usize + length, 0);
    let name = &mut head[HEADER as usize..];
    input.read_exact(name)?;
    let text = text_of(&name[..length - 1]).into_owned();
    if std::str::from_utf8(name).is_err() {
        // The crate takes names that are UTF-8.
        name[..length - 1].fill(b'x');
    }
    Ok((text, newc::Reader::new(io::Cursor::new(head).chain(input))?))
}

/// Writes the end of the archive.
/// Errors: The sink's.
pub fn write_trailer(out: &mut dyn Write) -> io::Result<()> {
    newc::trailer(NoFlush(out)).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: Head = Head { inode: 0, links: 1, mode: 0o644, uid: 0, gid: 0, mtime: 7 };

    #[test]
    fn a_file_of_another_length_is_an_error_and_never_a_broken_archive() {
        for content in [&b"ab"[..], b"abcd"] {
            let error = write_entry(&mut Vec::new(), "x", HEAD, Body::File(3, Some(Box::new(content)))).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        let huge = Body::File(CPIO_FILE_LIMIT + 1, Some(Box::new(io::empty())));
        assert_eq!(write_entry(&mut Vec::new(), "x", HEAD, huge).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
    }

    #[test]
    fn a_name_and_a_target_that_are_no_utf8_are_written_as_they_are() {
        let mut out = Vec::new();
        let name = node_words::name::text_of(b"caf\xe9/\xff");
        write_entry(&mut out, &name, HEAD, Body::File(3, Some(Box::new(&b"abc"[..])))).unwrap();
        write_entry(&mut out, "link", HEAD, Body::Symlink(&name)).unwrap();
        assert_eq!(&out[94..102], b"00000007");
        // Padded to a multiple of four.
        assert_eq!(&out[110..123], b"caf\xe9/\xff\0\0\0\0abc");
        assert!(out.windows(6).filter(|bytes| bytes == b"caf\xe9/\xff").count() == 2);
        let mut input = &out[..];
        let (read, mut reader) = read_entry(&mut input).unwrap();
        assert_eq!(read, name);
        io::copy(&mut reader, &mut io::sink()).unwrap();
        let rest = reader.finish().unwrap().into_inner().1;
        assert_eq!(read_entry(rest).unwrap().0, "link");
    }

    #[test]
    fn what_is_written_reads_back() {
        let mut out = Vec::new();
        write_entry(&mut out, "a", HEAD, Body::File(3, Some(Box::new(&b"abc"[..])))).unwrap();
        write_entry(&mut out, "b", HEAD, Body::Symlink("a")).unwrap();
        write_trailer(&mut out).unwrap();
        let mut reader = newc::Reader::new(&out[..]).unwrap();
        assert_eq!((reader.entry().name(), reader.entry().file_size()), ("a", 3));
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "abc");
        let rest = reader.finish().unwrap();
        let reader = newc::Reader::new(rest).unwrap();
        assert_eq!((reader.entry().name(), reader.entry().mode()), ("b", 0o120_644));
    }
}
