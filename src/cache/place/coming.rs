//! Files on their way from a cache: what comes is whole, and what does not come is left out.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use super::Wanted;
use crate::digest::Sha256;
use crate::distro::{Progress, pause, side_by_side};
use crate::store::StoreError;
use crate::sweep;

/// Why files did not come.
#[derive(Debug, Default)]
pub struct Problems {
    /// Why the cache is not asked again.
    pub lost: Option<String>,
    /// Why single files did not come.
    pub of: BTreeMap<Sha256, String>,
}

pub(super) fn keep(aside: &Path, wanted: &Wanted) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    let kept = || -> std::io::Result<()> {
        let file = std::fs::File::open(aside)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        // Its name promises its content for ever.
        file.sync_all()?;
        std::fs::rename(aside, &wanted.destination)
    };
    kept().map_err(|error| StoreError::io("keep the file", &wanted.destination, error))
}

/// A name beside a destination, which is not taken.
pub(super) fn aside_of(wanted: &Wanted) -> Result<tempfile::NamedTempFile, StoreError> {
    let parent = wanted.destination.parent().unwrap_or(Path::new("."));
    let made = std::fs::create_dir_all(parent).and_then(|()| sweep::file_in(parent, ".new-", 0o600));
    made.map_err(|error| StoreError::io("keep the file", &wanted.destination, error))
}

pub(super) enum Trouble {
    /// This file is left out; why.
    Left(String),
    /// The cache does not answer, or refuses to; it may the next time.
    Lost(String),
    Store(StoreError),
}

pub(super) fn too_slow(wanted: &Wanted) -> Trouble {
    Trouble::Left(format!("a file of {} bytes did not come within {} s", wanted.object.size, wanted.within.as_secs()))
}

pub(super) const CONNECTIONS: usize = 8;
/// How often a file is asked for, and an entry.
pub(super) const TRIES: u32 = 3;
/// So many files that do not come one after another are no longer single ones.
const MOST_LOST: usize = 8;

/// What a file of a cache is known by.
pub(super) trait Named {
    fn digests(&self) -> Vec<Sha256>;
}

impl Named for Wanted {
    fn digests(&self) -> Vec<Sha256> {
        vec![self.object.sha256]
    }
}

impl Named for Vec<&Wanted> {
    fn digests(&self) -> Vec<Sha256> {
        self.iter().map(|one| one.object.sha256).collect()
    }
}

/// Brings all, several at a time. What does not come is left out; where the cache does not answer at all, that is why.
pub(super) fn bring_each<T: Sync + Named>(
    all: &[T],
    one: &(dyn Fn(&T) -> Result<(), Trouble> + Sync),
) -> Result<Problems, StoreError> {
    let (in_a_row, of) = (AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    let left = |item: &T, problem: &str| {
        let mut of = of.lock().unwrap_or_else(PoisonError::into_inner);
        of.extend(item.digests().into_iter().map(|digest| (digest, problem.to_owned())));
    };
    let done = side_by_side(all, CONNECTIONS, &|item, _| {
        let mut last = String::new();
        for attempt in 0..TRIES {
            pause(attempt);
            match one(item) {
                Ok(()) => {
                    in_a_row.store(0, Ordering::Relaxed);
                    return Ok(());
                }
                Err(Trouble::Left(problem)) => {
                    in_a_row.store(0, Ordering::Relaxed);
                    left(item, &problem);
                    return Ok(());
                }
                Err(Trouble::Lost(problem)) => last = problem,
                Err(store) => return Err(store),
            }
        }
        left(item, &last);
        match in_a_row.fetch_add(1, Ordering::Relaxed) + 1 < MOST_LOST {
            true => Ok(()),
            false => Err(Trouble::Lost(last)),
        }
    });
    let of = of.into_inner().unwrap_or_else(PoisonError::into_inner);
    match done {
        Ok(()) => Ok(Problems { lost: None, of }),
        Err(Trouble::Lost(problem) | Trouble::Left(problem)) => Ok(Problems { lost: Some(problem), of }),
        Err(Trouble::Store(error)) => Err(error),
    }
}

/// Says how much of what is wanted came.
pub(super) struct News<'a> {
    progress: &'a dyn Progress,
    files: usize,
    bytes: u64,
    done: Mutex<(usize, u64)>,
}

impl<'a> News<'a> {
    pub fn of(wanted: &[Wanted], progress: &'a dyn Progress) -> Self {
        let bytes = wanted.iter().map(|one| one.object.size).sum();
        Self { progress, files: wanted.len(), bytes, done: Mutex::default() }
    }

    pub fn done(&self, one: &Wanted) {
        if let Ok(mut done) = self.done.lock() {
            *done = (done.0 + 1, done.1 + one.object.size);
            self.progress.downloaded(done.0, self.files, done.1, self.bytes);
        }
    }
}
