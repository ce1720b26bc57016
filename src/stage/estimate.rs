//! How long a build will take, what it writes and what it downloads, from what earlier builds in this store took.
//!
//! Time and bytes written are guesses and are called so wherever they are shown. The download is no guess: it is the
//! sizes in image.lock of the packages that the store lacks. What nothing is known of is named, and never counted as zero.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::given::{PUBLISH, bytes_of, packages_of};
use super::origin::is_fetched;
use super::wish::target;
use crate::distro::manager;
use crate::plan::{Action, ActionGraph, Decision, Verdict};
use crate::recipe::{Lock, PinnedPackage, Recipe};
use crate::store::{PastBuild, Run, Store};

/// How many earlier runs a figure is the middle of.
const RUNS: usize = 3;
/// How many images are looked at for runs of the same kind.
const IMAGES: usize = 20;
/// A run of other packages is scaled by their bytes, but not beyond this.
const SCALE: (f64, f64) = (0.1, 20.0);

/// Where a figure comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// Earlier runs of this action of this image.
    Same,
    /// Runs of the same kind, of the same distribution where there are any; scaled by the bytes of the packages.
    Like,
    /// Nothing: the figures are null.
    Unknown,
}

/// What is expected of one action.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct ActionEstimate {
    /// The action.
    pub action: String,
    /// Whether it surely runs; otherwise it depends.
    pub surely: bool,
    /// Time in milliseconds, estimated.
    pub milliseconds: Option<u64>,
    /// Bytes that it writes to the store, estimated.
    pub written_bytes: Option<u64>,
    /// Where the figures come from.
    pub from: Source,
}

/// From the least, where nothing runs that depends, to the most, where all of that runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Range {
    /// Without what depends.
    pub least: u64,
    /// With it.
    pub most: u64,
}

/// What a build is expected to take. All but the download is estimated from earlier builds in the same store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Estimate {
    /// Time in milliseconds along the critical path, without the actions in `unknown`; null where nothing is known.
    pub milliseconds: Option<Range>,
    /// Bytes written to the store and to the artefacts, without the actions in `unknown`; null where nothing is known.
    pub written_bytes: Option<Range>,
    /// Bytes of packages that the store lacks. Exact: the sizes in image.lock; null before the packages are resolved.
    pub download_bytes: Option<Range>,
    /// How many packages that are.
    pub download_packages: Option<Range>,
    /// Time in milliseconds that the whole download takes at the speed of earlier ones; null where there were none.
    pub download_milliseconds: Option<u64>,
    /// How many actions run at once.
    pub workers: usize,
    /// Actions that decide how long it takes, one after another; where all runs that depends.
    pub critical_path: Vec<String>,
    /// Actions of which nothing is known.
    pub unknown: Vec<String>,
    /// Each action that runs or may run.
    pub actions: Vec<ActionEstimate>,
}

/// What a build took, in the units of [`Estimate`]; without resolving packages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Facts {
    /// Time in milliseconds.
    pub milliseconds: u64,
    /// Bytes written to the store and to the artefacts.
    pub written_bytes: u64,
    /// Bytes of packages that were fetched.
    pub downloaded_bytes: u64,
}

/// Earlier runs, read when they are asked for.
pub struct Experience<'a> {
    store: &'a Store,
    recipe: &'a Recipe,
    target: String,
    own: Vec<PastBuild>,
    others: std::cell::OnceCell<Vec<PastBuild>>,
}

/// Whether a run of a build counts.
type Fits<'a> = dyn Fn(&PastBuild, &Run) -> bool + 'a;

fn middle(mut values: Vec<u64>) -> Option<u64> {
    values.sort_unstable();
    values.get(values.len() / 2).copied()
}

/// A figure of a run with other packages.
fn scaled(figure: u64, was: u64, now: u64) -> u64 {
    if was == 0 || now == 0 {
        return figure;
    }
    (figure as f64 * (now as f64 / was as f64).clamp(SCALE.0, SCALE.1)) as u64
}

impl<'a> Experience<'a> {
    /// What a store knows of an image.
    pub fn new(store: &'a Store, recipe: &'a Recipe) -> Self {
        let own = store.builds(&recipe.directory, &recipe.model.image.name);
        Self { store, recipe, target: target(recipe), own, others: std::cell::OnceCell::new() }
    }

    /// Builds of all images, this one's too.
    fn all(&self) -> &[PastBuild] {
        self.others.get_or_init(|| self.store.recent_builds(IMAGES))
    }

    /// Time and bytes of an action with so many bytes of packages.
    fn figure(&self, action: &str, kind: &str, packages: u64) -> (Option<(u64, u64)>, Source) {
        let of = |runs: Vec<&Run>| {
            let figure = |of: &dyn Fn(&Run) -> u64| {
                middle(runs.iter().map(|run| scaled(of(run), run.package_bytes, packages)).collect())
            };
            Some((figure(&|run| run.milliseconds)?, figure(&|run| run.written_bytes)?))
        };
        let good = |build: &'_ PastBuild, fits: &dyn Fn(&Run) -> bool| -> Vec<Run> {
            build.runs.iter().filter(|run| run.failed.is_none() && fits(run)).cloned().collect()
        };
        let newest = |builds: &[PastBuild], fits: &Fits<'_>| -> Vec<Run> {
            let mut found: Vec<(u64, Run)> = Vec::new();
            for build in builds {
                found.extend(good(build, &|run| fits(build, run)).into_iter().map(|run| (build.began.at, run)));
            }
            found.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
            found.into_iter().take(RUNS).map(|(_, run)| run).collect()
        };
        let same = newest(&self.own, &|_, run| run.action == action);
        if let Some(figures) = of(same.iter().collect()) {
            return (Some(figures), Source::Same);
        }
        let name = &self.recipe.model.image.name;
        let tries: [&Fits<'_>; 3] = [
            &|build, run| run.action == action && build.began.target == self.target && build.began.image == *name,
            &|build, run| run.kind == kind && build.began.target == self.target,
            &|_, run| run.kind == kind,
        ];
        for fits in tries {
            let like = newest(self.all(), fits);
            if let Some(figures) = of(like.iter().collect()) {
                return (Some(figures), Source::Like);
            }
        }
        (None, Source::Unknown)
    }

    /// Bytes a millisecond of earlier downloads.
    fn speed(&self) -> Option<f64> {
        let ended = self.all().iter().filter_map(|build| Some((build.began.at, build.end.as_ref()?)));
        let mut ends: Vec<_> = ended.filter(|(_, end)| end.downloaded_bytes > 0).collect();
        ends.sort_by_key(|(at, _)| std::cmp::Reverse(*at));
        let sum = |of: &dyn Fn(&crate::store::End) -> u64| ends.iter().take(RUNS).map(|(_, end)| of(end)).sum::<u64>();
        let (bytes, time) = (sum(&|end| end.downloaded_bytes), sum(&|end| end.download_milliseconds));
        (bytes > 0).then(|| bytes as f64 / time.max(1) as f64)
    }
}

/// One piece of work of the simulation.
#[derive(Debug, Clone, Default)]
struct Task {
    id: String,
    needs: Vec<usize>,
    /// What it takes, in milliseconds.
    takes: u64,
    /// When its packages are there, in milliseconds.
    ready: u64,
}

/// Does as the scheduler does: the first that is ready, in order. Gives when all is done, and the chain that decided it.
fn simulate(tasks: &[Task], workers: usize) -> (u64, Vec<String>) {
    let mut ended: Vec<Option<u64>> = vec![None; tasks.len()];
    let mut because: Vec<Option<usize>> = vec![None; tasks.len()];
    // When each worker is free, and what it did last.
    let mut free: Vec<(u64, Option<usize>)> = vec![(0, None); workers.max(1)];
    for _ in 0..tasks.len() {
        let mut best: Option<(u64, usize, Option<usize>)> = None;
        let (at, last) = *free.iter().min_by_key(|(at, _)| *at).unwrap_or(&(0, None));
        for (index, task) in tasks.iter().enumerate().filter(|(index, _)| ended[*index].is_none()) {
            let Some(needs) = task.needs.iter().map(|need| Some((ended[*need]?, *need))).collect::<Option<Vec<_>>>()
            else {
                continue;
            };
            let latest = needs.into_iter().max();
            let ready = latest.map_or(0, |(end, _)| end);
            let why = if ready >= at { latest.map(|(_, need)| need) } else { last };
            let start = ready.max(at);
            if best.is_none_or(|(sooner, ..)| start < sooner) {
                best = Some((start, index, why));
            }
        }
        let Some((start, index, why)) = best else { break };
        let end = start.max(tasks[index].ready) + tasks[index].takes;
        ended[index] = Some(end);
        because[index] = why;
        if let Some(worker) = free.iter_mut().min_by_key(|(at, _)| *at) {
            *worker = (end, Some(index));
        }
    }
    let last = (0..tasks.len()).max_by_key(|index| ended[*index]);
    let mut path = Vec::new();
    let mut here = last;
    while let Some(index) = here {
        if tasks[index].takes > 0 {
            path.push(tasks[index].id.clone());
        }
        here = because[index];
    }
    path.reverse();
    (last.and_then(|index| ended[index]).unwrap_or(0), path)
}

/// What a build of these decisions is expected to take; none where it has nothing to do.
///
/// `until_end` says whether it publishes, `workers` how many actions run at once.
pub fn estimate_of(
    experience: &Experience<'_>,
    graph: &ActionGraph,
    decisions: &[Decision],
    lock: &Lock,
    until_end: bool,
    workers: usize,
) -> Option<Estimate> {
    let (recipe, store) = (experience.recipe, experience.store);
    let verdict = |id: &str| decisions.iter().find(|one| one.action == id).map_or(Verdict::Keep, |one| one.verdict);
    if graph.in_order().all(|action| verdict(&action.id) == Verdict::Keep) {
        return None;
    }
    let manager = manager(recipe);
    let lacking = |action: &Action| -> Vec<PinnedPackage> {
        let mut packages = packages_of(manager, lock, action);
        packages.retain(|package| is_fetched(package) && !crate::witness::is_file(&store.package(&package.sha256)));
        packages
    };
    let mut estimated = Vec::new();
    let mut lacks: BTreeMap<String, Vec<PinnedPackage>> = BTreeMap::new();
    for action in graph.in_order().filter(|action| verdict(&action.id) != Verdict::Keep) {
        let packages = packages_of(manager, lock, action);
        let (figures, from) = experience.figure(&action.id, action.kind, bytes_of(&packages));
        lacks.insert(action.id.clone(), lacking(action));
        estimated.push(ActionEstimate {
            action: action.id.clone(),
            surely: verdict(&action.id) == Verdict::Run,
            milliseconds: figures.map(|(time, _)| time),
            written_bytes: figures.map(|(_, bytes)| bytes),
            from,
        });
    }
    if until_end {
        let (figures, from) = experience.figure(PUBLISH, PUBLISH, 0);
        estimated.push(ActionEstimate {
            action: PUBLISH.to_owned(),
            surely: true,
            milliseconds: figures.map(|(time, _)| time),
            written_bytes: figures.map(|(_, bytes)| bytes),
            from,
        });
    }
    let fetched = |surely: bool| -> (u64, u64) {
        let ids = estimated.iter().filter(|one| one.surely || !surely).filter_map(|one| lacks.get(&one.action));
        let mut seen = BTreeSet::new();
        let packages: Vec<_> = ids.flatten().filter(|package| seen.insert(package.sha256)).collect();
        (packages.iter().map(|package| package.size).sum(), packages.len() as u64)
    };
    let (least, most) = (fetched(true), fetched(false));
    let speed = if most.0 > 0 { experience.speed() } else { None };
    let run = |surely: bool| simulate(&tasks(graph, &estimated, &lacks, surely, speed), workers);
    let ((shortest, _), (longest, critical_path)) = (run(true), run(false));
    let known = estimated.iter().any(|one| one.milliseconds.is_some());
    let bytes = |surely: bool| -> u64 {
        estimated.iter().filter(|one| one.surely || !surely).filter_map(|one| one.written_bytes).sum()
    };
    let unknown = estimated.iter().filter(|one| one.from == Source::Unknown).map(|one| one.action.clone()).collect();
    Some(Estimate {
        milliseconds: known.then_some(Range { least: shortest, most: longest.max(shortest) }),
        written_bytes: known.then(|| Range { least: bytes(true), most: bytes(false) }),
        download_bytes: Some(Range { least: least.0, most: most.0 }),
        download_packages: Some(Range { least: least.1, most: most.1 }),
        download_milliseconds: match most.0 {
            0 => Some(0),
            bytes => speed.map(|speed| (bytes as f64 / speed) as u64),
        },
        workers,
        critical_path,
        unknown,
        actions: estimated,
    })
}

/// The work of a build as the simulation takes it; what is kept, or not known, takes no time.
fn tasks(
    graph: &ActionGraph,
    estimated: &[ActionEstimate],
    lacks: &BTreeMap<String, Vec<PinnedPackage>>,
    surely: bool,
    speed: Option<f64>,
) -> Vec<Task> {
    let mut tasks: Vec<Task> = Vec::new();
    let mut index: BTreeMap<&str, usize> = BTreeMap::new();
    let mut fetched = BTreeSet::new();
    let mut bytes = 0u64;
    for action in graph.in_order() {
        let one = estimated.iter().find(|one| one.action == action.id).filter(|one| one.surely || !surely);
        let mut ready = 0;
        if let (Some(_), Some(packages), Some(speed)) = (one, lacks.get(&action.id), speed) {
            bytes += packages.iter().filter(|one| fetched.insert(one.sha256)).map(|one| one.size).sum::<u64>();
            ready = if packages.is_empty() { 0 } else { (bytes as f64 / speed) as u64 };
        }
        let needs = action.upstream.iter().map(|upstream| &upstream.action).chain(&action.needs);
        let needs = needs.filter_map(|id| index.get(id.as_str()).copied()).collect();
        index.insert(&action.id, tasks.len());
        let takes = one.and_then(|one| one.milliseconds).unwrap_or(0);
        tasks.push(Task { id: action.id.clone(), needs, takes, ready });
    }
    if let Some(publish) = estimated.iter().find(|one| one.action == PUBLISH) {
        let takes = publish.milliseconds.unwrap_or(0);
        tasks.push(Task { id: PUBLISH.to_owned(), needs: (0..tasks.len()).collect(), takes, ready: 0 });
    }
    tasks
}

/// An action of a plan before the packages are resolved: its name, its kind, and whether it surely runs.
pub type Open = (String, String, bool);

/// What is expected of a build whose packages are not resolved yet. Which packages come is not known, so that actions count
/// with what they took before, one after another.
pub fn estimate_before_lock(experience: &Experience<'_>, open: Vec<Open>, workers: usize) -> Estimate {
    let lock = (super::LOCK_ACTION.to_owned(), "lock".to_owned(), true);
    let all = std::iter::once(lock).chain(open.into_iter().filter(|(id, ..)| id != super::LOCK_ACTION));
    let actions: Vec<ActionEstimate> = all
        .map(|(action, kind, surely)| {
            let (figures, from) = experience.figure(&action, &kind, 0);
            let (milliseconds, written_bytes) = figures.unzip();
            ActionEstimate { action, surely, milliseconds, written_bytes, from }
        })
        .collect();
    let sum = |of: &dyn Fn(&ActionEstimate) -> Option<u64>| {
        let known = |only_sure: bool| -> Vec<u64> {
            actions.iter().filter(|one| one.surely || !only_sure).filter_map(of).collect()
        };
        (!known(false).is_empty()).then(|| Range { least: known(true).iter().sum(), most: known(false).iter().sum() })
    };
    let is_unknown = |one: &&ActionEstimate| one.from == Source::Unknown;
    Estimate {
        milliseconds: sum(&|one| one.milliseconds),
        written_bytes: sum(&|one| one.written_bytes),
        download_bytes: None,
        download_packages: None,
        download_milliseconds: None,
        workers,
        critical_path: actions.iter().filter(|one| !is_unknown(one)).map(|one| one.action.clone()).collect(),
        unknown: actions.iter().filter(is_unknown).map(|one| one.action.clone()).collect(),
        actions: actions.iter().filter(|one| !is_unknown(one)).cloned().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(id: &str, takes: u64, needs: &[usize]) -> Task {
        Task { id: id.to_owned(), needs: needs.to_vec(), takes, ready: 0 }
    }

    #[test]
    fn the_longest_chain_decides_and_is_named() {
        let tasks = [task("a", 5, &[]), task("b", 7, &[0]), task("c", 1, &[0]), task("d", 2, &[1, 2])];
        assert_eq!(simulate(&tasks, 4), (14, vec!["a".to_owned(), "b".to_owned(), "d".to_owned()]));
    }

    #[test]
    fn few_workers_take_longer_and_one_takes_the_sum() {
        let tasks = [task("a", 5, &[]), task("b", 5, &[]), task("c", 5, &[]), task("d", 1, &[0, 1, 2])];
        assert_eq!(simulate(&tasks, 3).0, 6);
        assert_eq!(simulate(&tasks, 2).0, 11);
        assert_eq!(simulate(&tasks, 1).0, 16);
    }

    #[test]
    fn work_waits_for_its_download() {
        let tasks = [Task { ready: 30, ..task("a", 5, &[]) }, task("b", 7, &[])];
        assert_eq!(simulate(&tasks, 2).0, 35);
        assert_eq!(simulate(&[], 2), (0, Vec::new()));
    }

    #[test]
    fn other_packages_scale_a_figure_within_bounds() {
        assert_eq!(scaled(100, 50, 100), 200);
        assert_eq!(scaled(100, 0, 100), 100);
        assert_eq!(scaled(100, 1, 1_000_000), 2_000);
        assert_eq!(middle(vec![9, 1, 5]), Some(5));
        assert_eq!(middle(Vec::new()), None);
    }
}
