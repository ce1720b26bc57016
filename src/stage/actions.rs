//! A recipe and its lock, as actions.

use std::collections::BTreeMap;

use super::drivers::{self, BUILD_KIND, TOOLS_DRIVER, build_action};
use super::globs::{self, Patterns};
use super::modules::{ALL_UPDATES, wanted_drivers};
use super::results::file;
use super::tools::{base_action, tools_action, tools_driver_action, tools_identity};
use super::wish::{DRACUT_TOOLS, POSTINSTALL_TOOLS, SOLVER_TOOLS, Wish, is_aside, target, wishes};
use super::{StageError, accounts, dracut, node_support};
use crate::archive::{Compression, FRAME_VERSION};
use crate::digest::Digest;
use crate::distro::{PackageManager, manager};
use crate::plan::{Absences, Action, ActionGraph, Input, Origin, Place, Stage, Taken, Upstream};
use crate::recipe::{Accounts, Clause, GZIP_LEVEL};
use crate::recipe::{
    Firmware, Frames, Generator, InitrdCompress, Lock, ModulesFrom, PackCompress, PinnedPackage, Recipe, Selinux,
    SyncedKind,
};
use crate::source::Span;

/// Versions of the kinds of work, each part of the keys of its actions. A change of what a kind gives raises it.
pub mod version {
    /// Unpacking the kernel and depmod. 1: first; 2: of RPM drivers for several other kernels the newest is rpm's, and files with
    /// several names are taken under each.
    pub const KERNEL: u32 = 2;
    /// Building a driver. 1: first; 2: with dkms.conf too paths are left out of modules.
    pub const DRIVER: u32 = 2;
    /// fstab, keys and other settings. 1: first.
    pub const SYSTEM: u32 = 1;
    /// The postinstall script. 1: first.
    pub const POSTINSTALL: u32 = 1;
    /// Enabled, disabled and masked units. 1: first.
    pub const SERVICES: u32 = 1;
    /// Checks after the last layer. 1: first.
    pub const GATE: u32 = 1;
    /// xCAT's side of a node. 1: first.
    pub const NODE_SUPPORT: u32 = 1;
    /// Synced files. 1: first.
    pub const SYNC: u32 = 1;
    /// The initrd. 1: first; 2: settings in usr/lib/modprobe.d.
    pub const INITRD: u32 = 2;
    /// The initrd that dracut composes. 1: first.
    pub const DRACUT: u32 = 1;
    /// The packed image. 1: first; 2: SELinux labels.
    pub const PACK: u32 = 2;
}

/// The actions of a recipe, and what they take besides their keys.
#[derive(Debug)]
pub struct StageGraph {
    /// The actions.
    pub graph: ActionGraph,
    /// Ids of the actions that make the image's layers, lowest first.
    pub layers: Vec<String>,
    /// The transactions.
    pub wishes: Vec<Wish>,
    /// Users and groups that are made before a transaction, by action.
    pub accounts: BTreeMap<String, Accounts>,
}

/// Which forms of the initrd and the packed image are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forms {
    /// Those that the recipe names.
    #[default]
    Own,
    /// Gzip as well, where the recipe names something else: layouts whose file names end in `.gz`.
    AndGzip,
}

/// The action that makes the initrd.
pub const INITRD: &str = "initrd/stateless";
/// The action that makes it in gzip for a recipe that names something else.
pub const INITRD_GZIP: &str = "initrd/stateless-gzip";
/// The action that makes the packed image.
pub const PACK: &str = "pack/rootimg";
/// The action that makes it in gzip for a recipe that names something else.
pub const PACK_GZIP: &str = "pack/rootimg-gzip";

/// The action that makes the initrd in gzip.
pub fn gzip_initrd(recipe: &Recipe) -> &'static str {
    if recipe.model.initrd.compress == InitrdCompress::Gzip { INITRD } else { INITRD_GZIP }
}

/// The action that makes the packed image in gzip.
pub fn gzip_pack(recipe: &Recipe) -> &'static str {
    if recipe.model.pack.compress == PackCompress::Gzip { PACK } else { PACK_GZIP }
}

/// How an action compresses the initrd: `zstd` or `gzip`.
pub fn initrd_compression(recipe: &Recipe, action: &str) -> &'static str {
    if action == gzip_initrd(recipe) { "gzip" } else { "zstd" }
}

/// How an action compresses the image.
pub fn compression(recipe: &Recipe, action: &str) -> Compression {
    let pack = &recipe.model.pack;
    match pack.compress {
        // The recipe's level is one of zstd's.
        PackCompress::Zstd if action == PACK_GZIP => Compression::Gzip(GZIP_LEVEL),
        PackCompress::Zstd => Compression::Zstd(pack.effective_level() as i32),
        PackCompress::Gzip => Compression::Gzip(pack.effective_level()),
    }
}

/// The image's lowest layer.
const BASE: &str = "rootfs/base";

struct Reader<'a> {
    recipe: &'a Recipe,
    lock: &'a Lock,
    manager: &'static dyn PackageManager,
    platform: String,
    actions: Vec<Action>,
    layers: Vec<String>,
    accounts: BTreeMap<String, Accounts>,
}

/// Makes the graph of a recipe whose lock is fresh.
///
/// # Errors
/// [`StageError::Input`] for a file that vanished since the recipe was read.
pub fn graph_of(recipe: &Recipe, lock: &Lock, init: &Digest, forms: Forms) -> Result<StageGraph, StageError> {
    let mut reader = Reader {
        recipe,
        lock,
        manager: manager(recipe),
        platform: target(recipe),
        actions: Vec::new(),
        layers: Vec::new(),
        accounts: BTreeMap::new(),
    };
    let wishes = wishes(recipe);
    for wish in &wishes {
        reader.packages(wish)?;
    }
    reader.system()?;
    reader.postinstall()?;
    reader.services();
    reader.gate();
    reader.node_support()?;
    reader.sync()?;
    reader.initrd(init, INITRD)?;
    reader.pack(PACK);
    if forms == Forms::AndGzip {
        if gzip_initrd(recipe) != INITRD {
            reader.initrd(init, INITRD_GZIP)?;
        }
        if gzip_pack(recipe) != PACK {
            reader.pack(PACK_GZIP);
        }
    }
    let release = recipe.spans.get("image.release").map(Place::from);
    let inputs = reader.actions.iter_mut().flat_map(|action| &mut action.inputs);
    inputs.filter(|input| input.name == "parameter platform").for_each(|input| input.place.clone_from(&release));
    let install = wishes.iter().flat_map(|wish| &wish.pass.install);
    let asked = install.map(|name| name.split('=').next().unwrap_or(name).to_owned()).collect();
    let graph = ActionGraph::new(reader.actions)?.taking(Absences::of(recipe, taken(recipe), asked));
    Ok(StageGraph { graph, layers: reader.layers, wishes, accounts: reader.accounts })
}

impl Reader<'_> {
    fn locked(&self, name: &str) -> Vec<PinnedPackage> {
        self.lock.pass(name).map(|pass| pass.packages.clone()).unwrap_or_default()
    }

    fn tools(&self) -> Input {
        let value = tools_identity(self.manager, &self.locked("tools"), &self.platform);
        Input::new("tools tools", value).of(Origin::Roots(vec!["rootfs/tools".to_owned()]))
    }

    /// An input that a span of a list or of the recipe asks for.
    fn asked(&self, input: Input, span: Option<&Span>) -> Input {
        input.asked(&self.recipe.spans, span)
    }

    /// A setting of the recipe.
    fn setting(&self, name: &str, value: impl ToString, field: &str) -> Input {
        Input::parameter(name, value).field(&self.recipe.spans, field)
    }

    /// How something is compressed: where the recipe says otherwise, an option asks for gzip.
    fn form(&self, is_asked: bool, what: &str, input: Input) -> Input {
        if !is_asked {
            return input;
        }
        let origin = Origin::Asked { option: "--publish".to_owned(), what: format!("{what} in gzip") };
        Input { place: None, ..input.of(origin) }
    }

    /// The sizes of [boot] tmpfs.
    fn tmpfs(&self) -> Vec<Input> {
        let sizes = self.recipe.model.boot.tmpfs.iter();
        sizes.map(|(path, size)| self.setting(&format!("tmpfs {path}"), size, &format!("boot.tmpfs.{path}"))).collect()
    }

    /// Packages of a transaction whose scripts may fail.
    fn failing(&self, packages: &[PinnedPackage]) -> Vec<Input> {
        let names = self.recipe.model.packages.failing_scripts.iter().enumerate();
        let here = names.filter(|(_, name)| packages.iter().any(|package| package.name == **name));
        here.map(|(index, name)| {
            let input = Input::new(format!("failing script of {name}"), "allowed");
            input.item(&self.recipe.spans, "packages.failing_scripts", index)
        })
        .collect()
    }

    /// Where the initrd's modules come from: decides what late layers may hold.
    fn modules_from(&self) -> Input {
        let from = match self.recipe.model.initrd.modules_from {
            ModulesFrom::Kernel => "kernel",
            ModulesFrom::Rootfs => "rootfs",
        };
        self.setting("modules_from", from, "initrd.modules_from")
    }

    fn below(&self) -> Vec<Upstream> {
        self.layers.iter().map(|id| Upstream { action: id.clone(), output: "layer".to_owned() }).collect()
    }

    fn layer(&mut self, name: &str, kind: &'static str, version: u32, inputs: Vec<Input>, needs: Vec<String>) {
        let id = format!("rootfs/{name}");
        let upstream = self.below();
        self.actions.push(Action { id: id.clone(), stage: Stage::Rootfs, kind, version, inputs, upstream, needs });
        self.layers.push(id);
    }

    fn packages(&mut self, wish: &Wish) -> Result<(), StageError> {
        let packages = self.locked(&wish.name);
        if wish.name == "tools" {
            self.actions.push(tools_action(self.manager, "tools", &packages, &self.platform));
            return Ok(());
        }
        if wish.name == SOLVER_TOOLS {
            return Ok(());
        }
        if wish.name == TOOLS_DRIVER {
            self.actions.push(tools_driver_action(self.manager, &packages, &self.platform));
            return Ok(());
        }
        if wish.name == "base" {
            let mut action = base_action(self.manager, &packages, self.lock.epoch, &self.platform);
            if self.manager.base_needs_tools() {
                action.inputs.push(self.tools());
                action.inputs.extend(self.failing(&packages));
                action.needs.push("rootfs/tools".to_owned());
            }
            self.layers.push(action.id.clone());
            self.actions.push(action);
            return Ok(());
        }
        if wish.name == "kernel" {
            self.kernel(&packages)?;
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
        if !is_aside(&wish.name) {
            let is_first = self.layers == [BASE];
            let made = accounts::made_before(self.recipe, self.lock, &wish.name, is_first);
            inputs.extend(accounts::inputs(self.recipe, &made));
            self.accounts.insert(format!("rootfs/{}", wish.name), made);
        }
        let above = is_aside(&wish.name).then(|| std::mem::replace(&mut self.layers, vec![BASE.to_owned()]));
        if wish.name == "kernel" {
            // Its files come from the payload, which the initrd is made of too; the package manager adds the rest.
            self.layers.push("kernel/payload".to_owned());
        }
        self.layer(&wish.name, "install", self.manager.versions().install, inputs, vec!["rootfs/tools".to_owned()]);
        if let Some(layers) = above {
            self.layers = layers;
        }
        Ok(())
    }

    /// The kernel stage: the kernel's packages, and those that brought a kernel as a dependency (D18, D19).
    fn kernel(&mut self, packages: &[PinnedPackage]) -> Result<(), StageError> {
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
            id: "kernel/payload".to_owned(),
            stage: Stage::Kernel,
            kind: "kernel",
            version: version::KERNEL,
            inputs,
            upstream: builds,
            needs: vec!["rootfs/tools".to_owned()],
        });
        Ok(())
    }

    /// Drivers that are built: each an action of its own, which knows the headers, the compiler and its source.
    fn driver_builds(&mut self) -> Result<Vec<Upstream>, StageError> {
        let mut upstream = Vec::new();
        for index in 0..self.recipe.kernel_files.builds.len() {
            let mut inputs = vec![
                Input::parameter("platform", &self.platform),
                Input::new(
                    format!("tools {TOOLS_DRIVER}"),
                    tools_identity(self.manager, &self.locked(TOOLS_DRIVER), &self.platform),
                )
                .of(Origin::Roots(vec![format!("rootfs/{TOOLS_DRIVER}")])),
            ];
            inputs.extend(drivers::build_inputs(self.recipe, self.lock, index)?);
            let id = build_action(index);
            upstream.push(Upstream { action: id.clone(), output: "layer".to_owned() });
            self.actions.push(Action {
                id,
                stage: Stage::Kernel,
                kind: BUILD_KIND,
                version: version::DRIVER,
                inputs,
                upstream: Vec::new(),
                needs: vec![format!("rootfs/{TOOLS_DRIVER}")],
            });
        }
        Ok(upstream)
    }

    /// Whether the image has drivers that are not the kernel's own.
    fn has_extra_drivers(&self) -> bool {
        let files = &self.recipe.kernel_files;
        !files.updates.is_empty() || !files.builds.is_empty()
    }

    /// Lines of fstab and exports; the recipe's order is part of what they say.
    fn declared_lines(&self) -> Vec<Input> {
        let line =
            |file: &str, line: &str, span: &Span| self.asked(Input::new(format!("{file} {line}"), "yes"), Some(span));
        let mounts = self.recipe.mounts.iter().map(|mount| line("fstab", &mount.line, &mount.span));
        let exports = self.recipe.exports.iter().map(|export| line("exports", &export.line, &export.span));
        mounts.chain(exports).collect()
    }

    fn system(&mut self) -> Result<(), StageError> {
        let system = &self.recipe.model.system;
        let spans = &self.recipe.spans;
        let setting = |name: &str, value: &Option<String>| {
            self.setting(name, value.as_deref().unwrap_or("unset"), &format!("system.{name}"))
        };
        let mut inputs = vec![
            Input::parameter("epoch", self.lock.epoch),
            setting("timezone", &system.timezone),
            setting("locale", &system.locale),
            setting("hostname", &system.hostname),
        ];
        inputs.extend(self.tmpfs());
        inputs.extend(self.declared_lines());
        for (index, (path, name)) in self.recipe.authorized_keys.iter().enumerate() {
            inputs.push(file(name, path, None)?.item(spans, "system.authorized_keys", index));
        }
        if let Some((path, name)) = &self.recipe.root_password_hash {
            inputs.push(file(name, path, None)?.field(spans, "system.root_password_hash_file"));
        }
        self.layer("system", "system", version::SYSTEM, inputs, Vec::new());
        Ok(())
    }

    fn postinstall(&mut self) -> Result<(), StageError> {
        let Some(script) = &self.recipe.postinstall else { return Ok(()) };
        let model = &self.recipe.model;
        let spans = &self.recipe.spans;
        let mut tools = self.locked("base");
        let more = self.locked(POSTINSTALL_TOOLS);
        let tools_root = if more.is_empty() { BASE.to_owned() } else { format!("rootfs/{POSTINSTALL_TOOLS}") };
        tools.extend(more);
        let mut inputs = vec![
            Input::parameter("platform", &self.platform),
            Input::parameter("epoch", self.lock.epoch),
            Input::new("tools postinstall", tools_identity(self.manager, &tools, &self.platform))
                .of(Origin::Roots(roots_of(&tools_root))),
            file(&script.name, &script.script, None)?.field(spans, "postinstall.script"),
        ];
        for (index, word) in model.postinstall.iter().flat_map(|table| &table.arguments).enumerate() {
            inputs.push(
                Input::parameter(&format!("argument {}", index + 1), word)
                    .field(spans, &format!("postinstall.arguments[{index}]")),
            );
        }
        // The kernel's release comes from upstream.
        for (name, value) in super::postinstall::variables(self.recipe, "") {
            let field = super::postinstall::field_of(self.recipe, &name);
            inputs.push(self.setting(&format!("environment {name}"), value, &field));
        }
        if model.postinstall.as_ref().is_some_and(|table| table.packages.is_some()) {
            inputs.extend(image_packages(self.lock).iter().map(Input::package));
        }
        let patterns = Patterns::new(model.postinstall.iter().flat_map(|table| &table.inputs));
        for (path, name) in &script.inputs {
            inputs.push(patterns.named(file(name, path, None)?, name, spans, "postinstall.inputs"));
        }
        self.layer("postinstall", "postinstall", version::POSTINSTALL, inputs, vec![tools_root]);
        if let Some(action) = self.actions.last_mut() {
            action.upstream.push(Upstream { action: "kernel/payload".to_owned(), output: "value release".to_owned() });
        }
        Ok(())
    }

    /// After the script, so that its units count too.
    fn services(&mut self) {
        let units = &self.recipe.units;
        if units.is_empty() {
            return;
        }
        let mut inputs = vec![Input::parameter("epoch", self.lock.epoch)];
        inputs.extend(units.iter().map(|unit| {
            self.asked(Input::new(format!("{} {}", unit.state.verb(), unit.name), "yes"), Some(&unit.span))
        }));
        self.layer("services", "services", version::SERVICES, inputs, Vec::new());
    }

    /// What the initrd is made of must be what the image has (D20), and declared mounts must still be there (D24).
    fn gate(&mut self) {
        let mut upstream = self.below();
        upstream.push(Upstream { action: "kernel/payload".to_owned(), output: "value modules".to_owned() });
        let mut inputs = vec![self.modules_from()];
        inputs.extend(self.tmpfs());
        inputs.extend(self.declared_lines());
        self.actions.push(Action {
            id: "rootfs/gate".to_owned(),
            stage: Stage::Rootfs,
            kind: "gate",
            version: version::GATE,
            inputs,
            upstream,
            needs: vec!["kernel/payload".to_owned()],
        });
    }

    /// After the gate, as packimage does it after genimage: other postscripts run no postinstall script again.
    fn node_support(&mut self) -> Result<(), StageError> {
        let Some(support) = &self.recipe.node_support else { return Ok(()) };
        let spans = &self.recipe.spans;
        let postscripts = self.recipe.model.xcat.postscripts.as_deref().unwrap_or_default();
        let mut inputs = node_support::inputs(support, self.lock.epoch, spans, postscripts)?;
        let mut seen = std::collections::BTreeSet::new();
        inputs.retain(|input| seen.insert((input.name.clone(), input.value.clone())));
        self.layer("xcat", node_support::KIND, version::NODE_SUPPORT, inputs, Vec::new());
        Ok(())
    }

    fn sync(&mut self) -> Result<(), StageError> {
        if self.recipe.sync.is_empty() {
            return Ok(());
        }
        let mut inputs = vec![Input::parameter("epoch", self.lock.epoch), self.modules_from()];
        for synced in &self.recipe.sync {
            let clause = match synced.clause {
                Clause::Copy => "copy",
                Clause::Append => "append",
                Clause::Merge => "merge",
            };
            let into = synced.name_in_folder.as_deref().unwrap_or("-");
            let by = |input: Input| globs::of_synclist(self.asked(input, Some(&synced.span)), &synced.span);
            inputs.push(by(Input::new(
                format!("synced {}", synced.destination),
                format!("{clause} {into} {}", synced.name),
            )));
            if synced.kind == SyncedKind::File {
                inputs.push(by(file(&synced.name, &synced.source, None)?));
            }
        }
        // One file may go to several places.
        let mut seen = std::collections::BTreeSet::new();
        inputs.retain(|input| seen.insert((input.name.clone(), input.value.clone())));
        self.layer("sync", "sync", version::SYNC, inputs, Vec::new());
        Ok(())
    }

    fn initrd(&mut self, init: &Digest, id: &str) -> Result<(), StageError> {
        let model = &self.recipe.model;
        let spans = &self.recipe.spans;
        let wanted = wanted_drivers(&model.kernel.drivers);
        let compress = initrd_compression(self.recipe, id);
        let firmware = match model.kernel.firmware {
            Firmware::Warn => "warn",
            Firmware::Require => "require",
        };
        let mut inputs = vec![
            Input::parameter("epoch", self.lock.epoch),
            Input::new("tools imgbuild-init", init.to_string()).of(Origin::Imgbuild("init program".to_owned())),
            self.form(id == INITRD_GZIP, "initrd", self.setting("compress", compress, "initrd.compress")),
            self.setting("firmware", firmware, "kernel.firmware"),
        ];
        let edited = &model.kernel.drivers;
        for (names, how) in [(&wanted.named, "named"), (&wanted.default, "default")] {
            for name in names {
                let input = Input::new(format!("driver {name}"), how);
                let item = edited.iter().position(|item| item.trim_start_matches('+') == name);
                inputs.push(match item {
                    Some(index) => input.item(spans, "kernel.drivers", index),
                    None if spans.get("kernel.drivers").is_some() => {
                        input.of(Origin::Item("kernel.drivers".to_owned()))
                    }
                    None => input.of(Origin::Imgbuild("list of default drivers".to_owned())),
                });
            }
        }
        if wanted.all_updates {
            let input = Input::new(format!("driver {ALL_UPDATES}"), "named");
            let index = edited.iter().position(|item| item.trim_start_matches('+') == ALL_UPDATES);
            inputs.push(input.item(spans, "kernel.drivers", index.unwrap_or_default()));
        }
        for (index, (path, name)) in self.recipe.ca.iter().enumerate() {
            inputs.push(file(name, path, None)?.item(spans, "initrd.ca", index));
        }
        let mut upstream = match model.initrd.modules_from {
            ModulesFrom::Kernel => {
                vec![Upstream { action: "kernel/payload".to_owned(), output: "value modules".to_owned() }]
            }
            ModulesFrom::Rootfs => self.below(),
        };
        upstream.push(Upstream { action: "kernel/payload".to_owned(), output: "value release".to_owned() });
        if self.has_extra_drivers() {
            upstream.push(Upstream { action: "kernel/payload".to_owned(), output: "value drivers".to_owned() });
        }
        let mut needs = vec!["kernel/payload".to_owned()];
        let (kind, version) = match model.initrd.generator {
            Generator::Imgbuild => ("initrd", version::INITRD),
            Generator::Dracut => {
                let mut tools = self.locked("base");
                tools.extend(self.locked(DRACUT_TOOLS));
                let identity = tools_identity(self.manager, &tools, &self.platform);
                let roots = Origin::Roots(vec![BASE.to_owned(), format!("rootfs/{DRACUT_TOOLS}")]);
                inputs.extend(dracut::inputs(self.recipe, identity, roots)?);
                needs.extend([BASE.to_owned(), format!("rootfs/{DRACUT_TOOLS}")]);
                (dracut::KIND, version::DRACUT)
            }
        };
        self.actions.push(Action { id: id.to_owned(), stage: Stage::Initrd, kind, version, inputs, upstream, needs });
        Ok(())
    }

    fn pack(&mut self, id: &str) {
        let compression = compression(self.recipe, id).describe();
        let (compressor, level) = compression.split_once(' ').unwrap_or((&compression, ""));
        let frames = if self.recipe.model.pack.frames == Frames::Single { "single" } else { "many" };
        let selinux = if self.recipe.model.system.selinux == Selinux::Auto { "auto" } else { "off" };
        let mut inputs = vec![
            self.setting("archive", "cpio", "pack.archive"),
            Input::new("tools frames", FRAME_VERSION.to_string()).of(Origin::Imgbuild("frame writer".to_owned())),
            self.form(id == PACK_GZIP, "rootimg", self.setting("compress", compressor, "pack.compress")),
            self.form(id == PACK_GZIP, "rootimg", self.setting("level", level, "pack.level")),
            self.setting("frames", frames, "pack.frames"),
            self.setting("selinux", selinux, "system.selinux"),
        ];
        let exclude = &self.recipe.exclude;
        for (kind, patterns) in [("exclude", &exclude.exclude), ("include", &exclude.include)] {
            for pattern in patterns {
                inputs.push(self.asked(Input::new(format!("{kind} {}", pattern.text), "yes"), Some(&pattern.span)));
            }
        }
        let mut seen = std::collections::BTreeSet::new();
        inputs.retain(|input| seen.insert(input.name.clone()));
        let upstream = self.below();
        let needs = vec!["rootfs/gate".to_owned()];
        self.actions.push(Action {
            id: id.to_owned(),
            stage: Stage::Pack,
            kind: "pack",
            version: version::PACK,
            inputs,
            upstream,
            needs,
        });
    }
}

/// Default drivers that the recipe takes away by `-name`.
fn taken(recipe: &Recipe) -> BTreeMap<String, Taken> {
    let list = "kernel.drivers";
    let items = recipe.model.kernel.drivers.iter().enumerate().filter(|(_, item)| item.starts_with('-'));
    let entry = |(index, item): (usize, &String)| {
        let name = format!("driver {}", item.trim_start_matches('-'));
        let place = recipe.spans.get(&format!("{list}[{index}]")).map(Place::from);
        (name, (format!("driver {item}"), place, Origin::Item(list.to_owned())))
    };
    items.map(entry).collect()
}

/// The actions that a tools root over the base is made of.
fn roots_of(root: &str) -> Vec<String> {
    if root == BASE { vec![BASE.to_owned()] } else { vec![BASE.to_owned(), root.to_owned()] }
}

/// All packages of the image itself.
pub fn image_packages(lock: &Lock) -> Vec<PinnedPackage> {
    lock.pass.iter().filter(|pass| !pass.name.starts_with("tools")).flat_map(|pass| pass.packages.clone()).collect()
}

/// Packages that may bring a kernel: the kernel's own transaction, and kernels that others pulled in.
pub fn kernel_packages(manager: &dyn PackageManager, lock: &Lock, kernel: &[PinnedPackage]) -> Vec<PinnedPackage> {
    let mut all: Vec<PinnedPackage> = lock
        .pass
        .iter()
        .filter(|pass| !pass.name.starts_with("tools") && pass.name != "kernel")
        .flat_map(|pass| pass.packages.iter().filter(|package| manager.is_kernel(&package.name)).cloned())
        .collect();
    all.extend(kernel.iter().cloned());
    all
}
