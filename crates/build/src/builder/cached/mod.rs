//! Takes from caches what they have of a build, and gives them what they lack.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::Serialize;

pub(crate) mod alone;
pub(crate) mod elsewhere;
pub(crate) mod meanwhile;

use super::run::{Builder, Work};
use super::shared::Deliver;
use crate::StageError;
use crate::actions::packages::needs;
use crate::actions::packages::tools::tools_run_on;
use crate::bench::ids;
use crate::bench::report::DownloadNews;
use crate::bench::results::Done;
use crate::inside::removal::remove_inside;
use crate::plan::{forms_for, fresh_lock, stages_of};
use crate::published::layouts::Target;
use base::digest::Digest;
use base::source::{Finding, Severity};
use cache::{Cache, Found, Object, Saver, shown_name};
use packages::{manager, side_by_side};
use plan::{Action, ActionGraph, key_and_trace};
use recipe::{Lock, LockedPass, PassRole, Recipe};
use store::{ActionRecord, LoadRequest, Loaded, SaveRequest, Store, StoreError};

/// How many questions are on their way at once.
const ASKED_AT_ONCE: usize = 16;

/// Has in the store what a cache has of the actions that a build wants. What needs an action that no cache has is not asked for:
/// its key is not known before that ran.
/// Errors: [`StageError`] where this store cannot keep it; a cache that fails is only said.
pub fn bring(
    builder: &Builder<'_>,
    cache: &Cache,
    lock: &Lock,
    wanted: &dyn Fn(&Action) -> bool,
) -> Result<(), StageError> {
    let stages = stages_of(builder.recipe, lock, forms_for(&builder.options.publish))?;
    let say = said(builder);
    recall_all(builder, cache, &stages.graph, wanted)?;
    let found = search(&stages.graph, builder.store, wanted, &|key| cache.find(key, &say));
    let found: Vec<Found> = found.into_iter().filter(|one| !is_sampled(builder, cache, one)).collect();
    take(builder, cache, &found)
}

/// Where all is compared, what earlier builds believed is made once more, and compared with that.
fn recall_all(
    builder: &Builder<'_>,
    cache: &Cache,
    graph: &ActionGraph,
    wanted: &dyn Fn(&Action) -> bool,
) -> Result<(), StageError> {
    if !cache.compares_all() {
        return Ok(());
    }
    let wanted = graph.with_all_below(wanted);
    let mut known = Done::default();
    for action in graph.in_order().filter(|action| wanted.contains(&action.id)) {
        let record = key_and_trace(action, &known).0.and_then(|key| builder.store.record(&key));
        let Some(record) = record.filter(|record| builder.store.has_outputs(&record.outputs)) else { continue };
        recall(builder, cache, &record)?;
        known.0.insert(action.id.clone(), record.outputs);
    }
    Ok(())
}

/// Takes a record that was only believed out of the store, so that its action runs and is compared; whether it was one.
fn recall(builder: &Builder<'_>, cache: &Cache, record: &ActionRecord) -> Result<bool, StageError> {
    let Some(place) = record.believed.as_ref().filter(|_| cache.compares_all()) else { return Ok(false) };
    let mut sampled = builder.shared.sampled.lock().unwrap_or_else(PoisonError::into_inner);
    sampled.insert(record.key, (place.clone(), record.outputs.clone()));
    drop(sampled);
    builder.store.forget(&record.key)?;
    say_sampled(builder, &record.action, place);
    Ok(true)
}

fn take(builder: &Builder<'_>, cache: &Cache, found: &[Found]) -> Result<(), StageError> {
    if found.is_empty() {
        return Ok(());
    }
    let say = said(builder);
    let scratch = builder.store.scratch()?;
    let load = |from: &str| {
        let request = LoadRequest { from: from.to_owned(), scratch: scratch.name.clone() };
        let loaded = builder.namespace.call::<_, Loaded>("load-layers", &request, &mut |_| {});
        loaded.map(|_| ()).map_err(|error| error.to_string())
    };
    let brought = cache.bring(builder.store, found, &load, &DownloadNews(builder.report, "from the cache"), &say)?;
    if brought.actions > 0 {
        let unsigned = match brought.unsigned {
            0 => String::new(),
            count => format!(", {count} of them believed without a signature"),
        };
        let text =
            format!("{} actions are from the cache ({:.1} MB){unsigned}", brought.actions, brought.bytes as f64 / 1e6);
        builder.report.finding(&Finding::nowhere(Severity::Note, "cache::brought", text));
    }
    Ok(())
}

/// Whether it is built here, to compare it.
fn is_sampled(builder: &Builder<'_>, cache: &Cache, one: &Found) -> bool {
    // What another machine built for this build is what it is compared with.
    if !one.is_doubtful {
        return false;
    }
    let mut sampled = builder.shared.sampled.lock().unwrap_or_else(PoisonError::into_inner);
    if sampled.contains_key(&one.record.key) {
        return true;
    }
    if !cache.is_sampled(one) {
        return false;
    }
    sampled.insert(one.record.key, (cache.place_of(one).to_owned(), one.record.outputs.clone()));
    drop(sampled);
    say_sampled(builder, &one.record.action, cache.place_of(one));
    true
}

fn say_sampled(builder: &Builder<'_>, action: &str, place: &str) {
    let text = format!("{} is built to compare it with the cache {place}", shown_name(action));
    builder.report.finding(&Finding::nowhere(Severity::Note, "cache::sampled", text));
}

/// Compares what an action made with what a cache says that it makes. If they differ, nothing that the cache gave this build or earlier
/// ones, and that was not compared, stays in the store: the next build would believe it.
/// Errors: [`StageError::Differs`].
pub(crate) fn compare(builder: &Builder<'_>, record: &ActionRecord) -> Result<(), StageError> {
    let sampled = builder.shared.sampled.lock().unwrap_or_else(PoisonError::into_inner).remove(&record.key);
    let Some((place, theirs)) = sampled else { return Ok(()) };
    let ours = &record.outputs;
    if *ours == theirs || fault::planted("compared-with-nothing") {
        return Ok(());
    }
    let of_liar = builder.store.believed().filter(|record| record.believed.as_ref() == Some(&place));
    for record in of_liar.collect::<Vec<_>>() {
        builder.store.forget(&record.key)?;
    }
    let mut differing = Vec::new();
    if ours.layer != theirs.layer {
        differing.push("the layer".to_owned());
    }
    let names: BTreeSet<&String> = ours.blobs.keys().chain(theirs.blobs.keys()).collect();
    differing.extend(names.into_iter().filter(|name| ours.blobs.get(*name) != theirs.blobs.get(*name)).cloned());
    if ours.frames != theirs.frames {
        differing.push("the packed image".to_owned());
    }
    let names: BTreeSet<&String> = ours.values.keys().chain(theirs.values.keys()).collect();
    differing.extend(names.into_iter().filter(|name| ours.values.get(*name) != theirs.values.get(*name)).cloned());
    Err(StageError::Differs { place, action: shown_name(&record.action), differing: differing.join(", ") })
}

/// What a cache has of the actions that a store lacks, in the order of the graph. All whose keys are known are asked for at once;
/// the keys of others follow from what was found.
fn search(
    graph: &ActionGraph,
    store: &Store,
    wanted: &dyn Fn(&Action) -> bool,
    find: &(dyn Fn(&Digest) -> Option<Found> + Sync),
) -> Vec<Found> {
    let wanted = graph.with_all_below(wanted);
    let mut left: Vec<(usize, &Action)> =
        graph.in_order().filter(|action| wanted.contains(&action.id)).enumerate().collect();
    let mut known = Done::default();
    let mut found: BTreeMap<usize, Found> = BTreeMap::new();
    loop {
        let (mut asked, mut later) = (Vec::new(), Vec::new());
        for (at, action) in left {
            let Some(key) = key_and_trace(action, &known).0 else {
                later.push((at, action));
                continue;
            };
            match store.record(&key).filter(|record| store.has_outputs(&record.outputs)) {
                Some(own) => drop(known.0.insert(action.id.clone(), own.outputs)),
                None => asked.push((at, action, key)),
            }
        }
        let answers: Mutex<Vec<(usize, &str, Found)>> = Mutex::default();
        // None of them fails: what does not answer has nothing.
        let _ = side_by_side(&asked, ASKED_AT_ONCE, &|(at, action, key), _| {
            if let (Some(one), Ok(mut answers)) = (find(key), answers.lock()) {
                answers.push((*at, &action.id, one));
            }
            Ok::<(), ()>(())
        });
        let answers = answers.into_inner().unwrap_or_default();
        if answers.is_empty() {
            return found.into_values().collect();
        }
        for (at, id, one) in answers {
            known.0.insert(id.to_owned(), one.record.outputs.clone());
            found.insert(at, one);
        }
        left = later;
    }
}

/// What directories that are caches have of a build of a recipe, for a plan: no server is asked.
/// Errors: As [`stages_of`].
pub fn look(
    recipe: &Recipe,
    store: &Store,
    publish: &[Target],
    cache: &Cache,
    say: cache::Say<'_>,
) -> Result<Option<CachedActions>, StageError> {
    let Ok(lock) = fresh_lock(recipe, Lock::read(&recipe.lock_path, &recipe.lock_name())?) else { return Ok(None) };
    let stages = stages_of(recipe, &lock, forms_for(publish))?;
    let found = search(&stages.graph, store, &|_| true, &|key| cache.find_here(key, say));
    let bytes = found.iter().map(|one| cache.bytes_to_move(store, one)).sum();
    let actions: Vec<String> = found.into_iter().map(|one| shown_name(&one.record.action)).collect();
    Ok((!actions.is_empty()).then(|| CachedActions { image: recipe.model.image.name.clone(), actions, bytes }))
}

/// What a cache has of a build.
#[derive(Debug, Clone, Serialize, schemars::JsonSchema)]
pub struct CachedActions {
    /// The image.
    pub image: String,
    /// Actions that need not run.
    pub actions: Vec<String>,
    /// Bytes that are copied instead.
    pub bytes: u64,
}

/// Gives caches what they lack of the actions of a build. What goes wrong is only said: the image is made.
pub(crate) fn fill(builder: &Builder<'_>, cache: &Cache, lock: &Lock, work: &Work) {
    if !cache.takes() {
        return;
    }
    let (known, mut filled) =
        std::mem::take(&mut *builder.shared.filled.lock().unwrap_or_else(PoisonError::into_inner));
    let done = work.stages.graph.in_order().filter_map(|action| work.finished.get(&action.id));
    let done = done.filter(|one| !known.contains(&one.key));
    let records = done.filter_map(|one| Some((builder.store.record(&one.key)?, one.outcome.ran)));
    let records: Vec<_> = records.filter(|(record, _)| record.differing.is_none()).collect();
    let turn = |record: &store::ActionRecord| {
        builder.report.progress(&format!("to the cache: {}", record.action));
        !builder.shared.is_stopped()
    };
    let packages = packages_of(builder, lock, &work.stages.graph);
    match cache.fill(builder.store, &records, &Layers { builder, packages }, &turn, &said(builder)) {
        Ok(more) => {
            filled.actions += more.actions;
            filled.bytes += more.bytes;
        }
        // The image is published, and what it was made of was compared then.
        Err(error) => {
            said(builder)(format!("nothing more is written to the cache: {error}; `imgbuild store verify` says more"));
            return;
        }
    }
    if filled.actions > 0 {
        let text =
            format!("{} actions were written to the cache ({:.1} MB)", filled.actions, filled.bytes as f64 / 1e6);
        builder.report.finding(&Finding::nowhere(Severity::Note, "cache::filled", text));
    }
}

/// Writes results that another machine asked for, but for those that it has.
/// Errors: [`StageError`] where any of them cannot be written: without it the other machine has nothing.
pub(crate) fn deliver(builder: &Builder<'_>, deliver: &Deliver, work: &Work) -> Result<(), StageError> {
    let done = work.stages.graph.in_order().filter_map(|action| work.finished.get(&action.id));
    let keys = done.filter(|one| !deliver.had.contains(&one.key)).map(|one| one.key);
    give(builder, &deliver.to, keys)
}

/// Writes the results of keys to a cache.
/// Errors: As [`deliver`].
pub fn give(builder: &Builder<'_>, to: &Cache, keys: impl Iterator<Item = Digest>) -> Result<(), StageError> {
    let records: Vec<_> = keys.filter_map(|key| Some((builder.store.record(&key)?, true))).collect();
    let problem = std::sync::Mutex::new(None);
    let say = |text: String| drop(problem.lock().map(|mut problem| problem.get_or_insert(text).len()));
    to.fill(builder.store, &records, &Layers { builder, packages: Packages::new() }, &|_| true, &say)?;
    match problem.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(problem) => Err(StageError::Undelivered { problem }),
        None => Ok(()),
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Here {
    /// Keys of those that it has, in the order of the graph.
    pub keys: Vec<Digest>,
    /// Those of them that others need, which it has not.
    pub needed: BTreeSet<Digest>,
    /// Ids of those that it has not; none where that is not known: the lock is to be made.
    pub missing: Option<BTreeSet<String>>,
    /// Whether programs of the lock's tools root run on the machine that was asked for.
    pub tools_run: bool,
}

/// What a store has of a recipe's actions, and whether a machine can do the rest (as `uname -m` names it).
/// Errors: As [`stages_of`].
pub fn here(recipe: &Recipe, store: &Store, publish: &[Target], machine: &str) -> Result<Here, StageError> {
    let Ok(lock) = fresh_lock(recipe, Lock::read(&recipe.lock_path, &recipe.lock_name())?) else {
        return Ok(Here { tools_run: true, ..Here::default() });
    };
    let stages = stages_of(recipe, &lock, forms_for(publish))?;
    let (mut known, mut keys, mut missing) = (Done::default(), Vec::new(), BTreeSet::new());
    for action in stages.graph.in_order() {
        let key = key_and_trace(action, &known).0;
        let record = key.and_then(|key| store.record(&key)).filter(|record| store.has_outputs(&record.outputs));
        let Some(record) = record else {
            missing.insert(action.id.clone());
            continue;
        };
        keys.push((action.id.clone(), record.key));
        known.0.insert(action.id.clone(), record.outputs);
    }
    let below = stages.graph.with_all_below(|action| missing.contains(&action.id));
    let needed = keys.iter().filter(|(id, _)| below.contains(id)).map(|(_, key)| *key).collect();
    let tools = lock.pass(PassRole::TOOLS);
    // What is missing may not need them: then it does not matter whose they are.
    let are_needed = below.contains(ids::TOOLS);
    let runs_there = |tools: &LockedPass| tools_run_on(manager(recipe), &tools.packages, machine);
    let tools_run = !are_needed || tools.is_none_or(runs_there);
    let keys = keys.into_iter().map(|(_, key)| key).collect();
    Ok(Here { keys, needed, missing: Some(missing), tools_run })
}

fn said<'b>(builder: &'b Builder<'_>) -> impl Fn(String) + Sync + 'b {
    |text| builder.report.finding(&Finding::nowhere(Severity::Warning, "cache::unused", text))
}

struct Layers<'b> {
    builder: &'b Builder<'b>,
    packages: Packages,
}

/// Packages by the ids of the actions that are made of them.
pub(crate) type Packages = BTreeMap<String, Vec<(Object, PathBuf)>>;

/// Packages of an image's actions, those that the store has.
pub(crate) fn packages_of(builder: &Builder<'_>, lock: &Lock, graph: &ActionGraph) -> Packages {
    let store = builder.store;
    let of = |action: &Action| {
        let packages = needs::packages_of(manager(builder.recipe), lock, action).into_iter();
        let packages = packages.map(|one| (Object { size: one.size, sha256: one.sha256 }, store.package(&one.sha256)));
        packages.filter(|(_, path)| path.is_file()).collect()
    };
    graph.in_order().map(|action| (action.id.clone(), of(action))).collect()
}

impl Saver for Layers<'_> {
    fn save(&self, layer: &Digest) -> Result<PathBuf, String> {
        let store: &Store = self.builder.store;
        let scratch = store.scratch().map_err(|error: StoreError| error.to_string())?;
        let to = format!("handover/{}-cached", scratch.name.replace('/', "-"));
        let request = SaveRequest { layers: vec![*layer], frames: Vec::new(), to: to.clone() };
        let saved = self.builder.namespace.call::<_, u64>("save-layers", &request, &mut |_| {});
        saved.map_err(|error| error.to_string())?;
        Ok(store.directory().join(to))
    }

    fn packages(&self, action: &str) -> Vec<(Object, PathBuf)> {
        self.packages.get(action).cloned().unwrap_or_default()
    }

    fn done(&self, file: &Path) {
        let store: &Store = self.builder.store;
        let name = file.strip_prefix(store.directory()).unwrap_or(file).to_string_lossy().into_owned();
        let _ = remove_inside(store, &self.builder.namespace.clone(), vec![name]);
    }
}
