//! The forms of a packed image.

use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Form {
    Cpio {
        /// Whether it is one stream, as the kernel wants an initramfs.
        single: bool,
    },
    /// tar, in the pax interchange format.
    Tar,
    Squashfs {
        /// Bytes of a block.
        block_size: u32,
    },
    Erofs {
        /// Bytes of a chunk that is compressed by itself.
        chunk: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    Cpio,
    Tar,
}

impl Form {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpio { .. } => "cpio",
            Self::Tar => "tar",
            Self::Squashfs { .. } => "squashfs",
            Self::Erofs { .. } => "erofs",
        }
    }
}
