//! Images that nodes mount as they are: their data in frames that are kept, their tables made anew.

use std::collections::BTreeMap;
use std::io::{self, Read};

use rayon::prelude::*;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::kept::{info, keep};
use super::request::PackRequest;
use super::selinux::{Labels, NO_LABEL};
use crate::archive::{
    BlockInfo, DataFile, EroImage, EroInfo, Finished, FrameInfo, Image, cut_blocks, cut_erofs, finish, finish_erofs,
};
use crate::digest::{Digest, FieldHasher, Sha256};
use crate::fault;
use crate::sandbox::helper::News;
use crate::store::{Entry, Kind, LayerReader};

/// Bytes of a piece of the tables: what a copy of the image elsewhere fetches anew when something changed.
const TABLES_PIECE: usize = 1 << 20;

/// Name of the attribute that is an SELinux label.
const LABEL: &str = "security.selinux";

/// Gives entries the labels of a policy, as attributes.
pub fn label(entries: &mut [(String, Entry, usize)], labels: &Labels) {
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
pub type Frames = (Vec<(Digest, FrameInfo)>, usize);

/// What the frames of an image are made from.
pub struct Source<'a> {
    /// The request.
    pub request: &'a PackRequest,
    /// Sorted by path.
    pub entries: &'a [(String, Entry, usize)],
    /// Has their contents.
    pub reader: &'a LayerReader,
}

/// Takes the bytes of a frame, and what it is.
type Take<'a, I> = &'a mut dyn FnMut(&[u8], I) -> io::Result<()>;

impl Source<'_> {
    /// For each entry that is a file with content, the first one of equal content; and those, each once.
    fn contents(&self) -> (BTreeMap<usize, usize>, Vec<DataFile>) {
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
                files.push(DataFile { path: path.clone(), item, size: *size, digest: *digest });
            }
        }
        (content, files)
    }

    fn open(&self, item: usize) -> io::Result<Box<dyn Read + '_>> {
        let (path, entry, layer) = self.entries.get(item).ok_or(io::ErrorKind::NotFound)?;
        let Kind::File { size, digest } = &entry.kind else { return Err(io::ErrorKind::InvalidInput.into()) };
        Ok(Box::new(self.reader.open_in(*layer, path, (*size, digest))?))
    }

    /// Writes the frames of each run that are missing; gives what all of them are, and how many were.
    fn write_runs<R: Sync, I: Serialize + DeserializeOwned + Clone + Send + Sync>(
        &self,
        runs: &[R],
        keys: &[Vec<Digest>],
        news: News<'_>,
        write: &(dyn Fn(&R, Take<'_, I>) -> io::Result<()> + Sync),
    ) -> Result<(Vec<I>, usize), String> {
        let found: Vec<Option<Vec<I>>> = keys.iter().map(|keys| keys.iter().map(info).collect()).collect();
        let missing: usize =
            found.iter().zip(keys).map(|(found, keys)| if found.is_none() { keys.len() } else { 0 }).sum();
        let count: usize = keys.iter().map(Vec::len).sum();
        news(&format!("packing {missing} of {count} frames"));
        let one = |run: &R, keys: &[Digest]| -> Result<Vec<I>, String> {
            let mut written = Vec::new();
            let mut pending = Vec::new();
            fault::point("pack.frame");
            write(run, &mut |bytes, info| {
                let Some(key) = keys.get(pending.len()) else { return Err(io::ErrorKind::InvalidData.into()) };
                let aside = format!("{}/{key}", self.request.scratch);
                std::fs::write(&aside, bytes)?;
                pending.push((aside, *key));
                written.push(info);
                Ok(())
            })
            .map_err(|error| format!("cannot pack: {error}"))?;
            // Only when the whole file was read is its content known to be what its manifest says.
            for ((aside, key), info) in pending.iter().zip(&written) {
                keep(aside, key, info)?;
            }
            Ok(written)
        };
        let infos: Vec<Vec<I>> = runs
            .par_iter()
            .zip(keys)
            .zip(found)
            .map(|((run, keys), found)| found.map_or_else(|| one(run, keys), Ok))
            .collect::<Result<_, String>>()?;
        Ok((infos.into_iter().flatten().collect(), missing))
    }

    /// Puts the frames between what stands before and behind them.
    fn join(
        &self,
        made: &Finished,
        keys: Vec<Vec<Digest>>,
        infos: Vec<FrameInfo>,
    ) -> Result<Vec<(Digest, FrameInfo)>, String> {
        let mut all = vec![self.piece(&made.head)?];
        // Files that all lie beside their inodes leave their frame empty, and nodes take no empty frame.
        all.extend(keys.into_iter().flatten().zip(infos).filter(|(_, info)| info.size > 0));
        for bytes in made.tables.chunks(TABLES_PIECE) {
            all.push(self.piece(bytes)?);
        }
        Ok(all)
    }

    /// Keeps a piece of the tables as a frame.
    fn piece(&self, bytes: &[u8]) -> Result<(Digest, FrameInfo), String> {
        let key = FieldHasher::new("imgbuild squashfs tables v1").field(bytes).finish();
        if let Some(known) = info(&key) {
            return Ok((key, known));
        }
        let made = FrameInfo { size: bytes.len() as u64, unpacked: bytes.len() as u64, sha256: Sha256::of(bytes) };
        let aside = format!("{}/{key}", self.request.scratch);
        std::fs::write(&aside, bytes).map_err(|error| format!("cannot pack: {error}"))?;
        keep(&aside, &key, &made)?;
        Ok((key, made))
    }

    /// The image as squashfs.
    ///
    /// # Errors
    /// A text: what cannot be read, kept, or held by the format.
    pub fn squashfs(&self, block_size: u32, news: News<'_>) -> Result<Frames, String> {
        let compression = self.request.compression;
        let (content, files) = self.contents();
        let runs = cut_blocks(files, block_size);
        let keys: Vec<Vec<Digest>> = runs
            .iter()
            .map(|run| run.frames.iter().map(|frame| frame.key(compression, block_size)).collect())
            .collect();
        let (infos, missing) = self.write_runs(&runs, &keys, news, &|run, take: Take<'_, BlockInfo>| {
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
        let made = finish(&image)?;
        Ok((self.join(&made, keys, infos.into_iter().map(|info| info.frame).collect())?, missing))
    }

    /// The image as erofs.
    ///
    /// # Errors
    /// As [`Self::squashfs`].
    pub fn erofs(&self, chunk: u32, news: News<'_>) -> Result<Frames, String> {
        let compression = self.request.compression;
        let (content, files) = self.contents();
        let runs = cut_erofs(files, chunk);
        let keys: Vec<Vec<Digest>> = runs.iter().map(|run| run.keys(compression, chunk)).collect();
        let (infos, missing) = self.write_runs(&runs, &keys, news, &|run, take: Take<'_, EroInfo>| {
            run.write((compression, chunk), &|item| self.open(item), take)
        })?;
        let epoch = self.request.epoch;
        let image = EroImage {
            entries: self.entries,
            content: &content,
            runs: &runs,
            infos: &infos,
            compression,
            chunk,
            epoch,
        };
        let made = finish_erofs(&image)?;
        Ok((self.join(&made, keys, infos.into_iter().map(|info| info.frame).collect())?, missing))
    }
}
