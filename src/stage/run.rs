//! Runs a plan: the only place that commits actions to the store.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::actions::{StageGraph, compression, graph_of, kernel_packages};
use super::artefacts::{BuildInfo, Publication, index_text};
use super::inside::News;
use super::lock::{LockState, Locking, bootstrap_layer, download_packages, lock_state, sources, target};
use super::past::{StorePast, outputs_by_name};
use super::{StageError, gate, initrd, kernel, modules, pack, postinstall, sync, system};
use crate::digest::Digest;
use crate::distro::apt::{Install, install};
use crate::distro::{DistroError, Fetcher, Progress};
use crate::plan::{Action, Cause, Decision, Known, Verdict, decide, key_and_trace};
use crate::recipe::Clause;
use crate::recipe::{LOCK_FILE, Lock, ModulesFrom, PinnedPackage, Recipe, SyncedKind};
use crate::sandbox::Namespace;
use crate::source::{Finding, Severity};
use crate::store::{ActionRecord, BlobRef, FileLock, Outputs, RecordedInput, Root, ScanAnswer, Store};

/// imgbuild-init, made by the build script.
const INIT: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/imgbuild-init"));

/// imgbuild-init: the program of each initrd.
pub fn init_program() -> &'static [u8] {
    INIT
}

/// Takes news of a build; the command line shows them.
pub trait Report: Sync {
    /// An action starts, and why.
    fn started(&self, action: &str, causes: &[Cause]);
    /// What it is doing.
    fn progress(&self, text: &str);
    /// It is done.
    fn finished(&self, action: &str, took: Duration);
    /// Something is to be said.
    fn finding(&self, finding: &Finding);
}

/// Turns news of downloads into lines.
pub struct DownloadNews<'a>(pub &'a dyn Report, pub &'static str);

impl Progress for DownloadNews<'_> {
    fn downloaded(&self, files: usize, all_files: usize, bytes: u64, all_bytes: u64) {
        let mega = |bytes: u64| bytes as f64 / 1e6;
        self.0.progress(&format!(
            "downloading {}: {files} of {all_files}, {:.1} of {:.1} MB",
            self.1,
            mega(bytes),
            mega(all_bytes)
        ));
    }
}

/// What a build is to do.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Fail rather than renew the lock.
    pub locked: bool,
    /// Stop after this stage.
    pub until: Option<crate::plan::Stage>,
    /// Where artefacts go.
    pub out: PathBuf,
    /// The mirror that overrides the recipe's sources.
    pub mirror: Option<String>,
}

/// What became of an action.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The action.
    pub action: String,
    /// Whether it ran.
    pub ran: bool,
    /// How long it took.
    pub took: Duration,
}

/// What a build did.
#[derive(Debug, Clone)]
pub struct Summary {
    /// Actions in order.
    pub outcomes: Vec<Outcome>,
    /// The published directory and what is in it, unless the build was to stop before.
    pub published: Option<(PathBuf, BuildInfo)>,
}

/// Builds one image.
pub struct Builder<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// The store.
    pub store: &'a Store,
    /// Where operations run.
    pub namespace: &'a Namespace,
    /// What to do.
    pub options: Options,
    /// Takes news.
    pub report: &'a dyn Report,
}

struct Done(BTreeMap<String, Outputs>);

impl Known for Done {
    fn output(&self, action: &str, output: &str) -> Option<String> {
        outputs_by_name(self.0.get(action)?).remove(output)
    }
}

impl Done {
    fn layer(&self, action: &str) -> Result<Digest, StageError> {
        self.0.get(action).and_then(|outputs| outputs.layer).ok_or_else(|| missing(action))
    }

    fn value(&self, action: &str, name: &str) -> Result<String, StageError> {
        self.0.get(action).and_then(|outputs| outputs.values.get(name)).cloned().ok_or_else(|| missing(action))
    }

    fn blob(&self, action: &str, name: &str) -> Result<BlobRef, StageError> {
        self.0.get(action).and_then(|outputs| outputs.blobs.get(name)).copied().ok_or_else(|| missing(action))
    }
}

fn missing(action: &str) -> StageError {
    StageError::Gate {
        problem: format!("the result of {action} is not there"),
        help: "this is a mistake in imgbuild: please report it".to_owned(),
    }
}

fn record(key: Digest, action: &str, trace: Vec<(String, String)>, outputs: Outputs, took: Duration) -> ActionRecord {
    ActionRecord {
        format: 1,
        key,
        action: action.to_owned(),
        inputs: trace.into_iter().map(|(name, value)| RecordedInput { name, value }).collect(),
        outputs,
        milliseconds: took.as_millis() as u64,
        differing: None,
    }
}

fn layer_outputs(answer: &ScanAnswer) -> Outputs {
    Outputs { layer: Some(answer.layer), ..Outputs::default() }
}

/// Makes a root, as its own action: gives its layer, from the store where it is there.
type Bootstrapper =
    dyn Fn(&Store, &Namespace, &[PinnedPackage], i64, &str, News<'_>) -> Result<ScanAnswer, DistroError>;

/// Runs the action of a tools root outside of a plan: locking needs it before there is one.
pub(super) fn run_bootstrap_action(
    store: &Store,
    namespace: &Namespace,
    action: &Action,
    packages: &[PinnedPackage],
    epoch: i64,
    report: &dyn Report,
    make: &Bootstrapper,
) -> Result<Digest, StageError> {
    let (key, trace) = key_and_trace(action, &Done(BTreeMap::new()));
    let key = key.ok_or_else(|| missing(&action.id))?;
    let lock = FileLock::take(&store.directory().join("locks").join(key.to_string()))?;
    if let Some(known) = store.record(&key).filter(|known| store.has_outputs(&known.outputs))
        && let Some(layer) = known.outputs.layer
    {
        return Ok(layer);
    }
    report.progress("making the tools root");
    let began = Instant::now();
    let log = format!("logs/{}-tools.log", std::process::id());
    let answer = make(store, namespace, packages, epoch, &log, &mut |text| report.progress(text))?;
    store.commit(record(key, &action.id, trace, layer_outputs(&answer), began.elapsed()))?;
    lock.remove();
    Ok(answer.layer)
}

impl Builder<'_> {
    /// Locks where that is needed, runs what is not there yet, publishes.
    ///
    /// # Errors
    /// [`StageError`]; nothing is published then, and finished actions stay in the store.
    pub fn build(&self) -> Result<Summary, StageError> {
        let fetcher = Fetcher::new();
        let lock = self.lock(&fetcher)?;
        let init = self.store.ensure_blob(INIT)?;
        let stages = graph_of(self.recipe, &lock, &init.digest)?;
        let name = self.recipe.model.image.name.clone();
        let root = self.store.root(&self.recipe.directory, &name);
        let past = StorePast::new(self.store, root);
        let mut done = Done(BTreeMap::new());
        let mut outcomes = Vec::new();
        let mut keys = BTreeMap::new();
        let mut differing = Vec::new();
        let wanted = self.options.until.map(|until| stages.graph.with_all_below(|action| action.stage <= until));
        for action in stages.graph.in_order() {
            if wanted.as_ref().is_some_and(|wanted| !wanted.contains(&action.id)) {
                continue;
            }
            let began = Instant::now();
            let decision = decide(action, &done, &past, &[]);
            let key = decision.key.ok_or_else(|| missing(&action.id))?;
            let (known, ran) = match self.kept(&decision) {
                Some(known) => (known, false),
                None => {
                    // Two builds at once: the second waits and finds the first one's record.
                    let held = FileLock::take(&self.store.directory().join("locks").join(key.to_string()))?;
                    match self.store.record(&key).filter(|known| self.store.has_outputs(&known.outputs)) {
                        Some(known) => (known, false),
                        None => {
                            self.report.started(&action.id, &decision.causes);
                            let outputs = self.run(action, &stages, &lock, &done, &fetcher)?;
                            let (_, trace) = key_and_trace(action, &done);
                            let known = self.store.commit(record(key, &action.id, trace, outputs, began.elapsed()))?;
                            self.report.finished(&action.id, began.elapsed());
                            held.remove();
                            (known, true)
                        }
                    }
                }
            };
            if known.differing.is_some() {
                differing.push(action.id.clone());
            }
            keys.insert(action.id.clone(), key);
            done.0.insert(action.id.clone(), known.outputs);
            outcomes.push(Outcome { action: action.id.clone(), ran, took: began.elapsed() });
        }
        let published = if self.options.until.is_none_or(|until| until == crate::plan::Stage::Pack) {
            Some(self.publish(&stages, &lock, &done, differing)?)
        } else {
            None
        };
        // A build that stopped early keeps what it did not reach.
        let earlier = self.store.root(&self.recipe.directory, &name).unwrap_or_default();
        let mut actions = if published.is_some() { BTreeMap::new() } else { earlier.actions };
        actions.extend(keys);
        self.store.set_root(&Root {
            format: 1,
            image: name,
            recipe: self.recipe.directory.clone(),
            published: published.as_ref().map_or(earlier.published, |(path, _)| path.clone()),
            actions,
            frames: done.0.get("pack/rootimg").map_or(earlier.frames, |outputs| outputs.frames.clone()),
            packages: lock.pass.iter().flat_map(|pass| pass.packages.iter().map(|package| package.sha256)).collect(),
        })?;
        Ok(Summary { outcomes, published })
    }

    fn kept(&self, decision: &Decision) -> Option<ActionRecord> {
        (decision.verdict == Verdict::Keep).then(|| self.store.record(decision.key.as_ref()?)).flatten()
    }

    /// The lock, renewed where the recipe asks for what it lacks.
    fn lock(&self, fetcher: &Fetcher) -> Result<Lock, StageError> {
        let path = self.recipe.directory.join(LOCK_FILE);
        let earlier = match std::fs::read_to_string(&path) {
            Ok(text) => Some(Lock::parse(&text)?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(source) => return Err(StageError::Input { file: LOCK_FILE.to_owned(), source }),
        };
        let now = jiff::Timestamp::now().as_second();
        if let Some(lock) = earlier.as_ref().filter(|lock| lock.epoch > now) {
            return Err(StageError::Clock { epoch: lock.epoch, now });
        }
        let causes = match (lock_state(self.recipe, earlier.as_ref()), earlier.as_ref()) {
            (LockState::Fresh, Some(lock)) => return Ok(lock.clone()),
            (LockState::Fresh, None) => Vec::new(),
            (LockState::Stale(causes), _) => causes,
        };
        if self.options.locked {
            let problem = causes.iter().map(|cause| cause.message.clone()).collect::<Vec<_>>().join("; ");
            return Err(StageError::Locked { problem });
        }
        let locking = Locking {
            recipe: self.recipe,
            store: self.store,
            namespace: self.namespace,
            fetcher,
            mirror: self.options.mirror.as_deref(),
            report: self.report,
        };
        let lock = locking.resolve(earlier.as_ref().filter(|lock| lock.target == target(self.recipe)))?;
        let aside = self.recipe.directory.join(format!(".{LOCK_FILE}.new"));
        let said = |source| StageError::Publish { intent: "write", path: path.display().to_string(), source };
        std::fs::write(&aside, lock.to_text()).and_then(|()| std::fs::rename(&aside, &path)).map_err(said)?;
        Ok(lock)
    }

    fn download(&self, packages: &[PinnedPackage], fetcher: &Fetcher) -> Result<(), StageError> {
        if packages.iter().all(|package| self.store.package(&package.sha256).is_file()) {
            return Ok(());
        }
        let mut urls: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (source, _) in sources(self.recipe, self.options.mirror.as_deref())? {
            for suite in &source.suites {
                urls.entry(suite.clone()).or_default().push(source.uri.clone());
            }
        }
        let local = self.recipe.otherpkgs_directory.as_deref();
        let url_of = |origin: &str| match origin.strip_prefix("otherpkgs/") {
            Some(folder) => local
                .map(|path| format!("file:{}", path.join(if folder == "." { "" } else { folder }).display()))
                .into_iter()
                .collect(),
            None => urls.get(origin).cloned().unwrap_or_default(),
        };
        Ok(download_packages(fetcher, self.store, packages, &url_of, self.report)?)
    }

    fn log_name(&self, action: &Action) -> String {
        format!("logs/{}-{}.log", std::process::id(), action.id.replace('/', "-"))
    }

    /// Takes a file that an operation left for the host process.
    fn take(&self, name: &str) -> Result<BlobRef, StageError> {
        let path = self.store.directory().join(name);
        let blob = self.store.ensure_blob_of(&path)?;
        let _ = std::fs::remove_file(&path);
        Ok(blob)
    }

    fn run(
        &self,
        action: &Action,
        stages: &StageGraph,
        lock: &Lock,
        done: &Done,
        fetcher: &Fetcher,
    ) -> Result<Outputs, StageError> {
        match action.kind {
            "bootstrap" => self.run_bootstrap(action, lock, fetcher),
            "install" => self.run_install(action, stages, lock, done, fetcher),
            "kernel" => self.run_kernel(action, lock, done, fetcher),
            "system" => self.run_system(lock, &below(action, done)?),
            "postinstall" => self.run_postinstall(action, lock, done),
            "gate" => self.run_gate(action, done),
            "sync" => self.run_sync(lock, &below(action, done)?),
            "initrd" => self.run_initrd(action, lock, done),
            _ => self.run_pack(action, done),
        }
    }

    fn run_bootstrap(&self, action: &Action, lock: &Lock, fetcher: &Fetcher) -> Result<Outputs, StageError> {
        let packages = lock.pass(action.layer()).map(|pass| pass.packages.clone()).unwrap_or_default();
        self.download(&packages, fetcher)?;
        let log = self.log_name(action);
        let epoch = if action.layer() == "base" { lock.epoch } else { super::actions::TOOLS_EPOCH };
        let answer = bootstrap_layer(self.store, self.namespace, &packages, epoch, &log, &mut |text| {
            self.report.progress(text)
        })?;
        Ok(layer_outputs(&answer))
    }

    fn run_install(
        &self,
        action: &Action,
        stages: &StageGraph,
        lock: &Lock,
        done: &Done,
        fetcher: &Fetcher,
    ) -> Result<Outputs, StageError> {
        let Some(pass) = lock.pass(action.layer()) else { return Err(missing(&action.id)) };
        self.download(&pass.packages, fetcher)?;
        let variables = stages
            .wishes
            .iter()
            .find(|wish| wish.name == pass.name)
            .map(|wish| wish.variables.clone())
            .unwrap_or_default();
        let request = Install {
            tools: vec![done.layer("rootfs/tools")?],
            base: below(action, done)?,
            packages: &pass.packages,
            remove: &pass.remove,
            remove_after: &pass.remove_after,
            variables: &variables,
            epoch: lock.epoch,
            log: self.log_name(action),
        };
        let answer = install(self.store, self.namespace, &request, &mut |text| self.report.progress(text))?;
        Ok(layer_outputs(&answer))
    }

    fn run_kernel(&self, action: &Action, lock: &Lock, done: &Done, fetcher: &Fetcher) -> Result<Outputs, StageError> {
        let own = lock.pass("kernel").map(|pass| pass.packages.clone()).unwrap_or_default();
        let packages = kernel_packages(lock, &own);
        self.download(&packages, fetcher)?;
        for package in &packages {
            self.store.check_package(&package.sha256)?;
        }
        let scratch = self.store.scratch()?;
        let handover = format!("handover/{}-kernel", scratch.name.replace('/', "-"));
        let request = kernel::KernelRequest {
            scratch: scratch.name.clone(),
            packages: packages
                .iter()
                .map(|package| (Store::package_name(&package.sha256), package.name.clone()))
                .collect(),
            tools: vec![done.layer("rootfs/tools")?],
            version: self.recipe.model.kernel.version.clone(),
            epoch: lock.epoch,
            log: self.log_name(action),
            handover: handover.clone(),
        };
        let answer: kernel::KernelAnswer =
            self.namespace.call("kernel", &request, &mut |text| self.report.progress(text))?;
        match answer {
            kernel::KernelAnswer::Made(layer, release) => {
                let blob = self.take(&handover)?;
                let manifest = self.store.manifest(&layer.layer)?;
                let mut outputs = layer_outputs(&layer);
                outputs
                    .values
                    .insert("modules".to_owned(), kernel::modules_projection(&manifest, &release).to_string());
                outputs.values.insert("release".to_owned(), release);
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
            hostname: settings.hostname.clone().filter(|name| name != "dhcp"),
            timezone: settings.timezone.clone(),
            locale: settings.locale.clone(),
            authorized_keys: keys,
            root_password_hash: hash,
        };
        let answer: system::SystemAnswer =
            self.namespace.call("system", &request, &mut |text| self.report.progress(text))?;
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
        let tools = if lock.pass("tools-postinstall").is_some() { "rootfs/tools-postinstall" } else { "rootfs/tools" };
        let request = postinstall::PostinstallRequest {
            scratch: scratch.name.clone(),
            links: scratch.links_name.clone(),
            tools: vec![done.layer(tools)?],
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
        }
        if !self.recipe.model.boot.tmpfs.is_empty() {
            let request = gate::ReadFileRequest { layers, path: "etc/fstab".to_owned() };
            let text: Option<String> = self.namespace.call("read-file", &request, &mut |_| {})?;
            let name = self.recipe.postinstall.as_ref().map_or("the recipe", |script| script.name.as_str());
            gate::check_fstab(name, text.as_deref().unwrap_or_default(), self.recipe.model.boot.tmpfs.iter())?;
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

    fn run_initrd(&self, action: &Action, lock: &Lock, done: &Done) -> Result<Outputs, StageError> {
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
        let release = done.value("kernel/payload", "release")?;
        let scratch = self.store.scratch()?;
        let handover = format!("handover/{}-initrd", scratch.name.replace('/', "-"));
        let request = initrd::InitrdRequest {
            layers,
            release: release.clone(),
            named: wanted.named,
            default: wanted.default,
            init: Store::blob_name(&Digest::of(INIT)),
            ca,
            compress: match self.recipe.model.initrd.compress {
                crate::recipe::InitrdCompress::Zstd => "zstd",
                crate::recipe::InitrdCompress::Gzip => "gzip",
            }
            .to_owned(),
            epoch: lock.epoch,
            handover: handover.clone(),
        };
        let answer: initrd::InitrdAnswer =
            self.namespace.call("initrd", &request, &mut |text| self.report.progress(text))?;
        self.say_drivers(&answer, &release)?;
        Ok(Outputs { blobs: BTreeMap::from([("initrd".to_owned(), self.take(&handover)?)]), ..Outputs::default() })
    }

    fn say_drivers(&self, answer: &initrd::InitrdAnswer, release: &str) -> Result<(), StageError> {
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
        for finding in &exclusion.findings {
            self.report.finding(finding);
        }
        let (compress, level) = match compression(self.recipe) {
            crate::archive::Compression::Zstd(level) => ("zstd", level as u32),
            crate::archive::Compression::Gzip(level) => ("gzip", level),
        };
        let scratch = self.store.scratch()?;
        let unique = scratch.name.replace('/', "-");
        let request =
            pack::PackRequest { layers, excluded: exclusion.excluded, compress: compress.to_owned(), level, unique };
        let answer: pack::PackAnswer = self.namespace.call("pack", &request, &mut |text| self.report.progress(text))?;
        let index = self.store.ensure_blob(&index_text(
            compress,
            &answer.frames,
            answer.inodes,
            answer.memory,
            &answer.xattrs,
        ))?;
        Ok(Outputs {
            blobs: BTreeMap::from([("index".to_owned(), index)]),
            values: BTreeMap::from([("memory".to_owned(), answer.memory.to_string())]),
            frames: answer.frames.iter().map(|(key, _)| *key).collect(),
            ..Outputs::default()
        })
    }

    fn publish(
        &self,
        stages: &StageGraph,
        lock: &Lock,
        done: &Done,
        not_reproducible: Vec<String>,
    ) -> Result<(PathBuf, BuildInfo), StageError> {
        let mut layers = Vec::new();
        for id in &stages.layers {
            layers.push((id.clone(), done.layer(id)?.to_string()));
        }
        Publication {
            recipe: self.recipe,
            store: self.store,
            out: &self.options.out,
            kernel: done.blob("kernel/payload", "kernel")?,
            kernel_release: done.value("kernel/payload", "release")?,
            initrd: done.blob("initrd/stateless", "initrd")?,
            index: done.blob("pack/rootimg", "index")?,
            frames: done.0.get("pack/rootimg").map(|outputs| outputs.frames.clone()).unwrap_or_default(),
            memory: done.value("pack/rootimg", "memory")?.parse().unwrap_or(0),
            layers,
            target: target(self.recipe),
            epoch: lock.epoch,
            not_reproducible,
        }
        .publish()
    }
}

/// Layers that an action stands on, lowest first.
fn below(action: &Action, done: &Done) -> Result<Vec<Digest>, StageError> {
    action
        .upstream
        .iter()
        .filter(|upstream| upstream.output == "layer")
        .map(|upstream| done.layer(&upstream.action))
        .collect()
}
