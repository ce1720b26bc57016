//! Outputs of finished actions.

use std::collections::BTreeMap;
use std::time::Duration;

use super::history::outputs_by_name;
use crate::digest::Digest;
use crate::plan::{Action, Known};
use crate::stage::StageError;
use crate::store::{ActionRecord, BlobRef, Outputs, RecordedInput, ScanAnswer};

#[derive(Debug, Clone, Default)]
pub struct Done(pub BTreeMap<String, Outputs>);

impl Known for Done {
    fn output(&self, action: &str, output: &str) -> Option<String> {
        outputs_by_name(self.0.get(action)?).remove(output)
    }
}

impl Done {
    pub fn layer(&self, action: &str) -> Result<Digest, StageError> {
        self.0.get(action).and_then(|outputs| outputs.layer).ok_or_else(|| missing(action))
    }

    pub fn value(&self, action: &str, name: &str) -> Result<String, StageError> {
        self.0.get(action).and_then(|outputs| outputs.values.get(name)).cloned().ok_or_else(|| missing(action))
    }

    pub fn blob(&self, action: &str, name: &str) -> Result<BlobRef, StageError> {
        self.0.get(action).and_then(|outputs| outputs.blobs.get(name)).copied().ok_or_else(|| missing(action))
    }
}

/// An action used a result that is not there: a mistake in the graph.
pub fn missing(action: &str) -> StageError {
    StageError::Gate {
        problem: format!("the result of {action} is missing"),
        help: "this is a bug in imgbuild: please report it".to_owned(),
    }
}

pub fn record(
    key: Digest,
    action: &str,
    trace: Vec<(String, String)>,
    outputs: Outputs,
    took: Duration,
) -> ActionRecord {
    ActionRecord {
        format: 1,
        key,
        action: action.to_owned(),
        inputs: trace.into_iter().map(|(name, value)| RecordedInput { name, value }).collect(),
        outputs,
        milliseconds: took.as_millis() as u64,
        differing: None,
        differs_in: None,
        believed: None,
        digest: None,
    }
}

pub fn layer_outputs(answer: &ScanAnswer) -> Outputs {
    Outputs { layer: Some(answer.layer), ..Outputs::default() }
}

/// Layers that an action stands on, lowest first.
pub fn below(action: &Action, done: &Done) -> Result<Vec<Digest>, StageError> {
    action
        .upstream
        .iter()
        .filter(|upstream| upstream.output == "layer")
        .map(|upstream| done.layer(&upstream.action))
        .collect()
}
