//! The `plan --json` document, built from an image's plan.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use crate::Exit;
use crate::output::render;
use crate::setup::lock;
use crate::verbs::keeping::audit::between::AdvisoryChange;
use build::ids;
use build::{CachedActions, Drift, Estimate, ImagePlan, PlannedAction, StageError, Target, Total, Workload, workers};
use plan::{ActionKind, Cause, Stage, Verdict, in_reading_order};
use recipe::{Lock, Recipe};
use store::Store;

pub(crate) fn stage_failed(error: StageError) -> Exit {
    render::failed(error)
}

/// What `plan --json` prints. Readers ignore fields that they do not know.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[schemars(title = "imgbuild plan")]
pub(crate) struct PlanDocument {
    /// Version of this form.
    pub format_version: String,
    /// The revision that was compared with; without it, the last build was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub against: Option<AgainstDocument>,
    /// One entry an image.
    pub images: Vec<PlannedImage>,
    /// What a build of all of them is expected to take, where several have work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub estimate: Option<Total>,
    /// What caches on this machine's file systems have of it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cached: Vec<CachedActions>,
}

/// The plan of one image.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct PlannedImage {
    /// Its name.
    pub name: String,
    /// Directory of its recipe below the repository's root, in a plan against a revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipe: Option<String>,
    /// `new`, `removed`, `renamed`, or `unreadable` where its recipe had errors, in a plan against a revision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub change: Option<String>,
    /// What else there is to say.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Advisories that go and come with the lock, in a plan against a revision with files of advisories.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advisories: Option<AdvisoryChange>,
    /// The locks of the revision and of the recipe as it is, in a plan against a revision.
    #[serde(skip)]
    pub locks: Option<Box<Locks>>,
    /// rootfs, kernel, initrd, pack; publish where the published files change for causes of their own.
    pub stages: Vec<PlannedStage>,
    /// What someone changed or removed behind imgbuild's back.
    pub drift: Vec<Drift>,
    /// What a build is expected to take; null where it has nothing to run.
    pub estimate: Option<Estimate>,
    /// What that is reckoned from.
    #[serde(skip)]
    pub work: Option<Workload>,
}

/// Two locks of an image.
#[derive(Debug)]
pub(crate) struct Locks {
    /// That of the revision; none where it has none that can be read.
    pub before: Option<Lock>,
    /// That beside the recipe.
    pub after: Option<Lock>,
    /// Drivers that the recipe compiles from source.
    pub drivers: Vec<String>,
}

impl PlannedImage {
    pub(crate) fn of(name: String) -> Self {
        Self {
            name,
            recipe: None,
            change: None,
            notes: Vec::new(),
            advisories: None,
            locks: None,
            stages: Vec::new(),
            drift: Vec::new(),
            estimate: None,
            work: None,
        }
    }

    pub(crate) fn has_work(&self) -> bool {
        !self.drift.is_empty() || self.stages.iter().any(|stage| stage.action != Verdict::Keep)
    }
}

/// What a plan was compared with.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub(crate) struct AgainstDocument {
    /// The revision as it was given.
    pub revision: String,
    /// The commit that it is.
    pub commit: String,
}

/// The plan of one stage.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct PlannedStage {
    /// Its name.
    pub stage: String,
    /// What is to be done.
    pub action: Verdict,
    /// Why.
    pub causes: Vec<Cause>,
    /// What it is made of.
    pub layers: Vec<PlannedLayer>,
}

/// The plan of one action.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub(crate) struct PlannedLayer {
    /// Its name.
    pub layer: String,
    /// What kind of work it is.
    pub kind: ActionKind,
    /// What is to be done.
    pub action: Verdict,
    /// Why.
    pub causes: Vec<Cause>,
    /// What differed when it was built twice, if that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_reproducible: Option<String>,
}

impl PlannedLayer {
    fn of(planned: PlannedAction) -> Self {
        let PlannedAction { name, kind, verdict, causes, not_reproducible, .. } = planned;
        Self { layer: name, kind, action: verdict, causes, not_reproducible }
    }
}

/// A stage runs when one of its layers does, and depends when one of them does.
fn of_stage(layers: &[PlannedLayer]) -> Verdict {
    Verdict::of_all(layers.iter().map(|layer| layer.action))
}

pub(crate) fn plan_of(recipe: &Recipe, store: &Store, out: &Path, publish: &[Target]) -> Result<PlannedImage, Exit> {
    let plan = ImagePlan::of(recipe, lock(recipe)?, store, out, publish).map_err(stage_failed)?;
    let mut stages = by_stage(plan.actions);
    stages.extend(publish_stage(plan.publishing));
    let estimate = plan.workload.as_ref().map(|work| Estimate::of(work, workers()));
    let (notes, drift, work) = (plan.notes, plan.drift, plan.workload);
    Ok(PlannedImage { notes, stages, drift, estimate, work, ..PlannedImage::of(recipe.model.image.name.clone()) })
}

/// What is republished, and why: reported only where that does not follow from the actions alone.
pub(crate) fn publish_stage(causes: Vec<Cause>) -> Option<PlannedStage> {
    let layer = PlannedLayer {
        layer: "artefacts".to_owned(),
        kind: ActionKind::Publish,
        action: Verdict::Run,
        causes: causes.clone(),
        not_reproducible: None,
    };
    let stage = PlannedStage { stage: ids::PUBLISH.to_owned(), action: Verdict::Run, causes, layers: vec![layer] };
    (!stage.causes.is_empty()).then_some(stage)
}

/// What is planned, stage by stage; a stage's causes are those of its layers, each said once.
pub(crate) fn by_stage(planned: Vec<PlannedAction>) -> Vec<PlannedStage> {
    let mut layers: BTreeMap<Stage, Vec<PlannedLayer>> = BTreeMap::new();
    for action in planned {
        layers.entry(action.stage).or_default().push(PlannedLayer::of(action));
    }
    Stage::ALL
        .into_iter()
        .map(|stage| {
            let layers = layers.remove(&stage).unwrap_or_default();
            let causes = in_reading_order(layers.iter().flat_map(|layer| layer.causes.clone()).collect());
            PlannedStage { stage: stage.name().to_owned(), action: of_stage(&layers), causes, layers }
        })
        .collect()
}
