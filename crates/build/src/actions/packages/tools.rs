//! Tools roots: made of the distribution's own packages, known by what they are made of (D9).

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::inputs::root;
use super::requests::target;
use crate::StageError;
use crate::actions::reader::work::{Given, Work, perform};
use crate::bench::Bench;
use crate::bench::results::{Done, missing, record};
use crate::supply::Supply;
use base::digest::{Digest, FieldHasher};
use packages::{PackageManager, manager};
use plan::{Action, ActionKind, key_and_trace};
use recipe::PinnedPackage;
use sandbox::emulator::HostCpu;
use store::{FileLock, Outputs};

/// Identity of a tools root: what it is made of, not what came out (D9).
pub(crate) fn tools_identity(manager: &dyn PackageManager, packages: &[PinnedPackage], platform: &str) -> String {
    let mut hasher = FieldHasher::new("imgbuild tools root v2");
    let versions = manager.versions();
    for version in [versions.unpack, versions.bootstrap, versions.install] {
        hasher.text(&version.to_string());
    }
    hasher.text(platform);
    for package in packages {
        hasher.text(&package.name).text(&package.version).text(&package.sha256.to_string());
    }
    hasher.finish().to_string()
}

/// Whether programs of a tools root run on this host's CPU as they are: packages of other CPUs have none.
pub(crate) fn tools_run_here(manager: &dyn PackageManager, packages: &[PinnedPackage]) -> bool {
    tools_run_on(manager, packages, HostCpu::here().machine())
}

/// The same for a machine, named as `uname -m` does.
pub(crate) fn tools_run_on(manager: &dyn PackageManager, packages: &[PinnedPackage], machine: &str) -> bool {
    let here = manager.architecture(machine);
    packages.iter().any(|package| package.architecture == here)
}

/// What actions take that run before there is a plan: locking asks programs of the tools root, and looks at the container image.
pub(crate) struct Before<'a> {
    pub bench: Bench<'a>,
    pub supply: &'a Supply<'a>,
    /// Takes what ran: keys, and how long each took.
    pub made: &'a Mutex<BTreeMap<Digest, Duration>>,
}

impl Before<'_> {
    /// The results of an action that stands on no other, from the store where they are there.
    /// Errors: [`StageError`] of its kind.
    pub(crate) fn ensure(&self, action: &Action, work: &impl Work) -> Result<Outputs, StageError> {
        let (store, done) = (self.bench.store, Done::default());
        let (key, trace) = key_and_trace(action, &done);
        let key = key.ok_or_else(|| missing(&action.id))?;
        let lock = FileLock::take(&store.directory().join("locks").join(key.to_string()))?;
        if let Some(known) = store.record(&key).filter(|known| store.has_outputs(&known.outputs)) {
            return Ok(known.outputs);
        }
        if action.kind == ActionKind::Unpack {
            self.bench.report.progress("making the tools root");
        }
        let began = Instant::now();
        let outputs = perform(work, &self.bench, action, Given { done: &done, supply: self.supply })?;
        store.commit(record(key, &action.id, trace, outputs.clone(), began.elapsed()))?;
        lock.remove();
        self.made.lock().unwrap_or_else(PoisonError::into_inner).insert(key, began.elapsed());
        Ok(outputs)
    }

    /// The layer of a tools root.
    /// Errors: [`StageError`] when a package cannot be unpacked.
    pub(crate) fn root(&self, name: &str, packages: Vec<PinnedPackage>) -> Result<Digest, StageError> {
        let recipe = self.bench.recipe;
        let (action, root) = root(manager(recipe), name, packages, &target(recipe));
        self.ensure(&action, &root)?.layer.ok_or_else(|| missing(&action.id))
    }
}
