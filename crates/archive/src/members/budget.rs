//! How much a file of others may make this program keep and read. Small files must not take all memory or time, so what is
//! allowed grows with the file.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read};

use super::listing::{Listed, Look};

/// Bytes that are allowed whatever the size, and for each byte of the file: names, attributes, texts that are kept.
const KEPT: (u64, u64) = (32 << 20, 8);
/// The same of bytes that are unpacked and read: a compressor makes much of zeros.
const READ: (u64, u64) = (4 << 30, 1000);
/// Entries that are allowed whatever the size; one more for so many bytes of the file.
const ENTRIES: (u64, u64) = (200_000, 16);
/// Attributes of one entry, in bytes. Source: Linux, include/uapi/linux/limits.h: lists and values have 64 KiB each at most.
pub(crate) const ATTRIBUTES_OF_ONE: u64 = 4 << 20;
/// Folders in one another. Source: PATH_MAX.
const DEPTH: u64 = 2048;

/// The error of a limit that is reached.
pub fn over(limit: u64, what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the limit of {limit} {what} is reached"))
}

fn of(size: u64, (base, share): (u64, u64)) -> u64 {
    size.saturating_mul(share).saturating_add(base)
}

/// What is left of what a file may cost.
#[derive(Debug)]
pub struct Budget {
    size: u64,
    entries: u64,
    names: u64,
    attributes: u64,
    read: Cell<u64>,
}

impl Budget {
    pub fn of(size: u64) -> Self {
        Self { size, entries: 0, names: 0, attributes: 0, read: Cell::new(0) }
    }

    /// For an open file; a device may have any size.
    pub fn of_file(file: &File) -> io::Result<Self> {
        let found = file.metadata()?;
        Ok(Self::of(if found.is_file() { found.len() } else { 1 << 40 }))
    }

    /// Texts that may be kept, in bytes.
    pub fn texts(&self) -> u64 {
        of(self.size, KEPT)
    }

    /// Names that may wait to be looked at.
    pub fn entries(&self) -> u64 {
        ENTRIES.0.saturating_add(self.size / ENTRIES.1)
    }

    /// Counts an entry.
    /// Errors: `InvalidData` with the limit's name.
    pub fn entry(&mut self, listed: &Listed) -> io::Result<()> {
        self.entries += 1;
        if self.entries > self.entries() && !fault::planted("members-without-end") {
            return Err(over(self.entries(), "entries"));
        }
        if listed.path.split('/').count() as u64 > DEPTH && !fault::planted("members-path-too-deep") {
            return Err(over(DEPTH, "folders in one another"));
        }
        let words = [Some(&listed.path), listed.target.as_ref(), listed.same_as.as_ref()];
        self.names += words.into_iter().flatten().map(|word| word.len() as u64).sum::<u64>();
        if self.names > self.texts() {
            return Err(over(self.texts(), "bytes of names"));
        }
        let own = listed.xattrs.iter().map(|(name, value)| (name.len() + value.len()) as u64).sum::<u64>();
        if own > ATTRIBUTES_OF_ONE {
            return Err(over(ATTRIBUTES_OF_ONE, "bytes of attributes of one file"));
        }
        self.attributes += own;
        match self.attributes > self.texts() {
            true => Err(over(self.texts(), "bytes of attributes")),
            false => Ok(()),
        }
    }

    fn content<'a>(&'a self, content: &'a mut dyn Read) -> Counted<'a> {
        Counted { inner: content, read: &self.read, most: of(self.size, READ) }
    }
}

struct Counted<'a> {
    inner: &'a mut dyn Read,
    read: &'a Cell<u64>,
    most: u64,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.read.set(self.read.get().saturating_add(read as u64));
        match self.read.get() > self.most {
            true => Err(over(self.most, "unpacked bytes")),
            false => Ok(read),
        }
    }
}

/// Looks at entries within a budget.
/// Errors: `look`'s, and `InvalidData` with the name of a limit.
pub(crate) fn within<T>(
    budget: &mut Budget,
    look: &mut Look<'_>,
    list: impl FnOnce(&mut Look<'_>) -> Result<T, super::packed::Unlisted>,
) -> Result<T, super::packed::Unlisted> {
    list(&mut |listed, content| {
        budget.entry(listed)?;
        look(listed, &mut budget.content(content))
    })
}

/// A stream of which no more is read than a file of so many bytes may mean.
pub fn limited<R: Read>(inner: R, size: u64) -> Limited<R> {
    let most = of(size, READ);
    Limited { inner, left: most, most }
}

#[derive(Debug)]
pub struct Limited<R> {
    inner: R,
    left: u64,
    most: u64,
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| over(self.most, "unpacked bytes"))?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(path: &str) -> Listed {
        Listed {
            path: path.to_owned(),
            mode: 0o100_644,
            uid: 0,
            gid: 0,
            size: 0,
            mtime: 0,
            target: None,
            same_as: None,
            file: None,
            device: (0, 0),
            xattrs: Vec::new(),
        }
    }

    #[test]
    fn each_limit_is_named_where_it_is_reached() {
        let reached = |one: &Listed, size: u64| {
            let mut budget = Budget::of(size);
            let error = (0..3_000_000).find_map(|_| budget.entry(one).err());
            error.map_or_else(String::new, |error| error.to_string())
        };
        assert!(reached(&entry("a"), 16).contains("the limit of 200001 entries"));
        assert_eq!(reached(&entry("a"), 1 << 30), "");
        assert!(reached(&entry(&"n".repeat(4000)), 0).contains("bytes of names"));
        assert!(reached(&entry(&"d/".repeat(3000)), 0).contains("folders in one another"));
        let with = |bytes: usize| Listed { xattrs: vec![("user.a".to_owned(), vec![0; bytes])], ..entry("a") };
        assert!(reached(&with(1000), 0).contains("bytes of attributes is reached"));
        assert!(reached(&with(5 << 20), 0).contains("bytes of attributes of one file"));
        let read = |size: u64| io::copy(&mut limited(io::repeat(0).take(5 << 30), size), &mut io::sink());
        assert!(read(0).unwrap_err().to_string().contains("unpacked bytes"));
        assert_eq!(read(10 << 20).unwrap(), 5 << 30);
    }
}
