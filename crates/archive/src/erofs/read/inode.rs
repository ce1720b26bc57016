//! Inodes, short and long, and their attributes.

use std::io;

use super::{Image, u16_at, u32_at, u64_at, unread, wrong};

/// How an inode's data is stored. Source: erofs_fs.h, EROFS_INODE_.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Layout {
    Plain,
    /// Compressed, with an index of eight bytes for each block.
    Compressed,
    /// In whole blocks, with the end beside the inode.
    Inline,
    /// Compressed, with an index of two or four bytes for each block.
    Compact,
}

#[derive(Debug, Clone)]
pub(super) struct Inode {
    pub layout: Layout,
    pub mode: u16,
    pub uid: u32,
    pub gid: u32,
    pub links: u32,
    /// Bytes of content.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    /// First block, blocks that are compressed, or a device's number.
    pub place: u32,
    /// Where its attributes begin, and their bytes.
    pub attributes: (u64, u64),
}

impl Inode {
    pub(super) fn end(&self) -> u64 {
        self.attributes.0 + self.attributes.1
    }
}

/// Names of attributes by the number of their kind. Source: erofs_fs.h, EROFS_XATTR_INDEX_.
fn kind(number: u8) -> Option<&'static str> {
    Some(match number {
        1 => "user.",
        2 => "system.posix_acl_access",
        3 => "system.posix_acl_default",
        4 => "trusted.",
        6 => "security.",
        _ => return None,
    })
}

impl Image {
    /// An inode by its number. Source: erofs_fs.h, struct erofs_inode_compact and erofs_inode_extended.
    pub(super) fn inode(&self, number: u64) -> io::Result<Inode> {
        let at = number.checked_mul(32).and_then(|at| at.checked_add(self.inodes));
        let at = at.ok_or_else(|| wrong("an inode is outside the image"))?;
        let short = self.bytes(at, 32)?;
        let format = u16_at(&short, 0);
        let layout = match format >> 1 & 7 {
            0 => Layout::Plain,
            1 => Layout::Compressed,
            2 => Layout::Inline,
            3 => Layout::Compact,
            4 => return Err(unread("chunks")),
            _ => return Err(wrong("an inode has an unknown data layout")),
        };
        if format >> 4 != 0 {
            return Err(unread("inodes of newer kernels"));
        }
        let count = u64::from(u16_at(&short, 2));
        // A head, and words of four bytes; the head counts as one of them.
        let attributes = if count == 0 { 0 } else { 12 + (count - 1) * 4 };
        let mode = u16_at(&short, 4);
        if format & 1 == 0 {
            return Ok(Inode {
                layout,
                mode,
                links: u32::from(u16_at(&short, 6)),
                size: u64::from(u32_at(&short, 8)),
                place: u32_at(&short, 16),
                uid: u32::from(u16_at(&short, 24)),
                gid: u32::from(u16_at(&short, 26)),
                mtime: self.time,
                attributes: (at + 32, attributes),
            });
        }
        let long = self.bytes(at, 64)?;
        Ok(Inode {
            layout,
            mode,
            size: u64_at(&long, 8),
            place: u32_at(&long, 16),
            uid: u32_at(&long, 24),
            gid: u32_at(&long, 28),
            mtime: u64_at(&long, 32) as i64,
            links: u32_at(&long, 44),
            attributes: (at + 64, attributes),
        })
    }

    /// Attributes of an inode: those that several share, and its own. Source: erofs_fs.h, struct erofs_xattr_ibody_header.
    pub(super) fn xattrs(&self, inode: &Inode) -> io::Result<Vec<(String, Vec<u8>)>> {
        let (at, size) = inode.attributes;
        if size == 0 {
            return Ok(Vec::new());
        }
        let body = self.bytes(at, size)?;
        let shared = usize::from(body[4]);
        let mut found = Vec::new();
        for number in 0..shared {
            let place =
                body.get(12 + number * 4..16 + number * 4).ok_or_else(|| wrong("an attribute is outside the image"))?;
            let at = self.xattrs + u64::from(u32_at(place, 0)) * 4;
            let head = self.bytes(at, 4)?;
            let bytes = self.bytes(at, 4 + u64::from(head[0]) + u64::from(u16_at(&head, 2)))?;
            found.extend(attribute(&bytes)?.0);
        }
        let mut rest = body.get(12 + shared * 4..).unwrap_or_default();
        while rest.len() >= 4 {
            let (one, used) = attribute(rest)?;
            found.extend(one);
            rest = rest.get(used.next_multiple_of(4)..).unwrap_or_default();
        }
        found.sort();
        Ok(found)
    }
}

type Attribute = (String, Vec<u8>);

/// An attribute, and the bytes that it takes; none where only padding is left.
fn attribute(bytes: &[u8]) -> io::Result<(Option<Attribute>, usize)> {
    let (name, size) = (usize::from(bytes[0]), usize::from(u16_at(bytes, 2)));
    let used = 4 + name + size;
    let all = bytes.get(4..used).ok_or_else(|| wrong("an attribute is longer than its space"))?;
    // What is left at the end of an area.
    if bytes[1] == 0 && used == 4 {
        return Ok((None, used));
    }
    let kind = kind(bytes[1]).ok_or_else(|| wrong(format!("an attribute has an unknown type ({})", bytes[1])))?;
    let name = format!("{kind}{}", node_words::name::text_of(&all[..name]));
    Ok((Some((name, all[all.len() - size..].to_vec())), used))
}
