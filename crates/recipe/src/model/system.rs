//! Settings of the system: accounts, services, mounts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings that every node has in common.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct System {
    /// Time zone, as below /usr/share/zoneinfo; the image needs the package that provides it. None: UTC.
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

/// Scripts that nodes run when they have started.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NodeTable {
    /// Scripts, in order: each a file, and behind that its arguments, separated by blanks. A node is `up` after them (xCAT: postscripts).
    #[serde(default)]
    pub postscripts: Vec<String>,
    /// Scripts that run after those, when the services are there (xCAT: postbootscripts).
    #[serde(default)]
    pub postbootscripts: Vec<String>,
    /// Seconds that each script may take; then it is ended. 0: as long as it takes.
    #[serde(default = "ten_minutes")]
    #[schemars(range(max = 86_400))]
    pub timeout: u32,
    /// What a script that fails means for its node.
    #[serde(default)]
    pub on_failure: ScriptFailure,
}

fn ten_minutes() -> u32 {
    600
}

/// What a script that fails means for its node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ScriptFailure {
    /// It is reported; the node is `up`.
    #[default]
    Report,
    /// The node is `failed`.
    Fail,
}

impl ScriptFailure {
    pub fn name(self) -> &'static str {
        match self {
            Self::Report => "report",
            Self::Fail => "fail",
        }
    }
}

/// A user whose ids are fixed.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UserPin {
    /// Number.
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub uid: u32,
    /// Number of the primary group. None: that of the group of the same name, or else the uid's.
    #[serde(default)]
    #[schemars(range(min = 1, max = 2_147_483_647))]
    pub gid: Option<u32>,
    /// Home directory. None: /nonexistent.
    #[serde(default)]
    pub home: Option<String>,
    /// Shell. None: /usr/sbin/nologin.
    #[serde(default)]
    pub shell: Option<String>,
}
