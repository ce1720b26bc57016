//! What is kept of rolls, so that they can be killed and called again. Everything is noted before it is done.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A build of an image.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Build {
    /// The image.
    pub image: String,
    /// Name of the build, as its directory is called.
    pub build: String,
}

impl std::fmt::Display for Build {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}@{}", self.image, self.build.chars().take(12).collect::<String>())
    }
}

/// What gives nodes work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheduler {
    /// Slurm, by `scontrol`.
    Slurm,
    /// No scheduler: nodes are restarted when no user has a process there.
    None,
}

impl Scheduler {
    /// As the command line names it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Slurm => "slurm",
            Self::None => "none",
        }
    }
}

/// What a sync brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Part {
    /// The files of sync lists.
    Files,
    /// The packages of the lock.
    Packages,
}

/// What is done with a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "restart", rename_all = "kebab-case")]
pub enum Act {
    /// Nothing: only what it boots next is changed.
    Nothing,
    /// A sync.
    Sync {
        /// What is brought.
        parts: Vec<Part>,
    },
    /// A sync, and services that start again.
    #[serde(rename = "restart")]
    Services {
        /// What is brought before.
        parts: Vec<Part>,
        /// Units; `init.scope` is systemd itself.
        services: Vec<String>,
    },
    /// User space starts again from the new image.
    SoftReboot,
    /// The machine starts again.
    Reboot,
}

impl Act {
    /// As JSON and the terminal name it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Sync { .. } => "sync",
            Self::Services { .. } => "restart",
            Self::SoftReboot => "soft-reboot",
            Self::Reboot => "reboot",
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Nothing => 0,
            Self::Sync { .. } => 1,
            Self::Services { .. } => 2,
            Self::SoftReboot => 3,
            Self::Reboot => 4,
        }
    }

    /// What is enough for both.
    pub fn and(self, other: Self) -> Self {
        let join = |a: Vec<Part>, b: Vec<Part>| {
            let mut all: Vec<Part> = a.into_iter().chain(b).collect();
            all.sort_unstable();
            all.dedup();
            all
        };
        let (small, large) = if self.rank() <= other.rank() { (self, other) } else { (other, self) };
        match (small, large) {
            (Self::Sync { parts }, Self::Sync { parts: more }) => Self::Sync { parts: join(parts, more) },
            (Self::Sync { parts }, Self::Services { parts: more, services }) => {
                Self::Services { parts: join(parts, more), services }
            }
            (Self::Services { parts, services }, Self::Services { parts: more, services: others }) => {
                let mut services: Vec<String> = services.into_iter().chain(others).collect();
                services.sort();
                services.dedup();
                Self::Services { parts: join(parts, more), services }
            }
            (_, large) => large,
        }
    }
}

/// How far a node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// Its turn has not come.
    Waiting,
    /// It is drained, and waits for its jobs to end.
    Draining,
    /// It is synced, or has the order to restart.
    Acting,
    /// It restarts, and has not reported the new build.
    Coming,
    /// It has the new build; the health command has not succeeded yet.
    Checking,
    /// It is healthy, and gets work again.
    Resuming,
    /// It has the new build, and gets work.
    Done,
    /// Something went wrong; it stays drained.
    Failed,
    /// It was left alone.
    Left,
}

/// A node of a roll.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Node {
    /// How far it is.
    pub stage: Stage,
    /// What is done with it, once that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub act: Option<Act>,
    /// The roll whose reason its drain has; noted before it is drained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drained: Option<String>,
    /// Whether it was synced or restarted, or may have been.
    #[serde(default)]
    pub touched: bool,
    /// What tells its present start from the next one, read before it is restarted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mark: Option<String>,
    /// When it was synced or restarted, in milliseconds since 1970: only later reports count.
    #[serde(default)]
    pub since: u64,
    /// From when on time limits count, in milliseconds since 1970.
    #[serde(default)]
    pub waits_from: u64,
    /// Its last problem, or why it was left alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// Number of its batch, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch: Option<u32>,
    /// Where it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed_at: Option<Stage>,
}

impl Node {
    pub(crate) fn waiting() -> Self {
        Self {
            stage: Stage::Waiting,
            act: None,
            drained: None,
            touched: false,
            mark: None,
            since: 0,
            waits_from: 0,
            problem: None,
            batch: None,
            failed_at: None,
        }
    }

    /// Whether it is in work.
    pub fn is_in_flight(&self) -> bool {
        use Stage::{Acting, Checking, Coming, Draining, Resuming};
        matches!(self.stage, Draining | Acting | Coming | Checking | Resuming)
    }
}

/// A roll under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roll {
    /// Its name, which stands in the reason of drained nodes.
    pub id: String,
    /// The build that nodes get.
    pub target: Build,
    pub scheduler: Scheduler,
    /// When it began, in milliseconds since 1970.
    pub time: u64,
    /// Nodes in the order of their turns.
    pub order: Vec<String>,
    pub nodes: BTreeMap<String, Node>,
    /// Batches that were begun.
    pub batches: u32,
}

/// A node that an earlier roll left drained.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The roll whose reason its drain has.
    pub id: String,
    pub scheduler: Scheduler,
    /// Whether it was synced or restarted, or may have been.
    pub touched: bool,
    pub why: String,
}

/// What a node was synced to since it booted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Synced {
    /// The build that it booted, and still reports.
    pub booted: Build,
    /// The time of that report, in milliseconds since 1970.
    pub reported: u64,
    /// What tells that start from the next one.
    pub mark: String,
    /// What it was synced to; none if a sync of it did not finish.
    pub to: Option<Build>,
}

/// All that is kept, in one file.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Version of this form.
    #[serde(default)]
    pub format_version: String,
    /// The roll under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub roll: Option<Roll>,
    /// Nodes that earlier rolls left drained.
    #[serde(default)]
    pub held: BTreeMap<String, Held>,
    /// What nodes were synced to.
    #[serde(default)]
    pub synced: BTreeMap<String, Synced>,
}

impl Record {
    /// The scheduler of what is under way.
    pub fn scheduler(&self) -> Option<Scheduler> {
        let of_roll = self.roll.as_ref().map(|roll| roll.scheduler);
        of_roll.or_else(|| self.held.values().map(|held| held.scheduler).next())
    }

    /// Nodes that a roll drained or began to change, and did not give back: those still in work and failed ones.
    pub fn drained(&self) -> Vec<&str> {
        let is_out = |node: &Node| node.is_in_flight() || node.stage == Stage::Failed;
        let of_roll = self.roll.iter().flat_map(|roll| &roll.nodes).filter(|(_, node)| is_out(node));
        of_roll.map(|(name, _)| name).chain(self.held.keys()).map(String::as_str).collect()
    }
}

/// The reason that a node is drained with.
pub fn reason(id: &str) -> String {
    format!("imgbuild roll {id}")
}

/// Whether a drained node's reason is that of a roll.
pub fn is_ours(text: &str, id: &str) -> bool {
    text.trim() == reason(id)
}
