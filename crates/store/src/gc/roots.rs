//! gc roots: recording builds and walking what they reach.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::layers::merge::Paths;
use crate::layers::read::{self, Unread};
use crate::{Entry, Manifest, Merged, Store, StoreError};
use base::digest::Digest;

/// The last build of an image: what its actions' keys were.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    pub format: u32,
    pub image: String,
    pub recipe: PathBuf,
    pub published: PathBuf,
    pub actions: BTreeMap<String, Digest>,
    #[serde(default)]
    pub frames: Vec<Digest>,
    /// Size, times and inode of the published files, as they were when they were published.
    #[serde(default)]
    pub stamps: BTreeMap<String, String>,
    /// Digests of the addresses of repositories that were asked, or that the first build had.
    #[serde(default)]
    pub asked: std::collections::BTreeSet<String>,
    #[serde(default)]
    pub packages: Vec<base::digest::Sha256>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Collected {
    /// Paths relative to the store's directory that are removed from inside.
    pub inside: Vec<String>,
    /// Paths relative to the store's directory that the host process removes.
    pub outside: Vec<String>,
}

impl Collected {
    /// Some paths, each with what belongs to it: a layer's tree and its manifest, a frame and what describes it.
    pub fn with_kin<'a>(paths: impl Iterator<Item = &'a str>) -> Self {
        let (mut inside, mut outside) = (BTreeSet::new(), BTreeSet::new());
        for path in paths {
            let name = path.rsplit('/').next().unwrap_or_default();
            match path.split('/').next() {
                Some("trees" | "manifests") => {
                    inside.extend([format!("manifests/{name}"), format!("trees/{name}")]);
                }
                Some("frames") => {
                    let frame = path.trim_end_matches(".info");
                    inside.extend([format!("{frame}.info"), frame.to_owned()]);
                }
                _ => {
                    outside.insert(path.to_owned());
                }
            }
        }
        Self { inside: inside.into_iter().collect(), outside: outside.into_iter().collect() }
    }
}

impl Store {
    /// What the files of an image's builds are called.
    pub(crate) fn root_id(&self, recipe: &Path, image: &str) -> String {
        use std::os::unix::ffi::OsStrExt;
        let id = base::digest::FieldHasher::new("imgbuild store root v1")
            .field(recipe.as_os_str().as_bytes())
            .text(image)
            .finish();
        id.short()
    }

    fn root_path(&self, recipe: &Path, image: &str) -> PathBuf {
        self.directory().join("roots").join(format!("{}.json", self.root_id(recipe, image)))
    }

    /// The last build of an image of a recipe, if there was one.
    pub fn root(&self, recipe: &Path, image: &str) -> Option<Root> {
        let bytes = witness::read(&self.root_path(recipe, image)).ok()?;
        serde_json::from_slice::<Root>(&bytes).ok().filter(|root| root.format == 1)
    }

    pub fn set_root(&self, root: &Root) -> Result<(), StoreError> {
        let path = self.root_path(&root.recipe, &root.image);
        let text = serde_json::to_vec_pretty(root)
            .map_err(|source| StoreError::io("write", &path, std::io::Error::other(source)))?;
        self.write_file(&path, &text)?;
        self.remember(root, &text)
    }

    /// Where the inputs of the last build of an image stood: a text from any source.
    pub fn places(&self, recipe: &Path, image: &str) -> Option<Vec<u8>> {
        std::fs::read(self.root_path(recipe, image).with_extension("places")).ok()
    }

    pub fn set_places(&self, recipe: &Path, image: &str, text: &[u8]) -> Result<(), StoreError> {
        self.write_file(&self.root_path(recipe, image).with_extension("places"), text)
    }

    pub(crate) fn names_in(&self, directory: &str) -> Vec<String> {
        let Ok(entries) = std::fs::read_dir(self.directory().join(directory)) else { return Vec::new() };
        let mut names: Vec<String> =
            entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
        names.sort();
        names
    }

    /// Reads a layer's manifest.
    /// Errors: [`StoreError::Damaged`] when it is not what its name says.
    pub fn manifest(&self, digest: &Digest) -> Result<Manifest, StoreError> {
        let path = self.directory().join(Self::manifest_name(digest));
        read::manifest(&path, digest).map_err(|error| unread(path, error))
    }

    /// Hands over the entries of a layer's manifest in order; they are worth something only when all were handed over.
    /// Errors: As [`Self::manifest`].
    pub fn each_entry(&self, layer: &Digest, take: &mut dyn FnMut(String, Entry)) -> Result<(), StoreError> {
        let path = self.directory().join(Self::manifest_name(layer));
        read::each_entry(&path, layer, take).map_err(|error| unread(path, error))
    }

    /// Paths of layers laid over one another, lowest first; whether each is a directory.
    /// Errors: As [`Self::manifest`].
    pub fn paths(&self, layers: &[Digest]) -> Result<BTreeMap<String, bool>, StoreError> {
        let mut paths = Paths::default();
        for layer in layers {
            let name = self.directory().join(Self::manifest_name(layer));
            let mut take = |path, place| paths.apply(path, place);
            read::each_place(&name, layer, &mut take).map_err(|error| unread(name.clone(), error))?;
        }
        Ok(paths.0)
    }

    /// What layers laid over one another have in a folder, and the directories above it.
    /// Errors: As [`Self::manifest`].
    pub fn merged_folder(&self, layers: &[Digest], folder: &str) -> Result<Merged, StoreError> {
        let leads =
            |one: &str, to: &str| to.strip_prefix(one).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        let mut tree = Merged::default();
        for (number, layer) in layers.iter().enumerate() {
            self.each_entry(layer, &mut |path, entry| {
                if leads(&path, folder) || leads(folder, &path) {
                    tree.apply(path, entry, number);
                }
            })?;
        }
        Ok(tree)
    }

    /// Lays layers over one another, lowest first.
    /// Errors: As [`Self::manifest`].
    pub fn merged(&self, layers: &[Digest]) -> Result<Merged, StoreError> {
        let mut tree = Merged::default();
        for (number, layer) in layers.iter().enumerate() {
            self.each_entry(layer, &mut |path, entry| tree.apply(path, entry, number))?;
        }
        Ok(tree)
    }

    /// Bytes of a layer's regular files, as its manifest has them; those with several names count once.
    /// Errors: As [`Self::manifest`].
    pub fn file_bytes(&self, layer: &Digest) -> Result<u64, StoreError> {
        let mut bytes = 0;
        self.each_entry(layer, &mut |path, entry| bytes += entry.file_bytes(&path))?;
        Ok(bytes)
    }
}

fn unread(path: PathBuf, error: Unread) -> StoreError {
    match error {
        Unread::Io(error) => StoreError::reading(&path)(error),
        Unread::Changed => StoreError::Damaged { path, problem: "does not match the digest in its name".to_owned() },
        Unread::Text(error) => StoreError::Damaged { path, problem: error.to_string() },
    }
}
