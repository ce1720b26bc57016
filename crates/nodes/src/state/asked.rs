//! That a node's boot script was asked for: a fact of its own, because anyone can ask. It alters neither the node's report nor what
//! became of its scripts.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::per_node::ASKED;
use super::reports::Report;
use super::{STATE_FORMAT, State, StateError, now};

/// When a node's boot script was asked for last, and from where.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Asked {
    /// Version of this form.
    pub format_version: String,
    /// When, in milliseconds since 1970.
    pub time: u64,
    /// The client's address.
    pub from: String,
}

impl Asked {
    pub fn now(from: std::net::IpAddr) -> Self {
        Self { format_version: STATE_FORMAT.to_string(), time: now(), from: from.to_string() }
    }

    /// Whether the node has not reported since.
    pub fn is_open(&self, report: Option<&Report>) -> bool {
        report.is_none_or(|report| report.time < self.time)
    }
}

impl State {
    /// Notes that a node's script was asked for.
    /// Errors: It cannot be written.
    pub fn write_asked(&self, node: &str, asked: &Asked) -> Result<(), StateError> {
        self.keep(ASKED, node, asked, 0o644)
    }

    /// When the scripts of all nodes were asked for last.
    pub fn asked(&self) -> BTreeMap<String, Asked> {
        self.all_kept(ASKED)
    }
}
