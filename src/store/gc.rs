//! What is kept: the roots, what they reach, and the rest's removal.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{Manifest, Store, StoreError};
use crate::digest::Digest;

/// The last build of an image: what its actions' keys were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// Version of this file's form.
    pub format: u32,
    /// The image's name.
    pub image: String,
    /// Directory of the recipe.
    pub recipe: PathBuf,
    /// Directory of the artefacts that were published.
    pub published: PathBuf,
    /// Keys by action.
    pub actions: BTreeMap<String, Digest>,
    /// Frames that the packed image is made of.
    #[serde(default)]
    pub frames: Vec<Digest>,
    /// Size, times and inode of the published files, as they were when they were published.
    #[serde(default)]
    pub stamps: BTreeMap<String, String>,
    /// Package files of the lock.
    #[serde(default)]
    pub packages: Vec<crate::digest::Sha256>,
}

/// What gc removes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Paths relative to the store's directory that are removed from inside.
    pub inside: Vec<String>,
    /// Paths relative to the store's directory that the host process removes.
    pub outside: Vec<String>,
}

impl Store {
    fn root_path(&self, recipe: &Path, image: &str) -> PathBuf {
        use std::os::unix::ffi::OsStrExt;
        let id = crate::digest::FieldHasher::new("imgbuild store root v1")
            .field(recipe.as_os_str().as_bytes())
            .text(image)
            .finish();
        self.directory().join("roots").join(format!("{}.json", id.short()))
    }

    /// The last build of an image of a recipe, if there was one.
    pub fn root(&self, recipe: &Path, image: &str) -> Option<Root> {
        let bytes = crate::witness::read(&self.root_path(recipe, image)).ok()?;
        serde_json::from_slice::<Root>(&bytes).ok().filter(|root| root.format == 1)
    }

    /// Remembers a build.
    ///
    /// # Errors
    /// [`StoreError`] when it cannot be written.
    pub fn set_root(&self, root: &Root) -> Result<(), StoreError> {
        let path = self.root_path(&root.recipe, &root.image);
        let text = serde_json::to_vec_pretty(root)
            .map_err(|source| StoreError::io("write", &path, std::io::Error::other(source)))?;
        self.write_file(&path, &text)
    }

    pub(super) fn names_in(&self, directory: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.directory().join(directory)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// What no root reaches. The caller holds the store's exclusive use lock.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when a root cannot be read: then nothing is safe to remove.
    pub fn unreachable(&self) -> Result<Collected, StoreError> {
        let mut forgotten = Vec::new();
        let mut keys = BTreeSet::new();
        let mut frames = BTreeSet::new();
        let mut packages = BTreeSet::new();
        for name in self.names_in("roots").iter().filter(|name| name.ends_with(".json")) {
            let path = self.directory().join("roots").join(name);
            let bytes = std::fs::read(&path).map_err(|source| StoreError::io("read", &path, source))?;
            let root: Root = serde_json::from_slice(&bytes)
                .map_err(|error| StoreError::Damaged { path, problem: format!("is no root: {error}") })?;
            if !root.recipe.is_dir() {
                // The recipe is gone, and with it the reason to keep its build.
                forgotten.push(format!("roots/{name}"));
                continue;
            }
            keys.extend(root.actions.values().copied());
            frames.extend(root.frames);
            packages.extend(root.packages);
        }
        let mut layers = BTreeSet::new();
        let mut blobs = BTreeSet::new();
        for record in keys.iter().filter_map(|key| self.record(key)) {
            layers.extend(record.outputs.layer);
            blobs.extend(record.outputs.blobs.values().map(|blob| blob.digest));
        }
        let mut gone = Collected { inside: Vec::new(), outside: forgotten };
        for directory in ["trees", "manifests"] {
            for name in self.names_in(directory) {
                if !Digest::parse(&name).is_ok_and(|digest| layers.contains(&digest)) {
                    gone.inside.push(format!("{directory}/{name}"));
                }
            }
        }
        for prefix in self.names_in("frames") {
            for name in self.names_in(&format!("frames/{prefix}")) {
                if !Digest::parse(name.strip_suffix(".info").unwrap_or(&name))
                    .is_ok_and(|digest| frames.contains(&digest))
                {
                    gone.inside.push(format!("frames/{prefix}/{name}"));
                }
            }
        }
        gone.inside.extend(self.names_in("logs").into_iter().map(|name| format!("logs/{name}")));
        for name in self.names_in("actions") {
            let key = name.strip_suffix(".json").and_then(|hex| Digest::parse(hex).ok());
            if !key.is_some_and(|key| keys.contains(&key)) {
                gone.outside.push(format!("actions/{name}"));
            }
        }
        let mut sharded = |directory: &str, kept: &dyn Fn(&str) -> bool| {
            for prefix in self.names_in(directory) {
                for name in self.names_in(&format!("{directory}/{prefix}")) {
                    if !kept(&name) {
                        gone.outside.push(format!("{directory}/{prefix}/{name}"));
                    }
                }
            }
        };
        sharded("blobs", &|name| Digest::parse(name).is_ok_and(|digest| blobs.contains(&digest)));
        sharded("packages", &|name| crate::digest::Sha256::parse(name).is_ok_and(|digest| packages.contains(&digest)));
        gone.inside.extend(self.names_in("handover").into_iter().map(|name| format!("handover/{name}")));
        gone.outside.extend(self.names_in("indices").into_iter().map(|name| format!("indices/{name}")));
        Ok(gone)
    }

    /// Reads a layer's manifest.
    ///
    /// # Errors
    /// [`StoreError::Damaged`] when it is not what its name says.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, StoreError> {
        let path = self.directory().join(Self::manifest_name(digest));
        let text = std::fs::read_to_string(&path).map_err(|source| StoreError::io("read", &path, source))?;
        if Digest::of(text.as_bytes()) != *digest {
            return Err(StoreError::Damaged { path, problem: "has other content than its name says".to_owned() });
        }
        Manifest::parse(&text).map_err(|error| StoreError::Damaged { path, problem: error.to_string() })
    }
}
