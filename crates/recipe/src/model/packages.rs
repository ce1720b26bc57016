//! Repositories and packages.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One archive of packages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Repo {
    /// `host`: the archives that this host's own package manager uses. `distribution`: an RPM distribution's own repositories, by
    /// its official mirrors, with its keys built in; with `uri` below a mirror of your own.
    #[serde(default)]
    pub source: Option<RepoSource>,
    /// Root of an archive: `http://`, `https://` or `file:`. Of RPM distributions: a directory with `repodata`; below a
    /// `file:` directory each folder with `repodata` is taken, and of one without any its packages.
    #[serde(default)]
    pub uri: Option<String>,
    /// Short name of a repository; image.lock has it of RPM repositories, and of Debian archives whose suite has no name of its
    /// own. None: `repo1` for the first, and so on.
    #[serde(default)]
    #[schemars(regex(pattern = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"))]
    pub id: Option<String>,
    /// Address of a list of an RPM repository's mirrors.
    #[serde(default)]
    pub mirrorlist: Option<String>,
    /// Address of an RPM repository's metalink.
    #[serde(default)]
    pub metalink: Option<String>,
    /// A `.repo` file, or of Debian a `.sources` or `.list` file: each of its repositories that is enabled, with what it says
    /// of them.
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
    /// Whether packages of an RPM repository must be signed by a key of `signed-by`. `false` where no one signed them.
    #[serde(default = "yes")]
    pub check_packages: bool,
    /// Whether an RPM repository's repomd.xml must be signed by a key of `signed-by`; packages need no signature then.
    #[serde(default)]
    pub check_index: bool,
    /// Whether signatures of an RPM repository count that can be forged: SHA-1, MD5, keys of 1024 bits, as RHEL 5 and before has
    /// them. `plan` and build.json say so.
    #[serde(default)]
    pub weak_signatures: bool,
    /// Suites of it, for instance `bookworm`; one that ends in a slash (`./`) is a directory with the index itself, of a flat
    /// archive. With `source = "host"`: only these of the release, its `-updates` and its
    /// `-security`; the archives must have them.
    #[serde(default)]
    pub suites: Vec<String>,
    /// Components, for instance `main`. With `source = "host"`: instead of the host's. With `source = "distribution"`: names of its
    /// repositories instead of the usual ones, or `+crb` beside them.
    #[serde(default)]
    pub components: Vec<String>,
    /// File with the keys that sign it. None: the built-in keys of the distribution.
    #[serde(default)]
    pub signed_by: Option<String>,
    /// Whether a Debian archive need not be signed: one of your own that no one else can write (apt: `[trusted=yes]`).
    #[serde(default)]
    pub trusted: bool,
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
    /// The distribution's own repositories.
    Distribution,
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
