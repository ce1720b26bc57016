//! Inputs of the `system` action's key.

use crate::plan::{ActionKind, Input};
use crate::stage::StageError;
use crate::stage::actions::reader::Reader;
use crate::stage::bench::results::file;

/// Adds the action of the system layer.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub fn add(reader: &mut Reader<'_>) -> Result<(), StageError> {
    let system = &reader.recipe.model.system;
    let spans = &reader.recipe.spans;
    let setting = |name: &str, value: &Option<String>| {
        reader.setting(name, value.as_deref().unwrap_or("unset"), &format!("system.{name}"))
    };
    let mut inputs = vec![
        Input::parameter("epoch", reader.lock.epoch),
        setting("timezone", &system.timezone),
        setting("locale", &system.locale),
        setting("hostname", &system.hostname),
    ];
    inputs.extend(reader.tmpfs());
    inputs.extend(reader.declared_lines());
    for (index, (path, name)) in reader.recipe.authorized_keys.iter().enumerate() {
        inputs.push(file(name, path, None)?.item(spans, "system.authorized_keys", index));
    }
    if let Some((path, name)) = &reader.recipe.root_password_hash {
        inputs.push(file(name, path, None)?.field(spans, "system.root_password_hash_file"));
    }
    reader.layer("system", ActionKind::System, super::VERSION, inputs, Vec::new());
    Ok(())
}
