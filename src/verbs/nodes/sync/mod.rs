//! `imgbuild sync`: the sync lists, packages and scripts of images, brought to running nodes.

pub(crate) mod jobs;
mod progress;
pub(crate) mod shown;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use self::jobs::jobs;
use self::shown::Purpose;
use super::{StateArguments, root_of, state_of};
use crate::Exit;
use crate::output::render;
use nodes::{NodeSet, Synced};
use sandbox::interrupt;
use sync::{Mode, Settings, run as reach};

/// Arguments of `sync`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Nodes, as a node set: cn[001-040], @compute, cn*!cn007
    #[arg(value_name = "RANGE")]
    pub range: String,
    /// Write the files of the sync lists; the default without --packages and --scripts
    #[arg(long)]
    pub files: bool,
    /// Install packages of the image's lock that nodes lack, from the store
    #[arg(long)]
    pub packages: bool,
    /// Run the nodes' postscripts and postbootscripts again, or those named: --scripts=NAME,NAME
    #[arg(long, value_name = "NAMES", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    pub scripts: Option<String>,
    /// Show what would change on which nodes, without changing anything
    #[arg(long, conflicts_with = "check")]
    pub plan: bool,
    /// Show which nodes differ; exit with 2 if some do
    #[arg(long)]
    pub check: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Number of nodes to reach at once
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub fanout: u16,
    /// Seconds that one node may take in all
    #[arg(long, value_name = "SECONDS", default_value = "300", value_parser = clap::value_parser!(u32).range(1..=86400))]
    pub timeout: u32,
    /// Seconds that a node may take to answer
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u16).range(1..=3600))]
    pub connect_timeout: u16,
    /// Command that reaches a node, with its options
    #[arg(long, value_name = "COMMAND", env = "IMGBUILD_SSH", default_value = "ssh")]
    pub ssh: String,
    /// Where the state is
    #[command(flatten)]
    pub state: StateArguments,
}

impl Arguments {
    fn wants_files(&self) -> bool {
        self.files || !(self.packages || self.scripts.is_some())
    }

    /// The scripts that are asked for: named ones, or those of the lists.
    fn named(&self) -> Option<Option<Vec<String>>> {
        let names: Vec<String> = self
            .scripts
            .as_ref()?
            .split(',')
            .map(|text| text.split_whitespace().collect::<Vec<_>>().join(" "))
            .filter(|text| !text.is_empty())
            .collect();
        Some((!names.is_empty()).then_some(names))
    }

    fn purpose(&self) -> Purpose {
        match (self.plan, self.check) {
            (true, _) => Purpose::Plan,
            (_, true) => Purpose::Check,
            _ => Purpose::Sync,
        }
    }
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let jobs = jobs(arguments, own)?;
    let ssh: Vec<String> = own.ssh.split_whitespace().map(str::to_owned).collect();
    let program = ssh.first().map_or("ssh", String::as_str);
    if !is_there(program) {
        render::say(&format!(
            "error: there is no program `{program}` to reach nodes with\n  help: install openssh-client, or name another command with --ssh"
        ));
        return Err(Exit::Machine);
    }
    let idle = NodeSet::of(jobs.iter().filter(|job| !job.has_work()).map(|job| job.node.as_str()));
    if !idle.is_empty() {
        render::say(&format!(
            "note: {idle} not reached: the recipes of these images have nothing for them; ‹[sync] lists = [\"site.synclist\"]› names files"
        ));
    }
    let settings = Settings {
        ssh,
        fanout: usize::from(own.fanout),
        timeout: Duration::from_secs(own.timeout.into()),
        connect: Duration::from_secs(own.connect_timeout.into()),
    };
    let purpose = own.purpose();
    let mode = if purpose == Purpose::Sync { Mode::Write } else { Mode::Look };
    interrupt::wait_for_caller();
    let began = Instant::now();
    let progress = progress::Progress::new(arguments.progress, jobs.len());
    let reached = reach(&jobs, &settings, mode, &interrupt::came, &|news| progress.take(news));
    progress.end();
    let all: Vec<_> = jobs.iter().zip(&reached).collect();
    let states: Vec<_> = all.iter().map(|(_, reached)| shown::state(reached, purpose)).collect();
    match own.json {
        true => render::print_json(&shown::json(&all, purpose)),
        false => render::print(&shown::text(&all, purpose)),
    }
    render::say(&shown::summary(&states, purpose, began.elapsed()));
    if purpose == Purpose::Sync {
        let is_changed = |state: &shown::State| matches!(state, shown::State::Changed | shown::State::Failed);
        let changed = all.iter().zip(&states).filter(|(_, state)| is_changed(state));
        note_changed(arguments, own, changed.map(|((job, _), _)| job.node.as_str()));
    }
    if interrupt::came() {
        return Err(Exit::Interrupted);
    }
    if states.iter().any(|state| matches!(state, shown::State::Failed | shown::State::Untried)) {
        return Err(Exit::Stage);
    }
    let differs = states.contains(&shown::State::Differs);
    Ok(if purpose == Purpose::Check && differs { Exit::Work } else { Exit::Done })
}

/// Brings to nodes what they are to get, without a word about those that are good: what did not work, by node.
pub(crate) fn bring(jobs: &[sync::Job], settings: &Settings) -> BTreeMap<String, Result<(), String>> {
    let reached = reach(jobs, settings, Mode::Write, &interrupt::came, &|_| {});
    let answer = |(job, reached): (&sync::Job, sync::Reached)| {
        let answer = match (reached.tried, reached.answer.problem) {
            (false, _) => Err("it was not tried".to_owned()),
            (true, Some(problem)) => Err(problem),
            (true, None) => Ok(()),
        };
        (job.node.clone(), answer)
    };
    jobs.iter().zip(reached).map(answer).collect()
}

/// Notes which nodes are no longer as their build is, for those who compare builds with advisories. One that failed may be, too.
fn note_changed<'a>(arguments: &crate::Arguments, own: &Arguments, nodes: impl Iterator<Item = &'a str>) {
    let mut nodes = nodes.peekable();
    if nodes.peek().is_none() {
        return;
    }
    let Ok(state) = state_of(arguments, &root_of(&arguments.directory), &own.state) else { return };
    for node in nodes {
        if let Err(error) = state.write_synced(node, &Synced::now()) {
            render::say(&format!(
                "warning: that {node} was synced could not be noted, so `imgbuild audit` does not know it: {error}"
            ));
            return;
        }
    }
}

pub(crate) fn is_there(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|place| place.join(program).is_file()))
}
