//! Cuts file contents into blocks and groups the blocks into frames. A frame has the data blocks of its files, then
//! blocks with the content of those that are smaller than a block (fragments). A large file has frames of its own,
//! one after another, without fragments.

use std::io::{self, Read};

use super::encoder::Encoder;
use super::{SQUASHFS_VERSION, STORED};
use crate::frames::write::{FRAME_LEAST, FRAME_MOST, FrameInfo, starts_frame};
use crate::{Compression, SHARED_BLOCK};
use base::digest::{Digest, FieldHasher};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DataFile<'a> {
    /// Its path; says where frames are cut.
    pub path: &'a str,
    /// The caller's number of it.
    pub item: usize,
    /// Bytes.
    pub size: u64,
    pub digest: &'a Digest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Piece<'a> {
    file: DataFile<'a>,
    first: u64,
    /// How many; none for a file that is smaller than one.
    blocks: u64,
}

impl Piece<'_> {
    /// Bytes of content.
    fn bytes(&self, block_size: u32) -> u64 {
        let block_size = u64::from(block_size);
        match self.blocks {
            0 => self.file.size,
            blocks => (self.file.size - self.first * block_size).min(blocks * block_size),
        }
    }
}

/// What is compressed and kept together.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DataFrame<'a> {
    pieces: Vec<Piece<'a>>,
}

/// Frames that are written in one go: one with several files, or all of a large file.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Run<'a> {
    pub frames: Vec<DataFrame<'a>>,
}

#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct BlockInfo {
    #[serde(flatten)]
    pub frame: FrameInfo,
    /// Sizes of its blocks, in order, data before fragments; 0 is a block of zeros that is not there.
    pub words: Vec<u32>,
}

/// Where a file's content is in the image.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct FilePlace {
    /// First byte of its blocks.
    pub start: u64,
    pub words: Vec<u32>,
    /// Number of the fragment that has it, and where in it.
    pub fragment: Option<(u32, u32)>,
}

/// A fragment's place and size.
pub(super) type Fragment = (u64, u32);

/// Takes a frame's bytes, and what it is.
pub(super) type Take<'a> = &'a mut dyn FnMut(&[u8], BlockInfo) -> io::Result<()>;

/// Cuts files, sorted by path, into runs.
pub fn cut_blocks(files: Vec<DataFile<'_>>, block_size: u32) -> Vec<Run<'_>> {
    let block_size = u64::from(block_size);
    let mut runs = Vec::new();
    let mut current = DataFrame::default();
    let mut bytes = 0;
    for file in files {
        let blocks = if file.size < block_size { 0 } else { file.size.div_ceil(block_size) };
        if file.size > FRAME_MOST {
            let most = FRAME_MOST / block_size;
            let frames = (0..blocks).step_by(usize::try_from(most.max(1)).unwrap_or(usize::MAX)).map(|first| {
                let piece = Piece { file, first, blocks: most.max(1).min(blocks - first) };
                DataFrame { pieces: vec![piece] }
            });
            runs.push(Run { frames: frames.collect() });
            continue;
        }
        if bytes >= FRAME_MOST || (bytes >= FRAME_LEAST && starts_frame(file.path)) {
            runs.push(Run { frames: vec![std::mem::take(&mut current)] });
            bytes = 0;
        }
        bytes += file.size;
        current.pieces.push(Piece { file, first: 0, blocks });
    }
    if !current.pieces.is_empty() {
        runs.push(Run { frames: vec![current] });
    }
    runs
}

impl DataFrame<'_> {
    /// What identifies it: all that its bytes are a function of.
    pub fn key(&self, compression: Compression, block_size: u32) -> Digest {
        let mut hasher = FieldHasher::new("imgbuild squashfs frame v1");
        hasher.text(&format!("{SQUASHFS_VERSION} {} {block_size}", compression.describe()));
        for piece in &self.pieces {
            hasher.text(&format!("{} {} {} {}", piece.file.digest, piece.file.size, piece.first, piece.blocks));
        }
        hasher.finish()
    }

    /// The number of the fragment in this frame that each small file is in, and where; and how many fragments there are.
    fn tails(&self, block_size: u32) -> (Vec<Option<(u32, u32)>>, u32) {
        let (mut count, mut filled) = (0_u32, block_size);
        let tails = self.pieces.iter().map(|piece| {
            let size = u32::try_from(piece.file.size).unwrap_or(u32::MAX);
            if piece.blocks > 0 {
                return None;
            }
            if filled.saturating_add(size) > block_size {
                count += 1;
                filled = 0;
            }
            let at = (count - 1, filled);
            filled += size;
            Some(at)
        });
        let tails = tails.collect();
        (tails, count)
    }
}

impl Run<'_> {
    /// Compresses all frames; hands each over with what it is.
    /// Errors: The files', with the path in the text, and those of `take`.
    pub fn write<'a>(
        &self,
        (compression, block_size): (Compression, u32),
        content: &dyn Fn(usize) -> io::Result<Box<dyn Read + 'a>>,
        take: Take<'_>,
    ) -> io::Result<()> {
        let mut encoder = Encoder::new(compression, block_size)?;
        // A large file is read once, whatever the number of its frames.
        let mut open: Option<Box<dyn Read + 'a>> = None;
        let mut written = 0;
        for (number, frame) in self.frames.iter().enumerate() {
            // No larger than what is packed, and never copied to grow.
            let most: u64 = frame.pieces.iter().map(|piece| piece.bytes(block_size)).sum();
            let (mut data, mut fragments) = (Vec::with_capacity(most as usize), Vec::new());
            let (mut words, mut fragment_words) = (Vec::new(), Vec::new());
            let mut unpacked = 0;
            let mut block = vec![0; block_size as usize];
            let mut fragment = Vec::with_capacity(block_size as usize);
            let (tails, _) = frame.tails(block_size);
            let mut store = |encoder: &mut Encoder, bytes: &[u8], out: &mut Vec<u8>| -> io::Result<u32> {
                unpacked += bytes.len() as u64;
                Ok(match encoder.encode(bytes)? {
                    Some(encoded) => {
                        out.extend_from_slice(&encoded);
                        encoded.len() as u32
                    }
                    None => {
                        out.extend_from_slice(bytes);
                        bytes.len() as u32 | STORED
                    }
                })
            };
            for (piece, tail) in frame.pieces.iter().zip(&tails) {
                let said = |error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", piece.file.path));
                let mut reader = match open.take().filter(|_| piece.first > 0) {
                    Some(reader) => reader,
                    None => content(piece.file.item).map_err(said)?,
                };
                if let Some((_, offset)) = tail {
                    if *offset == 0 && !fragment.is_empty() {
                        fragment_words.push(store(&mut encoder, &fragment, &mut fragments)?);
                        fragment.clear();
                    }
                    let before = fragment.len() as u64;
                    reader.read_to_end(&mut fragment).map_err(said)?;
                    if fragment.len() as u64 - before != piece.file.size {
                        return Err(said(io::Error::new(
                            io::ErrorKind::InvalidData,
                            "its size differs from its manifest",
                        )));
                    }
                    continue;
                }
                for number in piece.first..piece.first + piece.blocks {
                    let left = piece.file.size - number * u64::from(block_size);
                    let size = usize::try_from(left).unwrap_or(usize::MAX).min(block.len());
                    let block = &mut block[..size];
                    reader.read_exact(block).map_err(said)?;
                    let is_hole = size == block_size as usize && block.iter().all(|byte| *byte == 0);
                    words.push(if is_hole { 0 } else { store(&mut encoder, block, &mut data)? });
                }
                if (piece.first + piece.blocks) * u64::from(block_size) < piece.file.size {
                    open = Some(reader);
                } else if reader.read(&mut [0]).map_err(said)? != 0 {
                    // At its end the file's digest is compared.
                    return Err(said(io::Error::new(io::ErrorKind::InvalidData, "its size differs from its manifest")));
                }
            }
            if !fragment.is_empty() {
                fragment_words.push(store(&mut encoder, &fragment, &mut fragments)?);
            }
            data.extend_from_slice(&fragments);
            words.extend_from_slice(&fragment_words);
            written += data.len() as u64;
            if number + 1 == self.frames.len() {
                let missing = written.next_multiple_of(SHARED_BLOCK) - written;
                data.resize(data.len() + missing as usize, 0);
            }
            let info = FrameInfo::of(&data, unpacked);
            take(&data, BlockInfo { frame: info, words })?;
        }
        Ok(())
    }
}

/// Bytes that a block takes.
pub(super) fn stored_size(word: u32) -> u64 {
    u64::from(word & (STORED - 1))
}

/// Where each file's content is, by the caller's number of it, and all fragments; `start` is where the first frame is.
/// Errors: A text for a frame of which other blocks are known than it has.
pub(super) fn place_blocks(
    runs: &[Run<'_>],
    infos: &[BlockInfo],
    block_size: u32,
    start: u64,
) -> Result<(std::collections::BTreeMap<usize, FilePlace>, Vec<Fragment>), String> {
    let mut files = std::collections::BTreeMap::<usize, FilePlace>::new();
    let mut all_fragments = Vec::new();
    let mut at = start;
    for (frame, info) in runs.iter().flat_map(|run| &run.frames).zip(infos) {
        let (tails, fragments) = frame.tails(block_size);
        let blocks: u64 = frame.pieces.iter().map(|piece| piece.blocks).sum();
        if blocks + u64::from(fragments) != info.words.len() as u64 {
            return Err("a frame's description belongs to another frame".to_owned());
        }
        let mut words = info.words.iter().copied();
        let mut position = at;
        for (piece, tail) in frame.pieces.iter().zip(tails) {
            let place = files.entry(piece.file.item).or_default();
            if piece.first == 0 && piece.blocks > 0 {
                place.start = position;
            }
            for word in words.by_ref().take(usize::try_from(piece.blocks).unwrap_or(usize::MAX)) {
                position += stored_size(word);
                place.words.push(word);
            }
            place.fragment = tail.map(|(number, offset)| (number + all_fragments.len() as u32, offset));
        }
        for word in words {
            all_fragments.push((position, word));
            position += stored_size(word);
        }
        at += info.frame.size;
    }
    Ok((files, all_fragments))
}
