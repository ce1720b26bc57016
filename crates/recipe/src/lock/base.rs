//! The container image that a lock's root file system begins with.

use std::fmt::Write;

use serde::{Deserialize, Serialize};

use super::file::PinnedPackage;
use base::digest::Sha256;

/// A document of a container image: its manifest or its configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedDocument {
    /// Content.
    #[schemars(with = "String")]
    pub sha256: Sha256,
    /// Size in bytes.
    pub size: u64,
}

/// A layer of a container image.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedLayer {
    /// Content, as it is transferred.
    #[schemars(with = "String")]
    pub sha256: Sha256,
    /// Size in bytes, as it is transferred.
    pub size: u64,
    /// Content of the archive once it is decompressed (`diff_id`).
    #[schemars(with = "String")]
    pub diff: Sha256,
}

/// A package that a container image has installed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BasePackage {
    /// Name.
    pub name: String,
    /// Version, as the package manager writes it.
    pub version: String,
    /// Architecture: the image's or `all`.
    #[serde(rename = "arch")]
    pub architecture: String,
}

/// A container image of one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LockedBase {
    /// The platform's manifest.
    pub manifest: LockedDocument,
    /// The configuration that the manifest names.
    pub config: LockedDocument,
    /// Its layers, lowest first.
    pub layers: Vec<LockedLayer>,
    /// What it has installed.
    pub packages: Vec<BasePackage>,
}

impl LockedBase {
    /// Digests of all files that it is made of.
    pub fn files(&self) -> impl Iterator<Item = Sha256> + '_ {
        [self.manifest.sha256, self.config.sha256].into_iter().chain(self.layers.iter().map(|layer| layer.sha256))
    }

    /// What stands for it where a root is known by the packages that it is made of.
    pub fn stand_in(&self) -> PinnedPackage {
        PinnedPackage {
            // No package has such a name.
            name: "container image".to_owned(),
            version: String::new(),
            architecture: "all".to_owned(),
            size: self.manifest.size,
            sha256: self.manifest.sha256,
            origin: String::new(),
            file: String::new(),
            automatic: false,
            beside: false,
        }
    }

    pub(super) fn write(&self, out: &mut String) {
        let text = |value: &str| ::toml::Value::String(value.to_owned()).to_string();
        out.push_str("\n[base]\n");
        for (name, one) in [("manifest", &self.manifest), ("config", &self.config)] {
            let _ = writeln!(out, "{name} = {{ sha256 = \"{}\", size = {} }}", one.sha256, one.size);
        }
        out.push_str("layers = [\n");
        for LockedLayer { sha256, size, diff } in &self.layers {
            let _ = writeln!(out, "    {{ sha256 = \"{sha256}\", size = {size}, diff = \"{diff}\" }},");
        }
        out.push_str("]\npackages = [\n");
        for BasePackage { name, version, architecture } in &self.packages {
            let (name, version, architecture) = (text(name), text(version), text(architecture));
            let _ = writeln!(out, "    {{ name = {name}, version = {version}, arch = {architecture} }},");
        }
        out.push_str("]\n");
    }
}
