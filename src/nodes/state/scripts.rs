//! What became of the scripts that a node ran: one small file a node, of its last start alone.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{STATE_FORMAT, State, StateError, now, replace};
use crate::files::Durability;
use crate::nodes::file::is_node_name;

/// Most scripts of a list that are kept, lines of each, and characters of a line or a reason.
const MOST_SCRIPTS: usize = 200;
const MOST_LINES: usize = 20;
const LONGEST: usize = 400;

/// How a script ended. The words are those of imgbuild-init.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScriptOutcome {
    /// With status 0.
    Done,
    /// With another status.
    Failed,
    /// Its time was over, and it was ended.
    Timeout,
    /// By a signal.
    Signal,
    /// It could not be started.
    Unstarted,
}

/// What became of a script.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ScriptResult {
    /// Its name.
    pub name: String,
    /// How it ended.
    pub outcome: ScriptOutcome,
    /// The same in words.
    pub reason: String,
    /// How long it took.
    pub seconds: u64,
    /// The last lines that it printed.
    #[serde(default)]
    pub lines: Vec<String>,
}

impl ScriptResult {
    pub fn is_bad(&self) -> bool {
        self.outcome != ScriptOutcome::Done
    }
}

/// What became of the scripts of a node at its last start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Scripts {
    /// Version of this form.
    pub format_version: String,
    /// When the last of it came, in milliseconds since 1970.
    pub time: u64,
    /// The scripts of each list that has run, `postscripts` and `postbootscripts`.
    pub lists: BTreeMap<String, Vec<ScriptResult>>,
}

impl Scripts {
    /// Those that did not succeed: the list and the script.
    pub fn bad(&self) -> impl Iterator<Item = (&str, &ScriptResult)> {
        // In the order in which they run.
        let lists = ["postscripts", "postbootscripts"].into_iter().filter_map(|list| self.lists.get_key_value(list));
        lists.flat_map(|(list, all)| all.iter().filter(|one| one.is_bad()).map(|one| (list.as_str(), one)))
    }
}

/// What a node says is cut and made harmless: anybody may hold its token.
fn tame(text: &str) -> String {
    let shown = text.trim_end().chars().map(|letter| if letter.is_control() { ' ' } else { letter });
    shown.take(LONGEST).collect()
}

impl State {
    fn scripts_path(&self) -> std::path::PathBuf {
        self.directory().join("scripts")
    }

    /// Keeps what became of the scripts of one list.
    /// Errors: It cannot be written. No node can have such a name.
    pub fn write_scripts(&self, node: &str, list: &str, results: Vec<ScriptResult>) -> Result<(), StateError> {
        let directory = self.scripts_path();
        if !is_node_name(node) {
            let problem = "cannot be a report: no node can have this name".to_owned();
            return Err(StateError::Damaged { path: directory.join("?"), problem });
        }
        let cut = |one: ScriptResult| ScriptResult {
            name: tame(&one.name),
            reason: tame(&one.reason),
            lines: one.lines.iter().take(MOST_LINES).map(|line| tame(line)).collect(),
            ..one
        };
        let mut lists = self.scripts(node).map(|scripts| scripts.lists).unwrap_or_default();
        lists.insert(list.to_owned(), results.into_iter().take(MOST_SCRIPTS).map(cut).collect());
        let scripts = Scripts { format_version: STATE_FORMAT.to_string(), time: now(), lists };
        std::fs::create_dir_all(&directory).map_err(StateError::of("make", &directory))?;
        let mut text = serde_json::to_vec(&scripts).unwrap_or_default();
        text.push(b'\n');
        // What scripts print is for those who run the server.
        replace(&directory, &format!("{node}.json"), &text, 0o640, Durability::Kill)
    }

    pub fn scripts(&self, node: &str) -> Option<Scripts> {
        if !is_node_name(node) {
            return None;
        }
        serde_json::from_slice(&std::fs::read(self.scripts_path().join(format!("{node}.json"))).ok()?).ok()
    }

    pub fn forget_scripts(&self, node: &str) {
        if is_node_name(node) {
            let _ = std::fs::remove_file(self.scripts_path().join(format!("{node}.json")));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_became_of_scripts_is_cut_and_kept_until_the_next_start() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(directory.path().join("state"));
        let result = |name: &str, outcome| ScriptResult {
            name: name.to_owned(),
            outcome,
            reason: "exit status 3\x1b[2J".to_owned(),
            seconds: 1,
            lines: vec!["x".repeat(10_000); 50],
        };
        state.write_scripts("cn1", "postbootscripts", vec![result("b", ScriptOutcome::Failed)]).unwrap();
        let many = (0..500).map(|_| result("a", ScriptOutcome::Done)).collect();
        state.write_scripts("cn1", "postscripts", many).unwrap();
        let kept = state.scripts("cn1").unwrap();
        assert_eq!(
            (kept.lists["postscripts"].len(), kept.lists["postscripts"][0].lines.len()),
            (MOST_SCRIPTS, MOST_LINES)
        );
        assert_eq!(kept.lists["postscripts"][0].lines[0].len(), LONGEST);
        let bad: Vec<_> = kept.bad().map(|(list, one)| format!("{list} {} {}", one.name, one.reason)).collect();
        assert_eq!(bad, ["postbootscripts b exit status 3 [2J"]);
        assert!(state.write_scripts("../cn1", "postscripts", Vec::new()).is_err() && state.scripts("../cn1").is_none());
        state.forget_scripts("cn1");
        assert!(state.scripts("cn1").is_none());
    }
}
