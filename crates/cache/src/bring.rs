//! Takes from caches what the store lacks.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::entry::{Frame, Object};
use super::place::Wanted;
use super::{Cache, Found, Say};
use archive::FrameInfo;
use base::digest::{Digest, Sha256};
use packages::Progress;
use store::{ActionRecord, Store, StoreError};

/// What a file may take that is of no use for anything dear.
const SHORTEST: Duration = Duration::from_secs(20);
/// No action is believed to take longer.
const LONGEST: Duration = Duration::from_secs(6 * 3600);
/// Bytes in each second of what mirrors have, too.
const FLOOR: u64 = 64 << 10;

/// Loads the layer in a file, named relative to the store: what `store load` does inside.
pub type Loader<'a> = &'a dyn Fn(&str) -> Result<(), String>;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Brought {
    pub actions: usize,
    /// Those of them that no one signed, and that were not compared.
    pub unsigned: usize,
    /// Bytes that were moved.
    pub bytes: u64,
}

impl Cache {
    /// Puts what entries name into the store, and then their records. An action of which something is missing or wrong is left
    /// out: it runs.
    /// Errors: [`StoreError`] where this store cannot keep what came.
    pub fn bring(
        &self,
        store: &Store,
        found: &[Found],
        load: Loader<'_>,
        progress: &dyn Progress,
        say: Say<'_>,
    ) -> Result<Brought, StoreError> {
        let aside = store.aside_directory()?.join("cache");
        std::fs::create_dir_all(&aside).map_err(|source| StoreError::io("create the directory", &aside, source))?;
        let mut brought = Brought::default();
        let mut wrong: BTreeSet<usize> = BTreeSet::new();
        let (mut damaged, mut unread): (BTreeMap<Sha256, String>, BTreeMap<Sha256, String>) = Default::default();
        for (at, place) in self.places.iter().enumerate() {
            let mut wanted: BTreeMap<Sha256, Wanted> = BTreeMap::new();
            for one in found.iter().filter(|one| one.place == at) {
                let within = worth(one);
                for object in lacking(store, one) {
                    let destination = file(&aside, object);
                    if !destination.is_file() {
                        let object = object.clone();
                        let one = wanted.entry(object.sha256).or_insert_with(|| Wanted { object, destination, within });
                        one.within = one.within.max(within);
                    }
                }
            }
            let wanted: Vec<Wanted> = wanted.into_values().collect();
            let problems = place.bring(&wanted, progress)?;
            brought.bytes +=
                wanted.iter().filter(|one| one.destination.is_file()).map(|one| one.object.size).sum::<u64>();
            damaged.extend(problems.of);
            unread.extend(problems.unread);
            if let Some(problem) = problems.lost {
                self.lose(place, &problem, say);
                wrong.insert(at);
            }
        }
        for one in found {
            match take_in(store, one, &aside, load) {
                Ok(true) => {
                    let place = &self.places[one.place];
                    let along = one.record.believed.clone().filter(|_| self.is_own || place.is_given);
                    let believed = one.is_doubtful.then(|| place.shown.clone()).or(along);
                    store.commit_anew(&ActionRecord { believed, ..one.record.clone() })?;
                    brought.unsigned += usize::from(one.is_doubtful);
                    self.places[one.place].used(&one.record.key);
                    brought.actions += 1;
                    fault::point("cache.brought");
                }
                // Said already, of the cache.
                Ok(false) if wrong.contains(&one.place) => {}
                Ok(false) => {
                    let of = |reasons: &BTreeMap<Sha256, String>| {
                        lacking(store, one).into_iter().find_map(|object| reasons.get(&object.sha256).cloned())
                    };
                    let (what, reason) = match (of(&damaged), of(&unread)) {
                        (None, Some(reason)) => ("did not come from", Some(reason)),
                        (reason, _) => ("are missing or damaged in", reason),
                    };
                    say(format!(
                        "files of {} {what} the cache {}: it is built{}",
                        shown_name(&one.record.action),
                        self.places[one.place].shown,
                        reason.map(|reason| format!(" ({reason})")).unwrap_or_default()
                    ));
                }
                Err(Taken::Store(error)) => return Err(error),
                Err(Taken::Wrong(problem)) => {
                    self.places[one.place].is_odd(&one.record.key);
                    say(format!(
                        "the cache {} has damaged files of {}, which is built: {problem}",
                        self.places[one.place].shown,
                        shown_name(&one.record.action)
                    ));
                }
            }
        }
        let _ = std::fs::remove_dir_all(&aside);
        Ok(brought)
    }
}

impl Cache {
    /// Puts files where they are wanted, those that any cache has; by their digests, and so without a signature.
    /// Errors: [`StoreError`] where this store cannot keep what came.
    pub fn bring_files(&self, wanted: &[Wanted], progress: &dyn Progress, say: Say<'_>) -> Result<(), StoreError> {
        for place in self.places.iter().filter(|place| place.is_on()) {
            let left: Vec<&Wanted> = wanted.iter().filter(|one| !one.destination.is_file()).collect();
            if left.is_empty() {
                break;
            }
            let missing = match place.missing(&left.iter().map(|one| &one.object).collect::<Vec<_>>()) {
                Ok(missing) => missing.into_iter().collect::<BTreeSet<Sha256>>(),
                Err(problem) => {
                    self.lose(place, &problem, say);
                    continue;
                }
            };
            let there = left.into_iter().filter(|one| !missing.contains(&one.object.sha256)).cloned();
            if let Some(problem) = place.bring(&there.collect::<Vec<_>>(), progress)?.lost {
                self.lose(place, &problem, say);
            }
        }
        Ok(())
    }
}

/// How long a file of a result may take: some time in any case, and more where more would have to be done here.
fn worth(found: &Found) -> Duration {
    SHORTEST + Duration::from_millis(found.record.milliseconds).min(LONGEST) * 2
}

/// The same of a file that others have as well, by its size.
pub fn worth_of_size(bytes: u64) -> Duration {
    SHORTEST + Duration::from_secs(bytes / FLOOR)
}

/// A name that another machine wrote.
pub fn shown_name(action: &str) -> String {
    action.chars().map(|one| if one.is_control() { '?' } else { one }).collect()
}

enum Taken {
    Store(StoreError),
    /// It is not what it should be.
    Wrong(String),
}

impl From<StoreError> for Taken {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

fn file(aside: &Path, object: &Object) -> PathBuf {
    aside.join(object.sha256.to_string())
}

fn has_frame(store: &Store, frame: &Digest) -> bool {
    let name = store.directory().join(Store::frame_name(frame));
    name.is_file() && PathBuf::from(format!("{}.info", name.display())).is_file()
}

pub(super) fn lacking<'f>(store: &Store, one: &'f Found) -> Vec<&'f Object> {
    let outputs = &one.record.outputs;
    let layer = one.entry.layer.iter().filter(|_| outputs.layer.is_some_and(|layer| !store.has_layer(&layer)));
    let blobs = one.entry.blobs.iter().filter(|(digest, _)| !store.blob(digest).is_file()).map(|(_, object)| object);
    let frames =
        one.entry.frames.iter().filter(|(digest, _)| !has_frame(store, digest)).map(|(_, frame)| &frame.object);
    layer.chain(blobs).chain(frames).collect()
}

/// Gives what came its place; whether all of an action is there then.
fn take_in(store: &Store, one: &Found, aside: &Path, load: Loader<'_>) -> Result<bool, Taken> {
    let outputs = &one.record.outputs;
    for (digest, object) in &one.entry.blobs {
        let path = file(aside, object);
        if !store.blob(digest).is_file() && path.is_file() && store.ensure_blob_of(&path)?.digest != *digest {
            return Err(Taken::Wrong("a file has another digest".to_owned()));
        }
    }
    for (digest, frame) in &one.entry.frames {
        let path = file(aside, &frame.object);
        if !has_frame(store, digest) && path.is_file() {
            if !is_described(frame) {
                return Err(Taken::Wrong("a frame does not match its description".to_owned()));
            }
            store.take_frame(digest, &path, &frame.info)?;
        }
    }
    if let (Some(layer), Some(object)) = (outputs.layer, &one.entry.layer) {
        let path = file(aside, object);
        if !store.has_layer(&layer) && path.is_file() {
            let relative = path.strip_prefix(store.directory()).unwrap_or(&path);
            load(&relative.to_string_lossy()).map_err(Taken::Wrong)?;
            if !store.has_layer(&layer) {
                return Err(Taken::Wrong("a file has another layer".to_owned()));
            }
        }
    }
    Ok(store.has_outputs(outputs))
}

pub(super) fn is_described(frame: &Frame) -> bool {
    let is_sealed = store::seal(frame.info.as_bytes()) == store::Seal::Whole;
    let info: Option<FrameInfo> = serde_json::from_str(&frame.info).ok().filter(|_| is_sealed);
    info.is_some_and(|info| info.size == frame.object.size && info.sha256 == frame.object.sha256)
}
