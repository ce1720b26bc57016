//! Runs a plan: the only place that commits actions to the store.

use crate::builder::locking::relock::lock;
use crate::builder::locking::relock::record_ids;
use crate::builder::locking::relock::write_lock;
use crate::plan::{ExactPlan, forms_for, workers};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::cached;
use super::failed::Failed;
use super::planfile::PlanToKeep;
use super::schedule::{ScheduleOptions, run_side_by_side};
use super::shared::{SharedBuild, estimate};
use super::trace::{self, Trace};
use crate::StageError;
use crate::actions;
use crate::actions::kernel::device_trees;
use crate::actions::packages::accounts;
use crate::actions::packages::emulator;
use crate::actions::packages::needs::{bytes_of, packages_of};
use crate::actions::packages::requests::target;
use crate::actions::{Context, Given};
use crate::actions::{StageGraph, kernel_packages};
use crate::bench::Bench;
use crate::bench::history::{PlacesOfInputs, StoreHistory, places_of};
use crate::bench::ids;
use crate::bench::report::Report;
use crate::bench::results::{Done, devices_left_out, missing, record};
use crate::estimate::cost::form_of;
use crate::estimate::{Estimate, Facts, room};
use crate::inside::init::init_for;
use crate::inside::removal::remove_damaged;
use crate::lock::repositories;
use crate::lock::stale::requests;
use crate::published::artefacts::{BuildInfo, Publication};
use crate::published::drift::stamps;
use crate::published::forms::packed_images;
use crate::published::layouts::{Target, XcatPublication, XcatPublished};
use crate::published::otherwise::publishing;
use crate::supply::Supply;
use base::digest::Digest;
use base::failure::start;
use base::source::{Finding, Severity};
use packages::{Fetcher, PackageSources, manager};
use plan::{Action, Decision, Follow, RECIPE, Stage, Verdict, decide, key_and_trace};
use recipe::{Family, Lock, PassRole, PinnedPackage, Recipe};
use sandbox::{Namespace, SandboxError};
use store::{ActionRecord, End, FileLock, Root, Run, Store, StoreError};

#[derive(Debug, Clone, Default)]
pub struct Options {
    pub locked: bool,
    /// Stop after this stage.
    pub until: Option<Stage>,
    /// Where artefacts go.
    pub out: PathBuf,
    pub places: PackageSources,
    /// Where else artefacts go, in the layouts of other tools.
    pub publish: Vec<Target>,
    /// The plan that is to be kept to, where there is one.
    pub planned: Option<PlanToKeep>,
    /// Ids of actions that are built alone; all of the image where it is empty.
    pub only: Vec<String>,
    /// What ran elsewhere for this build, for the history.
    pub elsewhere: Vec<Run>,
    /// Exit code and words of what failed elsewhere for this build.
    pub failed_elsewhere: Option<(u8, String)>,
    /// Takes what is noted in the history.
    pub trace: Trace,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    pub action: String,
    pub ran: bool,
    pub took: Duration,
}

/// What is remembered of an action until the build ends.
pub(crate) struct Finished {
    pub key: Digest,
    pub(super) differing: bool,
    pub(super) outcome: Outcome,
}

pub(crate) struct Work {
    pub stages: StageGraph,
    pub done: Done,
    pub finished: BTreeMap<String, Finished>,
}

/// How many damaged files one build takes out of the store before it gives up.
const MENDED_AT_MOST: usize = 16;

#[derive(Debug, Clone)]
pub struct Summary {
    pub outcomes: Vec<Outcome>,
    /// How long it took to renew the lock, where that was done.
    pub locked: Option<Duration>,
    /// The published directory and what is in it, unless the build was to stop before.
    pub published: Option<(PathBuf, BuildInfo)>,
    pub xcat: Vec<XcatPublished>,
    /// What it was expected to take, where anything was to be done.
    pub estimate: Option<Estimate>,
    pub facts: Facts,
    /// Its number in the log, if it could be noted.
    pub number: Option<u64>,
}

pub struct Builder<'a> {
    pub recipe: &'a Recipe,
    pub store: &'a Store,
    pub namespace: &'a Namespace,
    pub options: Options,
    pub report: &'a dyn Report,
    pub shared: &'a SharedBuild,
    /// Takes what failed, where it is not the only thing.
    pub(super) failed: Failed,
    /// Whether the repositories were asked, for an index or a package.
    pub(super) asked: AtomicBool,
}

impl<'a> Builder<'a> {
    /// For one image; nothing is done yet.
    pub fn new(
        recipe: &'a Recipe,
        (store, namespace): (&'a Store, &'a Namespace),
        options: Options,
        report: &'a dyn Report,
        shared: &'a SharedBuild,
    ) -> Self {
        let (failed, asked) = (Failed::default(), AtomicBool::new(false));
        Self { recipe, store, namespace, options, report, shared, failed, asked }
    }

    /// Locks where that is needed, runs what is not there yet, publishes.
    /// Errors: [`StageError`]; nothing is published then, and finished actions stay in the store.
    pub fn build(&self) -> Result<Summary, StageError> {
        if !self.options.only.is_empty() {
            return cached::alone::build(self);
        }
        self.build_keeping_work().map(|(summary, _)| summary)
    }

    /// The same; gives the results too.
    pub(crate) fn build_keeping_work(&self) -> Result<(Summary, Work), StageError> {
        // Without it nothing can boot: said before anything is downloaded.
        init_for(self.recipe.model.image.arch)?;
        let noted = &self.options.trace;
        noted.begin(self.store, &self.recipe.model.image.name, &self.recipe.directory, &target(self.recipe));
        self.options.elsewhere.iter().cloned().for_each(|run| noted.ran(run));
        let outcome = self.fetcher().and_then(|fetcher| {
            let supply = self.supply(&fetcher);
            let outcome = self.build_with(&fetcher, &supply);
            Ok((outcome?, supply.fetched()))
        });
        match outcome {
            Ok((done, (downloaded_bytes, download_milliseconds))) => {
                let keys = done.1.finished.iter().map(|(id, one)| (id.clone(), one.key)).collect();
                let published = done.0.published.as_ref().map(|(path, _)| path.clone());
                noted.ended(End { published, keys, downloaded_bytes, download_milliseconds, ..End::default() });
                Ok(done)
            }
            Err(error) => {
                noted.ended(End { failed: Some(trace::in_short(&error, self.recipe)), ..End::default() });
                Err(error)
            }
        }
    }

    fn build_with(&self, fetcher: &Fetcher, supply: &Supply<'_>) -> Result<(Summary, Work), StageError> {
        let began = Instant::now();
        let had = std::fs::read(&self.recipe.lock_path).ok();
        let mut lock = lock(self, fetcher, supply)?;
        let is_renewed = had != std::fs::read(&self.recipe.lock_path).ok();
        let lock_took = began.elapsed();
        if is_renewed {
            let (action, kind) = (ids::LOCK.to_owned(), "lock".to_owned());
            let milliseconds = trace::milliseconds(lock_took);
            self.options.trace.ran(Run { action, kind, milliseconds, ..Run::default() });
        }
        let until = self.options.until.unwrap_or(Stage::Pack);
        let asked = self.shared.deliver.as_ref().and_then(|deliver| deliver.wanted.get(&self.recipe.model.image.name));
        let wanted = |action: &Action| action.stage <= until && asked.is_none_or(|asked| asked.contains(&action.id));
        let mut work = self.run_keeping_ids(&mut lock, supply, &wanted)?;
        record_ids(self, &mut lock, &work)?;
        fault::point("build.before-publish");
        let mut published = None;
        if until == Stage::Pack && self.shared.deliver.is_none() {
            let before = trace::published_inodes(&self.options.out, &self.recipe.model.image.name);
            let began = Instant::now();
            let mut again = |work: &mut Work| {
                *work = self.run_keeping_ids(&mut lock.clone(), supply, &wanted)?;
                Ok(())
            };
            published = Some(self.mending(&mut work, &mut again, &|work| self.publish(&lock, work))?);
            if work.finished.values().any(|one| one.outcome.ran) {
                self.options.trace.published(published.as_ref(), &before, began.elapsed());
            }
        }
        fault::point("build.before-root");
        self.remember(&lock, &work, published.as_ref().map(|(path, _)| path.clone()))?;
        let outcomes = work.stages.graph.in_order().filter_map(|action| work.finished.get(&action.id));
        let outcomes = outcomes.map(|one| one.outcome.clone()).collect();
        let mut xcat = Vec::new();
        if published.is_some() {
            for Target::Xcat(directory) in &self.options.publish {
                let mut again = |work: &mut Work| {
                    *work = self.run_keeping_ids(&mut lock.clone(), supply, &wanted)?;
                    Ok(())
                };
                let publish =
                    |work: &Work| XcatPublication::of(self.recipe, self.store, &work.done)?.publish(directory);
                xcat.push(self.mending(&mut work, &mut again, &publish)?);
            }
        }
        match (&self.shared.deliver, &self.shared.cache) {
            (Some(deliver), _) => cached::deliver(self, deliver, &work)?,
            (None, Some(cache)) => cached::fill(self, cache, &lock, &work),
            (None, None) => {}
        }
        let (estimate, facts) = self.options.trace.facts(supply.fetched().0);
        let number = self.options.trace.number();
        let locked = is_renewed.then_some(lock_took);
        Ok((Summary { outcomes, locked, published, xcat, estimate, facts, number }, work))
    }

    /// Publishes; what turns out to be damaged then is taken out of the store, said, and made again by what runs once more.
    fn mending<T>(
        &self,
        work: &mut Work,
        again: &mut dyn FnMut(&mut Work) -> Result<(), StageError>,
        publish: &dyn Fn(&Work) -> Result<T, StageError>,
    ) -> Result<T, StageError> {
        for _ in 0..MENDED_AT_MOST {
            match publish(work) {
                Err(StageError::Store(error @ StoreError::Damaged { .. })) => {
                    remove_damaged(self.store, self.namespace, &error)?;
                    let text = format!("{error}; it was removed and will be rebuilt");
                    self.report.finding(&Finding::nowhere(Severity::Warning, "store::damaged", text));
                    again(work)?;
                }
                other => return other,
            }
        }
        publish(work)
    }

    fn note(&self, action: &Action, context: &Context<'_>, run: Run) {
        let packages = packages_of(manager(self.recipe), context.lock, action);
        let (form, kind) = (form_of(action), action.kind.name().to_owned());
        let package_bytes = bytes_of(&packages);
        self.options.trace.ran(Run { action: action.id.clone(), kind, package_bytes, form, ..run });
    }

    pub(crate) fn bench(&self) -> Bench<'_> {
        let Self { recipe, store, namespace, report, .. } = *self;
        Bench { recipe, store, namespace, report, is_locked: self.options.locked }
    }

    pub(crate) fn fetcher(&self) -> Result<Fetcher, StageError> {
        let fetcher = self.options.places.patience.map_or_else(Fetcher::new, Fetcher::with_patience);
        let is_apts = self.recipe.model.image.distro.family() == Family::Debian;
        let fetcher = if is_apts { fetcher.as_apt() } else { fetcher };
        Ok(fetcher.keeping_halves_in(self.store.aside_directory()?))
    }

    pub(crate) fn supply<'s>(&'s self, fetcher: &'s Fetcher) -> Supply<'s> {
        let (store, staging) = ((self.store, self.namespace), &self.shared.staging);
        Supply::new(
            self.recipe,
            &self.options.places,
            store,
            fetcher,
            self.report,
            (staging, self.shared.cache.as_ref()),
        )
    }

    /// Runs actions; where packages would give accounts other ids than the lock has, these are fixed and it starts again.
    pub(crate) fn run_keeping_ids(
        &self,
        lock: &mut Lock,
        supply: &Supply<'_>,
        wanted: &dyn Fn(&Action) -> bool,
    ) -> Result<Work, StageError> {
        // Each round fixes accounts that were not fixed.
        loop {
            match self.attempt(lock, supply, wanted) {
                Err(StageError::Moved { text, names, is_final: false }) => {
                    let text = format!("{text}; {} keeps the earlier ids", self.recipe.lock_name());
                    self.report.finding(&Finding::nowhere(Severity::Note, "lock::id_kept", text));
                    accounts::fix(lock, &names);
                    self.failed.clear();
                    write_lock(self, lock)?;
                }
                Err(StageError::AsksRelease { pass, is_final: false, .. }) => {
                    let text = format!(
                        "scripts of {pass} ask for the kernel's release: it is rebuilt when the kernel changes, as {} records",
                        self.recipe.lock_name()
                    );
                    self.report.finding(&Finding::nowhere(Severity::Note, "lock::asks_release", text));
                    lock.pass.iter_mut().filter(|one| one.name == pass).for_each(|one| one.asks_release = true);
                    self.failed.clear();
                    write_lock(self, lock)?;
                }
                other => return other,
            }
        }
    }

    fn attempt(&self, lock: &Lock, supply: &Supply<'_>, wanted: &dyn Fn(&Action) -> bool) -> Result<Work, StageError> {
        self.store.ensure_blob(init_for(self.recipe.model.image.arch)?)?;
        if let Some(cache) = &self.shared.cache {
            cached::bring(self, cache, lock, wanted)?;
        }
        let plan = ExactPlan::of(self.recipe, lock, self.store, forms_for(&self.options.publish))?;
        let history = plan.history(self.store);
        let graph = &plan.stages.graph;
        let wanted = graph.with_all_below(wanted);
        let in_order: Vec<&Action> = graph.in_order().filter(|action| wanted.contains(&action.id)).collect();
        let finished: Mutex<BTreeMap<String, Finished>> = Mutex::default();
        if let Some(planned) = &self.options.planned {
            planned.check(self.recipe, lock, &plan)?;
        }
        let mut milliseconds = None;
        if self.options.until.is_none_or(|until| until == Stage::Pack) {
            let work = plan.workload(self.recipe, lock, self.store);
            let estimate = work.as_ref().map(|work| Estimate::of(work, workers()));
            if let (Some(work), Some(estimate)) = (&work, &estimate)
                && let Some(finding) = room::check(self.store, work, estimate)?
            {
                self.report.finding(&finding);
            }
            milliseconds = estimate.as_ref().and_then(|estimate| Some(estimate.milliseconds?.most));
            self.options.trace.expect(estimate, supply.fetched().0);
        }
        let is_to_do = |one: &&Decision| one.verdict != Verdict::Keep && wanted.contains(&one.action);
        let to_do: BTreeSet<&str> =
            plan.decisions.iter().filter(is_to_do).map(|decision| decision.action.as_str()).collect();
        self.report.steps(to_do.len(), milliseconds);
        let options = ScheduleOptions {
            workers: workers(),
            keep_going: self.shared.keep_going,
            is_stopped: &|| self.shared.is_stopped(),
            failed: &self.failed,
        };
        let groups = self.packages_to_bring(&plan.decisions, &in_order, lock);
        let meanwhile = cached::meanwhile::Meanwhile::of(self);
        supply.start();
        let done = std::thread::scope(|scope| {
            start(scope, || supply.bring(&groups))
                .map_err(|error| SandboxError::starting("a thread for packages", error))?;
            let _ending = cached::meanwhile::Ending(&meanwhile);
            // Where there is no thread for it, all of it is brought at the end.
            let _ = start(scope, || meanwhile.run(lock, graph));
            let done = run_side_by_side(&in_order, &options, &|action, known| {
                let context = Context { stages: &plan.stages, lock, given: Given { done: known, supply } };
                let (record, one) = self.ensure(action, &context, &history)?;
                cached::compare(self, &record)?;
                if accounts::is_of_image(action) {
                    let found = accounts::of_record(action, &record.outputs);
                    accounts::compare(self.recipe, lock, &found, self.options.locked)?;
                }
                if one.outcome.ran {
                    meanwhile.ran(one.key);
                } else if to_do.contains(action.id.as_str()) {
                    self.report.step_kept();
                }
                let mut finished = finished.lock().unwrap_or_else(PoisonError::into_inner);
                finished.insert(action.id.clone(), one);
                Ok(record.outputs)
            });
            supply.stop();
            meanwhile.end(done.is_ok());
            done
        })?;
        if supply.fetched().0 > 0 {
            self.asked.store(true, Ordering::Relaxed);
        }
        let finished = finished.into_inner().unwrap_or_else(PoisonError::into_inner);
        Ok(Work { stages: plan.stages, done, finished })
    }

    /// Keeps from gc what this build used.
    pub(crate) fn remember(&self, lock: &Lock, work: &Work, published: Option<PathBuf>) -> Result<(), StageError> {
        let name = &self.recipe.model.image.name;
        let earlier = self.store.root(&self.recipe.directory, name).unwrap_or_default();
        // Forms are packed by several commands where actions are built alone.
        let has_frames = published.is_some() || self.options.only.is_empty() && work.done.0.contains_key(ids::PACK);
        let earlier_frames = if has_frames { Vec::new() } else { earlier.frames };
        let frames = work.done.0.values().flat_map(|outputs| outputs.frames.clone()).chain(earlier_frames);
        let mut seen = BTreeSet::new();
        let frames = frames.filter(|frame| seen.insert(*frame)).collect();
        // A build that stopped early keeps what it did not reach.
        let mut actions = if published.is_some() { BTreeMap::new() } else { earlier.actions };
        actions.extend(work.finished.iter().map(|(id, one)| (id.clone(), one.key)));
        // Before the root, which says that the build is whole.
        let known = self.store.places(&self.recipe.directory, name).filter(|_| published.is_none());
        let mut places: PlacesOfInputs = known.and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default();
        let reached = |id: &str| [ids::LOCK, ids::PUBLISH, RECIPE].contains(&id) || work.finished.contains_key(id);
        let own = plan::ActionGraph::new(vec![publishing(self.recipe)]).ok();
        let now = places_of(&work.stages.graph).into_iter().chain([(ids::LOCK.to_owned(), requests(self.recipe))]);
        let now = now.chain(own.iter().flat_map(places_of));
        let now = now.chain([(RECIPE.to_owned(), work.stages.graph.absences.sayings.clone())]);
        places.extend(now.filter(|(id, _)| reached(id)));
        let text = serde_json::to_vec(&places).unwrap_or_default();
        self.store.set_places(&self.recipe.directory, name, &text)?;
        self.store.set_root(&Root {
            format: 1,
            image: name.clone(),
            recipe: self.recipe.directory.clone(),
            stamps: published.as_ref().map_or(earlier.stamps, |directory| {
                let names =
                    crate::published::artefacts::published(&self.options.out, name).map(|(_, info)| info.artefacts);
                stamps(directory, names.into_iter().flatten().map(|artefact| artefact.name))
            }),
            published: published.unwrap_or(earlier.published),
            actions,
            frames,
            asked: {
                let now = repositories::addresses(self.recipe).into_iter().map(|one| one.digest);
                let is_all = self.asked.load(Ordering::Relaxed) || earlier.asked.is_empty();
                if is_all { earlier.asked.into_iter().chain(now).collect() } else { earlier.asked }
            },
            packages: {
                let of_passes = lock.pass.iter().flat_map(|pass| pass.packages.iter().map(|package| package.sha256));
                of_passes.chain(lock.base.iter().flat_map(|base| base.files())).collect()
            },
        })?;
        Ok(())
    }

    /// Packages of the actions that will run, in the order in which they are needed. Those that run unless what is below
    /// them turns out to be as before, only packages that are there: nothing is downloaded for a guess, but they can be
    /// made plain while the packages below them are installed, which takes one processor.
    fn packages_to_bring(&self, decisions: &[Decision], in_order: &[&Action], lock: &Lock) -> Vec<Vec<PinnedPackage>> {
        let verdict = |id: &str| {
            let wanted = in_order.iter().any(|action| action.id == id);
            decisions.iter().find(|decision| wanted && decision.action == id).map(|decision| decision.verdict)
        };
        let (mut groups, mut guessed) = (Vec::new(), Vec::new());
        let mut bring = |id: &str, packages: &dyn Fn() -> Vec<PinnedPackage>| match verdict(id) {
            Some(Verdict::Run) => groups.push(packages()),
            Some(Verdict::Depends) => {
                let there = |package: &PinnedPackage| self.store.package(&package.sha256).is_file();
                guessed.push(packages().into_iter().filter(there).collect());
            }
            Some(Verdict::Keep) | None => {}
        };
        for pass in &lock.pass {
            if pass.role() == PassRole::Kernel {
                bring(ids::PAYLOAD, &|| kernel_packages(manager(self.recipe), lock, &pass.packages));
            }
            bring(&ids::layer(&pass.name), &|| pass.packages.clone());
        }
        groups.append(&mut guessed);
        groups
    }

    /// Gives the record of an action: the store's, or that of a run now.
    pub(super) fn ensure(
        &self,
        action: &Action,
        context: &Context<'_>,
        history: &StoreHistory<'_>,
    ) -> Result<(ActionRecord, Finished), StageError> {
        let known = context.given.done;
        let began = Instant::now();
        let decisions = BTreeMap::new();
        let decision = decide(action, &Follow { graph: &context.stages.graph, known, history, decisions: &decisions });
        let key = decision.key.ok_or_else(|| missing(&action.id))?;
        let finished = |found: &ActionRecord, ran| Finished {
            key,
            differing: found.differing.is_some(),
            outcome: Outcome { action: action.id.clone(), ran, took: began.elapsed() },
        };
        if let Some(found) = self.kept(&decision) {
            // It ran in this build, before there was a plan.
            let made = self.shared.made.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
            let mut one = finished(&found, made.is_some());
            one.outcome.took = made.unwrap_or(one.outcome.took);
            return Ok((found, one));
        }
        // Two builds at once: the second waits and finds the first one's record.
        let held = FileLock::take(&self.store.directory().join("locks").join(key.to_string()))?;
        if let Some(found) = self.store.record(&key).filter(|found| self.store.has_outputs(&found.outputs)) {
            let one = finished(&found, false);
            return Ok((found, one));
        }
        if let Some(planned) = &self.options.planned {
            planned.may_run(&action.id)?;
        }
        if let Some((code, why)) = self.options.failed_elsewhere.clone() {
            return Err(StageError::FailedElsewhere { code, why });
        }
        if let Some(host) = &self.shared.elsewhere
            && !fault::planted("other-result")
        {
            return Err(StageError::Elsewhere { host: host.clone(), action: action.id.clone() });
        }
        // With the key's lock in hand, and never while waiting for one: anyone who has a turn waits for no one.
        let turn = self.shared.budget.turn(estimate(action.kind, rayon::current_num_threads()));
        let began = Instant::now();
        self.report.started(&action.id, &decision.causes);
        fault::point("action.started");
        let (at, _) = (SystemTime::now(), context.given.supply.waited());
        let bench = self.bench();
        let outcome = emulator::of_action(&bench, &self.shared.made, action, context)
            .and_then(|()| actions::run(&bench, action, context));
        let waited = context.given.supply.waited();
        let mut run = Run {
            key: Some(key),
            milliseconds: trace::milliseconds(began.elapsed().saturating_sub(waited)),
            waited_milliseconds: trace::milliseconds(waited),
            ..Run::default()
        };
        let outputs = match outcome {
            Ok(outputs) => outputs,
            Err(error) => {
                if !matches!(error, StageError::Stopped) {
                    let log = self.store.directory().join(bench.log_name(action));
                    let is_there = std::fs::metadata(&log).is_ok_and(|found| found.len() > 0);
                    run.log = is_there.then(|| log.display().to_string());
                    self.note(action, context, Run { failed: Some(trace::in_short(&error, self.recipe)), ..run });
                }
                return Err(error);
            }
        };
        fault::point("action.ran");
        devices_left_out(&action.id, &outputs).iter().for_each(|finding| self.report.finding(finding));
        run.written_bytes = trace::written(self.store, action.kind, &outputs, at);
        let (_, trace) = key_and_trace(action, known);
        let found = record(key, &action.id, trace, outputs, began.elapsed());
        self.store.commit_anew(&found)?;
        self.note(action, context, run);
        self.report.finished(&action.id, began.elapsed());
        drop(turn);
        held.remove();
        let one = finished(&found, true);
        Ok((found, one))
    }

    fn kept(&self, decision: &Decision) -> Option<ActionRecord> {
        (decision.verdict == Verdict::Keep).then(|| self.store.record(decision.key.as_ref()?)).flatten()
    }

    pub(super) fn publish(&self, lock: &Lock, work: &Work) -> Result<(PathBuf, BuildInfo), StageError> {
        let (stages, done) = (&work.stages, &work.done);
        actions::gate::options::check(done, &self.recipe.sync)?;
        let not_reproducible =
            work.finished.values().filter(|one| one.differing).map(|one| one.outcome.action.clone()).collect();
        let mut layers = Vec::new();
        for id in &stages.layers {
            layers.push((id.clone(), done.layer(id)?.to_string()));
        }
        Publication {
            recipe: self.recipe,
            store: self.store,
            out: &self.options.out,
            kernel: done.blob(ids::PAYLOAD, "kernel")?,
            kernel_release: done.value(ids::PAYLOAD, "release")?,
            device_trees: device_trees::of(done),
            initrd: done.blob(ids::INITRD, "initrd")?,
            statelite: match self.recipe.statelite {
                Some(_) => Some((done.blob(ids::INITRD_STATELITE, "initrd")?, done.blob(ids::STATELITE, "list")?)),
                None => None,
            },
            kdump: match self.recipe.model.kdump {
                Some(_) => Some(done.blob(ids::INITRD_KDUMP, "initrd")?),
                None => None,
            },
            images: packed_images(self.recipe, done)?,
            layers,
            target: target(self.recipe),
            epoch: lock.epoch,
            not_reproducible,
        }
        .publish()
    }
}
