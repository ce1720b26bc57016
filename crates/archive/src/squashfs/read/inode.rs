//! Inodes. Source: Linux, fs/squashfs/squashfs_fs.h, the structures `squashfs_*_inode`.

use std::io;

use super::Image;
use super::pieces::wrong;
use crate::members::budget::{ATTRIBUTES_OF_ONE, over};

/// No fragment, no attributes.
pub(super) const NONE: u32 = u32::MAX;
/// Blocks of a file at most: 2 TiB of the usual size.
const MOST_BLOCKS: u64 = 1 << 24;
/// Longest target of a link, in bytes. Source: PATH_MAX.
const LONGEST_LINK: u32 = 4096;

#[derive(Debug)]
pub(crate) struct Inode {
    /// Type and permission bits, as stat(2) has them.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub mtime: u32,
    pub number: u32,
    pub links: u32,
    pub xattr: u32,
    pub kind: Kind,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// Where its list lies: block and byte of the table of directories, and its length.
    Directory {
        block: u32,
        offset: u16,
        length: u32,
    },
    File(Content),
    Link(Vec<u8>),
    /// As the kernel writes device numbers.
    Device(u32),
    Other,
}

#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub size: u64,
    /// First byte of the first block.
    pub start: u64,
    pub blocks: Vec<u32>,
    /// Number of the fragment that has the end, or [`NONE`], and where in it.
    pub fragment: (u32, u32),
}

impl Image {
    /// Reads the inode at a reference: block and byte of the table of inodes.
    pub(crate) fn inode(&mut self, reference: u64) -> io::Result<Inode> {
        let block_size = u64::from(self.head.block_size);
        let block =
            self.head.inodes.checked_add(reference >> 16).ok_or_else(|| wrong("an inode is outside the image"))?;
        let mut table = self.pieces.table(block, (reference & 0xffff) as usize);
        let (kind, mode) = (table.u16()?, u32::from(table.u16()?));
        let (uid, gid) = (table.u16()?, table.u16()?);
        let (mtime, number) = (table.u32()?, table.u32()?);
        let mut xattr = NONE;
        let mut links = 1;
        let content = match kind {
            1 => {
                let block = table.u32()?;
                links = table.u32()?;
                let (length, offset) = (u32::from(table.u16()?), table.u16()?);
                Kind::Directory { block, offset, length }
            }
            8 => {
                links = table.u32()?;
                let (length, block, _parent) = (table.u32()?, table.u32()?, table.u32()?);
                let (_indices, offset) = (table.u16()?, table.u16()?);
                xattr = table.u32()?;
                Kind::Directory { block, offset, length }
            }
            2 | 9 => {
                let (start, size, fragment);
                if kind == 2 {
                    start = u64::from(table.u32()?);
                    fragment = (table.u32()?, table.u32()?);
                    size = u64::from(table.u32()?);
                } else {
                    (start, size) = (table.u64()?, table.u64()?);
                    let _sparse = table.u64()?;
                    links = table.u32()?;
                    fragment = (table.u32()?, table.u32()?);
                    xattr = table.u32()?;
                }
                let count = if fragment.0 == NONE { size.div_ceil(block_size) } else { size / block_size };
                if count > MOST_BLOCKS {
                    return Err(wrong("a file has too many blocks"));
                }
                let mut blocks = Vec::new();
                for _ in 0..count {
                    blocks.push(table.u32()?);
                }
                Kind::File(Content { size, start, blocks, fragment })
            }
            3 | 10 => {
                links = table.u32()?;
                let length = table.u32()?;
                if length > LONGEST_LINK {
                    return Err(wrong("a link is longer than any path"));
                }
                let target = table.take(length as usize)?;
                if kind == 10 {
                    xattr = table.u32()?;
                }
                Kind::Link(target)
            }
            4 | 5 | 11 | 12 => {
                links = table.u32()?;
                let device = table.u32()?;
                if kind > 7 {
                    xattr = table.u32()?;
                }
                Kind::Device(device)
            }
            6 | 7 | 13 | 14 => {
                links = table.u32()?;
                if kind > 7 {
                    xattr = table.u32()?;
                }
                Kind::Other
            }
            other => return Err(wrong(format!("an inode has the unknown type {other}"))),
        };
        let format = match kind {
            1 | 8 => 0o040_000,
            2 | 9 => 0o100_000,
            3 | 10 => 0o120_000,
            4 | 11 => 0o060_000,
            5 | 12 => 0o020_000,
            6 | 13 => 0o010_000,
            _ => 0o140_000,
        };
        let (uid, gid) = (self.id(uid)?, self.id(gid)?);
        Ok(Inode { mode: format | mode & 0o7777, uid, gid, mtime, number, links, xattr, kind: content })
    }

    fn id(&mut self, number: u16) -> io::Result<u32> {
        let bytes = self.pieces.entry(self.head.ids, u64::from(number), 4)?;
        Ok(u32::from_le_bytes(bytes.try_into().unwrap_or_default()))
    }

    pub(crate) fn xattrs(&mut self, number: u32) -> io::Result<Vec<(String, Vec<u8>)>> {
        if number == NONE || self.head.xattrs == u64::MAX {
            return Ok(Vec::new());
        }
        let head = self.pieces.bytes(self.head.xattrs, 16)?;
        let (values, rest) = head.split_at(8);
        let values = u64::from_le_bytes(values.try_into().unwrap_or_default());
        let count = u32::from_le_bytes(rest[..4].try_into().unwrap_or_default());
        if number >= count {
            return Err(wrong("an inode's attributes are missing"));
        }
        let list = self.head.xattrs + 16;
        let entry = self.pieces.entry(list, u64::from(number), 16)?;
        let reference = u64::from_le_bytes(entry[..8].try_into().unwrap_or_default());
        let count = u32::from_le_bytes(entry[8..12].try_into().unwrap_or_default());
        let place = |reference: u64| {
            let block =
                values.checked_add(reference >> 16).ok_or_else(|| wrong("an attribute is outside the image"))?;
            Ok::<_, io::Error>((block, (reference & 0xffff) as usize))
        };
        let (mut block, mut offset) = place(reference)?;
        let mut found: Vec<(String, Vec<u8>)> = Vec::new();
        let mut bytes = 0;
        for _ in 0..count {
            if bytes > ATTRIBUTES_OF_ONE {
                return Err(over(ATTRIBUTES_OF_ONE, "bytes of attributes of one file"));
            }
            let mut table = self.pieces.table(block, offset);
            let (kind, length) = (table.u16()?, table.u16()?);
            // Source: squashfs_fs.h, SQUASHFS_XATTR_*.
            let prefix = match kind & 0xff {
                0 => "user.",
                1 => "trusted.",
                2 => "security.",
                other => return Err(wrong(format!("an attribute has the unknown type {other}"))),
            };
            let name = table.take(usize::from(length))?;
            let size = table.u32()?;
            let short =
                |size: u32| if size > 1 << 16 { Err(wrong("an attribute is too long")) } else { Ok(size as usize) };
            let mut value = table.take(short(size)?)?;
            (block, offset) = table.place();
            if kind & 0x100 != 0 {
                let (block, offset) = place(u64::from_le_bytes(
                    value.try_into().map_err(|_| wrong("an attribute is outside the image"))?,
                ))?;
                let mut table = self.pieces.table(block, offset);
                let size = table.u32()?;
                value = table.take(short(size)?)?;
            }
            // A head for each, so that empty ones count too.
            bytes += (8 + name.len() + value.len()) as u64;
            found.push((format!("{prefix}{}", String::from_utf8_lossy(&name)), value));
        }
        Ok(found)
    }
}
