//! An erofs from any source, read without mounting it: what an image holds, entry by entry. Sources: Linux, fs/erofs/erofs_fs.h
//! and zmap.c, and Documentation/filesystems/erofs.rst. An image is hostile: sizes are held against the file, a directory is
//! entered once.

mod content;
mod inode;

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use self::content::Reader;
use self::inode::Inode;
use crate::members::budget::{Budget, over};
use crate::members::listing::{Listed, Look, Named};
use node_words::name::text_of;

/// The magic number of a superblock. Source: erofs_fs.h, EROFS_SUPER_MAGIC_V1.
const MAGIC: u32 = 0xe0f5_e1e2;
/// Bytes of a directory or of a link's target at most.
const MOST_TEXT: u64 = 256 << 20;

/// Features that change how an image is read. Source: erofs_fs.h, EROFS_FEATURE_INCOMPAT_.
mod feature {
    pub(super) const ZERO_PADDING: u32 = 0x1;
    pub(super) const COMPRESSORS: u32 = 0x2;
    /// Names, as messages have them, of those that are not read.
    pub(super) const OTHERS: [(u32, &str); 6] = [
        (0x4, "chunks"),
        (0x8, "several devices"),
        (0x10, "packed tails"),
        (0x20, "fragments"),
        (0x40, "attribute prefixes"),
        (!0x7f, "features of newer kernels"),
    ];
}

fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, text.into())
}

fn unread(what: &str) -> io::Error {
    let text = format!("it is an erofs with {what}, which imgbuild does not support: mount it and pass the directory");
    io::Error::new(io::ErrorKind::Unsupported, text)
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    bytes.get(at..at + 2).map_or(0, |two| u16::from_le_bytes([two[0], two[1]]))
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}

struct Image {
    file: File,
    length: u64,
    /// Bytes of a block, as a power of two.
    block_bits: u32,
    root: u64,
    /// Time of inodes that have none of their own.
    time: i64,
    inodes: u64,
    xattrs: u64,
    zero_padding: bool,
}

/// Lists an erofs. The content of a file of several names comes with the first; `same_as` of the others names it.
/// Errors: `InvalidData` for what is no such image, `Unsupported` for features that are not read; the reader's and `look`'s.
pub fn list_erofs(file: &File, look: &mut Look<'_>) -> io::Result<()> {
    let image = Image::open(file.try_clone()?)?;
    let mut entered = HashSet::new();
    let mut names: HashMap<u64, String> = HashMap::new();
    let mut waiting = vec![Named::root(image.root)];
    let most = Budget::of_file(file)?.entries();
    while let Some(named) = waiting.pop() {
        if waiting.len() as u64 > most {
            return Err(over(most, "names that wait"));
        }
        let number = named.inode;
        let inode = image.inode(number)?;
        let mut listed = Listed {
            path: named.path(),
            mode: u32::from(inode.mode),
            uid: inode.uid,
            gid: inode.gid,
            size: 0,
            mtime: inode.mtime,
            target: None,
            same_as: None,
            file: None,
            device: (0, 0),
            xattrs: image.xattrs(&inode)?,
        };
        // Source of the bits: stat(2).
        match inode.mode & 0o170_000 {
            0o040_000 => {
                if !entered.insert(number) {
                    return Err(wrong("a directory appears twice"));
                }
                let inside = image.names(&listed.path, &inode)?;
                look(&listed, &mut io::empty())?;
                waiting.extend(inside.into_iter().rev());
            }
            0o100_000 => {
                if inode.links > 1 {
                    listed.same_as = names.get(&number).cloned();
                    names.entry(number).or_insert_with(|| listed.path.clone());
                }
                if listed.same_as.is_some() {
                    look(&listed, &mut io::empty())?;
                } else {
                    listed.size = inode.size;
                    look(&listed, &mut Reader::new(&image, &inode)?)?;
                }
            }
            0o120_000 => {
                listed.target = Some(text_of(&image.text(&inode)?).into_owned());
                look(&listed, &mut io::empty())?;
            }
            0o020_000 | 0o060_000 => {
                // Source: Linux, include/linux/kdev_t.h, new_decode_dev.
                let number = inode.place;
                listed.device = (number >> 8 & 0xfff, number & 0xff | number >> 12 & 0xf_ff00);
                look(&listed, &mut io::empty())?;
            }
            0o010_000 | 0o140_000 => look(&listed, &mut io::empty())?,
            mode => return Err(wrong(format!("an inode has an invalid type ({mode:o})"))),
        }
    }
    Ok(())
}

impl Image {
    fn open(file: File) -> io::Result<Self> {
        let length = file.metadata()?.len();
        let mut head = [0; 128];
        // Source: erofs_fs.h, EROFS_SUPER_OFFSET and struct erofs_super_block.
        file.read_exact_at(&mut head, 1024).map_err(|_| wrong("it is truncated"))?;
        if u32_at(&head, 0) != MAGIC {
            return Err(wrong("it is not an erofs image; decompress it first if it is compressed"));
        }
        let features = u32_at(&head, 80);
        for (bits, what) in feature::OTHERS {
            if features & bits != 0 {
                return Err(unread(what));
            }
        }
        let block_bits = u32::from(head[12]);
        if !(9..=16).contains(&block_bits) {
            return Err(wrong(format!("its blocks have 2^{block_bits} bytes")));
        }
        // The bits of compressors: LZ4 is the first.
        if features & feature::COMPRESSORS != 0 && u16_at(&head, 84) & !1 != 0 {
            return Err(unread("a compressor other than lz4"));
        }
        let place = |at: usize| u64::from(u32_at(&head, at)) << block_bits;
        Ok(Self {
            length,
            block_bits,
            root: u64::from(u16_at(&head, 14)),
            time: i64::try_from(u64_at(&head, 24)).unwrap_or(0),
            inodes: place(40),
            xattrs: place(44),
            zero_padding: features & feature::ZERO_PADDING != 0,
            file,
        })
    }

    /// Bytes of a block.
    fn block(&self) -> u64 {
        1 << self.block_bits
    }

    /// Bytes from a place; all of them lie in the file.
    fn bytes(&self, at: u64, count: u64) -> io::Result<Vec<u8>> {
        if at.checked_add(count).is_none_or(|end| end > self.length) {
            return Err(wrong("something is past its end"));
        }
        let mut bytes = vec![0; usize::try_from(count).map_err(io::Error::other)?];
        self.file.read_exact_at(&mut bytes, at)?;
        Ok(bytes)
    }

    /// All of a small content: a directory's, or a link's target.
    fn text(&self, inode: &Inode) -> io::Result<Vec<u8>> {
        if inode.size > MOST_TEXT.min(self.length) {
            return Err(wrong("a directory or a link is too large"));
        }
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut Reader::new(self, inode)?, &mut bytes)?;
        Ok(bytes)
    }

    /// What a directory names, in its order: that of the names' bytes. Source: erofs_fs.h, struct erofs_dirent.
    fn names(&self, directory: &str, inode: &Inode) -> io::Result<Vec<Named<u64>>> {
        const ENTRY: usize = 12;
        let text = self.text(inode)?;
        let directory = Rc::from(directory);
        let mut found = Vec::new();
        for block in text.chunks(self.block() as usize) {
            let first = usize::from(u16_at(block, 8));
            if first < ENTRY || first % ENTRY != 0 || first > block.len() {
                return Err(wrong("a directory has an invalid table of names"));
            }
            for at in (0..first).step_by(ENTRY) {
                let start = usize::from(u16_at(block, at + 8));
                let is_last = at + ENTRY >= first;
                let end = if is_last { block.len() } else { usize::from(u16_at(block, at + ENTRY + 8)) };
                let name = block.get(start..end).ok_or_else(|| wrong("a name is past the end of its directory"))?;
                // The last one of a block ends with a zero, or with the block.
                let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
                if name == b"." || name == b".." {
                    continue;
                }
                if name.is_empty() || name.contains(&b'/') {
                    return Err(wrong("a name is empty, or has a slash"));
                }
                found.push(Named::new(&directory, name, u64_at(block, at))?);
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests;
