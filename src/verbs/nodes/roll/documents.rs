//! What `roll --json` prints.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;

use base::format::Version;
use roll::{Event, Planned, Scheduler};

pub(super) const FORMAT: Version = Version::new(1, 0);

/// What `roll --json` prints: an event a line, or one document. Readers ignore fields and events that they do not know.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
#[schemars(title = "imgbuild roll --json")]
pub(crate) enum RollDocument {
    /// A line of a roll.
    Event(Event),
    /// With `--plan`.
    Plan(PlanDocument),
    /// With `--abort`.
    Abort(AbortDocument),
}

/// What a roll would do.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PlanDocument {
    /// Version of this form.
    pub format_version: String,
    /// When it was printed, in milliseconds since 1970.
    pub time: u64,
    /// The image.
    pub image: String,
    /// Name of the build that nodes would get.
    pub build: String,
    /// What gives nodes work.
    pub scheduler: Option<Scheduler>,
    /// One entry per node, in the order of their turns.
    pub nodes: Vec<Planned>,
}

/// What became of the nodes that rolls had drained.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct AbortDocument {
    /// Version of this form.
    pub format_version: String,
    /// Nodes that get work again.
    pub resumed: Vec<String>,
    /// Nodes that stay drained, and why.
    pub drained: BTreeMap<String, String>,
}

impl RollDocument {
    /// An event in one line, a document in several; with a line feed.
    pub(super) fn text(&self) -> String {
        let text = match self {
            Self::Event(_) => serde_json::to_string(self),
            _ => serde_json::to_string_pretty(self),
        };
        format!("{}\n", text.unwrap_or_default())
    }
}
