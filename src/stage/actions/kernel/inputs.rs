//! Inputs of the keys of the kernel's payload and of drivers.

use crate::plan::{Action, ActionKind, Input, Origin, Stage, Upstream};
use crate::recipe::{Arch, PassRole, PinnedPackage};
use crate::stage::StageError;
use crate::stage::actions::kernel::drivers;
use crate::stage::actions::kernel::drivers::build_action;
use crate::stage::actions::packages::requests::package_requests;
use crate::stage::actions::packages::tools::tools_identity;
use crate::stage::actions::reader::Reader;
use crate::stage::actions::reader::kernel_packages;
use crate::stage::bench::ids;

/// The kernel stage: the kernel's packages, and those that brought a kernel as a dependency (D18, D19).
pub fn add(reader: &mut Reader<'_>, packages: &[PinnedPackage]) -> Result<(), StageError> {
    let builds = driver_builds(reader)?;
    let version = reader.recipe.model.kernel.version.clone().unwrap_or_else(|| "the only one".to_owned());
    let mut inputs = vec![
        Input::parameter("platform", &reader.platform),
        Input::parameter("epoch", reader.lock.epoch),
        reader.setting("version", version, "kernel.version"),
        reader.tools(),
    ];
    let package_requests = package_requests(reader.recipe);
    inputs.extend(kernel_packages(reader.manager, reader.lock, packages).iter().map(|package| {
        let span = package_requests.iter().find_map(|package_request| package_request.spans.get(&package.name));
        reader.asked(Input::package(package), span)
    }));
    inputs.extend(drivers::update_inputs(reader.recipe)?);
    // In no key of the CPU whose kernels unpack themselves.
    if reader.recipe.model.image.arch == Arch::Aarch64 {
        inputs.push(Input::parameter("gzip", "unpacked"));
    }
    let trees = reader.recipe.model.kernel.device_trees.iter().enumerate();
    inputs.extend(trees.map(|(index, name)| {
        let input = Input::new(format!("device tree {name}"), "published");
        input.item(&reader.recipe.spans, "kernel.device_trees", index)
    }));
    reader.actions.push(Action {
        id: ids::PAYLOAD.to_owned(),
        stage: Stage::Kernel,
        kind: ActionKind::Kernel,
        version: super::VERSION,
        inputs,
        upstream: builds,
        needs: vec![ids::TOOLS.to_owned()],
    });
    Ok(())
}

/// Drivers that are built: each an action of its own, which knows the headers, the compiler and its source.
fn driver_builds(reader: &mut Reader<'_>) -> Result<Vec<Upstream>, StageError> {
    let mut upstream = Vec::new();
    for index in 0..reader.recipe.kernel_files.builds.len() {
        let mut inputs = vec![
            Input::parameter("platform", &reader.platform),
            Input::new(
                format!("tools {}", PassRole::DRIVER_TOOLS),
                tools_identity(reader.manager, &reader.locked(PassRole::DRIVER_TOOLS), &reader.platform),
            )
            .of(Origin::Roots(vec![ids::DRIVER_TOOLS.to_owned()])),
        ];
        inputs.extend(drivers::build_inputs(reader.recipe, reader.lock, index)?);
        let id = build_action(index);
        upstream.push(Upstream { action: id.clone(), output: "layer".to_owned() });
        reader.actions.push(Action {
            id,
            stage: Stage::Kernel,
            kind: ActionKind::Driver,
            version: drivers::VERSION,
            inputs,
            upstream: Vec::new(),
            needs: vec![ids::DRIVER_TOOLS.to_owned()],
        });
    }
    Ok(upstream)
}
