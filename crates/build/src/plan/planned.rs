//! What is planned of each action, also where the lock has to be renewed first.

use crate::StageError;
use crate::actions::Forms;
use crate::bench::ids;
use crate::lock::renewal::graph_before_renewal;
use crate::lock::stale::place_in_lock;
use crate::lock::state::{LockState, lock_state};
use crate::lock::suppose::UNKNOWN;
use packages::manager;
use plan::{ActionGraph, ActionKind, Cause, Decision, Reason, Stage, Verdict, in_reading_order};
use recipe::{Lock, Recipe};
use sandbox::emulator::HostCpu;

use super::exact::stages_of;

#[derive(Debug, Clone)]
pub struct PlannedAction {
    pub stage: Stage,
    pub name: String,
    pub kind: ActionKind,
    pub verdict: Verdict,
    pub causes: Vec<Cause>,
    /// What differed when it was built twice, if that was found.
    pub not_reproducible: Option<String>,
}

/// The actions that a plan of the recipe is about; none where packages are not resolved yet.
/// Errors: As [`stages_of`].
pub fn shape_of(recipe: &Recipe, found: Option<Lock>) -> Result<Option<ActionGraph>, StageError> {
    let state = lock_state(recipe, found.as_ref());
    let Some(lock) = found else { return Ok(None) };
    match state {
        LockState::Fresh => stages_of(recipe, &lock, Forms::Own).map(|stages| Some(stages.graph)),
        LockState::FilesChanged(_) => {
            let stages = stages_of(recipe, &lock, Forms::Own)?;
            Ok(graph_before_renewal(manager(recipe), &stages, &lock))
        }
        LockState::Stale(_) => Ok(None),
    }
}

/// What is decided of each action; `lock_causes` are why the lock is renewed, where that is an action of the graph.
pub(super) fn planned_actions(
    graph: &ActionGraph,
    decisions: Vec<Decision>,
    lock_causes: &[Cause],
    lock: &str,
) -> Vec<PlannedAction> {
    let is_of_lock = |cause: &Cause| matches!(&cause.reason, Reason::Upstream { action, .. } if action == ids::LOCK);
    graph
        .in_order()
        .zip(decisions)
        .map(|(action, decision)| {
            let mut causes = decision.causes;
            if action.id == ids::LOCK {
                causes = lock_causes.to_vec();
            } else if causes.iter().any(is_of_lock) {
                causes.retain(|cause| !is_of_lock(cause));
                causes.extend(lock_causes.iter().map(|cause| cause.through(ids::LOCK)));
                causes = in_reading_order(causes);
            }
            place_in_lock(&mut causes, &action.id, lock);
            PlannedAction {
                stage: action.stage,
                name: action.layer().to_owned(),
                kind: action.kind,
                verdict: decision.verdict,
                causes,
                not_reproducible: decision.differs_in,
            }
        })
        .collect()
}

/// What can be said before the packages are resolved.
pub(super) fn not_resolved(causes: Vec<Cause>, was_built: bool) -> Vec<PlannedAction> {
    let lock = PlannedAction {
        stage: Stage::Rootfs,
        name: "lock".into(),
        kind: ActionKind::Lock,
        verdict: Verdict::Run,
        causes: causes.clone(),
        not_reproducible: None,
    };
    let mut planned = vec![lock];
    let above: Vec<Cause> = if was_built {
        causes.iter().map(|cause| cause.through(ids::LOCK)).collect()
    } else {
        vec![Reason::FirstBuild.cause(None)]
    };
    for (stage, kind, name) in [
        (Stage::Kernel, ActionKind::Kernel, "payload"),
        (Stage::Initrd, ActionKind::Initrd, "stateless"),
        (Stage::Pack, ActionKind::Pack, "rootimg"),
    ] {
        planned.push(PlannedAction {
            stage,
            name: name.to_owned(),
            kind,
            verdict: if was_built { Verdict::Depends } else { Verdict::Run },
            causes: above.clone(),
            not_reproducible: None,
        });
    }
    planned
}

/// What runs emulated, where the image's CPU is not this host's and something does.
pub(super) fn emulated(machine: &str, here: HostCpu, actions: &[PlannedAction]) -> Option<String> {
    let open = || actions.iter().filter(|one| one.verdict != Verdict::Keep);
    if here.runs(machine) || open().next().is_none() {
        return None;
    }
    let mut names: Vec<&str> =
        open().filter(|one| one.kind.runs_programs_of_the_image()).map(|one| one.name.as_str()).collect();
    if open().any(|one| one.kind == ActionKind::Lock) {
        names.push("the scripts of new packages");
    }
    (!names.is_empty()).then(|| {
        let here = here.machine();
        format!(
            "emulated, as this host is {here}: {} (programs of {machine} take several times as long)",
            names.join(", ")
        )
    })
}

/// What is supposed where the lock has to be renewed: packages that were not asked for again stay.
pub(super) fn unless_moved(recipe: &Recipe) -> Option<String> {
    let lock = recipe.lock_name();
    Some(format!("actions marked keep may still run if the new packages need other versions of those in {lock}"))
}

/// The plan with a lock as it will most likely be, after its renewal.
pub(super) fn before_lock(causes: Vec<Cause>, mut known: Vec<PlannedAction>) -> Vec<PlannedAction> {
    // For a package that is only supposed, the lock's own cause says more.
    let is_supposed = |cause: &Cause| {
        let value = match &cause.leaf().reason {
            Reason::Added { now, .. } | Reason::Changed { now, .. } => now,
            _ => return false,
        };
        value.starts_with(&format!("{UNKNOWN} ")) && cause.leaf().is_of_lock
    };
    for one in &mut known {
        if one.causes.iter().any(is_supposed) {
            one.causes.retain(|cause| !is_supposed(cause));
            one.causes.extend(causes.iter().map(|cause| cause.through(ids::LOCK)));
            one.causes = in_reading_order(std::mem::take(&mut one.causes));
        }
    }
    let lock = not_resolved(causes, true).into_iter().take(1);
    lock.chain(known).collect()
}

/// What can be said before the packages are resolved, and what runs whatever they turn out to be: `known` is the plan with
/// the lock as it is.
pub(super) fn not_resolved_but(causes: Vec<Cause>, known: Vec<PlannedAction>) -> Vec<PlannedAction> {
    let mut planned = not_resolved(causes, true);
    let is_own = |cause: &Cause| !matches!(cause.reason, Reason::Upstream { .. });
    for mut one in known {
        let runs = one.verdict == Verdict::Run && one.causes.iter().any(is_own);
        if let Some(known) = planned.iter_mut().find(|known| known.name == one.name) {
            known.causes = in_reading_order(one.causes.into_iter().chain(std::mem::take(&mut known.causes)).collect());
            if runs {
                known.verdict = Verdict::Run;
            }
        } else if runs {
            one.causes.retain(is_own);
            planned.push(one);
        }
    }
    planned
}
