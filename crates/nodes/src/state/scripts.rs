//! What became of the scripts that a node ran: one small file a node, of its last start alone.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::per_node::SCRIPTS;
use super::{STATE_FORMAT, State, StateError, now};

/// Most scripts of a list that are kept, lines of each, characters of a line or a reason, and bytes of all of a list.
const MOST_SCRIPTS: usize = 200;
const MOST_LINES: usize = 20;
const LONGEST: usize = 400;
const MOST_BYTES: usize = 32 << 10;

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

/// Bytes of a text in the file; its name and its commas are counted with what it is of.
fn bytes_of(text: &str) -> usize {
    serde_json::to_string(text).map_or(usize::MAX, |text| text.len() + 1)
}

/// What is kept of a list: where it is too much, scripts that failed go before the others, and last lines before first ones.
fn bounded(results: Vec<ScriptResult>) -> Vec<ScriptResult> {
    let mut all: Vec<ScriptResult> = results.into_iter().take(MOST_SCRIPTS).collect();
    let mut order: Vec<usize> = (0..all.len()).collect();
    order.sort_by_key(|at| !all[*at].is_bad());
    let (mut left, mut fits, mut lines) = (MOST_BYTES, vec![false; all.len()], Vec::new());
    for at in &order {
        let one = &mut all[*at];
        (one.name, one.reason) = (tame(&one.name), tame(&one.reason));
        lines.push(std::mem::take(&mut one.lines));
        let size = 100 + bytes_of(&one.name) + bytes_of(&one.reason);
        fits[*at] = size <= left;
        left -= if fits[*at] { size } else { 0 };
    }
    for (at, lines) in order.into_iter().zip(lines).filter(|(at, _)| fits[*at]) {
        let last = lines.len().saturating_sub(MOST_LINES);
        for line in lines[last..].iter().rev().map(|line| tame(line)) {
            let Some(rest) = left.checked_sub(bytes_of(&line)) else { break };
            left = rest;
            all[at].lines.insert(0, line);
        }
    }
    let mut fits = fits.into_iter();
    all.retain(|_| fits.next() == Some(true));
    all
}

impl State {
    /// Keeps what became of the scripts of one list.
    /// Errors: It cannot be written. No node can have such a name.
    pub fn write_scripts(&self, node: &str, list: &str, results: Vec<ScriptResult>) -> Result<(), StateError> {
        let mut lists = self.scripts(node).map(|scripts| scripts.lists).unwrap_or_default();
        lists.insert(list.to_owned(), bounded(results));
        let scripts = Scripts { format_version: STATE_FORMAT.to_string(), time: now(), lists };
        // What scripts print is for those who run the server.
        self.keep(SCRIPTS, node, &scripts, 0o640)
    }

    pub fn scripts(&self, node: &str) -> Option<Scripts> {
        self.kept(SCRIPTS, node)
    }

    pub fn forget_scripts(&self, node: &str) {
        self.forget_kept(SCRIPTS, node);
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
        let many = (0..500).map(|at| result("a", if at == 77 { ScriptOutcome::Failed } else { ScriptOutcome::Done }));
        state.write_scripts("cn1", "postscripts", many.collect()).unwrap();
        let kept = state.scripts("cn1").unwrap();
        let list = &kept.lists["postscripts"];
        assert_eq!((list.len(), list[77].lines[0].len()), (MOST_SCRIPTS, LONGEST));
        // Those of a script that failed go before others.
        assert!((10..=MOST_LINES).contains(&list[77].lines.len()) && list[78].lines.is_empty(), "{list:?}");
        // However it comes, what is kept of a node is small.
        for text in ["\"", "\\", "\u{1}", "é"].map(|letter| letter.repeat(10_000)) {
            let many = (0..500).map(|_| ScriptResult { reason: text.clone(), ..result(&text, ScriptOutcome::Failed) });
            state.write_scripts("cn2", "postscripts", many.clone().collect()).unwrap();
            state.write_scripts("cn2", "postbootscripts", many.collect()).unwrap();
            let size = std::fs::metadata(directory.path().join("state/scripts/cn2.json")).unwrap().len();
            assert!(size < 2 * MOST_BYTES as u64 + 1000, "{size}");
        }
        let bad: Vec<_> = kept.bad().map(|(list, one)| format!("{list} {} {}", one.name, one.reason)).collect();
        assert_eq!(bad, ["postscripts a exit status 3 [2J", "postbootscripts b exit status 3 [2J"]);
        assert!(state.write_scripts("../cn1", "postscripts", Vec::new()).is_err() && state.scripts("../cn1").is_none());
        state.forget_scripts("cn1");
        assert!(state.scripts("cn1").is_none());
    }
}
