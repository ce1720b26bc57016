//! `imgbuild build --on`: has what is missing built by another machine, and brings it here.

pub(crate) mod gathered;
mod talk;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use self::gathered::Looking;
use super::build_arguments::Arguments;
use crate::output::render;
use crate::output::reporter::Reporter;
use crate::plans::planned::stage_failed;
use crate::{Exit, ProgressKind, Setup};
use base::digest::Digest;
use build::{Builder, Here, Target, here, init_for};
use files::{self, Durability};
use recipe::Recipe;
use remote::away::parcel::VERSION;
use remote::away::{AwayError, Gathered, Host, Item, Manifest, What};
use sandbox::emulator::HostCpu;
use sandbox::interrupt;

pub(crate) struct Order<'a> {
    pub arguments: &'a crate::Arguments,
    pub own: &'a Arguments,
    pub host: &'a Host,
    pub setup: &'a Setup,
    pub builders: &'a [Builder<'a>],
    pub publish: &'a [Target],
    pub reporter: &'a Reporter,
    /// Whether the connection was lost, so that the build goes on without it.
    pub is_lost: Cell<bool>,
    /// Whether its directory is another build's.
    pub is_busy: Cell<bool>,
}

/// What the other machine does.
#[derive(Clone, Copy)]
enum Asked {
    /// Locks, and no action.
    Locks,
    /// The actions that have no results here.
    Missing,
}

struct There {
    directory: String,
    program: String,
}

impl Order<'_> {
    /// Has everything built that is missing; gives the directory with the results, none where nothing is missing.
    pub(crate) fn results(&self) -> Result<Option<tempfile::TempDir>, Exit> {
        interrupt::wait_for_caller();
        let results = self.build();
        interrupt::end_at_once();
        results
    }

    fn build(&self) -> Result<Option<tempfile::TempDir>, Exit> {
        if self
            .all_here(HostCpu::here().machine())?
            .iter()
            .all(|one| one.missing.as_ref().is_some_and(BTreeSet::is_empty))
        {
            return Ok(None);
        }
        let (mut gathered, mut root) = self.gathered()?;
        let (there, machine) = self.greet(&root)?;
        let mut all = self.all_here(&machine)?;
        if self.only_a_lock_is_missing(&all) {
            self.make_locks(&there, &gathered, &root, &all)?;
            (gathered, root) = self.gathered()?;
            all = self.all_here(&machine)?;
            if all.iter().all(|one| one.missing.as_ref().is_some_and(BTreeSet::is_empty)) {
                self.leave(&there);
                return Ok(None);
            }
        }
        if let Some((builder, _)) = self.builders.iter().zip(&all).find(|(_, one)| !one.tools_run) {
            let (lock, of) = (builder.recipe.lock_name(), HostCpu::here().machine().to_owned());
            return Err(self.failed(AwayError::Tools { host: self.shown(), lock, of, machine }));
        }
        let locks = self.locks();
        let manifest = self.manifest(&gathered, &root, &all, Asked::Missing)?;
        let outcome = self.send_and_follow(&there, &manifest, &gathered, &root).and_then(|code| {
            let results = self.bring(&there, &locks)?;
            // What failed there has no result, and is said once more by the build here.
            let goes_on = self.own.keep_going && self.builders.len() > 1;
            if code == 0 || goes_on { Ok(Some(results)) } else { Err(Exit::of_code(code)) }
        });
        // A connection that broke does not end the build. Ctrl-C did.
        if !self.is_lost.get() && !self.is_busy.get() && !matches!(outcome, Err(Exit::Interrupted)) {
            self.leave(&there);
        }
        outcome
    }

    /// What is here counts by the new lock; without one it is not known. A recipe that was never locked has nothing here.
    fn only_a_lock_is_missing(&self, all: &[Here]) -> bool {
        let was_locked = |builder: &Builder<'_>| builder.recipe.lock_path.exists();
        let mut pairs = self.builders.iter().zip(all);
        !self.own.locked && pairs.any(|(builder, one)| one.missing.is_none() && was_locked(builder))
    }

    /// Has locks made there, and nothing built.
    fn make_locks(&self, there: &There, gathered: &Gathered, root: &Path, all: &[Here]) -> Result<(), Exit> {
        self.say(&format!("{} makes the lock first: what is here counts by it", self.host.shown));
        let locks = self.locks();
        let manifest = self.manifest(gathered, root, all, Asked::Locks)?;
        let made = self.send_and_follow(there, &manifest, gathered, root).and_then(|code| match code {
            0 => self.bring(there, &locks).map(|_| self.pause(there)),
            code => Err(Exit::of_code(code)),
        });
        if made.is_err() && !self.is_lost.get() && !self.is_busy.get() && !matches!(made, Err(Exit::Interrupted)) {
            self.leave(there);
        }
        made
    }

    fn locks(&self) -> Vec<Option<String>> {
        self.builders.iter().map(|builder| std::fs::read_to_string(&builder.recipe.lock_path).ok()).collect()
    }

    fn shown(&self) -> String {
        self.host.shown.clone()
    }

    fn failed(&self, error: AwayError) -> Exit {
        let exit = if matches!(error, AwayError::Unsent { .. }) { Exit::Input } else { Exit::Machine };
        self.reporter.pause(|| render::say(&render::error(error)));
        exit
    }

    fn say(&self, text: &str) {
        if self.arguments.progress != ProgressKind::Json {
            self.reporter.pause(|| render::say(text));
        }
    }

    fn all_here(&self, machine: &str) -> Result<Vec<Here>, Exit> {
        let of = |builder: &Builder<'_>| here(builder.recipe, builder.store, self.publish, machine);
        self.builders.iter().map(|builder| of(builder).map_err(stage_failed)).collect()
    }

    /// Ctrl-C ends what runs there, too.
    fn stopped(&self, there: Option<&There>) -> Exit {
        if let Some(there) = there {
            self.leave(there);
        }
        self.reporter.pause(|| {
            render::say("interrupted: nothing was published; run the same command to continue where it stopped");
        });
        Exit::Interrupted
    }

    /// What plans look at, and the directory of the workspace.
    fn gathered(&self) -> Result<(Gathered, PathBuf), Exit> {
        let looking = Looking {
            arguments: self.arguments,
            are_named: !self.own.images.is_empty(),
            builders: self.builders,
            store: &self.setup.store,
            publish: self.publish,
            without: &[],
        };
        let unsent = |problem: String| {
            self.failed(AwayError::Unsent { problem, remedy: "build without --on, or change the recipe".to_owned() })
        };
        looking.gathered()?.map_err(unsent)
    }

    fn manifest(&self, gathered: &Gathered, root: &Path, all: &[Here], asked: Asked) -> Result<Manifest, Exit> {
        let start = self.arguments.directory.canonicalize().unwrap_or_else(|_| root.to_owned());
        let start = start.strip_prefix(root).unwrap_or(Path::new("")).to_owned();
        let arch = self.builders.first().map(|builder| builder.recipe.model.image.arch);
        let mut init = (String::new(), Digest::of(b""));
        if let Some(arch) = arch {
            let bytes = init_for(arch).map_err(stage_failed)?;
            init = (format!("IMGBUILD_INIT_{}", arch.machine().to_uppercase()), Digest::of(bytes));
        }
        let below = |recipe: &Recipe| recipe.lock_path.strip_prefix(root).unwrap_or(&recipe.lock_path).to_owned();
        let mut items = gathered.items.clone();
        let folder = Path::new("ws").join(&start);
        if !items.iter().any(|item| item.place == folder) {
            items.push(Item { place: folder, what: What::Folder(0o755) });
        }
        let of = |one: &Here| match asked {
            Asked::Missing => one.missing.clone(),
            Asked::Locks => Some(BTreeSet::new()),
        };
        let pairs = self.builders.iter().zip(all);
        let wanted = pairs.filter_map(|(builder, one)| Some((builder.recipe.model.image.name.clone(), of(one)?)));
        Ok(Manifest {
            version: VERSION,
            root: root.to_owned(),
            start,
            words: self.words(),
            init,
            locks: self.builders.iter().map(|builder| below(builder.recipe)).collect(),
            had: all.iter().flat_map(|one| one.keys.iter().copied()).collect(),
            needed: all.iter().flat_map(|one| one.needed.iter().copied()).collect(),
            wanted: wanted.collect::<BTreeMap<_, _>>(),
            items,
            owners: gathered.owners.clone(),
            patience: self.own.on_patience,
        })
    }

    fn words(&self) -> Vec<String> {
        let (arguments, own) = (self.arguments, self.own);
        let json = arguments.progress == ProgressKind::Json;
        let mut words = vec![format!("--progress={}", if json { "json" } else { "plain" })];
        words.extend((0..arguments.verbose).map(|_| "-v".to_owned()));
        words.extend(arguments.jobs.map(|jobs| format!("--jobs={jobs}")));
        words.push(format!("--script-minutes={}", arguments.script_minutes.as_secs_f64() / 60.0));
        words.extend(std::env::var("IMGBUILD_SCRIPT_LIMITS").ok().map(|limits| format!("--script-limits={limits}")));
        words.push("build".to_owned());
        words.extend(own.locked.then(|| "--locked".to_owned()));
        words.extend(own.keep_going.then(|| "--keep-going".to_owned()));
        words.extend(own.memory.map(|memory| format!("--memory={memory}")));
        words.extend(own.until.map(|until| format!("--until={}", until.name())));
        words.extend(own.places.mirror.as_ref().map(|mirror| format!("--mirror={mirror}")));
        words.extend(own.places.mirror_timeout.map(|seconds| format!("--mirror-timeout={seconds}")));
        let layouts =
            self.publish.iter().map(|Target::Xcat(directory)| format!("--publish=xcat:{}", directory.display()));
        words.extend(layouts);
        words.extend(self.builders.iter().map(|builder| builder.recipe.model.image.name.clone()));
        words
    }

    fn keep_lock(&self, recipe: &Recipe, before: Option<&str>, text: &str) -> Result<(), Exit> {
        if before == Some(text) || self.own.locked {
            return Ok(());
        }
        let unsent =
            |problem: String, remedy: &str| self.failed(AwayError::Unsent { problem, remedy: remedy.to_owned() });
        let _turn = crate::recipe_lock::RecipeLock::take(&recipe.directory);
        if std::fs::read_to_string(&recipe.lock_path).ok().as_deref() != before {
            let problem = format!("{} changed here while {} built", recipe.lock_name(), self.host.shown);
            return Err(unsent(problem, "build again: nothing was published"));
        }
        files::replace(&recipe.lock_path, text.as_bytes(), 0o644, Durability::PowerCut)
            .map_err(|error| unsent(format!("{} cannot be written: {error}", recipe.lock_name()), "see its folder"))
    }
}
