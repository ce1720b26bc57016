//! Actions that are asked for alone: what they use comes from the store or from caches, and nothing else runs.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{compare, fill, give, is_sampled, recall, said, take};
use crate::StageError;
use crate::actions::packages::accounts;
use crate::actions::packages::requests::target;
use crate::actions::{Context, Given};
use crate::bench::ids;
use crate::bench::results::Done;
use crate::builder::locking::relock::read_lock;
use crate::builder::run::{Builder, Finished, Outcome, Summary, Work};
use crate::builder::trace;
use crate::estimate::Facts;
use crate::inside::init::init_for;
use crate::plan::{ExactPlan, forms_for, fresh_lock};
use crate::published::layouts::{Target, XcatPublication};
use base::digest::Digest;
use base::source::{Finding, Severity, nearest};
use cache::{Found, shown_name};
use plan::{Action, key_and_trace};
use recipe::Lock;
use store::{End, FileLock, Outputs};

/// How many actions of those that are missing are named.
const NAMED: usize = 6;

/// Builds the actions of `only`, each after those that it uses, and nothing else. One that a cache has is left there.
/// Errors: [`StageError`]: what an action uses is nowhere, or its own.
pub(crate) fn build(builder: &Builder<'_>) -> Result<Summary, StageError> {
    let noted = &builder.options.trace;
    let began = Instant::now();
    let outcome = run(builder, began);
    match &outcome {
        Ok((summary, keys)) => {
            let published = summary.published.as_ref().map(|(path, _)| path.clone());
            let downloaded_bytes = summary.facts.downloaded_bytes;
            noted.ended(End { published, keys: keys.clone(), downloaded_bytes, ..End::default() });
        }
        Err(error) => {
            noted.ended(End { failed: Some(trace::in_short(error, builder.recipe)), ..End::default() });
        }
    }
    outcome.map(|(summary, _)| summary)
}

/// What is known of the image's actions while those that are asked for are seen to.
struct Known<'a> {
    builder: &'a Builder<'a>,
    lock: &'a Lock,
    plan: &'a ExactPlan,
    /// What is there, in the store or in a cache.
    done: Done,
    keys: BTreeMap<String, Digest>,
    /// Entries of what only a cache has.
    found: BTreeMap<String, Found>,
    /// What is nowhere, of what could be looked for.
    absent: Vec<String>,
    /// Actions that were asked for, and those that publishing takes over.
    finished: BTreeMap<String, Finished>,
}

fn run(builder: &Builder<'_>, began: Instant) -> Result<(Summary, BTreeMap<String, Digest>), StageError> {
    let recipe = builder.recipe;
    builder.store.ensure_blob(init_for(recipe.model.image.arch)?)?;
    let lock = fresh_lock(recipe, read_lock(builder)?).map_err(|causes| {
        let problem = causes.iter().map(|cause| cause.message.clone()).collect::<Vec<_>>().join("; ");
        let problem = if problem.is_empty() { "it does not exist".to_owned() } else { problem };
        StageError::Locked { lock: recipe.lock_name(), problem }
    })?;
    let plan = ExactPlan::of(recipe, &lock, builder.store, forms_for(&builder.options.publish))?;
    let graph = &plan.stages.graph;
    let asked: BTreeSet<&str> = builder.options.only.iter().map(String::as_str).collect();
    if let Some(id) = asked.iter().find(|id| **id != ids::PUBLISH && graph.get(id).is_none()) {
        return Err(unknown(&plan, &recipe.model.image.name, id));
    }
    let publishes = asked.contains(ids::PUBLISH);
    let needed = graph.with_all_below(|action| publishes || asked.contains(action.id.as_str()));
    let mut known = Known {
        builder,
        lock: &lock,
        plan: &plan,
        done: Done::default(),
        keys: BTreeMap::new(),
        found: BTreeMap::new(),
        absent: Vec::new(),
        finished: BTreeMap::new(),
    };
    let fetcher = builder.fetcher()?;
    let supply = builder.supply(&fetcher);
    for action in graph.in_order().filter(|action| needed.contains(&action.id)) {
        let is_asked = asked.contains(action.id.as_str());
        known.look(action, is_asked)?;
        if is_asked && !known.done.0.contains_key(&action.id) {
            let one = known.make(action, &supply)?;
            known.finished.insert(action.id.clone(), one);
        }
        // Now, and not in the end: a job that loses its node goes on after it.
        if let (Some(deliver), Some(one)) = (&builder.shared.deliver, known.finished.get(&action.id)) {
            give(builder, &deliver.to, std::iter::once(one.key))?;
        }
    }
    let (mut published, mut xcat) = (None, Vec::new());
    let Known { done, keys, found, absent, finished, .. } = known;
    let mut work = Work { stages: plan.stages, done, finished };
    if publishes {
        let missing: Vec<String> =
            work.stages.graph.in_order().map(|action| action.id.clone()).filter(|id| absent.contains(id)).collect();
        // One whose key is not known uses one that is nowhere.
        if work.done.0.len() < needed.len() {
            return Err(not_built(builder, ids::PUBLISH, missing));
        }
        let is_file = |outputs: &Outputs| !outputs.blobs.is_empty() || !outputs.frames.is_empty();
        let files = found.into_iter().filter(|(id, _)| work.done.0.get(id).is_some_and(is_file));
        bring(builder, ids::PUBLISH, files.collect())?;
        let name = &recipe.model.image.name;
        begin(builder);
        let before = trace::published_inodes(&builder.options.out, name);
        let at = Instant::now();
        for (id, key) in &keys {
            let differing = builder.store.record(key).is_some_and(|record| record.differing.is_some());
            let kept = |id: &String| Finished::kept(id, *key, differing);
            work.finished.entry(id.clone()).or_insert_with_key(kept);
        }
        let done = builder.publish(&lock, &work)?;
        builder.options.trace.published(Some(&done), &before, at.elapsed());
        published = Some(done);
        for Target::Xcat(directory) in &builder.options.publish {
            xcat.push(XcatPublication::of(recipe, builder.store, &work.done)?.publish(directory)?);
        }
    }
    remember(builder, &lock, &work, published.as_ref().map(|(path, _)| path.clone()))?;
    if let Some(cache) = builder.shared.cache.as_ref().filter(|_| builder.shared.deliver.is_none()) {
        fill(builder, cache, &lock, &work);
    }
    let outcomes = work.stages.graph.in_order().filter_map(|action| work.finished.get(&action.id));
    let outcomes: Vec<Outcome> = outcomes
        .map(|one| one.outcome.clone())
        .filter(|one| publishes || asked.contains(one.action.as_str()))
        .collect();
    let facts = Facts {
        milliseconds: trace::milliseconds(began.elapsed()),
        ..builder.options.trace.facts(supply.fetched().0).1
    };
    let number = builder.options.trace.number();
    let keys = work.finished.iter().map(|(id, one)| (id.clone(), one.key)).collect();
    Ok((Summary { outcomes, locked: None, published, xcat, estimate: None, facts, number }, keys))
}

impl Known<'_> {
    /// Finds an action in the store or in a cache. One that is asked for has to be whole there.
    fn look(&mut self, action: &Action, is_asked: bool) -> Result<(), StageError> {
        let builder = self.builder;
        let Some(key) = key_and_trace(action, &self.done).0 else { return Ok(()) };
        self.keys.insert(action.id.clone(), key);
        let own = builder.store.record(&key).filter(|record| builder.store.has_outputs(&record.outputs));
        let say = said(builder);
        let outputs = match (own, &builder.shared.cache) {
            // A build that compares all makes it here.
            (Some(record), Some(cache)) if is_asked && recall(builder, cache, &record)? => {
                self.absent.push(action.id.clone());
                return Ok(());
            }
            (Some(record), _) => {
                if is_asked {
                    let one = Finished::kept(&action.id, key, record.differing.is_some());
                    self.finished.insert(action.id.clone(), one);
                }
                record.outputs
            }
            (None, Some(cache)) => match cache.find(&key, &say).filter(|one| !is_asked || cache.is_whole(one)) {
                // It is made here, and compared.
                Some(one) if is_asked && is_sampled(builder, cache, &one) => {
                    self.absent.push(action.id.clone());
                    return Ok(());
                }
                Some(one) => {
                    if is_asked {
                        let text = format!("{} is in the cache {}", action.id, cache.place_of(&one));
                        builder.report.finding(&Finding::nowhere(Severity::Note, "cache::there", text));
                    }
                    let outputs = one.record.outputs.clone();
                    self.found.insert(action.id.clone(), one);
                    outputs
                }
                None => {
                    self.absent.push(action.id.clone());
                    return Ok(());
                }
            },
            (None, None) => {
                self.absent.push(action.id.clone());
                return Ok(());
            }
        };
        if is_asked && accounts::is_of_image(action) {
            let found = accounts::of_record(action, &outputs);
            accounts::compare(builder.recipe, self.lock, &found, builder.shared.deliver.is_none())?;
        }
        self.done.0.insert(action.id.clone(), outputs);
        Ok(())
    }

    fn make(&mut self, action: &Action, supply: &crate::supply::Supply<'_>) -> Result<Finished, StageError> {
        let (builder, graph) = (self.builder, &self.plan.stages.graph);
        let below = graph.with_all_below(|one| one.id == action.id);
        let lacking: Vec<String> =
            self.absent.iter().filter(|id| **id != action.id && below.contains(*id)).cloned().collect();
        if !lacking.is_empty() {
            return Err(not_built(builder, &action.id, lacking));
        }
        // It needs no file of what is further below, nor of what only a value is used.
        let layers = action.upstream.iter().filter(|one| one.output == "layer").map(|one| &one.action);
        let files: BTreeSet<&String> = layers.chain(&action.needs).collect();
        let found: BTreeMap<String, Found> = files.into_iter().filter_map(|id| self.found.remove_entry(id)).collect();
        bring(builder, &action.id, found)?;
        let uses = action.upstream.iter().map(|one| &one.action).chain(&action.needs);
        let used = uses.filter_map(|id| Some((id.clone(), self.done.0.get(id)?.clone()))).collect();
        let used = Done(used);
        let context = Context { stages: &self.plan.stages, lock: self.lock, given: Given { done: &used, supply } };
        begin(builder);
        supply.start();
        let made = builder.ensure(action, &context, &self.plan.history(builder.store));
        supply.stop();
        let (record, one) = made.inspect_err(|_| builder.failed.first(&action.id))?;
        compare(builder, &record)?;
        if accounts::is_of_image(action) {
            let found = accounts::of_record(action, &record.outputs);
            accounts::compare(builder.recipe, self.lock, &found, builder.shared.deliver.is_none())?;
        }
        self.absent.retain(|id| *id != action.id);
        self.keys.insert(action.id.clone(), record.key);
        self.done.0.insert(action.id.clone(), record.outputs);
        Ok(one)
    }
}

impl Finished {
    /// One that did not run.
    fn kept(id: &str, key: Digest, differing: bool) -> Self {
        Self { key, differing, outcome: Outcome { action: id.to_owned(), ran: false, took: Duration::ZERO } }
    }
}

/// Notes that this image is built: not before it is known that something is done.
fn begin(builder: &Builder<'_>) {
    let (recipe, noted) = (builder.recipe, &builder.options.trace);
    if noted.number().is_none() {
        noted.begin(builder.store, &recipe.model.image.name, &recipe.directory, &target(recipe));
    }
}

/// Has in the store what only a cache has of what an action uses.
fn bring(builder: &Builder<'_>, action: &str, found: BTreeMap<String, Found>) -> Result<(), StageError> {
    let Some(cache) = builder.shared.cache.as_ref().filter(|_| !found.is_empty()) else { return Ok(()) };
    let all: Vec<Found> = found.into_values().collect();
    take(builder, cache, &all)?;
    let lacks = |one: &&Found| !builder.store.has_outputs(&one.record.outputs);
    let lacking: Vec<&Found> = all.iter().filter(lacks).collect();
    let Some(first) = lacking.first() else { return Ok(()) };
    let (missing, cache) = (shown(builder, &first.record.action), cache.place_of(first).to_owned());
    let command = command(builder, std::slice::from_ref(&first.record.action));
    Err(StageError::NotBrought { action: shown(builder, action), missing, cache, command })
}

fn shown(builder: &Builder<'_>, id: &str) -> String {
    format!("{}/{}", builder.recipe.model.image.name, shown_name(id))
}

fn command(builder: &Builder<'_>, actions: &[String]) -> String {
    let only: Vec<String> = actions.iter().map(|id| format!("--only {}", shown(builder, id))).collect();
    format!("imgbuild build {}", only.join(" "))
}

fn not_built(builder: &Builder<'_>, action: &str, missing: Vec<String>) -> StageError {
    let count = missing.len();
    let named: Vec<String> = missing.iter().take(NAMED).map(|id| shown(builder, id)).collect();
    let more = count.saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    let caches = if builder.shared.cache.is_some() { "a cache" } else { "a cache (none is named)" };
    StageError::NotBuilt {
        action: shown(builder, action),
        missing: named.join(", ") + &more,
        count,
        caches,
        command: command(builder, &missing[..count.min(NAMED)]),
    }
}

fn unknown(plan: &ExactPlan, image: &str, id: &str) -> StageError {
    let mut names: Vec<&str> = plan.stages.graph.in_order().map(|action| action.id.as_str()).collect();
    names.push(ids::PUBLISH);
    let near = nearest(id, names.iter().copied());
    let hint = if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(", ")) };
    StageError::NoAction {
        image: image.to_owned(),
        action: id.to_owned(),
        hint,
        actions: format!("it has {}", names.join(", ")),
    }
}

/// Keeps from gc what was made. Others may do the same for this image now.
fn remember(
    builder: &Builder<'_>,
    lock: &Lock,
    work: &Work,
    published: Option<std::path::PathBuf>,
) -> Result<(), StageError> {
    let recipe = builder.recipe;
    let of = format!("root of {} in {}", recipe.model.image.name, recipe.directory.display());
    let path = builder.store.directory().join("locks").join(Digest::of(of.as_bytes()).to_string());
    let held = FileLock::take(&path)?;
    let done = builder.remember(lock, work, published);
    held.remove();
    done
}
