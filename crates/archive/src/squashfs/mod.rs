//! squashfs 4.0, written so that one changed file costs its own blocks: data blocks lie in frames that are kept by what they
//! hold, and everything that says where they are is recreated. Sources: Linux, fs/squashfs/squashfs_fs.h, and
//! Documentation/filesystems/squashfs.rst.
//!
//! ```text
//! head    superblock and the compressor's options
//! frames  data blocks of files, then blocks with the ends of several files (fragments), frame after frame
//! tables  inodes, directories, fragments, inode numbers, ids, extended attributes
//! ```
//!
//! A block is compressed by itself and knows no place, so a frame may stand anywhere. Files of equal content are there once.

mod blocks;
mod encoder;
mod inodes;
mod metadata;
mod read;
mod tables;
mod xattrs;

pub use blocks::{BlockInfo, DataFile, DataFrame, Run, cut_blocks};
pub use read::list_squashfs;
pub use tables::{Finished, Image, finish};
pub use xattrs::fits;

/// Version of how images are cut and written; part of the keys. 1: first; 2: runs begin at whole blocks.
pub const SQUASHFS_VERSION: u32 = 2;

/// Bit of a block's size: it is stored as it is. Source: squashfs_fs.h, SQUASHFS_COMPRESSED_BIT_BLOCK.
const STORED: u32 = 1 << 24;
