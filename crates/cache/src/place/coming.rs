//! Files on their way from a cache: what comes is whole, and what does not come is left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use sha2::Digest as _;

use super::Wanted;
use base::digest::Sha256;
use files::sweep;
use packages::{Progress, pause, side_by_side};
use store::StoreError;

/// Why files did not come.
#[derive(Debug, Default)]
pub struct Problems {
    /// Why the cache is not asked again.
    pub lost: Option<String>,
    /// Files that are missing there or damaged, and how.
    pub of: BTreeMap<Sha256, String>,
    /// Files that may be as they should be: they were too slow, or it gave no answer.
    pub unread: BTreeMap<Sha256, String>,
}

/// A file on its way, beside its destination: it gets its name there when it is whole and what it should be.
pub(super) struct Coming<'a> {
    wanted: &'a Wanted,
    aside: tempfile::NamedTempFile,
    hasher: sha2::Sha256,
    size: u64,
    began: Instant,
}

impl<'a> Coming<'a> {
    pub(super) fn of(wanted: &'a Wanted) -> Result<Self, Trouble> {
        let parent = wanted.destination.parent().unwrap_or(Path::new("."));
        let made = std::fs::create_dir_all(parent).and_then(|()| sweep::file_in(parent, ".new-", 0o600));
        let aside = made.map_err(|error| own(wanted, error))?;
        Ok(Self { wanted, aside, hasher: sha2::Sha256::new(), size: 0, began: Instant::now() })
    }

    pub(super) fn file(&self) -> &File {
        self.aside.as_file()
    }

    pub(super) fn is_late(&self) -> bool {
        self.began.elapsed() > self.wanted.within
    }

    /// Takes what comes next. One that grows while it is read, or takes too long, is left out.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(), Trouble> {
        self.size = self.size.saturating_add(bytes.len() as u64);
        if self.size > self.wanted.object.size {
            return Err(Trouble::Left(OTHER_LENGTH.to_owned()));
        }
        if self.is_late() {
            return Err(too_slow(self.wanted));
        }
        self.hasher.update(bytes);
        self.aside.write_all(bytes).map_err(|error| own(self.wanted, error))
    }

    /// All of it came.
    pub(super) fn end(mut self) -> Result<(), Trouble> {
        let digest = Sha256(std::mem::take(&mut self.hasher).finalize().into());
        match (self.size == self.wanted.object.size, digest == self.wanted.object.sha256) {
            (true, true) => self.keep(),
            (false, _) => Err(Trouble::Left(OTHER_LENGTH.to_owned())),
            (true, false) => Err(Trouble::Left("a file does not match its digest".to_owned())),
        }
    }

    /// The same of one that was compared with its digest by who wrote it.
    pub(super) fn keep(self) -> Result<(), Trouble> {
        let file = self.aside.as_file();
        // Its name promises its content for ever.
        let kept = file.set_permissions(std::fs::Permissions::from_mode(0o644)).and_then(|()| file.sync_all());
        let kept = kept.and_then(|()| Ok(self.aside.persist(&self.wanted.destination)?));
        kept.map(drop).map_err(|error| own(self.wanted, error))
    }
}

/// This machine cannot keep it.
pub(super) fn own(wanted: &Wanted, error: std::io::Error) -> Trouble {
    Trouble::Store(StoreError::io("keep the file", &wanted.destination, error))
}

pub(super) const OTHER_LENGTH: &str = "a file is missing or has another length";

pub(super) enum Trouble {
    /// This file is missing or damaged, and left out; why.
    Left(String),
    /// It ended too early: so does a connection that breaks, and it is asked for again.
    Cut(String),
    /// This file is left out, and may be as it should be.
    Slow(String),
    /// The cache does not answer, or refuses to; it may the next time.
    Lost(String),
    Store(StoreError),
}

pub(super) fn too_slow(wanted: &Wanted) -> Trouble {
    Trouble::Slow(format!("a file of {} bytes did not come within {} s", wanted.object.size, wanted.within.as_secs()))
}

pub(crate) const CONNECTIONS: usize = 8;
/// How often a file is asked for, and an entry.
pub(super) const TRIES: u32 = 3;
/// So many files that do not come one after another are no longer single ones.
const MOST_LOST: usize = 8;

/// Takes why files did not come.
#[derive(Default)]
pub(super) struct Notes(Mutex<Problems>);

impl Notes {
    /// Notes why a file is left out.
    /// Errors: What is of more than this file.
    pub(super) fn note(&self, wanted: &Wanted, trouble: Trouble) -> Result<(), Trouble> {
        let mut problems = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, problem) = match trouble {
            Trouble::Left(problem) | Trouble::Cut(problem) => (&mut problems.of, problem),
            Trouble::Slow(problem) => (&mut problems.unread, problem),
            other => return Err(other),
        };
        of.insert(wanted.object.sha256, problem);
        Ok(())
    }
}

/// Brings files that come together, and notes which of them did not.
pub(super) type Bringing<'a> = dyn Fn(&[&Wanted], &Notes) -> Result<(), Trouble> + Sync + 'a;

/// Brings all in groups of files that come together, several groups at a time. What does not come is left out; where the cache does
/// not answer at all, that is why.
pub(super) fn bring_each(all: &[Vec<&Wanted>], some: &Bringing<'_>) -> Result<Problems, StoreError> {
    let (in_a_row, notes) = (AtomicUsize::new(0), Notes::default());
    let done = side_by_side(all, CONNECTIONS, &|group, _| {
        let mut last = Trouble::Lost(String::new());
        for attempt in 0..TRIES {
            pause(attempt);
            let left: Vec<&Wanted> = group.iter().filter(|one| !one.destination.is_file()).copied().collect();
            last = match some(&left, &notes) {
                Ok(()) => {
                    in_a_row.store(0, Ordering::Relaxed);
                    return Ok(());
                }
                Err(again @ (Trouble::Lost(_) | Trouble::Cut(_))) => again,
                Err(other) => return Err(other),
            };
        }
        let (is_lost, problem) = match last {
            Trouble::Lost(problem) => (true, problem),
            Trouble::Cut(problem) => (false, problem),
            other => return Err(other),
        };
        for one in group.iter().filter(|one| !one.destination.is_file()) {
            let of = problem.clone();
            notes.note(one, if is_lost { Trouble::Slow(of) } else { Trouble::Cut(of) })?;
        }
        match !is_lost || in_a_row.fetch_add(1, Ordering::Relaxed) + 1 < MOST_LOST {
            true => Ok(()),
            false => Err(Trouble::Lost(problem)),
        }
    });
    let problems = notes.0.into_inner().unwrap_or_else(PoisonError::into_inner);
    match done {
        Ok(()) => Ok(problems),
        Err(Trouble::Store(error)) => Err(error),
        Err(Trouble::Lost(problem) | Trouble::Left(problem) | Trouble::Cut(problem) | Trouble::Slow(problem)) => {
            Ok(Problems { lost: Some(problem), ..problems })
        }
    }
}

/// The same, file by file.
pub(super) fn bring_alone(
    wanted: &[Wanted],
    progress: &dyn Progress,
    one: &(dyn Fn(&Wanted) -> Result<(), Trouble> + Sync),
) -> Result<Problems, StoreError> {
    let news = News::of(wanted, progress);
    let each: Vec<Vec<&Wanted>> = wanted.iter().map(|one| vec![one]).collect();
    bring_each(&each, &|group, notes| {
        group.iter().try_for_each(|wanted| match one(wanted) {
            Ok(()) => {
                news.done(wanted);
                Ok(())
            }
            // Asked for again first.
            Err(cut @ Trouble::Cut(_)) => Err(cut),
            Err(trouble) => notes.note(wanted, trouble),
        })
    })
}

/// Says how much of what is wanted came.
pub(super) struct News<'a> {
    progress: &'a dyn Progress,
    files: usize,
    bytes: u64,
    done: Mutex<(usize, u64)>,
}

impl<'a> News<'a> {
    pub(super) fn of(wanted: &[Wanted], progress: &'a dyn Progress) -> Self {
        let bytes = wanted.iter().map(|one| one.object.size).sum();
        Self { progress, files: wanted.len(), bytes, done: Mutex::default() }
    }

    pub(super) fn done(&self, one: &Wanted) {
        if let Ok(mut done) = self.done.lock() {
            *done = (done.0 + 1, done.1 + one.object.size);
            self.progress.downloaded(done.0, self.files, done.1, self.bytes);
        }
    }
}
