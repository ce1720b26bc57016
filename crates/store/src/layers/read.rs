//! Manifests read from the store line by line: their text, which may be large, is never in memory as a whole.

use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use rayon::prelude::*;

use super::manifest::{Lines, Place};
use crate::{Entry, Manifest, ManifestError, Merged, Store, Wrong, merge};
use base::digest::Digest;

/// Bytes that are read at once.
const PIECE: usize = 1 << 18;

#[derive(Debug)]
pub(crate) enum Unread {
    Io(io::Error),
    /// It is not what its name says.
    Changed,
    /// It is what its name says, and that is no manifest.
    Text(ManifestError),
}

struct Hashing {
    file: std::fs::File,
    hasher: blake3::Hasher,
}

impl Read for Hashing {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Hands over the entries of a layer's manifest in order. What was handed over is worth something only when all of it was.
pub(crate) fn each_entry(path: &Path, layer: &Digest, take: &mut dyn FnMut(String, Entry)) -> Result<(), Unread> {
    each(path, layer, Lines::next, take)
}

/// Hands over the paths of a layer's manifest in order; as [`each_entry`].
pub(crate) fn each_place(path: &Path, layer: &Digest, take: &mut dyn FnMut(String, Place)) -> Result<(), Unread> {
    each(path, layer, Lines::next_place, take)
}

type Next<T> = fn(&mut Lines, &str) -> Result<Option<(String, T)>, ManifestError>;

fn each<T>(path: &Path, layer: &Digest, next: Next<T>, take: &mut dyn FnMut(String, T)) -> Result<(), Unread> {
    let file = std::fs::File::open(path).map_err(Unread::Io)?;
    let mut reader = BufReader::with_capacity(PIECE, Hashing { file, hasher: blake3::Hasher::new() });
    let mut lines = Lines::default();
    let mut problem = None;
    let mut line = Vec::new();
    // A manifest that was changed is read to its end all the same: that it was changed is what must be said.
    while reader.read_until(b'\n', &mut line).map_err(Unread::Io)? > 0 {
        if problem.is_none() {
            let text = line.strip_suffix(b"\n").unwrap_or(&line);
            match std::str::from_utf8(text).map(|text| next(&mut lines, text)) {
                Ok(Ok(Some((path, found)))) => take(path, found),
                Ok(Ok(None)) => {}
                Ok(Err(error)) => problem = Some(Unread::Text(error)),
                Err(_) => problem = Some(Unread::Changed),
            }
        }
        line.clear();
    }
    if Digest(*reader.into_inner().hasher.finalize().as_bytes()) != *layer {
        return Err(Unread::Changed);
    }
    match problem {
        Some(problem) => Err(problem),
        None => lines.end().map_err(Unread::Text),
    }
}

pub(crate) fn manifest(path: &Path, layer: &Digest) -> Result<Manifest, Unread> {
    let mut entries = std::collections::BTreeMap::new();
    each_entry(path, layer, &mut |path, entry| drop(entries.insert(path, entry)))?;
    Ok(Manifest(entries))
}

/// The manifest of a layer of the store that one is in.
pub(crate) fn of_store(layer: &Digest) -> Result<Manifest, Wrong> {
    manifest(Path::new(&Store::manifest_name(layer)), layer).map_err(wrong)
}

fn wrong(error: Unread) -> Wrong {
    match error {
        Unread::Io(error) => Wrong::of_io(&error).at("its manifest"),
        Unread::Changed | Unread::Text(_) => Wrong::Damaged("its manifest was modified".to_owned()),
    }
}

/// Reads the manifest of a layer.
/// Errors: A text that says that the store is damaged, with the layer.
pub fn manifest_of(layer: &Digest) -> Result<Manifest, String> {
    of_store(layer).map_err(|wrong| wrong.message(layer))
}

/// The last tree that was asked for and that someone still has: an action looks at the layers below it, mounts them and compares
/// what it wrote with them.
static LAST: Mutex<Option<(Vec<Digest>, Weak<Merged>)>> = Mutex::new(None);

fn last(layers: &[Digest]) -> Option<Arc<Merged>> {
    let last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
    last.as_ref().filter(|(of, _)| of == layers)?.1.upgrade()
}

/// Lays layers over one another, lowest first.
/// Errors: As [`manifest_of`].
pub fn merged_of(layers: &[Digest]) -> Result<Arc<Merged>, String> {
    if let Some(known) = last(layers) {
        return Ok(known);
    }
    let manifests = layers.par_iter().map(manifest_of).collect::<Result<Vec<_>, String>>()?;
    let merged = Arc::new(merge(manifests));
    *LAST.lock().unwrap_or_else(PoisonError::into_inner) = Some((layers.to_vec(), Arc::downgrade(&merged)));
    Ok(merged)
}

/// Mode, owner and group of the root of a tree of layers, lowest first; none where no layer has it.
/// Errors: As [`manifest_of`].
pub fn root_of(layers: &[Digest]) -> Result<Option<(u32, u32, u32)>, String> {
    if let Some(known) = last(layers) {
        return Ok(known.0.get(".").map(|root| (root.entry.mode, root.entry.uid, root.entry.gid)));
    }
    for layer in layers.iter().rev() {
        let mut root = None;
        let name = Store::manifest_name(layer);
        let mut take = |path: String, entry: Entry| {
            if path == "." {
                root = Some((entry.mode, entry.uid, entry.gid));
            }
        };
        each_entry(Path::new(&name), layer, &mut take).map_err(|error| wrong(error).message(layer))?;
        if root.is_some() {
            return Ok(root);
        }
    }
    Ok(None)
}
