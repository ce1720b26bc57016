//! `imgbuild build --executor slurm`: what is missing is made by jobs of Slurm, and comes back by digest.
//!
//! The machine that submits makes locks, downloads packages and publishes; jobs run actions and nothing else.

mod follow;
pub(crate) mod job;
mod place;
mod prepare;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use self::follow::{Ending, Follower};
use self::place::Place;
use super::build_arguments::Arguments;
use crate::output::render;
use crate::output::reporter::Reporter;
use crate::plans::planned::stage_failed;
use crate::{Exit, Setup};
use base::source::{Finding, Severity};
use build::{Builder, Report, Target, bring_cached, ensure_lock, fix_lock, note_failed};
use cache::Cache;
use recipe::{ExecutorKind, Recipe, Workspace, WorkspaceExecutor};
use remote::slurm::SlurmError;
use remote::slurm::order::Fix;
use sandbox::interrupt;
use store::Run;

/// How often what nodes took with them is submitted once more.
const MOST_ROUNDS: u32 = 12;
/// How often that is where nothing came of the time before.
const MOST_IN_VAIN: u32 = 3;

pub(crate) fn executor(arguments: &crate::Arguments, own: &Arguments) -> Option<(WorkspaceExecutor, Option<PathBuf>)> {
    // What is wrong with the file was said.
    let workspace = Workspace::above(&arguments.directory).ok().flatten();
    let root = workspace.as_ref().map(|workspace| workspace.root.clone());
    let settings = workspace.map(|workspace| workspace.model.executor).unwrap_or_default();
    // A job does not submit jobs, and neither does what is to happen on this machine or on another one.
    let is_here = own.on.is_some() || own.away.is_some() || own.job.is_some() || own.verify || own.thorough;
    let is_here = is_here || !own.only.is_empty() || own.plan.is_some();
    let kind = own.executor.unwrap_or(if is_here { ExecutorKind::Local } else { settings.name });
    (kind == ExecutorKind::Slurm).then_some((settings, root))
}

pub(crate) struct Jobs<'a> {
    pub arguments: &'a crate::Arguments,
    pub own: &'a Arguments,
    pub settings: WorkspaceExecutor,
    pub root: Option<PathBuf>,
    pub setup: &'a Setup,
    pub builders: &'a [Builder<'a>],
    pub publish: &'a [Target],
    pub reporter: &'a Reporter,
}

pub(crate) struct Made {
    place: Place,
    pub runs: BTreeMap<String, Vec<Run>>,
    /// Exit code and words of what failed in them, by image.
    pub failed: BTreeMap<String, (u8, String)>,
}

impl Made {
    pub(crate) fn results(&self) -> PathBuf {
        self.place.results()
    }
}

impl Jobs<'_> {
    /// Has everything built that is missing; none where nothing is.
    pub(crate) fn run(&self) -> Result<Option<Made>, Exit> {
        for builder in self.builders {
            ensure_lock(builder).map_err(stage_failed)?;
        }
        super::build::bring_known(self.builders)?;
        interrupt::wait_for_caller();
        let made = self.rounds();
        let is_stopped = interrupt::came();
        interrupt::end_at_once();
        if is_stopped && made.is_ok() {
            return Err(self.stopped());
        }
        made
    }

    fn rounds(&self) -> Result<Option<Made>, Exit> {
        let mut made: Option<Made> = None;
        let mut in_vain = 0;
        for round in 1..=MOST_ROUNDS {
            let work = self.work()?;
            if work.steps.is_empty() {
                return Ok(made);
            }
            let mut now = match made.take() {
                Some(made) => made,
                None => {
                    let place = Place::make(self)?;
                    self.take_results(place.earlier())?;
                    // What an earlier command had built is not built again.
                    if place.had_earlier() {
                        made = Some(Made { place, runs: BTreeMap::new(), failed: BTreeMap::new() });
                        continue;
                    }
                    Made { place, runs: BTreeMap::new(), failed: BTreeMap::new() }
                }
            };
            let prepared = self.prepare(&now.place, round, &work)?;
            let mut follower = Follower::new(self, &now.place, &prepared);
            let ending = match follower.submit() {
                Ok(()) => follower.follow()?,
                Err(exit) => {
                    follower.cancel();
                    return Err(exit);
                }
            };
            let runs = follower.runs();
            let is_any_done = !runs.is_empty();
            for (image, mut runs) in runs {
                now.runs.entry(image).or_default().append(&mut runs);
            }
            self.take_results([now.results()].as_slice())?;
            match ending {
                Ending::Done => {
                    made = Some(now);
                    break;
                }
                Ending::Fixed(_) if self.own.locked => {
                    return Err(self.failed(SlurmError::Unsent {
                        problem: "the lock lacks what jobs found out, and --locked keeps it as it is".to_owned(),
                        remedy: "build once without --locked, and commit the lock",
                    }));
                }
                Ending::Fixed(fixes) => {
                    self.fix(&fixes)?;
                    made = Some(now);
                }
                Ending::Again(error) if !is_any_done && in_vain + 1 >= MOST_IN_VAIN => return Err(self.failed(error)),
                Ending::Again(_) => {
                    in_vain = if is_any_done { 0 } else { in_vain + 1 };
                    made = Some(now);
                }
                Ending::Failed(exit, why) => {
                    let goes_on = self.own.keep_going && self.builders.len() > 1;
                    if goes_on {
                        now.failed = follower.failed();
                        return Ok(Some(now));
                    }
                    for builder in self.builders {
                        let runs = now.runs.get(&builder.recipe.model.image.name).map_or(&[][..], Vec::as_slice);
                        if !runs.is_empty() {
                            note_failed(builder, runs, why.clone());
                        }
                    }
                    return Err(exit);
                }
            }
            if round == MOST_ROUNDS {
                return Err(self.failed(SlurmError::Unsent {
                    problem: format!("after {MOST_ROUNDS} rounds of jobs something is still missing"),
                    remedy: "run the same command again, or build with --executor local",
                }));
            }
        }
        Ok(made)
    }

    fn take_results(&self, directories: &[PathBuf]) -> Result<(), Exit> {
        for directory in directories {
            let cache = Cache::none().with_results(directory);
            for builder in self.builders {
                if let Ok(Some(lock)) = builder.recipe.lock() {
                    bring_cached(builder, &cache, &lock, &|_| true).map_err(stage_failed)?;
                }
            }
        }
        Ok(())
    }

    /// Writes into locks what only running the packages showed.
    fn fix(&self, fixes: &[(String, Fix)]) -> Result<(), Exit> {
        for (image, fix) in fixes {
            let Some(builder) = self.builders.iter().find(|one| one.recipe.model.image.name == *image) else {
                continue;
            };
            let (names, asking) = match fix {
                Fix::Accounts(names) => (names.as_slice(), &[][..]),
                Fix::AsksRelease(pass) => (&[][..], std::slice::from_ref(pass)),
            };
            let text = match fix {
                Fix::Accounts(names) => {
                    format!("{} keeps the ids of {}", builder.recipe.lock_name(), names.join(", "))
                }
                Fix::AsksRelease(pass) => format!(
                    "scripts of {pass} ask for the kernel's release, as {} now records",
                    builder.recipe.lock_name()
                ),
            };
            fix_lock(builder, names, asking).map_err(stage_failed)?;
            self.note("slurm::lock", text);
        }
        Ok(())
    }

    fn note(&self, code: &'static str, text: String) {
        self.reporter.of(None).finding(&Finding::nowhere(Severity::Note, code, text));
    }

    fn warn(&self, code: &'static str, text: String) {
        self.reporter.of(None).finding(&Finding::nowhere(Severity::Warning, code, text));
    }

    fn failed(&self, error: SlurmError) -> Exit {
        let exit = match &error {
            SlurmError::Unsent { .. } => Exit::Input,
            SlurmError::Failed { .. } | SlurmError::Ended { .. } => Exit::Stage,
            _ => Exit::Machine,
        };
        self.reporter.pause(|| render::say(&render::error(error)));
        exit
    }

    fn stopped(&self) -> Exit {
        self.reporter.pause(|| {
            render::say("interrupted: nothing was published; run the same command to continue where it stopped");
        });
        Exit::Interrupted
    }

    /// Where the recipe's own directory is, for those that are in no workspace.
    fn site(&self) -> PathBuf {
        let of_recipe = |recipe: &Recipe| recipe.directory.clone();
        let here = || self.builders.first().map(|one| of_recipe(one.recipe)).unwrap_or_default();
        self.root.clone().unwrap_or_else(here)
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}
