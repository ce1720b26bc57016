//! The loop: batches begin while that is allowed, and nodes of a batch go on step by step.

mod acting;
mod batch;
mod drains;
mod steps;

pub(crate) use batch::{left_alone, out_before, room};

use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::Serialize;

use super::hands::{Event, Hands, NodeState, Reported, Seat};
use super::limits::{Count, Window};
use super::record::{Act, Build, Held, Node, Record, Roll, Scheduler, Stage};

/// So long a scheduler that came back may call nodes down that are not, in milliseconds.
const SETTLES: u64 = 120_000;

/// How a roll goes.
#[derive(Debug, Clone, PartialEq)]
pub struct Options {
    /// Nodes that come first, and have to succeed.
    pub canary: usize,
    pub batch: Count,
    pub max_down: Count,
    /// When nodes may begin to restart.
    pub window: Option<Window>,
    /// More failed nodes than these stop it.
    pub max_failures: usize,
    /// How long a node may have jobs, in milliseconds.
    pub drain_timeout: u64,
    /// How long a node may take from its restart to its report, and from there until it is healthy, in milliseconds.
    pub node_timeout: u64,
    /// How long the scheduler may not answer, in milliseconds.
    pub outage: u64,
}

/// Why a roll ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// All nodes have the build.
    Done,
    /// All nodes have it but those that were left alone.
    LeftAlone,
    /// The window closed before the turn of all nodes.
    WindowClosed,
    /// Too many nodes are down, by the roll or since it began, to begin with another one.
    MaxDown,
    /// A canary or too many nodes failed.
    Failures,
}

/// What ended a roll before its time.
#[derive(Debug)]
pub enum Ended<S> {
    /// What its hands said.
    Stopped(S),
    /// The scheduler did not answer for too long.
    Outage(String),
}

impl<S> From<S> for Ended<S> {
    fn from(stop: S) -> Self {
        Self::Stopped(stop)
    }
}

type Step<H> = Result<(), Ended<<H as Hands>::Stop>>;

struct Run<'a, H: Hands> {
    hands: &'a mut H,
    record: &'a mut Record,
    roll: Roll,
    options: &'a Options,
    /// Nodes that were drained by this process.
    asked: BTreeSet<String>,
    /// Since when the scheduler does not answer, in milliseconds since 1970.
    outage_since: Option<u64>,
    /// When it answered again, in milliseconds since 1970.
    back_at: Option<u64>,
    /// Nodes of the batch under way.
    batch: Vec<String>,
    /// Nodes that were down or drained for other reasons when this process first looked.
    before: Option<BTreeSet<String>>,
}

/// Goes on with the roll that the record has, until it ends.
/// Errors: See [`Ended`]; the record has what is still drained.
pub fn run<H: Hands>(hands: &mut H, record: &mut Record, options: &Options) -> Result<Option<Outcome>, Ended<H::Stop>> {
    let Some(roll) = record.roll.clone() else { return Ok(None) };
    let (asked, batch) = (BTreeSet::new(), Vec::new());
    let mut run = Run { hands, record, roll, options, asked, outage_since: None, back_at: None, batch, before: None };
    run.all().map(Some)
}

impl<H: Hands> Run<'_, H> {
    fn all(&mut self) -> Result<Outcome, Ended<H::Stop>> {
        let target = self.roll.target.clone();
        self.hands.tell(Event::Begin {
            roll: self.roll.id.clone(),
            image: target.image,
            build: target.build,
            scheduler: self.roll.scheduler,
            nodes: self.roll.order.len(),
        });
        self.save()?;
        let outcome = loop {
            let stops = self.has_too_many_failures();
            let is_open = self.is_open();
            if stops || !is_open {
                self.give_back()?;
            }
            let flight = self.in_stage(|node| node.is_in_flight());
            if !flight.is_empty() {
                self.release_held()?;
                self.step(&flight, is_open && !stops)?;
                self.save()?;
                if self.roll.nodes.values().any(Node::is_in_flight) {
                    self.hands.pause()?;
                }
                continue;
            }
            self.end_batch();
            let is_waiting = self.roll.nodes.values().any(|node| node.stage == Stage::Waiting);
            match (stops, is_waiting) {
                (true, _) => break Outcome::Failures,
                (_, true) if !is_open => break Outcome::WindowClosed,
                (_, true) => {}
                (_, false) => break self.end_of_all(),
            }
            if !self.next_batch()? {
                break Outcome::MaxDown;
            }
        };
        while !self.release_held()? {
            self.hands.pause()?;
        }
        self.end(outcome)?;
        Ok(outcome)
    }

    fn end_of_all(&self) -> Outcome {
        let has = |stage| self.roll.nodes.values().any(|node| node.stage == stage);
        match (has(Stage::Failed), has(Stage::Left)) {
            // Fewer than would have stopped it.
            (true, _) => Outcome::Failures,
            (_, true) => Outcome::LeftAlone,
            _ => Outcome::Done,
        }
    }

    /// Keeps what is still to be done, and says how it ended.
    fn end(&mut self, outcome: Outcome) -> Step<H> {
        let names = |stage| self.in_stage(|node| node.stage == stage);
        let (failed, left, waiting) = (names(Stage::Failed), names(Stage::Left), names(Stage::Waiting));
        let done = names(Stage::Done).len();
        let is_over = failed.is_empty() && waiting.is_empty();
        self.record.roll = (!is_over).then(|| self.roll.clone());
        self.hands.save(self.record)?;
        self.hands.tell(Event::End { outcome, done, failed, left, waiting });
        Ok(())
    }

    fn save(&mut self) -> Step<H> {
        self.record.roll = Some(self.roll.clone());
        Ok(self.hands.save(self.record)?)
    }

    fn in_stage(&self, is: impl Fn(&Node) -> bool) -> Vec<String> {
        let is_in = |name: &&String| self.roll.nodes.get(*name).is_some_and(&is);
        self.roll.order.iter().filter(is_in).cloned().collect()
    }

    fn node(&mut self, name: &str) -> &mut Node {
        self.roll.nodes.entry(name.to_owned()).or_insert_with(Node::waiting)
    }

    fn is_slurm(&self) -> bool {
        self.roll.scheduler == Scheduler::Slurm
    }

    fn is_open(&mut self) -> bool {
        let minute = self.hands.minute();
        self.options.window.is_none_or(|window| window.has(minute))
    }

    /// Nodes of the canary that are still to succeed: those with which nothing had to be done do not count.
    fn canary_left(&self) -> usize {
        let counts = |node: &&Node| {
            let is_act = node.act.as_ref().is_some_and(|act| *act != Act::Nothing);
            node.stage == Stage::Done && (is_act || fault::planted("roll-idle-canary"))
        };
        self.options.canary.saturating_sub(self.roll.nodes.values().filter(counts).count())
    }

    fn has_too_many_failures(&self) -> bool {
        let failed = self.roll.nodes.values().filter(|node| node.stage == Stage::Failed).count();
        failed > self.options.max_failures || failed > 0 && self.canary_left() > 0
    }

    /// Whether the scheduler does not answer; it is said once, and not for ever.
    fn is_out(&mut self, problem: String) -> Step<H> {
        let now = self.hands.now();
        match self.outage_since {
            None => {
                self.outage_since = Some(now);
                self.hands.tell(Event::Outage { problem });
            }
            Some(since) if now.saturating_sub(since) >= self.options.outage => return Err(Ended::Outage(problem)),
            Some(_) => {}
        }
        Ok(())
    }

    fn is_back(&mut self) {
        if self.outage_since.take().is_some() {
            self.back_at = Some(self.hands.now());
            self.hands.tell(Event::OutageOver);
        }
    }

    /// Whether the scheduler has just come back: it calls nodes down until it has heard of them.
    fn is_settling(&mut self) -> bool {
        let now = self.hands.now();
        self.back_at.is_some_and(|at| now.saturating_sub(at) < SETTLES) && !fault::planted("roll-believes-at-once")
    }

    /// What the scheduler says; none while it does not answer.
    fn look(&mut self, names: &[String]) -> Result<Option<BTreeMap<String, Seat>>, Ended<H::Stop>> {
        match self.hands.look(names) {
            Ok(seats) => {
                self.is_back();
                Ok(Some(seats))
            }
            Err(_) if fault::planted("roll-outage-is-an-answer") => Ok(Some(BTreeMap::new())),
            Err(problem) => self.is_out(problem).map(|()| None),
        }
    }

    fn problem(&mut self, name: &str, problem: &str) {
        if self.node(name).problem.as_deref() != Some(problem) {
            self.node(name).problem = Some(problem.to_owned());
            self.hands.tell(Event::Problem { node: name.to_owned(), problem: problem.to_owned() });
        }
    }

    fn ends(&mut self, name: &str, stage: Stage, reason: Option<String>) {
        let node = self.node(name);
        if stage == Stage::Failed {
            node.failed_at = Some(node.stage);
        } else {
            node.drained = None;
        }
        node.stage = stage;
        node.problem.clone_from(&reason);
        let (act, state) = match stage {
            Stage::Failed => (node.act.clone(), NodeState::Failed),
            Stage::Left => (None, NodeState::Left),
            Stage::Waiting => (None, NodeState::Returned),
            _ => (node.act.clone(), NodeState::Done),
        };
        self.hands.tell(Event::Node { node: name.to_owned(), state, act, reason });
    }

    fn fails(&mut self, name: &str, reason: String) {
        self.ends(name, Stage::Failed, Some(reason));
    }

    fn leaves(&mut self, name: &str, reason: String) {
        self.ends(name, Stage::Left, Some(reason));
    }

    fn is_late(&mut self, name: &str, limit: u64) -> bool {
        let now = self.hands.now();
        now.saturating_sub(self.node(name).waits_from) >= limit
    }
}

fn is_up(report: Option<&Reported>, since: u64, target: &Build) -> bool {
    use super::hands::ReportedState::Up;
    report.is_some_and(|report| report.state == Up && report.time >= since && report.build.as_ref() == Some(target))
}

fn of_held(held: &Held) -> (&str, bool) {
    (&held.id, held.touched)
}
