//! Files that others change while the server runs, read again where they have changed.

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::{Arc, PoisonError, TryLockError};
use std::time::SystemTime;

use super::desk::Desk;
use crate::Say;
use base::source::{Finding, Severity};
use nodes::{Assignments, Nodes, nodes_file};

/// How many errors of nodes.toml the server says itself.
const MOST_SAID: usize = 8;

/// A file as it was read last; `changed` differs whenever it has to be read again.
pub(super) struct Read<T, S> {
    pub(super) content: Arc<T>,
    pub(super) changed: S,
}

/// What is still to be said of nodes.toml as it is now.
#[derive(Default)]
pub(super) enum Unsaid {
    #[default]
    Nothing,
    Gone,
    Errors(Vec<Finding>),
}

impl Desk {
    /// The nodes; read again where the file has changed. One that is wrong leaves what was there, and who asks while it is read gets
    /// what was there, too.
    pub(crate) fn nodes(&self) -> Arc<Nodes> {
        let now = nodes_file(&self.root).and_then(|path| modified(&path));
        let known = || {
            let read = self.nodes.read().unwrap_or_else(PoisonError::into_inner);
            (Arc::clone(&read.content), read.changed == now)
        };
        let (content, is_now) = known();
        if is_now {
            return content;
        }
        let _reading = match self.reading.try_lock() {
            Ok(reading) => reading,
            Err(TryLockError::Poisoned(reading)) => reading.into_inner(),
            Err(TryLockError::WouldBlock) => return content,
        };
        // Another may have read it in between.
        if let (content, true) = known() {
            return content;
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
            self.reports.lock().unwrap_or_else(PoisonError::into_inner).forget_cleared(&self.state);
        }
        let mut unsaid = self.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
        let mut read = self.nodes.write().unwrap_or_else(PoisonError::into_inner);
        read.changed = now;
        *unsaid = match loaded {
            Ok(Some(nodes)) => {
                read.content = Arc::new(nodes);
                Unsaid::Nothing
            }
            Ok(None) => Unsaid::Gone,
            Err(findings) => Unsaid::Errors(findings),
        };
        Arc::clone(&read.content)
    }

    /// From now on nodes.toml is not taken over where a node has an address of this network that no node can have.
    pub(crate) fn answers_in(&self, server: Ipv4Addr, mask: Ipv4Addr) {
        let _ = self.network.set((server, mask));
    }

    /// Says why nodes.toml is not taken over as it is, once, by anyone who can.
    pub(crate) fn say_errors(&self, say: &Say) {
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

    /// What `nodeset` gave them; read again where that has changed.
    pub(crate) fn assigned(&self) -> Arc<Assignments> {
        let now = Some(self.state.stamp());
        {
            let read = self.assigned.read().unwrap_or_else(PoisonError::into_inner);
            if read.changed == now {
                return Arc::clone(&read.content);
            }
        }
        let mut read = self.assigned.write().unwrap_or_else(PoisonError::into_inner);
        if let Ok(assigned) = self.state.assignments() {
            *read = Read { content: Arc::new(assigned), changed: now };
        }
        Arc::clone(&read.content)
    }
}

pub(crate) fn modified(path: &Path) -> Option<SystemTime> {
    std::fs::metadata(path).and_then(|found| found.modified()).ok()
}
