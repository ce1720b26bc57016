//! What each action does: gathers its request, calls the operation inside, keeps what comes back.

use std::collections::BTreeMap;
use std::path::Path;

use super::actions::{INITRD, PACK, compression, initrd_compression, kernel_packages};
use super::artefacts::index_text;
use super::drivers::BUILD_KIND;
use super::results::{Done, below, layer_outputs, missing};
use super::run::{Builder, Context, INIT};
use super::tools::TOOLS_EPOCH;
use super::wish::POSTINSTALL_TOOLS;
use super::{
    StageError, dracut, gate, initrd, kernel, modules, node_support, pack, postinstall, services, sync, system,
};
use crate::digest::Digest;
use crate::distro::{Bootstrap, Install, manager, ready_name};
use crate::plan::Action;
use crate::recipe::{Accounts, Clause, Frames, HOSTNAME_BY_DHCP, Lock, ModulesFrom, Selinux, SyncedKind};
use crate::source::{Finding, Severity};
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
            "unpack" | "bootstrap" => self.run_bootstrap(action, context),
            "install" => self.run_install(action, context),
            "kernel" => self.run_kernel(action, context),
            BUILD_KIND => self.run_driver_build(action, context),
            "system" => self.run_system(lock, &below(action, done)?),
            "postinstall" => self.run_postinstall(action, lock, done),
            "services" => self.run_services(action, lock, &below(action, done)?),
            "gate" => self.run_gate(action, done),
            node_support::KIND => match &self.recipe.node_support {
                Some(support) => self.run_node_support(action, support, lock, done),
                None => Err(missing(&action.id)),
            },
            "sync" => self.run_sync(lock, &below(action, done)?),
            "initrd" => self.run_initrd(action, lock, done),
            dracut::KIND => self.run_dracut(action, lock, done),
            _ => self.run_pack(action, done),
        }
    }

    fn run_bootstrap(&self, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
        let Some(pass) = context.lock.pass(action.layer()) else { return Err(missing(&action.id)) };
        context.supply.have(&pass.packages)?;
        let configure = action.kind == "bootstrap";
        let request = Bootstrap {
            tools: if configure { context.done.layer("rootfs/tools").into_iter().collect() } else { Vec::new() },
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

    fn run_install(&self, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
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
            tools: vec![done.layer("rootfs/tools")?],
            base: below(action, done)?,
            packages: &pass.packages,
            ready: context.supply.directory(),
            accounts: &made,
            over_payload: pass.name == "kernel",
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

    fn run_kernel(&self, action: &Action, context: &Context<'_>) -> Result<Outputs, StageError> {
        let (lock, done) = (context.lock, context.done);
        let manager = manager(self.recipe);
        let own = lock.pass("kernel").map(|pass| pass.packages.clone()).unwrap_or_default();
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
            tools: vec![done.layer("rootfs/tools")?],
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
                Err(StageError::Gate { problem, help })
            }
            kernel::KernelAnswer::Failed(result) => Err(StageError::Script {
                what: "depmod".to_owned(),
                status: result.status,
                lines: result.last_lines.join("\n"),
                log: self.store.directory().join(self.log_name(action)).display().to_string(),
            }),
        }
    }

    fn run_system(&self, lock: &Lock, base: &[Digest]) -> Result<Outputs, StageError> {
        let read = |path: &Path, name: &str| {
            std::fs::read_to_string(path).map_err(|source| StageError::Input { file: name.to_owned(), source })
        };
        let mut keys = String::new();
        for (path, name) in &self.recipe.authorized_keys {
            keys.push_str(read(path, name)?.trim_end());
            keys.push('\n');
        }
        let hash = match &self.recipe.root_password_hash {
            Some((path, name)) => Some(read(path, name)?.trim().to_owned()),
            None => None,
        };
        let settings = &self.recipe.model.system;
        let scratch = self.store.scratch()?;
        let request = system::SystemRequest {
            scratch: scratch.name.clone(),
            base: base.to_vec(),
            epoch: lock.epoch,
            fstab: system::fstab(self.recipe),
            exports: system::exports(self.recipe),
            hostname: settings.hostname.clone().filter(|name| name != HOSTNAME_BY_DHCP),
            timezone: settings.timezone.clone(),
            locale: settings.locale.clone(),
            authorized_keys: keys,
            root_password_hash: hash,
        };
        let answer: system::SystemAnswer =
            self.namespace.call("system", &request, &mut |text| self.report.progress(text))?;
        // Afterwards the package database must be what the lock says (D12).
        let locked: std::collections::BTreeSet<(&str, &str, &str)> = lock
            .pass
            .iter()
            .filter(|pass| !pass.name.starts_with("tools"))
            .flat_map(|pass| &pass.packages)
            .map(|package| (package.name.as_str(), package.version.as_str(), package.architecture.as_str()))
            .collect();
        let is_locked = |(name, version, architecture): &&(String, String, String)| {
            locked.contains(&(name.as_str(), version.as_str(), architecture.as_str()))
        };
        let strange: Vec<String> = answer
            .installed
            .iter()
            .filter(|package| !is_locked(package))
            .map(|(name, version, _)| format!("{name} {version}"))
            .collect();
        if !strange.is_empty() {
            let lock = self.recipe.lock_name();
            return Err(StageError::Gate {
                problem: format!("the image has packages that {lock} does not have: {}", strange.join(", ")),
                help: format!("delete {lock} to resolve all packages again, and report this"),
            });
        }
        for text in answer.warnings {
            self.report.finding(&Finding::nowhere(Severity::Warning, "system::image", text));
        }
        Ok(layer_outputs(&answer.layer))
    }

    fn run_postinstall(&self, action: &Action, lock: &Lock, done: &Done) -> Result<Outputs, StageError> {
        let (Some(script), Some(table)) = (&self.recipe.postinstall, &self.recipe.model.postinstall) else {
            return Err(missing(&action.id));
        };
        let scratch = self.store.scratch()?;
        let files = script.inputs.iter().cloned().chain([(script.script.clone(), script.name.clone())]);
        for (path, name) in files {
            let said = |source| StageError::Input { file: name.clone(), source };
            let bytes = std::fs::read(&path).map_err(said)?;
            let (_, mode, _) = crate::plan::file_input(&name, &path).map_err(said)?;
            scratch.write_link(&postinstall::place_of(&name), &bytes, mode)?;
        }
        if table.packages.is_some() {
            for package in super::actions::image_packages(lock) {
                self.store.check_package(&package.sha256)?;
                scratch.link(
                    &self.store.package(&package.sha256),
                    &format!("{}/{}", postinstall::PACKAGES, package.file_name()),
                )?;
            }
        }
        let machine = self.recipe.model.image.arch.machine();
        let release = done.value("kernel/payload", "release")?;
        let mut arguments = vec![format!("{}/{}", postinstall::RECIPE_DIRECTORY, postinstall::place_of(&script.name))];
        arguments.extend([
            "/target".to_owned(),
            postinstall::osvers(self.recipe),
            machine.to_owned(),
            postinstall::profile(self.recipe),
        ]);
        arguments.extend(table.arguments.iter().cloned());
        let variables = postinstall::variables(self.recipe, &release);
        let mut tools = vec![done.layer("rootfs/base")?];
        tools.extend(done.layer(&format!("rootfs/{POSTINSTALL_TOOLS}")));
        let request = postinstall::PostinstallRequest {
            scratch: scratch.name.clone(),
            links: scratch.links_name.clone(),
            with_packages: table.packages.is_some(),
            tools,
            base: below(action, done)?,
            arguments,
            variables,
            uname: (release, machine.to_owned()),
            epoch: lock.epoch,
            log: self.log_name(action),
        };
        let answer: postinstall::PostinstallAnswer =
            self.namespace.call("postinstall", &request, &mut |text| self.report.progress(text))?;
        match answer {
            postinstall::PostinstallAnswer::Made(layer) => Ok(layer_outputs(&layer)),
            postinstall::PostinstallAnswer::Failed(result) => Err(StageError::Script {
                what: format!("the postinstall script `{}`", script.name),
                status: result.status,
                lines: result.last_lines.join("\n"),
                log: self.store.directory().join(self.log_name(action)).display().to_string(),
            }),
        }
    }

    fn run_services(&self, action: &Action, lock: &Lock, base: &[Digest]) -> Result<Outputs, StageError> {
        let units = &self.recipe.units;
        let scratch = self.store.scratch()?;
        let request = services::ServicesRequest {
            scratch: scratch.name.clone(),
            base: base.to_vec(),
            epoch: lock.epoch,
            units: units.iter().map(|unit| (unit.state, unit.name.clone())).collect(),
            log: self.log_name(action),
        };
        let answer: services::ServicesAnswer =
            self.namespace.call("services", &request, &mut |text| self.report.progress(text))?;
        match answer {
            services::ServicesAnswer::Made(layer, remarks) => {
                for finding in services::warnings(self.recipe, &remarks) {
                    self.report.finding(&finding);
                }
                Ok(layer_outputs(&layer))
            }
            services::ServicesAnswer::Refused(remarks) => {
                for finding in services::refusals(self.recipe, &remarks) {
                    self.report.finding(&finding);
                }
                let named = |remark: &services::Remark| units.get(remark.unit).map(|unit| unit.name.as_str());
                let names = remarks.iter().filter_map(named).collect::<Vec<_>>().join(", ");
                Err(StageError::Units { names })
            }
            services::ServicesAnswer::Failed(command, result) => Err(StageError::Script {
                what: format!("`{command}` in the image"),
                status: result.status,
                lines: result.last_lines.join("\n"),
                log: self.store.directory().join(self.log_name(action)).display().to_string(),
            }),
        }
    }

    fn run_gate(&self, action: &Action, done: &Done) -> Result<Outputs, StageError> {
        let layers = below(action, done)?;
        let mut manifests = Vec::new();
        for layer in &layers {
            manifests.push(self.store.manifest(layer)?);
        }
        if self.recipe.model.initrd.modules_from == ModulesFrom::Kernel {
            let payload = self.store.manifest(&done.layer("kernel/payload")?)?;
            let is_late = |upstream: &crate::plan::Upstream| upstream.action == "rootfs/postinstall";
            let of_layers = action.upstream.iter().filter(|upstream| upstream.output == "layer");
            let late: Vec<_> = of_layers
                .zip(&manifests)
                .filter(|(upstream, _)| is_late(upstream))
                .map(|(_, manifest)| manifest.clone())
                .collect();
            gate::check_modules(
                &payload,
                &crate::store::merge(&manifests),
                &late,
                &done.value("kernel/payload", "release")?,
            )?;
        } else {
            let payload = self.store.manifest(&done.layer("kernel/payload")?)?;
            let release = done.value("kernel/payload", "release")?;
            let foreign = gate::foreign_modules(&payload, &crate::store::merge(&manifests), &release);
            self.check_foreign_modules(&layers, &release, foreign)?;
        }
        let script = self.recipe.postinstall.as_ref().map_or("the recipe", |script| script.name.as_str());
        let read = |path: &str| -> Result<String, StageError> {
            let request = gate::ReadFileRequest { layers: layers.clone(), path: path.to_owned() };
            let text: Option<String> = self.namespace.call("read-file", &request, &mut |_| {})?;
            Ok(text.unwrap_or_default())
        };
        let (tmpfs, mounts, exports) = (&self.recipe.model.boot.tmpfs, &self.recipe.mounts, &self.recipe.exports);
        if !tmpfs.is_empty() || !mounts.is_empty() {
            gate::check_fstab(script, &read("etc/fstab")?, tmpfs, mounts)?;
        }
        if !exports.is_empty() {
            gate::check_exports(script, &read("etc/exports")?, exports)?;
        }
        Ok(Outputs { values: BTreeMap::from([("passed".to_owned(), "yes".to_owned())]), ..Outputs::default() })
    }

    fn run_sync(&self, lock: &Lock, base: &[Digest]) -> Result<Outputs, StageError> {
        gate::check_synced(self.recipe)?;
        let mut items = Vec::new();
        for synced in &self.recipe.sync {
            let said = |source| StageError::Input { file: synced.name.clone(), source };
            let (content, mode) = match synced.kind {
                SyncedKind::Directory => (None, 0o755),
                SyncedKind::File => {
                    let (_, mode, _) = crate::plan::file_input(&synced.name, &synced.source).map_err(said)?;
                    if mode & 0o6000 != 0 {
                        let text = format!("`{}` keeps its set-id bits in the image", synced.name);
                        self.report.finding(&Finding::note("sync::setid", &synced.span, text));
                    }
                    (Some(Store::blob_name(&self.store.ensure_blob_of(&synced.source)?.digest)), mode)
                }
            };
            items.push(sync::SyncItem {
                content,
                link: None,
                destination: synced.destination.clone(),
                name_in_folder: synced.name_in_folder.clone(),
                mode,
                clause: match synced.clause {
                    Clause::Copy => "copy",
                    Clause::Append => "append",
                    Clause::Merge => "merge",
                }
                .to_owned(),
            });
        }
        let scratch = self.store.scratch()?;
        let request =
            sync::SyncRequest { scratch: scratch.name.clone(), base: base.to_vec(), epoch: lock.epoch, items };
        let answer: sync::SyncAnswer = self.namespace.call("sync", &request, &mut |text| self.report.progress(text))?;
        for text in answer.notes {
            self.report.finding(&Finding::nowhere(Severity::Warning, "sync::into_folder", text));
        }
        Ok(layer_outputs(&answer.layer))
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
        let wanted = modules::wanted_drivers(&self.recipe.model.kernel.drivers);
        let layers = match self.recipe.model.initrd.modules_from {
            ModulesFrom::Kernel => vec![done.layer("kernel/payload")?],
            ModulesFrom::Rootfs => below(action, done)?,
        };
        Ok(initrd::InitrdRequest {
            layers,
            release: done.value("kernel/payload", "release")?,
            named: wanted.named,
            default: wanted.default,
            updates: match done.value("kernel/payload", "drivers") {
                Ok(names) => names.split_whitespace().map(str::to_owned).collect(),
                Err(_) => Vec::new(),
            },
            all_updates: wanted.all_updates,
            init: Store::blob_name(&Digest::of(INIT)),
            ca,
            compress: initrd_compression(self.recipe, &action.id).to_owned(),
            epoch: lock.epoch,
            handover: format!("handover/{}-initrd", scratch.replace('/', "-")),
        })
    }

    fn run_initrd(&self, action: &Action, lock: &Lock, done: &Done) -> Result<Outputs, StageError> {
        let scratch = self.store.scratch()?;
        let request = self.initrd_request(action, lock, done, &scratch.name)?;
        let answer: initrd::InitrdAnswer =
            self.namespace.call("initrd", &request, &mut |text| self.report.progress(text))?;
        // The same drivers in another form: said once.
        if action.id == INITRD || !answer.missing.is_empty() {
            self.say_drivers(&answer, &request.release)?;
        }
        let initrd = self.take(&request.handover)?;
        Ok(Outputs { blobs: BTreeMap::from([("initrd".to_owned(), initrd)]), ..Outputs::default() })
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
            return Err(StageError::Gate {
                problem: format!("the kernel {release} has no driver {}", names.join(", ")),
                help,
            });
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
                return Err(StageError::Gate { problem: text, help: help.to_owned() });
            }
            self.report.finding(&Finding::nowhere(Severity::Warning, "initrd::firmware", text).help(help));
        }
        if !default.is_empty() {
            say(Severity::Note, format!("firmware of default drivers is not in the image: {default}"));
        }
        Ok(())
    }

    fn run_pack(&self, action: &Action, done: &Done) -> Result<Outputs, StageError> {
        let layers = below(action, done)?;
        let mut manifests = Vec::new();
        for layer in &layers {
            manifests.push(self.store.manifest(layer)?);
        }
        let tree = crate::store::merge(&manifests);
        let paths = tree.0.iter().map(|(path, found)| (path.clone(), found.entry.is_directory())).collect();
        let exclusion = self.recipe.exclude.apply(&paths);
        if action.id == PACK {
            for finding in &exclusion.findings {
                self.report.finding(finding);
            }
        }
        let (compress, level) = match compression(self.recipe, &action.id) {
            crate::archive::Compression::Zstd(level) => ("zstd", level as u32),
            crate::archive::Compression::Gzip(level) => ("gzip", level),
        };
        let scratch = self.store.scratch()?;
        let request = pack::PackRequest {
            layers,
            excluded: exclusion.excluded,
            compress: compress.to_owned(),
            level,
            single: self.recipe.model.pack.frames == Frames::Single,
            selinux: self.recipe.model.system.selinux == Selinux::Auto,
            scratch: scratch.name.clone(),
        };
        let answer: pack::PackAnswer = self.namespace.call("pack", &request, &mut |text| self.report.progress(text))?;
        if action.id == PACK {
            for text in &answer.warnings {
                self.report.finding(&Finding::nowhere(Severity::Warning, "pack::selinux", text.clone()));
            }
        }
        let index = self.store.ensure_blob(&index_text(
            compress,
            &answer.frames,
            answer.inodes,
            answer.memory,
            &answer.xattrs,
            &answer.labels,
        ))?;
        Ok(Outputs {
            blobs: BTreeMap::from([("index".to_owned(), index)]),
            values: BTreeMap::from([("memory".to_owned(), answer.memory.to_string())]),
            frames: answer.frames.iter().map(|(key, _)| *key).collect(),
            ..Outputs::default()
        })
    }
}
