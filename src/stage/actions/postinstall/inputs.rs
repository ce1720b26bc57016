//! What its key is made of.

use crate::plan::{ActionKind, Input, Origin, Upstream};
use crate::recipe::PassRole;
use crate::stage::StageError;
use crate::stage::actions::packages::tools::tools_identity;
use crate::stage::actions::reader::Reader;
use crate::stage::actions::reader::globs::Patterns;
use crate::stage::actions::reader::{image_packages, roots_of};
use crate::stage::ids;
use crate::stage::results::file;

/// Adds the action of the postinstall script, if there is one.
///
/// # Errors
/// [`StageError::Input`] for a file that vanished since the recipe was read.
pub fn add(reader: &mut Reader<'_>) -> Result<(), StageError> {
    let Some(script) = &reader.recipe.postinstall else { return Ok(()) };
    let model = &reader.recipe.model;
    let spans = &reader.recipe.spans;
    let mut tools = reader.locked("base");
    let more = reader.locked(PassRole::POSTINSTALL_TOOLS);
    let tools_root = if more.is_empty() { ids::BASE.to_owned() } else { ids::POSTINSTALL_TOOLS.to_owned() };
    tools.extend(more);
    let mut inputs = vec![
        Input::parameter("platform", &reader.platform),
        Input::parameter("epoch", reader.lock.epoch),
        Input::new("tools postinstall", tools_identity(reader.manager, &tools, &reader.platform))
            .of(Origin::Roots(roots_of(&tools_root))),
        file(&script.name, &script.script, None)?.field(spans, "postinstall.script"),
    ];
    for (index, word) in model.postinstall.iter().flat_map(|table| &table.arguments).enumerate() {
        inputs.push(
            Input::parameter(&format!("argument {}", index + 1), word)
                .field(spans, &format!("postinstall.arguments[{index}]")),
        );
    }
    // The kernel's release comes from upstream.
    for (name, value) in super::script::variables(reader.recipe, "") {
        let field = super::script::field_of(reader.recipe, &name);
        inputs.push(reader.setting(&format!("environment {name}"), value, &field));
    }
    if model.postinstall.as_ref().is_some_and(|table| table.packages.is_some()) {
        inputs.extend(image_packages(reader.lock).iter().map(Input::package));
    }
    let patterns = Patterns::new(model.postinstall.iter().flat_map(|table| &table.inputs));
    for (path, name) in &script.inputs {
        inputs.push(patterns.named(file(name, path, None)?, name, spans, "postinstall.inputs"));
    }
    reader.layer("postinstall", ActionKind::Postinstall, super::VERSION, inputs, vec![tools_root]);
    if let Some(action) = reader.actions.last_mut() {
        action.upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value release".to_owned() });
    }
    Ok(())
}
