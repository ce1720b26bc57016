//! Undoes compression by what a file begins with, never by its name.

use std::io::{BufRead, BufReader, Read};

/// Largest window of a zstd stream, as a power of two; `zstd --ultra -22` needs 27.
const ZSTD_WINDOW_LOG: u32 = 27;

/// Memory that an xz or lzma stream may ask for, in bytes; `xz -9` needs 65 MiB.
const XZ_MEMORY_LIMIT: u64 = 512 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    None,
    Gzip,
    Xz,
    Lzma,
    Zstd,
    Bzip2,
}

pub(super) fn coding(start: &[u8]) -> Coding {
    match start {
        [0x1f, 0x8b, ..] => Coding::Gzip,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Coding::Xz,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Coding::Zstd,
        // A skippable frame may come first. Source: RFC 8878, 3.1.2.
        [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Coding::Zstd,
        [b'B', b'Z', b'h', b'1'..=b'9', ..] => Coding::Bzip2,
        // Properties byte and dictionary size of the old format. Source: lzma-file-format.txt.
        [0x5d, 0, 0, ..] => Coding::Lzma,
        _ => Coding::None,
    }
}

/// A reader of the content; reads a little ahead to see what it is.
/// Errors: The source's, or a text about a coding that cannot be undone.
pub(super) fn decompressed<'a>(source: impl Read + 'a) -> std::io::Result<Box<dyn Read + 'a>> {
    let mut source = BufReader::with_capacity(1 << 16, source);
    let coding = coding(source.fill_buf()?);
    let xz = |old: bool| {
        if old {
            liblzma::stream::Stream::new_lzma_decoder(XZ_MEMORY_LIMIT)
        } else {
            liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_LIMIT, liblzma::stream::CONCATENATED)
        }
        .map_err(std::io::Error::from)
    };
    Ok(match coding {
        Coding::None => Box::new(source),
        Coding::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Coding::Xz => Box::new(liblzma::bufread::XzDecoder::new_stream(source, xz(false)?)),
        Coding::Lzma => Box::new(liblzma::bufread::XzDecoder::new_stream(source, xz(true)?)),
        Coding::Bzip2 => Box::new(bzip2::bufread::MultiBzDecoder::new(source)),
        Coding::Zstd => {
            let mut decoder = zstd::Decoder::with_buffer(source)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG)?;
            Box::new(decoder)
        }
    })
}

/// A reader that says so when there is more than expected, instead of filling memory.
pub(super) struct Limited<R> {
    inner: R,
    left: u64,
    limit: u64,
}

impl<R: Read> Limited<R> {
    pub(super) fn new(inner: R, limit: u64) -> Self {
        Self { inner, left: limit, limit }
    }
}

impl<R: Read> Read for Limited<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(read as u64).ok_or_else(|| {
            std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                format!("it decompresses to more than the announced {} bytes", self.limit),
            )
        })?;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn each_coding_is_known_by_its_first_bytes() {
        let text = b"one two three ".repeat(1000);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&text).unwrap();
        let mut bzip = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
        bzip.write_all(&text).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 6);
        xz.write_all(&text).unwrap();
        let options = liblzma::stream::LzmaOptions::new_preset(6).unwrap();
        let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
        let mut lzma = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
        lzma.write_all(&text).unwrap();
        for packed in [
            text.clone(),
            gzip.finish().unwrap(),
            bzip.finish().unwrap(),
            xz.finish().unwrap(),
            lzma.finish().unwrap(),
            zstd::encode_all(&text[..], 3).unwrap(),
        ] {
            let mut out = Vec::new();
            decompressed(&packed[..]).unwrap().read_to_end(&mut out).unwrap();
            assert_eq!(out, text);
        }
    }

    #[test]
    fn more_than_was_announced_is_an_error() {
        let mut out = Vec::new();
        assert!(Limited::new(&b"abc"[..], 3).read_to_end(&mut out).is_ok());
        assert!(Limited::new(&b"abcd"[..], 3).read_to_end(&mut out).is_err());
    }
}
