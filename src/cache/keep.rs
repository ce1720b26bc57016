//! What lies in a directory that is a cache: how much, whether it is whole, and what is removed from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::entry::Entry;
use super::{Object, object_name};
use crate::digest::{Digest, Sha256};
use crate::store::sha256_of;

/// What is younger may belong to an entry that is being written.
const YOUNG: Duration = Duration::from_secs(3600);

/// How much there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[schemars(title = "imgbuild cache stats")]
pub struct Stats {
    /// Actions.
    pub actions: usize,
    /// Files that they name, or did.
    pub objects: usize,
    /// Bytes of all.
    pub bytes: u64,
    /// Bytes of files that no entry names.
    pub unnamed_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    pub path: PathBuf,
    pub problem: String,
}

#[derive(Debug)]
struct Kept {
    path: PathBuf,
    size: u64,
    /// When it was used last, or written.
    used: SystemTime,
}

#[derive(Debug)]
pub struct Contents {
    entries: BTreeMap<Digest, (Kept, Result<Entry, String>)>,
    objects: BTreeMap<Sha256, Kept>,
    /// What a writer left that was killed.
    halves: Vec<Kept>,
}

fn files(directory: &Path) -> std::io::Result<Vec<(String, Kept)>> {
    let mut found = Vec::new();
    let folders = match std::fs::read_dir(directory) {
        Ok(folders) => folders,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
        Err(error) => return Err(error),
    };
    for folder in folders {
        let folder = folder?;
        if !folder.file_type()?.is_dir() {
            continue;
        }
        for file in std::fs::read_dir(folder.path())? {
            let file = file?;
            // Someone else may remove it meanwhile.
            let Ok(metadata) = file.metadata() else { continue };
            if metadata.is_file() {
                let used = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
                let kept = Kept { path: file.path(), size: metadata.len(), used };
                found.push((file.file_name().to_string_lossy().into_owned(), kept));
            }
        }
    }
    Ok(found)
}

impl Contents {
    /// Reads all entries of a directory.
    /// Errors: What cannot be read.
    pub fn of(root: &Path) -> std::io::Result<Self> {
        let mut all = Self { entries: BTreeMap::new(), objects: BTreeMap::new(), halves: Vec::new() };
        for (name, kept) in files(&root.join("v1/actions"))? {
            let Some(key) = name.strip_suffix(".json").and_then(|key| Digest::parse(key).ok()) else {
                all.halves.push(kept);
                continue;
            };
            let entry = match std::fs::read(&kept.path) {
                Ok(text) => Entry::parse(&text, &key, &[]).map(|(entry, _)| entry),
                Err(error) => Err(error.to_string()),
            };
            all.entries.insert(key, (kept, entry));
        }
        for (name, kept) in files(&root.join("v1/objects"))? {
            match Sha256::parse(&name) {
                Ok(digest) => drop(all.objects.insert(digest, kept)),
                Err(_) => all.halves.push(kept),
            }
        }
        Ok(all)
    }

    fn named<'e>(&self, entries: impl Iterator<Item = &'e Entry>) -> BTreeSet<Sha256> {
        entries.flat_map(Entry::objects).map(|object| object.sha256).collect()
    }

    pub fn stats(&self) -> Stats {
        let named = self.named(self.entries.values().filter_map(|(_, entry)| entry.as_ref().ok()));
        let sum = |kept: &mut dyn Iterator<Item = &Kept>| kept.map(|one| one.size).sum::<u64>();
        let unnamed = self.objects.iter().filter(|(digest, _)| !named.contains(digest)).map(|(_, kept)| kept);
        let unnamed_bytes = sum(&mut unnamed.chain(&self.halves));
        Stats {
            actions: self.entries.len(),
            objects: self.objects.len(),
            bytes: sum(&mut self
                .entries
                .values()
                .map(|(kept, _)| kept)
                .chain(self.objects.values())
                .chain(&self.halves)),
            unnamed_bytes,
        }
    }

    /// Reads all files, and gives what is not as its name says: `progress` takes the bytes that were read.
    /// Errors: None: what cannot be read is wrong.
    pub fn wrong(&self, progress: &dyn Fn(u64)) -> Vec<Wrong> {
        let mut found = Vec::new();
        let mut broken = BTreeSet::new();
        let mut read = 0;
        for (digest, kept) in &self.objects {
            let same = std::fs::File::open(&kept.path).and_then(sha256_of);
            let problem = match same {
                Ok(same) if same == *digest => None,
                Ok(_) => Some("it does not match the digest in its name".to_owned()),
                Err(error) => Some(error.to_string()),
            };
            if let Some(problem) = problem {
                broken.insert(*digest);
                found.push(Wrong { path: kept.path.clone(), problem });
            }
            read += kept.size;
            progress(read);
        }
        for (kept, entry) in self.entries.values() {
            let lacks =
                |object: &&Object| !self.objects.contains_key(&object.sha256) || broken.contains(&object.sha256);
            let problem = match entry {
                Ok(entry) => entry
                    .objects()
                    .find(lacks)
                    .map(|object| format!("it names {}, which is missing or damaged", object_name(object))),
                Err(problem) => Some(problem.clone()),
            };
            found.extend(problem.map(|problem| Wrong { path: kept.path.clone(), problem }));
        }
        found
    }

    /// Removes what was used longest ago until the rest is no larger than `size` bytes, and what no entry names. Gives the bytes
    /// that are free then.
    /// Errors: What cannot be removed.
    pub fn shrink(mut self, size: u64, now: SystemTime) -> std::io::Result<u64> {
        let is_young = |kept: &Kept| now.duration_since(kept.used).is_ok_and(|age| age < YOUNG) || kept.used > now;
        let mut by_use: Vec<(SystemTime, Digest)> =
            self.entries.iter().map(|(key, (kept, _))| (kept.used, *key)).collect();
        by_use.sort();
        let mut freed = 0;
        let mut uses: BTreeMap<Sha256, usize> = BTreeMap::new();
        for object in self.entries.values().filter_map(|(_, entry)| entry.as_ref().ok()).flat_map(Entry::objects) {
            *uses.entry(object.sha256).or_default() += 1;
        }
        let mut left = self.stats().bytes;
        let remove = |kept: &Kept| match std::fs::remove_file(&kept.path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(error),
            _ => Ok(kept.size),
        };
        let objects = std::mem::take(&mut self.objects);
        let drop_object = |digest: &Sha256| match objects.get(digest).filter(|kept| !is_young(kept)) {
            Some(kept) => remove(kept),
            None => Ok(0),
        };
        let unnamed: Vec<Sha256> = objects.keys().filter(|digest| !uses.contains_key(digest)).copied().collect();
        for digest in unnamed {
            freed += drop_object(&digest)?;
        }
        for half in self.halves.iter().filter(|half| !is_young(half)) {
            freed += remove(half)?;
        }
        left -= freed;
        for (_, key) in by_use {
            let Some((kept, entry)) = self.entries.get(&key).filter(|(_, entry)| left > size || entry.is_err()) else {
                continue;
            };
            // The entry goes first: what it names is never missing from one that is there.
            let mut here = remove(kept)?;
            for object in entry.iter().flat_map(Entry::objects) {
                let count = uses.entry(object.sha256).or_default();
                *count = count.saturating_sub(1);
                if *count == 0 {
                    here += drop_object(&object.sha256)?;
                }
            }
            left = left.saturating_sub(here);
            freed += here;
        }
        Ok(freed)
    }
}
