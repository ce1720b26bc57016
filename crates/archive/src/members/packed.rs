//! Trees that are packed in one file, whatever their form.

use std::fs::File;
use std::io::{self, BufReader, Read};

use super::budget::{Budget, limited, over, within};
use super::listing::{Look, list_cpio, list_tar};
use crate::erofs::list_erofs;
use crate::magic::{Container, START, container, is_compressed, plain};
use crate::squashfs::list_squashfs;

#[derive(Debug)]
pub enum Unlisted {
    /// It cannot be read, or is damaged; what `look` said.
    Io(io::Error),
    /// It is a file system of this kind, which only the kernel reads.
    FileSystem(&'static str),
    Unknown,
}

impl From<io::Error> for Unlisted {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Whether a file begins as a packed tree that [`list_packed`] reads.
pub fn is_packed(file: &File) -> io::Result<bool> {
    let mut start = Vec::new();
    plain(file)?.take(START as u64).read_to_end(&mut start)?;
    use Container::{Cpio, Erofs, Squashfs, Tar};
    Ok(matches!(container(&start), Some(Cpio | Tar | Squashfs | Erofs)))
}

/// Lists a tree in cpio or tar, compressed or not, in squashfs or erofs; says which. For cpio also those that follow the first: an
/// initrd may be several, each compressed or not. Source: the kernel's early userspace documentation, "buffer-format".
pub fn list_packed(file: &File, look: &mut Look<'_>) -> Result<Container, Unlisted> {
    let mut budget = Budget::of_file(file)?;
    within(&mut budget, look, |look| list_parts(file, look))
}

/// Streams that may be packed in one another: each has a window of its own, and a call of its own for each byte.
const DEEPEST: usize = 3;

fn list_parts(file: &File, look: &mut Look<'_>) -> Result<Container, Unlisted> {
    let found = file.metadata()?;
    let size = if found.is_file() { found.len() } else { 1 << 40 };
    let mut stream = Ahead::of(Box::new(BufReader::with_capacity(1 << 18, file.try_clone()?)));
    let (mut first, mut depth) = (None, 0);
    loop {
        // One reader goes on behind an archive, however many there are: only a compressor puts one around it.
        while is_compressed(stream.peek(START)?) {
            depth += 1;
            if depth > DEEPEST {
                return Err(over(DEEPEST as u64, "compressed streams in one another").into());
            }
            stream = Ahead::of(Box::new(limited(plain(stream)?, size)));
        }
        let kind = container(stream.peek(START)?);
        match kind {
            Some(Container::Cpio) => list_cpio(&mut stream, look)?,
            Some(Container::Tar) => list_tar(&mut stream, look)?,
            Some(Container::Squashfs) => list_squashfs(file, look)?,
            Some(Container::Erofs) => list_erofs(file, look)?,
            Some(Container::FileSystem(kind)) => return Err(Unlisted::FileSystem(kind)),
            _ => return Err(Unlisted::Unknown),
        }
        let first = *first.get_or_insert(kind);
        // Only cpio has others behind it.
        if !matches!(kind, Some(Container::Cpio)) || !stream.skip_zeros()? {
            return first.ok_or(Unlisted::Unknown);
        }
    }
}

/// A stream whose next bytes can be looked at.
struct Ahead<'a> {
    inner: Box<dyn Read + 'a>,
    held: Vec<u8>,
    at: usize,
}

impl<'a> Ahead<'a> {
    fn of(inner: Box<dyn Read + 'a>) -> Self {
        Self { inner, held: Vec::new(), at: 0 }
    }

    /// The next bytes, fewer only at the end.
    fn peek(&mut self, count: usize) -> io::Result<&[u8]> {
        if self.held.len() - self.at < count {
            self.held.drain(..self.at);
            self.at = 0;
            // More than is asked for: what is held is moved once in a while, and not for each archive.
            let wanted = (4 * count).saturating_sub(self.held.len()) as u64;
            self.inner.by_ref().take(wanted).read_to_end(&mut self.held)?;
        }
        let end = self.held.len().min(self.at + count);
        Ok(&self.held[self.at..end])
    }

    /// Goes to the first byte that is not zero; whether there is one.
    fn skip_zeros(&mut self) -> io::Result<bool> {
        loop {
            let next = self.peek(1)?;
            if next.is_empty() {
                return Ok(false);
            }
            let held = &self.held[self.at..];
            match held.iter().position(|byte| *byte != 0) {
                Some(zeros) => {
                    self.at += zeros;
                    return Ok(true);
                }
                None => self.at = self.held.len(),
            }
        }
    }
}

impl Read for Ahead<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let held = &self.held[self.at..];
        if held.is_empty() {
            return self.inner.read(buffer);
        }
        let count = held.len().min(buffer.len());
        buffer[..count].copy_from_slice(&held[..count]);
        self.at += count;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;
    use crate::{Body, Head, write_entry, write_trailer};

    fn cpio(name: &str) -> Vec<u8> {
        let mut packed = Vec::new();
        let head = Head { inode: 1, links: 1, mode: 0o644, uid: 0, gid: 0, mtime: 0 };
        write_entry(&mut packed, name, head, Body::File(0, None)).unwrap();
        write_trailer(&mut packed).unwrap();
        packed
    }

    fn listed(bytes: &[u8]) -> Result<Vec<String>, Unlisted> {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(bytes).unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        let mut names = Vec::new();
        list_packed(&file, &mut |entry, _| {
            names.push(entry.path.clone());
            Ok(())
        })?;
        Ok(names)
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    #[test]
    fn archives_behind_one_another_are_listed_and_take_no_more_than_one() {
        let [one, two] = ["a", "b"].map(cpio);
        let zeros = vec![0; 700_000];
        assert_eq!(listed(&[&one[..], &zeros, &two].concat()).unwrap(), ["a", "b"]);
        assert_eq!(listed(&[&one[..], &zstd(&two)].concat()).unwrap(), ["a", "b"]);
        // A reader around a reader for each would end the stack here.
        let mut empty = Vec::new();
        write_trailer(&mut empty).unwrap();
        let many = zstd(&[empty.repeat(300_000), cpio("last")].concat());
        assert!(many.len() < 50_000, "{}", many.len());
        assert_eq!(listed(&many).unwrap(), ["last"]);
    }

    #[test]
    fn streams_in_one_another_have_a_bound() {
        let nested = |depth: usize| (0..depth).fold(cpio("end"), |inner, _| zstd(&[&cpio("a")[..], &inner].concat()));
        assert_eq!(listed(&nested(DEEPEST)).unwrap().len(), DEEPEST + 1);
        let error = listed(&nested(DEEPEST + 1)).unwrap_err();
        assert!(matches!(&error, Unlisted::Io(error) if error.to_string().contains("in one another")), "{error:?}");
        assert!(listed(&nested(20)).is_err());
        // A compressor of a compressor of nothing else.
        assert!(listed(&(0..20).fold(cpio("end"), |inner, _| zstd(&inner))).is_err());
    }
}
