//! Takes from caches what they have of a build, and gives them what they lack.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub mod alone;
pub mod elsewhere;

use super::run::{Builder, Work};
use super::shared::Deliver;
use crate::cache::{Cache, Found, Saver};
use crate::digest::Digest;
use crate::distro::manager;
use crate::plan::{Action, ActionGraph, key_and_trace};
use crate::recipe::{Lock, LockedPass, PassRole, Recipe};
use crate::source::{Finding, Severity};
use crate::stage::actions::packages::tools::tools_run_on;
use crate::stage::inside::removal::remove_inside;
use crate::stage::plan::{forms_for, fresh_lock, stages_of};
use crate::stage::report::DownloadNews;
use crate::stage::results::Done;
use crate::stage::{StageError, Target, ids};
use crate::store::{LoadRequest, Loaded, SaveRequest, Store, StoreError};

/// Has in the store what a cache has of the actions that a build wants. What needs an action that no cache has is not asked for:
/// its key is not known before that ran.
///
/// # Errors
/// [`StageError`] where this store cannot keep it; a cache that fails is only said.
pub fn bring(
    builder: &Builder<'_>,
    cache: &Cache,
    lock: &Lock,
    wanted: &dyn Fn(&Action) -> bool,
) -> Result<(), StageError> {
    let stages = stages_of(builder.recipe, lock, forms_for(&builder.options.publish))?;
    let say = said(builder);
    let found = search(&stages.graph, builder.store, wanted, &|key| cache.find(key, &say));
    take(builder, cache, &found)
}

/// Has in the store what entries name.
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
        let text = format!("{} actions are from the cache ({:.1} MB)", brought.actions, brought.bytes as f64 / 1e6);
        builder.report.finding(&Finding::nowhere(Severity::Note, "cache::brought", text));
    }
    Ok(())
}

/// What a cache has of the actions that a store lacks, in the order of the graph.
fn search(
    graph: &ActionGraph,
    store: &Store,
    wanted: &dyn Fn(&Action) -> bool,
    find: &dyn Fn(&Digest) -> Option<Found>,
) -> Vec<Found> {
    let wanted = graph.with_all_below(wanted);
    let (mut known, mut found): (Done, Vec<Found>) = Default::default();
    for action in graph.in_order().filter(|action| wanted.contains(&action.id)) {
        let Some(key) = key_and_trace(action, &known).0 else { continue };
        let own = store.record(&key).filter(|record| store.has_outputs(&record.outputs));
        let outputs = match own {
            Some(record) => record.outputs,
            None => match find(&key) {
                Some(one) => {
                    let outputs = one.record.outputs.clone();
                    found.push(one);
                    outputs
                }
                None => continue,
            },
        };
        known.0.insert(action.id.clone(), outputs);
    }
    found
}

/// What directories that are caches have of a build of a recipe, for a plan: no server is asked.
///
/// # Errors
/// As [`stages_of`].
pub fn look(
    recipe: &Recipe,
    store: &Store,
    publish: &[Target],
    cache: &Cache,
    say: crate::cache::Say<'_>,
) -> Result<Option<CachedActions>, StageError> {
    let Ok(lock) = fresh_lock(recipe, Lock::read(&recipe.lock_path, &recipe.lock_name())?) else { return Ok(None) };
    let stages = stages_of(recipe, &lock, forms_for(publish))?;
    let found = search(&stages.graph, store, &|_| true, &|key| cache.find_here(key, say));
    let bytes = found.iter().map(|one| cache.bytes_to_move(store, one)).sum();
    let actions: Vec<String> = found.into_iter().map(|one| one.record.action).collect();
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
pub fn fill(builder: &Builder<'_>, cache: &Cache, work: &Work) {
    if !cache.takes() {
        return;
    }
    let done = work.stages.graph.in_order().filter_map(|action| work.finished.get(&action.id));
    let records = done.filter_map(|one| Some((builder.store.record(&one.key)?, one.outcome.ran)));
    let records: Vec<_> = records.filter(|(record, _)| record.differing.is_none()).collect();
    let turn = |record: &crate::store::ActionRecord| {
        builder.report.progress(&format!("to the cache: {}", record.action));
        !builder.shared.is_stopped()
    };
    let filled = match cache.fill(builder.store, &records, &Layers { builder }, &turn, &said(builder)) {
        Ok(filled) => filled,
        // The image is published, and what it was made of was compared then.
        Err(error) => {
            said(builder)(format!("nothing more is written to the cache: {error}; `imgbuild store verify` says more"));
            return;
        }
    };
    if filled.actions > 0 {
        let text =
            format!("{} actions were written to the cache ({:.1} MB)", filled.actions, filled.bytes as f64 / 1e6);
        builder.report.finding(&Finding::nowhere(Severity::Note, "cache::filled", text));
    }
}

/// Writes results that another machine asked for, but for those that it has.
///
/// # Errors
/// [`StageError`] where any of them cannot be written: without it the other machine has nothing.
pub fn deliver(builder: &Builder<'_>, deliver: &Deliver, work: &Work) -> Result<(), StageError> {
    let done = work.stages.graph.in_order().filter_map(|action| work.finished.get(&action.id));
    let keys = done.filter(|one| !deliver.had.contains(&one.key)).map(|one| one.key);
    give(builder, &deliver.to, keys)
}

/// Writes the results of keys to a cache.
///
/// # Errors
/// As [`deliver`].
pub fn give(builder: &Builder<'_>, to: &Cache, keys: impl Iterator<Item = Digest>) -> Result<(), StageError> {
    let records: Vec<_> = keys.filter_map(|key| Some((builder.store.record(&key)?, true))).collect();
    let problem = std::sync::Mutex::new(None);
    let say = |text: String| drop(problem.lock().map(|mut problem| problem.get_or_insert(text).len()));
    to.fill(builder.store, &records, &Layers { builder }, &|_| true, &say)?;
    match problem.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
        Some(problem) => Err(StageError::Undelivered { problem }),
        None => Ok(()),
    }
}

/// What a store has of a recipe's actions.
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
///
/// # Errors
/// As [`stages_of`].
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

/// Saves layers inside.
struct Layers<'b> {
    builder: &'b Builder<'b>,
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

    fn done(&self, file: &Path) {
        let store: &Store = self.builder.store;
        let name = file.strip_prefix(store.directory()).unwrap_or(file).to_string_lossy().into_owned();
        let _ = remove_inside(store, &self.builder.namespace.clone(), vec![name]);
    }
}
