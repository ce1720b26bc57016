//! xCAT's side of a node, and what a recipe may read outside its workspace.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What the recipe was captured from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// File with the packages of the captured node; plan says what a rebuild would change against it. It changes no image.
    #[serde(default)]
    pub packages: Option<String>,
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
