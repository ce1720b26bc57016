//! Trees that are packed in one file, whatever their form.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};

use super::budget::{Budget, within};
use super::listing::{Look, list_cpio, list_tar};
use crate::archive::erofs::list_erofs;
use crate::archive::magic::{Container, START, container, plain};
use crate::archive::squashfs::list_squashfs;

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

fn list_parts(file: &File, look: &mut Look<'_>) -> Result<Container, Unlisted> {
    let stream: Box<dyn Read> = Box::new(BufReader::with_capacity(1 << 18, file.try_clone()?));
    let mut next = Some(stream);
    let mut first = None;
    while let Some(stream) = next.take() {
        let mut stream = plain(stream)?;
        let mut start = Vec::new();
        stream.by_ref().take(START as u64).read_to_end(&mut start)?;
        let kind = container(&start);
        let mut stream = Cursor::new(start).chain(stream);
        match kind {
            Some(Container::Cpio) => {
                list_cpio(&mut stream, look)?;
                let mut rest = BufReader::new(stream);
                if let Some(first) = after_padding(&mut rest)? {
                    next = Some(Box::new(Cursor::new([first]).chain(rest)));
                }
            }
            Some(Container::Tar) => list_tar(&mut stream, look)?,
            Some(Container::Squashfs) => list_squashfs(file, look)?,
            Some(Container::Erofs) => list_erofs(file, look)?,
            Some(Container::FileSystem(kind)) => return Err(Unlisted::FileSystem(kind)),
            _ => return Err(Unlisted::Unknown),
        }
        first = first.or(kind);
    }
    first.ok_or(Unlisted::Unknown)
}

/// The first byte behind zeros; none at the end.
fn after_padding(stream: &mut impl BufRead) -> io::Result<Option<u8>> {
    loop {
        let buffer = stream.fill_buf()?;
        if buffer.is_empty() {
            return Ok(None);
        }
        match buffer.iter().position(|byte| *byte != 0) {
            Some(at) => {
                let first = buffer[at];
                stream.consume(at + 1);
                return Ok(Some(first));
            }
            None => {
                let length = buffer.len();
                stream.consume(length);
            }
        }
    }
}
