//! The plan of an image as a document, and how it is made.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::Exit;
use crate::cli::output::render;
use crate::cli::setup::lock;
use crate::digest::Digest;
use crate::plan::{
    ActionGraph, ActionKind, Cause, Decision, History, Reason, Stage, Verdict, evaluate, in_reading_order,
};
use crate::recipe::{LOCK_FILE, Lock, Recipe};
use crate::stage::ids;
use crate::stage::{
    Drift, Estimate, Experience, Forms, LockState, SIDE_BY_SIDE, StageGraph, StoreHistory, Target, Total, UNKNOWN,
    Workload, drift_of_artefacts, graph_before_renewal, graph_of, init_program, lock_state, name_lock, not_asked,
    place_in_lock, place_left_over, published, published_elsewhere, supposed, work_before_lock, work_of, would_publish,
    xcat_drift,
};
use crate::store::{Root, Store};

/// What `plan --json` prints. Readers ignore fields that they do not know.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[schemars(title = "imgbuild plan")]
pub struct PlanDocument {
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
}

/// The plan of one image.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct PlannedImage {
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
    /// rootfs, kernel, initrd, pack; publish where the published files change for causes of their own.
    pub stages: Vec<PlannedStage>,
    /// What somebody changed or removed behind imgbuild's back.
    pub drift: Vec<Drift>,
    /// What a build is expected to take; null where it has nothing to run.
    pub estimate: Option<Estimate>,
    /// What that is reckoned from.
    #[serde(skip)]
    pub work: Option<Workload>,
}

impl PlannedImage {
    /// An image of which nothing is known yet.
    pub fn of(name: String) -> Self {
        Self {
            name,
            recipe: None,
            change: None,
            notes: Vec::new(),
            stages: Vec::new(),
            drift: Vec::new(),
            estimate: None,
            work: None,
        }
    }

    /// Whether a build would do anything.
    pub fn has_work(&self) -> bool {
        !self.drift.is_empty() || self.stages.iter().any(|stage| stage.action != Verdict::Keep)
    }
}

/// What a plan was compared with.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct AgainstDocument {
    /// The revision as it was given.
    pub revision: String,
    /// The commit that it is.
    pub commit: String,
}

/// The plan of one stage.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct PlannedStage {
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
pub struct PlannedLayer {
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

/// A stage runs when one of its layers does, and depends when one of them does.
fn of_stage(layers: &[PlannedLayer]) -> Verdict {
    Verdict::of_all(layers.iter().map(|layer| layer.action))
}

/// Digest of the initrd's program: one for all images of a run.
static INIT: std::sync::LazyLock<Digest> = std::sync::LazyLock::new(|| Digest::of(init_program()));

fn stages_of(recipe: &Recipe, lock: &Lock, forms: Forms) -> Result<StageGraph, Exit> {
    graph_of(recipe, lock, &INIT, forms).map_err(|error| {
        let exit = Exit::from(&error);
        render::say(&render::error(error));
        exit
    })
}

/// The actions that a plan of the recipe is about; none where packages are not resolved yet.
pub fn shape_of(recipe: &Recipe) -> Result<Option<ActionGraph>, Exit> {
    let found = lock(recipe)?;
    let state = lock_state(recipe, found.as_ref());
    let Some(lock) = found else { return Ok(None) };
    match state {
        LockState::Fresh => stages_of(recipe, &lock, Forms::Own).map(|stages| Some(stages.graph)),
        LockState::FilesChanged(_) => {
            let stages = stages_of(recipe, &lock, Forms::Own)?;
            Ok(graph_before_renewal(crate::distro::manager(recipe), &stages, &lock))
        }
        LockState::Stale(_) => Ok(None),
    }
}

/// What is decided of each action; `lock_causes` are why the lock is renewed, where that is an action of the graph.
pub fn layers_of(
    graph: &ActionGraph,
    decisions: Vec<Decision>,
    lock_causes: &[Cause],
    lock: &str,
) -> Vec<(Stage, PlannedLayer)> {
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
            let layer = PlannedLayer {
                layer: action.layer().to_owned(),
                kind: action.kind,
                action: decision.verdict,
                causes,
                not_reproducible: decision.differs_in,
            };
            (action.stage, layer)
        })
        .collect()
}

/// What can be said before the packages are resolved.
pub fn not_resolved(causes: Vec<Cause>, was_built: bool) -> Vec<(Stage, PlannedLayer)> {
    let lock = PlannedLayer {
        layer: "lock".into(),
        kind: ActionKind::Lock,
        action: Verdict::Run,
        causes: causes.clone(),
        not_reproducible: None,
    };
    let mut planned = vec![(Stage::Rootfs, lock)];
    let above: Vec<Cause> = if was_built {
        causes.iter().map(|cause| cause.through(ids::LOCK)).collect()
    } else {
        vec![Reason::FirstBuild.cause(None)]
    };
    for (stage, kind, layer) in [
        (Stage::Kernel, ActionKind::Kernel, "payload"),
        (Stage::Initrd, ActionKind::Initrd, "stateless"),
        (Stage::Pack, ActionKind::Pack, "rootimg"),
    ] {
        let layer = PlannedLayer {
            layer: layer.to_owned(),
            kind,
            action: if was_built { Verdict::Depends } else { Verdict::Run },
            causes: above.clone(),
            not_reproducible: None,
        };
        planned.push((stage, layer));
    }
    planned
}

/// What is supposed where the lock has to be renewed: packages that were not asked for anew stay.
pub fn unless_moved(recipe: &Recipe) -> Option<String> {
    let text = "what is kept is kept unless the new packages need other versions of those in image.lock";
    Some(recipe.naming_lock(text))
}

/// The plan with a lock as it will most likely be, after its renewal.
pub fn before_lock(causes: Vec<Cause>, mut known: Vec<(Stage, PlannedLayer)>) -> Vec<(Stage, PlannedLayer)> {
    // Of a package that is only supposed the lock's own cause says more.
    let is_supposed = |cause: &Cause| {
        let value = match &cause.leaf().reason {
            Reason::Added { now, .. } | Reason::Changed { now, .. } => now,
            _ => return false,
        };
        value.starts_with(&format!("{UNKNOWN} ")) && cause.leaf().file.as_deref() == Some(LOCK_FILE)
    };
    for (_, layer) in &mut known {
        if layer.causes.iter().any(is_supposed) {
            layer.causes.retain(|cause| !is_supposed(cause));
            layer.causes.extend(causes.iter().map(|cause| cause.through(ids::LOCK)));
            layer.causes = in_reading_order(std::mem::take(&mut layer.causes));
        }
    }
    let lock = not_resolved(causes, true).into_iter().take(1);
    lock.chain(known).collect()
}

/// What can be said before the packages are resolved, and what runs whatever they turn out to be: `known` is the plan with
/// the lock as it is.
pub fn not_resolved_but(causes: Vec<Cause>, known: Vec<(Stage, PlannedLayer)>) -> Vec<(Stage, PlannedLayer)> {
    let mut planned = not_resolved(causes, true);
    let is_own = |cause: &Cause| !matches!(cause.reason, Reason::Upstream { .. });
    for (stage, mut layer) in known {
        let runs = layer.action == Verdict::Run && layer.causes.iter().any(is_own);
        if let Some((_, known)) = planned.iter_mut().find(|(_, known)| known.layer == layer.layer) {
            known.causes =
                in_reading_order(layer.causes.into_iter().chain(std::mem::take(&mut known.causes)).collect());
            if runs {
                known.action = Verdict::Run;
            }
        } else if runs {
            layer.causes.retain(is_own);
            planned.push((stage, layer));
        }
    }
    planned
}

/// How many actions a build would run at once.
pub fn workers() -> usize {
    rayon::current_num_threads().min(SIDE_BY_SIDE)
}

/// Plans an image: runs nothing, connects to nothing, writes nothing. Reads through `witness` alone, so that the answer can be
/// remembered.
pub fn plan_of(
    recipe: &Recipe,
    store: &Store,
    out: &std::path::Path,
    publish: &[Target],
) -> Result<PlannedImage, Exit> {
    let forms = if publish.is_empty() { Forms::Own } else { Forms::AndGzip };
    let name = recipe.model.image.name.clone();
    let found = lock(recipe)?;
    let state = lock_state(recipe, found.as_ref());
    let is_fresh = state == LockState::Fresh;
    let root = store.root(&recipe.directory, &name);
    let asked = root.as_ref().map(|root| root.asked.clone());
    let was_built = root.is_some();
    let known = root.clone();
    let coarse = |causes: Vec<Cause>| not_resolved(causes, was_built);
    let text = crate::witness::read_to_string(&recipe.lock_path).unwrap_or_default();
    let history = StoreHistory::new(store, root);
    let with_places = |mut causes: Vec<Cause>| {
        place_left_over(&mut causes, recipe, &|action, input| history.place(action, input));
        in_reading_order(causes)
    };
    let mut drift = if was_built { drift_of_artefacts(out, &name, known.as_ref()) } else { Vec::new() };
    let mut work = None;
    let (mut anew, mut notes) = (Vec::new(), Vec::new());
    let planned = match (state, found) {
        (LockState::Fresh, Some(lock)) => {
            let stages = stages_of(recipe, &lock, forms)?;
            let decisions = evaluate(&stages.graph, &history);
            if !publish.is_empty() {
                for Target::Xcat(directory) in publish {
                    drift.extend(xcat_drift(recipe, store, &decisions, directory));
                }
            }
            // The history is read only where there is something to estimate.
            if decisions.iter().any(|decision| decision.verdict != Verdict::Keep) {
                let experience = Experience::new(store, recipe);
                work = work_of(&experience, &stages.graph, &decisions, &lock);
            }
            if let (Some(root), Some((_, info))) = (&known, published(out, &name)) {
                anew = would_publish(recipe, store, &stages.graph, &decisions, root, &info, &history);
            }
            layers_of(&stages.graph, decisions, &[], &text)
        }
        (LockState::FilesChanged(causes), Some(lock)) => {
            let stages = stages_of(recipe, &lock, forms)?;
            let causes = with_places(causes);
            match graph_before_renewal(crate::distro::manager(recipe), &stages, &lock) {
                Some(graph) if was_built => layers_of(&graph, evaluate(&graph, &history), &causes, &text),
                _ => coarse(causes),
            }
        }
        (LockState::Stale(causes), Some(lock)) if was_built => {
            // An action may lack a transaction that the lock does not have yet: then nothing more can be said.
            let graph = |lock: &Lock| graph_of(recipe, lock, &INIT, forms).ok();
            let layers = |stages: StageGraph| layers_of(&stages.graph, evaluate(&stages.graph, &history), &[], &text);
            let causes = with_places(causes);
            match supposed(recipe, &lock).as_ref().and_then(graph) {
                Some(stages) => {
                    notes.extend(unless_moved(recipe));
                    before_lock(causes, layers(stages))
                }
                None => not_resolved_but(causes, graph(&lock).map(layers).unwrap_or_default()),
            }
        }
        (LockState::Stale(causes) | LockState::FilesChanged(causes), _) => coarse(with_places(causes)),
        (LockState::Fresh, None) => coarse(Vec::new()),
    };
    if planned.first().is_some_and(|(_, layer)| layer.kind == ActionKind::Lock) {
        let open = planned.iter().filter(|(_, layer)| layer.action != Verdict::Keep);
        let open = open
            .map(|(stage, layer)| {
                (
                    format!("{}/{}", stage.name(), layer.layer),
                    layer.kind.name().to_owned(),
                    layer.action == Verdict::Run,
                )
            })
            .collect();
        work = Some(work_before_lock(&Experience::new(store, recipe), open));
    }
    // What another build left there may be the same.
    let has_it = |root: &Root| {
        published(out, &name).is_some_and(|(directory, _)| directory.file_name() == root.published.file_name())
    };
    anew.extend(known.filter(|root| !has_it(root)).and_then(|root| published_elsewhere(out, &name, &root)));
    let mut stages = by_stage(recipe, planned);
    stages.extend(publish_stage(recipe, anew));
    let estimate = work.as_ref().map(|work| Estimate::of(work, workers()));
    if is_fresh {
        let asked = asked.map(|asked| not_asked(recipe, &asked)).unwrap_or_default();
        notes.extend(asked.iter().map(|note| recipe.naming_lock(note)));
    }
    Ok(PlannedImage { notes, stages, drift, estimate, work, ..PlannedImage::of(name) })
}

/// What is published anew, and why: told only where that does not follow from the actions alone.
pub fn publish_stage(recipe: &Recipe, mut causes: Vec<Cause>) -> Option<PlannedStage> {
    name_lock(&mut causes, recipe);
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
pub fn by_stage(recipe: &Recipe, planned: Vec<(Stage, PlannedLayer)>) -> Vec<PlannedStage> {
    let mut layers: BTreeMap<Stage, Vec<PlannedLayer>> = BTreeMap::new();
    for (stage, mut layer) in planned {
        name_lock(&mut layer.causes, recipe);
        layers.entry(stage).or_default().push(layer);
    }
    Stage::ALL
        .into_iter()
        .map(|stage| {
            let layers = layers.remove(&stage).unwrap_or_default();
            let causes = in_reading_order(layers.iter().flat_map(|layer| layer.causes.clone()).collect());
            PlannedStage { stage: stage.name().to_owned(), action: of_stage(&layers).to_owned(), causes, layers }
        })
        .collect()
}
