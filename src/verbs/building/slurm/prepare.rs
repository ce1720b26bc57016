//! What a round of jobs is given: the workspace, results, packages, and what each step is to do.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::place::Place;
use super::{Jobs, real};
use crate::Exit;
use crate::plans::planned::{plan_of, stage_failed};
use crate::verbs::building::on::gathered::Looking;
use base::digest::Digest;
use build::{NeedsOfAction, StageGraph, give, here, ids, init_for, memory_of, needs_of, package_files};
use cache::Cache;
use files::{Aside, Durability};
use plan::{ActionKind, Step, chains_of, steps_of};
use remote::away::parcel::{FILES, VERSION as PARCEL, place, remove};
use remote::away::{Gathered, Item, Manifest, What};
use remote::slurm::SlurmError;
use remote::slurm::order::{ORDER, Order, OrderedStep, VERSION, step_directory, write};
use remote::slurm::submit::{MOST_TASKS, script};
use sandbox::emulator::HostCpu;

/// What each job needs besides its actions, in MiB.
const OWN_MEMORY: u64 = 512;
/// Shortest time limit, in minutes, and what is added to an estimate.
const SPARE_MINUTES: u64 = 15;

pub(super) struct Work {
    pub steps: Vec<Step>,
    /// What their actions need, by image and id.
    needs: BTreeMap<String, NeedsOfAction>,
    /// How long each is expected to take, in milliseconds.
    expected: BTreeMap<String, u64>,
    /// Keys that the store has, and steps need.
    given: BTreeSet<Digest>,
}

pub(super) struct Round {
    pub directory: PathBuf,
    pub steps: Vec<Step>,
    pub order: Order,
    /// CPUs, MiB and minutes of each submission.
    pub asks: Vec<Asks>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Asks {
    pub cpus: usize,
    pub mebibytes: u64,
    /// Time in minutes; none for what the partition gives.
    pub minutes: Option<u64>,
}

impl Asks {
    fn with(self, other: Self) -> Self {
        let minutes = self.minutes.zip(other.minutes).map(|(one, two)| one.max(two));
        Self { cpus: self.cpus.max(other.cpus), mebibytes: self.mebibytes.max(other.mebibytes), minutes }
    }
}

impl Jobs<'_> {
    pub(super) fn work(&self) -> Result<Work, Exit> {
        let mut graphs: Vec<(String, StageGraph)> = Vec::new();
        let (mut needs, mut expected, mut given) = (BTreeMap::new(), BTreeMap::new(), BTreeSet::new());
        let mut wanted = BTreeSet::new();
        for builder in self.builders {
            let recipe = builder.recipe;
            let name = &recipe.model.image.name;
            let lock = match recipe.lock() {
                Ok(Some(lock)) => lock,
                // It was just made, or said to be fresh.
                _ => return Err(Exit::Input),
            };
            let (stages, of_actions) = needs_of(builder, &lock).map_err(stage_failed)?;
            let one = here(recipe, builder.store, self.publish, HostCpu::here().machine()).map_err(stage_failed)?;
            let until = self.own.until;
            let asked = stages.graph.with_all_below(|action| until.is_none_or(|until| action.stage <= until));
            let missing = one.missing.unwrap_or_default();
            wanted.extend(missing.intersection(&asked).map(|id| format!("{name}/{id}")));
            given.extend(one.needed);
            if !missing.is_empty()
                && let Ok(planned) = plan_of(recipe, builder.store, &recipe.out, self.publish)
            {
                let known = planned.estimate.into_iter().flat_map(|estimate| estimate.actions);
                let known = known.filter_map(|one| Some((format!("{name}/{}", one.action), one.milliseconds?)));
                expected.extend(known);
            }
            needs.extend(of_actions.into_iter().map(|(id, needs)| (format!("{name}/{id}"), needs)));
            graphs.push((name.clone(), stages));
        }
        let graphs: Vec<_> = graphs.iter().map(|(name, stages)| (name.as_str(), &stages.graph)).collect();
        let steps = chains_of(steps_of(&graphs, ids::PUBLISH), &|action| wanted.contains(action));
        Ok(Work { steps, needs, expected, given })
    }

    /// Has in a directory what the jobs of a round need.
    pub(super) fn prepare(&self, at: &Place, round: u32, work: &Work) -> Result<Round, Exit> {
        let directory = at.directory.join(round.to_string());
        let refused = |problem: String| {
            self.failed(SlurmError::Directory { directory: directory.display().to_string(), problem })
        };
        let unsent = |problem: String| {
            self.failed(SlurmError::Unsent { problem, remedy: "build with --executor local, or change the recipe" })
        };
        let shared = at.directory.parent().map(Path::to_owned).into_iter().collect::<Vec<_>>();
        let looking = Looking {
            arguments: self.arguments,
            are_named: !self.own.images.is_empty(),
            builders: self.builders,
            store: &self.setup.store,
            publish: self.publish,
            without: &shared,
        };
        let (gathered, root) = looking.gathered()?.map_err(unsent)?;
        std::fs::create_dir_all(directory.join("steps")).map_err(|error| refused(error.to_string()))?;
        let start = real(&self.arguments.directory);
        let start = start.strip_prefix(&root).unwrap_or(Path::new("")).to_owned();
        self.put_workspace(&directory, &gathered, (&root, &start)).map_err(refused)?;
        self.put_results(at, work)?;
        self.put_packages(at, work)?;
        let (submissions, asks) = self.submissions(work);
        let mut init = BTreeMap::new();
        for builder in self.builders {
            let arch = builder.recipe.model.image.arch;
            let name = PathBuf::from(format!("init-{}", arch.machine()));
            let bytes = init_for(arch).map_err(stage_failed)?;
            std::fs::write(directory.join(&name), bytes).map_err(|error| refused(error.to_string()))?;
            init.insert(format!("IMGBUILD_INIT_{}", arch.machine().to_uppercase()), name);
        }
        let ordered = |step: &Step| OrderedStep {
            actions: step.actions.clone(),
            packages: packages_of(step, work),
            cpus: self.asks(step, work).cpus,
        };
        let order = Order {
            version: VERSION,
            root,
            owners: gathered.owners,
            start,
            words: self.words(),
            init,
            store: self.settings.store.as_ref().map(PathBuf::from),
            steps: work.steps.iter().map(ordered).collect(),
            submissions,
        };
        for step in 0..order.steps.len() {
            std::fs::create_dir(step_directory(&directory, step)).map_err(|error| refused(error.to_string()))?;
        }
        for submission in 0..order.submissions.len() {
            let text = script(&at.program, &directory, submission).map_err(refused)?;
            std::fs::write(directory.join(format!("{submission}.sh")), text)
                .and_then(|()| std::fs::create_dir(directory.join(format!("{submission}.said"))))
                .map_err(|error| refused(error.to_string()))?;
        }
        write(&directory.join(ORDER), &order).map_err(refused)?;
        Ok(Round { directory, steps: work.steps.clone(), order, asks })
    }

    /// The workspace as it is now: jobs may wait for hours, and it is edited meanwhile.
    fn put_workspace(&self, to: &Path, gathered: &Gathered, (root, start): (&Path, &Path)) -> Result<(), String> {
        let said = |error: std::io::Error| error.to_string();
        let files = to.join(FILES);
        std::fs::create_dir(&files).map_err(said)?;
        for (digest, path) in &gathered.files {
            let copy = files.join(digest.to_string());
            std::fs::copy(path, &copy).map_err(|error| format!("`{}`: {error}", path.display()))?;
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(std::fs::File::open(&copy).map_err(said)?).map_err(said)?;
            if Digest(*hasher.finalize().as_bytes()) != *digest {
                return Err(format!("`{}` changed while it was copied; build again", path.display()));
            }
        }
        let mut items = gathered.items.clone();
        let folder = Path::new("ws").join(start);
        if !items.iter().any(|item| item.place == folder) {
            items.push(Item { place: folder, what: What::Folder(0o755) });
        }
        let manifest = Manifest {
            version: PARCEL,
            root: root.to_owned(),
            start: start.to_owned(),
            words: Vec::new(),
            init: (String::new(), Digest::of(b"")),
            locks: Vec::new(),
            had: BTreeSet::new(),
            needed: BTreeSet::new(),
            wanted: BTreeMap::new(),
            items,
            owners: BTreeMap::new(),
            patience: 0,
        };
        place(to, &manifest)?;
        remove(&files).map_err(said)
    }

    /// Results that steps need and no job makes.
    fn put_results(&self, at: &Place, work: &Work) -> Result<(), Exit> {
        let results = at.results().display().to_string();
        let refused = |problem: String| self.failed(SlurmError::Directory { directory: results.clone(), problem });
        let cache = Cache::of_directory(std::path::Path::new(&results)).map_err(|error| refused(error.to_string()))?;
        let Some(builder) = self.builders.first() else { return Ok(()) };
        give(builder, &cache, work.given.iter().copied()).map_err(stage_failed)
    }

    /// Packages that steps are given: compute nodes need no way to a mirror.
    fn put_packages(&self, at: &Place, work: &Work) -> Result<(), Exit> {
        let to = at.directory.join("packages");
        let refused =
            |problem: String| self.failed(SlurmError::Directory { directory: to.display().to_string(), problem });
        for builder in self.builders {
            let of_image = format!("{}/", builder.recipe.model.image.name);
            let actions = work.steps.iter().flat_map(|step| &step.actions).filter(|one| one.starts_with(&of_image));
            let packages: Vec<_> = actions
                .filter_map(|action| work.needs.get(action))
                .flat_map(|needs| needs.packages.iter().cloned())
                .collect();
            for (digest, from) in package_files(builder, &packages).map_err(stage_failed)? {
                let copy = to.join(&digest);
                if copy.exists() {
                    continue;
                }
                let copied = || -> std::io::Result<()> {
                    let mut aside = Aside::of(&copy, 0o600)?;
                    std::io::copy(&mut std::fs::File::open(&from)?, &mut aside)?;
                    aside.replace(Durability::Kill)
                };
                copied().map_err(|error| refused(error.to_string()))?;
            }
        }
        Ok(())
    }

    /// Steps that need as many CPUs are one array where they wait for the same ones, or each for the tasks of its number in
    /// the same arrays: then a chain need not wait for the others' slowest.
    fn submissions(&self, work: &Work) -> (Vec<BTreeMap<usize, usize>>, Vec<Asks>) {
        let asks: Vec<Asks> = work.steps.iter().map(|step| self.asks(step, work)).collect();
        let alike: Vec<(usize, bool)> = asks.iter().map(|asks| (asks.cpus, asks.minutes.is_some())).collect();
        let after: Vec<&[usize]> = work.steps.iter().map(|step| step.after.as_slice()).collect();
        let submissions = arrays(&after, &alike);
        let joined = |members: &BTreeMap<usize, usize>| {
            let all = members.values().filter_map(|step| asks.get(*step)).copied();
            all.reduce(Asks::with).unwrap_or_default()
        };
        let asks = submissions.iter().map(joined).collect();
        (submissions, asks)
    }

    fn asks(&self, step: &Step, work: &Work) -> Asks {
        let kinds: Vec<ActionKind> =
            step.actions.iter().filter_map(|action| work.needs.get(action)).map(|needs| needs.kind).collect();
        let cpus = if kinds.iter().all(|kind| kind.is_quick()) { 1 } else { usize::from(self.settings.cpus.max(1)) };
        let most = kinds.iter().map(|kind| memory_of(*kind, cpus) >> 20).max().unwrap_or(0);
        let mebibytes = (most + OWN_MEMORY).max(self.settings.memory.unwrap_or(0));
        let expected: Option<u64> = step.actions.iter().map(|action| work.expected.get(action)).sum();
        // A compute node may be slower, and its store colder.
        let minutes = expected.map(|milliseconds| milliseconds * 3 / 60_000 + SPARE_MINUTES);
        let minutes = match (minutes, self.settings.minutes) {
            (Some(minutes), Some(least)) => Some(minutes.max(least)),
            (minutes, least) => minutes.or(least),
        };
        Asks { cpus, mebibytes, minutes }
    }

    fn words(&self) -> Vec<String> {
        let arguments = self.arguments;
        let mut words = vec!["--progress=plain".to_owned()];
        words.extend((0..arguments.verbose).map(|_| "-v".to_owned()));
        words.push(format!("--script-minutes={}", arguments.script_minutes.as_secs_f64() / 60.0));
        words.extend(std::env::var("IMGBUILD_SCRIPT_LIMITS").ok().map(|limits| format!("--script-limits={limits}")));
        words
    }
}

fn packages_of(step: &Step, work: &Work) -> Vec<String> {
    let needs = step.actions.iter().filter_map(|action| work.needs.get(action));
    let all: BTreeSet<String> =
        needs.flat_map(|needs| &needs.packages).map(|package| package.sha256.to_string()).collect();
    all.into_iter().collect()
}

/// Puts steps together, each after those that it waits for: the steps of each submission by the numbers of their tasks. What
/// `alike` has of steps is the same for all of an array.
fn arrays<A: Copy + Ord>(after: &[&[usize]], alike: &[A]) -> Vec<BTreeMap<usize, usize>> {
    #[derive(PartialEq, Eq, PartialOrd, Ord)]
    enum Waits<'a> {
        Same(&'a [usize]),
        /// For these submissions of one job, and the own tasks of these arrays.
        Own(BTreeSet<usize>),
    }
    let mut how_many: BTreeMap<&[usize], usize> = BTreeMap::new();
    after.iter().for_each(|after| *how_many.entry(after).or_default() += 1);
    let mut all: Vec<BTreeMap<usize, usize>> = Vec::new();
    let mut open: BTreeMap<(Waits<'_>, A), Vec<usize>> = BTreeMap::new();
    // Arrays are whole before what waits for their tasks is looked at.
    let mut depths: Vec<usize> = Vec::new();
    for after in after {
        depths.push(after.iter().filter_map(|step| depths.get(*step)).max().map_or(0, |depth| depth + 1));
    }
    let mut order: Vec<usize> = (0..after.len()).collect();
    order.sort_by_key(|step| depths[*step]);
    // Submission and task of each step.
    let mut places: BTreeMap<usize, (usize, usize)> = BTreeMap::new();
    for step in order {
        let (after, alike) = (after[step], alike[step]);
        let waits: Vec<(usize, usize)> = after.iter().filter_map(|step| places.get(step)).copied().collect();
        let tasks: BTreeSet<usize> = waits.iter().filter(|(at, _)| all[*at].len() > 1).map(|(_, task)| *task).collect();
        // Whichever makes fewer submissions.
        let tasks_of_others = waits.iter().map(|(at, _)| all[*at].len()).max().unwrap_or(0);
        let is_own = tasks.len() == 1 && how_many.get(after).is_some_and(|steps| *steps <= tasks_of_others);
        let own = tasks.first().copied().filter(|_| is_own);
        let waits = match own {
            Some(_) => Waits::Own(waits.iter().map(|(at, _)| *at).collect::<BTreeSet<_>>()),
            None => Waits::Same(after),
        };
        let has_room = |members: &BTreeMap<usize, usize>| {
            members.len() < MOST_TASKS && own.is_none_or(|task| !members.contains_key(&task))
        };
        let alike = open.entry((waits, alike)).or_default();
        let at = alike.iter().copied().find(|at| has_room(&all[*at])).unwrap_or(all.len());
        if at == all.len() {
            alike.push(at);
            all.push(BTreeMap::new());
        }
        let task = own.unwrap_or(all[at].len());
        all[at].insert(task, step);
        places.insert(step, (at, task));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chains_of_images_are_arrays_whose_tasks_wait_for_their_own() {
        // A base for all, three chains of two steps, the last of which has a step between, and one that waits for two chains.
        let after: [&[usize]; 9] = [&[], &[0], &[0], &[0], &[1], &[2], &[3], &[6], &[4, 5]];
        let of = |pairs: &[(usize, usize)]| pairs.iter().copied().collect::<BTreeMap<usize, usize>>();
        let same = [2; 9];
        let expected =
            [of(&[(0, 0)]), of(&[(0, 1), (1, 2), (2, 3)]), of(&[(0, 4), (1, 5), (2, 6)]), of(&[(2, 7)]), of(&[(0, 8)])];
        assert_eq!(arrays(&after, &same), expected);
        // What asks for more is not of the array, and what follows keeps its number.
        let mut unlike = same;
        unlike[4] = 1;
        let all = arrays(&after, &unlike);
        assert_eq!(all[2], of(&[(0, 4)]));
        assert_eq!(all[3], of(&[(1, 5), (2, 6)]));
        // Where many wait for one task they are an array; where few do for each of many, one for each.
        let after: [&[usize]; 6] = [&[], &[], &[1], &[1], &[1], &[0]];
        assert_eq!(arrays(&after, &[2; 6]), [of(&[(0, 0), (1, 1)]), of(&[(0, 2), (1, 3), (2, 4)]), of(&[(0, 5)])]);
        let after: [&[usize]; 6] = [&[], &[], &[1], &[1], &[0], &[0]];
        assert_eq!(arrays(&after, &[2; 6]), [of(&[(0, 0), (1, 1)]), of(&[(0, 4), (1, 2)]), of(&[(0, 5), (1, 3)])]);
    }

    #[test]
    fn no_array_has_more_tasks_than_slurm_takes() {
        let after: Vec<&[usize]> = vec![&[]; MOST_TASKS * 2 + 1];
        let all = arrays(&after, &vec![2; after.len()]);
        assert_eq!(all.iter().map(BTreeMap::len).collect::<Vec<_>>(), [MOST_TASKS, MOST_TASKS, 1]);
    }
}
