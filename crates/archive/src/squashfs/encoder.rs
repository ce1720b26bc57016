//! One block, compressed by itself: no header of a stream beyond what the kernel's decoder wants.

use std::io;

use crate::Compression;

pub(super) struct Encoder(Kind);

enum Kind {
    Stored,
    Zstd(Box<zstd::bulk::Compressor<'static>>),
    Zlib(Box<flate2::Compress>),
    /// Preset, and the dictionary's size: the kernel's decoder gets no more than a block.
    Xz(u32, u32),
    Lz4,
}

impl Encoder {
    /// An encoder for blocks of at most so many bytes.
    pub(super) fn new(compression: Compression, block_size: u32) -> io::Result<Self> {
        Ok(Self(match compression {
            Compression::None => Kind::Stored,
            Compression::Zstd(level) => {
                Kind::Zstd(Box::new(zstd::bulk::Compressor::new(i32::try_from(level).unwrap_or(i32::MAX))?))
            }
            Compression::Gzip(level) => {
                Kind::Zlib(Box::new(flate2::Compress::new(flate2::Compression::new(level), true)))
            }
            Compression::Xz(level) => Kind::Xz(level, block_size),
            Compression::Lz4 => Kind::Lz4,
        }))
    }

    /// The compressed block; none where it would not get smaller.
    pub(super) fn encode(&mut self, content: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let encoded = match &mut self.0 {
            Kind::Stored => return Ok(None),
            Kind::Zstd(encoder) => encoder.compress(content)?,
            Kind::Zlib(encoder) => {
                encoder.reset();
                // Room for what does not get smaller. Source: zlib, compressBound.
                let mut out = Vec::with_capacity(content.len() + content.len() / 1000 + 64);
                match encoder.compress_vec(content, &mut out, flate2::FlushCompress::Finish) {
                    Ok(flate2::Status::StreamEnd) => out,
                    Ok(_) => return Ok(None),
                    Err(error) => return Err(io::Error::other(error)),
                }
            }
            Kind::Xz(level, dictionary) => {
                let mut options = liblzma::stream::LzmaOptions::new_preset(*level)?;
                options.dict_size((*dictionary).max(8 << 10));
                let mut filters = liblzma::stream::Filters::new();
                filters.lzma2(&options);
                let mut stream = liblzma::stream::Stream::new_stream_encoder(&filters, liblzma::stream::Check::Crc32)?;
                let mut out = Vec::with_capacity(content.len() + content.len() / 2 + 1024);
                match stream.process_vec(content, &mut out, liblzma::stream::Action::Finish)? {
                    liblzma::stream::Status::StreamEnd => out,
                    _ => return Ok(None),
                }
            }
            Kind::Lz4 => lz4_flex::block::compress(content),
        };
        Ok((encoded.len() < content.len()).then_some(encoded))
    }
}

/// Number of a compressor in the superblock. Source: squashfs_fs.h.
pub(super) fn number(compression: Compression) -> u16 {
    match compression {
        // Everything is stored then; a reader wants some compressor.
        Compression::None | Compression::Gzip(_) => 1,
        Compression::Xz(_) => 4,
        Compression::Lz4 => 5,
        Compression::Zstd(_) => 6,
    }
}

/// The compressor's options as they stand behind the superblock; only where they are not the usual ones.
pub(super) fn options(compression: Compression) -> Vec<u8> {
    match compression {
        Compression::Zstd(level) if level != 15 => level.to_le_bytes().to_vec(),
        Compression::Gzip(level) if level != 9 => {
            // Level, window, strategies.
            [level.to_le_bytes().as_slice(), &15_u16.to_le_bytes(), &0_u16.to_le_bytes()].concat()
        }
        // Version 1, no flags: lz4 has to say so.
        Compression::Lz4 => [1_u32.to_le_bytes(), 0_u32.to_le_bytes()].concat(),
        _ => Vec::new(),
    }
}
