//! The outside world of a roll.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use super::record::{Act, Build, Part, Record, Scheduler};

/// What became of it, by node; as text, what did not work. A node that is missing was not tried.
pub type Answers<T> = BTreeMap<String, Result<T, String>>;

/// What the scheduler says of a node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seat {
    /// The reason, if it is drained; empty if it was drained without one.
    pub drained: Option<String>,
    /// Whether it is down.
    pub is_down: bool,
    /// Whether it has jobs, suspended and ending ones among them.
    pub has_jobs: bool,
}

/// How far a node said that it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReportedState {
    /// It starts.
    Starting,
    /// Its services are up.
    Up,
    /// It gave up, for now.
    Failed,
}

/// A node's last report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reported {
    pub state: ReportedState,
    /// The build that it runs, if that is known.
    pub build: Option<Build>,
    /// When it came, in milliseconds since 1970.
    pub time: u64,
    /// Why it failed.
    pub reason: Option<String>,
    /// Whether its boot script was asked for since.
    pub asked_since: bool,
}

/// A restart of all of user space, or of the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Soft,
    Machine,
}

/// What a node answered that was to restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// It restarts.
    Restarts,
    /// It has restarted since its mark was read: nothing was done.
    Restarted,
    /// It cannot restart that way, and why.
    Cannot(String),
}

/// How a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum NodeState {
    /// It has the build.
    Done,
    /// It stays drained.
    Failed,
    /// It was left alone.
    Left,
    /// It was given back before anything was done with it.
    Returned,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// It begins, or goes on.
    Begin {
        /// Name of the roll, which stands in the reason of drained nodes.
        roll: String,
        /// The image.
        image: String,
        /// Name of the build.
        build: String,
        /// What gives nodes work.
        scheduler: Scheduler,
        /// Number of nodes.
        nodes: usize,
    },
    /// A batch begins.
    Batch {
        /// From 1.
        number: u32,
        /// Whether it is the canary.
        canary: bool,
        /// Its nodes.
        nodes: Vec<String>,
        /// Nodes that wait for their turn after it.
        waiting: usize,
    },
    /// A node has a problem; it is not given up yet.
    Problem {
        /// The node.
        node: String,
        /// What does not work.
        problem: String,
    },
    /// A node is done, failed, or was left alone.
    Node {
        /// The node.
        node: String,
        /// How it ended.
        state: NodeState,
        /// What was done with it.
        #[serde(skip_serializing_if = "Option::is_none")]
        act: Option<Act>,
        /// Why.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// A batch has ended.
    BatchEnd {
        /// From 1.
        number: u32,
        /// Nodes that are done.
        done: usize,
        /// Nodes that failed.
        failed: usize,
        /// Nodes that were left alone or given back.
        left: usize,
    },
    /// The scheduler does not answer; it is asked again.
    Outage {
        /// What it says.
        problem: String,
    },
    /// The scheduler answers again.
    OutageOver,
    /// It ends.
    End {
        /// Why.
        outcome: super::run::Outcome,
        /// Nodes that have the build.
        done: usize,
        /// Nodes that failed, which stay drained.
        failed: Vec<String>,
        /// Nodes that were left alone.
        left: Vec<String>,
        /// Nodes whose turn has not come.
        waiting: Vec<String>,
    },
}

/// What a roll does with the world. Everything but what ends it comes back as a text about one node.
pub trait Hands {
    /// What ends a roll at once: Ctrl-C, a full disk.
    type Stop;

    /// Now, in milliseconds since 1970.
    fn now(&mut self) -> u64;
    /// The minute of the day, in local time.
    fn minute(&mut self) -> u16;
    /// Waits a little.
    /// Errors: It was interrupted.
    fn pause(&mut self) -> Result<(), Self::Stop>;
    /// Keeps the record, so that it survives a power cut.
    /// Errors: It cannot be written.
    fn save(&mut self, record: &Record) -> Result<(), Self::Stop>;
    /// What the scheduler says of nodes; those that it does not know are missing.
    /// Errors: It does not answer.
    fn look(&mut self, names: &[String]) -> Result<BTreeMap<String, Seat>, String>;
    /// Has the scheduler give a node no more work.
    /// Errors: It does not answer, or refuses.
    fn drain(&mut self, name: &str, reason: &str) -> Result<(), String>;
    /// Has the scheduler give a node work again.
    /// Errors: It does not answer, or refuses.
    fn resume(&mut self, name: &str) -> Result<(), String>;
    /// Whether no user has a process on nodes: what is asked where no scheduler is.
    fn quiet(&mut self, names: &[String]) -> Answers<bool>;
    /// The last reports of nodes.
    fn reports(&mut self, names: &[String]) -> BTreeMap<String, Reported>;
    /// The smallest restart from one build to another, and why.
    /// Errors: They cannot be compared now.
    fn between(&mut self, runs: &Build, to: &Build) -> Result<(Act, String), Self::Stop>;
    /// Has nodes boot the new build from now on.
    /// Errors: They do not.
    fn assign(&mut self, names: &[String]) -> Result<(), Self::Stop>;
    /// What tells the present start of nodes from the next one.
    fn marks(&mut self, names: &[String]) -> Answers<String>;
    /// Brings what the new build has.
    /// Errors: It was interrupted, or what would be brought is not what the build has.
    fn sync(&mut self, names: &[String], parts: &[Part]) -> Result<Answers<()>, Self::Stop>;
    /// Starts services again.
    fn restart_services(&mut self, names: &[String], services: &[String]) -> Answers<()>;
    /// Restarts nodes, each only if it still has its mark.
    fn restart(&mut self, orders: &[(String, Kind, String)]) -> Answers<Sent>;
    /// Whether nodes are healthy.
    fn health(&mut self, names: &[String]) -> Answers<()>;
    /// Says what happens.
    fn tell(&mut self, event: Event);
}
