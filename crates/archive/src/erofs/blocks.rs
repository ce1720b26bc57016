//! Cuts file contents into blocks and groups the blocks into frames.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::{self, Read};

use base64ct::{Base64, Encoding};
use serde::{Deserialize, Serialize};

use super::{BLOCK, EROFS_VERSION, TAIL};
use crate::Compression;
use crate::frames::write::{FRAME_LEAST, FRAME_MOST, FrameInfo, starts_frame};
use crate::squashfs::DataFile;
use base::digest::{Digest, FieldHasher};

/// Frames that are written in one go: one with several files, or all of a large file.
#[derive(Debug, Clone, Default)]
pub struct EroRun<'a> {
    files: Vec<DataFile<'a>>,
    /// Bytes of the file that each frame has; none where there is one frame.
    cuts: Vec<u64>,
}

/// How a file, or what a frame has of it, is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Chunks {
    /// Blocks of each chunk that is compressed; 0 for one that is stored as it is. None: the file is stored in whole blocks.
    pub compressed: Option<Vec<u8>>,
    /// What does not lie in blocks, in base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tail: String,
    pub blocks: u32,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EroInfo {
    #[serde(flatten)]
    pub frame: FrameInfo,
    pub files: Vec<Chunks>,
}

/// Where a file's content is in the image.
#[derive(Debug, Clone, Default)]
pub(super) struct EroPlace<'a> {
    /// First block.
    pub block: u32,
    /// Blocks of each chunk, as in [`Chunks`]; none where it is stored in whole blocks.
    pub compressed: Option<Cow<'a, [u8]>>,
    blocks: u32,
    /// Bytes that lie beside the inode.
    pub tail: u64,
    pub known_by: (usize, usize),
}

impl EroInfo {
    /// What lies beside the inodes of its files; none where that is not readable.
    pub fn tails(&self) -> Option<Vec<Vec<u8>>> {
        self.files.iter().map(|file| Base64::decode_vec(&file.tail).ok()).collect()
    }

    #[must_use]
    pub fn without_tails(mut self) -> Self {
        self.files.iter_mut().for_each(|file| file.tail = String::new());
        self
    }
}

/// Cuts files, sorted by path, into runs.
pub fn cut_erofs(files: Vec<DataFile<'_>>, chunk: u32) -> Vec<EroRun<'_>> {
    let most = FRAME_MOST / u64::from(chunk) * u64::from(chunk);
    let mut runs = Vec::new();
    let mut current = EroRun::default();
    let mut bytes = 0;
    for file in files {
        if file.size > FRAME_MOST {
            // What is left after a whole number of frames belongs to the last of them, where it is little.
            let mut cuts = Vec::new();
            let mut left = file.size;
            while left > most + most / 4 {
                cuts.push(most);
                left -= most;
            }
            cuts.push(left);
            runs.push(EroRun { files: vec![file], cuts });
            continue;
        }
        if bytes >= FRAME_MOST || (bytes >= FRAME_LEAST && starts_frame(file.path)) {
            runs.push(std::mem::take(&mut current));
            bytes = 0;
        }
        bytes += file.size;
        current.files.push(file);
    }
    if !current.files.is_empty() {
        runs.push(current);
    }
    runs
}

/// Lengths of the chunks of some bytes: a short end belongs to the one before.
pub(super) fn chunk_lengths(size: u64, chunk: u32) -> impl Iterator<Item = u64> {
    let chunk = u64::from(chunk);
    let mut left = size;
    std::iter::from_fn(move || {
        let now = match left {
            0 => return None,
            _ if left <= chunk + chunk / 4 => left,
            _ => chunk,
        };
        left -= now;
        Some(now)
    })
}

/// A chunk in whole blocks with zeros before it, as decompressors want it; nothing where that is no smaller. Source: Linux,
/// EROFS_FEATURE_INCOMPAT_ZERO_PADDING.
fn compressed(bytes: &[u8]) -> Option<Vec<u8>> {
    let encoded = lz4_flex::block::compress(bytes);
    let size = encoded.len().next_multiple_of(BLOCK as usize);
    (bytes.len() > BLOCK as usize && size < bytes.len().next_multiple_of(BLOCK as usize)).then(|| {
        let mut out = vec![0; size - encoded.len()];
        out.extend_from_slice(&encoded);
        out
    })
}

/// Fills up to whole blocks.
fn pad(data: &mut Vec<u8>) {
    data.resize(data.len().next_multiple_of(BLOCK as usize), 0);
}

/// Compresses some bytes chunk by chunk; gives the blocks of each.
fn compress_all(bytes: &[u8], chunk: u32, data: &mut Vec<u8>) -> Vec<u8> {
    let mut rest = bytes;
    chunk_lengths(bytes.len() as u64, chunk)
        .map(|length| {
            let (now, later) = rest.split_at(usize::try_from(length).unwrap_or(rest.len()));
            rest = later;
            match compressed(now) {
                Some(encoded) => {
                    data.extend_from_slice(&encoded);
                    u8::try_from(encoded.len() / BLOCK as usize).unwrap_or(0)
                }
                None => {
                    data.extend_from_slice(now);
                    pad(data);
                    0
                }
            }
        })
        .collect()
}

/// Stores bytes as they are; gives what is left for beside the inode.
fn store(bytes: &[u8], data: &mut Vec<u8>) -> String {
    let tail = bytes.len() % BLOCK as usize;
    let (blocks, tail) = match tail as u64 <= TAIL {
        true => bytes.split_at(bytes.len() - tail),
        false => (bytes, &[][..]),
    };
    data.extend_from_slice(blocks);
    pad(data);
    Base64::encode_string(tail)
}

impl EroRun<'_> {
    pub fn count(&self) -> usize {
        self.cuts.len().max(1)
    }

    /// What identifies its frames: all that their bytes are a function of.
    pub fn keys(&self, compression: Compression, chunk: u32) -> Vec<Digest> {
        let key = |number: usize| {
            let mut hasher = FieldHasher::new("imgbuild erofs frame v1");
            hasher.text(&format!("{EROFS_VERSION} {} {chunk} {number} {}", compression.describe(), self.count()));
            for file in &self.files {
                hasher.text(&format!("{} {}", file.digest, file.size));
            }
            hasher.finish()
        };
        (0..self.count()).map(key).collect()
    }

    /// Compresses all frames; hands each over with what it is.
    /// Errors: The files', with the path in the text, and those of `take`.
    pub fn write<'a>(
        &self,
        (compression, chunk): (Compression, u32),
        content: &dyn Fn(usize) -> io::Result<Box<dyn Read + 'a>>,
        take: &mut dyn FnMut(&[u8], EroInfo) -> io::Result<()>,
    ) -> io::Result<()> {
        let is_compressed = compression != Compression::None;
        let mut give = |data: &[u8], unpacked: u64, files: Vec<Chunks>| {
            let frame = FrameInfo::of(data, unpacked);
            take(data, EroInfo { frame, files })
        };
        let said =
            |file: &DataFile<'_>, error: io::Error| io::Error::new(error.kind(), format!("`{}`: {error}", file.path));
        let wrong = || io::Error::new(io::ErrorKind::InvalidData, "its size differs from its manifest");
        if let (Some(file), false) = (self.files.first(), self.cuts.is_empty()) {
            let mut reader = content(file.item).map_err(|error| said(file, error))?;
            for (number, size) in self.cuts.iter().enumerate() {
                let mut bytes = Vec::with_capacity(*size as usize);
                reader.by_ref().take(*size).read_to_end(&mut bytes).map_err(|error| said(file, error))?;
                let is_last = number + 1 == self.cuts.len();
                if bytes.len() as u64 != *size
                    || (is_last && reader.read(&mut [0]).map_err(|error| said(file, error))? != 0)
                {
                    return Err(said(file, wrong()));
                }
                let mut data = Vec::with_capacity(size.next_multiple_of(BLOCK) as usize);
                let (mut compressed, mut tail) = (None, String::new());
                if is_compressed {
                    compressed = Some(compress_all(&bytes, chunk, &mut data));
                } else {
                    tail = store(&bytes, &mut data);
                }
                let blocks = (data.len() as u64 / BLOCK) as u32;
                give(&data, *size, vec![Chunks { compressed, tail, blocks }])?;
            }
            return Ok(());
        }
        let most: u64 = self.files.iter().map(|file| file.size.next_multiple_of(BLOCK)).sum();
        let (mut data, mut files, mut unpacked) = (Vec::with_capacity(most as usize), Vec::new(), 0);
        let mut bytes = Vec::new();
        for file in &self.files {
            bytes.clear();
            let mut reader = content(file.item).map_err(|error| said(file, error))?;
            reader.read_to_end(&mut bytes).map_err(|error| said(file, error))?;
            if bytes.len() as u64 != file.size {
                return Err(said(file, wrong()));
            }
            unpacked += file.size;
            let begun = data.len();
            let (mut compressed, mut tail) = (None, String::new());
            if is_compressed && file.size > TAIL {
                let chunks = compress_all(&bytes, chunk, &mut data);
                let plain = file.size.div_ceil(BLOCK);
                if ((data.len() - begun) as u64) < plain * BLOCK {
                    compressed = Some(chunks);
                } else {
                    data.truncate(begun);
                }
            }
            if compressed.is_none() {
                tail = store(&bytes, &mut data);
            }
            files.push(Chunks { compressed, tail, blocks: ((data.len() - begun) as u64 / BLOCK) as u32 });
        }
        give(&data, unpacked, files)
    }
}

/// Where each file's content is, by the caller's number of it; `block` is where the first frame is.
/// Errors: A text for a frame of which other files are known than it has.
pub(super) fn place_files<'a>(
    runs: &[EroRun<'_>],
    infos: &'a [EroInfo],
    block: u32,
) -> Result<BTreeMap<usize, EroPlace<'a>>, String> {
    let wrong = || "a frame's files do not match its description".to_owned();
    let mut found = BTreeMap::<usize, EroPlace<'_>>::new();
    let mut at = block;
    let mut infos = infos.iter().enumerate();
    for run in runs {
        for _ in 0..run.count() {
            let (number, info) = infos.next().ok_or_else(wrong)?;
            if run.files.len() != info.files.len() {
                return Err(wrong());
            }
            let begun = at;
            for (place_in, (file, chunks)) in run.files.iter().zip(&info.files).enumerate() {
                let place = found.entry(file.item).or_insert_with(|| EroPlace { block: at, ..EroPlace::default() });
                if let Some(more) = &chunks.compressed {
                    match &mut place.compressed {
                        Some(chunks) => chunks.to_mut().extend_from_slice(more),
                        None => place.compressed = Some(Cow::Borrowed(more)),
                    }
                }
                at = at.checked_add(chunks.blocks).ok_or("the image is too large for erofs")?;
                place.blocks += chunks.blocks;
                // What whole blocks do not hold is in the last frame.
                place.tail = match place.compressed {
                    None => file.size.saturating_sub(u64::from(place.blocks) * BLOCK),
                    Some(_) => 0,
                };
                place.known_by = (number, place_in);
            }
            if u64::from(at - begun) * BLOCK != info.frame.size {
                return Err(wrong());
            }
        }
    }
    if found.values().any(|place| place.tail > TAIL) {
        return Err(wrong());
    }
    Ok(found)
}
