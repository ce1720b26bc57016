//! What a build leaves in the history: what ran, how long it took, what it wrote, what failed (D17).

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use crate::StageError;
use crate::bench::ids;
use crate::estimate::{Estimate, Facts};
use crate::published::artefacts::BuildInfo;
use base::digest::Digest;
use plan::ActionKind;
use recipe::{Format, Recipe, in_format};
use store::{BuildTrace, End, Outputs, Run, Store, now};

/// Bytes that an action wrote: its layer's files, and blobs and frames that were not there when it began.
pub(crate) fn written(store: &Store, kind: ActionKind, outputs: &Outputs, began: SystemTime) -> u64 {
    let new = |path: &Path| match std::fs::metadata(path) {
        Ok(found) if found.modified().is_ok_and(|time| time >= began) => found.len(),
        _ => 0,
    };
    let frames = outputs.frames.iter().map(|frame| new(&store.directory().join(Store::frame_name(frame))));
    let blobs = outputs.blobs.values().map(|blob| new(&store.blob(&blob.digest)));
    let layer = match outputs.layer {
        Some(layer) if kind == ActionKind::Sync => own_bytes(store, &layer),
        Some(layer) => store.file_bytes(&layer).unwrap_or(0),
        None => 0,
    };
    frames.chain(blobs).sum::<u64>() + layer
}

/// Bytes of a layer's files without those that are further names of an earlier layer's.
fn own_bytes(store: &Store, layer: &Digest) -> u64 {
    let files = walkdir::WalkDir::new(store.directory().join(Store::tree_name(layer))).into_iter().flatten();
    let files = files.filter(|entry| entry.file_type().is_file()).filter_map(|entry| entry.metadata().ok());
    files.filter(|found| found.nlink() == 1).map(|found| found.len()).sum()
}

#[derive(Default)]
struct Inner {
    trace: OnceLock<BuildTrace>,
    /// When the build began.
    began: OnceLock<Instant>,
    estimate: OnceLock<Estimate>,
    written: std::sync::atomic::AtomicU64,
    runs: Mutex<Vec<Run>>,
}

/// Notes what one build does. What cannot be noted is no reason to fail; the first such error is kept.
#[derive(Clone, Default)]
pub struct Trace(Arc<Inner>);

impl std::fmt::Debug for Trace {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Trace")
    }
}

impl Trace {
    pub(crate) fn begin(&self, store: &Store, image: &str, recipe: &Path, target: &str) {
        let _ = self.0.began.set(Instant::now());
        if let Ok(trace) = store.begin_build(image, recipe, target) {
            let _ = self.0.trace.set(trace);
        }
    }

    pub(crate) fn number(&self) -> Option<u64> {
        self.0.trace.get().map(BuildTrace::number)
    }

    /// All packages are known; from here on what is estimated is done. What resolving them took and fetched until now counts
    /// on both sides.
    pub(crate) fn expect(&self, estimate: Option<Estimate>, downloaded: u64) {
        let spent = milliseconds(self.0.began.get_or_init(Instant::now).elapsed());
        if let Some(mut estimate) = estimate {
            for (range, more) in [(&mut estimate.milliseconds, spent), (&mut estimate.download_bytes, downloaded)] {
                if let Some(range) = range {
                    range.least += more;
                    range.most += more;
                }
            }
            let _ = self.0.estimate.set(estimate);
        }
    }

    pub(crate) fn ran(&self, run: Run) {
        self.0.written.fetch_add(run.written_bytes, std::sync::atomic::Ordering::Relaxed);
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner).push(run.clone());
        if let Some(trace) = self.0.trace.get() {
            let _ = trace.ran(run);
        }
    }

    pub fn runs(&self) -> Vec<Run> {
        self.0.runs.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// An image was published: how long that took and what it wrote. `before` are the inodes of what was published before.
    pub(crate) fn published(&self, published: Option<&(PathBuf, BuildInfo)>, before: &[u64], took: Duration) {
        let Some((directory, info)) = published else { return };
        let is_new = |found: &std::fs::Metadata| !before.contains(&found.ino());
        let own = |name: &String| std::fs::metadata(directory.join(name)).ok().filter(is_new);
        let written_bytes = info.artefacts.iter().filter_map(|artefact| own(&artefact.name)).map(|one| one.len()).sum();
        let (action, kind) = (ids::PUBLISH.to_owned(), ids::PUBLISH.to_owned());
        self.ran(Run { action, kind, milliseconds: milliseconds(took), written_bytes, ..Run::default() });
    }

    /// What was estimated, beside what it really took.
    pub(crate) fn facts(&self, downloaded: u64) -> (Option<Estimate>, Facts) {
        let began = self.0.began.get_or_init(Instant::now);
        let facts = Facts {
            milliseconds: milliseconds(began.elapsed()),
            written_bytes: self.0.written.load(std::sync::atomic::Ordering::Relaxed),
            downloaded_bytes: downloaded,
        };
        (self.0.estimate.get().cloned(), facts)
    }

    pub(crate) fn ended(&self, end: End) {
        let Some(trace) = self.0.trace.get() else { return };
        let estimate = self.0.estimate.get().and_then(|one| serde_json::to_value(one).ok());
        let _ = trace.ended(End { at: now(), estimate, ..end });
    }
}

/// Inodes of an image's published files: what the next build takes over of them it does not write.
pub(crate) fn published_inodes(out: &Path, image: &str) -> Vec<u64> {
    let names = |(directory, info): (PathBuf, BuildInfo)| -> Vec<u64> {
        let inode = |name: &str| std::fs::metadata(directory.join(name)).ok().map(|found| found.ino());
        info.artefacts.iter().filter_map(|artefact| inode(&artefact.name)).collect()
    };
    crate::published(out, image).map(names).unwrap_or_default()
}

pub(crate) fn milliseconds(duration: Duration) -> u64 {
    duration.as_millis() as u64
}

pub(crate) fn in_short(error: &StageError, recipe: &Recipe) -> String {
    let format = if recipe.in_kdl { Format::Kdl } else { Format::Toml };
    let text = in_format(&error.to_string(), format);
    let lines: Vec<&str> = text.lines().collect();
    let tail = lines[lines.len().saturating_sub(12).max(1)..].iter();
    std::iter::once(lines.first().unwrap_or(&"")).chain(tail).copied().collect::<Vec<_>>().join("\n")
}
