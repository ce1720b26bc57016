//! The forms in which a recipe has its image packed.

use super::effective::{GZIP_LEVEL, XZ_LEVEL, ZSTD_LEVEL};
use super::{ArchiveKind, Frames, Pack, PackCompress};

/// One form, with what counts where the recipe says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedForm {
    /// Archive.
    pub archive: ArchiveKind,
    /// Compression.
    pub compress: PackCompress,
    /// How the archive is cut.
    pub frames: Frames,
    /// Bytes of a block, where the recipe says.
    pub block_size: Option<u32>,
    /// Level, where the recipe says.
    pub level: Option<u32>,
    /// The table that asks for it: `pack`, `pack.also[0]`.
    pub at: String,
}

impl PackedForm {
    fn new(archive: ArchiveKind, compress: Option<PackCompress>, at: String) -> Self {
        let usual = match archive {
            ArchiveKind::Erofs => PackCompress::Lz4,
            ArchiveKind::Cpio | ArchiveKind::Tar | ArchiveKind::Squashfs => PackCompress::Zstd,
        };
        let compress = compress.unwrap_or(usual);
        Self { archive, compress, frames: Frames::Many, block_size: None, level: None, at }
    }

    /// Whether it is the first one, which nodes boot unless they are told otherwise.
    pub fn is_first(&self) -> bool {
        self.at == "pack"
    }

    /// The path of one of its settings in the recipe.
    pub fn field(&self, name: &str) -> String {
        format!("{}.{name}", self.at)
    }

    /// The level of its compression; 0 where there are none.
    pub fn effective_level(&self) -> u32 {
        match self.compress {
            PackCompress::Zstd => self.level.unwrap_or(ZSTD_LEVEL),
            PackCompress::Gzip => self.level.unwrap_or(GZIP_LEVEL),
            PackCompress::Xz => self.level.unwrap_or(XZ_LEVEL),
            PackCompress::None | PackCompress::Lz4 => 0,
        }
    }

    /// Name of the packed image: it tells its archive and compressor.
    pub fn rootimg(&self) -> &'static str {
        match (self.archive, self.compress) {
            (ArchiveKind::Squashfs, _) => "rootimg.sfs",
            (ArchiveKind::Erofs, _) => "rootimg.erofs",
            (ArchiveKind::Cpio, PackCompress::Zstd) => "rootimg.cpio.zst",
            (ArchiveKind::Cpio, PackCompress::Gzip) => "rootimg.cpio.gz",
            (ArchiveKind::Cpio, PackCompress::Xz) => "rootimg.cpio.xz",
            (ArchiveKind::Cpio, PackCompress::Lz4) => "rootimg.cpio.lz4",
            (ArchiveKind::Cpio, PackCompress::None) => "rootimg.cpio",
            (ArchiveKind::Tar, PackCompress::Zstd) => "rootimg.tar.zst",
            (ArchiveKind::Tar, PackCompress::Gzip) => "rootimg.tar.gz",
            (ArchiveKind::Tar, PackCompress::Xz) => "rootimg.tar.xz",
            (ArchiveKind::Tar, PackCompress::Lz4) => "rootimg.tar.lz4",
            (ArchiveKind::Tar, PackCompress::None) => "rootimg.tar",
        }
    }
}

impl Pack {
    /// The first form: the one of `[pack]` itself.
    pub fn first(&self) -> PackedForm {
        let form = PackedForm::new(self.archive, self.compress, "pack".to_owned());
        PackedForm { frames: self.frames, block_size: self.block_size, level: self.level, ..form }
    }

    /// All forms, the first one first.
    pub fn forms(&self) -> Vec<PackedForm> {
        let also = self.also.iter().enumerate().map(|(index, also)| {
            let form = PackedForm::new(also.archive, also.compress, format!("pack.also[{index}]"));
            PackedForm { block_size: also.block_size, level: also.level, ..form }
        });
        std::iter::once(self.first()).chain(also).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_belong_to_their_compressors() {
        let level =
            |compress, level| Pack { compress: Some(compress), level, ..Pack::default() }.first().effective_level();
        assert_eq!([level(PackCompress::Zstd, None), level(PackCompress::Zstd, Some(19))], [3, 19]);
        assert_eq!([level(PackCompress::Gzip, None), level(PackCompress::Gzip, Some(9))], [6, 9]);
        assert_eq!(level(PackCompress::Lz4, None), 0);
    }
}
