//! What a site adds and leaves out: roles, the postinstall script, synced files, the exclude list.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A playbook of Ansible that changes the image after all packages are in, before the postinstall script.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// The playbook. The run sees its folder, and `roles/` and `collections/` next to the recipe.
    pub ansible: String,
    /// Groups of the inventory that the image is in; its name there is `image`.
    #[serde(default)]
    pub groups: Vec<String>,
    /// Variables: they go before all others, as those of `ansible-playbook -e` do.
    #[serde(default)]
    #[schemars(extend("additionalProperties" = {"type": ["string", "integer", "number", "boolean"]}))]
    pub vars: BTreeMap<String, serde_json::Value>,
    /// Files with variables, in YAML or JSON; later ones override, and `vars` overrides them.
    #[serde(default)]
    pub vars_files: Vec<String>,
    /// What else the run sees: files, folders and patterns, relative to the recipe's directory.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Packages of the distribution that Ansible needs to run. One whose name begins with `ansible` replaces `ansible-core`.
    #[serde(default)]
    pub tools: Vec<String>,
}

/// A script that changes the image after all packages are in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("x-kdl-argument" = "script"))]
pub struct PostinstallTable {
    /// The script; it must be executable.
    #[serde(default)]
    pub script: Option<String>,
    /// More scripts, which run after it, in order: each a file, and behind that its own arguments, separated by blanks.
    #[serde(default)]
    pub scripts: Vec<String>,
    /// Arguments after xCAT's four, for `script`.
    #[serde(default)]
    pub arguments: Vec<String>,
    /// What else they read: patterns below the recipe's directory, or absolute ones, which scripts see at these paths; path_map says where
    /// they are here. They see nothing else, and see it as it is: links as links.
    #[serde(default)]
    pub inputs: Vec<String>,
    /// Packages of the distribution that it needs to run, for instance `perl`.
    #[serde(default)]
    pub tools: Vec<String>,
    /// `locked`: all packages of image.lock are offered to it, in `$IMGBUILD_PACKAGES` of the image.
    #[serde(default)]
    pub packages: Option<PostinstallPackages>,
}

impl PostinstallTable {
    /// The scripts in the order in which they run: field, file, and arguments after xCAT's four.
    pub fn scripts(&self) -> Vec<(String, &str, Vec<String>)> {
        let first =
            self.script.iter().map(|file| ("postinstall.script".to_owned(), file.as_str(), self.arguments.clone()));
        let more = self.scripts.iter().enumerate().map(|(index, item)| {
            let mut words = item.split_whitespace();
            let file = words.next().unwrap_or_default();
            (format!("postinstall.scripts[{index}]"), file, words.map(str::to_owned).collect())
        });
        first.chain(more).collect()
    }
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
    /// Owner and mode of what they bring, by its path in the image: `USER:GROUP MODE`, or a part of it.
    #[serde(default)]
    pub owner: BTreeMap<String, String>,
}

/// Files to leave out of the packed image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Exclude {
    /// Exclude lists.
    #[serde(default)]
    pub lists: Vec<String>,
}
