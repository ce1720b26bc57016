//! `imgbuild roll`: a build brought to running nodes, some at a time.

mod documents;
mod hands;
mod lines;
mod shown;
mod slurm;
mod zone;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::ValueEnum;

pub(crate) use self::documents::RollDocument;
use self::documents::{AbortDocument, FORMAT, PlanDocument};
use self::hands::World;
use super::needs::{BuildName, Compared};
use super::{Site, StateArguments, failed, nodeset, open, sync as syncing};
use crate::Exit;
use crate::output::harmless::one_line;
use crate::output::render;
use nodes::state::now;
use nodes::{NodeSet, State};
use roll::{Build, Count, Ended, Hands, Options, Outcome, Record, Refusal, Scheduler, Window};
use sandbox::interrupt;
use sync::Settings;

/// How long the scheduler may not answer, in milliseconds.
const OUTAGE: u64 = 30 * 60 * 1000;

/// Arguments of `roll`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// Nodes, as a node set: cn[001-040], @compute, cn*!cn007
    #[arg(value_name = "RANGE", required_unless_present = "abort", conflicts_with = "abort")]
    pub range: Option<String>,
    /// The build that they get: IMAGE the published one, IMAGE@BUILD another one
    #[arg(value_name = "IMAGE[@BUILD]", required_unless_present = "abort")]
    pub image: Option<String>,
    /// What gives the nodes work; a roll under way keeps its own
    #[arg(long, value_name = "NAME")]
    pub scheduler: Option<SchedulerName>,
    /// Number of nodes that come first, and have to succeed
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u16).range(0..=10_000))]
    pub canary: u16,
    /// Nodes of a batch, a number or a percentage of the range
    #[arg(long, value_name = "N|N%", default_value = "5%")]
    pub batch: Count,
    /// Nodes that may be down by the roll at once; a percentage of the range counts those that go down otherwise meanwhile, too
    #[arg(long, value_name = "N|N%", default_value = "10%")]
    pub max_down: Count,
    /// When nodes may begin to restart, in local time: 22:00-06:00 [default: at any time]
    #[arg(long, value_name = "FROM-TO")]
    pub window: Option<Window>,
    /// Stop when more nodes than this have failed
    #[arg(long, value_name = "N", default_value = "0")]
    pub max_failures: u16,
    /// Command that a node runs over ssh before it gets work again: exit status 0 is healthy
    #[arg(long, value_name = "COMMAND")]
    pub health: Option<String>,
    /// Minutes that a drained node may have jobs; then it gets work again and is left alone
    #[arg(long, value_name = "MINUTES", default_value = "1440", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub drain_timeout: u32,
    /// Minutes that a node may take from its restart to its report, and from there until it is healthy
    #[arg(long, value_name = "MINUTES", default_value = "30", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub node_timeout: u32,
    /// Show who is when and how, without changing anything
    #[arg(long, conflicts_with = "abort")]
    pub plan: bool,
    /// End the roll: nodes that it drained get work again, except those that it began to change
    #[arg(long)]
    pub abort: bool,
    /// Print JSON: an event a line, or the plan
    #[arg(long)]
    pub json: bool,
    /// Directory of published images [default: the `out` of each image]
    #[arg(long, value_name = "DIR")]
    pub from: Option<PathBuf>,
    /// Number of nodes to reach at once
    #[arg(long, value_name = "N", default_value = "64", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub fanout: u16,
    /// Seconds that one node may take for a sync or a command
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

/// Schedulers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum SchedulerName {
    /// Slurm: nodes are drained with scontrol
    Slurm,
    /// None: nodes restart when no user has a process there
    None,
}

impl From<SchedulerName> for Scheduler {
    fn from(name: SchedulerName) -> Self {
        match name {
            SchedulerName::Slurm => Self::Slurm,
            SchedulerName::None => Self::None,
        }
    }
}

fn refused(problem: &str, exit: Exit) -> Exit {
    render::say(&format!("error: {problem}"));
    exit
}

fn refusal(refusal: &Refusal) -> Exit {
    let (help, exit) = match refusal {
        Refusal::OtherScheduler(began) => (
            format!(
                "leave out --scheduler, or write --scheduler {}; `imgbuild roll --abort` ends that roll",
                began.name()
            ),
            Exit::Input,
        ),
        Refusal::NoScheduler => (
            "name it: --scheduler slurm drains nodes and waits for their jobs; --scheduler none restarts nodes on which no user has a process".to_owned(),
            Exit::Usage,
        ),
    };
    refused(&format!("{refusal}\n  help: {help}"), exit)
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let site = open(arguments, &own.state)?;
    if let Some(problem) = site.other_server() {
        return Err(refused(&problem, Exit::Input));
    }
    let zone = match own.window {
        None => None,
        Some(_) => Some(zone::local().map_err(|problem| {
            let help = "a window is in local time: set the zone with `timedatectl set-timezone ZONE`, or name it: TZ=Europe/Berlin imgbuild roll ..; TZ=UTC0 is UTC";
            refused(&format!("the time zone of this machine cannot be read: {problem}\n  help: {help}"), Exit::Machine)
        })?),
    };
    let turn = match own.plan {
        true => None,
        false => match site.state.roll_turn().map_err(failed)? {
            None => {
                let problem = "another `imgbuild roll` runs for these nodes\n  help: wait until it ends, or end it with Ctrl-C: it goes on when it is called again";
                return Err(refused(problem, Exit::Input));
            }
            turn => turn,
        },
    };
    let mut record: Record = site.state.roll().map_err(failed)?.unwrap_or_default();
    record.format_version = FORMAT.to_string();
    let settings = Settings {
        ssh: own.ssh.split_whitespace().map(str::to_owned).collect(),
        fanout: usize::from(own.fanout),
        timeout: Duration::from_secs(own.timeout.into()),
        connect: Duration::from_secs(own.connect_timeout.into()),
    };
    interrupt::wait_for_caller();
    let outcome = match own.abort {
        true => abort(arguments, own, &site, &mut record, settings),
        false => forward(arguments, own, &site, &mut record, (settings, zone)),
    };
    drop(turn);
    outcome
}

fn world<'a>(
    arguments: &'a crate::Arguments,
    own: &'a Arguments,
    site: &'a Site,
    (target, directory): (Build, PathBuf),
    (settings, zone): (Settings, Option<jiff::tz::TimeZone>),
) -> World<'a> {
    let name = BuildName { image: target.image.clone(), build: target.build.clone() };
    let compared = Compared::with(arguments, name, directory);
    let (all, loaded, edited) = (Vec::new(), BTreeMap::new(), None);
    World { arguments, own, site, target, compared, settings, zone, all, loaded, edited }
}

fn options(own: &Arguments) -> Options {
    let minutes = |count: u32| u64::from(count) * 60_000;
    Options {
        canary: usize::from(own.canary),
        batch: own.batch,
        max_down: own.max_down,
        window: own.window,
        max_failures: usize::from(own.max_failures),
        drain_timeout: minutes(own.drain_timeout),
        node_timeout: minutes(own.node_timeout),
        outage: OUTAGE,
    }
}

/// A name for a roll that no other has.
fn new_id(state: &State, time: u64) -> String {
    let text = format!("{} {} {time}", state.directory().display(), std::process::id());
    blake3::hash(text.as_bytes()).to_hex().as_str()[..8].to_owned()
}

fn forward(
    arguments: &crate::Arguments,
    own: &Arguments,
    site: &Site,
    record: &mut Record,
    with: (Settings, Option<jiff::tz::TimeZone>),
) -> Result<Exit, Exit> {
    let set = site.select(own.range.as_deref(), arguments.verbose)?;
    let range: Vec<String> = set.iter().map(str::to_owned).collect();
    let text = own.image.as_deref().unwrap_or_default();
    let (image, build) = text.split_once('@').map_or((text, None), |(image, build)| (image, Some(build)));
    let (build, directory) = nodeset::build_of(arguments, own.from.clone(), image, build)?;
    let target = Build { image: image.to_owned(), build };
    if let Some(old) = record.roll.as_ref().filter(|old| old.target != target) {
        let out = NodeSet::of(record.drained());
        let drained = if out.is_empty() { String::new() } else { format!("; it left {out} drained or half done") };
        render::say(&format!("note: the roll of {} ends for this one{drained}", old.target));
    }
    let time = now();
    let asked = own.scheduler.map(Scheduler::from);
    let id = new_id(&site.state, time);
    roll::begin(record, (&target, asked), &range, (&id, time)).map_err(|error| refusal(&error))?;
    let Some(scheduler) = record.scheduler() else { return Err(Exit::Mistake) };
    if !syncing::is_there(with.0.ssh.first().map_or("ssh", String::as_str)) {
        let problem = format!(
            "there is no program `{}` to reach nodes with\n  help: install openssh-client, or name another command with --ssh",
            with.0.ssh.first().map_or("ssh", String::as_str)
        );
        return Err(refused(&problem, Exit::Machine));
    }
    // What keeps nodes from booting it is known before any is drained.
    nodeset::give(arguments, site, &set, (own.from.clone(), &target.image, &target.build), true)?;
    let mut world = world(arguments, own, site, (target, directory), with);
    if scheduler == Scheduler::Slurm
        && let Err(problem) = world.look(&range)
    {
        let problem = format!(
            "Slurm does not answer: {}\n  help: look at `scontrol ping`; nothing was changed; nodes without Slurm: --scheduler none",
            one_line(&problem)
        );
        return Err(refused(&problem, Exit::Machine));
    }
    world.all = record.roll.as_ref().map(|roll| roll.order.clone()).unwrap_or_default();
    world.looks_ahead(record)?;
    let options = options(own);
    if own.plan {
        return plan(&mut world, own, record, &options);
    }
    match roll::run(&mut world, record, &options) {
        Ok(outcome) => Ok(exit(outcome)),
        Err(ended) => Err(ended_early(record, ended)),
    }
}

fn exit(outcome: Option<Outcome>) -> Exit {
    match outcome {
        None | Some(Outcome::Done) => Exit::Done,
        Some(Outcome::LeftAlone | Outcome::WindowClosed | Outcome::MaxDown) => Exit::Work,
        Some(Outcome::Failures) => Exit::Stage,
    }
}

/// Names what is still drained, and how to go on.
fn ended_early(record: &Record, ended: Ended<Exit>) -> Exit {
    let exit = match ended {
        Ended::Stopped(exit) => exit,
        Ended::Outage(problem) => {
            let problem = format!("the scheduler does not answer: {}", one_line(&problem));
            refused(&format!("{problem}\n  help: look at `scontrol ping`"), Exit::Machine)
        }
    };
    let drained = NodeSet::of(record.drained());
    let still = match drained.is_empty() {
        true => "the roll ended before its time; no node is drained".to_owned(),
        false => format!("the roll ended before its time; still drained or in work: {drained}"),
    };
    render::say(&format!(
        "{still}\n  help: the same `imgbuild roll` goes on with them; `imgbuild roll --abort` gives back those with which nothing was done yet"
    ));
    exit
}

fn plan(world: &mut World<'_>, own: &Arguments, record: &Record, options: &Options) -> Result<Exit, Exit> {
    let planned = roll::plan(world, record, options).map_err(|ended| match ended {
        Ended::Stopped(exit) => exit,
        Ended::Outage(problem) => refused(&format!("Slurm does not answer: {}", one_line(&problem)), Exit::Machine),
    })?;
    if own.json {
        let target = &world.target;
        let document = RollDocument::Plan(PlanDocument {
            format_version: FORMAT.to_string(),
            time: now(),
            image: target.image.clone(),
            build: target.build.clone(),
            scheduler: record.scheduler(),
            nodes: planned,
        });
        render::print_json(&document.text());
    } else {
        render::print(&shown::plan(&planned));
        let count = planned.iter().filter(|one| one.batch.is_some()).count();
        let batches = planned.iter().filter_map(|one| one.batch).max().unwrap_or(0);
        let window = own.window.map(|_| "; nodes begin to restart in the window alone").unwrap_or_default();
        render::say(&format!("{count} of {} nodes in {batches} batches{window}; nothing was changed", planned.len()));
    }
    Ok(Exit::Done)
}

fn abort(
    arguments: &crate::Arguments,
    own: &Arguments,
    site: &Site,
    record: &mut Record,
    settings: Settings,
) -> Result<Exit, Exit> {
    let target = record.roll.as_ref().map(|roll| roll.target.clone());
    let target = target.unwrap_or(Build { image: String::new(), build: String::new() });
    let mut world = world(arguments, own, site, (target, PathBuf::new()), (settings, None));
    if record.roll.is_none() && record.held.is_empty() {
        render::say("no roll is under way, and none left a node drained");
        return Ok(Exit::Done);
    }
    let asked = own.scheduler.map(Scheduler::from);
    let aborted = match roll::abort(&mut world, record, asked).map_err(|error| refusal(&error))? {
        Ok(aborted) => aborted,
        Err(ended) => return Err(ended_early(record, ended)),
    };
    if own.json {
        let document = RollDocument::Abort(AbortDocument {
            format_version: FORMAT.to_string(),
            resumed: aborted.resumed.clone(),
            drained: aborted.held.clone(),
        });
        render::print_json(&document.text());
    }
    if !aborted.resumed.is_empty() {
        render::say(&format!("given back: {}", NodeSet::of(aborted.resumed.iter().map(String::as_str))));
    }
    if aborted.held.is_empty() {
        render::say("the roll has ended; no node is drained by it");
        return Ok(Exit::Done);
    }
    for (name, why) in &aborted.held {
        render::say(&format!("{name}: still drained: {}", one_line(why)));
    }
    let held = NodeSet::of(aborted.held.keys().map(String::as_str));
    render::say(&format!(
        "the roll has ended, but it began to change {held}, which stay drained\n  help: a roll with these nodes in its range restarts them and gives them back; or look at them, and `scontrol update nodename={held} state=resume`"
    ));
    Ok(Exit::Work)
}
