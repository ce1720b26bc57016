//! Inputs of the keys of transactions.

use crate::plan::{ActionKind, Input, Origin, Upstream};
use crate::recipe::PassRole;
use crate::stage::StageError;
use crate::stage::actions::packages::requests::PackageRequest;
use crate::stage::actions::packages::tools::{base_action, tools_action, tools_driver_action};
use crate::stage::actions::packages::{accounts, container};
use crate::stage::actions::reader::Reader;
use crate::stage::bench::ids;

/// Adds the action of a transaction.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub fn add(reader: &mut Reader<'_>, package_request: &PackageRequest) -> Result<(), StageError> {
    let packages = reader.locked(&package_request.name);
    let role = package_request.role();
    match role {
        PassRole::Tools => {
            reader.actions.push(tools_action(reader.manager, PassRole::TOOLS, &packages, &reader.platform));
            return Ok(());
        }
        PassRole::SolverTools => return Ok(()),
        PassRole::DriverTools => {
            reader.actions.push(tools_driver_action(reader.manager, &packages, &reader.platform));
            return Ok(());
        }
        PassRole::Base if reader.recipe.model.image.from.is_some() => {
            let action =
                container::action(reader.manager, reader.lock.base.as_ref(), reader.lock.epoch, &reader.platform);
            reader.layers.push(action.id.clone());
            reader.actions.push(action);
            return Ok(());
        }
        PassRole::Base => {
            let mut action = base_action(reader.manager, &packages, reader.lock.epoch, &reader.platform);
            if reader.manager.base_needs_tools() {
                action.inputs.push(reader.tools());
                action.inputs.extend(reader.failing(&packages));
                action.needs.push(ids::TOOLS.to_owned());
            }
            reader.layers.push(action.id.clone());
            reader.actions.push(action);
            return Ok(());
        }
        PassRole::Kernel => super::super::kernel::inputs::add(reader, &packages)?,
        PassRole::PostinstallTools | PassRole::DracutTools | PassRole::Packages | PassRole::Otherpkgs => {}
    }
    if packages.is_empty() && package_request.pass.remove.is_empty() && package_request.pass.remove_after.is_empty() {
        return Ok(());
    }
    let mut inputs = vec![
        Input::parameter("platform", &reader.platform),
        Input::parameter("epoch", reader.lock.epoch),
        reader.tools(),
    ];
    for (name, value) in &package_request.variables {
        let input = Input::parameter(&format!("environment {name}"), value);
        inputs.push(reader.asked(input, package_request.spans.get(&format!("#ENV {name}"))));
    }
    inputs.extend(reader.failing(&packages));
    for module in reader.lock.pass(&package_request.name).iter().flat_map(|pass| &pass.modules) {
        inputs.push(Input::new(format!("module {module}"), "yes").of(Origin::Lock));
    }
    for (kind, names) in
        [("remove", &package_request.pass.remove), ("remove-after", &package_request.pass.remove_after)]
    {
        for name in names {
            inputs.push(reader.asked(Input::new(format!("{kind} {name}"), "yes"), package_request.spans.get(name)));
        }
    }
    for name in reader.lock.pass(&package_request.name).iter().flat_map(|pass| &pass.remove_with) {
        inputs.push(Input::new(format!("remove-with {name}"), "yes").of(Origin::Lock));
    }
    for name in reader.lock.pass(&package_request.name).iter().flat_map(|pass| &pass.conflicting) {
        inputs.push(Input::new(format!("conflicting {name}"), "yes").of(Origin::Lock));
    }
    for package in &packages {
        let mut input = reader.asked(Input::package(package), package_request.spans.get(&package.name));
        if package.automatic {
            input.value.push_str(" automatic");
        }
        inputs.push(input);
    }
    if !role.is_aside() {
        let is_first = reader.layers == [ids::BASE];
        let made = accounts::made_before(reader.recipe, reader.lock, &package_request.name, is_first);
        inputs.extend(accounts::inputs(reader.recipe, &made));
        reader.accounts.insert(ids::layer(&package_request.name), made);
    }
    let above = role.is_aside().then(|| std::mem::replace(&mut reader.layers, vec![ids::BASE.to_owned()]));
    if role == PassRole::Kernel {
        // Its files come from the payload, which the initrd is made of too; the package manager adds the rest.
        reader.layers.push(ids::PAYLOAD.to_owned());
    }
    reader.layer(
        &package_request.name,
        ActionKind::Install,
        reader.manager.versions().install,
        inputs,
        vec![ids::TOOLS.to_owned()],
    );
    let asks = reader.lock.pass(&package_request.name).is_some_and(|pass| pass.asks_release);
    if let Some(action) = reader.actions.last_mut()
        && (asks || role == PassRole::Kernel)
    {
        action.upstream.push(Upstream { action: ids::PAYLOAD.to_owned(), output: "value release".to_owned() });
    }
    if let Some(layers) = above {
        reader.layers = layers;
    }
    Ok(())
}
