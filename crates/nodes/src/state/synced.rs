//! That `sync` changed a running node: since then it has more, or other, than its build.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::per_node::SYNCED;
use super::reports::Report;
use super::{STATE_FORMAT, State, StateError, now};

/// When a node was changed last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Synced {
    /// Version of this form.
    pub format_version: String,
    /// When, in milliseconds since 1970.
    pub time: u64,
}

impl Synced {
    pub fn now() -> Self {
        Self { format_version: STATE_FORMAT.to_string(), time: now() }
    }

    /// Whether the node has not started since, by its last report.
    pub fn counts(&self, report: &Report) -> bool {
        report.time <= self.time
    }
}

impl State {
    /// Notes that a node was changed.
    /// Errors: It cannot be written.
    pub fn write_synced(&self, node: &str, synced: &Synced) -> Result<(), StateError> {
        self.keep(SYNCED, node, synced, 0o644)
    }

    /// When nodes were changed last.
    pub fn synced(&self) -> BTreeMap<String, Synced> {
        self.all_kept(SYNCED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::reports::ReportState;

    #[test]
    fn a_change_counts_until_the_node_reports_again() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(directory.path().join("state"));
        assert!(state.synced().is_empty());
        let at = |time| Report { time, ..Report::new(ReportState::Up, None, Some("compute"), Some("0123456789ab")) };
        let before = now();
        state.write_synced("cn1", &Synced::now()).unwrap();
        let synced = &state.synced()["cn1"];
        assert!(synced.counts(&at(before)) && !synced.counts(&at(synced.time + 1)));
        assert_eq!(state.kept_names().into_iter().collect::<Vec<_>>(), ["cn1"]);
        state.forget_all("cn1");
        assert!(state.synced().is_empty());
    }
}
