//! What came of a sync, for people and for programs: nodes with the same answer together.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

use crate::output::harmless::one_line;
use base::format::Version;
use nodes::NodeSet;
use sync::{Change, Executed, Job, Reached, What};

const SYNC_FORMAT: Version = Version::new(1, 0);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    Sync,
    Plan,
    Check,
}

/// How a node is, after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    /// It was as the lists say.
    Same,
    /// It is now.
    Changed,
    /// It is not, and nothing was changed.
    Differs,
    /// It was not reached, or something did not work.
    Failed,
    /// The run was stopped before its turn.
    Untried,
}

/// What `sync --json` prints. Readers ignore fields that they do not know.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(title = "imgbuild sync --json")]
pub(crate) struct SyncDocument {
    /// Version of this form.
    pub format_version: String,
    /// Whether nodes were changed; false for `--plan` and `--check`.
    pub applied: bool,
    /// One entry per node, in the order of their names.
    pub nodes: Vec<SyncedNode>,
    /// The same, nodes with equal answers together.
    pub groups: Vec<SyncedGroup>,
}

/// A node.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SyncedNode {
    /// Its name.
    pub name: String,
    /// The image whose lists were taken.
    pub image: String,
    /// How it is.
    pub state: State,
    /// What differed.
    pub changes: Vec<Change>,
    /// Scripts that ran; without `applied`, those that would.
    pub scripts: Vec<Executed>,
    /// What did not work.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    /// How long it took.
    pub milliseconds: u64,
}

/// Nodes with equal answers.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct SyncedGroup {
    /// The nodes, as a node set.
    pub nodes: String,
    /// How many.
    pub count: usize,
    /// How they are.
    pub state: State,
    /// What differed.
    pub changes: Vec<Change>,
    /// Scripts that ran; without `applied`, those that would.
    pub scripts: Vec<Executed>,
    /// What did not work; NODE stands for the node's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

pub(crate) fn state(reached: &Reached, purpose: Purpose) -> State {
    match (&reached.answer, purpose) {
        _ if !reached.tried => State::Untried,
        (answer, _) if answer.problem.is_some() => State::Failed,
        (answer, _) if answer.changes.is_empty() => State::Same,
        (_, Purpose::Sync) => State::Changed,
        _ => State::Differs,
    }
}

/// What nodes of a group have in common.
type Alike = (State, Vec<Change>, Vec<Executed>, Option<String>);

/// A problem with NODE in the place of the node's name and address, so that those of several nodes are one.
fn without_node(problem: &str, job: &Job) -> String {
    let address = job.address.map(|address| address.to_string());
    let is_own = |word: &str| word == job.node || address.as_deref() == Some(word);
    let is_part = |letter: char| letter.is_alphanumeric() || ".:-_".contains(letter);
    let words = problem.split_inclusive(|letter: char| !is_part(letter)).map(|piece| {
        // Behind a name stands what ends it.
        let word = piece.trim_end_matches(|letter: char| !is_part(letter) || ".:".contains(letter));
        let shown = if is_own(word) { "NODE" } else { word };
        format!("{shown}{}", &piece[word.len()..])
    });
    words.collect()
}

/// Nodes with equal answers, those to look at last.
fn groups(all: &[(&Job, &Reached)], purpose: Purpose) -> Vec<SyncedGroup> {
    let mut alike: BTreeMap<Alike, Vec<&str>> = BTreeMap::new();
    for (job, reached) in all {
        let answer = &reached.answer;
        let problem = answer.problem.as_ref().map(|problem| without_node(problem, job));
        let key = (state(reached, purpose), answer.changes.clone(), answer.scripts.clone(), problem);
        alike.entry(key).or_default().push(&job.node);
    }
    let group = |((state, changes, scripts, problem), nodes): (Alike, Vec<&str>)| SyncedGroup {
        count: nodes.len(),
        nodes: NodeSet::of(nodes).folded(),
        state,
        changes,
        scripts,
        problem,
    };
    alike.into_iter().map(group).collect()
}

pub(crate) fn json(all: &[(&Job, &Reached)], purpose: Purpose) -> String {
    let nodes = all.iter().map(|(job, reached)| SyncedNode {
        name: job.node.clone(),
        image: job.image.clone(),
        state: state(reached, purpose),
        changes: reached.answer.changes.clone(),
        scripts: reached.answer.scripts.clone(),
        problem: reached.answer.problem.clone(),
        milliseconds: u64::try_from(reached.took.as_millis()).unwrap_or(u64::MAX),
    });
    let document = SyncDocument {
        format_version: SYNC_FORMAT.to_string(),
        applied: purpose == Purpose::Sync,
        nodes: nodes.collect(),
        groups: groups(all, purpose),
    };
    format!("{}\n", serde_json::to_string_pretty(&document).unwrap_or_default())
}

fn word(what: &What, state: State) -> &'static str {
    match what {
        What::Missing if state == State::Changed => "created",
        What::Missing => "missing",
        What::Content => "content",
        What::Mode => "mode",
        What::Owner => "owner",
        What::Link => "dangling link",
        What::Append => "append",
        What::Merge => "merge",
        What::Script => "script not finished",
        What::Package if state == State::Changed => "installed",
        What::Package => "not installed",
        What::Version => "other version",
        What::Kernel => "kernel: needs a boot",
        What::Removed => "not in the lock: needs a boot",
    }
}

/// A table for people: a line per group, and below it what differs.
pub(crate) fn text(all: &[(&Job, &Reached)], purpose: Purpose) -> String {
    let mut text = String::new();
    for group in groups(all, purpose) {
        let state = match group.state {
            State::Same => "up to date".to_owned(),
            State::Changed => "changed".to_owned(),
            State::Differs if purpose == Purpose::Plan => "would change".to_owned(),
            State::Differs => "differs".to_owned(),
            State::Failed => format!("failed: {}", one_line(group.problem.as_deref().unwrap_or_default())),
            State::Untried => "not tried".to_owned(),
        };
        text.push_str(&format!("{}: {state}\n", group.nodes));
        for change in &group.changes {
            let what: Vec<&str> = change.what.iter().map(|what| word(what, group.state)).collect();
            let line = format!("  {:<40}  {}", one_line(&change.path), what.join(", "));
            text.push_str(&format!("{line:<64}  # {}\n", one_line(&change.line)));
        }
        for script in &group.scripts {
            let ended = match (purpose, script.exit, &script.reason) {
                (Purpose::Sync, _, Some(reason)) => one_line(reason),
                (Purpose::Sync, 0, _) => "ran".to_owned(),
                (Purpose::Sync, code, _) => format!("exit status {code}"),
                _ => "would run".to_owned(),
            };
            text.push_str(&format!("  {:<40}  {ended}\n", one_line(&script.name)));
            if script.exit != 0 {
                text.extend(script.output.lines().map(|line| format!("  | {}\n", one_line(line))));
            }
        }
    }
    text
}

/// How many nodes are how.
pub(crate) fn summary(states: &[State], purpose: Purpose, took: Duration) -> String {
    let count = |wanted: State| states.iter().filter(|state| **state == wanted).count();
    let differs = if purpose == Purpose::Plan { "would change" } else { "differ" };
    let parts: Vec<String> = [
        (State::Changed, "changed"),
        (State::Differs, differs),
        (State::Same, "up to date"),
        (State::Failed, "failed"),
        (State::Untried, "not tried"),
    ]
    .into_iter()
    .filter_map(|(state, word)| Some(count(state)).filter(|count| *count > 0).map(|count| format!("{count} {word}")))
    .collect();
    let nodes = base::source::counted_as(states.len(), "node", "nodes");
    format!("{nodes}: {}; {:.1} s", parts.join(", "), took.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_of_several_nodes_are_one_where_only_name_and_address_differ() {
        let of = |name: &str, address: &str, problem: &str| {
            let job = Job { address: address.parse().ok(), ..Job::of(name, "image") };
            without_node(problem, &job)
        };
        for (name, address) in [("cn1", "10.0.0.1"), ("cn2", "fd00::2")] {
            let problem = format!("ssh: connect to host {address} port 22: `{name}`, root@{name}: timed out.");
            assert_eq!(
                of(name, address, &problem),
                "ssh: connect to host NODE port 22: `NODE`, root@NODE: timed out.",
                "{name}"
            );
        }
        // Neither a longer name nor a longer address is the node's.
        for other in ["cn10 at 10.0.0.11", "xcn1, 110.0.0.1, cn1.site, cn1-ib", "  é\n"] {
            assert_eq!(of("cn1", "10.0.0.1", other), other);
        }
    }
}
