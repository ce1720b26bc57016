//! Finds missing and corrupt items (`store verify`).

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::items::{Item, ItemKind};
use crate::{Root, Seal, Store, seal};
use base::digest::{Digest, Sha256};

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Damage {
    pub path: String,
    pub problem: String,
}

/// What is said of a frame whose description has no bytes: the disk had not got them yet when the machine lost its power.
const CUT_OFF: &str = "was not finished when the machine lost its power";

impl Damage {
    /// Whether it is what a power cut leaves of something that was being made: nothing is lost with it.
    pub fn is_cut_off(&self) -> bool {
        self.problem == CUT_OFF
    }
}

impl Store {
    /// Reads an item that the host process may read, and compares it with its name. Layers are compared from inside.
    pub fn damage_of(&self, item: &Item) -> Option<Damage> {
        let damage = |problem: &str| Some(Damage { path: item.path.clone(), problem: problem.to_owned() });
        let name = item.path.rsplit('/').next().unwrap_or_default();
        let path = self.directory().join(&item.path);
        let unread = |error: std::io::Error| damage(&format!("cannot be read: {error}"));
        let mut file = match std::fs::File::open(&path) {
            Ok(file) => file,
            Err(error) => return unread(error),
        };
        let other = "does not match the digest in its name";
        match item.kind {
            ItemKind::Manifest if !self.directory().join("trees").join(name).is_dir() => {
                damage("belongs to a layer whose directory is missing")
            }
            ItemKind::Blob | ItemKind::Manifest => {
                let mut hasher = blake3::Hasher::new();
                match hasher.update_reader(&mut file) {
                    Ok(hasher) if Digest(*hasher.finalize().as_bytes()).to_string() != name => damage(other),
                    Ok(_) => None,
                    Err(error) => unread(error),
                }
            }
            ItemKind::Package | ItemKind::Index if Sha256::parse(name).is_ok() => match sha256_of(file) {
                Ok(digest) if digest.to_string() != name => damage(other),
                Ok(_) => None,
                Err(error) => unread(error),
            },
            ItemKind::Frame => self.frame_damage(&path, file).and_then(|problem| damage(&problem)),
            ItemKind::Record => {
                let key = name.strip_suffix(".json").and_then(|hex| Digest::parse(hex).ok());
                match key.is_none_or(|key| self.is_spoilt(&key)) {
                    true => damage("is not the record of the action in its name"),
                    false => None,
                }
            }
            // Only explanations are made of it.
            ItemKind::Build if name.ends_with(".places") => None,
            ItemKind::Build => match std::fs::read(&path).map(|bytes| serde_json::from_slice::<Root>(&bytes)) {
                Ok(Ok(_)) => None,
                Ok(Err(error)) => damage(&format!("is not a root: {error}")),
                Err(error) => unread(error),
            },
            _ => None,
        }
    }

    /// Whether an item is what a killed process left: a tree whose manifest it had not written yet, a frame that nothing
    /// describes. No one takes them for what they would have been, and gc removes them.
    pub fn is_unfinished(&self, item: &Item) -> bool {
        let has = |path: String| self.directory().join(path).symlink_metadata().is_ok();
        match item.kind {
            ItemKind::Layer => !has(item.path.replacen("trees/", "manifests/", 1)),
            ItemKind::Frame => !item.path.ends_with(".info") && !has(format!("{}.info", item.path)),
            _ => false,
        }
    }

    /// A frame's name is made of what is in it before it is compressed; what came out stands in the file beside it.
    fn frame_damage(&self, path: &Path, file: std::fs::File) -> Option<String> {
        if path.extension().is_some() {
            let whole = path.with_extension("");
            return (!whole.is_file()).then(|| "belongs to a frame that is missing".to_owned());
        }
        let beside = std::fs::read(path.with_extension("info")).ok();
        if beside.as_ref().is_some_and(|bytes| bytes.iter().all(|byte| *byte == 0)) {
            return Some(CUT_OFF.to_owned());
        }
        // Those of an earlier imgbuild have no digest of themselves.
        if beside.as_ref().is_some_and(|bytes| seal(bytes) == Seal::Broken) {
            return Some("has a modified description next to it".to_owned());
        }
        let info = beside.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        let said = info.as_ref().and_then(|info| info["sha256"].as_str()).and_then(|hex| Sha256::parse(hex).ok());
        let Some(said) = said else { return Some("has no digest next to it".to_owned()) };
        match sha256_of(file) {
            Ok(digest) if digest == said => None,
            Ok(_) => Some("does not match the digest next to it".to_owned()),
            Err(error) => Some(format!("cannot be read: {error}")),
        }
    }
}

pub fn sha256_of(mut from: impl std::io::Read) -> std::io::Result<Sha256> {
    use sha2::Digest as _;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0; 1 << 18];
    loop {
        match from.read(&mut buffer)? {
            0 => return Ok(Sha256(hasher.finalize().into())),
            read => hasher.update(&buffer[..read]),
        }
    }
}
