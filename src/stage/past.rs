//! Earlier runs, as the planner asks for them.

use std::collections::BTreeMap;

use crate::digest::Digest;
use crate::plan::{Past, PastAction};
use crate::store::{ActionRecord, Outputs, Root, Store};

/// The store's records and the last build of one image.
#[derive(Debug)]
pub struct StorePast<'a> {
    store: &'a Store,
    root: Option<Root>,
}

impl<'a> StorePast<'a> {
    /// Looks at a store; `root` is the last build of the image.
    pub fn new(store: &'a Store, root: Option<Root>) -> Self {
        Self { store, root }
    }

    fn past(&self, record: ActionRecord) -> PastAction {
        PastAction {
            intact: self.store.has_outputs(&record.outputs),
            differs_in: record.differs_in,
            outputs: outputs_by_name(&record.outputs),
            inputs: record.inputs.into_iter().map(|input| (input.name, input.value)).collect(),
        }
    }
}

/// Outputs as the planner names them.
pub fn outputs_by_name(outputs: &Outputs) -> BTreeMap<String, String> {
    let mut named: BTreeMap<String, String> =
        outputs.values.iter().map(|(name, value)| (format!("value {name}"), value.clone())).collect();
    if let Some(layer) = outputs.layer {
        named.insert("layer".to_owned(), layer.to_string());
    }
    named
}

impl Past for StorePast<'_> {
    fn with_key(&self, key: &Digest) -> Option<PastAction> {
        self.store.record(key).map(|record| self.past(record))
    }

    fn last(&self, action: &str) -> Option<PastAction> {
        let key = self.root.as_ref()?.actions.get(action)?;
        self.store.record(key).map(|record| self.past(record))
    }
}
