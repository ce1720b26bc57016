//! The layers above the packages.

use std::collections::BTreeMap;
use std::path::Path;

use crate::digest::Digest;
use crate::plan::Action;
use crate::recipe::{Clause, HOSTNAME_BY_DHCP, Lock, ModulesFrom, SyncedKind, package_of};
use crate::source::{Finding, Severity};
use crate::stage::ids;
use crate::stage::remedy::{remedy, thrown_away_finding};
use crate::stage::report::{refuse, refuse_at};
use crate::stage::results::{Done, below, layer_outputs, missing};
use crate::stage::run::Builder;
use crate::stage::{StageError, gate, postinstall, services, sync, system};
use crate::store::{Outputs, Store};

impl Builder<'_> {
    pub(super) fn run_system(&self, lock: &Lock, base: &[Digest]) -> Result<Outputs, StageError> {
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
            .image_passes()
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

    pub(super) fn run_postinstall(&self, action: &Action, lock: &Lock, done: &Done) -> Result<Outputs, StageError> {
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
            for package in crate::stage::actions::image_packages(lock) {
                self.store.check_package(&package.sha256)?;
                scratch.link(
                    &self.store.package(&package.sha256),
                    &format!("{}/{}", postinstall::PACKAGES, package.file_name()),
                )?;
            }
        }
        let machine = self.recipe.model.image.arch.machine();
        let release = done.value(ids::PAYLOAD, "release")?;
        let mut arguments = vec![format!("{}/{}", postinstall::RECIPE_DIRECTORY, postinstall::place_of(&script.name))];
        arguments.extend([
            "/target".to_owned(),
            postinstall::osvers(self.recipe),
            machine.to_owned(),
            postinstall::profile(self.recipe),
        ]);
        arguments.extend(table.arguments.iter().cloned());
        let variables = postinstall::variables(self.recipe, &release);
        let mut tools = vec![done.layer(ids::BASE)?];
        tools.extend(done.layer(ids::POSTINSTALL_TOOLS));
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
            postinstall::PostinstallAnswer::Made(layer, thrown_away) => {
                self.report.printed(ids::POSTINSTALL, &self.store.directory().join(self.log_name(action)));
                if let Some(finding) = thrown_away_finding(self.recipe, &script.name, &thrown_away) {
                    self.report.finding(&finding);
                }
                Ok(layer_outputs(&layer))
            }
            postinstall::PostinstallAnswer::NoInterpreter(interpreter) => {
                let problem = format!("`{}` is run by {interpreter}, which is not there where it runs", script.name);
                let help = format!(
                    "name the package that brings it: [postinstall] tools = [\"{}\"]; the script runs in a root of its own, not in the image",
                    package_of(&interpreter)
                );
                Err(refuse(self.report, self.recipe, "postinstall.script", problem, help))
            }
            postinstall::PostinstallAnswer::Failed(result) => Err(StageError::Script {
                what: format!("the postinstall script `{}`", script.name),
                status: result.status,
                remedy: remedy(&result.last_lines),
                lines: result.last_lines.join("\n"),
                log: self.store.directory().join(self.log_name(action)).display().to_string(),
            }),
        }
    }

    pub(super) fn run_services(&self, action: &Action, lock: &Lock, base: &[Digest]) -> Result<Outputs, StageError> {
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
                remedy: String::new(),
                log: self.store.directory().join(self.log_name(action)).display().to_string(),
            }),
        }
    }

    pub(super) fn run_gate(&self, action: &Action, done: &Done) -> Result<Outputs, StageError> {
        let layers = below(action, done)?;
        let mut manifests = Vec::new();
        for layer in &layers {
            manifests.push(self.store.manifest(layer)?);
        }
        if self.recipe.model.initrd.modules_from == ModulesFrom::Kernel {
            let payload = self.store.manifest(&done.layer(ids::PAYLOAD)?)?;
            let is_late = |upstream: &crate::plan::Upstream| upstream.action == ids::POSTINSTALL;
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
                &done.value(ids::PAYLOAD, "release")?,
            )?;
        } else {
            let payload = self.store.manifest(&done.layer(ids::PAYLOAD)?)?;
            let release = done.value(ids::PAYLOAD, "release")?;
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

    pub(super) fn run_sync(&self, lock: &Lock, base: &[Digest]) -> Result<Outputs, StageError> {
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
        for (later, earlier) in answer.doubled {
            let (Some(later), Some(earlier)) = (self.recipe.sync.get(later), self.recipe.sync.get(earlier)) else {
                continue;
            };
            let text = format!(
                "{} is copied twice: {} was to be there, too ({})",
                later.destination, earlier.name, earlier.span
            );
            let finding = Finding::warning("sync::doubled", &later.span, text).label("this one stays");
            self.report.finding(&finding.help("remove one of the lines"));
        }
        for text in answer.notes {
            self.report.finding(&Finding::nowhere(Severity::Warning, "sync::into_folder", text));
        }
        match answer.layer {
            Ok(layer) => Ok(layer_outputs(&layer)),
            Err((index, problem)) => {
                let item = self.recipe.sync.get(index);
                let name = item.map_or_else(String::new, |item| format!("{}: ", item.name));
                let help =
                    "correct the line's destination; `imgbuild shell` shows what is in the image there".to_owned();
                Err(refuse_at(self.report, item.map(|item| item.span.clone()), format!("{name}{problem}"), help))
            }
        }
    }
}
