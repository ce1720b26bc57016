//! The image as squashfs: its data in frames that are kept, its tables made anew.

use std::collections::BTreeMap;
use std::io::{self, Read};

use rayon::prelude::*;

use super::inside::{PackRequest, info, keep};
use super::selinux::{Labels, NO_LABEL};
use crate::archive::{BlockInfo, DataFile, FrameInfo, Image, Run, cut_blocks, finish};
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

/// Writes what is missing; gives all frames in order, and how many of them are new.
pub fn frames(
    request: &PackRequest,
    entries: &[(String, Entry, usize)],
    block_size: u32,
    reader: &LayerReader,
    news: News<'_>,
) -> Result<(Vec<(Digest, FrameInfo)>, usize), String> {
    let compression = request.compression;
    let said = |error: io::Error| format!("cannot pack: {error}");
    // Files of equal content are there once, where the first of them is.
    let mut known: BTreeMap<&Digest, usize> = BTreeMap::new();
    let mut content: BTreeMap<usize, usize> = BTreeMap::new();
    let mut files = Vec::new();
    for (item, (path, entry, _)) in entries.iter().enumerate() {
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
    let runs = cut_blocks(files, block_size);
    let keys: Vec<Vec<Digest>> =
        runs.iter().map(|run| run.frames.iter().map(|frame| frame.key(compression, block_size)).collect()).collect();
    let found: Vec<Option<Vec<BlockInfo>>> = keys.iter().map(|keys| keys.iter().map(info).collect()).collect();
    let missing: usize =
        found.iter().zip(&keys).map(|(found, keys)| if found.is_none() { keys.len() } else { 0 }).sum();
    let count: usize = keys.iter().map(Vec::len).sum();
    news(&format!("packing {missing} of {count} frames"));
    let write = |run: &Run, keys: &[Digest]| -> Result<Vec<BlockInfo>, String> {
        let open = |item: usize| -> io::Result<Box<dyn Read>> {
            let (path, entry, layer) = entries.get(item).ok_or(io::ErrorKind::NotFound)?;
            let Kind::File { size, digest } = &entry.kind else { return Err(io::ErrorKind::InvalidInput.into()) };
            Ok(Box::new(reader.open_in(*layer, path, (*size, digest))?))
        };
        let mut written = Vec::new();
        let mut pending = Vec::new();
        fault::point("pack.frame");
        run.write((compression, block_size), &open, &mut |bytes, info| {
            let Some(key) = keys.get(pending.len()) else { return Err(io::ErrorKind::InvalidData.into()) };
            let aside = format!("{}/{key}", request.scratch);
            std::fs::write(&aside, bytes)?;
            pending.push((aside, *key));
            written.push(info);
            Ok(())
        })
        .map_err(said)?;
        // Only when the whole file was read is its content known to be what its manifest says.
        for ((aside, key), info) in pending.iter().zip(&written) {
            keep(aside, key, info)?;
        }
        Ok(written)
    };
    let infos: Vec<Vec<BlockInfo>> = runs
        .par_iter()
        .zip(&keys)
        .zip(found)
        .map(|((run, keys), found)| found.map_or_else(|| write(run, keys), Ok))
        .collect::<Result<_, String>>()?;
    let infos: Vec<BlockInfo> = infos.into_iter().flatten().collect();
    let image =
        Image { entries, content: &content, runs: &runs, infos: &infos, compression, block_size, epoch: request.epoch };
    let made = finish(&image)?;
    let mut all = vec![piece(request, &made.head)?];
    all.extend(keys.into_iter().flatten().zip(infos.into_iter().map(|info| info.frame)));
    for bytes in made.tables.chunks(TABLES_PIECE) {
        all.push(piece(request, bytes)?);
    }
    Ok((all, missing))
}

/// Keeps a piece of the tables as a frame.
fn piece(request: &PackRequest, bytes: &[u8]) -> Result<(Digest, FrameInfo), String> {
    let key = FieldHasher::new("imgbuild squashfs tables v1").field(bytes).finish();
    if let Some(known) = info(&key) {
        return Ok((key, known));
    }
    let made = FrameInfo { size: bytes.len() as u64, unpacked: bytes.len() as u64, sha256: Sha256::of(bytes) };
    let aside = format!("{}/{key}", request.scratch);
    std::fs::write(&aside, bytes).map_err(|error| format!("cannot pack: {error}"))?;
    keep(&aside, &key, &made)?;
    Ok((key, made))
}
