//! Inodes in their long form, and what says where compressed data lies.

use super::BLOCK;
use super::blocks::chunk_lengths;
use store::{Entry, Kind};

/// Bytes of an inode.
pub(super) const INODE: u64 = 64;

/// How an inode's data is stored. Source: erofs_fs.h, EROFS_INODE_.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Plain = 0,
    /// Compressed, with an index of eight bytes for each block.
    Compressed = 1,
    /// In whole blocks, with the end beside the inode.
    Inline = 2,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub layout: Layout,
    pub number: u32,
    pub links: u32,
    /// Bytes of content.
    pub size: u64,
    /// First block of the data, or how many blocks are compressed.
    pub block: u32,
    /// Bytes of what stands between the inode and its data.
    pub xattrs: usize,
}

/// Bits of a mode. Source: stat(2).
fn mode(entry: &Entry) -> u16 {
    let kind = match entry.kind {
        Kind::Directory => 0o040_000,
        Kind::File { .. } => 0o100_000,
        Kind::Symlink(_) => 0o120_000,
        Kind::Character(..) => 0o020_000,
        Kind::Block(..) => 0o060_000,
        Kind::Fifo => 0o010_000,
        Kind::Socket => 0o140_000,
        Kind::Whiteout => 0,
    };
    kind | (entry.mode as u16 & 0o7777)
}

/// A device's number as Linux writes it into 32 bits. Source: include/linux/kdev_t.h, new_encode_dev.
fn device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}

/// An inode. Source: erofs_fs.h, struct erofs_inode_extended.
pub(super) fn inode(entry: &Entry, head: &Head) -> Vec<u8> {
    // In words of four bytes, the first three of which count as one.
    let xattrs = if head.xattrs == 0 { 0 } else { (head.xattrs - 12) / 4 + 1 };
    let place = match entry.kind {
        Kind::Character(major, minor) | Kind::Block(major, minor) => device(major, minor),
        _ => head.block,
    };
    let mut out = Vec::with_capacity(INODE as usize);
    for number in [1 | (head.layout as u16) << 1, xattrs as u16, mode(entry), 0] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&head.size.to_le_bytes());
    for number in [place, head.number, entry.uid, entry.gid] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.extend_from_slice(&entry.mtime.to_le_bytes());
    for number in [0, head.links] {
        out.extend_from_slice(&number.to_le_bytes());
    }
    out.resize(INODE as usize, 0);
    out
}

/// Kinds of entries of the index. Source: erofs_fs.h, Z_EROFS_VLE_CLUSTER_TYPE_.
mod kind {
    pub(super) const PLAIN: u16 = 0;
    pub(super) const HEAD: u16 = 1;
    pub(super) const NONHEAD: u16 = 2;
}

/// Sign in the first entry behind a head: the chunk's blocks. Source: erofs_fs.h, Z_EROFS_VLE_DI_D0_CBLKCNT.
const COUNT: u16 = 1 << 11;

/// Bytes from the end of the attributes to the end of the index, at most.
pub(super) fn index_size(size: u64) -> u64 {
    8 + 16 + size.div_ceil(BLOCK) * 8
}

/// Which block holds which part of a compressed file: a head of eight bytes, eight that no one reads, then an entry for
/// each block of the content; `before` is what stands before it, as far as that decides where eight bytes begin.
pub(super) fn index(size: u64, chunk: u32, chunks: &[u8], mut block: u32, before: u64) -> Vec<u8> {
    let mut out = vec![0; usize::try_from(before.next_multiple_of(8) - before).unwrap_or_default()];
    // struct z_erofs_map_header: chunks may have several blocks.
    out.extend_from_slice(&[0, 0, 0, 0, 2, 0, 0, 0]);
    out.extend_from_slice(&[0; 8]);
    let mut entry = |kind: u16, offset: u16, word: [u16; 2]| {
        for number in [kind, offset, word[0], word[1]] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    };
    let halves = |block: u32| [(block & 0xffff) as u16, (block >> 16) as u16];
    for (length, blocks) in chunk_lengths(size, chunk).zip(chunks) {
        let whole = length / BLOCK;
        let rest = (length % BLOCK) as u16;
        if *blocks == 0 {
            for _ in 0..length.div_ceil(BLOCK) {
                entry(kind::PLAIN, 0, halves(block));
                block += 1;
            }
            continue;
        }
        entry(kind::HEAD, 0, halves(block));
        for number in 1..whole {
            // How far back the head is, and how far on the next one.
            let first = if number == 1 { COUNT | u16::from(*blocks) } else { number as u16 };
            entry(kind::NONHEAD, 0, [first, (whole - number) as u16]);
        }
        if rest > 0 {
            // Where the content ends, as if another chunk began there.
            entry(kind::PLAIN, rest, [0, 0]);
        }
        block += u32::from(*blocks);
    }
    out
}
