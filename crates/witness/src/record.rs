//! Records what the current thread reads.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;

use super::facts::{Fact, Witness, is_settled, need};
use super::kind::Kind;
use super::stamp::{Seen, Stamp, look, look_through, now};
use base::digest::{Digest, Sha256};

/// Digests of files that an earlier recording read: a file whose stamp is the same is not read again for its digest.
#[derive(Debug, Default)]
pub struct Known(HashMap<PathBuf, (Stamp, Option<Digest>, Option<Sha256>)>);

impl Known {
    /// What a witness tells; stamps that do not count are left out.
    pub fn from_witness(witness: &Witness) -> Self {
        let of = |fact: &Fact| {
            let stamp = fact.followed().ok().filter(|_| fact.needs & need::CONTENT != 0)?;
            is_settled(&Ok(stamp), witness.began).then(|| (fact.path.clone(), (stamp, fact.digest, fact.sha256)))
        };
        Self(witness.facts.iter().filter_map(of).collect())
    }
}

/// How many recordings there were.
static NUMBER: AtomicU64 = AtomicU64::new(0);

struct Recorder {
    number: u64,
    began: i64,
    known: Known,
    facts: HashMap<PathBuf, Fact>,
    variables: BTreeMap<String, Option<String>>,
    torn: bool,
}

thread_local! {
    /// A stack: while a thread waits for others, it may be given another recording's work.
    static RECORDERS: RefCell<Vec<Recorder>> = const { RefCell::new(Vec::new()) };
}

/// Runs `work` and notes all that it looks at, as far as it does so on this thread.
pub fn recording<T>(known: Known, work: impl FnOnce() -> T) -> (T, Witness) {
    /// Takes the recorder away also when `work` panics.
    struct Popping;
    impl Drop for Popping {
        fn drop(&mut self) {
            RECORDERS.with_borrow_mut(Vec::pop);
        }
    }
    let began = now();
    RECORDERS.with_borrow_mut(|stack| {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        stack.push(Recorder { number, began, known, facts: HashMap::new(), variables: BTreeMap::new(), torn: false });
    });
    let popping = Popping;
    let outcome = work();
    let witness = RECORDERS.with_borrow_mut(|stack| stack.last_mut().map(Recorder::take)).unwrap_or_default();
    drop(popping);
    (outcome, witness)
}

/// The number of the recording that runs on this thread, if one does: what was asked in it need not be asked again.
pub fn recording_number() -> Option<u64> {
    RECORDERS.with_borrow(|stack| stack.last().map(|recorder| recorder.number))
}

pub(crate) fn is_recording() -> bool {
    RECORDERS.with_borrow(|stack| !stack.is_empty())
}

fn with(work: impl FnOnce(&mut Recorder)) {
    RECORDERS.with_borrow_mut(|stack| {
        if let Some(recorder) = stack.last_mut() {
            work(recorder);
        }
    });
}

impl Recorder {
    fn take(&mut self) -> Witness {
        let mut facts: Vec<Fact> = std::mem::take(&mut self.facts).into_values().collect();
        facts.sort_by(|a, b| a.path.as_os_str().as_bytes().cmp(b.path.as_os_str().as_bytes()));
        let places: HashMap<PathBuf, u32> =
            facts.iter().zip(0..).map(|(fact, index)| (fact.path.clone(), index)).collect();
        for fact in &mut facts {
            fact.parent = fact.path.parent().and_then(|parent| places.get(parent)).copied();
        }
        Witness { began: self.began, facts, variables: std::mem::take(&mut self.variables), torn: self.torn }
    }

    /// Adds to what is known of a path. The same stamp must be seen each time; only of what is no more than a step on
    /// the way somewhere, its kind.
    fn note(&mut self, path: &Path, needs: u8, own: Seen, through: Option<Seen>) -> &mut Fact {
        let fact = self.facts.entry(path.to_owned()).or_insert_with(|| Fact {
            path: path.to_owned(),
            parent: None,
            needs: 0,
            own,
            through,
            digest: None,
            sha256: None,
        });
        fact.needs |= needs;
        let same = |a: Seen, b: Seen| match (a, b) {
            (Ok(a), Ok(b)) => a.kind() == b.kind() && a.inode == b.inode && a.device == b.device,
            (a, b) => a == b,
        };
        let only_kind = fact.needs & !(need::KIND | need::KIND_THROUGH) == 0;
        let agrees = |a: Seen, b: Seen| if only_kind { same(a, b) } else { a == b };
        let fits = agrees(own, fact.own)
            && match (through, fact.through) {
                (Some(a), Some(b)) => agrees(a, b),
                (Some(_), None) => {
                    fact.through = through;
                    true
                }
                _ => true,
            };
        if !fits {
            self.torn = true;
        }
        fact
    }
}

/// Notes a path without following it. `needs` is of the path itself.
pub(crate) fn note_own(path: &Path, needs: u8) -> Seen {
    let own = look(path);
    with(|recorder| {
        recorder.note(path, needs, own, None);
    });
    own
}

/// Notes a path and the directory that it lies in, which may later answer for it.
pub(crate) fn note_in_directory(path: &Path, needs: u8) -> Seen {
    if let Some(parent) = path.parent() {
        with(|recorder| {
            if !recorder.facts.contains_key(parent) {
                let own = look(parent);
                recorder.note(parent, need::KIND, own, None);
            }
        });
    }
    note_own(path, needs)
}

/// Notes what a path leads to; gives its stamp.
pub(crate) fn note_through(path: &Path, needs: u8) -> Seen {
    let own = look(path);
    let through = own.is_ok_and(|stamp| stamp.is_link()).then(|| look_through(path));
    with(|recorder| {
        recorder.note(path, needs, own, through);
    });
    through.unwrap_or(own)
}

/// Notes the digest of what was read at a path; `read` is the stamp that the opened file had before it was read.
pub(crate) fn note_digest(path: &Path, needs: u8, read: Seen, digest: Option<Digest>, sha256: Option<Sha256>) {
    let own = look(path);
    let through = own.is_ok_and(|stamp| stamp.is_link()).then_some(read);
    with(|recorder| {
        let fits = through.unwrap_or(own) == read;
        let fact = recorder.note(path, needs, own, through);
        let moved = digest.is_some() && fact.digest.is_some() && fact.digest != digest;
        fact.digest = fact.digest.or(digest);
        fact.sha256 = fact.sha256.or(sha256);
        recorder.torn |= moved || !fits;
    });
}

/// Notes that something could not be opened or read, with the error's number as it was.
pub(crate) fn note_error(path: &Path, error: i32) {
    let own = look(path);
    let through = own.is_ok_and(|stamp| stamp.is_link()).then(|| look_through(path));
    let followed = through.unwrap_or(own);
    let directory = followed.is_ok_and(|stamp| Kind::of_mode(stamp.mode) == Kind::Directory);
    let (no_directory, is_directory) = (Errno::NOTDIR.raw_os_error(), Errno::ISDIR.raw_os_error());
    // A file taken for a directory or the other way round: its kind says it all. Another error of something that is
    // there, for instance for want of permissions, no stamp tells.
    let is_known = match followed {
        Err(number) => number == error,
        Ok(_) => error == no_directory && !directory || error == is_directory && directory,
    };
    with(|recorder| {
        recorder.note(path, need::KIND_THROUGH, own, through);
        recorder.torn |= !is_known;
    });
}

pub(crate) fn note_variable(name: &str, value: Option<&str>) {
    with(|recorder| {
        recorder.variables.insert(name.to_owned(), value.map(str::to_owned));
    });
}

/// Says that what was seen does not fit together.
pub(crate) fn tear() {
    with(|recorder| recorder.torn = true);
}

/// The digests of an earlier reading of a file with this stamp.
pub(crate) fn known(path: &Path, stamp: &Stamp) -> (Option<Digest>, Option<Sha256>) {
    let mut found = (None, None);
    with(|recorder| {
        let earlier = recorder.known.0.get(path).filter(|(was, _, _)| was == stamp);
        let current = recorder.facts.get(path).filter(|fact| fact.needs & need::CONTENT != 0);
        let current = current.filter(|fact| fact.followed() == Ok(*stamp));
        found = match (earlier, current) {
            (_, Some(fact)) if fact.digest.is_some() => (fact.digest, fact.sha256),
            (Some((_, digest, sha256)), _) => (*digest, *sha256),
            _ => (None, None),
        };
    });
    found
}
