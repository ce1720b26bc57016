//! Files that others change while the server runs, read again where they have changed.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock, TryLockError};
use std::time::{Duration, Instant, SystemTime};

use crate::Say;
use crate::error::ServeError;
use base::source::{Finding, Severity};
use nodes::{Assignments, Nodes, RollShown, State, nodes_file};

/// How many errors of nodes.toml the server says itself.
const MOST_SAID: usize = 8;

/// How long what was read counts while something is announced.
const ANNOUNCED: Duration = Duration::from_secs(1);

/// A file as it was read last; `changed` differs whenever it has to be read again.
struct Read<T, S> {
    content: Arc<T>,
    changed: S,
}

/// What of the assignments was read, and when.
struct Written {
    written: Option<SystemTime>,
    announced: Option<SystemTime>,
    at: Instant,
}

/// What is still to be said of nodes.toml as it is now.
#[derive(Default)]
enum Unsaid {
    #[default]
    Nothing,
    Gone,
    Errors(Vec<Finding>),
}

/// The nodes' file, what `nodeset` gave them, and the roll under way.
pub(super) struct Files {
    pub(super) root: PathBuf,
    pub(super) state: State,
    nodes: RwLock<Read<Nodes, Option<SystemTime>>>,
    /// What is wrong with the file as it is now, until someone says it.
    unsaid: Mutex<Unsaid>,
    /// This server's address and mask where it answers DHCP: no node has those of the network.
    network: OnceLock<(Ipv4Addr, Ipv4Addr)>,
    assigned: RwLock<Read<Assignments, Option<Written>>>,
    roll: RwLock<Read<Option<RollShown>, Option<SystemTime>>>,
    /// Held by the one who reads nodes.toml again.
    reading: Mutex<()>,
}

impl Files {
    /// The files of a workspace, if it has any nodes. While their file has an error, those that it had before: a machine that starts
    /// again is no reason to serve nothing.
    /// Errors: What is wrong with their file, where none of before is known, or with the state.
    pub(super) fn open(root: PathBuf, state: State) -> Result<Option<Self>, ServeError> {
        let Some(path) = nodes_file(&root) else { return Ok(None) };
        let changed = modified(&path);
        let mut unsaid = Unsaid::Nothing;
        let nodes = match Nodes::load(&root) {
            Ok(Some(nodes)) => nodes,
            Ok(None) => return Ok(None),
            Err(findings) => match state.last(&path).filter(|_| !fault::planted("serve-forgets-last")) {
                Some(nodes) => {
                    unsaid = Unsaid::Errors(findings);
                    nodes
                }
                None => return Err(ServeError::Nodes(findings)),
            },
        };
        state.try_to_write()?;
        if matches!(unsaid, Unsaid::Nothing) {
            // A copy that cannot be kept is missed at the next start, no sooner.
            let _ = state.keep_last(&nodes.file);
        }
        let assigned = state.assignments()?;
        Ok(Some(Self {
            root,
            state,
            nodes: RwLock::new(Read { content: Arc::new(nodes), changed }),
            unsaid: Mutex::new(unsaid),
            network: OnceLock::new(),
            // Read again when it is asked for first.
            assigned: RwLock::new(Read { content: Arc::new(assigned), changed: None }),
            roll: RwLock::new(Read { content: Arc::default(), changed: None }),
            reading: Mutex::default(),
        }))
    }

    /// The nodes; read again where the file has changed, and whether this read it. One that is wrong leaves what was there, and who asks
    /// while it is read gets what was there, too.
    pub(super) fn nodes(&self) -> (Arc<Nodes>, bool) {
        let now = nodes_file(&self.root).and_then(|path| modified(&path));
        let known = || {
            let read = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&read.content), read.changed == now)
        };
        let (content, is_now) = known();
        if is_now {
            return (content, false);
        }
        let _reading = match self.reading.try_lock() {
            Ok(reading) => reading,
            Err(TryLockError::Poisoned(reading)) => reading.into_inner(),
            Err(TryLockError::WouldBlock) => return (content, false),
        };
        // Another may have read it in between.
        if let (content, true) = known() {
            return (content, false);
        }
        let loaded = Nodes::load(&self.root).and_then(|nodes| {
            let network = self.network.get().filter(|_| !fault::planted("serve-reload-takes-address"));
            let taken =
                nodes.iter().zip(network).flat_map(|(nodes, (server, mask))| nodes.taken_addresses(*server, *mask));
            let taken: Vec<Finding> = taken.collect();
            if taken.is_empty() { Ok(nodes) } else { Err(taken) }
        });
        // A copy that cannot be kept is missed at the next start, no sooner.
        if let Ok(Some(nodes)) = &loaded {
            let _ = self.state.keep_last(&nodes.file);
        }
        let mut unsaid = self.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        read.changed = now;
        let is_new = matches!(loaded, Ok(Some(_)));
        *unsaid = match loaded {
            Ok(Some(nodes)) => {
                read.content = Arc::new(nodes);
                Unsaid::Nothing
            }
            Ok(None) => Unsaid::Gone,
            Err(findings) => Unsaid::Errors(findings),
        };
        (Arc::clone(&read.content), is_new)
    }

    /// From now on nodes.toml is not taken over where a node has an address of this network that no node can have.
    pub(super) fn answers_in(&self, server: Ipv4Addr, mask: Ipv4Addr) {
        let _ = self.network.set((server, mask));
    }

    /// Says why nodes.toml is not taken over as it is, once, by anyone who can.
    pub(super) fn say_errors(&self, say: &Say) {
        let unsaid = std::mem::take(&mut *self.unsaid.lock().unwrap_or_else(PoisonError::into_inner));
        let findings = match unsaid {
            Unsaid::Nothing => return,
            Unsaid::Gone => return say("nodes.toml is gone: what it said before is used further"),
            Unsaid::Errors(findings) => findings,
        };
        let errors: Vec<&Finding> = findings.iter().filter(|one| one.severity == Severity::Error).collect();
        for error in errors.iter().take(MOST_SAID) {
            let place = error.span.as_ref().map(|span| format!("{span}: ")).unwrap_or_default();
            say(&format!("{place}{}", error.message));
        }
        if !errors.is_empty() {
            say("nodes.toml has errors as it is now: what it said before is used further");
        }
    }

    /// What `nodeset` gave them; read again where that has changed. What is announced counts from a moment that no file tells: as long
    /// as it is there, this is a second old at most.
    pub(super) fn assigned(&self) -> Arc<Assignments> {
        let (written, announced) = self.state.assignments_written();
        {
            let read = self.assigned.read().unwrap_or_else(PoisonError::into_inner);
            if read.changed.as_ref().is_some_and(|read| {
                (read.written, read.announced) == (written, announced)
                    && (announced.is_none() || read.at.elapsed() < ANNOUNCED)
            }) {
                return Arc::clone(&read.content);
            }
        }
        let mut read = self.assigned.write().unwrap_or_else(PoisonError::into_inner);
        if let Ok(assigned) = self.state.assignments() {
            let at = Instant::now();
            *read = Read { content: Arc::new(assigned), changed: Some(Written { written, announced, at }) };
        }
        Arc::clone(&read.content)
    }

    /// The roll under way; read again where its file has changed.
    pub(super) fn roll(&self) -> Arc<Option<RollShown>> {
        let now = self.state.roll_written();
        {
            let read = self.roll.read().unwrap_or_else(PoisonError::into_inner);
            if read.changed == now {
                return Arc::clone(&read.content);
            }
        }
        let mut read = self.roll.write().unwrap_or_else(PoisonError::into_inner);
        *read = Read { content: Arc::new(self.state.roll_shown()), changed: now };
        Arc::clone(&read.content)
    }
}

fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|found| found.modified()).ok()
}
