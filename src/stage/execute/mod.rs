//! What each action does: gathers its request, calls the operation inside, keeps what comes back.

mod dracut;
mod images;
mod node_support;
mod packages;
mod settings;

use std::collections::BTreeMap;

use super::actions::initrd_compression;
use super::report::refuse;
use super::results::{Done, below, layer_outputs, missing};
use super::run::{Builder, Context, INIT};
use super::{StageError, initrd};
use crate::digest::Digest;
use crate::plan::{Action, ActionKind};
use crate::recipe::{Accounts, Lock, ModulesFrom, normal_name};
use crate::source::{Finding, Severity};
use crate::stage::ids;
use crate::store::{BlobRef, Outputs, ScanAnswer, Store};

/// Outputs of a transaction.
fn with_accounts((answer, accounts): &(ScanAnswer, Accounts)) -> Outputs {
    let mut outputs = layer_outputs(answer);
    if !accounts.is_empty() {
        let text = serde_json::to_string(accounts).unwrap_or_default();
        outputs.values.insert(super::accounts::VALUE.to_owned(), text);
    }
    outputs
}

impl Builder<'_> {
    pub(super) fn log_name(&self, action: &Action) -> String {
        let image = &self.recipe.model.image.name;
        format!("logs/{}-{image}-{}.log", std::process::id(), action.id.replace('/', "-"))
    }

    /// Takes a file that an operation left for the host process.
    pub(super) fn take(&self, name: &str) -> Result<BlobRef, StageError> {
        let path = self.store.directory().join(name);
        let blob = self.store.ensure_blob_of(&path)?;
        let _ = std::fs::remove_file(&path);
        Ok(blob)
    }

    /// Does the work of an action that is not in the store.
    ///
    /// # Errors
    /// [`StageError`] of its kind.
    pub(super) fn run(&self, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
        let (lock, done) = (context.lock, context.done);
        match action.kind {
            // They come before and after the graph.
            ActionKind::Lock | ActionKind::Publish => Err(missing(&action.id)),
            ActionKind::Unpack | ActionKind::Bootstrap => self.run_bootstrap(action, context),
            ActionKind::Install => self.run_install(action, context),
            ActionKind::Kernel => self.run_kernel(action, context),
            ActionKind::Driver => self.run_driver_build(action, context),
            ActionKind::System => self.run_system(lock, &below(action, done)?),
            ActionKind::Postinstall => self.run_postinstall(action, lock, done),
            ActionKind::Services => self.run_services(action, lock, &below(action, done)?),
            ActionKind::Gate => self.run_gate(action, done),
            ActionKind::NodeSupport => match &self.recipe.node_support {
                Some(support) => self.run_node_support(action, support, lock, done),
                None => Err(missing(&action.id)),
            },
            ActionKind::Sync => self.run_sync(lock, &below(action, done)?),
            ActionKind::Initrd => self.run_initrd(action, lock, done),
            ActionKind::Dracut => self.run_dracut(action, lock, done),
            ActionKind::Pack => self.run_pack(action, context),
        }
    }

    /// What an initrd is made from, whoever composes it.
    pub(super) fn initrd_request(
        &self,
        action: &Action,
        lock: &Lock,
        done: &Done,
        scratch: &str,
    ) -> Result<initrd::InitrdRequest, StageError> {
        let mut ca = String::new();
        for (path, name) in &self.recipe.ca {
            ca.push_str(
                &std::fs::read_to_string(path).map_err(|source| StageError::Input { file: name.clone(), source })?,
            );
        }
        let wanted = crate::recipe::wanted_drivers(&self.recipe.model.kernel.drivers);
        let layers = match self.recipe.model.initrd.modules_from {
            ModulesFrom::Kernel => vec![done.layer(ids::PAYLOAD)?],
            ModulesFrom::Rootfs => below(action, done)?,
        };
        Ok(initrd::InitrdRequest {
            layers,
            release: done.value(ids::PAYLOAD, "release")?,
            named: wanted.named,
            default: wanted.default,
            updates: match done.value(ids::PAYLOAD, "drivers") {
                Ok(names) => names.split_whitespace().map(str::to_owned).collect(),
                Err(_) => Vec::new(),
            },
            all_updates: wanted.all_updates,
            init: Store::blob_name(&Digest::of(INIT)),
            ca,
            compression: initrd_compression(self.recipe, &action.id),
            epoch: lock.epoch,
            handover: format!("handover/{}-initrd", scratch.replace('/', "-")),
        })
    }

    pub(super) fn say_drivers(&self, answer: &initrd::InitrdAnswer, release: &str) -> Result<(), StageError> {
        if !answer.missing.is_empty() {
            let names: Vec<String> = answer.missing.iter().map(|(name, _)| format!("`{name}`")).collect();
            let hints: Vec<String> = answer
                .missing
                .iter()
                .filter(|(_, near)| !near.is_empty())
                .map(|(name, near)| format!("instead of `{name}`, did you mean {}?", near.join(", ")))
                .collect();
            let help = if hints.is_empty() {
                "correct [kernel] drivers, or add a package that brings the driver".to_owned()
            } else {
                hints.join("\n")
            };
            let problem = format!("the kernel {release} has no driver {}", names.join(", "));
            let wanted = self.recipe.model.kernel.drivers.iter();
            let is_first = |one: &String| {
                answer.missing.first().is_some_and(|(name, _)| normal_name(one.trim_start_matches('+')) == *name)
            };
            let at = wanted
                .clone()
                .position(is_first)
                .map_or("kernel.drivers".to_owned(), |at| format!("kernel.drivers[{at}]"));
            return Err(refuse(self.report, self.recipe, &at, problem, help));
        }
        if !answer.unused_updates.is_empty() {
            let text = format!(
                "these modules of [kernel] updates and [[kernel.build]] are in the image, but not in the initrd: {}",
                answer.unused_updates.join(", ")
            );
            let mut finding = Finding::nowhere(Severity::Warning, "initrd::updates", text).help(
                "a node that needs them to boot needs them named: [kernel] drivers = [\"+NAME\"], or \"+allupdate\" for all of them",
            );
            finding.span = self.recipe.spans.nearest("kernel.updates").cloned();
            self.report.finding(&finding);
        }
        let span = self.recipe.spans.nearest("kernel.drivers");
        let say = |severity, text: String| {
            let mut finding = Finding::nowhere(severity, "initrd::drivers", text);
            finding.span = span.filter(|_| severity != Severity::Note).cloned();
            self.report.finding(&finding);
        };
        if !answer.skipped.is_empty() {
            say(
                Severity::Note,
                format!("the kernel {release} lacks these drivers of the default list: {}", answer.skipped.join(", ")),
            );
        }
        let list = |named: bool| {
            let mut by_module: BTreeMap<&str, usize> = BTreeMap::new();
            for (module, _, _) in answer.missing_firmware.iter().filter(|(_, _, is_named)| *is_named == named) {
                *by_module.entry(module).or_default() += 1;
            }
            by_module.iter().map(|(module, count)| format!("{module} ({count} files)")).collect::<Vec<_>>().join(", ")
        };
        let (named, default) = (list(true), list(false));
        if !named.is_empty() {
            let text = format!("firmware of drivers that the recipe names is not in the image: {named}");
            let help = "add the package that brings it: [kernel] firmware_packages = [...] (Debian's is in the component non-free-firmware)";
            if self.recipe.model.kernel.firmware == crate::recipe::Firmware::Require {
                return Err(refuse(self.report, self.recipe, "kernel.firmware", text, help.to_owned()));
            }
            self.report.finding(&Finding::nowhere(Severity::Warning, "initrd::firmware", text).help(help));
        }
        if !default.is_empty() {
            say(Severity::Note, format!("firmware of default drivers is not in the image: {default}"));
        }
        Ok(())
    }
}
