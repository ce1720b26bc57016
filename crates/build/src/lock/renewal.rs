//! The plan while the lock is out of date for otherpkgs alone: which actions wait for the renewed lock.

use std::collections::BTreeSet;

use crate::actions::{StageGraph, kernel_packages};
use crate::bench::ids;
use crate::supply::origin::local_folder;
use packages::PackageManager;
use plan::{Action, ActionGraph, ActionKind, Stage, Upstream};
use recipe::{Lock, PassRole};

/// The graph of a lock that is about to be renewed because package files of otherpkgs changed.
///
/// What is made of the distribution's packages stays as it is, for the renewed lock holds their versions. What is made
/// of other packages waits for it. None where that cannot be determined: a transaction may come that the lock does not have.
pub(crate) fn graph_before_renewal(
    manager: &dyn PackageManager,
    stages: &StageGraph,
    lock: &Lock,
) -> Option<ActionGraph> {
    let mut waiting = BTreeSet::new();
    for pass in &lock.pass {
        let is_local = pass.packages.iter().any(|package| local_folder(package).is_some());
        if is_local || pass.role() == PassRole::Otherpkgs {
            waiting.insert(ids::layer(&pass.name));
        }
    }
    let own = lock.pass(PassRole::KERNEL).map(|pass| pass.packages.clone()).unwrap_or_default();
    if kernel_packages(manager, lock, &own).iter().any(|package| local_folder(package).is_some()) {
        waiting.insert(ids::PAYLOAD.to_owned());
    }
    if waiting.iter().any(|id| stages.graph.get(id).is_none()) {
        return None;
    }
    let renewal = Action {
        id: ids::LOCK.to_owned(),
        stage: Stage::Rootfs,
        kind: ActionKind::Lock,
        version: 1,
        inputs: Vec::new(),
        upstream: Vec::new(),
        needs: Vec::new(),
    };
    let waits = |action: &Action| {
        let mut action = action.clone();
        if waiting.contains(&action.id) {
            let upstream = Upstream { action: ids::LOCK.to_owned(), output: "value packages".to_owned() };
            action.upstream.insert(0, upstream);
        }
        action
    };
    let graph = ActionGraph::new(std::iter::once(renewal).chain(stages.graph.in_order().map(waits)).collect()).ok()?;
    Some(graph.taking(stages.graph.absences.clone()))
}
