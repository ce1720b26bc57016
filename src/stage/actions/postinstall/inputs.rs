//! Inputs of the `postinstall` action's key.

use crate::plan::{ActionKind, Input, Origin, Upstream};
use crate::recipe::{InputKind, PassRole, ScriptInput};
use crate::stage::StageError;
use crate::stage::actions::packages::tools::tools_identity;
use crate::stage::actions::reader::Reader;
use crate::stage::actions::reader::globs::Patterns;
use crate::stage::actions::reader::{image_packages, roots_of};
use crate::stage::bench::ids;
use crate::stage::bench::results::file;

/// Adds the action of the postinstall scripts, if there are any.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub fn add(reader: &mut Reader<'_>) -> Result<(), StageError> {
    let Some(scripts) = &reader.recipe.postinstall else { return Ok(()) };
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
    ];
    for (number, script) in scripts.scripts.iter().enumerate() {
        let input = file(&script.name, &script.path, None)?;
        inputs.push(match number {
            0 if script.field == "postinstall.script" => input.field(spans, &script.field),
            _ => input.item(spans, "postinstall.scripts", index_of(&script.field)),
        });
        for (index, word) in script.arguments.iter().enumerate() {
            let (name, field) = match script.field.as_str() {
                "postinstall.script" => (format!("argument {}", index + 1), format!("postinstall.arguments[{index}]")),
                field => (format!("argument {} of script {}", index + 1, number + 1), field.to_owned()),
            };
            inputs.push(Input::parameter(&name, word).field(spans, &field));
        }
    }
    // The order is the key's, too; `script` is always the first.
    if let Some(several) = model.postinstall.as_ref().map(|table| &table.scripts).filter(|all| all.len() > 1) {
        inputs.push(reader.setting("order of scripts", several.join(", "), "postinstall.scripts"));
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
    for input in &scripts.inputs {
        inputs.push(patterns.named(of_input(input)?, &input.name, spans, "postinstall.inputs"));
    }
    reader.layer("postinstall", ActionKind::Postinstall, super::VERSION, inputs, vec![tools_root]);
    if let Some(action) = reader.actions.last_mut() {
        action.upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value release".to_owned() });
    }
    Ok(())
}

/// The place of an item in its list, by its field: 2 of `postinstall.scripts[2]`.
fn index_of(field: &str) -> usize {
    let number = field.rsplit_once('[').and_then(|(_, rest)| rest.strip_suffix(']'));
    number.and_then(|number| number.parse().ok()).unwrap_or(0)
}

/// Something that the scripts see: a file by mode and digest, all else by what it is.
fn of_input(input: &ScriptInput) -> Result<Input, StageError> {
    let name = &input.name;
    let other = |value: String| Ok(Input::new(format!("file {name}"), value));
    match &input.kind {
        InputKind::File => file(name, &input.path, None),
        InputKind::Link(target) => other(format!("link {target}")),
        InputKind::Directory(mode) => other(format!("directory {mode:04o}")),
        InputKind::Pipe(mode) => other(format!("pipe {mode:04o}")),
    }
}
