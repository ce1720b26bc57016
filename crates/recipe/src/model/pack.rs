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
    /// What all forms are packed for: quick builds, or few bytes. It gives `level` and `block_size` where they are not written.
    #[serde(default)]
    pub profile: PackProfile,
    /// Bytes of a block of squashfs, a power of two from 4096 to 1048576, or of what erofs compresses at once, from 8192 to 524288.
    /// None: by the profile; 131072 for squashfs and 65536 for erofs if it is balanced.
    #[serde(default)]
    #[schemars(range(min = 4096, max = 1_048_576))]
    pub block_size: Option<u32>,
    /// Level of the compression. None: by the profile; 3 for zstd, 6 for gzip and xz if it is balanced. lz4 has none.
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

/// What an image is packed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PackProfile {
    /// The lowest levels: for images that are tried and thrown away.
    Fast,
    /// What packs a third smaller than a copy in the time of a few copies.
    #[default]
    Balanced,
    /// The highest levels: for images that many nodes fetch often, or that lie packed in their memory.
    Small,
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

impl ArchiveKind {
    /// Whether nodes mount it as it is.
    pub fn stays_packed(self) -> bool {
        matches!(self, Self::Squashfs | Self::Erofs)
    }
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
    /// How a squashfs or erofs image comes to be the root.
    #[serde(default)]
    pub root: BootRoot,
    /// A disk of the node that keeps what was fetched, so that a reboot asks the server only for what changed.
    #[serde(default)]
    pub cache: Option<BootCache>,
}

/// How an image that stays packed comes to be the root.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum BootRoot {
    /// It is fetched whole before it is the root.
    #[default]
    Memory,
    /// It is read from its servers while the node runs: what the boot needs first, all else after it.
    Lazy,
}

impl BootRoot {
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Lazy => "lazy",
        }
    }
}

/// A disk of the node that keeps what was fetched. Nothing on it is believed: each frame is checked at each boot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BootCache {
    /// The disk or partition: `/dev/NAME`, `LABEL=`, `UUID=` (of its file system) or `PARTLABEL=`.
    pub device: String,
    /// Its file system, which someone made there; its module comes into the initrd.
    #[serde(default)]
    pub filesystem: CacheFilesystem,
    /// Where a squashfs or erofs image lies while the node runs.
    #[serde(default)]
    pub image: CachePlace,
    /// Where the node writes beside a squashfs or erofs image; emptied at each boot.
    #[serde(default)]
    pub writes: CachePlace,
}

/// File systems that can keep frames.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CacheFilesystem {
    /// ext4.
    #[default]
    Ext4,
    /// xfs.
    Xfs,
    /// btrfs.
    Btrfs,
}

impl CacheFilesystem {
    pub fn name(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }
}

/// Where something lies while the node runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum CachePlace {
    /// In memory.
    #[default]
    Memory,
    /// On the disk of the cache.
    Cache,
}

pub const CACHE_DEVICES: [&str; 4] = ["/dev/", "LABEL=", "UUID=", "PARTLABEL="];

impl CachePlace {
    pub fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Cache => "cache",
        }
    }
}

/// Words of the kernel's command line that stand for fields of \[boot\], each with its field.
/// Source of the words: imgbuild-init.
pub const BOOT_WORDS: [(&str, &str); 5] = [
    ("rootlimit=", "boot.root_size"),
    ("imgbuild.root=", "boot.root"),
    ("imgcache=", "boot.cache.device"),
    ("imgbuild.image=", "boot.cache.image"),
    ("imgbuild.writes=", "boot.cache.writes"),
];

impl Boot {
    /// The fields that are words of the kernel's command line and have a value, in the order of [`BOOT_WORDS`].
    pub fn fields(&self) -> Vec<(&'static str, &'static str, String)> {
        let cache = self.cache.as_ref();
        let place =
            |place: Option<CachePlace>| place.filter(|at| *at == CachePlace::Cache).map(|at| at.name().to_owned());
        let values = [
            self.root_size.clone(),
            (self.root == BootRoot::Lazy).then(|| self.root.name().to_owned()),
            cache.map(|cache| cache.device.clone()),
            place(cache.map(|cache| cache.image)),
            place(cache.map(|cache| cache.writes)),
        ];
        BOOT_WORDS.iter().zip(values).filter_map(|((word, field), value)| Some((*word, *field, value?))).collect()
    }
}
