//! Earlier runs, as the planner asks for them.

use std::collections::BTreeMap;

use base::digest::Digest;
use plan::{ActionGraph, History, Origin, Place, RecordedAction};
use store::{ActionRecord, Outputs, Root, Store};

/// The store's records and the last build of one image.
#[derive(Debug)]
pub struct StoreHistory<'a> {
    store: &'a Store,
    root: Option<Root>,
    /// Read when a cause asks for it.
    places: std::sync::OnceLock<PlacesOfInputs>,
}

/// Where inputs stood at the time of a build, by action and input.
pub(crate) type PlacesOfInputs = BTreeMap<String, BTreeMap<String, (Place, Origin)>>;

/// Places of all inputs of a graph that a person asked for.
pub(crate) fn places_of(graph: &ActionGraph) -> PlacesOfInputs {
    let of_action = |action: &plan::Action| -> BTreeMap<String, (Place, Origin)> {
        let inputs = action.inputs.iter();
        inputs.filter_map(|one| Some((one.name.clone(), (one.place.clone()?, one.origin.clone())))).collect()
    };
    let all = graph.in_order().map(|action| (action.id.clone(), of_action(action)));
    all.filter(|(_, places)| !places.is_empty()).collect()
}

impl<'a> StoreHistory<'a> {
    /// Looks at a store; `root` is the last build of the image.
    pub fn new(store: &'a Store, root: Option<Root>) -> Self {
        Self { store, root, places: std::sync::OnceLock::new() }
    }

    fn history(&self, record: ActionRecord) -> RecordedAction {
        RecordedAction {
            intact: self.store.has_outputs(&record.outputs),
            differs_in: record.differs_in,
            outputs: outputs_by_name(&record.outputs),
            inputs: record.inputs.into_iter().map(|input| (input.name, input.value)).collect(),
        }
    }
}

/// Outputs as the planner names them.
pub(crate) fn outputs_by_name(outputs: &Outputs) -> BTreeMap<String, String> {
    let mut named: BTreeMap<String, String> =
        outputs.values.iter().map(|(name, value)| (format!("value {name}"), value.clone())).collect();
    if let Some(layer) = outputs.layer {
        named.insert("layer".to_owned(), layer.to_string());
    }
    named
}

impl History for StoreHistory<'_> {
    fn with_key(&self, key: &Digest) -> Option<RecordedAction> {
        self.store.record(key).map(|record| self.history(record))
    }

    fn last(&self, action: &str) -> Option<RecordedAction> {
        let key = self.root.as_ref()?.actions.get(action)?;
        self.store.record(key).map(|record| self.history(record))
    }

    fn knows_image(&self) -> bool {
        self.root.is_some()
    }

    fn had(&self, action: &str) -> bool {
        self.root.as_ref().is_some_and(|root| root.actions.contains_key(action))
    }

    fn producing(&self, action: &str, output: &str, value: &str) -> Option<RecordedAction> {
        let gave = |history: &RecordedAction| history.outputs.get(output).is_some_and(|now| now == value);
        if let Some(last) = self.last(action).filter(gave) {
            return Some(last);
        }
        let records = self.store.records().filter(|record| record.action == action);
        records.map(|record| self.history(record)).find(gave)
    }

    fn missing(&self, key: &Digest) -> Vec<String> {
        self.store.record(key).map(|record| self.store.missing_outputs(&record.outputs)).unwrap_or_default()
    }

    fn place(&self, action: &str, input: &str) -> Option<(Place, Origin)> {
        let read = || {
            let root = self.root.as_ref()?;
            serde_json::from_slice(&self.store.places(&root.recipe, &root.image)?).ok()
        };
        self.places.get_or_init(|| read().unwrap_or_default()).get(action)?.get(input).cloned()
    }
}
