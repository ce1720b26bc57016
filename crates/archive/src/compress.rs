//! The compressors of images and initrds. One thread, no time and no name, so that the bytes depend on the content, the level
//! and the library alone.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// Bytes of a block that file systems share between files (xfs and btrfs with their usual settings): frames begin at multiples of
/// it where the form allows, so that a published image can share the blocks of its frames.
pub const SHARED_BLOCK: u64 = 4096;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Compression {
    None,
    Zstd(u32),
    Gzip(u32),
    Xz(u32),
    Lz4,
}

/// The libraries that make the bytes: another version may make others. Part of the keys of what they make; a test compares
/// them with Cargo.lock.
const LIBZSTD: &str = "1.5.7";
const ZLIB_RS: &str = "0.6.8";
const LIBLZMA: &str = "0.4.9";
const LZ4_FLEX: &str = "0.14.0";

impl Compression {
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Zstd(_) => "zstd",
            Self::Gzip(_) => "gzip",
            Self::Xz(_) => "xz",
            Self::Lz4 => "lz4",
        }
    }

    pub fn level(self) -> u32 {
        match self {
            Self::Zstd(level) | Self::Gzip(level) | Self::Xz(level) => level,
            Self::None | Self::Lz4 => 0,
        }
    }

    /// The library that compresses, with its version.
    pub fn encoder(self) -> String {
        match self {
            Self::Zstd(_) => format!("libzstd {LIBZSTD}"),
            Self::Gzip(_) => format!("zlib-rs {ZLIB_RS}"),
            Self::Xz(_) => format!("liblzma-sys {LIBLZMA}"),
            Self::Lz4 => format!("lz4_flex {LZ4_FLEX}"),
            Self::None => "none".to_owned(),
        }
    }

    /// All that the bytes are a function of, besides the content.
    pub fn describe(self) -> String {
        format!("{} {} {}", self.name(), self.level(), self.encoder())
    }

    /// Fills a stream of `size` bytes up to a multiple of [`SHARED_BLOCK`] with what decoders skip. zstd alone has a form for it
    /// that all its readers know; lz4's and gzip's are refused by some.
    /// Source: RFC 8878, section 3.1.2, skippable frames.
    /// Errors: The sink's.
    pub(crate) fn pad(self, out: &mut dyn Write, size: u64) -> io::Result<()> {
        const HEAD: u64 = 8;
        let missing = size.next_multiple_of(SHARED_BLOCK) - size;
        if missing == 0 || !matches!(self, Self::Zstd(_)) {
            return Ok(());
        }
        let missing = if missing < HEAD { missing + SHARED_BLOCK } else { missing };
        let mut bytes = vec![0; usize::try_from(missing).unwrap_or_default()];
        bytes[..4].copy_from_slice(&0x184d_2a50_u32.to_le_bytes());
        bytes[4..8].copy_from_slice(&((missing - HEAD) as u32).to_le_bytes());
        out.write_all(&bytes)
    }

    /// Compresses content that lies in memory, as one stream. zstd finds what comes again in the content itself then, and not in a
    /// copy of the last two megabytes, which gives a hundredth fewer bytes in no more time.
    /// Errors: The sink's.
    pub fn write_whole(self, content: &[u8], out: &mut dyn Write) -> io::Result<()> {
        match self {
            Self::Zstd(level) => {
                let level = i32::try_from(level).unwrap_or(i32::MAX);
                out.write_all(&zstd::bulk::compress(content, level)?)
            }
            _ => self.write(out, |to| to.write_all(content)),
        }
    }

    /// Compresses what `fill` writes, as one stream.
    /// Errors: The sink's, and those of `fill`.
    pub fn write<T>(self, mut out: impl Write, fill: impl FnOnce(&mut dyn Write) -> io::Result<T>) -> io::Result<T> {
        match self {
            // At levels up to 19 the window is below 2^27: the kernel's decoder takes no more (D22).
            Self::Zstd(level) => {
                let mut encoder = zstd::Encoder::new(&mut out, i32::try_from(level).unwrap_or(i32::MAX))?;
                let filled = fill(&mut encoder)?;
                encoder.finish()?;
                Ok(filled)
            }
            Self::Gzip(level) => {
                let builder = flate2::GzBuilder::new().mtime(0).operating_system(255);
                let mut encoder = builder.write(&mut out, flate2::Compression::new(level));
                let filled = fill(&mut encoder)?;
                encoder.finish()?;
                Ok(filled)
            }
            Self::Xz(level) => {
                // The kernel's and busybox's decoders know this check. Source: Linux, Documentation/staging/xz.rst.
                let stream = liblzma::stream::Stream::new_easy_encoder(level, liblzma::stream::Check::Crc32)?;
                let mut encoder = liblzma::write::XzEncoder::new_stream(&mut out, stream);
                let filled = fill(&mut encoder)?;
                encoder.finish()?;
                Ok(filled)
            }
            Self::Lz4 => {
                let mut encoder = lz4_flex::frame::FrameEncoder::new(&mut out);
                let filled = fill(&mut encoder)?;
                encoder.finish().map_err(io::Error::other)?;
                Ok(filled)
            }
            Self::None => fill(&mut out),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::digest::Sha256;

    /// Some megabytes of what images hold: text, programs, tables, zeros, what is compressed already.
    fn mixed() -> Vec<u8> {
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let words = ["Package", "lib", "the", "/usr/share/doc", "\n", " = ", "0x", "driver", "return", ";"];
        let mut all = Vec::new();
        for _ in 0..200_000 {
            all.extend_from_slice(words[(random() % 10) as usize].as_bytes());
        }
        // As instructions: few opcodes, operands that vary a little.
        for at in 0..200_000_u32 {
            all.extend_from_slice(&[0x48, [0x89, 0x8b, 0x83, 0xe8][(random() % 4) as usize]]);
            all.extend_from_slice(&(at.wrapping_mul(16) ^ (random() as u32 & 0xff)).to_le_bytes());
        }
        all.extend(std::iter::repeat_n(0, 300_000));
        (0..60_000).for_each(|_| all.extend_from_slice(&random().to_le_bytes()));
        let again = all[..400_000].to_vec();
        all.extend_from_slice(&again);
        all
    }

    fn digest_of(compression: Compression, content: &[u8]) -> String {
        let mut out = Vec::new();
        compression.write(&mut out, |to| to.write_all(content)).unwrap();
        Sha256::of(&out).to_string()[..16].to_owned()
    }

    /// Where this fails, an encoder makes other bytes: its version above has to be another one.
    #[test]
    fn the_bytes_of_each_compressor_are_pinned() {
        let content = mixed();
        assert!(content.len() > 3 << 20, "{}", content.len());
        let all = [1, 3, 9, 19].map(Compression::Zstd).into_iter().chain([1, 6, 9].map(Compression::Gzip));
        let all = all.chain([1, 6].map(Compression::Xz)).chain([Compression::Lz4]);
        let lines = all.map(|one| format!("{} {} {}\n", one.name(), one.level(), digest_of(one, &content)));
        let whole = [1, 3, 9, 19].map(|level| {
            let mut out = Vec::new();
            Compression::Zstd(level).write_whole(&content, &mut out).unwrap();
            assert_eq!(zstd::decode_all(&out[..]).unwrap(), content);
            format!("zstd {level} whole {}\n", &Sha256::of(&out).to_string()[..16])
        });
        let lines = lines.collect::<String>() + &whole.concat();
        let content = format!("content {}\n", &Sha256::of(&content).to_string()[..16]);
        insta::assert_snapshot!(content + &lines);
    }

    #[test]
    fn decoders_skip_what_fills_a_frame_up() {
        for size in [0, 1, 4087, 4088, 4089, 4095, 4096, 5000] {
            let content = mixed()[..size * 16].to_vec();
            let mut out = Vec::new();
            Compression::Zstd(3).write(&mut out, |to| to.write_all(&content)).unwrap();
            // As if it had so many bytes, so that each distance to the next multiple comes up.
            let before = out.len() as u64;
            Compression::Zstd(3).pad(&mut out, size as u64).unwrap();
            let added = out.len() as u64 - before;
            assert_eq!((size as u64 + added) % SHARED_BLOCK, 0);
            assert!(added < SHARED_BLOCK + 8, "{added}");
            Compression::Zstd(3).write(&mut out, |to| to.write_all(b"the next")).unwrap();
            assert_eq!(zstd::decode_all(&out[..]).unwrap(), [&content[..], b"the next"].concat());
        }
        let mut none = Vec::new();
        Compression::Gzip(6).pad(&mut none, 1).unwrap();
        assert!(none.is_empty());
    }

    #[test]
    fn the_versions_in_the_keys_are_those_that_are_linked() {
        let lock: toml::Table = include_str!("../../../Cargo.lock").parse().unwrap();
        let versions = |name: &str| -> Vec<String> {
            let all = lock["package"].as_array().unwrap();
            let own = all.iter().filter(|package| package["name"].as_str() == Some(name));
            own.map(|package| package["version"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(versions("zlib-rs"), [ZLIB_RS]);
        assert_eq!(versions("liblzma-sys"), [LIBLZMA]);
        assert_eq!(versions("lz4_flex"), [LZ4_FLEX]);
        let [linked] = &versions("zstd-sys")[..] else { panic!("several zstd") };
        assert_eq!(linked.rsplit_once("+zstd.").unwrap().1, LIBZSTD);
        assert_eq!(zstd::zstd_safe::version_string(), LIBZSTD);
        // Who builds against another one has other bytes under the same keys.
        let manifest = include_str!("../../../Cargo.toml");
        assert!(manifest.contains("\"vendored\"") && manifest.contains("features = [\"zlib-rs\"]"));
    }
}
