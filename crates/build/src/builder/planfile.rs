//! Holding a build to a plan that was made before.

use std::path::Path;
use std::sync::Arc;

use crate::StageError;
use crate::plan::ExactPlan;
use crate::published::drift::Drift;
use crate::published::otherwise::publishing;
use plan::{Decision, FileAction, FileImage, LockPicture, Outputs, Verdict, moved};
use recipe::{Lock, Recipe};

/// All that the plan of an image rests on, as it is now.
pub fn picture(recipe: &Recipe, directory: String, lock: &Lock, plan: &ExactPlan, drift: &[Drift]) -> FileImage {
    let by_id = plan.by_action();
    let own = publishing(recipe);
    // It always happens; what it does is decided by the results and these inputs.
    let always = Decision {
        action: own.id.clone(),
        verdict: Verdict::Run,
        causes: Vec::new(),
        key: None,
        outputs: None,
        differs_in: None,
    };
    let known = Outputs(&by_id);
    let published = FileAction::of(&own, &always, &known);
    FileImage {
        name: recipe.model.image.name.clone(),
        recipe: directory,
        lock: LockPicture::of(lock),
        drift: drift.iter().map(|one| format!("the {} {} {}", one.place, one.name, one.problem)).collect(),
        actions: FileAction::all(&plan.stages.graph, &plan.decisions, &known).into_iter().chain([published]).collect(),
    }
}

#[derive(Debug, Clone)]
pub struct PlanToKeep {
    pub file: Arc<str>,
    pub out: Arc<Path>,
    pub image: Arc<FileImage>,
}

impl PlanToKeep {
    fn refused(&self, lines: Vec<String>) -> StageError {
        StageError::PlanMoved {
            file: self.file.to_string(),
            count: lines.len(),
            lines: lines.iter().map(|line| format!("  {line}")).collect::<Vec<_>>().join("\n"),
        }
    }

    /// Whether all is as it was when the plan was made, seen by the build that is about to run.
    /// Errors: [`StageError::PlanMoved`] with all that is not.
    pub fn check(&self, recipe: &Recipe, lock: &Lock, plan: &ExactPlan) -> Result<(), StageError> {
        let drift = plan.drift(recipe, &self.out);
        let mut now = picture(recipe, self.image.recipe.clone(), lock, plan, &drift);
        // Before anything was built there was no such result: another image of this build has made it by now.
        for action in now.actions.iter_mut().filter(|action| action.verdict == Verdict::Keep) {
            if self.image.actions.iter().any(|one| one.action == action.action && one.verdict == Verdict::Run) {
                action.verdict = Verdict::Run;
            }
        }
        let lines: Vec<String> =
            moved(&self.image, &now, &recipe.lock_name()).iter().map(ToString::to_string).collect();
        if lines.is_empty() { Ok(()) } else { Err(self.refused(lines)) }
    }

    /// Whether the plan lets an action run.
    /// Errors: [`StageError::PlanMoved`] when it was to be kept.
    pub fn may_run(&self, action: &str) -> Result<(), StageError> {
        let planned = self.image.actions.iter().find(|one| one.action == action);
        match planned.map(|one| one.verdict) {
            Some(Verdict::Run | Verdict::Depends) => Ok(()),
            Some(Verdict::Keep) => {
                let name = &self.image.name;
                Err(self.refused(vec![format!("{name}: {action}: was to be kept, but its result is missing")]))
            }
            None => Err(self.refused(vec![format!("{}: {action}: is not in the plan", self.image.name)])),
        }
    }
}
