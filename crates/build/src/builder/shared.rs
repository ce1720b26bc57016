//! What builds that run side by side share: turns of actions within `-j` and memory, packages on their way, one resolving
//! at a time, and the word to stop.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::StageError;
use crate::supply::Staging;
use base::digest::Digest;
use cache::{Cache, Filled};
use plan::ActionKind;
use recipe::epoch_of_today;
use store::{Outputs, Store};

const MIB: u64 = 1 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How many actions run at once at most.
    pub jobs: usize,
    /// How much memory the estimates of running actions may come to, in bytes.
    pub memory: u64,
}

impl Limits {
    /// So many actions at once, within what memory is free now.
    pub fn of_machine(jobs: usize) -> Self {
        Self { jobs, memory: free_memory() }
    }
}

/// Memory that this process may still use, in bytes: what the machine has free, or what its control group leaves.
/// Source: proc_meminfo(5), MemAvailable; the kernel's cgroup-v2.rst, memory.max and memory.current.
fn free_memory() -> u64 {
    let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kilobytes = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.split_whitespace().next()?.parse::<u64>().ok());
    let machine = kilobytes.map_or(u64::MAX, |count| count.saturating_mul(1024));
    let group = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group =
        group.lines().find_map(|line| line.strip_prefix("0::")).unwrap_or("/").trim_start_matches('/').to_owned();
    let number = |file: &str| -> Option<u64> {
        std::fs::read_to_string(format!("/sys/fs/cgroup/{group}/{file}")).ok()?.trim().parse().ok()
    };
    match (number("memory.max"), number("memory.current")) {
        (Some(most), Some(used)) => machine.min(most.saturating_sub(used)),
        _ => machine,
    }
}

/// How much memory an action of a kind takes, in bytes, with so many threads.
///
/// Rules of thumb, which no one measured: a package manager keeps its database and
/// the metadata of its repositories in memory, a packer holds the frames that its threads compress, a compiler runs once
/// per job.
pub fn estimate(kind: ActionKind, threads: usize) -> u64 {
    let threads = threads as u64;
    match kind {
        ActionKind::Bootstrap | ActionKind::Install => 400 * MIB,
        ActionKind::Unpack | ActionKind::Container | ActionKind::Kernel | ActionKind::Postinstall => 256 * MIB,
        ActionKind::Role | ActionKind::Dracut | ActionKind::Initrd => 256 * MIB,
        ActionKind::Pack => (128 + 48 * threads) * MIB,
        ActionKind::Driver => (128 + 256 * threads) * MIB,
        ActionKind::Lock
        | ActionKind::System
        | ActionKind::Services
        | ActionKind::Gate
        | ActionKind::NodeSupport
        | ActionKind::Postscripts
        | ActionKind::Sync
        | ActionKind::Statelite
        | ActionKind::Publish => 64 * MIB,
    }
}

#[derive(Debug, Default)]
struct Used {
    running: usize,
    memory: u64,
}

/// Hands out turns to actions of all images.
#[derive(Debug)]
pub(crate) struct Budget {
    limits: Limits,
    used: Mutex<Used>,
    changed: Condvar,
}

/// The right to run one action; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'a> {
    budget: &'a Budget,
    memory: u64,
}

impl Budget {
    pub(crate) fn new(limits: Limits) -> Self {
        Self { limits, used: Mutex::default(), changed: Condvar::new() }
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until an action with such an estimate may run. One action may always run, whatever it takes.
    pub(crate) fn turn(&self, memory: u64) -> Turn<'_> {
        let mut used = self.used();
        while used.running > 0
            && (used.running >= self.limits.jobs || used.memory.saturating_add(memory) > self.limits.memory)
        {
            used = self.changed.wait(used).unwrap_or_else(PoisonError::into_inner);
        }
        used.running += 1;
        used.memory = used.memory.saturating_add(memory);
        Turn { budget: self, memory }
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut used = self.budget.used();
        used.running -= 1;
        used.memory = used.memory.saturating_sub(self.memory);
        self.budget.changed.notify_all();
    }
}

#[derive(Debug)]
pub struct Deliver {
    pub to: Cache,
    /// Keys whose results the other machine has.
    pub had: BTreeSet<Digest>,
    /// Ids of the actions that are asked for, by image; all of an image that is not in it.
    pub wanted: BTreeMap<String, BTreeSet<String>>,
}

pub struct SharedBuild {
    pub(crate) budget: Arc<Budget>,
    /// Packages on their way into this store.
    pub(crate) staging: Staging,
    /// Anyone who holds it asks the distribution: the tools root is made once, and mirrors are asked one after another.
    pub(crate) resolving: Mutex<()>,
    /// What ran for resolving, by key, and how long it took.
    pub(crate) made: Mutex<BTreeMap<Digest, Duration>>,
    /// Whether what does not need a failed action goes on.
    pub keep_going: bool,
    /// The epoch of locks that are made new, in seconds since 1970: one for all images, so that they can share layers.
    pub epoch: i64,
    pub cache: Option<Cache>,
    /// Keys of the actions whose results caches took while others ran, and how much that was.
    pub(crate) filled: Mutex<(BTreeSet<Digest>, Filled)>,
    /// What caches say of actions that are built to compare it: which cache, and the results.
    pub(crate) sampled: Mutex<BTreeMap<Digest, (String, Outputs)>>,
    /// Where results go that another machine asked for; nothing is published then.
    pub deliver: Option<Deliver>,
    /// The machine that was asked for all that is missing: nothing runs here.
    pub elsewhere: Option<String>,
    stopped: AtomicBool,
}

impl SharedBuild {
    /// For one store.
    /// Errors: [`StageError::Store`] where the store cannot be written.
    pub fn new(store: &Store, limits: Limits, keep_going: bool) -> Result<Self, StageError> {
        Self::with_budget(store, Arc::new(Budget::new(limits)), keep_going)
    }

    /// For another store, within the same limits.
    /// Errors: As [`SharedBuild::new`].
    pub(crate) fn with_budget(store: &Store, budget: Arc<Budget>, keep_going: bool) -> Result<Self, StageError> {
        let staging = Staging::new(store)?;
        let epoch = epoch_of_today();
        let (resolving, made, stopped) = (Mutex::new(()), Mutex::default(), AtomicBool::new(false));
        Ok(Self {
            budget,
            staging,
            resolving,
            made,
            keep_going,
            epoch,
            cache: None,
            filled: Mutex::default(),
            sampled: Mutex::default(),
            deliver: None,
            elsewhere: None,
            stopped,
        })
    }

    /// Goes on with what was noted of caches while another machine was asked for what is missing.
    pub fn continue_from(&self, asking: &Self) {
        let asked = std::mem::take(&mut *asking.sampled.lock().unwrap_or_else(PoisonError::into_inner));
        self.sampled.lock().unwrap_or_else(PoisonError::into_inner).extend(asked);
    }

    /// Nothing new starts.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    /// Most that ran at once, of eight actions that take so much memory each.
    fn most(limits: Limits, memory: u64) -> usize {
        let (budget, now, most) = (Budget::new(limits), AtomicUsize::new(0), AtomicUsize::new(0));
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    let _turn = budget.turn(memory);
                    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                    std::thread::sleep(Duration::from_millis(20));
                    now.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        most.into_inner()
    }

    #[test]
    fn no_more_run_at_once_than_jobs_and_memory_allow() {
        assert_eq!(most(Limits { jobs: 3, memory: u64::MAX }, 100), 3);
        assert_eq!(most(Limits { jobs: 8, memory: 250 }, 100), 2);
        assert_eq!(most(Limits { jobs: 8, memory: 50 }, 100), 1);
    }
}
