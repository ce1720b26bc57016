//! xCAT's side of a node, paths that are a node's own, and what a recipe may read outside its workspace.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::pack::{CACHE_DEVICES, CacheFilesystem};

/// What the recipe was captured from.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Capture {
    /// File with the packages of the captured node; plan says what a rebuild would change against it. It changes no image.
    #[serde(default)]
    pub packages: Option<String>,
}

/// Where a build puts the image besides `out/`. It changes no image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PublishTable {
    /// `KIND:WHERE`, one after the other: `warewulf:/DIR`, `confluent:/DIR`, `tree:/DIR`, `systemd:/DIR`, `openchami:URL`, `grendel:/FILE`,
    /// `grendel:URL`, `cobbler:URL`.
    #[serde(default)]
    pub to: Vec<String>,
    /// Whether bills of materials (SPDX, CycloneDX) and the statement of provenance go beside the artefacts of each build; `--cache-key`
    /// signs the statement.
    #[serde(default)]
    pub sbom: bool,
}

/// What the recipe may read outside its workspace.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WorkspaceRules {
    /// Absolute paths, in imgbuild.toml also from its directory; `**` at the end allows all below.
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

/// Paths of a node that are not the image's: in memory, from trees of a server, or kept over reboots (xCAT: statelite).
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Statelite {
    /// Paths and their options, for instance `"/var/log/" = "persistent"`; a folder ends in `/`. They count more than those of lists.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
    /// Directories that are looked at before the image, the first one first: `SERVER:/DIRECTORY`, or a directory of the image.
    #[serde(default)]
    pub trees: Vec<String>,
    /// Where what persists lies: `SERVER:/DIRECTORY` or a disk, `LABEL=`, `UUID=`, `PARTLABEL=` or `/dev/NAME`; each node gets
    /// a directory of its name there (xCAT: statemnt).
    #[serde(default)]
    pub state: Option<String>,
    /// Options of that mount (xCAT: mntopts).
    #[serde(default)]
    pub state_options: Option<String>,
    /// The node's disk for what is `localdisk`: `LABEL=`, `UUID=`, `PARTLABEL=` or `/dev/NAME`.
    #[serde(default)]
    pub local_disk: Option<String>,
    /// The file system of these disks, which someone made there; its module comes into the initrd.
    #[serde(default)]
    pub filesystem: CacheFilesystem,
    /// Where nodes mount their root from, `SERVER:/DIRECTORY`, as `publish nfs:DIR` writes it. None: the packed image, in memory.
    #[serde(default)]
    pub root: Option<String>,
    /// Values of variables in directories, besides `$node`, for instance `"noderes.nfsserver" = "10.0.0.5"`.
    #[serde(default)]
    pub variables: BTreeMap<String, String>,
    /// Lists with rows of xCAT's table litefile, or with lines `OPTIONS PATH`.
    #[serde(default)]
    pub litefile: Vec<String>,
    /// Lists with rows of xCAT's table litetree, or with lines `SERVER:/DIRECTORY`.
    #[serde(default)]
    pub litetree: Vec<String>,
    /// Lists with rows of xCAT's table statelite.
    #[serde(default)]
    pub statelite: Vec<String>,
    /// The osimage's `groups`, as rows of these tables may have them as their image.
    #[serde(default)]
    pub groups: Option<String>,
}

impl Statelite {
    /// Whether nodes need a disk for what is their own.
    pub fn has_disks(&self) -> bool {
        let is_disk = |text: &String| CACHE_DEVICES.iter().any(|start| text.starts_with(start));
        self.local_disk.is_some() || self.state.as_ref().is_some_and(is_disk)
    }

    /// The word of the command line for a root over NFS, behind `root=nfs:`.
    pub fn root_word(&self) -> Option<String> {
        self.root.as_ref().map(|root| format!("{}/rootimg:ro", root.trim_end_matches('/')))
    }
}
