//! The three answers: keep, run, depends.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Action, ActionGraph, Cause, Known, Reason, causes, key_and_trace};
use crate::digest::Digest;

/// What is known of an earlier run.
#[derive(Debug, Clone, Default)]
pub struct PastAction {
    /// Plaintext of its key.
    pub inputs: Vec<(String, String)>,
    /// Its outputs by name: `layer`, `value NAME`.
    pub outputs: BTreeMap<String, String>,
    /// Whether all that it gave is still there.
    pub intact: bool,
    /// What differed when it ran again, if that was found.
    pub differs_in: Option<String>,
}

/// Earlier runs.
pub trait Past {
    /// The run with a key.
    fn with_key(&self, key: &Digest) -> Option<PastAction>;
    /// The last run of an action of this image.
    fn last(&self, action: &str) -> Option<PastAction>;
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing: an earlier result is used.
    Keep,
    /// It runs.
    Run,
    /// It runs unless what it depends on turns out to be as before.
    Depends,
}

/// The answer for one action.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The action.
    pub action: String,
    /// What is to be done.
    pub verdict: Verdict,
    /// Why.
    pub causes: Vec<Cause>,
    /// Its key, if that is known.
    pub key: Option<Digest>,
    /// Its outputs, if they are known.
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

/// Decides one action, given the decisions on those that it uses.
pub fn decide(action: &Action, known: &dyn Known, past: &dyn Past, upstream_runs: &[&str]) -> Decision {
    let (key, trace) = key_and_trace(action, known);
    let last = past.last(&action.id);
    let decision = |verdict, causes, outputs| {
        let action = action.id.clone();
        Decision { action, verdict, causes, key, outputs, differs_in: None }
    };
    let Some(key) = key else {
        // Own inputs that changed make it run whatever comes from above.
        let own = last.as_ref().map(|last| {
            let seen: Vec<_> = last
                .inputs
                .iter()
                .filter(|(name, _)| !name.starts_with("layer ") && !name.starts_with("value "))
                .cloned()
                .collect();
            let mine: Vec<_> = trace
                .iter()
                .filter(|(name, _)| !name.starts_with("layer ") && !name.starts_with("value "))
                .cloned()
                .collect();
            causes(action, &mine, &seen)
        });
        let above = upstream_runs.iter().map(|id| Reason::Upstream { action: (*id).to_owned() }.cause(None));
        return match own {
            Some(own) if !own.is_empty() => decision(Verdict::Run, own.into_iter().chain(above).collect(), None),
            Some(_) => decision(Verdict::Depends, above.collect(), None),
            None => decision(Verdict::Run, vec![Reason::FirstBuild.cause(None)], None),
        };
    };
    match past.with_key(&key) {
        Some(found) if found.intact => {
            let kept = decision(Verdict::Keep, Vec::new(), Some(found.outputs));
            Decision { differs_in: found.differs_in, ..kept }
        }
        Some(_) => decision(Verdict::Run, vec![Reason::OutputMissing.cause(None)], None),
        None => {
            let why = match &last {
                None => vec![Reason::FirstBuild.cause(None)],
                Some(last) => causes(action, &trace, &last.inputs),
            };
            let why = if why.is_empty() { vec![Reason::RecordMissing.cause(None)] } else { why };
            decision(Verdict::Run, why, None)
        }
    }
}

/// Decides all actions; runs nothing.
pub fn evaluate(graph: &ActionGraph, past: &dyn Past) -> Vec<Decision> {
    let mut decisions: BTreeMap<String, Decision> = BTreeMap::new();
    let mut order = Vec::new();
    for action in graph.in_order() {
        let mut running: Vec<&str> = action
            .upstream
            .iter()
            .map(|upstream| upstream.action.as_str())
            .filter(|id| decisions.get(*id).is_some_and(|decision| decision.verdict != Verdict::Keep))
            .collect();
        running.dedup();
        let decision = decide(action, &Outputs(&decisions), past, &running);
        order.push(action.id.clone());
        decisions.insert(action.id.clone(), decision);
    }
    order.into_iter().filter_map(|id| decisions.remove(&id)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::{Input, Stage, Upstream};

    #[derive(Default)]
    struct Memory {
        by_key: BTreeMap<Digest, PastAction>,
        last: BTreeMap<String, PastAction>,
    }

    impl Past for Memory {
        fn with_key(&self, key: &Digest) -> Option<PastAction> {
            self.by_key.get(key).cloned()
        }
        fn last(&self, action: &str) -> Option<PastAction> {
            self.last.get(action).cloned()
        }
    }

    fn graph(motd: &str) -> ActionGraph {
        let action = |id: &str, inputs: Vec<Input>, uses: &[&str]| Action {
            id: id.to_owned(),
            stage: Stage::Rootfs,
            kind: "test",
            version: 1,
            inputs,
            upstream: uses.iter().map(|id| Upstream { action: (*id).to_owned(), output: "layer".to_owned() }).collect(),
            needs: Vec::new(),
        };
        let file = Input { name: "file site/motd".into(), value: format!("0644 {motd}"), place: None };
        ActionGraph::new(vec![
            action("rootfs/base", vec![Input::parameter("epoch", 1)], &[]),
            action("rootfs/sync", vec![file], &["rootfs/base"]),
            action("pack/rootimg", vec![], &["rootfs/base", "rootfs/sync"]),
        ])
        .unwrap()
    }

    /// Runs whatever the plan says, as a build does; each output is a function of the inputs.
    fn build(graph: &ActionGraph, past: &mut Memory, output: impl Fn(&str) -> String) {
        for action in graph.in_order() {
            let decisions: BTreeMap<String, Decision> =
                evaluate(graph, past).into_iter().map(|decision| (decision.action.clone(), decision)).collect();
            let (key, inputs) = key_and_trace(action, &Outputs(&decisions));
            let outputs = BTreeMap::from([("layer".to_owned(), output(&action.id))]);
            let done = PastAction { inputs, outputs, intact: true, differs_in: None };
            past.by_key.insert(key.unwrap(), done.clone());
            past.last.insert(action.id.clone(), done);
        }
    }

    fn said(graph: &ActionGraph, past: &Memory) -> String {
        evaluate(graph, past)
            .iter()
            .map(|decision| {
                let why: Vec<&str> = decision.causes.iter().map(|cause| cause.message.as_str()).collect();
                format!("{} {:?} {}\n", decision.action, decision.verdict, why.join("; "))
            })
            .collect()
    }

    #[test]
    fn an_edit_runs_its_layer_and_what_depends_on_it() {
        let mut past = Memory::default();
        insta::assert_snapshot!(said(&graph("a"), &past), @r"
        rootfs/base Run first build
        rootfs/sync Run first build
        pack/rootimg Run first build
        ");
        build(&graph("a"), &mut past, |id| id.to_owned());
        insta::assert_snapshot!(said(&graph("a"), &past), @r"
        rootfs/base Keep 
        rootfs/sync Keep 
        pack/rootimg Keep 
        ");
        insta::assert_snapshot!(said(&graph("b"), &past), @r"
        rootfs/base Keep 
        rootfs/sync Run site/motd content changed
        pack/rootimg Depends depends on rootfs/sync
        ");
    }

    #[test]
    fn a_rerun_that_gives_the_same_stops_there() {
        let mut past = Memory::default();
        build(&graph("a"), &mut past, |id| id.to_owned());
        // The sync layer of "b" is made, and it is the same layer: pack is kept.
        let changed = graph("b");
        let sync = changed.get("rootfs/sync").unwrap();
        let decisions: BTreeMap<String, Decision> =
            evaluate(&changed, &past).into_iter().map(|decision| (decision.action.clone(), decision)).collect();
        let (key, inputs) = key_and_trace(sync, &Outputs(&decisions));
        let outputs = BTreeMap::from([("layer".to_owned(), "rootfs/sync".to_owned())]);
        past.by_key.insert(key.unwrap(), PastAction { inputs, outputs, intact: true, differs_in: None });
        assert!(evaluate(&changed, &past).iter().all(|decision| decision.verdict == Verdict::Keep));
    }
}
