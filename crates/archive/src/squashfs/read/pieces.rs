//! What an image's tables and data are cut into: blocks, each compressed by itself.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

/// Bytes of a block of a table, unpacked. Source: squashfs_fs.h, SQUASHFS_METADATA_SIZE.
const TABLE_BLOCK: usize = 8192;
/// Bit of a table block's size: it is stored as it is. Source: squashfs_fs.h, SQUASHFS_COMPRESSED_BIT.
const TABLE_STORED: u16 = 1 << 15;
/// How many blocks of tables are kept: 32 MiB.
const KEPT: usize = 4096;

pub(super) fn wrong(problem: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("the squashfs is damaged: {}", problem.into()))
}

/// Compressors by their numbers. Source: squashfs_fs.h, ZLIB_COMPRESSION and its kin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    Zlib,
    Xz,
    Lz4,
    Zstd,
}

impl Packing {
    pub(super) fn of(number: u16) -> io::Result<Self> {
        let unread = |name: &str| {
            let remedy = "mount it (mount -o loop,ro FILE DIR) and name the directory";
            io::Error::new(
                io::ErrorKind::Unsupported,
                format!("the squashfs is compressed with {name}, which is not supported: {remedy}"),
            )
        };
        match number {
            1 => Ok(Self::Zlib),
            2 => Err(unread("lzma")),
            3 => Err(unread("lzo")),
            4 => Ok(Self::Xz),
            5 => Ok(Self::Lz4),
            6 => Ok(Self::Zstd),
            other => Err(wrong(format!("it has the unknown compressor {other}"))),
        }
    }

    fn unpack(self, bytes: &[u8], most: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        let limit = most as u64 + 1;
        match self {
            Self::Zlib => drop(flate2::read::ZlibDecoder::new(bytes).take(limit).read_to_end(&mut out)?),
            Self::Xz => drop(liblzma::read::XzDecoder::new(bytes).take(limit).read_to_end(&mut out)?),
            Self::Zstd => drop(zstd::stream::Decoder::new(bytes)?.take(limit).read_to_end(&mut out)?),
            Self::Lz4 => {
                out = vec![0; most];
                let length =
                    lz4_flex::block::decompress_into(bytes, &mut out).map_err(|error| wrong(error.to_string()))?;
                out.truncate(length);
            }
        }
        if out.len() > most { Err(wrong("a block is larger than allowed")) } else { Ok(out) }
    }
}

/// An image, and the blocks of tables that were read last.
pub(super) struct Pieces {
    file: File,
    packing: Packing,
    kept: HashMap<u64, (Rc<Vec<u8>>, u64)>,
}

impl Pieces {
    pub(super) fn new(file: File, packing: Packing) -> Self {
        Self { file, packing, kept: HashMap::new() }
    }

    pub(super) fn bytes(&self, at: u64, length: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, at).map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => wrong("it is truncated"),
            _ => error,
        })?;
        Ok(bytes)
    }

    /// A block of data: `size` as an inode or a fragment has it, of at most `most` bytes.
    pub(super) fn data(&self, at: u64, size: u32, most: usize) -> io::Result<Vec<u8>> {
        let length = (size & !super::super::STORED) as usize;
        if length > most {
            return Err(wrong("a block is larger than allowed"));
        }
        let bytes = self.bytes(at, length)?;
        if size & super::super::STORED != 0 { Ok(bytes) } else { self.packing.unpack(&bytes, most) }
    }

    /// The block of a table at a place, and where the next one stands.
    fn block(&mut self, at: u64) -> io::Result<(Rc<Vec<u8>>, u64)> {
        if let Some(known) = self.kept.get(&at) {
            return Ok(known.clone());
        }
        let head = self.bytes(at, 2)?;
        let head = u16::from_le_bytes([head[0], head[1]]);
        let length = usize::from(head & !TABLE_STORED);
        let bytes = self.bytes(at + 2, length)?;
        let bytes = if head & TABLE_STORED != 0 { bytes } else { self.packing.unpack(&bytes, TABLE_BLOCK)? };
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        let found = (Rc::new(bytes), at + 2 + length as u64);
        self.kept.insert(at, found.clone());
        Ok(found)
    }

    /// Reads a table from a block and a byte in it.
    pub(super) fn table(&mut self, block: u64, offset: usize) -> Table<'_> {
        Table { pieces: self, block, offset }
    }

    /// An entry of a table whose blocks a list of addresses names: ids, fragments, attributes.
    pub(super) fn entry(&mut self, list: u64, number: u64, size: usize) -> io::Result<Vec<u8>> {
        let in_block = (TABLE_BLOCK / size) as u64;
        let at = list.checked_add(number / in_block * 8).ok_or_else(|| wrong("a table is outside the image"))?;
        let block = self.bytes(at, 8)?;
        let block = u64::from_le_bytes(block.try_into().unwrap_or_default());
        self.table(block, (number % in_block) as usize * size).take(size)
    }
}

pub(super) struct Table<'a> {
    pieces: &'a mut Pieces,
    block: u64,
    offset: usize,
}

impl Table<'_> {
    pub(super) fn take(&mut self, length: usize) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        while out.len() < length {
            let (block, next) = self.pieces.block(self.block)?;
            let left = block.get(self.offset..).ok_or_else(|| wrong("an offset is outside its block"))?;
            let taken = left.len().min(length - out.len());
            if left.is_empty() && block.len() < TABLE_BLOCK {
                return Err(wrong("a table is truncated"));
            }
            out.extend_from_slice(&left[..taken]);
            self.offset += taken;
            if self.offset >= block.len() {
                (self.block, self.offset) = (next, 0);
            }
        }
        Ok(out)
    }

    pub(super) fn place(&self) -> (u64, usize) {
        (self.block, self.offset)
    }

    pub(super) fn u16(&mut self) -> io::Result<u16> {
        Ok(u16::from_le_bytes(self.take(2)?.try_into().unwrap_or_default()))
    }

    pub(super) fn u32(&mut self) -> io::Result<u32> {
        Ok(u32::from_le_bytes(self.take(4)?.try_into().unwrap_or_default()))
    }

    pub(super) fn u64(&mut self) -> io::Result<u64> {
        Ok(u64::from_le_bytes(self.take(8)?.try_into().unwrap_or_default()))
    }
}
