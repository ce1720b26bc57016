//! What a recipe says. Doc comments become the descriptions in the JSON Schema.

mod content;
pub mod effective;
mod forms;
mod kernel;
pub mod official;
mod pack;
mod packages;
pub mod releases;
mod system;
mod xcat;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use content::*;
pub use forms::PackedForm;
pub use kernel::*;
pub use pack::*;
pub use packages::*;
pub use system::*;
pub use xcat::*;

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
    #[schemars(extend("additionalProperties" = {"type": "integer", "minimum": 1, "maximum": 2147483647}))]
    pub groups: BTreeMap<String, u32>,
    /// Playbooks of Ansible that change the image after all packages are in, in order.
    #[serde(default)]
    pub role: Vec<Role>,
    /// A script that changes the image after all packages are in (xCAT: postinstall).
    #[serde(default)]
    pub postinstall: Option<PostinstallTable>,
    /// Which units start on nodes, whatever their packages chose (xCAT: chkconfig by hand).
    #[serde(default)]
    pub services: Services,
    /// Scripts that nodes run when they have started, in an image with imgbuild's runner (xCAT: postscripts, postbootscripts).
    #[serde(default)]
    pub node: Option<NodeTable>,
    /// Files that are copied into the image last (xCAT: synclists).
    #[serde(default)]
    pub sync: Sync,
    /// Files to leave out of the packed image (xCAT: exlist).
    #[serde(default)]
    pub exclude: Exclude,
    /// How the image is packed.
    #[serde(default)]
    pub pack: Pack,
    /// How nodes boot it.
    #[serde(default)]
    pub boot: Boot,
    /// What nodes do when their kernel crashes (xCAT: dump, crashkernelsize).
    #[serde(default)]
    pub kdump: Option<Kdump>,
    /// Paths of a node that are not the image's (xCAT: statelite).
    #[serde(default)]
    pub statelite: Option<Statelite>,
    /// Variables for lists and the postinstall script (xCAT: environvar).
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    /// What the recipe was captured from.
    #[serde(default)]
    pub capture: Capture,
    /// Other provisioners that get the image.
    #[serde(default)]
    pub publish: PublishTable,
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
    /// A container image that the root file system begins with, instead of the release's essential packages:
    /// `oci:REGISTRY/NAME:TAG`, with `@sha256:DIGEST` behind it for exactly one image, or `oci:./DIRECTORY` in OCI's layout.
    #[serde(default)]
    pub from: Option<String>,
    /// Whether it is meant that secrets which the recipe brings can be read by anyone who can fetch the image.
    #[serde(default)]
    pub secrets: SecretsRule,
    /// Paths of files that packages or scripts create and that look like secrets or a machine's identity, and are intended to be in the
    /// image; `*` stands for no slash.
    #[serde(default)]
    pub keep: Vec<String>,
}

/// Secrets in an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretsRule {
    /// They are reported.
    #[default]
    Noted,
    /// They are meant to be there.
    Allowed,
}

/// Distribution.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Distro {
    /// Debian.
    #[default]
    Debian,
    /// Ubuntu.
    Ubuntu,
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    Debian,
    /// dnf and its predecessor yum.
    RedHat,
    Suse,
}

impl Distro {
    pub fn name(self) -> &'static str {
        match self {
            Self::Debian => "debian",
            Self::Ubuntu => "ubuntu",
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

    pub fn title(self) -> &'static str {
        match self {
            Self::Debian => "Debian",
            Self::Ubuntu => "Ubuntu",
            Self::Rhel => "Red Hat Enterprise Linux",
            Self::Rocky => "Rocky Linux",
            Self::Alma => "AlmaLinux",
            Self::Centos => "CentOS",
            Self::Oracle => "Oracle Linux",
            Self::Fedora => "Fedora",
            Self::Sles => "SUSE Linux Enterprise Server",
            Self::Opensuse => "openSUSE",
        }
    }

    pub fn family(self) -> Family {
        match self {
            Self::Debian | Self::Ubuntu => Family::Debian,
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
    #[serde(rename = "x86_64", alias = "amd64")]
    X86_64,
    /// 64-bit Arm.
    #[serde(rename = "aarch64", alias = "arm64")]
    Aarch64,
    /// 64-bit POWER, little-endian.
    #[serde(rename = "ppc64le", alias = "ppc64el")]
    Ppc64le,
}

impl Arch {
    pub const ALL: [Self; 3] = [Self::X86_64, Self::Aarch64, Self::Ppc64le];

    /// By the name that `uname -m` prints, RPM's or Debian's.
    pub fn named(name: &str) -> Option<Self> {
        match name {
            "x86_64" | "amd64" => Some(Self::X86_64),
            "aarch64" | "arm64" => Some(Self::Aarch64),
            "ppc64le" | "ppc64el" => Some(Self::Ppc64le),
            _ => None,
        }
    }

    pub fn names() -> String {
        Self::ALL.map(Self::machine).join(", ")
    }

    /// As `uname -m` prints it.
    pub fn machine(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Aarch64 => "aarch64",
            Self::Ppc64le => "ppc64le",
        }
    }
}
