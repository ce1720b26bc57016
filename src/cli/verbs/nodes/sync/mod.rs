//! `imgbuild sync`: the sync lists of images, brought to running nodes.

mod progress;
pub mod shown;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use self::shown::Purpose;
use super::{Site, StateArguments, failed, open};
use crate::cli::Exit;
use crate::cli::output::render;
use crate::cli::setup::{chosen_to_look, print_findings};
use crate::nodes::{Boots, NodeSet};
use crate::sandbox::interrupt;
use crate::sync::{Job, Mode, Settings, run as reach, wanted};

/// Arguments of `sync`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Nodes, as a node set: cn[001-040], @compute, cn*!cn007
    #[arg(value_name = "RANGE")]
    pub range: String,
    /// Show what would change on which nodes, without changing anything
    #[arg(long, conflicts_with = "check")]
    pub plan: bool,
    /// Show which nodes differ from the lists; exit with 2 if some do
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
    /// What the run is for.
    fn purpose(&self) -> Purpose {
        match (self.plan, self.check) {
            (true, _) => Purpose::Plan,
            (_, true) => Purpose::Check,
            _ => Purpose::Sync,
        }
    }
}

/// Runs the command.
pub fn run(arguments: &crate::cli::Arguments, own: &Arguments) -> Exit {
    let jobs = match jobs(arguments, own) {
        Ok(jobs) => jobs,
        Err(exit) => return exit,
    };
    let ssh: Vec<String> = own.ssh.split_whitespace().map(str::to_owned).collect();
    let program = ssh.first().map_or("ssh", String::as_str);
    if !is_there(program) {
        render::say(&format!(
            "error: there is no program `{program}` to reach nodes with\n  help: install openssh-client, or name another command with --ssh"
        ));
        return Exit::Machine;
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
    if interrupt::came() {
        return Exit::Interrupted;
    }
    if states.iter().any(|state| matches!(state, shown::State::Failed | shown::State::Untried)) {
        return Exit::Stage;
    }
    let differs = states.contains(&shown::State::Differs);
    if purpose == Purpose::Check && differs { Exit::Work } else { Exit::Done }
}

/// Whether a program can be found.
fn is_there(program: &str) -> bool {
    if program.contains('/') {
        return Path::new(program).is_file();
    }
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|place| place.join(program).is_file()))
}

/// What each node of the range is to have.
fn jobs(arguments: &crate::cli::Arguments, own: &Arguments) -> Result<Vec<Job>, Exit> {
    let site = open(arguments, &own.state)?;
    let set = site.select(Some(&own.range), arguments.verbose)?;
    let images = images(&site, &set)?;
    let names: BTreeSet<String> = images.values().cloned().collect();
    let names: Vec<String> = names.into_iter().collect();
    let recipes = chosen_to_look(arguments, &names)?;
    let found = wanted(&site.nodes, &images, &recipes);
    let (mut jobs, findings) = found.map_err(|findings| {
        print_findings(&findings, arguments.verbose);
        Exit::Input
    })?;
    print_findings(&findings, arguments.verbose);
    let order: BTreeMap<&str, usize> = set.iter().enumerate().map(|(index, name)| (name, index)).collect();
    jobs.sort_by_key(|job| order.get(job.node.as_str()).copied());
    Ok(jobs)
}

/// The image of each node: what `nodeset` gave it, or what the file says.
fn images(site: &Site, set: &NodeSet) -> Result<BTreeMap<String, String>, Exit> {
    let assigned = site.state.assignments().map_err(failed)?;
    let (mut images, mut without) = (BTreeMap::new(), NodeSet::default());
    for name in set.iter() {
        let given = match assigned.nodes.get(name).map(|assigned| &assigned.boots) {
            Some(Boots::Image { image, .. }) => Some(image.clone()),
            _ => site.nodes.get(name).and_then(|node| node.image().map(str::to_owned)),
        };
        match given {
            Some(image) => drop(images.insert(name.to_owned(), image)),
            None => drop(without.insert(name)),
        }
    }
    if without.is_empty() {
        return Ok(images);
    }
    let file = &site.nodes.file.name;
    render::say(&format!(
        "error: nodes without an image: {without}\n  help: the image's sync lists say what a node gets: give them ‹image = \"...\"› in {file}, or leave them out: {}!{without}",
        own_range(set)
    ));
    Err(Exit::Input)
}

fn own_range(set: &NodeSet) -> String {
    set.folded()
}
