//! A recipe and its lock, as actions.

use std::collections::BTreeMap;

use super::packages::tools::tools_identity;
use super::{gate, initrd, node_support, pack, packages, postinstall, services, sync, system};
use crate::archive::Compression;
use crate::digest::Digest;
use crate::distro::{PackageManager, manager};
use crate::plan::{Action, ActionGraph, ActionKind, Input, Origin, Place, Removals, Stage, Taken, Upstream};
use crate::recipe::{Accounts, GZIP_LEVEL, PassRole, ZSTD_LEVEL};
use crate::recipe::{InitrdCompress, Lock, ModulesFrom, PackCompress, PinnedPackage, Recipe};
use crate::source::Span;
use crate::stage::StageError;
use crate::stage::ids;
use crate::stage::lock::package_request::{PackageRequest, package_requests, target};

/// The actions of a recipe, and what they take besides their keys.
#[derive(Debug)]
pub struct StageGraph {
    /// The actions.
    pub graph: ActionGraph,
    /// Ids of the actions that make the image's layers, lowest first.
    pub layers: Vec<String>,
    /// The transactions.
    pub package_requests: Vec<PackageRequest>,
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

/// The action that makes the initrd in gzip.
pub fn gzip_initrd(recipe: &Recipe) -> &'static str {
    if recipe.model.initrd.compress == InitrdCompress::Gzip { ids::INITRD } else { ids::INITRD_GZIP }
}

/// The action that makes the packed image in gzip.
pub fn gzip_pack(recipe: &Recipe) -> &'static str {
    if recipe.model.pack.compress == PackCompress::Gzip { ids::PACK } else { ids::PACK_GZIP }
}

/// How an action compresses the initrd. It has some ten megabytes: at 3 zstd takes a tenth of a second, and gzip's own level
/// is good enough.
pub fn initrd_compression(recipe: &Recipe, action: &str) -> Compression {
    if action == gzip_initrd(recipe) { Compression::Gzip(GZIP_LEVEL) } else { Compression::Zstd(ZSTD_LEVEL) }
}

/// How an action compresses the image.
pub fn compression(recipe: &Recipe, action: &str) -> Compression {
    let pack = &recipe.model.pack;
    match pack.compress {
        // The recipe's level is one of zstd's.
        PackCompress::Zstd if action == ids::PACK_GZIP => Compression::Gzip(GZIP_LEVEL),
        PackCompress::Zstd => Compression::Zstd(pack.effective_level()),
        PackCompress::Gzip => Compression::Gzip(pack.effective_level()),
    }
}

/// Puts the actions together.
pub struct Reader<'a> {
    /// The recipe.
    pub recipe: &'a Recipe,
    /// Its lock.
    pub lock: &'a Lock,
    /// The distribution's package manager.
    pub manager: &'static dyn PackageManager,
    /// What it is for, as keys have it.
    pub platform: String,
    /// Actions so far.
    pub actions: Vec<Action>,
    /// Ids of those that make layers, lowest first.
    pub layers: Vec<String>,
    /// Users and groups that are made before a transaction, by action.
    pub accounts: BTreeMap<String, Accounts>,
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
    let package_requests = package_requests(recipe);
    for package_request in &package_requests {
        packages::inputs::add(&mut reader, package_request)?;
    }
    system::inputs::add(&mut reader)?;
    postinstall::inputs::add(&mut reader)?;
    services::inputs::add(&mut reader);
    gate::inputs::add(&mut reader);
    node_support::inputs::add(&mut reader)?;
    sync::inputs::add(&mut reader)?;
    initrd::inputs::add(&mut reader, init, ids::INITRD)?;
    pack::inputs::add(&mut reader, ids::PACK);
    if forms == Forms::AndGzip {
        if gzip_initrd(recipe) != ids::INITRD {
            initrd::inputs::add(&mut reader, init, ids::INITRD_GZIP)?;
        }
        if gzip_pack(recipe) != ids::PACK {
            pack::inputs::add(&mut reader, ids::PACK_GZIP);
        }
    }
    let release = recipe.spans.get("image.release").map(Place::from);
    let inputs = reader.actions.iter_mut().flat_map(|action| &mut action.inputs);
    inputs.filter(|input| input.name == "parameter platform").for_each(|input| input.place.clone_from(&release));
    let install = package_requests.iter().flat_map(|package_request| &package_request.pass.install);
    let asked = install.map(|name| name.split('=').next().unwrap_or(name).to_owned()).collect();
    let graph = ActionGraph::new(reader.actions)?.taking(Removals::of(recipe, taken(recipe), asked));
    Ok(StageGraph { graph, layers: reader.layers, package_requests, accounts: reader.accounts })
}

impl Reader<'_> {
    pub fn locked(&self, name: &str) -> Vec<PinnedPackage> {
        self.lock.pass(name).map(|pass| pass.packages.clone()).unwrap_or_default()
    }

    pub fn tools(&self) -> Input {
        let value = tools_identity(self.manager, &self.locked("tools"), &self.platform);
        Input::new("tools tools", value).of(Origin::Roots(vec![ids::TOOLS.to_owned()]))
    }

    /// An input that a span of a list or of the recipe asks for.
    pub fn asked(&self, input: Input, span: Option<&Span>) -> Input {
        input.asked(&self.recipe.spans, span)
    }

    /// A setting of the recipe.
    pub fn setting(&self, name: &str, value: impl ToString, field: &str) -> Input {
        Input::parameter(name, value).field(&self.recipe.spans, field)
    }

    /// How something is compressed: where the recipe says otherwise, an option asks for gzip.
    pub fn form(&self, is_asked: bool, what: &str, input: Input) -> Input {
        if !is_asked {
            return input;
        }
        let origin = Origin::Asked { option: "--publish".to_owned(), what: format!("{what} in gzip") };
        Input { place: None, ..input.of(origin) }
    }

    /// Packages of a transaction whose scripts may fail.
    pub fn failing(&self, packages: &[PinnedPackage]) -> Vec<Input> {
        let names = self.recipe.model.packages.failing_scripts.iter().enumerate();
        let here = names.filter(|(_, name)| packages.iter().any(|package| package.name == **name));
        here.map(|(index, name)| {
            let input = Input::new(format!("failing script of {name}"), "allowed");
            input.item(&self.recipe.spans, "packages.failing_scripts", index)
        })
        .collect()
    }

    /// Where the initrd's modules come from: decides what late layers may hold.
    pub fn modules_from(&self) -> Input {
        let from = match self.recipe.model.initrd.modules_from {
            ModulesFrom::Kernel => "kernel",
            ModulesFrom::Rootfs => "rootfs",
        };
        self.setting("modules_from", from, "initrd.modules_from")
    }

    pub fn below(&self) -> Vec<Upstream> {
        self.layers.iter().map(|id| Upstream { action: id.clone(), output: "layer".to_owned() }).collect()
    }

    pub fn layer(&mut self, name: &str, kind: ActionKind, version: u32, inputs: Vec<Input>, needs: Vec<String>) {
        let id = ids::layer(name);
        let upstream = self.below();
        self.actions.push(Action { id: id.clone(), stage: Stage::Rootfs, kind, version, inputs, upstream, needs });
        self.layers.push(id);
    }

    /// The sizes of [boot] tmpfs.
    pub fn tmpfs(&self) -> Vec<Input> {
        let sizes = self.recipe.model.boot.tmpfs.iter();
        sizes.map(|(path, size)| self.setting(&format!("tmpfs {path}"), size, &format!("boot.tmpfs.{path}"))).collect()
    }

    /// Lines of fstab and exports; the recipe's order is part of what they say.
    pub fn declared_lines(&self) -> Vec<Input> {
        let line =
            |file: &str, line: &str, span: &Span| self.asked(Input::new(format!("{file} {line}"), "yes"), Some(span));
        let mounts = self.recipe.mounts.iter().map(|mount| line("fstab", &mount.line, &mount.span));
        let exports = self.recipe.exports.iter().map(|export| line("exports", &export.line, &export.span));
        mounts.chain(exports).collect()
    }

    /// Whether the image has drivers that are not the kernel's own.
    pub fn has_extra_drivers(&self) -> bool {
        let files = &self.recipe.kernel_files;
        !files.updates.is_empty() || !files.builds.is_empty()
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
pub fn roots_of(root: &str) -> Vec<String> {
    if root == ids::BASE { vec![ids::BASE.to_owned()] } else { vec![ids::BASE.to_owned(), root.to_owned()] }
}

/// All packages of the image itself.
pub fn image_packages(lock: &Lock) -> Vec<PinnedPackage> {
    lock.image_passes().flat_map(|pass| pass.packages.clone()).collect()
}

/// Packages that may bring a kernel: the kernel's own transaction, and kernels that others pulled in.
pub fn kernel_packages(manager: &dyn PackageManager, lock: &Lock, kernel: &[PinnedPackage]) -> Vec<PinnedPackage> {
    let mut all: Vec<PinnedPackage> = lock
        .image_passes()
        .filter(|pass| pass.role() != PassRole::Kernel)
        .flat_map(|pass| pass.packages.iter().filter(|package| manager.is_kernel(&package.name)).cloned())
        .collect();
    all.extend(kernel.iter().cloned());
    all
}

/// The library that compresses: another version of it may make other bytes.
pub fn encoder(compression: Compression) -> Input {
    Input::new("tools encoder", compression.encoder()).of(Origin::Imgbuild(format!("{} library", compression.name())))
}
