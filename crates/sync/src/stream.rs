//! The tar stream of what differs.

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What tar reads and writes at once; the node reads so many.
pub(crate) const RECORD: u64 = 10_240;

#[derive(Debug, Clone)]
pub(crate) enum Bytes {
    /// A file of this host and the size that it had.
    File(PathBuf, u64),
    Text(Arc<Vec<u8>>),
}

impl Bytes {
    fn size(&self) -> u64 {
        match self {
            Self::File(_, size) => *size,
            Self::Text(text) => text.len() as u64,
        }
    }
}

#[derive(Debug, Clone)]
pub(crate) struct Entry {
    pub path: PathBuf,
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    pub bytes: Bytes,
}

/// Writes the stream, filled up to whole records.
/// Errors: Those of the operating system: of reading and of writing.
fn write(to: &mut dyn Write, entries: &[Entry], with_content: bool, time: u64) -> io::Result<u64> {
    let mut counted = Counted { to, bytes: 0 };
    let mut builder = tar::Builder::new(&mut counted);
    for entry in entries {
        let mut header = tar::Header::new_gnu();
        let size = entry.bytes.size();
        header.set_size(size);
        header.set_mode(entry.mode);
        header.set_uid(entry.uid);
        header.set_gid(entry.gid);
        header.set_mtime(time);
        let path = entry.path.strip_prefix("/").unwrap_or(&entry.path);
        // A file that shrank meanwhile: its digest shows it.
        let zeros = io::repeat(0);
        match (&entry.bytes, with_content) {
            (_, false) => builder.append_data(&mut header, path, zeros.take(size))?,
            (Bytes::File(file, _), true) => {
                let file = std::fs::File::open(file)?;
                builder.append_data(&mut header, path, file.chain(zeros).take(size))?;
            }
            (Bytes::Text(text), true) => builder.append_data(&mut header, path, text.as_slice())?,
        }
    }
    builder.finish()?;
    drop(builder);
    let rest = (RECORD - counted.bytes % RECORD) % RECORD;
    io::copy(&mut io::repeat(0).take(rest), &mut counted)?;
    counted.flush()?;
    Ok(counted.bytes)
}

/// How many records a stream has.
/// Errors: A name that no tar can hold.
pub(crate) fn records(entries: &[Entry]) -> io::Result<u64> {
    Ok(write(&mut io::sink(), entries, false, 0)? / RECORD)
}

pub(crate) fn send(to: &mut dyn Write, entries: &[Entry]) -> io::Result<()> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs());
    write(&mut io::BufWriter::with_capacity(1 << 16, to), entries, true, now).map(|_| ())
}

struct Counted<'a> {
    to: &'a mut dyn Write,
    bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.bytes += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.to.flush()
    }
}

/// The path beside a destination under which its new content is put aside.
pub(crate) fn aside(destination: &Path, run: &str, number: usize) -> PathBuf {
    let folder = destination.parent().unwrap_or(Path::new("/"));
    folder.join(format!(".imgbuild-sync.{run}.{number}"))
}
