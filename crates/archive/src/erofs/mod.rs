//! erofs, written so that one changed file costs its own blocks: data lies in frames that are kept by what they hold, and
//! everything that says where it is is recreated. Source: Linux, fs/erofs/erofs_fs.h, and
//! Documentation/filesystems/erofs.rst.
//!
//! ```text
//! head    a block with the superblock
//! frames  blocks of files, frame after frame
//! tables  inodes with the ends of small files, blocks of directories, extended attributes
//! ```
//!
//! A file is stored in whole blocks, or compressed in chunks that each take whole blocks. Ends that fit beside their inode are
//! there. Files of equal content are there once.

mod blocks;
mod directories;
mod image;
mod inodes;
mod nodes;
mod place;
mod read;
mod tables;
mod tails;
mod xattrs;

pub use blocks::{Chunks, EroInfo, EroRun, cut_erofs};
pub use image::EroImage;
pub use read::list_erofs;
pub use tables::finish_erofs;
pub use xattrs::fits_erofs;

/// Version of how images are cut and written; part of the keys. 1: first.
pub const EROFS_VERSION: u32 = 1;

/// Bytes of a block.
const BLOCK: u64 = 4096;

/// Longest end of a file that is kept beside its inode, in bytes: with inode and attributes it must fit into a block.
const TAIL: u64 = 3072;
