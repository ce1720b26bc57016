//! The files that are served: what lies below one directory, each with an entity tag by its digest.

mod body;
mod place;
mod range;

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use build::BuildInfo;

pub(crate) use body::FileBody;
pub(crate) use place::{Place, decoded, place};
pub(crate) use range::{Part, part};

const BUILD_FILE: &str = "build.json";

/// Longest build.json that is read, in bytes; real ones have some thousand.
const LONGEST_BUILD: u64 = 4 << 20;

/// How many directories' digests are kept.
const MOST_KNOWN: usize = 4096;

/// Which file of a build.json: it is replaced, and never written again.
type Stamp = (u64, u64, i64, i64, u64);

type Artefacts = HashMap<String, (u64, String)>;

/// Finds the directories whose files are served.
pub type Find = Arc<dyn Fn() -> Vec<PathBuf> + Send + Sync>;

/// How often they are looked for again, as images come and go.
const LOOK: Duration = Duration::from_secs(1);

/// The directories whose files are served, as they are now.
pub(crate) struct Roots {
    /// Those that stay.
    named: Vec<PathBuf>,
    find: Option<Find>,
    found: Mutex<(Instant, Arc<[PathBuf]>)>,
}

impl Roots {
    /// `named` are served first, then those that `find` gives, again and again.
    pub(crate) fn new(named: Vec<PathBuf>, find: Option<Find>) -> Self {
        let roots = Self { named, find, found: Mutex::new((Instant::now(), Arc::default())) };
        let found = roots.look();
        roots.found.lock().unwrap_or_else(PoisonError::into_inner).1 = found;
        roots
    }

    fn look(&self) -> Arc<[PathBuf]> {
        let found = self.find.iter().flat_map(|find| find());
        self.named.iter().cloned().chain(found).collect()
    }

    /// The directories; a second old at most.
    pub(crate) fn now(&self) -> Arc<[PathBuf]> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        if self.find.is_some() && found.0.elapsed() >= LOOK {
            *found = (Instant::now(), self.look());
        }
        Arc::clone(&found.1)
    }
}

/// Directories whose files are served: of a name that two have, the first one's.
pub(crate) struct Tree {
    roots: Arc<Roots>,
    known: Mutex<HashMap<Stamp, Arc<Artefacts>>>,
}

#[derive(Debug)]
pub(crate) struct Found {
    pub file: Arc<File>,
    /// Bytes.
    pub size: u64,
    /// Entity tag, with its quotes.
    pub tag: String,
    /// Whether the content of this address never changes.
    pub immutable: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    Missing,
    Unreadable,
}

impl Tree {
    pub(crate) fn new(roots: Arc<Roots>) -> Self {
        Self { roots, known: Mutex::default() }
    }

    pub(crate) fn roots(&self) -> Arc<[PathBuf]> {
        self.roots.now()
    }

    /// Opens a file. Links are followed as long as they stay below the root.
    pub(crate) fn open(&self, place: &Place) -> Result<Found, Refusal> {
        let mut refused = Refusal::Missing;
        for root in self.roots().iter() {
            match self.open_below(root, place) {
                Err(refusal) if refused == Refusal::Missing => refused = refusal,
                Err(_) => {}
                found => return found,
            }
        }
        Err(refused)
    }

    fn open_below(&self, root: &Path, place: &Place) -> Result<Found, Refusal> {
        let refusal = |error: Errno| match error {
            Errno::ACCESS | Errno::PERM => Refusal::Unreadable,
            _ => Refusal::Missing,
        };
        // Each time again: who removes the directory and makes it again is served what is there now.
        let top = rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(refusal)?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let below = |at: &OwnedFd, path: &Path, flags: OFlags| {
            let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
            // The kernel asks for another try when someone renames beside it. Source: openat2(2).
            (0..16)
                .map(|_| rustix::fs::openat2(at, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve))
                .find(|opened| !matches!(opened, Err(Errno::AGAIN)))
                .unwrap_or(Err(Errno::AGAIN))
        };
        let directory = below(&top, &place.directory, OFlags::PATH | OFlags::DIRECTORY).map_err(refusal)?;
        // Neither a fifo nor a device holds anybody up.
        let to_read = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
        let (opened, digests) = match below(&directory, Path::new(&place.name), to_read) {
            // A link to another directory of the root.
            Err(Errno::XDEV) => (below(&top, &place.directory.join(&place.name), to_read), None),
            opened => (opened, below(&directory, Path::new(BUILD_FILE), to_read).ok()),
        };
        let file = File::from(opened.map_err(refusal)?);
        let metadata = file.metadata().map_err(|_| Refusal::Unreadable)?;
        if !metadata.is_file() {
            return Err(Refusal::Missing);
        }
        let artefacts = digests.and_then(|file| self.artefacts(&File::from(file)));
        let digest =
            artefacts.as_ref().and_then(|all| all.get(&place.name)).filter(|(size, _)| *size == metadata.len());
        let tag = match digest {
            Some((_, digest)) => format!("\"{digest}\""),
            None => {
                let (at, since) = (metadata.mtime(), metadata.mtime_nsec());
                format!("\"{:x}-{:x}-{at:x}-{since:x}\"", metadata.ino(), metadata.len())
            }
        };
        Ok(Found {
            size: metadata.len(),
            tag,
            immutable: place.of_named_build && digest.is_some(),
            file: Arc::new(file),
        })
    }

    /// What the build.json of a directory says of its files.
    fn artefacts(&self, file: &File) -> Option<Arc<Artefacts>> {
        let metadata = file.metadata().ok().filter(|found| found.is_file() && found.len() <= LONGEST_BUILD)?;
        let stamp = (metadata.dev(), metadata.ino(), metadata.mtime(), metadata.mtime_nsec(), metadata.len());
        if let Some(known) = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&stamp) {
            return Some(Arc::clone(known));
        }
        let mut text = Vec::new();
        file.take(LONGEST_BUILD).read_to_end(&mut text).ok()?;
        let info: BuildInfo = serde_json::from_slice(&text).ok()?;
        let named = info.artefacts.into_iter().map(|one| (one.name, (one.size, one.sha256.to_string())));
        let artefacts = Arc::new(named.collect::<Artefacts>());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= MOST_KNOWN {
            known.clear();
        }
        known.insert(stamp, Arc::clone(&artefacts));
        Some(artefacts)
    }
}
