//! Inputs of the keys of the kernel's payload and of drivers.

use crate::StageError;
use crate::actions::Described;
use crate::actions::kernel::drivers;
use crate::actions::kernel::drivers::build_action;
use crate::actions::packages::requests::package_requests;
use crate::actions::packages::tools::tools_identity;
use crate::actions::reader::Reader;
use crate::actions::reader::kernel_packages;
use crate::bench::ids;
use crate::bench::keyed::{InputFile, Key, Keyed, Said};
use packages::VersionOrder;
use plan::{Action, ActionKind, Input, Origin, Stage, Upstream};
use recipe::{Arch, PassRole, PinnedPackage, UpdateForm};

/// Where the kernel comes from, and what is added to it.
#[derive(Debug)]
pub struct Kernel {
    pub arch: Keyed<Arch>,
    pub epoch: Keyed<i64>,
    /// The release to take, where there are several.
    pub version: Keyed<Option<String>>,
    /// How releases are compared; it follows from the distribution.
    pub order: Keyed<VersionOrder>,
    pub packages: Vec<Keyed<PinnedPackage>>,
    pub updates: Vec<Update>,
    /// Names of what is built from source, whose layers are in the key.
    pub builds: Vec<Said<String>>,
    pub device_trees: Vec<Keyed<String>>,
}

/// An item of `[kernel] updates`.
#[derive(Debug)]
pub struct Update {
    pub name: Keyed<String>,
    pub form: Keyed<Option<UpdateForm>>,
    pub is_directory: bool,
    /// Each with its path below the directory, or its own name.
    pub files: Vec<(String, Keyed<InputFile>)>,
}

/// A driver that is built from source.
#[derive(Debug)]
pub struct Driver {
    pub arch: Keyed<Arch>,
    pub release: Keyed<String>,
    /// Arguments of make.
    pub make: Vec<Keyed<String>>,
    pub name: String,
    pub is_directory: bool,
    /// Each with its path below the directory, or its own name.
    pub files: Vec<(String, Keyed<InputFile>)>,
}

/// The kernel stage: the kernel's packages, and those that brought a kernel as a dependency (D18, D19).
///
/// # Errors
/// [`StageError::Input`] for a file that vanished since the recipe was read.
pub(crate) fn add(reader: &mut Reader<'_>, packages: &[PinnedPackage]) -> Result<(), StageError> {
    let upstream = driver_builds(reader)?;
    let recipe = reader.recipe;
    let mut key = Key::default();
    let arch = key.keep(recipe.model.image.arch, |_| Input::parameter("platform", &reader.platform));
    let order = arch.follows(reader.manager.order());
    let epoch = key.epoch(reader.lock);
    let version = key.keep(recipe.model.kernel.version.clone(), |version| {
        reader.setting("version", version.as_deref().unwrap_or("the only one"), "kernel.version")
    });
    key.also(reader.tools());
    let package_requests = package_requests(recipe);
    let packages = key.keep_each(kernel_packages(reader.manager, reader.lock, packages), |_, package| {
        let span = package_requests.iter().find_map(|package_request| package_request.spans.get(&package.name));
        reader.asked(Input::package(package), span)
    });
    let updates = drivers::describe_updates(recipe, &mut key)?;
    // In no key of the CPU whose kernels unpack themselves.
    if *arch == Arch::Aarch64 {
        key.also(Input::parameter("gzip", "unpacked"));
    }
    let device_trees = key.keep_each(recipe.model.kernel.device_trees.iter().cloned(), |index, name| {
        let input = Input::new(format!("device tree {name}"), "published");
        input.item(&recipe.spans, "kernel.device_trees", index)
    });
    let builds = recipe.kernel_files.builds.iter().map(|build| Said(build.name.clone())).collect();
    let kernel = Kernel { arch, epoch, version, order, packages, updates, builds, device_trees };
    reader.actions.push(Action {
        id: ids::PAYLOAD.to_owned(),
        stage: Stage::Kernel,
        kind: ActionKind::Kernel,
        version: super::VERSION,
        inputs: key.each_once(),
        upstream,
        needs: vec![ids::TOOLS.to_owned()],
    });
    reader.describe(ids::PAYLOAD, Described::Kernel(kernel));
    Ok(())
}

/// Drivers that are built: each an action of its own, which knows the headers, the compiler and its source.
fn driver_builds(reader: &mut Reader<'_>) -> Result<Vec<Upstream>, StageError> {
    let mut upstream = Vec::new();
    for (index, build) in reader.recipe.kernel_files.builds.iter().enumerate() {
        let mut key = Key::default();
        let arch = key.keep(reader.recipe.model.image.arch, |_| Input::parameter("platform", &reader.platform));
        let tools = tools_identity(reader.manager, &reader.locked(PassRole::DRIVER_TOOLS), &reader.platform);
        key.also(
            Input::new(format!("tools {}", PassRole::DRIVER_TOOLS), tools)
                .of(Origin::Roots(vec![ids::DRIVER_TOOLS.to_owned()])),
        );
        let driver = drivers::describe_build(reader.recipe, reader.lock, build, arch, &mut key)?;
        let id = build_action(index);
        upstream.push(Upstream { action: id.clone(), output: "layer".to_owned() });
        reader.actions.push(Action {
            id: id.clone(),
            stage: Stage::Kernel,
            kind: ActionKind::Driver,
            version: drivers::VERSION,
            inputs: key.inputs(),
            upstream: Vec::new(),
            needs: vec![ids::DRIVER_TOOLS.to_owned()],
        });
        reader.describe(&id, Described::Driver(driver));
    }
    Ok(upstream)
}
