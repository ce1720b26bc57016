//! The answer: a restart, and why.

use schemars::JsonSchema;
use serde::Serialize;

/// What a node needs, the smallest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// It runs what it is to run.
    Nothing,
    /// `imgbuild sync` brings what differs, and no running program has it open.
    Sync,
    /// The same, and services start again.
    #[serde(rename = "restart")]
    Services,
    /// All of user space starts again from the new image; the kernel stays.
    SoftReboot,
    /// The machine starts again.
    Reboot,
}

impl Restart {
    /// As JSON and the terminal name it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Sync => "sync",
            Self::Services => "restart",
            Self::SoftReboot => "soft-reboot",
            Self::Reboot => "reboot",
        }
    }
}

/// A package with its versions; null where a build does not have it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct PackageMove {
    /// Name.
    pub name: String,
    /// Version in the build that runs.
    pub was: Option<String>,
    /// Version in the build that is to boot.
    pub now: Option<String>,
}

/// Why a restart is needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Reason {
    /// What it asks for.
    pub restart: Restart,
    /// Whether a smaller restart is known not to suffice. If not, the next larger one was taken, and the text begins with `not known: `.
    pub known: bool,
    /// In words.
    pub text: String,
    /// The package that the paths belong to, if its version differs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub package: Option<PackageMove>,
    /// A word of the kernel's command line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub word: Option<String>,
    /// Units that start again; `init.scope` is systemd itself, which `systemctl daemon-reexec` starts again.
    pub services: Vec<String>,
    /// Paths of the image without a slash in front, or names of files that the loader boots.
    pub paths: Vec<String>,
}

impl Reason {
    /// A reason that is sure.
    pub fn sure(restart: Restart, text: impl Into<String>) -> Self {
        let (package, word, services, paths) = (None, None, Vec::new(), Vec::new());
        Self { restart, known: true, text: text.into(), package, word, services, paths }
    }

    /// A reason that stands for what is not known.
    pub fn unsure(restart: Restart, text: &str) -> Self {
        Self { known: false, ..Self::sure(restart, format!("not known: {text}")) }
    }
}

/// The smallest restart that is surely enough between two builds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Answer {
    /// What is needed.
    pub restart: Restart,
    /// Units that start again, if `restart` is what is needed.
    pub services: Vec<String>,
    /// What `imgbuild sync` has to bring before: `files`, `packages`.
    pub sync: Vec<String>,
    /// Why, the largest restart first.
    pub reasons: Vec<Reason>,
}

impl Answer {
    /// An answer by these reasons alone, sorted, the largest restart first.
    pub fn of(mut reasons: Vec<Reason>) -> Self {
        reasons.sort_by(|a, b| b.restart.cmp(&a.restart).then_with(|| a.cmp(b)));
        let restart = reasons.iter().map(|reason| reason.restart).max().unwrap_or(Restart::Nothing);
        let mut services: Vec<String> = match restart {
            Restart::Services => reasons.iter().flat_map(|reason| reason.services.iter().cloned()).collect(),
            _ => Vec::new(),
        };
        services.sort();
        services.dedup();
        Self { restart, services, sync: Vec::new(), reasons }
    }
}
