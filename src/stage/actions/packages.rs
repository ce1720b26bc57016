//! Actions of packages and the kernel.

use super::{Reader, kernel_packages, version};
use crate::plan::{Action, ActionKind, Input, Origin, Stage, Upstream};
use crate::recipe::{PassRole, PinnedPackage};
use crate::stage::drivers::{self, build_action};
use crate::stage::ids;
use crate::stage::tools::{base_action, tools_action, tools_driver_action, tools_identity};
use crate::stage::wish::{Wish, wishes};
use crate::stage::{StageError, accounts};

impl Reader<'_> {
    pub(super) fn packages(&mut self, wish: &Wish) -> Result<(), StageError> {
        let packages = self.locked(&wish.name);
        let role = wish.role();
        match role {
            PassRole::Tools => {
                self.actions.push(tools_action(self.manager, PassRole::TOOLS, &packages, &self.platform));
                return Ok(());
            }
            PassRole::SolverTools => return Ok(()),
            PassRole::DriverTools => {
                self.actions.push(tools_driver_action(self.manager, &packages, &self.platform));
                return Ok(());
            }
            PassRole::Base => {
                let mut action = base_action(self.manager, &packages, self.lock.epoch, &self.platform);
                if self.manager.base_needs_tools() {
                    action.inputs.push(self.tools());
                    action.inputs.extend(self.failing(&packages));
                    action.needs.push(ids::TOOLS.to_owned());
                }
                self.layers.push(action.id.clone());
                self.actions.push(action);
                return Ok(());
            }
            PassRole::Kernel => self.kernel(&packages)?,
            PassRole::PostinstallTools | PassRole::DracutTools | PassRole::Packages | PassRole::Otherpkgs => {}
        }
        if packages.is_empty() && wish.pass.remove.is_empty() && wish.pass.remove_after.is_empty() {
            return Ok(());
        }
        let mut inputs = vec![
            Input::parameter("platform", &self.platform),
            Input::parameter("epoch", self.lock.epoch),
            self.tools(),
        ];
        for (name, value) in &wish.variables {
            let input = Input::parameter(&format!("environment {name}"), value);
            inputs.push(self.asked(input, wish.spans.get(&format!("#ENV {name}"))));
        }
        inputs.extend(self.failing(&packages));
        for module in self.lock.pass(&wish.name).iter().flat_map(|pass| &pass.modules) {
            inputs.push(Input::new(format!("module {module}"), "yes").of(Origin::Lock));
        }
        for (kind, names) in [("remove", &wish.pass.remove), ("remove-after", &wish.pass.remove_after)] {
            for name in names {
                inputs.push(self.asked(Input::new(format!("{kind} {name}"), "yes"), wish.spans.get(name)));
            }
        }
        for name in self.lock.pass(&wish.name).iter().flat_map(|pass| &pass.remove_with) {
            inputs.push(Input::new(format!("remove-with {name}"), "yes").of(Origin::Lock));
        }
        for package in &packages {
            let mut input = self.asked(Input::package(package), wish.spans.get(&package.name));
            if package.automatic {
                input.value.push_str(" automatic");
            }
            inputs.push(input);
        }
        if !role.is_aside() {
            let is_first = self.layers == [ids::BASE];
            let made = accounts::made_before(self.recipe, self.lock, &wish.name, is_first);
            inputs.extend(accounts::inputs(self.recipe, &made));
            self.accounts.insert(ids::layer(&wish.name), made);
        }
        let above = role.is_aside().then(|| std::mem::replace(&mut self.layers, vec![ids::BASE.to_owned()]));
        if role == PassRole::Kernel {
            // Its files come from the payload, which the initrd is made of too; the package manager adds the rest.
            self.layers.push(ids::PAYLOAD.to_owned());
        }
        self.layer(
            &wish.name,
            ActionKind::Install,
            self.manager.versions().install,
            inputs,
            vec![ids::TOOLS.to_owned()],
        );
        if let Some(layers) = above {
            self.layers = layers;
        }
        Ok(())
    }

    /// The kernel stage: the kernel's packages, and those that brought a kernel as a dependency (D18, D19).
    pub(super) fn kernel(&mut self, packages: &[PinnedPackage]) -> Result<(), StageError> {
        let builds = self.driver_builds()?;
        let version = self.recipe.model.kernel.version.clone().unwrap_or_else(|| "the only one".to_owned());
        let mut inputs = vec![
            Input::parameter("platform", &self.platform),
            Input::parameter("epoch", self.lock.epoch),
            self.setting("version", version, "kernel.version"),
            self.tools(),
        ];
        let wishes = wishes(self.recipe);
        inputs.extend(kernel_packages(self.manager, self.lock, packages).iter().map(|package| {
            let span = wishes.iter().find_map(|wish| wish.spans.get(&package.name));
            self.asked(Input::package(package), span)
        }));
        inputs.extend(drivers::update_inputs(self.recipe)?);
        self.actions.push(Action {
            id: ids::PAYLOAD.to_owned(),
            stage: Stage::Kernel,
            kind: ActionKind::Kernel,
            version: version::KERNEL,
            inputs,
            upstream: builds,
            needs: vec![ids::TOOLS.to_owned()],
        });
        Ok(())
    }

    /// Drivers that are built: each an action of its own, which knows the headers, the compiler and its source.
    pub(super) fn driver_builds(&mut self) -> Result<Vec<Upstream>, StageError> {
        let mut upstream = Vec::new();
        for index in 0..self.recipe.kernel_files.builds.len() {
            let mut inputs = vec![
                Input::parameter("platform", &self.platform),
                Input::new(
                    format!("tools {}", PassRole::DRIVER_TOOLS),
                    tools_identity(self.manager, &self.locked(PassRole::DRIVER_TOOLS), &self.platform),
                )
                .of(Origin::Roots(vec![ids::DRIVER_TOOLS.to_owned()])),
            ];
            inputs.extend(drivers::build_inputs(self.recipe, self.lock, index)?);
            let id = build_action(index);
            upstream.push(Upstream { action: id.clone(), output: "layer".to_owned() });
            self.actions.push(Action {
                id,
                stage: Stage::Kernel,
                kind: ActionKind::Driver,
                version: version::DRIVER,
                inputs,
                upstream: Vec::new(),
                needs: vec![ids::DRIVER_TOOLS.to_owned()],
            });
        }
        Ok(upstream)
    }
}
