//! A squashfs 4.0 from any source, read without mounting it: what an image holds, entry by entry. Sources: Linux,
//! fs/squashfs/squashfs_fs.h, and Documentation/filesystems/squashfs.rst. An image is hostile: sizes are held against the file, a
//! directory is entered once.

mod inode;
mod pieces;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use self::inode::{Content, Kind, NONE};
use self::pieces::{Packing, Pieces, wrong};
use crate::members::budget::{Budget, over};
use crate::members::listing::{Listed, Look, Named};
use node_words::name::text_of;

struct Head {
    block_size: u32,
    root: u64,
    ids: u64,
    xattrs: u64,
    inodes: u64,
    directories: u64,
    fragments: u64,
    fragment_count: u32,
}

pub(super) struct Image {
    head: Head,
    pieces: Pieces,
    /// The fragment that was read last: files of one directory lie in one.
    fragment: Option<(u32, std::rc::Rc<Vec<u8>>)>,
}

/// Lists a squashfs. The content of a file of several names comes with the first; `same_as` of the others names it.
/// Errors: `InvalidData` for what is no such image, `Unsupported` for a compressor that is not read; the reader's and `look`'s.
pub fn list_squashfs(file: &File, look: &mut Look<'_>) -> io::Result<()> {
    let mut image = Image::open(file.try_clone()?)?;
    let mut entered = HashSet::new();
    let mut names: HashMap<u32, String> = HashMap::new();
    let mut waiting = vec![Named::root(image.head.root)];
    let most = Budget::of_file(file)?.entries();
    while let Some(named) = waiting.pop() {
        let inode = image.inode(named.inode)?;
        let mut listed = Listed {
            path: named.path(),
            mode: inode.mode,
            uid: inode.uid,
            gid: inode.gid,
            size: 0,
            mtime: i64::from(inode.mtime),
            target: None,
            same_as: None,
            file: None,
            device: (0, 0),
            xattrs: image.xattrs(inode.xattr)?,
        };
        match &inode.kind {
            Kind::Directory { .. } if !entered.insert(inode.number) => {
                return Err(wrong("a directory appears twice"));
            }
            Kind::Directory { block, offset, length } => {
                let inside =
                    image.names(&listed.path, *block, *offset, *length, most.saturating_sub(waiting.len() as u64))?;
                look(&listed, &mut io::empty())?;
                waiting.extend(inside.into_iter().rev());
            }
            Kind::File(content) => {
                if inode.links > 1 && !fault::planted("squashfs-link-forgotten") {
                    listed.same_as = names.get(&inode.number).cloned();
                    names.entry(inode.number).or_insert_with(|| listed.path.clone());
                }
                if listed.same_as.is_some() {
                    look(&listed, &mut io::empty())?;
                } else {
                    listed.size = content.size;
                    look(&listed, &mut image.reader(content.clone()))?;
                }
            }
            Kind::Link(target) => {
                listed.target = Some(text_of(target).into_owned());
                look(&listed, &mut io::empty())?;
            }
            Kind::Device(number) => {
                // Source: Linux, include/linux/kdev_t.h, new_decode_dev.
                listed.device = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xf_ff00);
                look(&listed, &mut io::empty())?;
            }
            Kind::Other => look(&listed, &mut io::empty())?,
        }
    }
    Ok(())
}

impl Image {
    fn open(file: File) -> io::Result<Self> {
        let mut head = [0; 96];
        file.read_exact_at(&mut head, 0).map_err(|_| wrong("it is truncated"))?;
        let u16_at = |at: usize| u16::from_le_bytes([head[at], head[at + 1]]);
        let u32_at = |at: usize| u32::from(u16_at(at)) | u32::from(u16_at(at + 2)) << 16;
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        if (u16_at(28), u16_at(30)) != (4, 0) && !fault::planted("squashfs-any-version") {
            return Err(wrong(format!("it has version {}.{}, but only 4.0 is supported", u16_at(28), u16_at(30))));
        }
        let block_size = u32_at(12);
        if !block_size.is_power_of_two() || !(4096..=1 << 20).contains(&block_size) {
            return Err(wrong(format!("its blocks have {block_size} bytes")));
        }
        let head = Head {
            block_size,
            root: u64_at(32),
            ids: u64_at(48),
            xattrs: u64_at(56),
            inodes: u64_at(64),
            directories: u64_at(72),
            fragments: u64_at(80),
            fragment_count: u32_at(16),
        };
        Ok(Self { pieces: Pieces::new(file, Packing::of(u16_at(20))?), head, fragment: None })
    }

    /// What a directory names, in its order: that of the names' bytes.
    fn names(
        &mut self,
        directory: &str,
        block: u32,
        offset: u16,
        length: u32,
        most: u64,
    ) -> io::Result<Vec<Named<u64>>> {
        // The kernel counts `.` and `..` too. Source: fs/squashfs/dir.c.
        let Some(mut left) = length.checked_sub(3) else { return Ok(Vec::new()) };
        let block = self
            .head
            .directories
            .checked_add(u64::from(block))
            .ok_or_else(|| wrong("a directory is outside the image"))?;
        let mut table = self.pieces.table(block, usize::from(offset));
        let directory = Rc::from(directory);
        let mut found = Vec::new();
        let mut used = |bytes: u32| {
            left = left.checked_sub(bytes).ok_or_else(|| wrong("a directory is longer than its recorded size"))?;
            Ok::<u32, io::Error>(left)
        };
        while used(0)? > 0 {
            let (count, inodes, _number) = (table.u32()?, table.u32()?, table.u32()?);
            used(12)?;
            // Source: squashfs_fs.h, SQUASHFS_DIR_COUNT.
            if count >= 256 {
                return Err(wrong("a directory header has too many names"));
            }
            for _ in 0..=count {
                let (offset, _number, _kind) = (table.u16()?, table.u16()?, table.u16()?);
                let length = table.u16()?.saturating_add(1);
                let name = table.take(usize::from(length))?;
                used(8 + u32::from(length))?;
                if name.contains(&b'/') || name.contains(&0) || name == b"." || name == b".." {
                    return Err(wrong("a name contains a slash or a NUL, or is only dots"));
                }
                if found.len() as u64 >= most {
                    return Err(over(most, "names that wait"));
                }
                found.push(Named::new(&directory, &name, u64::from(inodes) << 16 | u64::from(offset))?);
            }
        }
        Ok(found)
    }

    fn reader(&mut self, content: Content) -> Reader<'_> {
        Reader { at: content.start, left: content.size, block: 0, buffer: Vec::new(), taken: 0, content, image: self }
    }

    fn fragment(&mut self, number: u32) -> io::Result<std::rc::Rc<Vec<u8>>> {
        if let Some((known, bytes)) = &self.fragment
            && *known == number
        {
            return Ok(bytes.clone());
        }
        if number >= self.head.fragment_count {
            return Err(wrong("a fragment is missing"));
        }
        let entry = self.pieces.entry(self.head.fragments, u64::from(number), 16)?;
        let start = u64::from_le_bytes(entry[..8].try_into().unwrap_or_default());
        let size = u32::from_le_bytes(entry[8..12].try_into().unwrap_or_default());
        let bytes = std::rc::Rc::new(self.pieces.data(start, size, self.head.block_size as usize)?);
        self.fragment = Some((number, bytes.clone()));
        Ok(bytes)
    }
}

/// A file's bytes, block by block.
struct Reader<'a> {
    image: &'a mut Image,
    content: Content,
    at: u64,
    left: u64,
    block: usize,
    buffer: Vec<u8>,
    taken: usize,
}

impl Reader<'_> {
    fn fill(&mut self) -> io::Result<()> {
        let most = self.image.head.block_size as usize;
        let length = usize::try_from(self.left).unwrap_or(most).min(most);
        let bytes = match self.content.blocks.get(self.block) {
            // A hole.
            Some(0) => vec![0; length],
            Some(size) => {
                let bytes = self.image.pieces.data(self.at, *size, most)?;
                self.at += u64::from(size & !super::STORED);
                bytes
            }
            None => {
                let (number, offset) = self.content.fragment;
                if number == NONE {
                    return Err(wrong("a file is truncated"));
                }
                let fragment = self.image.fragment(number)?;
                let end = (offset as usize).checked_add(length).ok_or_else(|| wrong("a fragment is truncated"))?;
                fragment.get(offset as usize..end).ok_or_else(|| wrong("a fragment is truncated"))?.to_vec()
            }
        };
        if bytes.len() != length {
            return Err(wrong("a block's length does not match its file"));
        }
        self.block += 1;
        self.left -= length as u64;
        (self.buffer, self.taken) = (bytes, 0);
        Ok(())
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if self.taken == self.buffer.len() {
            if self.left == 0 {
                return Ok(0);
            }
            self.fill()?;
        }
        let length = into.len().min(self.buffer.len() - self.taken);
        into[..length].copy_from_slice(&self.buffer[self.taken..self.taken + length]);
        self.taken += length;
        Ok(length)
    }
}

#[cfg(test)]
mod tests;
