//! What is planned against another state of the recipe, as if that had been built.

use crate::actions::{Forms, StageGraph};
use plan::{ActionGraph, Cause, Symbolic, Verdict, evaluate};
use recipe::{Lock, Recipe};

use super::exact::stages_of;
use super::planned::{PlannedAction, before_lock, not_resolved, not_resolved_but, planned_actions, unless_moved};

#[derive(Debug)]
pub enum Comparison {
    /// All: the earlier graph, the present one.
    Graphs(Box<StageGraph>, Box<StageGraph>),
    /// The packages have to be resolved first, and why; and both graphs, if the earlier lock gives them.
    Unresolved(Vec<Cause>, Option<Box<(StageGraph, StageGraph)>>),
    /// The same, and what most likely comes of it: the earlier graph, and that of the lock as it is supposed to be.
    Supposed(Vec<Cause>, Box<(StageGraph, StageGraph)>),
}

impl Comparison {
    /// What is to be done, and what there is to say of it.
    pub fn planned(self, recipe: &Recipe) -> (Vec<PlannedAction>, Option<String>) {
        let between = |old: &ActionGraph, new: &ActionGraph, text: &str| {
            planned_actions(new, evaluate(new, &Symbolic::of(old, new)), &[], text)
        };
        match self {
            Self::Graphs(old, new) => (between(&old.graph, &new.graph, &super::text_of(recipe)), None),
            Self::Supposed(causes, graphs) => {
                let known = between(&graphs.0.graph, &graphs.1.graph, "");
                (before_lock(causes, known), unless_moved(recipe))
            }
            Self::Unresolved(causes, graphs) => {
                let known = graphs.map(|graphs| between(&graphs.0.graph, &graphs.1.graph, ""));
                (not_resolved_but(causes, known.unwrap_or_default()), None)
            }
        }
    }
}

/// The plan of an image with which nothing can be compared.
pub fn all_run(recipe: &Recipe, lock: Option<&Lock>, forms: Forms, cause: &Cause) -> Vec<PlannedAction> {
    let stages = lock.and_then(|lock| stages_of(recipe, lock, forms).ok());
    let Some(stages) = stages else {
        let mut planned = not_resolved(vec![cause.clone()], false);
        for one in &mut planned {
            one.causes = vec![cause.clone()];
        }
        return planned;
    };
    let runs = |action: &plan::Action| PlannedAction {
        stage: action.stage,
        name: action.layer().to_owned(),
        kind: action.kind,
        verdict: Verdict::Run,
        causes: vec![cause.clone()],
        not_reproducible: None,
    };
    stages.graph.in_order().map(runs).collect()
}
