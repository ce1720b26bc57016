//! Images that nodes mount as they are: their data in frames that are kept, their tables recreated.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};

use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::inside::while_telling;
use super::kept::{info, keep};
use super::request::PackRequest;
use super::selinux::{Labels, NO_LABEL};
use archive::{
    BlockInfo, DataFile, EroImage, EroInfo, Finished, FrameInfo, Image, cut_blocks, cut_erofs, finish, finish_erofs,
};
use base::digest::{Digest, FieldHasher};
use sandbox::helper::News;
use store::{Entry, Kind, LayerReader};

/// Bytes of a piece of the tables: what a copy of the image elsewhere fetches again when something changed.
const TABLES_PIECE: usize = 1 << 20;

const LABEL: &str = "security.selinux";

/// Gives entries the labels of a policy, as attributes.
pub(super) fn label(entries: &mut [(String, Entry, usize)], labels: &Labels) {
    let by_path: BTreeMap<&str, &str> =
        labels.iter().flat_map(|(label, paths)| paths.iter().map(|path| (path.as_str(), label.as_str()))).collect();
    if by_path.is_empty() {
        return;
    }
    for (path, entry, _) in entries {
        // A label holds from its path on, down to the next one.
        let mut at = path.as_str();
        let label = loop {
            match (by_path.get(at), at.rsplit_once('/')) {
                (Some(label), _) => break Some(*label),
                (None, Some((parent, _))) => at = parent,
                (None, None) if at != "." => at = ".",
                (None, None) => break None,
            }
        };
        if let Some(label) = label.filter(|label| *label != NO_LABEL) {
            // With the NUL that the kernel's own tools write.
            entry.xattrs.insert(LABEL.to_owned(), [label.as_bytes(), b"\0"].concat());
        }
    }
}

/// Frames in order, and how many of them are new.
pub(super) type Frames = (Vec<(Digest, FrameInfo)>, usize);

pub(super) struct Source<'a> {
    pub request: &'a PackRequest,
    /// Sorted by path.
    pub entries: &'a [(String, Entry, usize)],
    pub reader: &'a LayerReader,
}

struct Pieces<'a> {
    source: &'a Source<'a>,
    bytes: Vec<u8>,
    made: Vec<(Digest, FrameInfo)>,
}

impl Pieces<'_> {
    fn end(&mut self) -> io::Result<()> {
        if !self.bytes.is_empty() {
            self.made.push(self.source.piece(&self.bytes).map_err(io::Error::other)?);
            self.bytes.clear();
        }
        Ok(())
    }
}

impl Write for Pieces<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(TABLES_PIECE - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..taken]);
        if self.bytes.len() == TABLES_PIECE {
            self.end()?;
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes the bytes of a frame, and what it is.
type Take<'a, I> = &'a mut dyn FnMut(&[u8], I) -> io::Result<()>;

impl Source<'_> {
    /// For each entry that is a file with content, the first one of equal content; and those, each once.
    fn contents(&self) -> (BTreeMap<usize, usize>, Vec<DataFile<'_>>) {
        let mut known: BTreeMap<&Digest, usize> = BTreeMap::new();
        let mut content: BTreeMap<usize, usize> = BTreeMap::new();
        let mut files = Vec::new();
        for (item, (path, entry, _)) in self.entries.iter().enumerate() {
            let Kind::File { size, digest } = &entry.kind else { continue };
            if *size == 0 {
                continue;
            }
            let first = *known.entry(digest).or_insert(item);
            content.insert(item, first);
            if first == item {
                files.push(DataFile { path, item, size: *size, digest });
            }
        }
        (content, files)
    }

    fn open(&self, item: usize) -> io::Result<Box<dyn Read + '_>> {
        let (path, entry, layer) = self.entries.get(item).ok_or(io::ErrorKind::NotFound)?;
        let Kind::File { size, digest } = &entry.kind else { return Err(io::ErrorKind::InvalidInput.into()) };
        Ok(Box::new(self.reader.open_in(*layer, path, (*size, digest))?))
    }

    /// Writes the frames of each run that are missing; gives what all of them are, as far as it is needed, and how many were.
    fn write_runs<R: Sync, I: Serialize + DeserializeOwned + Clone + Send + Sync>(
        &self,
        runs: &[R],
        keys: &[Vec<Digest>],
        news: News<'_>,
        needed: fn(I) -> I,
        write: &(dyn Fn(&R, Take<'_, I>) -> io::Result<()> + Sync),
    ) -> Result<(Vec<I>, usize), String> {
        let found: Vec<Option<Vec<I>>> =
            keys.iter().map(|keys| keys.iter().map(|key| info(key).map(needed)).collect()).collect();
        let missing: usize =
            found.iter().zip(keys).map(|(found, keys)| if found.is_none() { keys.len() } else { 0 }).sum();
        let count: usize = keys.iter().map(Vec::len).sum();
        news(&format!("packing {missing} of {count} frames"));
        let one = |run: &R, keys: &[Digest], tell: &(dyn Fn(usize, u64) + Sync)| -> Result<Vec<I>, String> {
            let mut written = Vec::new();
            let mut pending = Vec::new();
            fault::point("pack.frame");
            write(run, &mut |bytes, info| {
                let Some(key) = keys.get(pending.len()) else { return Err(io::ErrorKind::InvalidData.into()) };
                let aside = format!("{}/{key}", self.request.scratch);
                std::fs::write(&aside, bytes)?;
                tell(1, bytes.len() as u64);
                pending.push((aside, *key));
                written.push(info);
                Ok(())
            })
            .map_err(|error| format!("cannot pack: {error}"))?;
            // Only when the whole file was read is its content known to be what its manifest says.
            for ((aside, key), info) in pending.iter().zip(&written) {
                keep(aside, key, info)?;
            }
            Ok(written.into_iter().map(needed).collect())
        };
        let infos: Vec<Vec<I>> = while_telling(news, (missing, None), |tell| {
            let runs = runs.par_iter().zip(keys).zip(found);
            runs.map(|((run, keys), found)| found.map_or_else(|| one(run, keys, tell), Ok)).collect()
        })?;
        Ok((infos.into_iter().flatten().collect(), missing))
    }

    /// Puts the frames between what stands before and behind them.
    fn join(
        &self,
        head: &[u8],
        keys: Vec<Vec<Digest>>,
        infos: Vec<FrameInfo>,
        tables: Vec<(Digest, FrameInfo)>,
    ) -> Result<Vec<(Digest, FrameInfo)>, String> {
        let mut all = vec![self.piece(head)?];
        // Files that all lie beside their inodes leave their frame empty, and nodes take no empty frame.
        all.extend(keys.into_iter().flatten().zip(infos).filter(|(_, info)| info.size > 0));
        all.extend(tables);
        Ok(all)
    }

    /// Keeps a piece of the tables as a frame.
    fn piece(&self, bytes: &[u8]) -> Result<(Digest, FrameInfo), String> {
        let key = FieldHasher::new("imgbuild squashfs tables v1").field(bytes).finish();
        if let Some(known) = info(&key) {
            return Ok((key, known));
        }
        let made = FrameInfo::of(bytes, bytes.len() as u64);
        let aside = format!("{}/{key}", self.request.scratch);
        std::fs::write(&aside, bytes).map_err(|error| format!("cannot pack: {error}"))?;
        keep(&aside, &key, &made)?;
        Ok((key, made))
    }

    /// The image as squashfs.
    /// Errors: A text: what cannot be read, kept, or held by the format.
    pub(super) fn squashfs(&self, block_size: u32, news: News<'_>) -> Result<Frames, String> {
        let compression = self.request.compression;
        let (content, files) = self.contents();
        let runs = cut_blocks(files, block_size);
        let keys: Vec<Vec<Digest>> = runs
            .iter()
            .map(|run| run.frames.iter().map(|frame| frame.key(compression, block_size)).collect())
            .collect();
        let (infos, missing) =
            self.write_runs(&runs, &keys, news, |info| info, &|run, take: Take<'_, BlockInfo>| {
                run.write((compression, block_size), &|item| self.open(item), take)
            })?;
        let epoch = self.request.epoch;
        let image = Image {
            entries: self.entries,
            content: &content,
            runs: &runs,
            infos: &infos,
            compression,
            block_size,
            epoch,
        };
        let Finished { head, tables } = finish(&image)?;
        let pieces = tables.chunks(TABLES_PIECE).map(|bytes| self.piece(bytes)).collect::<Result<_, _>>()?;
        Ok((self.join(&head, keys, infos.into_iter().map(|info| info.frame).collect(), pieces)?, missing))
    }

    /// The image as erofs.
    /// Errors: As [`Self::squashfs`].
    pub(super) fn erofs(&self, chunk: u32, news: News<'_>) -> Result<Frames, String> {
        let compression = self.request.compression;
        let (content, files) = self.contents();
        let runs = cut_erofs(files, chunk);
        let keys: Vec<Vec<Digest>> = runs.iter().map(|run| run.keys(compression, chunk)).collect();
        let (infos, missing) = self.write_runs(&runs, &keys, news, EroInfo::without_tails, &|run, take| {
            run.write((compression, chunk), &|item| self.open(item), take)
        })?;
        let in_order: Vec<&Digest> = keys.iter().flatten().collect();
        let tails = |frame: usize| {
            let known = in_order.get(frame).and_then(|key| info::<EroInfo>(key)).and_then(|info| info.tails());
            known.ok_or_else(|| "cannot pack: a frame's description is missing".to_owned())
        };
        let epoch = self.request.epoch;
        let image = EroImage {
            entries: self.entries,
            content: &content,
            runs: &runs,
            infos: &infos,
            tails: &tails,
            compression,
            chunk,
            epoch,
        };
        let said = |error: io::Error| format!("cannot pack: {error}");
        let name = format!("{}/tables", self.request.scratch);
        let aside = std::fs::File::options().read(true).write(true).create(true).truncate(true).open(&name);
        let mut tables = Pieces { source: self, bytes: Vec::new(), made: Vec::new() };
        let head = finish_erofs(&image, &aside.map_err(said)?, &mut tables)?;
        tables.end().map_err(said)?;
        let infos = infos.into_iter().map(|info| info.frame).collect();
        Ok((self.join(&head, keys, infos, tables.made)?, missing))
    }
}
