//! What counts where a recipe says nothing, and the default is not in the schema: because it depends on another value,
//! or because a key must not hold it.

use crate::{ArchiveKind, Model, PackCompress, PackProfile};

/// zstd's level of a balanced image, and of an initrd.
pub const ZSTD_LEVEL: u32 = 3;
/// gzip's level of a balanced image, and of an initrd: gzip's own.
pub const GZIP_LEVEL: u32 = 6;
/// xz's level of a balanced image: xz's own.
const XZ_LEVEL: u32 = 6;
/// The word by which a recipe says that DHCP names each node; also where it says nothing.
pub const HOSTNAME_BY_DHCP: &str = "dhcp";
/// How large a node's root may grow, as imgbuild-init has it where the command line has no `rootlimit=`.
pub const ROOT_SIZE: &str = "90%";

impl PackCompress {
    /// As the recipe writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
            Self::Xz => "xz",
            Self::Lz4 => "lz4",
        }
    }

    /// The highest level that makes an image which every node can unpack; 0 where there are none.
    pub fn highest_level(self) -> u32 {
        match self {
            Self::Zstd => 19,
            Self::Gzip | Self::Xz => 9,
            Self::None | Self::Lz4 => 0,
        }
    }
}

impl PackProfile {
    /// The level of a compression; 0 where there are none. Measured in docs/performance.md.
    pub fn level(self, compress: PackCompress) -> u32 {
        let balanced = match compress {
            PackCompress::Zstd => ZSTD_LEVEL,
            PackCompress::Gzip => GZIP_LEVEL,
            PackCompress::Xz => XZ_LEVEL,
            PackCompress::Lz4 | PackCompress::None => return 0,
        };
        match self {
            Self::Fast => 1,
            Self::Balanced => balanced,
            Self::Small => compress.highest_level(),
        }
    }

    /// Bytes of a block of an archive, or of what is compressed at once; 0 where there are none. A node unpacks larger ones
    /// more than it asked for, each time: measured in docs/performance.md.
    pub fn block_size(self, archive: ArchiveKind) -> u32 {
        match (archive, self) {
            (ArchiveKind::Cpio | ArchiveKind::Tar, _) => 0,
            (ArchiveKind::Squashfs, Self::Fast | Self::Balanced) => 128 << 10,
            (ArchiveKind::Squashfs, Self::Small) => 256 << 10,
            (ArchiveKind::Erofs, Self::Fast | Self::Balanced) => 64 << 10,
            (ArchiveKind::Erofs, Self::Small) => 128 << 10,
        }
    }
}

impl ArchiveKind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpio => "cpio",
            Self::Tar => "tar",
            Self::Squashfs => "squashfs",
            Self::Erofs => "erofs",
        }
    }
}

impl Model {
    pub fn profile(&self) -> &str {
        self.xcat.profile.as_deref().unwrap_or(&self.image.name)
    }

    /// xCAT's name of the distribution and its release.
    pub fn osvers(&self) -> String {
        let image = &self.image;
        self.xcat.osvers.clone().unwrap_or_else(|| format!("{}-{}", image.distro.name(), image.release))
    }

    pub fn osimage(&self) -> &str {
        self.xcat.osimage.as_deref().unwrap_or(&self.image.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_on_the_node_has_the_same_size_of_root() {
        let init = include_str!("../../../../imgbuild-init/src/image/unpacked.rs");
        assert!(init.contains(&format!("root_limit.as_deref().unwrap_or(\"{ROOT_SIZE}\")")));
    }
}
