//! A graph as if it had been built: each output is known by the key of its action, and nothing of it has to exist.

use std::collections::{BTreeMap, BTreeSet};

use super::causes::removals::RECIPE;
use super::{Action, ActionGraph, History, Known, Origin, Place, RecordedAction, key_and_trace};
use base::digest::Digest;

/// The actions of another state of a recipe, as earlier runs. Equal keys are kept, others run, and what uses these depends.
#[derive(Debug, Default)]
pub struct Symbolic {
    by_key: BTreeMap<Digest, RecordedAction>,
    last: BTreeMap<String, Digest>,
    places: BTreeMap<String, BTreeMap<String, (Place, Origin)>>,
}

impl Known for Symbolic {
    fn output(&self, action: &str, output: &str) -> Option<String> {
        self.last(action)?.outputs.get(output).cloned()
    }
}

impl Symbolic {
    /// The actions of `graph`; `compared` is the graph that will be compared with it, and may use other outputs.
    pub fn of(graph: &ActionGraph, compared: &ActionGraph) -> Self {
        let uses = |graph: &ActionGraph| -> Vec<(String, String)> {
            let upstream = graph.in_order().flat_map(|action| &action.upstream);
            upstream.map(|one| (one.action.clone(), one.output.clone())).collect()
        };
        let mut used: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
        for (action, output) in uses(graph).into_iter().chain(uses(compared)) {
            used.entry(action).or_default().insert(output);
        }
        let mut history = Self::default();
        for action in graph.in_order() {
            // The order brings each after those that it uses, so that each has its key.
            let (Some(key), inputs) = key_and_trace(action, &history) else { continue };
            let outputs = used.get(&action.id).into_iter().flatten();
            let outputs = outputs.map(|output| (output.clone(), format!("{output} of {key}"))).collect();
            history.by_key.insert(key, RecordedAction { inputs, outputs, intact: true, differs_in: None });
            history.last.insert(action.id.clone(), key);
            history.places.insert(action.id.clone(), places(action));
        }
        history.places.insert(RECIPE.to_owned(), graph.absences.sayings.clone());
        history
    }
}

impl Symbolic {
    /// The key of an action: equal for actions of two images that give the same.
    pub fn key(&self, action: &str) -> Option<&Digest> {
        self.last.get(action)
    }
}

fn places(action: &Action) -> BTreeMap<String, (Place, Origin)> {
    let inputs = action.inputs.iter();
    inputs.filter_map(|one| Some((one.name.clone(), (one.place.clone()?, one.origin.clone())))).collect()
}

impl History for Symbolic {
    fn with_key(&self, key: &Digest) -> Option<RecordedAction> {
        self.by_key.get(key).cloned()
    }

    fn last(&self, action: &str) -> Option<RecordedAction> {
        self.by_key.get(self.last.get(action)?).cloned()
    }

    fn knows_image(&self) -> bool {
        true
    }

    fn place(&self, action: &str, input: &str) -> Option<(Place, Origin)> {
        self.places.get(action)?.get(input).cloned()
    }
}
