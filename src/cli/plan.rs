//! `imgbuild plan`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::planning::{Planning, folded, json_of};
use super::setup::{Setup, lock, store_directory};
use super::{Exit, render};
use crate::digest::Digest;
use crate::plan::{ActionGraph, Cause, Decision, Reason, Stage, Verdict, evaluate};
use crate::recipe::{Lock, Recipe};
use crate::stage::{
    Drift, Forms, LOCK_ACTION, LockState, StageGraph, StorePast, Target, drift_of_artefacts, drift_of_layers,
    graph_before_renewal, graph_of, init_program, lock_state, xcat_drift,
};
use crate::store::Store;

/// Arguments of `plan`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Images, by their names or patterns of them [default: the recipe where you stand, or all of the workspace]
    #[arg(value_name = "IMAGE")]
    pub images: Vec<String>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Read all published files and all layers of the last build, to find what somebody changed
    #[arg(long)]
    pub thorough: bool,
    /// Exit with 2 when there is work to do
    #[arg(long)]
    pub detailed_exitcode: bool,
    /// Where artefacts are [default: `out` beside the recipe]
    #[arg(long, value_name = "DIR")]
    pub out: Option<std::path::PathBuf>,
    /// Plan a build with this --publish
    #[arg(long, value_name = "LAYOUT:DIR")]
    pub publish: Vec<Target>,
    /// Look at everything anew, whatever an earlier plan remembered; the answer is the same
    #[arg(long)]
    pub no_memo: bool,
}

/// What `plan --json` prints. Readers ignore fields that they do not know.
#[derive(Debug, Serialize, schemars::JsonSchema)]
#[schemars(title = "imgbuild plan")]
pub struct PlanDocument {
    /// Version of this form.
    pub format_version: String,
    /// One entry an image.
    pub images: Vec<PlannedImage>,
}

/// The plan of one image.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct PlannedImage {
    /// Its name.
    pub name: String,
    /// rootfs, kernel, initrd, pack.
    pub stages: Vec<PlannedStage>,
    /// What somebody changed or removed behind imgbuild's back.
    pub drift: Vec<Drift>,
}

impl PlannedImage {
    /// Whether a build would do anything.
    pub fn has_work(&self) -> bool {
        !self.drift.is_empty() || self.stages.iter().any(|stage| stage.action != "keep")
    }
}

/// The plan of one stage.
#[derive(Debug, Serialize, schemars::JsonSchema)]
pub struct PlannedStage {
    /// Its name.
    pub stage: String,
    /// `keep`, `run` or `depends`.
    pub action: String,
    /// Why.
    #[schemars(with = "Vec<serde_json::Value>")]
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
    pub kind: String,
    /// `keep`, `run` or `depends`.
    pub action: String,
    /// Why.
    #[schemars(with = "Vec<serde_json::Value>")]
    pub causes: Vec<Cause>,
    /// What differed when it was built twice, if that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_reproducible: Option<String>,
}

fn word(verdict: Verdict) -> String {
    match verdict {
        Verdict::Keep => "keep",
        Verdict::Run => "run",
        Verdict::Depends => "depends",
    }
    .to_owned()
}

/// A stage runs when one of its layers does, and depends when one of them does.
fn of_stage(layers: &[PlannedLayer]) -> &'static str {
    if layers.iter().any(|layer| layer.action == "run") {
        "run"
    } else if layers.iter().any(|layer| layer.action == "depends") {
        "depends"
    } else {
        "keep"
    }
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
fn decided(graph: &ActionGraph, past: &StorePast<'_>, lock_causes: &[Cause]) -> Vec<(Stage, PlannedLayer)> {
    let decisions: Vec<Decision> = evaluate(graph, past);
    graph
        .in_order()
        .zip(decisions)
        .map(|(action, decision)| {
            let causes = if action.id == LOCK_ACTION { lock_causes.to_vec() } else { decision.causes };
            let layer = PlannedLayer {
                layer: action.layer().to_owned(),
                kind: action.kind.to_owned(),
                action: word(decision.verdict),
                causes,
                not_reproducible: decision.differs_in,
            };
            (action.stage, layer)
        })
        .collect()
}

/// What can be said before the packages are resolved.
fn not_resolved(causes: Vec<Cause>, was_built: bool) -> Vec<(Stage, PlannedLayer)> {
    let lock = PlannedLayer {
        layer: "lock".into(),
        kind: "lock".into(),
        action: "run".into(),
        causes,
        not_reproducible: None,
    };
    let mut planned = vec![(Stage::Rootfs, lock)];
    for (stage, layer) in [(Stage::Kernel, "payload"), (Stage::Initrd, "stateless"), (Stage::Pack, "rootimg")] {
        let reason = if was_built { Reason::Upstream { action: LOCK_ACTION.to_owned() } } else { Reason::FirstBuild };
        let layer = PlannedLayer {
            layer: layer.to_owned(),
            kind: stage.name().to_owned(),
            action: if was_built { "depends" } else { "run" }.to_owned(),
            causes: vec![reason.cause(None)],
            not_reproducible: None,
        };
        planned.push((stage, layer));
    }
    planned
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
    let root = store.root(&recipe.directory, &name);
    let was_built = root.is_some();
    let known = root.clone();
    let mut layers: BTreeMap<Stage, Vec<PlannedLayer>> = BTreeMap::new();
    let coarse = |causes: Vec<Cause>| not_resolved(causes, was_built);
    let mut drift = if was_built { drift_of_artefacts(out, &name, known.as_ref()) } else { Vec::new() };
    let planned = match (state, found) {
        (LockState::Fresh, Some(lock)) => {
            let stages = stages_of(recipe, &lock, forms)?;
            let past = StorePast::new(store, root);
            if !publish.is_empty() {
                let decisions = evaluate(&stages.graph, &past);
                for Target::Xcat(directory) in publish {
                    drift.extend(xcat_drift(recipe, store, &decisions, directory));
                }
            }
            decided(&stages.graph, &past, &[])
        }
        (LockState::FilesChanged(causes), Some(lock)) => {
            let stages = stages_of(recipe, &lock, forms)?;
            match graph_before_renewal(crate::distro::manager(recipe), &stages, &lock) {
                Some(graph) if was_built => decided(&graph, &StorePast::new(store, root), &causes),
                _ => coarse(causes),
            }
        }
        (LockState::Stale(causes) | LockState::FilesChanged(causes), _) => coarse(causes),
        (LockState::Fresh, None) => coarse(Vec::new()),
    };
    for (stage, layer) in planned {
        layers.entry(stage).or_default().push(layer);
    }
    let stages = Stage::ALL
        .into_iter()
        .map(|stage| {
            let layers = layers.remove(&stage).unwrap_or_default();
            let mut causes: Vec<Cause> = Vec::new();
            for cause in layers.iter().flat_map(|layer| &layer.causes) {
                if !causes.contains(cause) {
                    causes.push(cause.clone());
                }
            }
            PlannedStage { stage: stage.name().to_owned(), action: of_stage(&layers).to_owned(), causes, layers }
        })
        .collect();
    Ok(PlannedImage { name, stages, drift })
}

/// Runs the command.
pub fn run(arguments: &super::Arguments, own: &Arguments) -> Exit {
    let directory = match store_directory(arguments) {
        Ok(directory) => directory,
        Err(exit) => return exit,
    };
    let planning = Planning {
        store: Store::existing(&directory),
        out: own.out.as_deref(),
        publish: &own.publish,
        verbose: arguments.verbose,
        with_memos: !own.no_memo && !own.thorough,
        more: &|recipe| if own.thorough { damaged_layers(arguments, recipe) } else { Ok(Vec::new()) },
    };
    let images = match planning.images(arguments, &own.images) {
        Ok(images) => images,
        Err(exit) => return exit,
    };
    render::print(&if own.json { json_of(&images) } else { folded(&images, arguments.verbose) });
    if own.detailed_exitcode && images.iter().any(|image| image.has_work) { Exit::Work } else { Exit::Done }
}

/// Layers of the last build that are not what they were.
fn damaged_layers(arguments: &super::Arguments, recipe: &Recipe) -> Result<Vec<Drift>, Exit> {
    let setup = Setup::open(arguments)?;
    let Some(root) = setup.store.root(&recipe.directory, &recipe.model.image.name) else { return Ok(Vec::new()) };
    let damaged = drift_of_layers(&setup.store, &setup.namespace, &root).map_err(|error| {
        let exit = Exit::from(&error);
        render::say(&render::error(error));
        exit
    })?;
    Ok(damaged.into_iter().map(|(_, drift)| drift).collect())
}

/// How many causes of a layer are shown before the rest is folded.
const SHOWN_CAUSES: usize = 6;

/// The plan of an image for people.
pub fn text_of(image: &PlannedImage, verbose: u8) -> String {
    let mut text = format!("{}\n", image.name);
    let mut notes = Vec::new();
    for stage in &image.stages {
        text.push_str(&format!("  {:<8} {}\n", stage.stage, stage.action));
        for layer in &stage.layers {
            if let Some(text) = &layer.not_reproducible {
                notes.push(format!("  not reproducible: {}/{}: {text}\n", stage.stage, layer.layer));
            }
            if layer.action == "keep" && verbose == 0 {
                continue;
            }
            text.push_str(&format!("    {:<14} {}\n", layer.layer, layer.action));
            let most = if verbose > 0 { usize::MAX } else { SHOWN_CAUSES };
            for cause in layer.causes.iter().take(most) {
                let place = match (&cause.file, cause.line) {
                    (Some(file), Some(line)) => format!("{file}:{line}: "),
                    _ => String::new(),
                };
                text.push_str(&format!("      {place}{}\n", cause.message));
            }
            if layer.causes.len() > most {
                text.push_str(&format!("      and {} more (-v shows all)\n", layer.causes.len() - most));
            }
        }
    }
    text.extend(notes);
    if !image.drift.is_empty() {
        text.push_str("  changed by somebody else, not by the recipe:\n");
        for drift in &image.drift {
            text.push_str(&format!("    {} {} {}\n", drift.place, drift.name, drift.problem));
        }
        let deep = image.drift.iter().any(|drift| drift.place == "store");
        let command = if deep { "imgbuild build --thorough" } else { "imgbuild build" };
        text.push_str(&format!("    `{command}` mends it\n"));
    }
    text
}
