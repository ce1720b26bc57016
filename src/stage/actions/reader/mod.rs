//! What the inputs of all actions are made with: the recipe and its lock, and the actions so far.

pub mod globs;

use std::collections::BTreeMap;

use super::packages::tools::tools_identity;
use crate::archive::{BLOCK_SIZE, Compression, EROFS_CHUNK, Form};
use crate::distro::PackageManager;
use crate::plan::{Action, ActionKind, Input, Origin, Stage, Upstream};
use crate::recipe::{Accounts, GZIP_LEVEL, PassRole, ZSTD_LEVEL};
use crate::recipe::{ArchiveKind, Frames, InitrdCompress, Lock, ModulesFrom, PackCompress, PinnedPackage, Recipe};
use crate::source::Span;
use crate::stage::ids;

/// The action that makes the initrd in gzip.
pub fn gzip_initrd(recipe: &Recipe) -> &'static str {
    if recipe.model.initrd.compress == InitrdCompress::Gzip { ids::INITRD } else { ids::INITRD_GZIP }
}

/// The action that makes the packed image that xCAT gets: the recipe's own where xCAT has a name for its form, else one in gzip.
/// Source of the names: xCAT 2.19, packimage.
pub fn xcat_pack(recipe: &Recipe) -> &'static str {
    let pack = &recipe.model.pack;
    match (pack.archive, pack.effective_compress()) {
        (ArchiveKind::Cpio | ArchiveKind::Tar, PackCompress::Gzip | PackCompress::Xz) => ids::PACK,
        (ArchiveKind::Squashfs, _) => ids::PACK,
        (ArchiveKind::Cpio | ArchiveKind::Tar, _) | (ArchiveKind::Erofs, _) => ids::PACK_GZIP,
    }
}

/// How an action compresses the initrd. It has some ten megabytes: at 3 zstd takes a tenth of a second, and gzip's own level
/// is good enough.
pub fn initrd_compression(recipe: &Recipe, action: &str) -> Compression {
    if action == gzip_initrd(recipe) { Compression::Gzip(GZIP_LEVEL) } else { Compression::Zstd(ZSTD_LEVEL) }
}

/// How an action compresses the image.
pub fn compression(recipe: &Recipe, action: &str) -> Compression {
    let pack = &recipe.model.pack;
    match pack.effective_compress() {
        // The recipe's level is one of another compressor, or of another form.
        _ if action == ids::PACK_GZIP => Compression::Gzip(GZIP_LEVEL),
        PackCompress::Zstd => Compression::Zstd(pack.effective_level()),
        PackCompress::Gzip => Compression::Gzip(pack.effective_level()),
        PackCompress::Xz => Compression::Xz(pack.effective_level()),
        PackCompress::Lz4 => Compression::Lz4,
        PackCompress::None => Compression::None,
    }
}

/// The form that an action packs the image in.
pub fn form(recipe: &Recipe, action: &str) -> Form {
    let pack = &recipe.model.pack;
    match pack.archive {
        _ if action == ids::PACK_GZIP => Form::Cpio { single: pack.frames == Frames::Single },
        ArchiveKind::Cpio => Form::Cpio { single: pack.frames == Frames::Single },
        ArchiveKind::Tar => Form::Tar,
        ArchiveKind::Squashfs => Form::Squashfs { block_size: pack.block_size.unwrap_or(BLOCK_SIZE) },
        ArchiveKind::Erofs => Form::Erofs { chunk: pack.block_size.unwrap_or(EROFS_CHUNK) },
    }
}

/// Modules that a node's initrd needs for a form.
pub fn form_modules(form: Form) -> &'static [&'static str] {
    match form {
        Form::Cpio { .. } | Form::Tar => &[],
        Form::Squashfs { .. } => &["loop", "squashfs", "overlay"],
        Form::Erofs { .. } => &["loop", "erofs", "overlay"],
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

/// The library that compresses: another version of it may make other bytes.
pub fn encoder(compression: Compression) -> Input {
    Input::new("tools encoder", compression.encoder()).of(Origin::Imgbuild(format!("{} library", compression.name())))
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
