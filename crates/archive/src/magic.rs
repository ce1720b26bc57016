//! Detects file types by magic bytes; opens decompressing streams.

use std::io::{self, Cursor, Read};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Container {
    Deb,
    Rpm,
    Iso,
    Cpio,
    Tar,
    Compressed,
    Elf,
    Squashfs,
    Erofs,
    /// A file system that is not read, with its name.
    FileSystem(&'static str),
}

impl Container {
    /// Its name, where it is a file system that a kernel mounts.
    pub fn file_system(self) -> Option<&'static str> {
        match self {
            Self::FileSystem(name) => Some(name),
            Self::Squashfs => Some("squashfs"),
            Self::Erofs => Some("erofs"),
            _ => None,
        }
    }
}

/// How many bytes [`container`] wants to see.
pub const START: usize = 33 * 1024;

/// Says what a file is by its start: [`START`] bytes, fewer where it is shorter. Sources: deb(5), rpm's lead, ECMA-119
/// 8.1, cpio(5), tar(5), ext4's and FAT's documentation.
pub fn container(start: &[u8]) -> Option<Container> {
    let at = |offset: usize, magic: &[u8]| start.get(offset..offset + magic.len()) == Some(magic);
    Some(match () {
        () if at(0, b"!<arch>\n") => Container::Deb,
        () if at(0, &[0xed, 0xab, 0xee, 0xdb]) => Container::Rpm,
        () if at(0, b"\x7fELF") => Container::Elf,
        () if at(32 * 1024 + 1, b"CD001") => Container::Iso,
        () if at(0, b"07070") || at(0, &[0xc7, 0x71]) => Container::Cpio,
        () if at(257, b"ustar") => Container::Tar,
        () if compression(start).is_some() => Container::Compressed,
        () if at(1080, &[0x53, 0xef]) => Container::FileSystem("ext2, ext3 or ext4"),
        () if at(0, b"hsqs") => Container::Squashfs,
        () if at(1024, &[0xe2, 0xe1, 0xf5, 0xe0]) => Container::Erofs,
        () if at(0, b"XFSB") => Container::FileSystem("XFS"),
        () if at(510, &[0x55, 0xaa]) && (at(54, b"FAT") || at(82, b"FAT")) => Container::FileSystem("FAT"),
        () => return None,
    })
}

#[derive(Debug, Clone, Copy)]
enum Compression {
    Gzip,
    Xz,
    Lzma,
    Zstd,
    Lz4,
    Bzip2,
}

pub(super) fn is_compressed(start: &[u8]) -> bool {
    compression(start).is_some()
}

fn compression(start: &[u8]) -> Option<Compression> {
    Some(match start {
        [0x1f, 0x8b, ..] => Compression::Gzip,
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Compression::Xz,
        [0x5d, 0, 0, ..] => Compression::Lzma,
        [0x28, 0xb5, 0x2f, 0xfd, ..] => Compression::Zstd,
        [0x04, 0x22, 0x4d, 0x18, ..] => Compression::Lz4,
        [b'B', b'Z', b'h', b'1'..=b'9', b'1', ..] => Compression::Bzip2,
        _ => return None,
    })
}

/// Memory that an xz or lzma stream may ask for, in bytes.
const XZ_MEMORY_LIMIT: u64 = 512 << 20;

/// Undoes xz, with no more memory than its largest level needs: what a stream asks for is its maker's.
/// Errors: There is no memory.
pub fn xz<R: Read>(stream: R) -> io::Result<liblzma::read::XzDecoder<R>> {
    let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_LIMIT, 0)?;
    Ok(liblzma::read::XzDecoder::new_stream(stream, decoder))
}

/// Undoes the compression of a stream, if it has one: gzip, xz, lzma, zstd or lz4, by its first bytes.
/// Errors: The stream's; one for bzip2, which no driver package of a maintained release uses.
pub fn plain<'a>(mut stream: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut start = [0u8; 6];
    let mut have = 0;
    while have < start.len() {
        match stream.read(&mut start[have..])? {
            0 => break,
            read => have += read,
        }
    }
    let kind = compression(&start[..have]);
    let whole = Cursor::new(start[..have].to_vec()).chain(stream);
    Ok(match kind {
        None => Box::new(whole),
        Some(Compression::Gzip) => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        Some(Compression::Xz) => {
            let decoder = liblzma::stream::Stream::new_stream_decoder(XZ_MEMORY_LIMIT, liblzma::stream::CONCATENATED)?;
            Box::new(liblzma::read::XzDecoder::new_stream(whole, decoder))
        }
        Some(Compression::Lzma) => {
            let decoder = liblzma::stream::Stream::new_lzma_decoder(XZ_MEMORY_LIMIT)?;
            Box::new(liblzma::read::XzDecoder::new_stream(whole, decoder))
        }
        Some(Compression::Zstd) => Box::new(zstd::Decoder::new(whole)?),
        Some(Compression::Lz4) => Box::new(lz4_flex::frame::FrameDecoder::new(whole)),
        Some(Compression::Bzip2) => {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "it is compressed with bzip2; use gzip, xz or zstd",
            ));
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn a_file_is_known_by_its_start_and_not_by_its_name() {
        let with = |offset: usize, magic: &[u8]| {
            let mut bytes = vec![0u8; offset];
            bytes.extend_from_slice(magic);
            bytes
        };
        assert_eq!(container(b"!<arch>\ndebian"), Some(Container::Deb));
        assert_eq!(container(&with(32769, b"CD001")), Some(Container::Iso));
        assert_eq!(container(&with(1080, &[0x53, 0xef])), Some(Container::FileSystem("ext2, ext3 or ext4")));
        assert_eq!(container(b"070701000"), Some(Container::Cpio));
        assert_eq!(container(b""), None);
        assert_eq!(container(b"text"), None);
    }

    #[test]
    fn a_stream_of_xz_cannot_ask_for_all_memory() {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 1);
        encoder.write_all(b"content").unwrap();
        let mut packed = encoder.finish().unwrap();
        xz(&packed[..]).unwrap().read_to_end(&mut Vec::new()).unwrap();
        // The size of the dictionary, 4 GiB, and the sum of the block's header. Source: xz-file-format.txt, 3.1 and 5.3.1.
        packed[16] = 40;
        let mut sum = flate2::Crc::new();
        sum.update(&packed[12..20]);
        packed[20..24].copy_from_slice(&sum.sum().to_le_bytes());
        let error = xz(&packed[..]).unwrap().read_to_end(&mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("memory"), "{error}");
    }

    #[test]
    fn streams_lose_their_compression_and_plain_ones_stay() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(b"content").unwrap();
        let zstd = zstd::encode_all(&b"content"[..], 1).unwrap();
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(b"content").unwrap();
        for bytes in [gzip.finish().unwrap(), zstd, xz.finish().unwrap(), b"content".to_vec()] {
            let mut text = String::new();
            plain(&bytes[..]).unwrap().read_to_string(&mut text).unwrap();
            assert_eq!(text, "content");
        }
        assert!(plain(&b"BZh91AY&SY"[..]).is_err());
        let mut short = String::new();
        plain(&b"c"[..]).unwrap().read_to_string(&mut short).unwrap();
        assert_eq!(short, "c");
    }
}
