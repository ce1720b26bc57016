//! Inputs of the `xcat` action's key.

use crate::plan::ActionKind;
use crate::stage::StageError;
use crate::stage::actions::node_support::files as node_support;
use crate::stage::actions::reader::Reader;

/// After the gate, as packimage does it after genimage: other postscripts run no postinstall script again.
pub fn add(reader: &mut Reader<'_>) -> Result<(), StageError> {
    let Some(support) = &reader.recipe.node_support else { return Ok(()) };
    let spans = &reader.recipe.spans;
    let postscripts = reader.recipe.model.xcat.postscripts.as_deref().unwrap_or_default();
    let mut inputs = node_support::inputs(support, reader.lock.epoch, spans, postscripts)?;
    let mut seen = std::collections::BTreeSet::new();
    inputs.retain(|input| seen.insert((input.name.clone(), input.value.clone())));
    reader.layer("xcat", ActionKind::NodeSupport, super::VERSION, inputs, Vec::new());
    Ok(())
}
