//! Metadata: a stream cut into blocks of 8 KiB, each compressed by itself, with its size before it.

use std::io;

use super::encoder::Encoder;

/// Bytes of a metadata block before compression. Source: squashfs_fs.h, SQUASHFS_METADATA_SIZE.
const BLOCK: usize = 8 << 10;
/// Bit of a metadata block's size: it is stored as it is.
const STORED: u16 = 1 << 15;

/// A place in a table: where its block starts in the written table, and where in the unpacked block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Place {
    /// Offset of the block, from the table's start.
    pub block: u64,
    /// In the unpacked block.
    pub offset: u16,
}

impl Place {
    /// As inode numbers and attributes refer to it.
    pub(super) fn reference(self) -> u64 {
        self.block << 16 | u64::from(self.offset)
    }
}

pub(super) struct Table<'a> {
    encoder: &'a mut Encoder,
    written: Vec<u8>,
    pending: Vec<u8>,
    starts: Vec<u64>,
}

impl<'a> Table<'a> {
    pub(super) fn new(encoder: &'a mut Encoder) -> Self {
        Self { encoder, written: Vec::new(), pending: Vec::new(), starts: Vec::new() }
    }

    pub(super) fn place(&self) -> Place {
        Place { block: self.written.len() as u64, offset: self.pending.len() as u16 }
    }

    /// Adds bytes.
    /// Errors: The compressor's.
    pub(super) fn add(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let most = (BLOCK - self.pending.len()).min(bytes.len());
            let (now, later) = bytes.split_at(most);
            self.pending.extend_from_slice(now);
            bytes = later;
            if self.pending.len() == BLOCK {
                self.flush()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.starts.push(self.written.len() as u64);
        match self.encoder.encode(&self.pending)? {
            Some(encoded) => {
                self.written.extend_from_slice(&(encoded.len() as u16).to_le_bytes());
                self.written.extend_from_slice(&encoded);
            }
            None => {
                self.written.extend_from_slice(&(self.pending.len() as u16 | STORED).to_le_bytes());
                self.written.extend_from_slice(&self.pending);
            }
        }
        self.pending.clear();
        Ok(())
    }

    /// The whole table, and where each of its blocks starts in it.
    /// Errors: The compressor's.
    pub(super) fn finish(mut self) -> io::Result<(Vec<u8>, Vec<u64>)> {
        if !self.pending.is_empty() {
            self.flush()?;
        }
        Ok((self.written, self.starts))
    }
}

/// A table that is found through a list of its blocks: the blocks, then the list. Gives the list's place.
/// Errors: The compressor's.
pub(super) fn listed(out: &mut Vec<u8>, start: u64, content: &[u8], encoder: &mut Encoder) -> io::Result<u64> {
    let mut table = Table::new(encoder);
    table.add(content)?;
    let (bytes, starts) = table.finish()?;
    let base = start + out.len() as u64;
    out.extend_from_slice(&bytes);
    let list = start + out.len() as u64;
    starts.iter().for_each(|one| out.extend_from_slice(&(base + one).to_le_bytes()));
    Ok(list)
}
