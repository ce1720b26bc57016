//! The plan of an image, as a value: builds, plan files and all views take it from here, and none puts together its own.

mod captured;
mod compared;
mod exact;
mod planned;

use std::path::Path;

use captured::against_node;
pub use compared::{Comparison, all_run};
pub use exact::{ExactPlan, forms_for, fresh_lock, stages_of};
pub use planned::{PlannedAction, shape_of};
use planned::{before_lock, emulated, not_resolved, not_resolved_but, planned_actions, unless_moved};

use crate::StageError;
use crate::actions::StageGraph;
use crate::bench::history::StoreHistory;
use crate::estimate::{Experience, Workload, work_before_lock};
use crate::lock::renewal::graph_before_renewal;
use crate::lock::repositories::not_asked;
use crate::lock::stale::place_left_over;
use crate::lock::state::{LockState, lock_state};
use crate::lock::suppose::supposed;
use crate::lock::words::unknown_before;
use crate::published::artefacts::published;
use crate::published::drift::{Drift, drift_of_artefacts};
use crate::published::layouts::Target;
use crate::published::layouts::xcat_drift;
use crate::published::otherwise::{published_elsewhere, would_publish};
use packages::manager;
use plan::{ActionKind, Cause, History, Verdict, evaluate, in_reading_order};
use recipe::{Lock, Recipe};
use sandbox::emulator::HostCpu;
use store::{Root, Store};

/// How many actions run at once at most; more would only wait for the same disk and the same layers.
pub(crate) const SIDE_BY_SIDE: usize = 4;

/// How many actions a build runs at once.
pub fn workers() -> usize {
    rayon::current_num_threads().min(SIDE_BY_SIDE)
}

#[derive(Debug)]
pub struct ImagePlan {
    /// What is to be done with each action, in order.
    pub actions: Vec<PlannedAction>,
    /// Why artefacts are republished, where that does not follow from the actions.
    pub publishing: Vec<Cause>,
    /// What someone changed or removed behind imgbuild's back.
    pub drift: Vec<Drift>,
    /// What there is to do, as far as earlier builds tell.
    pub workload: Option<Workload>,
    /// What else there is to say.
    pub notes: Vec<String>,
}

impl ImagePlan {
    /// Plans an image whose lock was read: runs nothing, connects to nothing, writes nothing. Reads through `witness` alone,
    /// so that the answer can be remembered.
    /// Errors: As [`stages_of`].
    pub fn of(
        recipe: &Recipe,
        found: Option<Lock>,
        store: &Store,
        out: &Path,
        publish: &[Target],
    ) -> Result<Self, StageError> {
        let name = &recipe.model.image.name;
        let root = store.root(&recipe.directory, name);
        let note = against_node(recipe, found.as_ref());
        let state = lock_state(recipe, found.as_ref());
        let misspelt = if state == LockState::Fresh { Vec::new() } else { unknown_before(recipe, store) };
        let mut plan = match (state, found) {
            (LockState::Fresh, Some(lock)) => Self::of_fresh((recipe, &lock, root.clone()), store, out, publish)?,
            (LockState::Fresh, None) => Self::of_actions(not_resolved(Vec::new(), root.is_some())),
            (LockState::Stale(causes) | LockState::FilesChanged(causes), None) => {
                let causes = placed(recipe, &StoreHistory::new(store, root.clone()), causes);
                Self::of_actions(not_resolved(causes, root.is_some()))
            }
            (LockState::FilesChanged(causes), Some(lock)) => {
                let history = StoreHistory::new(store, root.clone());
                let stages = stages_of(recipe, &lock, forms_for(publish))?;
                let causes = placed(recipe, &history, causes);
                Self::of_actions(match graph_before_renewal(manager(recipe), &stages, &lock) {
                    Some(graph) if root.is_some() => {
                        planned_actions(&graph, evaluate(&graph, &history), &causes, &text_of(recipe))
                    }
                    _ => not_resolved(causes, root.is_some()),
                })
            }
            (LockState::Stale(causes), Some(lock)) => {
                let history = StoreHistory::new(store, root.clone());
                let causes = placed(recipe, &history, causes);
                if root.is_some() {
                    Self::of_stale(recipe, &lock, causes, &history, publish)
                } else {
                    Self::of_actions(not_resolved(causes, false))
                }
            }
        };
        plan.notes.extend(note);
        plan.notes.extend(misspelt);
        plan.notes.extend(
            recipe
                .weak_repositories()
                .into_iter()
                .map(|name| format!("forgeable signatures are accepted for the repository `{name}` (weak-signatures)")),
        );
        plan.notes.extend(emulated(recipe.model.image.arch.machine(), HostCpu::here(), &plan.actions));
        if plan.actions.first().is_some_and(|one| one.kind == ActionKind::Lock) {
            let open = plan.actions.iter().filter(|one| one.verdict != Verdict::Keep);
            let open = open.map(|one| {
                let id = crate::bench::ids::id(one.stage, &one.name);
                (id, one.kind.name().to_owned(), one.verdict == Verdict::Run)
            });
            plan.workload = Some(work_before_lock(&Experience::new(store, recipe), open.collect()));
        }
        if let Some(root) = root {
            let own = drift_of_artefacts(out, name, Some(&root));
            plan.drift.splice(0..0, own);
            // What another build left there may be the same.
            let has_it =
                published(out, name).is_some_and(|(directory, _)| directory.file_name() == root.published.file_name());
            if !has_it {
                plan.publishing.extend(published_elsewhere(out, name, &root));
            }
        }
        Ok(plan)
    }

    fn of_actions(actions: Vec<PlannedAction>) -> Self {
        Self { actions, publishing: Vec::new(), drift: Vec::new(), workload: None, notes: Vec::new() }
    }

    fn of_fresh(
        (recipe, lock, root): (&Recipe, &Lock, Option<Root>),
        store: &Store,
        out: &Path,
        publish: &[Target],
    ) -> Result<Self, StageError> {
        let exact = ExactPlan::after(root, recipe, lock, store, forms_for(publish))?;
        let mut drift = Vec::new();
        for Target::Xcat(directory) in publish {
            drift.extend(xcat_drift(recipe, store, &exact.decisions, directory));
        }
        let workload = exact.workload(recipe, lock, store);
        let mut publishing = Vec::new();
        if let (Some(root), Some((_, info))) = (&exact.root, published(out, &recipe.model.image.name)) {
            let history = exact.history(store);
            let (graph, decisions) = (&exact.stages.graph, &exact.decisions);
            publishing = would_publish(recipe, store, graph, decisions, root, &info, &history);
        }
        let notes = exact.root.as_ref().map(|root| not_asked(recipe, &root.asked)).unwrap_or_default();
        let actions = planned_actions(&exact.stages.graph, exact.decisions, &[], &text_of(recipe));
        Ok(Self { actions, publishing, drift, workload, notes })
    }

    /// With a lock as it will most likely be.
    fn of_stale(
        recipe: &Recipe,
        lock: &Lock,
        causes: Vec<Cause>,
        history: &StoreHistory<'_>,
        publish: &[Target],
    ) -> Self {
        // An action may lack a transaction that the lock does not have yet: then nothing more can be said.
        let graph = |lock: &Lock| stages_of(recipe, lock, forms_for(publish)).ok();
        let actions = |stages: StageGraph| {
            planned_actions(&stages.graph, evaluate(&stages.graph, history), &[], &text_of(recipe))
        };
        match supposed(recipe, lock).as_ref().and_then(graph) {
            Some(stages) => {
                let notes = unless_moved(recipe).into_iter().collect();
                Self { notes, ..Self::of_actions(before_lock(causes, actions(stages))) }
            }
            None => Self::of_actions(not_resolved_but(causes, graph(lock).map(actions).unwrap_or_default())),
        }
    }
}

fn text_of(recipe: &Recipe) -> String {
    witness::read_to_string(&recipe.lock_path).unwrap_or_default()
}

/// Causes of a lock that is out of date, with the places that what is gone had.
fn placed(recipe: &Recipe, history: &StoreHistory<'_>, mut causes: Vec<Cause>) -> Vec<Cause> {
    place_left_over(&mut causes, recipe, &|action, input| history.place(action, input));
    in_reading_order(causes)
}
