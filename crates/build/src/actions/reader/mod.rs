//! What the inputs of all actions are made with: the recipe and its lock, and the actions so far.

pub(super) mod globs;
pub(super) mod graph;
pub(super) mod work;

use std::collections::BTreeMap;

use super::Described;
use super::packages::tools::tools_identity;
use crate::bench::ids;
use crate::bench::keyed::{Key, Keyed};
use archive::{Compression, Form};
use base::source::Span;
use node_words::kdump::Target;
use packages::PackageManager;
use plan::{Action, ActionKind, Input, Origin, Stage, Upstream};
use recipe::{
    ArchiveKind, BootRoot, Export, Frames, InitrdCompress, Lock, LockedBase, ModulesFrom, Mount, PackCompress,
    PackedForm, PinnedPackage, Recipe, kdump_target,
};
use recipe::{GZIP_LEVEL, PassRole, ZSTD_LEVEL};

pub(crate) fn gzip_initrd(recipe: &Recipe) -> &'static str {
    if recipe.model.initrd.compress == InitrdCompress::Gzip { ids::INITRD } else { ids::INITRD_GZIP }
}

/// The action that makes the packed image that xCAT gets: the recipe's own where xCAT has a name for its form, else one in gzip.
/// Source of the names: xCAT 2.19, packimage.
pub(crate) fn xcat_pack(recipe: &Recipe) -> String {
    let has_name = |form: &PackedForm| match (form.archive, form.compress) {
        (ArchiveKind::Cpio | ArchiveKind::Tar, PackCompress::Gzip | PackCompress::Xz) | (ArchiveKind::Squashfs, _) => {
            true
        }
        (ArchiveKind::Cpio | ArchiveKind::Tar, _) | (ArchiveKind::Erofs, _) => false,
    };
    let own = recipe.model.pack.forms().into_iter().find(has_name);
    own.map_or_else(|| ids::PACK_GZIP.to_owned(), |form| pack_action(&form))
}

pub(crate) fn pack_action(form: &PackedForm) -> String {
    if form.is_first() { ids::PACK.to_owned() } else { ids::pack_also(form.rootimg()) }
}

pub(crate) fn packed_form(recipe: &Recipe, action: &str) -> PackedForm {
    let pack = &recipe.model.pack;
    let own = pack.forms().into_iter().find(|form| pack_action(form) == action);
    // The recipe's level and blocks are those of another form.
    own.unwrap_or_else(|| PackedForm {
        archive: ArchiveKind::Cpio,
        compress: PackCompress::Gzip,
        level: None,
        block_size: None,
        ..pack.first()
    })
}

/// How an action compresses the initrd. It has some ten megabytes: at 3 zstd takes a tenth of a second, and gzip's own level
/// is good enough.
pub(super) fn initrd_compression(recipe: &Recipe, action: &str) -> Compression {
    if action == gzip_initrd(recipe) { Compression::Gzip(GZIP_LEVEL) } else { Compression::Zstd(ZSTD_LEVEL) }
}

pub(super) fn compression(form: &PackedForm) -> Compression {
    match form.compress {
        PackCompress::Zstd => Compression::Zstd(form.effective_level()),
        PackCompress::Gzip => Compression::Gzip(form.effective_level()),
        PackCompress::Xz => Compression::Xz(form.effective_level()),
        PackCompress::Lz4 => Compression::Lz4,
        PackCompress::None => Compression::None,
    }
}

pub(super) fn archive(form: &PackedForm) -> Form {
    match form.archive {
        ArchiveKind::Cpio => Form::Cpio { single: form.frames == Frames::Single },
        ArchiveKind::Tar => Form::Tar,
        ArchiveKind::Squashfs => Form::Squashfs { block_size: form.effective_block_size() },
        ArchiveKind::Erofs => Form::Erofs { chunk: form.effective_block_size() },
    }
}

/// Modules that a node's initrd needs for the forms of an image, the disk that keeps it, and paths of its own, each with the
/// setting that asks for it.
pub(super) fn form_modules(recipe: &Recipe, action: &str) -> Vec<(&'static str, String)> {
    let mut modules: Vec<(&str, String)> = Vec::new();
    if action == ids::INITRD_KDUMP {
        let Some(table) = &recipe.model.kdump else { return modules };
        // It fetches no image.
        match kdump_target(&recipe.model) {
            Some(Target::Nfs { .. }) => {
                modules.extend(["nfs", "nfsv3", "nfsv4"].map(|name| (name, KDUMP_TO.to_owned())));
            }
            Some(Target::Disk { .. }) => modules.push((table.filesystem.name(), KDUMP_FILESYSTEM.to_owned())),
            Some(Target::Ssh { .. }) | None => {}
        }
        return modules;
    }
    if let Some(own) = recipe.model.statelite.as_ref().filter(|_| action == ids::INITRD_STATELITE) {
        modules.extend(["nfs", "nfsv3", "nfsv4", "overlay"].map(|name| (name, STATELITE_MODULES.to_owned())));
        if own.has_disks() {
            modules.push((own.filesystem.name(), STATELITE_FILESYSTEM.to_owned()));
        }
    }
    if let Some(cache) = &recipe.model.boot.cache
        && modules.iter().all(|(known, _)| *known != cache.filesystem.name())
    {
        modules.push((cache.filesystem.name(), CACHE_FILESYSTEM.to_owned()));
    }
    if recipe.model.boot.root == BootRoot::Lazy {
        modules.push(("nbd", LAZY_ROOT.to_owned()));
    }
    for form in recipe.model.pack.forms() {
        let of_form: &[&str] = match form.archive {
            ArchiveKind::Cpio | ArchiveKind::Tar => &[],
            ArchiveKind::Squashfs => &["loop", "squashfs", "overlay"],
            ArchiveKind::Erofs => &["loop", "erofs", "overlay"],
        };
        for name in of_form {
            if modules.iter().all(|(known, _)| known != name) {
                modules.push((name, form.field("archive")));
            }
        }
    }
    modules
}

/// The setting that names the file system of the node's disk.
pub(super) const CACHE_FILESYSTEM: &str = "boot.cache.filesystem";
/// The setting that asks for a root that is read over the network.
pub(super) const LAZY_ROOT: &str = "boot.root";
/// The setting that names the file system of the disks of what is the node's own.
pub(super) const STATELITE_FILESYSTEM: &str = "statelite.filesystem";
pub(super) const STATELITE_MODULES: &str = "statelite.files";

/// The setting that asks for NFS in the initrd of a dump.
pub(super) const KDUMP_TO: &str = "kdump.to";
/// The setting that names the file system of the disk of dumps.
pub(super) const KDUMP_FILESYSTEM: &str = "kdump.filesystem";

pub(crate) struct Reader<'a> {
    pub recipe: &'a Recipe,
    pub lock: &'a Lock,
    pub manager: &'static dyn PackageManager,
    /// What it is for, as keys have it.
    pub platform: String,
    pub actions: Vec<Action>,
    /// Ids of those that make layers, lowest first.
    pub layers: Vec<String>,
    /// What the work of actions is asked with, by action.
    pub described: BTreeMap<String, Described>,
}

impl Reader<'_> {
    pub(crate) fn locked(&self, name: &str) -> Vec<PinnedPackage> {
        if PassRole::of(name) == PassRole::Base && self.recipe.model.image.from.is_some() {
            return self.lock.base.iter().map(LockedBase::stand_in).collect();
        }
        self.lock.pass(name).map(|pass| pass.packages.clone()).unwrap_or_default()
    }

    pub(crate) fn tools(&self) -> Input {
        let value = tools_identity(self.manager, &self.locked("tools"), &self.platform);
        Input::new("tools tools", value).of(Origin::Roots(vec![ids::TOOLS.to_owned()]))
    }

    /// An input that a span of a list or of the recipe asks for.
    pub(crate) fn asked(&self, input: Input, span: Option<&Span>) -> Input {
        input.asked(&self.recipe.spans, span)
    }

    pub(crate) fn setting(&self, name: &str, value: impl ToString, field: &str) -> Input {
        Input::parameter(name, value).field(&self.recipe.spans, field)
    }

    /// How something is compressed: where the recipe says otherwise, an option asks for gzip.
    pub(crate) fn form(&self, is_asked: bool, what: &str, input: Input) -> Input {
        if !is_asked {
            return input;
        }
        let origin = Origin::Asked { option: "--publish".to_owned(), what: format!("{what} in gzip") };
        Input { place: None, ..input.of(origin) }
    }

    /// Where the initrd's modules come from: decides what late layers may hold.
    pub(crate) fn modules_from(&self, key: &mut Key) -> Keyed<ModulesFrom> {
        key.keep(self.recipe.model.initrd.modules_from, |from| {
            let from = match from {
                ModulesFrom::Kernel => "kernel",
                ModulesFrom::Rootfs => "rootfs",
            };
            self.setting("modules_from", from, "initrd.modules_from")
        })
    }

    pub(crate) fn below(&self) -> Vec<Upstream> {
        self.layers.iter().map(|id| Upstream { action: id.clone(), output: "layer".to_owned() }).collect()
    }

    /// Keeps what the work of an action is asked with.
    pub(crate) fn describe(&mut self, id: &str, described: Described) {
        self.described.insert(id.to_owned(), described);
    }

    pub(crate) fn layer(&mut self, name: &str, kind: ActionKind, version: u32, inputs: Vec<Input>, needs: Vec<String>) {
        let id = ids::layer(name);
        let upstream = self.below();
        self.actions.push(Action { id: id.clone(), stage: Stage::Rootfs, kind, version, inputs, upstream, needs });
        self.layers.push(id);
    }

    /// The sizes of [boot] tmpfs, and lines of fstab and exports, whose order is part of what they say.
    pub(crate) fn declared(&self, key: &mut Key) -> Declared {
        let line =
            |file: &str, line: &str, span: &Span| self.asked(Input::new(format!("{file} {line}"), "yes"), Some(span));
        let recipe = self.recipe;
        Declared {
            tmpfs: key.keep_each(recipe.model.boot.tmpfs.clone(), |_, (path, size)| {
                self.setting(
                    &format!("tmpfs {path}"),
                    if fault::planted("tmpfs-size-forgotten") { "" } else { size },
                    &format!("boot.tmpfs.{path}"),
                )
            }),
            mounts: key.keep_each(recipe.mounts.clone(), |_, mount| line("fstab", &mount.line, &mount.span)),
            exports: key.keep_each(recipe.exports.clone(), |_, export| line("exports", &export.line, &export.span)),
        }
    }

    /// Whether the image has drivers that are not the kernel's own.
    pub(crate) fn has_extra_drivers(&self) -> bool {
        let files = &self.recipe.kernel_files;
        !files.updates.is_empty() || !files.builds.is_empty()
    }
}

/// Mounts and exports that a recipe declares.
#[derive(Debug)]
pub struct Declared {
    /// Paths and sizes.
    pub tmpfs: Vec<Keyed<(String, String)>>,
    pub mounts: Vec<Keyed<Mount>>,
    pub exports: Vec<Keyed<Export>>,
}

/// The library that compresses: another version of it may make other bytes.
pub(super) fn encoder(compression: Compression) -> Input {
    Input::new("tools encoder", compression.encoder()).of(Origin::Imgbuild(format!("{} library", compression.name())))
}

/// The actions that a tools root over the base is made of.
pub(super) fn roots_of(root: &str) -> Vec<String> {
    if root == ids::BASE { vec![ids::BASE.to_owned()] } else { vec![ids::BASE.to_owned(), root.to_owned()] }
}

pub(super) fn image_packages(lock: &Lock) -> Vec<PinnedPackage> {
    lock.image_passes().flat_map(|pass| pass.packages.clone()).collect()
}

/// Whether a package may bring firmware or microcode, by its name: Debian's and Ubuntu's, then RHEL's and SUSE's.
pub(super) fn is_firmware(name: &str) -> bool {
    const WHOLE: [&str; 6] =
        ["intel-microcode", "amd64-microcode", "microcode_ctl", "ucode-intel", "ucode-amd", "linux-firmware"];
    WHOLE.contains(&name) && !fault::planted("firmware-package-forgotten")
        || ["firmware-", "linux-firmware-", "kernel-firmware"].iter().any(|start| name.starts_with(start))
        || name.ends_with("-firmware")
}

/// Packages that may bring what the kernel stage is made of: the kernel's own transaction, what that one asks for and an earlier one
/// has brought, kernels that others pulled in, and firmware.
pub(crate) fn kernel_packages(
    manager: &dyn PackageManager,
    lock: &Lock,
    kernel: &[PinnedPackage],
) -> Vec<PinnedPackage> {
    let own = lock.image_passes().filter(|pass| pass.role() == PassRole::Kernel);
    let asked: Vec<String> =
        own.flat_map(|pass| &pass.install).map(|name| manager.plain_name(name).to_owned()).collect();
    let belongs = |name: &str| manager.is_kernel(name) || is_firmware(name) || asked.iter().any(|asked| asked == name);
    let mut all: Vec<PinnedPackage> = lock
        .image_passes()
        .filter(|pass| pass.role() != PassRole::Kernel)
        .flat_map(|pass| pass.packages.iter().filter(|package| belongs(&package.name)).cloned())
        .collect();
    all.extend(kernel.iter().cloned());
    all
}

#[cfg(test)]
mod tests {
    use super::is_firmware;

    #[test]
    fn packages_of_firmware_and_microcode_are_known_in_each_family() {
        for name in ["intel-microcode", "microcode_ctl", "ucode-amd", "firmware-misc-nonfree", "kernel-firmware-bnx2"] {
            assert!(is_firmware(name), "{name}");
        }
        assert!(is_firmware("iwl7260-firmware") && !is_firmware("fwupd") && !is_firmware("firmwarelib"));
    }
}
