//! The kernel, its drivers, the initrd, and what nodes do when the kernel crashes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pack::CacheFilesystem;
use node_words::kdump::Afterwards;

/// The kernel and its drivers.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kernel {
    /// Package that brings the kernel. None: the distribution's default for the architecture.
    #[serde(default)]
    pub package: Option<String>,
    /// Directory with packages of kernels, which go before those of the archives (xCAT: kerneldir); sub-directories too.
    #[serde(default)]
    pub dir: Option<String>,
    /// Which kernel release (`uname -r`) to boot, where the packages provide several.
    #[serde(default)]
    pub version: Option<String>,
    /// Network drivers of the initrd: a whole list, or edits of the default one (`"+ice"`, `"-be2net"`); wildcards allowed.
    #[serde(default)]
    pub drivers: Vec<String>,
    /// Driver packages, driver update disks, modules, or directories of them (xCAT: driverupdatesrc): their modules and
    /// firmware get into the image, and into the initrd where `drivers` names them.
    #[serde(default)]
    pub updates: Vec<String>,
    /// Drivers that are built from their source for the image's kernel.
    #[serde(default)]
    pub build: Vec<KernelBuild>,
    /// Packages with firmware that the drivers need; installed in the image as well.
    #[serde(default)]
    pub firmware_packages: Vec<String>,
    /// What missing firmware of a wanted driver is.
    #[serde(default)]
    pub firmware: Firmware,
    /// Device trees of the kernel that are published next to it, for boards whose firmware has none: `vendor/board.dtb`, or patterns.
    #[serde(default)]
    pub device_trees: Vec<String>,
}

impl Kernel {
    /// Where drivers come from that no package of the kernel brings.
    pub fn own_drivers(&self) -> Vec<String> {
        self.updates.iter().chain(self.build.iter().map(|one| &one.source)).cloned().collect()
    }
}

/// A driver that is built from its source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KernelBuild {
    /// Directory with a Makefile, Kbuild or dkms.conf, or a tar archive of one.
    pub source: String,
    /// Arguments of make, which starts in the source's directory; `{build}` is the kernel's build directory, `{release}`
    /// its release, `{source}` the source's directory. None: `-C {build} M={source} modules`, or what dkms.conf says.
    #[serde(default)]
    pub make: Vec<String>,
    /// More packages that the build needs, for instance `bc`.
    #[serde(default)]
    pub tools: Vec<String>,
}

/// What missing firmware is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Firmware {
    /// A warning for a driver that the recipe names, a note for a default one.
    #[default]
    Warn,
    /// An error for a driver that the recipe names.
    Require,
}

/// The initrd.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Initrd {
    /// Who composes it.
    #[serde(default)]
    pub generator: Generator,
    /// Which initrds to make.
    #[serde(default = "stateless")]
    pub modes: Vec<InitrdMode>,
    /// Compression; it must be one that the kernel can undo.
    #[serde(default)]
    pub compress: InitrdCompress,
    /// Where its modules come from.
    #[serde(default)]
    pub modules_from: ModulesFrom,
    /// Files with certificates that nodes trust for https, besides the public ones.
    #[serde(default)]
    pub ca: Vec<String>,
    /// With dracut: its modules that are added to those that it chooses itself, or left out with `-` in front.
    #[serde(default)]
    #[schemars(inner(regex(pattern = r"^[+-]?[A-Za-z0-9][A-Za-z0-9_.-]*$")))]
    pub dracut_modules: Vec<String>,
    /// With dracut: files of dracut.conf.d.
    #[serde(default)]
    pub dracut_conf: Vec<String>,
    /// With dracut: packages of the distribution that its modules need, for instance `lvm2`; not installed in the image.
    #[serde(default)]
    pub dracut_packages: Vec<String>,
}

/// Who composes an initrd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Generator {
    /// imgbuild: one program and the drivers, the same for all distributions.
    #[default]
    Imgbuild,
    /// The release's own dracut, with a module of imgbuild: for sites that need dracut's modules.
    Dracut,
}

fn stateless() -> Vec<InitrdMode> {
    vec![InitrdMode::Stateless]
}

impl Default for Initrd {
    fn default() -> Self {
        Self {
            generator: Generator::default(),
            modes: stateless(),
            compress: InitrdCompress::default(),
            modules_from: ModulesFrom::default(),
            ca: Vec::new(),
            dracut_modules: Vec::new(),
            dracut_conf: Vec::new(),
            dracut_packages: Vec::new(),
        }
    }
}

/// Kind of initrd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InitrdMode {
    /// The root lives in the node's memory.
    Stateless,
}

/// Compression of an initrd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InitrdCompress {
    /// zstd.
    #[default]
    Zstd,
    /// gzip.
    Gzip,
}

/// Where the initrd's modules come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ModulesFrom {
    /// The kernel stage; postinstall may not change modules.
    #[default]
    Kernel,
    /// The image after postinstall, for scripts that install drivers.
    Rootfs,
}

/// What nodes do when their kernel crashes: a second one, loaded when they boot, writes their memory to where it can be looked at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Kdump {
    /// Where dumps go, each into a directory of the node's name and the time: `nfs://SERVER/DIRECTORY` (without a server: that of the image),
    /// `ssh://USER@HOST/DIRECTORY`, or a disk of the node with a directory, `LABEL=crash:/var/crash`, by `LABEL=`, `UUID=`, `PARTLABEL=` or
    /// `/dev/NAME` (xCAT: dump).
    pub to: String,
    /// Memory that nodes keep for the second kernel, as the kernel's `crashkernel=` has it: `256M`, or by the size of their memory,
    /// `1G-64G:256M,64G-:512M` (xCAT: crashkernelsize).
    #[serde(default = "Kdump::usual_reserve")]
    pub reserve: String,
    /// Options of the mount.
    #[serde(default)]
    pub options: Option<String>,
    /// The file system of the disk, which someone made there; its module comes into the initrd of the second kernel.
    #[serde(default)]
    pub filesystem: CacheFilesystem,
    /// File with the private key for ssh, without a passphrase.
    #[serde(default)]
    pub ssh_key: Option<String>,
    /// File with the server's public host keys, as `ssh-keyscan HOST` prints them.
    #[serde(default)]
    pub known_hosts: Option<String>,
    /// Which pages makedumpfile leaves out: 31 all that are empty, cached, of processes, or free; 0 none.
    #[serde(default = "Kdump::usual_level")]
    #[schemars(range(min = 0, max = 31))]
    pub level: u32,
    /// How makedumpfile compresses the others.
    #[serde(default)]
    pub compress: KdumpCompress,
    /// More words for the command line of the second kernel.
    #[serde(default)]
    pub cmdline: Vec<String>,
    /// What a node does once its dump is written, or cannot be.
    #[serde(default)]
    pub afterwards: KdumpAfterwards,
}

impl Kdump {
    fn usual_reserve() -> String {
        "256M".to_owned()
    }

    fn usual_level() -> u32 {
        31
    }
}

/// Compression of a dump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KdumpCompress {
    /// lzo, the fastest that each makedumpfile and crash know.
    #[default]
    Lzo,
    /// zlib.
    Zlib,
    /// zstd, which the image's makedumpfile must have been built with; Debian's is not.
    Zstd,
    /// snappy, which the image's makedumpfile must have been built with; Debian's is not.
    Snappy,
    /// None.
    None,
}

impl KdumpCompress {
    /// makedumpfile's option. Source: makedumpfile(8).
    pub fn option(self) -> Option<&'static str> {
        match self {
            Self::Lzo => Some("-l"),
            Self::Zlib => Some("-c"),
            Self::Zstd => Some("-z"),
            Self::Snappy => Some("-p"),
            Self::None => None,
        }
    }

    /// How the library is called that it needs, if not each makedumpfile has it.
    pub fn library(self) -> Option<&'static str> {
        match self {
            Self::Lzo => Some("liblzo2"),
            Self::Zstd => Some("libzstd"),
            Self::Snappy => Some("libsnappy"),
            Self::Zlib | Self::None => None,
        }
    }
}

/// What a node does once its dump is written, or cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum KdumpAfterwards {
    /// It starts again.
    #[default]
    Reboot,
    /// It switches itself off.
    Poweroff,
    /// It stops, and shows its console.
    Halt,
}

impl KdumpAfterwards {
    /// As the second kernel gets it.
    pub fn ordered(self) -> Afterwards {
        match self {
            Self::Reboot => Afterwards::Reboot,
            Self::Poweroff => Afterwards::Poweroff,
            Self::Halt => Afterwards::Halt,
        }
    }
}
