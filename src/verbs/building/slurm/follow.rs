//! Submits the jobs of a round and looks after them until each has ended, or someone wants to stop.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::Jobs;
use super::place::Place;
use super::prepare::Round;
use crate::Exit;
use crate::output::render;
use build::{KeptLog, Report};
use plan::Step;
use remote::slurm::SlurmError;
use remote::slurm::order::{BEGAN, Began, ENDED, Ended, Fix, read, step_directory};
use remote::slurm::queue::{Seen, State, ask, cancel, is_down};
use remote::slurm::submit::{After, Submission, is_too_many};
use sandbox::interrupt;
use store::Run;

/// How often files of jobs are looked at.
const TICK: Duration = Duration::from_millis(250);
/// How often squeue is asked: at first, and in the long run. Many who ask often are what makes slurmctld slow.
const POLLS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));
/// For so long it is asked often.
const AT_FIRST: Duration = Duration::from_secs(120);
/// A job that is over may still be put into the queue again, and its files may be on their way.
const SETTLING: Duration = Duration::from_secs(12);
/// A job that squeue does not list may be one that slurmctld has not read again yet.
const FORGOTTEN: Duration = Duration::from_secs(40);
/// How long jobs that are cancelled have to go.
const LEAVING: Duration = Duration::from_secs(45);
/// So many lines are shown of what a job said that failed.
const SHOWN: usize = 40;

pub(super) enum Ending {
    Done,
    /// Locks are to say something first.
    Fixed(Vec<(String, Fix)>),
    /// Nodes or jobs were lost; what is left is to be submitted again.
    Again(SlurmError),
    /// An action failed, or Slurm ended a job: the exit code, and why in a line. It was said.
    Failed(Exit, String),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waits,
    Runs,
    Done,
    /// It failed, or cannot be done because another one failed.
    Over,
}

struct Tracked {
    job: String,
    phase: Phase,
    node: String,
    restarts: u64,
    /// Since when Slurm says that it is over, or does not know it.
    since: Option<Instant>,
    is_held: bool,
    ended: Option<Ended>,
}

/// What to do about a job that waits for something that does not come by itself; none where it only waits for its turn. Source:
/// squeue(1), JOB REASON CODES.
fn stuck(reason: &str) -> Option<&'static str> {
    let is = |words: &[&str]| words.iter().any(|word| reason.eq_ignore_ascii_case(word));
    if reason.to_ascii_lowercase().contains("held") {
        return Some("run `scontrol release` to start it");
    }
    if is(&["PartitionTimeLimit", "AssocMaxWallDurationPerJobLimit", "QOSMaxWallDurationPerJobLimit"]) {
        return Some("lower `minutes` of [executor] in imgbuild.toml, or set --time or --partition in its `options`");
    }
    if is(&["PartitionNodeLimit", "BadConstraints", "PartitionDown", "PartitionInactive", "ReservationDeleted"]) {
        return Some("set another --partition or --constraint in `options` of [executor] in imgbuild.toml");
    }
    if is(&["InvalidQOS", "InvalidAccount", "QOSNotAllowed", "AccountNotAllowed"]) {
        return Some("set --account or --qos in `options` of [executor] in imgbuild.toml");
    }
    is(&["DependencyNeverSatisfied"]).then_some("a job that it waits for has failed")
}

pub(super) struct Follower<'a> {
    jobs: &'a Jobs<'a>,
    place: &'a Place,
    round: &'a Round,
    steps: Vec<Tracked>,
    numbers: Vec<String>,
    failures: Vec<(usize, Exit, String)>,
    lost: Option<SlurmError>,
    is_silent: bool,
}

impl<'a> Follower<'a> {
    pub(super) fn new(jobs: &'a Jobs<'a>, place: &'a Place, round: &'a Round) -> Self {
        let tracked = |_: &Step| Tracked {
            job: String::new(),
            phase: Phase::Waits,
            node: String::new(),
            restarts: 0,
            since: None,
            is_held: false,
            ended: None,
        };
        let steps = round.steps.iter().map(tracked).collect();
        Self { jobs, place, round, steps, numbers: Vec::new(), failures: Vec::new(), lost: None, is_silent: false }
    }

    pub(super) fn submit(&mut self) -> Result<(), Exit> {
        for (index, members) in self.round.order.submissions.iter().enumerate() {
            let asks = self.round.asks.get(index).copied().unwrap_or_default();
            let build = self.place.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let round = self.round.directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let waits = |step: &usize| self.round.steps[*step].after.iter().map(|one| self.steps[*one].job.clone());
            let waits: BTreeMap<usize, BTreeSet<String>> =
                members.iter().map(|(task, step)| (*task, waits(step).collect())).collect();
            let Some(first) = members.values().next().map(|step| self.round.steps[*step].name()) else { continue };
            let more = if members.len() > 1 { format!("+{}", members.len() - 1) } else { String::new() };
            let whole = Submission {
                name: format!("{first}{more}"),
                mark: format!("imgbuild-{build}-{round}-{index}"),
                cpus: asks.cpus,
                mebibytes: asks.mebibytes,
                minutes: asks.minutes,
                tasks: members.keys().copied().collect(),
                after: After::default(),
                output: self.round.directory.join(format!("{index}.said")),
                script: self.round.directory.join(format!("{index}.sh")),
            };
            if let Some(after) = After::of(&waits) {
                match self.submit_one(&Submission { after, ..whole.clone() }) {
                    Ok(ids) => {
                        members.values().zip(ids).for_each(|(step, id)| self.steps[*step].job = id);
                        continue;
                    }
                    Err(Some(error)) if whole.is_array() && is_too_many(&error) => {}
                    Err(error) => return Err(self.unsubmitted(error)),
                }
            }
            for ((task, step), waits) in members.iter().zip(waits.into_values()) {
                let name = self.round.steps[*step].name().to_owned();
                let mark = format!("{}-{task}", whole.mark);
                let after = After { all: waits.into_iter().collect(), ..After::default() };
                let one = Submission { name, mark, tasks: vec![*task], after, ..whole.clone() };
                let ids = self.submit_one(&one).map_err(|error| self.unsubmitted(error))?;
                self.steps[*step].job = ids.concat();
            }
        }
        let count = self.steps.len();
        let numbers = match self.numbers.as_slice() {
            [one] => one.clone(),
            [first, .., last] => format!("{first} to {last}"),
            [] => String::new(),
        };
        let steps = if count == 1 { "1 step".to_owned() } else { format!("{count} steps") };
        self.jobs.note("slurm::submitted", format!("submitted {steps} to Slurm: {numbers}"));
        Ok(())
    }

    fn submit_one(&mut self, submission: &Submission) -> Result<Vec<String>, Option<SlurmError>> {
        if interrupt::came() {
            return Err(None);
        }
        let number = submission.submit(&self.jobs.settings.options, &interrupt::came)?;
        self.place.submitted(&number);
        let ids = submission.ids(&number);
        self.numbers.push(number);
        Ok(ids)
    }

    fn unsubmitted(&self, error: Option<SlurmError>) -> Exit {
        error.map_or_else(|| self.jobs.stopped(), |error| self.jobs.failed(error))
    }

    pub(super) fn follow(&mut self) -> Result<Ending, Exit> {
        let began = Instant::now();
        let mut asked: Option<Instant> = None;
        let report = self.jobs.reporter.of(None);
        loop {
            if interrupt::came() {
                self.cancel();
                return Err(self.jobs.stopped());
            }
            self.read_files();
            let pause = if began.elapsed() < AT_FIRST { POLLS.0 } else { POLLS.1 };
            if asked.is_none_or(|at| at.elapsed() >= pause) {
                if let Err(error) = self.ask() {
                    self.cancel();
                    return Err(self.jobs.failed(error));
                }
                asked = Some(Instant::now());
                report.progress(&self.counts());
            }
            if !self.failures.is_empty() && !self.jobs.own.keep_going {
                self.cancel();
                break;
            }
            if self.steps.iter().all(|step| matches!(step.phase, Phase::Done | Phase::Over)) {
                break;
            }
            std::thread::sleep(TICK);
        }
        let fixes: Vec<(String, Fix)> = self.fixes();
        Ok(match (self.failures.first(), self.lost.take()) {
            (Some((_, exit, why)), _) => Ending::Failed(*exit, why.clone()),
            (None, _) if !fixes.is_empty() => Ending::Fixed(fixes),
            (None, Some(error)) => Ending::Again(error),
            (None, None) => Ending::Done,
        })
    }

    /// Exit code and words of what failed first, by image.
    pub(super) fn failed(&self) -> BTreeMap<String, (u8, String)> {
        let mut failed = BTreeMap::new();
        for (index, exit, why) in &self.failures {
            for image in &self.round.steps[*index].images {
                failed.entry(image.clone()).or_insert_with(|| (exit.code(), why.clone()));
            }
        }
        failed
    }

    fn fixes(&self) -> Vec<(String, Fix)> {
        // What several images share concerns the lock of each.
        let of = |(step, tracked): (&Step, &Tracked)| {
            let fix = tracked.ended.as_ref()?.fix.clone()?;
            Some(step.images.clone().into_iter().map(move |image| (image, fix.clone())))
        };
        self.round.steps.iter().zip(&self.steps).filter_map(of).flatten().collect()
    }

    fn counts(&self) -> String {
        let count = |phase: Phase| self.steps.iter().filter(|step| step.phase == phase).count();
        let (done, runs, waits) = (count(Phase::Done), count(Phase::Runs), count(Phase::Waits));
        format!("Slurm: {done} of {} steps are done, {runs} run, {waits} wait", self.steps.len())
    }

    fn read_files(&mut self) {
        for index in 0..self.steps.len() {
            if matches!(self.steps[index].phase, Phase::Done | Phase::Over) {
                continue;
            }
            let directory = step_directory(&self.round.directory, index);
            // What failed on a node that Slurm took the job from runs again elsewhere.
            let is_last = |one: &Ended| one.code == 0 || one.began.restarts >= self.steps[index].restarts;
            if let Some(ended) = read::<Ended>(&directory.join(ENDED)).filter(is_last) {
                self.ended(index, ended);
            } else if let Some(began) = read::<Began>(&directory.join(BEGAN)) {
                let step = &mut self.steps[index];
                // It is from the node that was lost.
                if began.restarts < step.restarts {
                    continue;
                }
                if (began.restarts, began.node.as_str()) != (step.restarts, step.node.as_str()) {
                    let (is_again, is_new) = (began.restarts > step.restarts, step.phase == Phase::Waits);
                    (step.restarts, step.node, step.phase) = (began.restarts, began.node, Phase::Runs);
                    if is_again || is_new {
                        self.say_runs(index);
                    }
                }
            }
        }
    }

    fn say_runs(&self, index: usize) {
        let step = &self.steps[index];
        let again = if step.restarts > 0 { " again" } else { "" };
        let text = format!("{}: job {} runs{again} on {}", self.shown(index), step.job, step.node);
        self.jobs.note("slurm::runs", text);
    }

    /// A step as messages call it: its actions.
    fn shown(&self, index: usize) -> String {
        let Some(step) = self.round.steps.get(index) else { return String::new() };
        let image = step.actions.first().and_then(|first| first.split_once('/')).map_or("", |(image, _)| image);
        let short = |action: &String| action.strip_prefix(&format!("{image}/")).unwrap_or(action).to_owned();
        let more = step.actions.iter().skip(1).map(short);
        step.actions.iter().take(1).cloned().chain(more).collect::<Vec<_>>().join(", ")
    }

    fn ended(&mut self, index: usize, ended: Ended) {
        let shown = self.shown(index);
        let (job, node) = (ended.began.job.clone(), ended.began.node.clone());
        if ended.code == 0 {
            self.jobs.note("slurm::done", format!("{shown}: done in job {job} on {node}"));
            self.steps[index].phase = Phase::Done;
        } else if ended.fix.is_none() {
            let lines: Vec<&str> = ended.said.lines().collect();
            let mut text = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
            self.keep_log(&ended);
            if let Some((name, there, _)) = &ended.log {
                // The node's path is of no use here.
                let here = self.jobs.setup.store.directory().join("logs").join(name);
                text = text.replace(there, &here.display().to_string());
            }
            self.jobs.reporter.pause(|| render::say(&text));
            let why = format!("{shown} failed in job {job} on {node}");
            self.jobs.failed(SlurmError::Failed { step: shown, job, node });
            self.failures.push((index, Exit::of_code(ended.code), why));
            self.steps[index].phase = Phase::Over;
        } else {
            self.steps[index].phase = Phase::Over;
        }
        self.steps[index].ended = Some(ended);
    }

    fn keep_log(&self, ended: &Ended) {
        let Some((name, _, text)) = ended.log.clone() else { return };
        // Without it the message still has the last lines.
        let _ = self.jobs.setup.namespace.call::<_, ()>("keep-log", &KeptLog { name, text }, &mut |_| {});
    }

    fn ask(&mut self) -> Result<(), SlurmError> {
        let open: Vec<usize> = (0..self.steps.len())
            .filter(|index| !matches!(self.steps[*index].phase, Phase::Done | Phase::Over))
            .collect();
        let ids: Vec<String> = open.iter().map(|index| self.steps[*index].job.clone()).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let seen = match ask(&ids)? {
            Ok(seen) => seen,
            Err(said) => {
                if !std::mem::replace(&mut self.is_silent, true) {
                    let text = format!("squeue does not answer ({said}); jobs continue; retrying");
                    self.jobs.warn("slurm::silent", text);
                }
                return Ok(());
            }
        };
        self.is_silent = false;
        for index in open {
            let one = seen.get(&self.steps[index].job).cloned();
            self.seen(index, one.as_ref());
        }
        Ok(())
    }

    fn seen(&mut self, index: usize, seen: Option<&Seen>) {
        match seen {
            Some(seen) if !seen.state.is_over() => {
                self.steps[index].since = None;
                match seen.state {
                    State::Waits => self.waits(index, seen),
                    _ if self.steps[index].phase == Phase::Waits && !seen.node.is_empty() => {
                        let step = &mut self.steps[index];
                        (step.phase, step.node, step.is_held) = (Phase::Runs, seen.node.clone(), false);
                        self.say_runs(index);
                    }
                    _ => {}
                }
            }
            other => {
                let since = *self.steps[index].since.get_or_insert_with(Instant::now);
                let is_of_other = other.is_some_and(|seen| seen.state == State::Cancelled) && self.is_any_over();
                let patience = if other.is_some() { SETTLING } else { FORGOTTEN };
                if is_of_other || since.elapsed() >= patience {
                    self.over(index, other, is_of_other);
                }
            }
        }
    }

    fn is_any_over(&self) -> bool {
        self.steps.iter().any(|step| step.phase == Phase::Over)
    }

    fn waits(&mut self, index: usize, seen: &Seen) {
        let shown = self.shown(index);
        let step = &mut self.steps[index];
        if step.phase == Phase::Runs {
            step.phase = Phase::Waits;
            let (job, node) = (step.job.clone(), std::mem::take(&mut step.node));
            step.restarts += 1;
            let why = match !node.is_empty() && is_down(&node) {
                true => format!("node {node} of job {job} is down"),
                false => format!("Slurm took node {node} from job {job}"),
            };
            self.jobs.warn("slurm::again", format!("{shown}: {why}; it was requeued"));
        } else if !step.is_held
            && let Some(remedy) = stuck(&seen.reason)
        {
            step.is_held = true;
            let job = step.job.clone();
            let text =
                format!("{shown}: job {job} will not start ({}): {remedy}; `scancel {job}` cancels it", seen.reason);
            self.jobs.warn("slurm::held", text);
        }
    }

    /// Nothing more comes of a job, and it said nothing.
    fn over(&mut self, index: usize, seen: Option<&Seen>, is_of_other: bool) {
        self.steps[index].phase = Phase::Over;
        if is_of_other {
            return;
        }
        let step = self.shown(index);
        let job = self.steps[index].job.clone();
        let node = seen.map(|seen| seen.node.clone()).filter(|node| !node.is_empty());
        let node = node.unwrap_or_else(|| self.steps[index].node.clone());
        let ended = |what: &'static str, remedy: &'static str| SlurmError::Ended {
            step: step.clone(),
            job: job.clone(),
            node: node.clone(),
            what,
            remedy,
        };
        let again = "run the same command again: what other jobs made is kept";
        let (error, is_lost) = match seen.map(|seen| seen.state) {
            None => (ended("is no longer known to Slurm, and wrote no result", again), true),
            Some(State::Lost) => (ended("lost its node, and Slurm does not run it again", again), true),
            Some(State::Completed) => (ended("ended and wrote no result", again), true),
            Some(State::TimedOut) => (
                ended(
                    "reached its time limit",
                    "give jobs more time: `minutes` of [executor] in imgbuild.toml, or --time in its `options`",
                ),
                false,
            ),
            Some(State::OutOfMemory) => (
                ended(
                    "took more memory than it asked for",
                    "ask for more: `memory` of [executor] in imgbuild.toml; where a node's store is in memory, name a directory of a disk: `store`",
                ),
                false,
            ),
            Some(State::Cancelled) => (ended("was cancelled", again), false),
            Some(State::Failed | State::Waits | State::Runs) => match self.began(index) {
                true => (
                    ended("ended without a result", "see slurmd's log on the node; then run the same command again"),
                    false,
                ),
                false => {
                    let directory = self.place.directory.display().to_string();
                    let (said, job, node) = (self.said(index), job.clone(), node.clone());
                    (SlurmError::NotShared { job, node, directory, said }, false)
                }
            },
        };
        if is_lost {
            // It is submitted again: what may still be somewhere does not run beside it.
            let _ = cancel(std::slice::from_ref(&job));
            self.jobs.warn("slurm::lost", format!("{error}"));
            self.lost.get_or_insert(error);
        } else {
            let why = error.to_string();
            let exit = self.jobs.failed(error);
            self.failures.push((index, exit, why));
        }
    }

    fn began(&self, index: usize) -> bool {
        step_directory(&self.round.directory, index).join(BEGAN).exists()
    }

    fn said(&self, index: usize) -> String {
        let all = self.round.order.submissions.iter().enumerate();
        let place = all.filter_map(|(at, members)| Some((at, members.iter().find(|(_, step)| **step == index)?.0)));
        let file = |(at, task)| -> PathBuf { self.round.directory.join(format!("{at}.said/{task}.out")) };
        let text = place.map(file).filter_map(|path| std::fs::read(path).ok()).next().unwrap_or_default();
        let text = String::from_utf8_lossy(&text).into_owned();
        text.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default().trim().chars().take(300).collect()
    }

    /// Ends what was submitted and is not over, and waits until it has gone: it writes into the directory.
    pub(super) fn cancel(&mut self) {
        let is_open = |step: &&Tracked| !step.job.is_empty() && !matches!(step.phase, Phase::Done | Phase::Over);
        let ids: Vec<String> = self.steps.iter().filter(is_open).map(|step| step.job.clone()).collect();
        if ids.is_empty() {
            return;
        }
        let began = Instant::now();
        let mut problem = None;
        while began.elapsed() < LEAVING {
            problem = cancel(&ids).unwrap_or_else(|error| Some(error.to_string()));
            let seen = ask(&ids);
            if let Ok(Ok(seen)) = &seen
                && seen.values().all(|one| one.state.is_over())
            {
                return;
            }
            std::thread::sleep(TICK * 4);
        }
        self.place.keep();
        let problem = problem.unwrap_or_else(|| "they are still running".to_owned());
        let text = format!("jobs may go on ({problem}); `scancel {}` ends them", self.numbers.join(" "));
        self.jobs.warn("slurm::left", text);
    }

    /// What ran in jobs, by image, with the job and the node of each.
    pub(super) fn runs(&self) -> BTreeMap<String, Vec<Run>> {
        let mut all: BTreeMap<String, Vec<Run>> = BTreeMap::new();
        let logs = self.jobs.setup.store.directory().join("logs");
        for ended in self.steps.iter().filter_map(|step| step.ended.as_ref()) {
            let runs: Vec<(String, Vec<Run>)> = serde_json::from_value(ended.runs.clone()).unwrap_or_default();
            for (image, runs) in runs {
                let here = |run: Run| Run {
                    job: Some(ended.began.job.clone()),
                    node: Some(ended.began.node.clone()),
                    log: run.log.and(ended.log.as_ref()).map(|(name, ..)| logs.join(name).display().to_string()),
                    ..run
                };
                all.entry(image).or_default().extend(runs.into_iter().map(here));
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::stuck;

    #[test]
    fn what_waits_for_its_turn_is_told_from_what_never_starts() {
        for waits in ["Priority", "Resources", "Dependency", "BeginTime", "None", "Licenses", "QOSMaxJobsPerUserLimit"]
        {
            assert_eq!(stuck(waits), None, "{waits}");
        }
        for never in
            ["JobHeldUser", "launch failed requeued held", "PartitionTimeLimit", "InvalidQOS", "BadConstraints"]
        {
            assert!(stuck(never).is_some(), "{never}");
        }
    }
}
