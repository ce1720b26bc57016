//! What a recipe says. Doc comments become the descriptions in the JSON Schema.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A recipe for one image that diskless nodes boot from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "imgbuild recipe")]
pub struct Model {
    /// What the image is.
    pub image: Image,
    /// Where packages come from (xCAT: pkgdir). None: the host's own sources.
    #[serde(default)]
    pub repo: Vec<Repo>,
    /// Variables in the addresses of RPM repositories, besides `$releasever`, `$basearch` and `$arch`.
    #[serde(default)]
    pub repo_variables: BTreeMap<String, String>,
    /// Packages of the distribution.
    #[serde(default)]
    pub packages: Packages,
    /// Packages from a directory of your own (xCAT: otherpkgdir, otherpkglist).
    #[serde(default)]
    pub otherpkgs: Option<OtherPackages>,
    /// The kernel and its drivers.
    #[serde(default)]
    pub kernel: Kernel,
    /// The initrd.
    #[serde(default)]
    pub initrd: Initrd,
    /// Settings that every node has in common.
    #[serde(default)]
    pub system: System,
    /// Users whose ids are fixed, by name; they are made before any package.
    #[serde(default)]
    pub users: BTreeMap<String, UserPin>,
    /// Groups whose ids are fixed, by name; they are made before any package.
    #[serde(default)]
    #[schemars(extend("additionalProperties" = {"type": "integer", "minimum": 1, "maximum": 65533}))]
    pub groups: BTreeMap<String, u32>,
    /// A script that changes the image after all packages are in (xCAT: postinstall).
    #[serde(default)]
    pub postinstall: Option<PostinstallTable>,
    /// Which units start on nodes, whatever their packages chose (xCAT: chkconfig by hand).
    #[serde(default)]
    pub services: Services,
    /// Files that are copied into the image last (xCAT: synclists).
    #[serde(default)]
    pub sync: Sync,
    /// What is left out of the packed image (xCAT: exlist).
    #[serde(default)]
    pub exclude: Exclude,
    /// How the image is packed.
    #[serde(default)]
    pub pack: Pack,
    /// How nodes boot it.
    #[serde(default)]
    pub boot: Boot,
    /// Variables for lists and the postinstall script (xCAT: environvar).
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// What the recipe may read outside its workspace.
    #[serde(default)]
    pub workspace: WorkspaceRules,
    /// For files that come from an xCAT site.
    #[serde(default)]
    pub xcat: Xcat,
}

/// What the image is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Name of the image; its artefacts go to `out/<name>`.
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"), length(max = 100))]
    pub name: String,
    /// Distribution.
    #[serde(default)]
    pub distro: Distro,
    /// Release, as the distribution's archive calls it, for instance `bookworm`, `9` or `15.6`.
    #[schemars(regex(pattern = r"^[a-z0-9][a-z0-9.-]*$"))]
    pub release: String,
    /// CPU architecture, as `uname -m` prints it.
    #[serde(default)]
    pub arch: Arch,
}

/// Distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Distro {
    /// Debian.
    #[default]
    Debian,
    /// Red Hat Enterprise Linux.
    Rhel,
    /// Rocky Linux.
    Rocky,
    /// AlmaLinux.
    Alma,
    /// CentOS and CentOS Stream.
    Centos,
    /// Oracle Linux.
    Oracle,
    /// Fedora.
    Fedora,
    /// SUSE Linux Enterprise Server.
    Sles,
    /// openSUSE Leap and Tumbleweed.
    Opensuse,
}

/// Distributions that have a package manager in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// apt.
    Debian,
    /// dnf and its predecessor yum.
    RedHat,
    /// zypper.
    Suse,
}

impl Distro {
    /// As the recipe writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Rhel => "rhel",
            Self::Rocky => "rocky",
            Self::Alma => "alma",
            Self::Centos => "centos",
            Self::Oracle => "oracle",
            Self::Fedora => "fedora",
            Self::Sles => "sles",
            Self::Opensuse => "opensuse",
        }
    }

    /// Which package manager it has.
    pub fn family(self) -> Family {
        match self {
            Self::Debian => Family::Debian,
            Self::Rhel | Self::Rocky | Self::Alma | Self::Centos | Self::Oracle | Self::Fedora => Family::RedHat,
            Self::Sles | Self::Opensuse => Family::Suse,
        }
    }
}

/// CPU architecture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum Arch {
    /// 64-bit PC.
    #[default]
    #[serde(rename = "x86_64")]
    X86_64,
}

impl Arch {
    /// As `uname -m` prints it.
    pub fn machine(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
        }
    }
}

/// One archive of packages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Repo {
    /// `host`: the archives that this host's own package manager uses.
    #[serde(default)]
    pub source: Option<RepoSource>,
    /// Root of an archive: `http://`, `https://` or `file:`. Of RPM distributions: a directory with `repodata`; below a
    /// `file:` directory each folder with `repodata` is taken, and of one without any its packages.
    #[serde(default)]
    pub uri: Option<String>,
    /// Short name of an RPM repository; image.lock has it. None: `repo1` for the first, and so on.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub id: Option<String>,
    /// Address of a list of an RPM repository's mirrors.
    #[serde(default)]
    pub mirrorlist: Option<String>,
    /// Address of an RPM repository's metalink.
    #[serde(default)]
    pub metalink: Option<String>,
    /// A `.repo` file: each of its repositories that is enabled, with what it says of them.
    #[serde(default)]
    pub file: Option<String>,
    /// The lower, the more an RPM repository is preferred. None: 99.
    #[serde(default)]
    #[schemars(range(min = 1, max = 200))]
    pub priority: Option<u32>,
    /// Packages of an RPM repository that are not used: globs of names, or of names with version and architecture.
    #[serde(default)]
    pub exclude: Vec<String>,
    /// The only packages of an RPM repository that are used. Empty: all.
    #[serde(default)]
    pub include: Vec<String>,
    /// Whether packages of an RPM repository are used whatever module streams are chosen.
    #[serde(default)]
    pub module_hotfixes: bool,
    /// Whether packages of an RPM repository must be signed by a key of `signed-by`. `false` where nobody signed them.
    #[serde(default = "yes")]
    pub check_packages: bool,
    /// Whether an RPM repository's repomd.xml must be signed by a key of `signed-by`; packages need no signature then.
    #[serde(default)]
    pub check_index: bool,
    /// Suites of it, for instance `bookworm`. With `source = "host"`: only these of the release, its `-updates` and its
    /// `-security`; the archives must have them.
    #[serde(default)]
    pub suites: Vec<String>,
    /// Components, for instance `main`. With `source = "host"`: instead of the host's.
    #[serde(default)]
    pub components: Vec<String>,
    /// File with the keys that sign it. None: the built-in keys of the distribution.
    #[serde(default)]
    pub signed_by: Option<String>,
    /// Whether a Debian Release file past its `Valid-Until` is refused; `false` for archived releases.
    #[serde(default = "yes")]
    pub check_valid_until: bool,
}

fn yes() -> bool {
    true
}

/// Where an archive is known from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RepoSource {
    /// This host's own configuration.
    Host,
}

/// Packages of the distribution.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Packages {
    /// What the lists are added to.
    #[serde(default)]
    pub base: Base,
    /// pkglists, in order; they share their passes.
    #[serde(default)]
    pub lists: Vec<String>,
    /// More packages, in the first pass.
    #[serde(default)]
    pub install: Vec<String>,
    /// Packages whose scripts may fail. An RPM package is installed even then; without this it is an error.
    #[serde(default)]
    pub failing_scripts: Vec<String>,
}

/// What every image of a distribution starts from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Base {
    /// Packages marked essential, and what they need.
    Essential,
    /// Also those of priority `required`, and apt: what `debootstrap --variant=minbase` installs.
    #[default]
    Minbase,
}

/// Packages from a directory of your own.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtherPackages {
    /// Directory with package files; its sub-directories are repositories too.
    pub dir: String,
    /// otherpkgs pkglists, in order.
    #[serde(default)]
    pub lists: Vec<String>,
    /// More packages, in the first pass.
    #[serde(default)]
    pub install: Vec<String>,
}

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
    /// Which kernel release (`uname -r`) to boot, where the packages bring several.
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

/// Settings that every node has in common.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Time zone, as below /usr/share/zoneinfo; the image needs the package that brings it. None: UTC.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_+/-]+$"))]
    pub timezone: Option<String>,
    /// Locale, for instance `C.UTF-8`.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[A-Za-z0-9_.@-]+$"))]
    pub locale: Option<String>,
    /// `dhcp`: what the server says; else the name of every node.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9.-]*$"))]
    pub hostname: Option<String>,
    /// Files with public keys that may log in as root.
    #[serde(default)]
    pub authorized_keys: Vec<String>,
    /// File with root's password hash, as crypt(5) writes it.
    #[serde(default)]
    pub root_password_hash_file: Option<String>,
    /// SELinux labels: `auto` gives each file the one that the image's installed policy says, `off` gives none.
    #[serde(default)]
    pub selinux: Selinux,
    /// Lines of the image's fstab, as fstab(5) writes them, after those of `[boot] tmpfs`.
    #[serde(default)]
    pub fstab: Vec<String>,
    /// Lines of the image's /etc/exports, as exports(5) writes them.
    #[serde(default)]
    pub exports: Vec<String>,
}

/// Whether files are labelled for SELinux.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Selinux {
    /// Where a policy is installed and /etc/selinux/config does not say `disabled`.
    #[default]
    Auto,
    /// Never.
    Off,
}

/// Which units start on nodes. `dhcpd` means `dhcpd.service`; no wildcards.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Services {
    /// Units that start at boot.
    #[serde(default)]
    pub enable: Vec<String>,
    /// Units that do not start at boot; they can be started by hand, or by another unit that wants them.
    #[serde(default)]
    pub disable: Vec<String>,
    /// Units that nothing can start.
    #[serde(default)]
    pub mask: Vec<String>,
}

/// A user whose ids are fixed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPin {
    /// Number.
    #[schemars(range(min = 1, max = 65533))]
    pub uid: u32,
    /// Number of the primary group. None: that of the group of the same name, or else the uid's.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65534))]
    pub gid: Option<u32>,
    /// Home directory. None: /nonexistent.
    #[serde(default)]
    pub home: Option<String>,
    /// Shell. None: /usr/sbin/nologin.
    #[serde(default)]
    pub shell: Option<String>,
}

/// A script that changes the image after all packages are in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PostinstallTable {
    /// The script; it must be executable.
    pub script: String,
    /// Arguments after xCAT's four.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// What else it reads: patterns below the recipe's directory. It sees nothing else.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Packages of the distribution that it needs to run, for instance `perl`.
    #[serde(default)]
    pub tools: Vec<String>,
    /// `locked`: all packages of image.lock are offered to it, in `$IMGBUILD_PACKAGES` of the image.
    #[serde(default)]
    pub packages: Option<PostinstallPackages>,
}

/// Which packages a script is offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PostinstallPackages {
    /// Those of image.lock.
    Locked,
}

/// Files that are copied into the image last.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sync {
    /// Synclists, in order.
    #[serde(default)]
    pub lists: Vec<String>,
}

/// What is left out of the packed image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exclude {
    /// Exclude lists.
    #[serde(default)]
    pub lists: Vec<String>,
}

/// How the image is packed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pack {
    /// Archive.
    #[serde(default)]
    pub archive: ArchiveKind,
    /// Compression.
    #[serde(default)]
    pub compress: PackCompress,
    /// Whether the archive is cut into frames that nodes check and unpack one by one, or is one stream that a kernel
    /// takes as its initramfs.
    #[serde(default)]
    pub frames: Frames,
    /// Level of the compression. None: 3 for zstd, 6 for gzip.
    #[serde(default)]
    #[schemars(range(min = 1, max = 19))]
    pub level: Option<u32>,
}

/// How an archive is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Frames {
    /// Into independent frames, cached by content.
    #[default]
    Many,
    /// Not at all.
    Single,
}

/// Kind of archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ArchiveKind {
    /// cpio, form `newc`; unpacked into the node's memory.
    #[default]
    Cpio,
}

/// Compression of an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PackCompress {
    /// zstd.
    #[default]
    Zstd,
    /// gzip.
    Gzip,
}

/// How nodes boot it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Boot {
    /// Words for the kernel's command line.
    #[serde(default)]
    pub cmdline: Vec<String>,
    /// Sizes of tmpfs mounts by path, for instance `"/tmp" = "50m"`; they become the image's fstab.
    #[serde(default)]
    pub tmpfs: BTreeMap<String, String>,
    /// Size of the root file system in memory, for instance `4g` or `80%`. None: 90% of memory.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[0-9]+[kmgKMG%]?$"))]
    pub root_size: Option<String>,
}

/// What the recipe may read outside its workspace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceRules {
    /// Absolute paths; `**` at the end allows all below.
    #[serde(default)]
    pub allow: Vec<String>,
}

/// For files that come from an xCAT site.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Xcat {
    /// Where absolute folders of the xCAT host are found here.
    #[serde(default)]
    pub path_map: BTreeMap<String, String>,
    /// `osvers` as postinstall scripts get it. None: distribution and release.
    #[serde(default)]
    pub osvers: Option<String>,
    /// `profile` as postinstall scripts get it. None: the image's name.
    #[serde(default)]
    pub profile: Option<String>,
    /// Whether nodes run the site's postscripts at boot, and tell xCAT how they are; the files come from `postscripts`.
    #[serde(default)]
    pub node_support: bool,
    /// The site's own directory of postscripts (xCAT: `postscripts` below site.installdir); all of it gets into the
    /// image as /xcatpost.
    #[serde(default)]
    pub postscripts: Option<String>,
    /// Name of the osimage, for /opt/xcat/xcatinfo. None: the image's name.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub osimage: Option<String>,
}
