//! Decides keep, run or depends for each action.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::causes::explain::{in_reading_order, output_of};
use super::causes::follow::Follow;
use super::{Action, ActionGraph, Cause, InputName, Known, Origin, Place, Reason, key_and_trace};
use base::digest::Digest;

#[derive(Debug, Clone, Default)]
pub struct RecordedAction {
    pub inputs: Vec<(String, String)>,
    /// Its outputs by name: `layer`, `value NAME`.
    pub outputs: BTreeMap<String, String>,
    /// Whether all that it gave is still there.
    pub intact: bool,
    /// What differed when it ran again, if that was found.
    pub differs_in: Option<String>,
}

pub trait History {
    fn with_key(&self, key: &Digest) -> Option<RecordedAction>;
    fn last(&self, action: &str) -> Option<RecordedAction>;
    fn knows_image(&self) -> bool {
        false
    }
    /// Whether the last build of this image had an action, be its record there or not.
    fn had(&self, action: &str) -> bool {
        self.last(action).is_some()
    }
    /// The run of an action that gave an output with a value.
    fn producing(&self, _action: &str, _output: &str, _value: &str) -> Option<RecordedAction> {
        None
    }
    /// Outputs of a run that are gone, in words.
    fn missing(&self, _key: &Digest) -> Vec<String> {
        vec!["its result".to_owned()]
    }
    /// Where an input stood at the time of the last build, and what it came from.
    fn place(&self, _action: &str, _input: &str) -> Option<(Place, Origin)> {
        None
    }
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing: an earlier result is used.
    Keep,
    /// It runs.
    Run,
    /// It runs unless what it depends on turns out to be as before.
    Depends,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Run => "run",
            Self::Depends => "depends",
        }
    }

    /// What is to be done with several together: they run when one does, and depend when one does.
    pub fn of_all(all: impl IntoIterator<Item = Self>) -> Self {
        all.into_iter().fold(Self::Keep, |known, one| match (known, one) {
            (Self::Run, _) | (_, Self::Run) => Self::Run,
            (Self::Depends, _) | (_, Self::Depends) => Self::Depends,
            (Self::Keep, Self::Keep) => Self::Keep,
        })
    }
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[derive(Debug, Clone)]
pub struct Decision {
    pub action: String,
    pub verdict: Verdict,
    pub causes: Vec<Cause>,
    pub key: Option<Digest>,
    pub outputs: Option<BTreeMap<String, String>>,
    /// What differed when it ran again, if that was found.
    pub differs_in: Option<String>,
}

/// Outputs of decided actions, for the walk over those that use them.
pub struct Outputs<'a>(pub &'a BTreeMap<String, Decision>);

impl Known for Outputs<'_> {
    fn output(&self, action: &str, output: &str) -> Option<String> {
        self.0.get(action)?.outputs.as_ref()?.get(output).cloned()
    }
}

/// Outputs of other actions are no inputs of an action's own.
fn own(inputs: &[(String, String)]) -> Vec<(String, String)> {
    inputs.iter().filter(|(name, _)| !InputName::of(name).is_of_above()).cloned().collect()
}

/// Why an action runs that has no earlier run to compare with.
fn causes_without_past(action: &Action, follow: &Follow<'_>) -> Vec<Cause> {
    if !follow.history.knows_image() {
        vec![Reason::FirstBuild.cause(None)]
    } else if follow.history.had(&action.id) {
        vec![Reason::RecordMissing { action: action.id.clone() }.cause(None)]
    } else {
        follow.causes_of_new(&action.id)
    }
}

/// Decides one action, given what is known of those that it uses.
pub fn decide(action: &Action, follow: &Follow<'_>) -> Decision {
    let history = follow.history;
    let (key, trace) = key_and_trace(action, follow.known);
    let last = history.last(&action.id);
    let decision = |verdict, causes, outputs| {
        let action = action.id.clone();
        Decision { action, verdict, causes, key, outputs, differs_in: None }
    };
    let Some(key) = key else {
        let mut running: Vec<&str> = action.upstream.iter().map(|upstream| upstream.action.as_str()).collect();
        running.retain(|id| follow.decisions.get(*id).is_some_and(|decision| decision.verdict != Verdict::Keep));
        let above = || {
            let mut seen = std::collections::BTreeSet::new();
            running.iter().flat_map(|id| follow.leaves(id, None, &mut seen)).collect::<Vec<_>>()
        };
        // What it used then, and the image has no more, will change it as well.
        let went = |last: &RecordedAction| {
            let used = last.inputs.iter().filter_map(|(name, _)| output_of(name)).map(|(id, _)| id);
            let gone: Vec<String> = used.filter(|id| follow.graph.get(id).is_none()).collect();
            gone.iter().flat_map(|id| follow.comes_or_goes(id)).collect::<Vec<_>>()
        };
        let Some(last) = last else { return decision(Verdict::Run, causes_without_past(action, follow), None) };
        // Own inputs that changed make it run whatever comes from above.
        let mine = follow.causes(&action.id, &own(&trace), &own(&last.inputs));
        let verdict = if mine.is_empty() { Verdict::Depends } else { Verdict::Run };
        return decision(verdict, in_reading_order(mine.into_iter().chain(above()).chain(went(&last)).collect()), None);
    };
    match history.with_key(&key) {
        Some(found) if found.intact => {
            let kept = decision(Verdict::Keep, Vec::new(), Some(found.outputs));
            Decision { differs_in: found.differs_in, ..kept }
        }
        Some(_) => {
            let outputs = history.missing(&key);
            decision(Verdict::Run, vec![Reason::OutputMissing { outputs }.cause(None)], None)
        }
        None => {
            let why = match &last {
                None => causes_without_past(action, follow),
                Some(last) => follow.causes(&action.id, &trace, &last.inputs),
            };
            let missing = || vec![Reason::RecordMissing { action: action.id.clone() }.cause(None)];
            decision(Verdict::Run, if why.is_empty() { missing() } else { why }, None)
        }
    }
}

pub fn evaluate(graph: &ActionGraph, history: &dyn History) -> Vec<Decision> {
    let mut decisions: BTreeMap<String, Decision> = BTreeMap::new();
    let mut order = Vec::new();
    for action in graph.in_order() {
        let follow = Follow { graph, known: &Outputs(&decisions), history, decisions: &decisions };
        let decision = decide(action, &follow);
        order.push(action.id.clone());
        decisions.insert(action.id.clone(), decision);
    }
    order.into_iter().filter_map(|id| decisions.remove(&id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ActionKind, Input, Stage, Upstream};

    #[derive(Default)]
    struct Memory {
        by_key: BTreeMap<Digest, RecordedAction>,
        last: BTreeMap<String, RecordedAction>,
    }

    impl History for Memory {
        fn with_key(&self, key: &Digest) -> Option<RecordedAction> {
            self.by_key.get(key).cloned()
        }
        fn last(&self, action: &str) -> Option<RecordedAction> {
            self.last.get(action).cloned()
        }
    }

    fn graph(motd: &str) -> ActionGraph {
        let action = |id: &str, inputs: Vec<Input>, uses: &[&str]| Action {
            id: id.to_owned(),
            stage: Stage::Rootfs,
            kind: ActionKind::Sync,
            version: 1,
            inputs,
            upstream: uses.iter().map(|id| Upstream { action: (*id).to_owned(), output: "layer".to_owned() }).collect(),
            needs: Vec::new(),
        };
        let file = Input::new("file site/motd", format!("0644 {motd}"));
        ActionGraph::new(vec![
            action("rootfs/base", vec![Input::parameter("epoch", 1)], &[]),
            action("rootfs/sync", vec![file], &["rootfs/base"]),
            action("pack/rootimg", vec![], &["rootfs/base", "rootfs/sync"]),
        ])
        .unwrap()
    }

    /// Runs whatever the plan says, as a build does; each output is a function of the inputs.
    fn build(graph: &ActionGraph, history: &mut Memory, output: impl Fn(&str) -> String) {
        for action in graph.in_order() {
            let decisions: BTreeMap<String, Decision> =
                evaluate(graph, history).into_iter().map(|decision| (decision.action.clone(), decision)).collect();
            let (key, inputs) = key_and_trace(action, &Outputs(&decisions));
            let outputs = BTreeMap::from([("layer".to_owned(), output(&action.id))]);
            let done = RecordedAction { inputs, outputs, intact: true, differs_in: None };
            history.by_key.insert(key.unwrap(), done.clone());
            history.last.insert(action.id.clone(), done);
        }
    }

    fn said(graph: &ActionGraph, history: &Memory) -> String {
        evaluate(graph, history)
            .iter()
            .map(|decision| {
                let why: Vec<&str> = decision.causes.iter().map(|cause| cause.message.as_str()).collect();
                format!("{} {:?} {}\n", decision.action, decision.verdict, why.join("; "))
            })
            .collect()
    }

    #[test]
    fn an_edit_runs_its_layer_and_what_depends_on_it() {
        let mut history = Memory::default();
        insta::assert_snapshot!(said(&graph("a"), &history), @r"
        rootfs/base Run first build
        rootfs/sync Run first build
        pack/rootimg Run first build
        ");
        build(&graph("a"), &mut history, |id| id.to_owned());
        insta::assert_snapshot!(said(&graph("a"), &history), @r"
        rootfs/base Keep 
        rootfs/sync Keep 
        pack/rootimg Keep 
        ");
        insta::assert_snapshot!(said(&graph("b"), &history), @r"
        rootfs/base Keep 
        rootfs/sync Run site/motd content changed
        pack/rootimg Depends site/motd content changed (through rootfs/sync)
        ");
    }

    #[test]
    fn a_rerun_that_gives_the_same_stops_there() {
        let mut history = Memory::default();
        build(&graph("a"), &mut history, |id| id.to_owned());
        // The sync layer of "b" is made, and it is the same layer: pack is kept.
        let changed = graph("b");
        let sync = changed.get("rootfs/sync").unwrap();
        let decisions: BTreeMap<String, Decision> =
            evaluate(&changed, &history).into_iter().map(|decision| (decision.action.clone(), decision)).collect();
        let (key, inputs) = key_and_trace(sync, &Outputs(&decisions));
        let outputs = BTreeMap::from([("layer".to_owned(), "rootfs/sync".to_owned())]);
        history.by_key.insert(key.unwrap(), RecordedAction { inputs, outputs, intact: true, differs_in: None });
        assert!(evaluate(&changed, &history).iter().all(|decision| decision.verdict == Verdict::Keep));
    }
}
