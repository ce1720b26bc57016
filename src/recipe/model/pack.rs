//! How the image is packed and booted.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How the image is packed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// Archive.
    #[serde(default)]
    pub archive: ArchiveKind,
    /// Compression. None: zstd, and lz4 for erofs.
    #[serde(default)]
    pub compress: Option<PackCompress>,
    /// Whether the archive is cut into frames that nodes check and unpack one by one, or is one stream that a kernel
    /// takes as its initramfs; cpio only.
    #[serde(default)]
    pub frames: Frames,
    /// Bytes of a block of squashfs, a power of two from 4096 to 1048576, or of what erofs compresses at once, from 8192 to 524288.
    /// None: 131072 for squashfs, 65536 for erofs.
    #[serde(default)]
    #[schemars(range(min = 4096, max = 1_048_576))]
    pub block_size: Option<u32>,
    /// Level of the compression. None: 3 for zstd, 6 for gzip and xz; lz4 has none.
    #[serde(default)]
    #[schemars(range(min = 1, max = 19))]
    pub level: Option<u32>,
    /// More forms of the same image: each a file of its own beside the first, for the same kernel and initrd.
    #[serde(default)]
    pub also: Vec<PackAlso>,
}

/// One more form of the image.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PackAlso {
    /// Archive.
    pub archive: ArchiveKind,
    /// Compression. None: zstd, and lz4 for erofs.
    #[serde(default)]
    pub compress: Option<PackCompress>,
    /// Bytes of a block, as `block_size` of `[pack]`.
    #[serde(default)]
    #[schemars(range(min = 4096, max = 1_048_576))]
    pub block_size: Option<u32>,
    /// Level of the compression, as `level` of `[pack]`.
    #[serde(default)]
    #[schemars(range(min = 1, max = 19))]
    pub level: Option<u32>,
}

/// How an archive is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Frames {
    /// Into independent frames, cached by content.
    #[default]
    Many,
    /// Not at all.
    Single,
}

/// Kind of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveKind {
    /// cpio, form `newc`; unpacked into the node's memory.
    #[default]
    Cpio,
    /// tar, with extended attributes; unpacked into the node's memory.
    Tar,
    /// squashfs; stays packed in the node's memory, below an overlay.
    Squashfs,
    /// erofs; stays packed in the node's memory, below an overlay.
    Erofs,
}

/// Compression of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PackCompress {
    /// zstd.
    #[default]
    Zstd,
    /// gzip.
    Gzip,
    /// xz.
    Xz,
    /// lz4.
    Lz4,
    /// None.
    None,
}

/// How nodes boot it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Words for the kernel's command line.
    #[serde(default)]
    pub cmdline: Vec<String>,
    /// Sizes of tmpfs mounts by path, for instance `"/tmp" = "50m"`; they become the image's fstab.
    #[serde(default)]
    pub tmpfs: BTreeMap<String, String>,
    /// Size of the root file system in memory, for instance `4g` or `80%`. None: 90% of memory.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9]+[kmgKMG%]?$"))]
    pub root_size: Option<String>,
}
