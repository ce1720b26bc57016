//! Outputs of finished actions.

use std::collections::BTreeMap;
use std::time::Duration;

use super::history::outputs_by_name;
use crate::StageError;
use base::digest::Digest;
use base::source::{Finding, Severity};
use plan::{Action, Known};
use store::{ActionRecord, BlobRef, Outputs, RecordedInput, ScanAnswer};

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
pub(crate) fn missing(action: &str) -> StageError {
    StageError::Gate {
        problem: format!("the result of {action} is missing"),
        help: "this is a bug in imgbuild: please report it".to_owned(),
    }
}

pub(crate) fn record(
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

/// The name of a layer's result that lists the device nodes that it lacks.
const DEVICES: &str = "devices";
/// So many device nodes are shown.
const SHOWN_DEVICES: usize = 10;

pub(crate) fn layer_outputs(answer: &ScanAnswer) -> Outputs {
    let devices = (!answer.devices.is_empty()).then(|| (DEVICES.to_owned(), answer.devices.join("\n")));
    Outputs { layer: Some(answer.layer), values: devices.into_iter().collect(), ..Outputs::default() }
}

/// What is said of device nodes that an action's layer lacks.
pub(crate) fn devices_left_out(action: &str, outputs: &Outputs) -> Option<Finding> {
    let lines: Vec<&str> = outputs.values.get(DEVICES)?.lines().collect();
    let paths: Vec<&str> = lines.iter().filter_map(|line| line.split(' ').nth(1)).take(SHOWN_DEVICES).collect();
    let more = lines.len().saturating_sub(paths.len());
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let text = format!("{action} makes device nodes, which images do not have: {}{more}", paths.join(", "));
    let help = format!(
        "write a file of /etc/tmpfiles.d for those outside /dev, where nodes have their own: {}",
        lines.first().copied().unwrap_or_default()
    );
    Some(Finding::nowhere(Severity::Warning, "layer::devices", text).help(help))
}

/// Layers that an action stands on, lowest first.
pub(crate) fn below(action: &Action, done: &Done) -> Result<Vec<Digest>, StageError> {
    action
        .upstream
        .iter()
        .filter(|upstream| upstream.output == "layer")
        .map(|upstream| done.layer(&upstream.action))
        .collect()
}
