//! The forms in which a recipe has its image packed.

use super::{ArchiveKind, Frames, Pack, PackCompress, PackProfile};

/// One form, with what counts where the recipe says nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedForm {
    pub archive: ArchiveKind,
    pub compress: PackCompress,
    pub frames: Frames,
    pub profile: PackProfile,
    pub block_size: Option<u32>,
    pub level: Option<u32>,
    /// The table that asks for it: `pack`, `pack.also[0]`.
    pub at: String,
}

impl PackedForm {
    fn new(archive: ArchiveKind, compress: Option<PackCompress>, profile: PackProfile, at: String) -> Self {
        let usual = match archive {
            ArchiveKind::Erofs => PackCompress::Lz4,
            ArchiveKind::Cpio | ArchiveKind::Tar | ArchiveKind::Squashfs => PackCompress::Zstd,
        };
        let compress = compress.unwrap_or(usual);
        Self { archive, compress, frames: Frames::Many, profile, block_size: None, level: None, at }
    }

    /// Whether it is the first one, which nodes boot unless configured otherwise.
    pub fn is_first(&self) -> bool {
        self.at == "pack"
    }

    /// The path of one of its settings in the recipe.
    pub fn field(&self, name: &str) -> String {
        format!("{}.{name}", self.at)
    }

    /// The level of its compression; 0 where there are none.
    pub fn effective_level(&self) -> u32 {
        let profiled = self.profile.level(self.compress);
        self.level.filter(|_| profiled > 0).unwrap_or(profiled)
    }

    /// Bytes of a block, or of what is compressed at once; 0 where there are none.
    pub fn effective_block_size(&self) -> u32 {
        self.block_size.unwrap_or_else(|| self.profile.block_size(self.archive))
    }

    /// The field that decides on its level or its blocks.
    pub fn deciding(&self, name: &str) -> String {
        let is_written = if name == "level" { self.level.is_some() } else { self.block_size.is_some() };
        let is_profiled = !is_written && self.profile != PackProfile::Balanced;
        if is_profiled { "pack.profile".to_owned() } else { self.field(name) }
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
        let form = PackedForm::new(self.archive, self.compress, self.profile, "pack".to_owned());
        PackedForm { frames: self.frames, block_size: self.block_size, level: self.level, ..form }
    }

    /// All forms, the first one first.
    pub fn forms(&self) -> Vec<PackedForm> {
        let also = self.also.iter().enumerate().map(|(index, also)| {
            let form = PackedForm::new(also.archive, also.compress, self.profile, format!("pack.also[{index}]"));
            PackedForm { block_size: also.block_size, level: also.level, ..form }
        });
        std::iter::once(self.first()).chain(also).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::PackAlso;
    use super::*;

    #[test]
    fn levels_belong_to_their_compressors() {
        let level =
            |compress, level| Pack { compress: Some(compress), level, ..Pack::default() }.first().effective_level();
        assert_eq!([level(PackCompress::Zstd, None), level(PackCompress::Zstd, Some(19))], [3, 19]);
        assert_eq!([level(PackCompress::Gzip, None), level(PackCompress::Gzip, Some(9))], [6, 9]);
        assert_eq!(level(PackCompress::Lz4, None), 0);
    }

    #[test]
    fn a_profile_gives_what_is_not_written_to_all_forms() {
        let also = PackAlso { archive: ArchiveKind::Erofs, compress: None, block_size: None, level: None };
        let written =
            PackAlso { archive: ArchiveKind::Squashfs, block_size: Some(4096), level: Some(7), ..also.clone() };
        let pack = |profile| Pack { profile, also: vec![also.clone(), written.clone()], ..Pack::default() };
        let of = |profile| {
            let forms = pack(profile).forms();
            forms.iter().map(|form| (form.effective_level(), form.effective_block_size())).collect::<Vec<_>>()
        };
        assert_eq!(of(PackProfile::Fast), [(1, 0), (0, 65_536), (7, 4096)]);
        assert_eq!(of(PackProfile::Balanced), [(3, 0), (0, 65_536), (7, 4096)]);
        assert_eq!(of(PackProfile::Small), [(19, 0), (0, 131_072), (7, 4096)]);
        let [first, _, last] = <[_; 3]>::try_from(pack(PackProfile::Small).forms()).unwrap();
        assert_eq!([first.deciding("level"), last.deciding("level")], ["pack.profile", "pack.also[1].level"]);
    }
}
