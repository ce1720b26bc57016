//! What a site adds and leaves out: the postinstall script, synced files, the exclude list.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
