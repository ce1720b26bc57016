//! Package files whose payload is stored instead of compressed, in the same container.
//!
//! rpm undoes a payload with one thread, one package after another, by the compressor that the header names. The headers
//! stay byte for byte, because the package database keeps them; gzip, xz and zstd can all hold plain bytes, which cost rpm
//! a copy. The payload's digest is one of the compressed bytes: anyone who hands such a file to rpm has checked the file itself.

use std::io::{BufRead, BufReader, Read, Write};

use super::header::Headers;
use crate::rpm::decompress::{Coding, coding, decompressed};

/// Most bytes of one raw block. Source: RFC 8878, 3.1.1.2.4.
const ZSTD_BLOCK: usize = 128 << 10;

/// Most bytes of one uncompressed chunk. Source: xz, doc/xz-file-format.txt and LZMA2 as the kernel's xz_dec_lzma2.c tells it.
const LZMA2_CHUNK: usize = 64 << 10;

/// Writes a package file with a payload that is stored; one whose compressor cannot store (bzip2, lzma, none) is copied.
/// Gives whether that was slow.
pub fn write_plain(package: &mut dyn Read, out: &mut dyn Write) -> Result<bool, String> {
    let mut input = BufReader::with_capacity(1 << 17, package);
    Headers::read(&mut Copying { inner: &mut input, out })?;
    let unreadable = |error: std::io::Error| format!("has a payload that is damaged: {error}");
    let coding = coding(input.fill_buf().map_err(unreadable)?);
    let stored = match coding {
        Coding::Gzip => decompressed(&mut input).and_then(|mut content| store_gzip(&mut content, out)),
        Coding::Xz => decompressed(&mut input).and_then(|mut content| store_xz(&mut content, out)),
        Coding::Zstd => decompressed(&mut input).and_then(|mut content| store_zstd(&mut content, out)),
        _ => std::io::copy(&mut input, out).map(drop),
    };
    stored.map_err(|error| format!("cannot be unpacked: {error}"))?;
    Ok(coding == Coding::Xz)
}

struct Copying<'a> {
    inner: &'a mut dyn Read,
    out: &'a mut dyn Write,
}

impl Read for Copying<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.out.write_all(&buffer[..read])?;
        Ok(read)
    }
}

/// Fills a buffer as far as the content goes.
fn fill(content: &mut dyn Read, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match content.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

fn store_gzip(content: &mut dyn Read, out: &mut dyn Write) -> std::io::Result<()> {
    let mut encoder = flate2::write::GzEncoder::new(out, flate2::Compression::none());
    std::io::copy(content, &mut encoder)?;
    encoder.finish().map(drop)
}

/// One frame of raw blocks. Source: RFC 8878, 3.1.1: magic; no checksum, size or dictionary; a window of 128 KiB.
fn store_zstd(content: &mut dyn Read, out: &mut dyn Write) -> std::io::Result<()> {
    out.write_all(&[0x28, 0xb5, 0x2f, 0xfd, 0, 7 << 3])?;
    let mut buffer = vec![0u8; ZSTD_BLOCK];
    loop {
        let size = fill(content, &mut buffer)?;
        let is_last = size < buffer.len();
        let header = (size as u32) << 3 | u32::from(is_last);
        out.write_all(&header.to_le_bytes()[..3])?;
        out.write_all(&buffer[..size])?;
        if is_last {
            return Ok(());
        }
    }
}

fn crc32(bytes: &[u8]) -> [u8; 4] {
    let mut crc = flate2::Crc::new();
    crc.update(bytes);
    crc.sum().to_le_bytes()
}

/// A number of the index, seven bits a byte. Source: xz-file-format.txt, 1.2.
fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

/// One block of uncompressed LZMA2 chunks, without a check of its content. Source: xz-file-format.txt, 2 to 4.
fn store_xz(content: &mut dyn Read, out: &mut dyn Write) -> std::io::Result<()> {
    let flags = [0u8, 0];
    out.write_all(&[0xfd, b'7', b'z', b'X', b'Z', 0])?;
    out.write_all(&flags)?;
    out.write_all(&crc32(&flags))?;
    // 12 bytes; one filter: LZMA2 with a dictionary of 128 KiB.
    let block = [2u8, 0, 0x21, 1, 10, 0, 0, 0];
    out.write_all(&block)?;
    out.write_all(&crc32(&block))?;
    let mut unpadded = 12u64;
    let mut whole = 0u64;
    let mut buffer = vec![0u8; LZMA2_CHUNK];
    loop {
        let size = fill(content, &mut buffer)?;
        if size == 0 {
            break;
        }
        // The first chunk resets the dictionary.
        out.write_all(&[if whole == 0 { 1 } else { 2 }])?;
        out.write_all(&((size - 1) as u16).to_be_bytes())?;
        out.write_all(&buffer[..size])?;
        unpadded += 3 + size as u64;
        whole += size as u64;
    }
    out.write_all(&[0])?;
    unpadded += 1;
    let padding = |size: u64| (size.next_multiple_of(4) - size) as usize;
    out.write_all(&[0; 3][..padding(unpadded)])?;
    let mut index = vec![0u8];
    varint(1, &mut index);
    varint(unpadded, &mut index);
    varint(whole, &mut index);
    index.resize(index.len().next_multiple_of(4), 0);
    out.write_all(&index)?;
    out.write_all(&crc32(&index))?;
    let mut footer = ((index.len() as u32 + 4) / 4 - 1).to_le_bytes().to_vec();
    footer.extend(flags);
    out.write_all(&crc32(&footer))?;
    out.write_all(&footer)?;
    out.write_all(b"YZ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes around the limits of blocks and chunks, and nothing at all.
    const SIZES: [usize; 7] = [0, 1, 65535, 65536, 65537, 128 << 10, 300_001];

    type Store = fn(&mut dyn Read, &mut dyn Write) -> std::io::Result<()>;

    #[test]
    fn what_is_stored_is_read_back_by_each_decoder() {
        for (store, expected) in
            [(store_gzip as Store, Coding::Gzip), (store_xz as Store, Coding::Xz), (store_zstd as Store, Coding::Zstd)]
        {
            for size in SIZES {
                let content: Vec<u8> = (0..size).map(|at| (at * 7 % 251) as u8).collect();
                let mut packed = Vec::new();
                store(&mut &content[..], &mut packed).unwrap();
                assert_eq!(coding(&packed), expected);
                let mut back = Vec::new();
                decompressed(&packed[..]).unwrap().read_to_end(&mut back).unwrap();
                assert!(back == content, "{expected:?} {size}");
            }
        }
    }

    #[test]
    fn the_tools_of_the_formats_accept_what_is_stored() {
        use std::process::{Command, Stdio};
        for (store, program) in
            [(store_gzip as Store, "gzip"), (store_xz as Store, "xz"), (store_zstd as Store, "zstd")]
        {
            let content = vec![b'x'; 200_000];
            let mut packed = Vec::new();
            store(&mut &content[..], &mut packed).unwrap();
            let child = Command::new(program).args(["-t", "-q"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
            // Not on every machine.
            let Ok(mut child) = child else { continue };
            child.stdin.take().unwrap().write_all(&packed).unwrap();
            let ended = child.wait_with_output().unwrap();
            assert!(ended.status.success(), "{program}: {}", String::from_utf8_lossy(&ended.stderr));
        }
    }

    #[test]
    fn headers_stay_and_the_payload_is_the_same_one() {
        let place = tempfile::tempdir().unwrap();
        let kinds = [
            ("gzip", rpm::CompressionType::Gzip),
            ("xz", rpm::CompressionType::Xz),
            ("zstd", rpm::CompressionType::Zstd),
            ("none", rpm::CompressionType::None),
        ];
        for (name, compression) in kinds {
            let path = crate::rpm::package::file::tests::write(place.path(), name, |builder| {
                builder.using_config(rpm::BuildConfig::default().compression(compression));
                builder.with_file_contents("content ".repeat(30_000), rpm::FileOptions::new("/etc/content")).unwrap();
            });
            let package = std::fs::read(path).unwrap();
            let mut plain = Vec::new();
            write_plain(&mut &package[..], &mut plain).unwrap();
            let end = Headers::read(&mut &package[..]).unwrap().range.1 as usize;
            assert!(package[..end] == plain[..end], "{name}");
            let content = |bytes: &[u8]| {
                let mut all = Vec::new();
                decompressed(&bytes[end..]).unwrap().read_to_end(&mut all).unwrap();
                (coding(&bytes[end..]), all)
            };
            assert!(content(&package) == content(&plain), "{name}");
            assert!(plain.len() > 240_000, "{name}");
        }
        assert!(write_plain(&mut &b"no package"[..], &mut Vec::new()).is_err());
    }
}
