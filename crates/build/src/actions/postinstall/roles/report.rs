//! What a run reported of itself: a line of JSON each.

use std::io::Read;

use serde::{Deserialize, Serialize};

/// How much is read, in bytes.
const READ: u64 = 4 << 20;

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A task was started.
    Ran,
    Failed,
    Unreachable,
    /// It failed, and the playbook ignores that.
    Ignored,
    /// A play matched no host.
    NoHosts,
    /// What a service was to become; nothing runs in an image.
    State,
    /// Nothing could be run.
    Error,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    pub kind: Kind,
    /// The task; of a state the service.
    #[serde(default)]
    pub task: String,
    #[serde(default)]
    pub module: String,
    /// File and line of the task, as the run sees it.
    #[serde(default)]
    pub place: String,
    #[serde(default)]
    pub message: String,
}

/// Reads a report; what is no record is left out.
pub(super) fn read(file: Option<std::fs::File>) -> Vec<Record> {
    let mut bytes = Vec::new();
    if file.is_none_or(|file| file.take(READ).read_to_end(&mut bytes).is_err()) {
        return Vec::new();
    }
    let text = String::from_utf8_lossy(&bytes);
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// What ended a run: the last that failed.
pub(super) fn failure(records: &[Record]) -> Option<&Record> {
    records.iter().rev().find(|one| matches!(one.kind, Kind::Failed | Kind::Unreachable | Kind::Error))
}

/// Hosts that no play found, where no play found any.
pub(super) fn unmatched(records: &[Record]) -> Option<String> {
    if fault::planted("role-for-no-host") || records.iter().any(|one| one.kind == Kind::Ran) {
        return None;
    }
    let hosts: Vec<&str> =
        records.iter().filter(|one| one.kind == Kind::NoHosts).map(|one| one.message.as_str()).collect();
    (!hosts.is_empty()).then(|| hosts.join(", "))
}

/// Services that were to start, restart or stop, each once with what it was to be.
pub(super) fn states(records: &[Record]) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for one in records.iter().filter(|one| one.kind == Kind::State) {
        let pair = (sandbox::shown(&one.task), sandbox::shown(&one.message));
        if !found.contains(&pair) {
            found.push(pair);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(text: &str) -> Vec<Record> {
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    #[test]
    fn the_last_failure_ended_the_run_and_ignored_ones_did_not() {
        let found = records(
            "{\"kind\": \"ran\"}\n{\"kind\": \"failed\", \"task\": \"rescued\"}\nnoise\n{\"kind\": \"failed\", \"task\": \"last\", \"place\": \"/recipe/a.yml:3\"}\n{\"kind\": \"ignored\", \"task\": \"x\"}\n",
        );
        assert_eq!(found.len(), 4);
        assert_eq!(failure(&found).map(|one| one.task.as_str()), Some("last"));
        assert_eq!(unmatched(&found), None);
    }

    #[test]
    fn a_run_without_any_task_says_which_hosts_it_looked_for() {
        let found = records("{\"kind\": \"no-hosts\", \"message\": \"db\"}\n");
        assert_eq!(unmatched(&found).as_deref(), Some("db"));
        let twice = "{\"kind\": \"state\", \"task\": \"cron\", \"message\": \"started\"}\n".repeat(2);
        assert_eq!(states(&records(&twice)), [("cron".to_owned(), "started".to_owned())]);
    }
}
