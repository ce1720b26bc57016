//! A recipe and its lock, as actions.

mod images;
mod packages;
mod settings;

use std::collections::BTreeMap;

use super::StageError;
use super::tools::tools_identity;
use super::wish::{Wish, target, wishes};
use crate::archive::Compression;
use crate::digest::Digest;
use crate::distro::{PackageManager, manager};
use crate::plan::{Absences, Action, ActionGraph, ActionKind, Input, Origin, Place, Stage, Taken, Upstream};
use crate::recipe::{Accounts, GZIP_LEVEL, PassRole, ZSTD_LEVEL};
use crate::recipe::{InitrdCompress, Lock, ModulesFrom, PackCompress, PinnedPackage, Recipe};
use crate::source::Span;
use crate::stage::ids;

/// Versions of the kinds of work, each part of the keys of its actions. A change of what a kind gives raises it.
pub mod version {
    /// Unpacking the kernel and depmod. 1: first; 2: of RPM drivers for several other kernels the newest is rpm's, and files with
    /// several names are taken under each.
    pub const KERNEL: u32 = 2;
    /// Building a driver. 1: first; 2: with dkms.conf too paths are left out of modules.
    pub const DRIVER: u32 = 3;
    /// fstab, keys and other settings. 1: first.
    pub const SYSTEM: u32 = 2;
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
    reader.initrd(init, ids::INITRD)?;
    reader.pack(ids::PACK);
    if forms == Forms::AndGzip {
        if gzip_initrd(recipe) != ids::INITRD {
            reader.initrd(init, ids::INITRD_GZIP)?;
        }
        if gzip_pack(recipe) != ids::PACK {
            reader.pack(ids::PACK_GZIP);
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
        Input::new("tools tools", value).of(Origin::Roots(vec![ids::TOOLS.to_owned()]))
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

    fn layer(&mut self, name: &str, kind: ActionKind, version: u32, inputs: Vec<Input>, needs: Vec<String>) {
        let id = ids::layer(name);
        let upstream = self.below();
        self.actions.push(Action { id: id.clone(), stage: Stage::Rootfs, kind, version, inputs, upstream, needs });
        self.layers.push(id);
    }

    /// Whether the image has drivers that are not the kernel's own.
    fn has_extra_drivers(&self) -> bool {
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
fn roots_of(root: &str) -> Vec<String> {
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
