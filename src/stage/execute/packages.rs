//! Packages and the kernel: requests to the package manager, drivers.

use super::with_accounts;
use crate::distro::{Bootstrap, Install, manager, ready_name};
use crate::plan::{Action, ActionKind};
use crate::recipe::PassRole;
use crate::stage::actions::kernel_packages;
use crate::stage::ids;
use crate::stage::report::refuse;
use crate::stage::results::{below, layer_outputs, missing};
use crate::stage::run::{Builder, Context};
use crate::stage::tools::TOOLS_EPOCH;
use crate::stage::{StageError, kernel};
use crate::store::Outputs;

impl Builder<'_> {
    pub(super) fn run_bootstrap(&self, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
        let Some(pass) = context.lock.pass(action.layer()) else { return Err(missing(&action.id)) };
        context.supply.have(&pass.packages)?;
        let configure = action.kind == ActionKind::Bootstrap;
        let request = Bootstrap {
            tools: if configure { context.done.layer(ids::TOOLS).into_iter().collect() } else { Vec::new() },
            packages: &pass.packages,
            ready: context.supply.directory(),
            configure,
            failing: &self.recipe.model.packages.failing_scripts,
            epoch: if configure { context.lock.epoch } else { TOOLS_EPOCH },
            log: self.log_name(action),
        };
        let work = (self.store, self.namespace);
        let answer = manager(self.recipe).bootstrap(work, &request, &mut |text| self.report.progress(text))?;
        Ok(with_accounts(&answer))
    }

    pub(super) fn run_install(&self, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
        let (lock, done) = (context.lock, context.done);
        let Some(pass) = lock.pass(action.layer()) else { return Err(missing(&action.id)) };
        context.supply.have(&pass.packages)?;
        let variables = context
            .stages
            .wishes
            .iter()
            .find(|wish| wish.name == pass.name)
            .map(|wish| wish.variables.clone())
            .unwrap_or_default();
        let made = context.stages.accounts.get(&action.id).cloned().unwrap_or_default();
        let request = Install {
            tools: vec![done.layer(ids::TOOLS)?],
            base: below(action, done)?,
            packages: &pass.packages,
            ready: context.supply.directory(),
            accounts: &made,
            over_payload: pass.role() == PassRole::Kernel,
            remove: &pass.remove,
            remove_after: &pass.remove_after,
            remove_with: &pass.remove_with,
            modules: &pass.modules,
            failing: &self.recipe.model.packages.failing_scripts,
            variables: &variables,
            epoch: lock.epoch,
            log: self.log_name(action),
        };
        let work = (self.store, self.namespace);
        let answer = manager(self.recipe).install(work, &request, &mut |text| self.report.progress(text))?;
        Ok(with_accounts(&answer))
    }

    pub(super) fn run_kernel(&self, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
        let (lock, done) = (context.lock, context.done);
        let manager = manager(self.recipe);
        let own = lock.pass(PassRole::KERNEL).map(|pass| pass.packages.clone()).unwrap_or_default();
        let packages = kernel_packages(manager, lock, &own);
        context.supply.have(&packages)?;
        let scratch = self.store.scratch()?;
        let handover = format!("handover/{}-kernel", scratch.name.replace('/', "-"));
        let request = kernel::KernelRequest {
            scratch: scratch.name.clone(),
            packages: packages
                .iter()
                .map(|package| (ready_name(context.supply.directory(), &package.sha256), package.name.clone()))
                .collect(),
            tools: vec![done.layer(ids::TOOLS)?],
            version: self.recipe.model.kernel.version.clone(),
            extra: self.extra_drivers(done)?,
            order: manager.order(),
            epoch: lock.epoch,
            log: self.log_name(action),
            handover: handover.clone(),
        };
        let answer: kernel::KernelAnswer =
            self.namespace.call("kernel", &request, &mut |text| self.report.progress(text))?;
        match answer {
            kernel::KernelAnswer::Refused(refusal) => Err(refusal.into()),
            kernel::KernelAnswer::Made(layer, release, remarks) => {
                let blob = self.take(&handover)?;
                let manifest = self.store.manifest(&layer.layer)?;
                let mut outputs = layer_outputs(&layer);
                outputs
                    .values
                    .insert("modules".to_owned(), kernel::modules_projection(&manifest, &release).to_string());
                outputs.values.insert("release".to_owned(), release);
                let files = &self.recipe.kernel_files;
                if !files.updates.is_empty() || !files.builds.is_empty() {
                    outputs.values.extend(self.say_remarks(&remarks));
                }
                outputs.blobs.insert("kernel".to_owned(), blob);
                Ok(outputs)
            }
            kernel::KernelAnswer::Choose(releases) => {
                let wanted = &self.recipe.model.kernel.version;
                let problem = match (wanted, releases.len()) {
                    (Some(version), _) => format!("the packages bring no kernel `{version}`"),
                    (None, 0) => "the packages bring no kernel with modules".to_owned(),
                    (None, count) => format!("the packages bring {count} kernels: {}", releases.join(", ")),
                };
                let help = match releases.last() {
                    None => "name a package that brings one: [kernel] package = \"...\"".to_owned(),
                    Some(last) => format!(
                        "choose one: [kernel] version = \"{last}\" (there are, in ascending order: {})",
                        releases.join(", ")
                    ),
                };
                let field = if wanted.is_some() { "kernel.version" } else { "kernel.package" };
                Err(refuse(self.report, self.recipe, field, problem, help))
            }
            kernel::KernelAnswer::Failed(result) => Err(StageError::Script {
                what: "depmod".to_owned(),
                status: result.status,
                lines: result.last_lines.join("\n"),
                remedy: String::new(),
                log: self.store.directory().join(self.log_name(action)).display().to_string(),
            }),
        }
    }
}
