//! Unpacks a frame: a piece of an archive, compressed by itself.

use std::io::{BufReader, Read};

use super::cpio;
use super::tar::{self, Left};
use crate::fault;
use crate::sys::Root;

/// Compressions that are known.
pub const COMPRESSIONS: [&str; 5] = ["zstd", "gzip", "xz", "lz4", "none"];

/// Decompresses and unpacks a frame below a directory.
///
/// # Errors
/// A text: what is wrong with the frame, or what the kernel refused.
pub fn frame(frame: &[u8], archive: &str, compress: &str, root: &str) -> Result<Left, String> {
    let plain: Box<dyn Read> = match compress {
        "none" => Box::new(frame),
        "gzip" => Box::new(flate2::read::MultiGzDecoder::new(frame)),
        "xz" => Box::new(liblzma::bufread::XzDecoder::new(frame)),
        "lz4" if fault::planted("node-lz4-not-unpacked") => Box::new(frame),
        "lz4" => Box::new(lz4_flex::frame::FrameDecoder::new(frame)),
        _ => Box::new(zstd::Decoder::with_buffer(frame).map_err(|error| error.to_string())?),
    };
    let mut input = BufReader::with_capacity(1 << 16, plain);
    let root = Root::open(root).map_err(|error| error.to_string())?;
    match archive {
        "tar" => tar::unpack(&mut input, &root),
        _ => cpio::unpack(&mut input, &root).map(|times| Left { times, ..Left::default() }),
    }
}
