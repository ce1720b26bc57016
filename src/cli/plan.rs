//! `imgbuild plan`.

use std::collections::BTreeMap;

use serde::Serialize;

use super::setup::{Setup, chosen, lock, store_directory};
use super::{Exit, render};
use crate::digest::Digest;
use crate::plan::{ActionGraph, Cause, Decision, Reason, Stage, Verdict, evaluate};
use crate::recipe::{Lock, Recipe};
use crate::stage::{
    Drift, Estimate, Experience, Forms, LOCK_ACTION, LockState, SIDE_BY_SIDE, StageGraph, StorePast, Target,
    drift_of_artefacts, drift_of_layers, estimate_before_lock, estimate_of, graph_before_renewal, graph_of,
    init_program, lock_state, xcat_drift,
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
    /// Write the plan to a file too, for `imgbuild build --plan FILE`
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<std::path::PathBuf>,
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
    /// What a build is expected to take; null where it has nothing to run.
    pub estimate: Option<Estimate>,
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

fn stages_of(recipe: &Recipe, lock: &Lock, forms: Forms) -> Result<StageGraph, Exit> {
    graph_of(recipe, lock, &Digest::of(init_program()), forms).map_err(|error| {
        let exit = Exit::from(&error);
        render::say(&render::error(error));
        exit
    })
}

/// What is decided of each action; `lock_causes` are why the lock is renewed, where that is an action of the graph.
fn decided(graph: &ActionGraph, decisions: Vec<Decision>, lock_causes: &[Cause]) -> Vec<(Stage, PlannedLayer)> {
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

/// How many actions a build would run at once.
fn workers() -> usize {
    rayon::current_num_threads().min(SIDE_BY_SIDE)
}

/// Plans an image: runs nothing, connects to nothing, writes nothing.
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
    let mut estimate = None;
    let planned = match (state, found) {
        (LockState::Fresh, Some(lock)) => {
            let stages = stages_of(recipe, &lock, forms)?;
            let decisions = evaluate(&stages.graph, &StorePast::new(store, root));
            if !publish.is_empty() {
                for Target::Xcat(directory) in publish {
                    drift.extend(xcat_drift(recipe, store, &decisions, directory));
                }
            }
            // The history is read only where there is something to estimate.
            if decisions.iter().any(|decision| decision.verdict != Verdict::Keep) {
                let experience = Experience::new(store, recipe);
                estimate = estimate_of(&experience, &stages.graph, &decisions, &lock, true, workers());
            }
            decided(&stages.graph, decisions, &[])
        }
        (LockState::FilesChanged(causes), Some(lock)) => {
            let stages = stages_of(recipe, &lock, forms)?;
            match graph_before_renewal(crate::distro::manager(recipe), &stages, &lock) {
                Some(graph) if was_built => decided(&graph, evaluate(&graph, &StorePast::new(store, root)), &causes),
                _ => coarse(causes),
            }
        }
        (LockState::Stale(causes) | LockState::FilesChanged(causes), _) => coarse(causes),
        (LockState::Fresh, None) => coarse(Vec::new()),
    };
    if planned.first().is_some_and(|(_, layer)| layer.kind == "lock") {
        let open = planned.iter().filter(|(_, layer)| layer.action != "keep");
        let open = open.map(|(stage, layer)| format!("{}/{}", stage.name(), layer.layer)).collect();
        estimate = Some(estimate_before_lock(&Experience::new(store, recipe), open, workers()));
    }
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
    Ok(PlannedImage { name, stages, drift, estimate })
}

/// Runs the command.
pub fn run(arguments: &super::Arguments, own: &Arguments) -> Exit {
    let recipes = match chosen(arguments, &own.images) {
        Ok(recipes) => recipes,
        Err(exit) => return exit,
    };
    let directory = match store_directory(arguments) {
        Ok(directory) => directory,
        Err(exit) => return exit,
    };
    let store = Store::existing(&directory);
    let mut images = Vec::new();
    for recipe in &recipes {
        let out = own.out.clone().unwrap_or_else(|| recipe.out.clone());
        let mut image = match plan_of(recipe, &store, &out, &own.publish) {
            Ok(image) => image,
            Err(exit) => return exit,
        };
        if own.thorough {
            match damaged_layers(arguments, recipe) {
                Ok(damaged) => image.drift.extend(damaged),
                Err(exit) => return exit,
            }
        }
        images.push(image);
    }
    if let Some(file) = &own.output
        && let Err(exit) = super::planfile::write(arguments, &recipes, &store, (own.out.as_deref(), &own.publish), file)
    {
        return exit;
    }
    let work = images.iter().any(PlannedImage::has_work);
    if own.json {
        let document = PlanDocument { format_version: "1.0".to_owned(), images };
        let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
        text.push('\n');
        render::print(&text);
    } else {
        let texts: Vec<String> = images.iter().map(|image| text_of(image, arguments.verbose)).collect();
        render::print(&texts.join("\n"));
    }
    if own.detailed_exitcode && work { Exit::Work } else { Exit::Done }
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

fn text_of(image: &PlannedImage, verbose: u8) -> String {
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
    if let Some(estimate) = &image.estimate {
        text.push_str(&format!("  {}\n", super::estimate::line(estimate)));
    }
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
