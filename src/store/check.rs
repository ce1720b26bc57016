//! Whether layers are what their manifests say. Runs inside.

use std::collections::BTreeSet;

use rayon::prelude::*;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::{Entry, Kind, Manifest, Store};
use crate::digest::Digest;

/// A layer that is not what it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedLayer {
    /// The layer.
    pub layer: Digest,
    /// A path in it, and what is wrong with it.
    pub problem: String,
}

/// Compares the directories of layers with their manifests, content too; gives those that differ.
///
/// # Errors
/// None of its own: what cannot be read differs.
pub fn check_layers(layers: &[Digest]) -> Vec<DamagedLayer> {
    layers
        .par_iter()
        .filter_map(|layer| check(layer).err().map(|problem| DamagedLayer { layer: *layer, problem }))
        .collect()
}

fn check(layer: &Digest) -> Result<(), String> {
    let text = std::fs::read_to_string(Store::manifest_name(layer)).map_err(|error| format!("manifest: {error}"))?;
    if Digest::of(text.as_bytes()) != *layer {
        return Err("its manifest was changed".to_owned());
    }
    let manifest = Manifest::parse(&text).map_err(|error| error.to_string())?;
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let root = rustix::fs::open(Store::tree_name(layer).as_str(), flags, Mode::empty())
        .map_err(|error| format!("its directory: {error}"))?;
    let wrong: BTreeSet<String> = manifest
        .0
        .par_iter()
        .filter_map(|(path, entry)| is_as_said(&root, path, entry).err().map(|problem| format!("`{path}` {problem}")))
        .collect();
    match wrong.into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(()),
    }
}

fn is_as_said(root: &impl std::os::fd::AsFd, path: &str, entry: &Entry) -> Result<(), String> {
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
    let gone = |error: Errno| match error {
        Errno::NOENT | Errno::NOTDIR | Errno::LOOP => "is gone".to_owned(),
        error => format!("cannot be read: {error}"),
    };
    let handle = rustix::fs::openat2(root, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty(), {
        // A link is itself what is looked at.
        if matches!(entry.kind, Kind::Symlink(_)) { ResolveFlags::BENEATH } else { resolve }
    })
    .map_err(gone)?;
    let stat = rustix::fs::statat(&handle, "", AtFlags::EMPTY_PATH).map_err(gone)?;
    let kind = FileType::from_raw_mode(stat.st_mode);
    let same_kind = match &entry.kind {
        Kind::Directory => kind == FileType::Directory,
        Kind::File { .. } => kind == FileType::RegularFile,
        Kind::Symlink(_) => kind == FileType::Symlink,
        Kind::Whiteout => return (kind == FileType::CharacterDevice).then_some(()).ok_or("is no mark".to_owned()),
        _ => kind != FileType::RegularFile && kind != FileType::Directory && kind != FileType::Symlink,
    };
    if !same_kind {
        return Err("is of another kind".to_owned());
    }
    let is_link = kind == FileType::Symlink;
    if (stat.st_mode & 0o7777 != entry.mode && !is_link) || stat.st_uid != entry.uid || stat.st_gid != entry.gid {
        return Err("has another mode or owner".to_owned());
    }
    match &entry.kind {
        Kind::File { digest, size } => {
            let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
            let file = rustix::fs::openat2(root, path, flags, Mode::empty(), resolve).map_err(gone)?;
            let mut hasher = blake3::Hasher::new();
            let read = hasher.update_reader(std::fs::File::from(file)).map_err(|error| error.to_string())?.count();
            if read != *size || Digest(*hasher.finalize().as_bytes()) != *digest {
                return Err("has other content".to_owned());
            }
        }
        Kind::Symlink(target) => {
            let found = rustix::fs::readlinkat(&handle, "", Vec::new()).map_err(gone)?;
            if found.to_bytes() != target.as_bytes() {
                return Err("points elsewhere".to_owned());
            }
        }
        _ => {}
    }
    Ok(())
}
