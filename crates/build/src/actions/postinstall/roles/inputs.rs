//! Inputs of a role's key: all that its run can read.

use super::driver;
use crate::StageError;
use crate::actions::Described;
use crate::actions::packages::tools::tools_identity;
use crate::actions::postinstall::inputs::Shown;
use crate::actions::reader::globs::{Patterns, in_directory};
use crate::actions::reader::{Reader, roots_of};
use crate::bench::ids;
use crate::bench::keyed::{Key, Keyed, Said};
use plan::{ActionKind, Input, Origin, Upstream};
use recipe::{Arch, InputKind, PassRole, RoleFiles, ScriptInput};

/// A playbook, and what its run sees.
#[derive(Debug)]
pub struct Role {
    pub arch: Keyed<Arch>,
    pub epoch: Keyed<i64>,
    /// The playbook, below the recipe's directory as the run sees it.
    pub playbook: Keyed<String>,
    pub groups: Vec<Keyed<String>>,
    pub vars: Vec<Keyed<(String, serde_json::Value)>>,
    /// In order.
    pub vars_files: Vec<Keyed<String>>,
    /// Keys of ansible.cfg that count.
    pub settings: Vec<Keyed<(String, String)>>,
    pub inputs: Vec<Shown>,
    /// Patterns of paths that stay whatever they look like.
    pub keep: Vec<Keyed<String>>,
    /// Which role of the recipe it is.
    pub index: Said<usize>,
}

/// Adds an action for each role.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub(crate) fn add(reader: &mut Reader<'_>) -> Result<(), StageError> {
    let recipe = reader.recipe;
    for role in &recipe.roles {
        add_role(reader, role)?;
    }
    Ok(())
}

fn add_role(reader: &mut Reader<'_>, role: &RoleFiles) -> Result<(), StageError> {
    let recipe = reader.recipe;
    let spans = &recipe.spans;
    let Some(table) = recipe.model.role.get(role.index) else { return Ok(()) };
    let at = format!("role[{}]", role.index);
    let mut tools = reader.locked(PassRole::BASE);
    tools.extend(reader.locked(PassRole::ROLE_TOOLS));
    let mut key = Key::default();
    let arch = key.keep(recipe.model.image.arch, |_| Input::parameter("platform", &reader.platform));
    let epoch = key.epoch(reader.lock);
    key.also(
        Input::new("tools roles", tools_identity(reader.manager, &tools, &reader.platform))
            .of(Origin::Roots(roots_of(ids::ROLE_TOOLS))),
    );
    let own = Input::new("tools imgbuild's connection for Ansible", driver::identity());
    key.also(own.of(Origin::Imgbuild("connection for Ansible".to_owned())));
    let field = format!("{at}.ansible");
    let playbook = key.keep(role.playbook.clone(), |name| reader.setting("playbook", name, &field));
    let groups = key.keep_each(table.groups.iter().cloned(), |index, group| {
        Input::parameter(&format!("group {}", index + 1), group).item(spans, &format!("{at}.groups"), index)
    });
    let vars = key.keep_each(table.vars.clone(), |_, (name, value)| {
        reader.setting(&format!("variable {name}"), value, &format!("{at}.vars.{name}"))
    });
    let vars_files = key.keep_each(role.vars_files.iter().cloned(), |index, name| {
        Input::parameter(&format!("file of variables {}", index + 1), name).item(
            spans,
            &format!("{at}.vars_files"),
            index,
        )
    });
    let settings = key.keep_each(role.settings.iter().cloned(), |_, (name, value)| {
        reader.setting(&format!("setting {name}"), value, &field)
    });
    let patterns = Patterns::new(table.inputs.iter());
    let folder = role.playbook.rsplit_once('/').map_or(".", |(folder, _)| folder);
    let list = format!("{at}.inputs");
    let mut inputs = Vec::new();
    for ScriptInput { path, name, kind } in &role.files {
        let said = |input: Input| match role.playbook == *name {
            true => input.field(spans, &field),
            false if table.inputs.is_empty() || name.starts_with(folder) => in_directory(input, spans, &field, folder),
            false => patterns.named(input, name, spans, &list),
        };
        inputs.push(match kind {
            InputKind::File => Shown::File(key.file(name, path, said)?),
            InputKind::Link(target) => Shown::Other(key.keep((name.clone(), kind.clone()), |_| {
                said(Input::new(format!("file {name}"), format!("link {target}")))
            })),
            // No run of a playbook sees these.
            InputKind::Directory(_) | InputKind::Pipe(_) => continue,
        });
    }
    let keep = key.keep_each(recipe.model.image.keep.iter().cloned(), |index, pattern| {
        Input::new(format!("word {pattern}"), "").item(spans, "image.keep", index)
    });
    let index = Said(role.index);
    let described = Role { arch, epoch, playbook, groups, vars, vars_files, settings, inputs, keep, index };
    let layer = ids::role_layer(&role.name);
    reader.layer(&layer, ActionKind::Role, super::VERSION, key.inputs(), vec![ids::ROLE_TOOLS.to_owned()]);
    if let Some(action) = reader.actions.last_mut() {
        action.upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value release".to_owned() });
    }
    reader.describe(&ids::role(&role.name), Described::Role(described));
    Ok(())
}
