//! Plain packages that are kept for the next installation, in zstd: undoing that takes a tenth of the time that xz takes.
//!
//! ```text
//! header   "imgbuild decompressed 1 ", the BLAKE3 digest of the content in hexadecimal digits, a line feed
//! content  the plain package as one zstd frame
//! ```
//!
//! Nothing is waited for until it is on the disk: what a power cut leaves has another digest, and does not count.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Seek, Write};
use std::time::SystemTime;

use base::digest::{Digest, Sha256};
use store::Store;

/// What a file begins with. The number is that of the form of plain packages too.
const HEADER: &str = "imgbuild decompressed 1";

/// Level of zstd: the fastest, for all threads have something to do.
const LEVEL: i32 = 1;

/// Plain packages that are smaller are decompressed again, in bytes.
const LEAST: u64 = 1 << 16;

fn header(digest: &Digest) -> String {
    format!("{HEADER} {digest}\n")
}

struct Hashed<T> {
    inner: T,
    hasher: blake3::Hasher,
}

impl<T> Hashed<T> {
    fn new(inner: T) -> Self {
        Self { inner, hasher: blake3::Hasher::new() }
    }

    fn digest(&self) -> Digest {
        Digest(self.hasher.finalize().into())
    }
}

impl<T: Read> Read for Hashed<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

impl<T: Write> Write for Hashed<T> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.hasher.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

fn read(kept: &str, to: &str) -> io::Result<()> {
    let mut from = File::open(kept)?;
    // It is of use: gc spares it for another day.
    let _ = from.set_modified(SystemTime::now());
    let mut begin = vec![0; header(&Digest::of(b"")).len()];
    from.read_exact(&mut begin)?;
    let mut decoder = zstd::Decoder::with_buffer(BufReader::with_capacity(1 << 18, Hashed::new(from)))?;
    let mut file = BufWriter::with_capacity(1 << 18, File::create(to)?);
    fault::point("plain.writing");
    io::copy(&mut decoder, &mut file)?;
    file.flush()?;
    let mut hashed = decoder.finish().into_inner();
    io::copy(&mut hashed, &mut io::sink())?;
    match fault::planted("decompressed-unchecked") || begin == header(&hashed.digest()).as_bytes() {
        true => Ok(()),
        false => Err(io::ErrorKind::InvalidData.into()),
    }
}

/// Writes a package as it is kept to a place, both in the directory of the store; gives whether it was there, and whole.
pub(super) fn take(package: &Sha256, to: &str) -> bool {
    let kept = Store::decompressed_name(package);
    match read(&kept, to) {
        Ok(()) => true,
        Err(error) => {
            if error.kind() != io::ErrorKind::NotFound {
                let _ = std::fs::remove_file(kept);
            }
            false
        }
    }
}

fn write(from: &str, aside: &str) -> io::Result<()> {
    let mut from = File::open(from)?;
    let mut file = File::create(aside)?;
    file.write_all(header(&Digest::of(b"")).as_bytes())?;
    let mut encoder = zstd::Encoder::new(Hashed::new(BufWriter::with_capacity(1 << 18, file)), LEVEL)?;
    io::copy(&mut from, &mut encoder)?;
    let hashed = encoder.finish()?;
    let digest = hashed.digest();
    let mut file = hashed.inner.into_inner()?;
    file.rewind()?;
    file.write_all(header(&digest).as_bytes())
}

/// Keeps a plain package that lies at a place in the directory of the store; where that cannot be, it is decompressed again
/// the next time.
pub(super) fn keep(package: &Sha256, plain: &str) {
    if std::fs::metadata(plain).map_or(0, |found| found.len()) < LEAST {
        return;
    }
    let (kept, aside) = (Store::decompressed_name(package), format!("{plain}.kept"));
    let parent = kept.rsplit_once('/').map_or(".", |(parent, _)| parent);
    let written = write(plain, &aside).and_then(|()| std::fs::create_dir_all(parent));
    fault::point("plain.keeping");
    if written.and_then(|()| std::fs::rename(&aside, &kept)).is_err() {
        let _ = std::fs::remove_file(aside);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_and_what_is_damaged_does_not() {
        let place = tempfile::tempdir().unwrap();
        let path = |name: &str| place.path().join(name).to_str().unwrap().to_owned();
        let plain: Vec<u8> = (0..300_000_u32).flat_map(|number| (number / 7).to_le_bytes()).collect();
        std::fs::write(path("plain"), &plain).unwrap();
        write(&path("plain"), &path("kept")).unwrap();
        let kept = std::fs::read(path("kept")).unwrap();
        assert!(kept.len() < plain.len() / 2, "{}", kept.len());
        read(&path("kept"), &path("again")).unwrap();
        assert!(std::fs::read(path("again")).unwrap() == plain);
        // A byte of the header, of its digest, of the first block, in the middle, and the last one; cut off, and too much.
        let mut wrong: Vec<Vec<u8>> = Vec::new();
        for at in [0, 30, 95, kept.len() / 2, kept.len() - 1] {
            let mut other = kept.clone();
            other[at] ^= 1;
            wrong.push(other);
        }
        for left in [0, 10, 88, 89, kept.len() - 1] {
            wrong.push(kept[..left].to_vec());
        }
        wrong.push([&kept[..], b"x"].concat());
        for (number, bytes) in wrong.iter().enumerate() {
            std::fs::write(path("wrong"), bytes).unwrap();
            assert!(read(&path("wrong"), &path("again")).is_err(), "{number}");
        }
        assert_eq!(read(&path("none"), &path("again")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
