//! Plans of recipes whose lock is up to date: the actions, and what is decided of each. Everything that needs the graph of
//! an image asks here: plans, plan files, explanations, single actions, builds.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use crate::StageError;
use crate::actions::{Forms, StageGraph, graph_of};
use crate::bench::history::StoreHistory;
use crate::estimate::{Experience, Workload, work_of};
use crate::inside::init::init_for;
use crate::lock::state::{LockState, lock_state};
use crate::published::drift::{Drift, drift_of_artefacts};
use crate::published::layouts::Target;
use base::digest::Digest;
use plan::{Cause, Decision, Verdict, evaluate};
use recipe::{Arch, Lock, Recipe};
use store::{Root, Store};

/// Digest of the initrd's program, by the image's CPU: one for all images of a run.
fn init_digest(arch: Arch) -> Result<Digest, StageError> {
    static KNOWN: Mutex<Vec<(Arch, Digest)>> = Mutex::new(Vec::new());
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some((_, digest)) = known.iter().find(|(one, _)| *one == arch) {
        return Ok(*digest);
    }
    let digest = Digest::of(init_for(arch)?);
    known.push((arch, digest));
    Ok(digest)
}

pub fn forms_for(publish: &[Target]) -> Forms {
    if publish.is_empty() { Forms::Own } else { Forms::AndGzip }
}

/// The actions of a recipe with a lock.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub fn stages_of(recipe: &Recipe, lock: &Lock, forms: Forms) -> Result<StageGraph, StageError> {
    graph_of(recipe, lock, &init_digest(recipe.model.image.arch)?, forms)
}

/// The lock, if it is up to date with the recipe.
/// Errors: Why it is not; nothing where there is no lock.
pub fn fresh_lock(recipe: &Recipe, found: Option<Lock>) -> Result<Lock, Vec<Cause>> {
    match (lock_state(recipe, found.as_ref()), found) {
        (LockState::Fresh, Some(lock)) => Ok(lock),
        (LockState::Stale(causes) | LockState::FilesChanged(causes), _) => Err(causes),
        (LockState::Fresh, None) => Err(Vec::new()),
    }
}

/// Actions of an image, what is decided of each, and what the last build of it left.
#[derive(Debug)]
pub struct ExactPlan {
    pub stages: StageGraph,
    pub root: Option<Root>,
    pub decisions: Vec<Decision>,
}

impl ExactPlan {
    /// Decides; runs nothing and writes nothing. `lock` is up to date, or what is supposed of it.
    /// Errors: As [`stages_of`].
    pub fn of(recipe: &Recipe, lock: &Lock, store: &Store, forms: Forms) -> Result<Self, StageError> {
        let root = store.root(&recipe.directory, &recipe.model.image.name);
        Self::after(root, recipe, lock, store, forms)
    }

    /// The same, after a build that left `root`.
    /// Errors: As [`stages_of`].
    pub fn after(
        root: Option<Root>,
        recipe: &Recipe,
        lock: &Lock,
        store: &Store,
        forms: Forms,
    ) -> Result<Self, StageError> {
        let stages = stages_of(recipe, lock, forms)?;
        let decisions = evaluate(&stages.graph, &StoreHistory::new(store, root.clone()));
        Ok(Self { stages, root, decisions })
    }

    pub fn history<'s>(&self, store: &'s Store) -> StoreHistory<'s> {
        StoreHistory::new(store, self.root.clone())
    }

    pub fn has_work(&self) -> bool {
        self.decisions.iter().any(|decision| decision.verdict != Verdict::Keep)
    }

    /// What there is to do, as far as earlier builds tell; they are read only where there is something.
    pub fn workload(&self, recipe: &Recipe, lock: &Lock, store: &Store) -> Option<Workload> {
        let experience = self.has_work().then(|| Experience::new(store, recipe))?;
        work_of(&experience, &self.stages.graph, &self.decisions, lock)
    }

    /// What someone changed in the published files.
    pub fn drift(&self, recipe: &Recipe, out: &Path) -> Vec<Drift> {
        let name = &recipe.model.image.name;
        self.root.as_ref().map(|root| drift_of_artefacts(out, name, Some(root))).unwrap_or_default()
    }

    pub fn by_action(&self) -> BTreeMap<String, Decision> {
        self.decisions.iter().map(|decision| (decision.action.clone(), decision.clone())).collect()
    }
}
