//! Runs a plan: the only place that commits actions to the store.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::StageError;
use super::actions::{StageGraph, graph_of, kernel_packages};
use super::artefacts::{BuildInfo, Publication};
use super::lock::{LockState, Locking, lock_state};
use super::past::StorePast;
use super::report::Report;
use super::results::{Done, missing, record};
use super::schedule::run_side_by_side;
use super::supply::Supply;
use super::wish::target;
use crate::digest::Digest;
use crate::distro::Fetcher;
use crate::plan::{Action, Decision, Verdict, decide, evaluate, key_and_trace};
use crate::recipe::{LOCK_FILE, Lock, LockedPass, PinnedPackage, Recipe};
use crate::sandbox::Namespace;
use crate::source::{Finding, Severity};
use crate::store::{ActionRecord, FileLock, Root, Store};

/// imgbuild-init, made by the build script.
pub(super) const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init"));

/// imgbuild-init: the program of each initrd.
pub fn init_program() -> &'static [u8] {
    INIT
}

/// What a build is to do.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Fail rather than renew the lock.
    pub locked: bool,
    /// Stop after this stage.
    pub until: Option<crate::plan::Stage>,
    /// Where artefacts go.
    pub out: PathBuf,
    /// The mirror that overrides the recipe's sources.
    pub mirror: Option<String>,
}

/// What became of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The action.
    pub action: String,
    /// Whether it ran.
    pub ran: bool,
    /// How long it took.
    pub took: Duration,
}

/// What is remembered of an action until the build ends.
struct Finished {
    key: Digest,
    differing: bool,
    outcome: Outcome,
}

/// What the work on one action may use.
pub(super) struct Context<'a> {
    /// The actions.
    pub stages: &'a StageGraph,
    /// The lock.
    pub lock: &'a Lock,
    /// Results so far.
    pub done: &'a Done,
    /// Packages.
    pub supply: &'a Supply<'a>,
}

/// How many lines of a lock's difference are shown.
const SHOWN_DIFFERENCES: usize = 30;

/// How many actions run at once at most; more would only wait for the same disk and the same layers.
const SIDE_BY_SIDE: usize = 4;

/// What a build did.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Actions in order.
    pub outcomes: Vec<Outcome>,
    /// The published directory and what is in it, unless the build was to stop before.
    pub published: Option<(PathBuf, BuildInfo)>,
}

/// Builds one image.
pub struct Builder<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The store.
    pub store: &'a Store,
    /// Where operations run.
    pub namespace: &'a Namespace,
    /// What to do.
    pub options: Options,
    /// Takes news.
    pub report: &'a dyn Report,
}

impl Builder<'_> {
    /// Locks where that is needed, runs what is not there yet, publishes.
    ///
    /// # Errors
    /// [`StageError`]; nothing is published then, and finished actions stay in the store.
    pub fn build(&self) -> Result<Summary, StageError> {
        let fetcher = Fetcher::new();
        let mirror = self.options.mirror.as_deref();
        let supply = Supply::new(self.recipe, mirror, (self.store, self.namespace), &fetcher, self.report)?;
        let lock = self.lock(&fetcher, &supply)?;
        let init = self.store.ensure_blob(INIT)?;
        let stages = graph_of(self.recipe, &lock, &init.digest)?;
        let name = self.recipe.model.image.name.clone();
        let root = self.store.root(&self.recipe.directory, &name);
        let past = StorePast::new(self.store, root);
        let wanted = self.options.until.map(|until| stages.graph.with_all_below(|action| action.stage <= until));
        let in_order: Vec<&Action> = stages
            .graph
            .in_order()
            .filter(|action| wanted.as_ref().is_none_or(|wanted| wanted.contains(&action.id)))
            .collect();
        let finished: Mutex<BTreeMap<String, Finished>> = Mutex::default();
        let workers = rayon::current_num_threads().min(SIDE_BY_SIDE);
        let groups = self.packages_to_bring(&stages, &in_order, &lock, &past);
        let done = std::thread::scope(|scope| {
            scope.spawn(|| supply.bring(&groups));
            let done = run_side_by_side(&in_order, workers, &|action, known| {
                let context = Context { stages: &stages, lock: &lock, done: known, supply: &supply };
                let (record, one) = self.ensure(action, &context, &past)?;
                let mut finished = finished.lock().unwrap_or_else(PoisonError::into_inner);
                finished.insert(action.id.clone(), one);
                Ok(record.outputs)
            });
            supply.stop();
            done
        })?;
        let mut finished = finished.into_inner().unwrap_or_else(PoisonError::into_inner);
        let keys: BTreeMap<String, Digest> = finished.iter().map(|(id, one)| (id.clone(), one.key)).collect();
        let mut outcomes = Vec::new();
        let mut differing = Vec::new();
        for one in in_order.iter().filter_map(|action| finished.remove(&action.id)) {
            if one.differing {
                differing.push(one.outcome.action.clone());
            }
            outcomes.push(one.outcome);
        }
        let published = if self.options.until.is_none_or(|until| until == crate::plan::Stage::Pack) {
            Some(self.publish(&stages, &lock, &done, differing)?)
        } else {
            None
        };
        // A build that stopped early keeps what it did not reach.
        let earlier = self.store.root(&self.recipe.directory, &name).unwrap_or_default();
        let mut actions = if published.is_some() { BTreeMap::new() } else { earlier.actions };
        actions.extend(keys);
        self.store.set_root(&Root {
            format: 1,
            image: name,
            recipe: self.recipe.directory.clone(),
            published: published.as_ref().map_or(earlier.published, |(path, _)| path.clone()),
            actions,
            frames: done.0.get("pack/rootimg").map_or(earlier.frames, |outputs| outputs.frames.clone()),
            packages: lock.pass.iter().flat_map(|pass| pass.packages.iter().map(|package| package.sha256)).collect(),
        })?;
        Ok(Summary { outcomes, published })
    }

    /// Packages of the actions that will surely run, in the order in which they are needed.
    fn packages_to_bring(
        &self,
        stages: &StageGraph,
        in_order: &[&Action],
        lock: &Lock,
        past: &StorePast<'_>,
    ) -> Vec<Vec<PinnedPackage>> {
        let decisions = evaluate(&stages.graph, past);
        let runs = |id: &str| {
            in_order.iter().any(|action| action.id == id)
                && decisions.iter().any(|decision| decision.action == id && decision.verdict == Verdict::Run)
        };
        let packages = |pass: &LockedPass| pass.packages.clone();
        let mut groups = Vec::new();
        for pass in &lock.pass {
            if pass.name == "kernel" && runs("kernel/payload") {
                groups.push(kernel_packages(lock, &pass.packages));
            }
            if runs(&format!("rootfs/{}", pass.name)) {
                groups.push(packages(pass));
            }
        }
        groups
    }

    /// Gives the record of an action: the store's, or that of a run now.
    fn ensure(
        &self,
        action: &Action,
        context: &Context<'_>,
        past: &StorePast<'_>,
    ) -> Result<(ActionRecord, Finished), StageError> {
        let known = context.done;
        let began = Instant::now();
        let decision = decide(action, known, past, &[]);
        let key = decision.key.ok_or_else(|| missing(&action.id))?;
        let finished = |found: &ActionRecord, ran| Finished {
            key,
            differing: found.differing.is_some(),
            outcome: Outcome { action: action.id.clone(), ran, took: began.elapsed() },
        };
        if let Some(found) = self.kept(&decision) {
            let one = finished(&found, false);
            return Ok((found, one));
        }
        // Two builds at once: the second waits and finds the first one's record.
        let held = FileLock::take(&self.store.directory().join("locks").join(key.to_string()))?;
        if let Some(found) = self.store.record(&key).filter(|found| self.store.has_outputs(&found.outputs)) {
            let one = finished(&found, false);
            return Ok((found, one));
        }
        self.report.started(&action.id, &decision.causes);
        let outputs = self.run(action, context)?;
        let (_, trace) = key_and_trace(action, known);
        let found = self.store.commit(record(key, &action.id, trace, outputs, began.elapsed()))?;
        self.report.finished(&action.id, began.elapsed());
        held.remove();
        let one = finished(&found, true);
        Ok((found, one))
    }

    fn kept(&self, decision: &Decision) -> Option<ActionRecord> {
        (decision.verdict == Verdict::Keep).then(|| self.store.record(decision.key.as_ref()?)).flatten()
    }

    /// The lock, renewed where the recipe asks for what it lacks.
    fn lock(&self, fetcher: &Fetcher, supply: &Supply<'_>) -> Result<Lock, StageError> {
        let path = self.recipe.directory.join(LOCK_FILE);
        let earlier = match std::fs::read_to_string(&path) {
            Ok(text) => Some(Lock::parse(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(StageError::Input { file: LOCK_FILE.to_owned(), source }),
        };
        let now = jiff::Timestamp::now().as_second();
        if let Some(lock) = earlier.as_ref().filter(|lock| lock.epoch > now) {
            return Err(StageError::Clock { epoch: lock.epoch, now });
        }
        let causes = match (lock_state(self.recipe, earlier.as_ref()), earlier.as_ref()) {
            (LockState::Fresh, Some(lock)) => return Ok(lock.clone()),
            (LockState::Fresh, None) => Vec::new(),
            (LockState::Stale(causes), _) => causes,
        };
        if self.options.locked {
            let problem = causes.iter().map(|cause| cause.message.clone()).collect::<Vec<_>>().join("; ");
            return Err(StageError::Locked { problem });
        }
        let locking = Locking {
            recipe: self.recipe,
            store: self.store,
            namespace: self.namespace,
            fetcher,
            supply,
            mirror: self.options.mirror.as_deref(),
            report: self.report,
        };
        let lock = locking.resolve(earlier.as_ref().filter(|lock| lock.target == target(self.recipe)))?;
        self.say_difference(earlier.as_ref(), &lock);
        let aside = self.recipe.directory.join(format!(".{LOCK_FILE}.{}", std::process::id()));
        let said = |source| StageError::Publish { intent: "write", path: path.display().to_string(), source };
        std::fs::write(&aside, lock.to_text()).and_then(|()| std::fs::rename(&aside, &path)).map_err(said)?;
        Ok(lock)
    }

    /// Says what a renewed lock changed.
    fn say_difference(&self, earlier: Option<&Lock>, lock: &Lock) {
        let Some(earlier) = earlier else { return };
        let lines = lock.difference(earlier);
        for line in lines.iter().take(SHOWN_DIFFERENCES) {
            self.report.finding(&Finding::nowhere(Severity::Note, "lock::changed", format!("image.lock: {line}")));
        }
        if lines.len() > SHOWN_DIFFERENCES {
            let more = format!("image.lock: and {} more; see the difference in git", lines.len() - SHOWN_DIFFERENCES);
            self.report.finding(&Finding::nowhere(Severity::Note, "lock::changed", more));
        }
    }

    fn publish(
        &self,
        stages: &StageGraph,
        lock: &Lock,
        done: &Done,
        not_reproducible: Vec<String>,
    ) -> Result<(PathBuf, BuildInfo), StageError> {
        let mut layers = Vec::new();
        for id in &stages.layers {
            layers.push((id.clone(), done.layer(id)?.to_string()));
        }
        Publication {
            recipe: self.recipe,
            store: self.store,
            out: &self.options.out,
            kernel: done.blob("kernel/payload", "kernel")?,
            kernel_release: done.value("kernel/payload", "release")?,
            initrd: done.blob("initrd/stateless", "initrd")?,
            index: done.blob("pack/rootimg", "index")?,
            frames: done.0.get("pack/rootimg").map(|outputs| outputs.frames.clone()).unwrap_or_default(),
            memory: done.value("pack/rootimg", "memory")?.parse().unwrap_or(0),
            layers,
            target: target(self.recipe),
            epoch: lock.epoch,
            not_reproducible,
        }
        .publish()
    }
}
