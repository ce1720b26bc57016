//! Contents: of whole blocks, with an end beside the inode, and compressed.

use std::io::{self, Read};

use super::inode::{Inode, Layout};
use super::{Image, u16_at, u32_at, unread, wrong};

/// Bits of a compressed file's head. Source: erofs_fs.h, Z_EROFS_ADVISE_.
mod advice {
    pub(super) const TWO_BYTES: u16 = 0x1;
    pub(super) const LARGE: u16 = 0x2;
    pub(super) const OTHERS: u16 = !0x7;
}

/// Sign that a number is a count of blocks. Source: erofs_fs.h, Z_EROFS_VLE_DI_D0_CBLKCNT.
const COUNT: u16 = 1 << 11;
/// Bits of a number in a compact index, where a block has 4 KiB. Source: zmap.c, unpack_compacted_index.
const NUMBER_BITS: usize = 12;

/// An entry of the index, for each block of the content. Source: erofs_fs.h, Z_EROFS_VLE_CLUSTER_TYPE_.
#[derive(Debug, Clone, Copy)]
enum Mark {
    /// Bytes that are stored as they are begin in it, at an offset; and their block.
    Plain(u16, u32),
    /// Compressed bytes begin in it; and their first block.
    Head(u16, u32),
    /// What began before goes on; of the first one behind a head, how many blocks it has.
    Inside(Option<u16>),
}

#[derive(Debug, Clone, Copy)]
struct Extent {
    length: u64,
    /// First block.
    block: u32,
    blocks: u32,
    is_compressed: bool,
}

pub(super) struct Reader<'a> {
    image: &'a Image,
    inode: &'a Inode,
    extents: std::vec::IntoIter<Extent>,
    /// Bytes of the content that were put into `buffer` so far.
    done: u64,
    buffer: Vec<u8>,
    taken: usize,
}

/// Bytes that are read at once.
const PIECE: u64 = 1 << 18;

impl<'a> Reader<'a> {
    /// Opens a content.
    /// Errors: `InvalidData` for an index that makes no sense, `Unsupported` for one that is not read.
    pub(super) fn new(image: &'a Image, inode: &'a Inode) -> io::Result<Self> {
        let extents = match inode.layout {
            Layout::Plain | Layout::Inline => Vec::new(),
            Layout::Compressed | Layout::Compact => image.extents(inode)?,
        };
        Ok(Self { image, inode, extents: extents.into_iter(), done: 0, buffer: Vec::new(), taken: 0 })
    }

    fn fill(&mut self) -> io::Result<()> {
        let left = self.inode.size.saturating_sub(self.done);
        if left == 0 {
            return Ok(());
        }
        self.taken = 0;
        self.buffer = match self.inode.layout {
            Layout::Plain | Layout::Inline => {
                let block = self.image.block();
                // Whole blocks first; what is left over lies beside the inode.
                let tail = if self.inode.layout == Layout::Inline { self.inode.size % block } else { 0 };
                let blocks = self.inode.size - tail;
                match blocks.saturating_sub(self.done) {
                    0 => self.image.bytes(self.inode.end(), tail)?,
                    left => {
                        let at = u64::from(self.inode.place) * block + self.done;
                        self.image.bytes(at, left.min(PIECE))?
                    }
                }
            }
            Layout::Compressed | Layout::Compact => {
                let extent = self.extents.next().ok_or_else(|| wrong("a file's index ends before the file"))?;
                self.image.extent(&extent)?
            }
        };
        self.done += self.buffer.len() as u64;
        Ok(())
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        while self.taken == self.buffer.len() && self.done < self.inode.size {
            self.fill()?;
        }
        let rest = &self.buffer[self.taken..];
        let count = rest.len().min(into.len());
        into[..count].copy_from_slice(&rest[..count]);
        self.taken += count;
        Ok(count)
    }
}

impl Image {
    /// The bytes of an extent.
    fn extent(&self, extent: &Extent) -> io::Result<Vec<u8>> {
        let length = usize::try_from(extent.length).map_err(io::Error::other)?;
        let stored = self.bytes(u64::from(extent.block) * self.block(), u64::from(extent.blocks) * self.block())?;
        if !extent.is_compressed {
            return Ok(stored
                .get(..length)
                .ok_or_else(|| wrong("uncompressed data is longer than its block"))?
                .to_vec());
        }
        // lz4 makes no more than 255 bytes of one.
        if length > stored.len().saturating_mul(256) {
            return Err(wrong("a compressed piece is longer than lz4 makes it"));
        }
        // Zeros stand before what is compressed.
        let start = stored.iter().position(|byte| *byte != 0).unwrap_or(stored.len());
        let mut bytes = vec![0; length];
        let count = lz4_flex::block::decompress_into(&stored[start..], &mut bytes)
            .map_err(|error| wrong(format!("a compressed piece is damaged: {error}")))?;
        match count == length {
            true => Ok(bytes),
            false => Err(wrong("a compressed piece does not match its index")),
        }
    }

    /// The extents of a compressed file. Source: zmap.c.
    fn extents(&self, inode: &Inode) -> io::Result<Vec<Extent>> {
        if inode.size == 0 {
            return Ok(Vec::new());
        }
        if !self.zero_padding || self.block_bits != 12 {
            return Err(unread("the compression of kernels before Linux 5.4, or blocks other than 4 KiB"));
        }
        let head_at = inode.end().next_multiple_of(8);
        let head = self.bytes(head_at, 8)?;
        let advice = u16_at(&head, 4);
        if advice & advice::OTHERS != 0 || head[6] != 0 || head[7] != 0 {
            return Err(unread("packed tails, fragments, or a compressor other than lz4"));
        }
        let count = inode.size.div_ceil(self.block());
        // Each mark takes two bytes at least.
        if count > self.length / 2 {
            return Err(wrong("a file's index is longer than the image"));
        }
        let is_large = advice & advice::LARGE != 0;
        let marks = match inode.layout {
            Layout::Compact => self.compact(head_at + 8, count, advice)?,
            _ => self.full(head_at + 16, count)?,
        };
        let mut found: Vec<Extent> = Vec::new();
        let mut last: Option<(u64, Mark, u32)> = None;
        let mut close = |end: u64, last: Option<(u64, Mark, u32)>| -> io::Result<()> {
            let Some((start, mark, blocks)) = last else { return Ok(()) };
            let length = end.checked_sub(start).ok_or_else(|| wrong("a file's index goes backwards"))?;
            if length > 0 {
                let (block, is_compressed) = match mark {
                    Mark::Plain(_, block) => (block, false),
                    Mark::Head(_, block) => (block, true),
                    Mark::Inside(_) => return Err(wrong("a file's index begins in the middle")),
                };
                found.push(Extent { length, block, blocks, is_compressed });
            }
            Ok(())
        };
        for (number, mark) in marks.into_iter().enumerate() {
            let at = (number as u64) << self.block_bits;
            match mark {
                Mark::Plain(offset, _) | Mark::Head(offset, _) => {
                    let start = at + u64::from(offset);
                    close(start.min(inode.size), last.take())?;
                    if number == 0 && start != 0 {
                        return Err(wrong("a file's index begins in the middle"));
                    }
                    last = Some((start, mark, 1));
                }
                Mark::Inside(blocks) => {
                    let open = last.as_mut().ok_or_else(|| wrong("a file's index begins in the middle"))?;
                    if let Some(blocks) = blocks.filter(|_| is_large) {
                        open.2 = u32::from(blocks);
                    }
                }
            }
        }
        close(inode.size, last)?;
        Ok(found)
    }

    /// An index of eight bytes for each block.
    fn full(&self, at: u64, count: u64) -> io::Result<Vec<Mark>> {
        let bytes = self.bytes(at, count * 8)?;
        let mark = |one: &[u8]| match u16_at(one, 0) & 3 {
            0 => Mark::Plain(u16_at(one, 2), u32_at(one, 4)),
            2 => {
                let first = u16_at(one, 4);
                Mark::Inside((first & COUNT != 0).then_some(first & !COUNT))
            }
            _ => Mark::Head(u16_at(one, 2), u32_at(one, 4)),
        };
        Ok(bytes.chunks_exact(8).map(mark).collect())
    }

    /// An index of two or four bytes for each block, in packs that share the number of a block.
    fn compact(&self, at: u64, count: u64, advice: u16) -> io::Result<Vec<Mark>> {
        let is_large = advice & advice::LARGE != 0;
        // Packs of 32 bytes are aligned; what comes before and behind them has four bytes a mark.
        let before = if advice & advice::TWO_BYTES != 0 { ((32 - at % 32) % 32 / 4).min(count) } else { count };
        let small = (count - before) / 16 * 16;
        let mut marks = Vec::new();
        let mut at = at;
        for (mut left, each, bytes) in [(before, 2, 8), (small, 16, 32), (count - before - small, 2, 8)] {
            while left > 0 {
                let pack = self.bytes(at, bytes)?;
                marks.extend(unpack(&pack, each.min(left as usize), if each == 16 { 14 } else { 16 }, is_large)?);
                at += bytes;
                left = left.saturating_sub(each as u64);
            }
        }
        Ok(marks)
    }
}

/// Marks of a pack, whose last four bytes are the number of the block before its first one.
fn unpack(pack: &[u8], count: usize, bits: usize, is_large: bool) -> io::Result<Vec<Mark>> {
    let all: Vec<(u16, u16)> = (0..count)
        .map(|number| {
            let at = number * bits;
            let word = u32_at(&[pack, &[0; 4]].concat(), at / 8) >> (at % 8);
            ((word & ((1 << NUMBER_BITS) - 1)) as u16, (word >> NUMBER_BITS & 3) as u16)
        })
        .collect();
    let base = u32_at(pack, pack.len() - 4);
    all.iter()
        .enumerate()
        .map(|(at, (number, kind))| {
            if *kind == 2 {
                return Ok(Mark::Inside((number & COUNT != 0).then_some(number & !COUNT)));
            }
            // How many blocks the marks before it have.
            let mut blocks = u32::from(!is_large);
            let mut before = at;
            while before > 0 {
                before -= 1;
                let (number, kind) = all[before];
                match (kind, is_large) {
                    (2, false) => {
                        before = match before.checked_sub(usize::from(number)) {
                            Some(before) => before,
                            None => break,
                        };
                        blocks += 1;
                    }
                    (2, true) if number & COUNT != 0 => {
                        // The head itself is counted with it.
                        before = before.saturating_sub(1);
                        blocks += u32::from(number & !COUNT);
                    }
                    (2, true) => {
                        let back = usize::from(number).checked_sub(2);
                        let back = back.ok_or_else(|| wrong("a file's index has wrong counts"))?;
                        before = before.saturating_sub(back);
                    }
                    _ => blocks += 1,
                }
            }
            let block = base.wrapping_add(blocks);
            Ok(if *kind == 0 { Mark::Plain(*number, block) } else { Mark::Head(*number, block) })
        })
        .collect()
}
