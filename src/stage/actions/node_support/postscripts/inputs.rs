//! Inputs of the `postscripts` action's key.

use super::plan::variables;
use crate::digest::Digest;
use crate::plan::{ActionKind, Input, Origin};
use crate::stage::StageError;
use crate::stage::actions::reader::Reader;
use crate::stage::bench::results::file;

/// Adds the action, where the recipe has `[node]`.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub fn add(reader: &mut Reader<'_>, init: &Digest) -> Result<(), StageError> {
    let recipe = reader.recipe;
    let (Some(table), Some(scripts)) = (&recipe.model.node, &recipe.node_scripts) else { return Ok(()) };
    let mut inputs = vec![
        Input::parameter("epoch", reader.lock.epoch),
        Input::new("tools imgbuild-init", init.to_string()).of(Origin::Imgbuild("init program".to_owned())),
        reader.setting("image", &recipe.model.image.name, "image.name"),
        reader.setting("timeout", table.timeout, "node.timeout"),
        reader.setting("on_failure", table.on_failure.name(), "node.on_failure"),
    ];
    for (list, items) in [("postscript", &scripts.postscripts), ("postbootscript", &scripts.postbootscripts)] {
        // Their order counts.
        for (at, (text, field)) in items.iter().enumerate() {
            inputs.push(reader.setting(&format!("{list} {}", at + 1), text, field));
        }
    }
    for (name, (value, field)) in variables(recipe) {
        inputs.push(reader.setting(&format!("environment {name}"), value, &field));
    }
    for one in scripts.files.values() {
        inputs.push(reader.asked(file(&one.name, &one.path, None)?, Some(&one.span)));
    }
    reader.layer("postscripts", ActionKind::Postscripts, super::VERSION, inputs, Vec::new());
    Ok(())
}
