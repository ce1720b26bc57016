//! What gc keeps: builds, pins, and what they reach; how many bytes that is.

use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rayon::prelude::*;

use super::items::{Item, ItemKind, Policy};
use super::nodes::is_pinned_by_nodes;
use crate::{Collected, Root, Store, StoreError};
use base::digest::Digest;

/// Builds of one image that are remembered at most.
const REMEMBERED: usize = 64;

/// How long a label of a pin may be.
const LABEL_LENGTH: usize = 64;

/// What stands for a label where nodes are pinned to a build.
const NODES_LABEL: &str = "nodes";

#[derive(Debug, Clone)]
pub struct Build {
    pub root: Root,
    /// Files that remember it, relative to the store's directory.
    pub files: Vec<String>,
    /// When it was made or last confirmed.
    pub time: SystemTime,
    pub pin: Option<String>,
}

/// Whether a text can be a pin's label, which names a file.
/// Errors: What a label may have.
pub fn check_label(label: &str) -> Result<(), String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'+');
    if label.is_empty() || label.len() > LABEL_LENGTH || label.starts_with('.') || !label.bytes().all(plain) {
        return Err(format!(
            "a label has letters, digits, `-`, `_`, `+` and dots, at most {LABEL_LENGTH}, and does not start with a dot"
        ));
    }
    Ok(())
}

#[derive(Debug)]
pub struct Survey {
    pub items: Vec<Item>,
    /// Remembered builds, those of one image in descending order of time.
    pub builds: Vec<Build>,
    /// Indices of the items that each build needs.
    pub needs: Vec<BTreeSet<usize>>,
}

impl Store {
    /// Remembers a build beside the last one. A build that gave the same as the last only renews its time.
    pub(crate) fn remember(&self, root: &Root, text: &[u8]) -> Result<(), StoreError> {
        let directory = format!("earlier/{}", self.root_id(&root.recipe, &root.image));
        let names = self.names_in(&directory);
        let newest = names.iter().rfind(|name| name.ends_with(".json"));
        let newest = newest.map(|name| self.directory().join(&directory).join(name));
        let same = |path: &PathBuf| {
            let bytes = std::fs::read(path).ok()?;
            serde_json::from_slice::<Root>(&bytes).ok().filter(|was| was.actions == root.actions)
        };
        if let Some(path) = newest.as_ref().filter(|path| same(path).is_some()) {
            return self.write_file(path, text);
        }
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        self.write_file(&self.directory().join(&directory).join(format!("{now:020}.json")), text)?;
        let surplus = (names.len() + 1).saturating_sub(REMEMBERED);
        for name in names.iter().take(surplus) {
            let _ = std::fs::remove_file(self.directory().join(&directory).join(name));
        }
        Ok(())
    }

    /// Pins a build under a label: gc keeps it until it is unpinned, even when its recipe is gone.
    pub fn pin(&self, label: &str, root: &Root) -> Result<(), StoreError> {
        let path = self.pin_path(label)?;
        let text = serde_json::to_vec_pretty(root)
            .map_err(|source| StoreError::io("write", &path, std::io::Error::other(source)))?;
        self.write_file(&path, &text)
    }

    pub fn unpin(&self, label: &str) -> Result<bool, StoreError> {
        let path = self.pin_path(label)?;
        match std::fs::remove_file(&path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(StoreError::io("remove", &path, source)),
        }
    }

    pub fn pinned(&self, label: &str) -> Result<Option<Root>, StoreError> {
        let path = self.pin_path(label)?;
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(StoreError::reading(&path)(source)),
        };
        let root = serde_json::from_slice(&bytes);
        root.map(Some).map_err(|error| StoreError::Damaged { path, problem: format!("is not a root: {error}") })
    }

    fn pin_path(&self, label: &str) -> Result<PathBuf, StoreError> {
        let path = self.directory().join("pins").join(format!("{label}.json"));
        check_label(label).map_err(|problem| {
            StoreError::io("use the label of", &path, std::io::Error::new(std::io::ErrorKind::InvalidInput, problem))
        })?;
        Ok(path)
    }

    /// Everything in the store and everything that is remembered.
    /// Errors: [`StoreError::Damaged`] when a remembered build cannot be read: then nothing is safe to remove.
    pub fn survey(&self) -> Result<Survey, StoreError> {
        let items = self.items();
        let builds = self.remembered()?;
        let mut places: BTreeMap<&str, usize> = BTreeMap::new();
        for (index, item) in items.iter().enumerate() {
            places.insert(&item.path, index);
        }
        let needs = builds
            .par_iter()
            .map(|build| self.needed(build).iter().filter_map(|path| places.get(path.as_str()).copied()).collect())
            .collect();
        Ok(Survey { items, builds, needs })
    }

    fn needed(&self, build: &Build) -> Vec<String> {
        let mut paths = build.files.clone();
        let places = build.files.iter().filter(|file| file.starts_with("roots/"));
        paths.extend(places.map(|file| file.replace(".json", ".places")));
        let root = &build.root;
        for key in root.actions.values() {
            paths.push(format!("actions/{key}.json"));
            let Some(outputs) = self.named_outputs(key) else { continue };
            // A tree without its manifest is no layer.
            if let Some(layer) = outputs.layer.filter(|layer| self.has_layer(layer)) {
                paths.extend([Self::tree_name(&layer), Self::manifest_name(&layer)]);
            }
            paths.extend(outputs.blobs.values().map(|blob| Self::blob_name(&blob.digest)));
        }
        for frame in &root.frames {
            let name = Self::frame_name(frame);
            paths.extend([format!("{name}.info"), name]);
        }
        paths.extend(root.packages.iter().map(Self::package_name));
        paths
    }

    fn remembered(&self) -> Result<Vec<Build>, StoreError> {
        let mut builds: Vec<Build> = Vec::new();
        let mut add = |file: String, pin: Option<String>| -> Result<(), StoreError> {
            let path = self.directory().join(&file);
            let bytes = std::fs::read(&path).map_err(StoreError::reading(&path))?;
            let time = std::fs::metadata(&path).and_then(|metadata| metadata.modified());
            let time = time.map_err(StoreError::reading(&path))?;
            let root: Root = serde_json::from_slice(&bytes)
                .map_err(|error| StoreError::Damaged { path, problem: format!("is not a root: {error}") })?;
            let same = |build: &&mut Build| {
                pin.is_none()
                    && build.pin.is_none()
                    && (&build.root.recipe, &build.root.image, &build.root.actions)
                        == (&root.recipe, &root.image, &root.actions)
            };
            if let Some(known) = builds.iter_mut().find(same) {
                known.files.push(file);
                known.time = known.time.max(time);
            } else {
                builds.push(Build { root, files: vec![file], time, pin });
            }
            Ok(())
        };
        let is_root = |name: &&String| name.ends_with(".json");
        for name in self.names_in("roots").iter().filter(is_root) {
            add(format!("roots/{name}"), None)?;
        }
        for image in self.names_in("earlier") {
            for name in self.names_in(&format!("earlier/{image}")).iter().filter(is_root) {
                add(format!("earlier/{image}/{name}"), None)?;
            }
        }
        for name in self.names_in("pins").iter().filter(is_root) {
            add(format!("pins/{name}"), Some(name.trim_end_matches(".json").to_owned()))?;
        }
        // What nodes boot is kept as what someone pinned.
        for build in builds.iter_mut().filter(|build| build.pin.is_none()) {
            build.pin = is_pinned_by_nodes(&build.root.published).then(|| NODES_LABEL.to_owned());
        }
        builds.sort_by(|a, b| (&a.root.recipe, &a.root.image, b.time).cmp(&(&b.root.recipe, &b.root.image, a.time)));
        Ok(builds)
    }

    pub fn items(&self) -> Vec<Item> {
        let mut items = Vec::new();
        let flat = [
            ("trees", ItemKind::Layer),
            ("manifests", ItemKind::Manifest),
            ("logs", ItemKind::Log),
            ("handover", ItemKind::Handover),
            ("indices", ItemKind::Index),
            ("solving", ItemKind::Solving),
            ("actions", ItemKind::Record),
            ("roots", ItemKind::Build),
            ("pins", ItemKind::Build),
        ];
        let flat = flat.into_iter().chain(["scratch", "aside"].map(|directory| (directory, ItemKind::Scratch)));
        for (directory, kind) in flat {
            items.extend(self.names_in(directory).into_iter().map(|name| (format!("{directory}/{name}"), kind)));
        }
        let sharded = [
            ("frames", ItemKind::Frame),
            ("blobs", ItemKind::Blob),
            ("packages", ItemKind::Package),
            ("decompressed", ItemKind::Decompressed),
            ("earlier", ItemKind::Build),
            ("memos", ItemKind::Memo),
        ];
        for (directory, kind) in sharded {
            for shard in self.names_in(directory) {
                let below = format!("{directory}/{shard}");
                items.extend(self.names_in(&below).into_iter().map(|name| (format!("{below}/{name}"), kind)));
            }
        }
        let mut items: Vec<Item> = items.into_par_iter().map(|(path, kind)| self.item(path, kind)).collect();
        items.sort_by(|a, b| a.path.cmp(&b.path));
        items
    }

    fn item(&self, path: String, kind: ItemKind) -> Item {
        let modified = std::fs::metadata(self.directory().join(&path)).and_then(|found| found.modified());
        let age = modified.map_or(Duration::MAX, |time| time.elapsed().unwrap_or_default());
        Item { bytes: self.bytes_of(&path, kind), path, kind, age }
    }

    /// Bytes of an item. For a layer, those that its manifest counts: not everyone may look into the directory.
    fn bytes_of(&self, path: &str, kind: ItemKind) -> u64 {
        if matches!(kind, ItemKind::Scratch | ItemKind::Solving) {
            // Solver caches of apt are directories. As far as one may look.
            let files = walkdir::WalkDir::new(self.directory().join(path)).into_iter().flatten();
            let sizes = files.filter(|entry| entry.file_type().is_file()).filter_map(|entry| entry.metadata().ok());
            return sizes.map(|metadata| metadata.size()).sum();
        }
        if kind != ItemKind::Layer {
            return std::fs::metadata(self.directory().join(path)).map_or(0, |metadata| metadata.size());
        }
        let digest = path.rsplit('/').next().and_then(|name| Digest::parse(name).ok());
        digest.and_then(|digest| self.file_bytes(&digest).ok()).unwrap_or(0)
    }
}

impl Survey {
    /// Which builds a policy keeps, by their indices.
    pub fn kept(&self, policy: &Policy, now: SystemTime) -> BTreeSet<usize> {
        let mut kept = BTreeSet::new();
        let mut count: BTreeMap<(&Path, &str), usize> = BTreeMap::new();
        for (index, build) in self.builds.iter().enumerate() {
            if build.pin.is_some() {
                kept.insert(index);
                continue;
            }
            let before = count.entry((&build.root.recipe, &build.root.image)).or_default();
            *before += 1;
            let age = now.duration_since(build.time).unwrap_or_default();
            // Where the recipe is gone, so is the reason to keep its builds.
            if *before <= policy.keep && policy.max_age.is_none_or(|most| age <= most) && build.root.recipe.is_dir() {
                kept.insert(index);
            }
        }
        let Some(most) = policy.max_size else { return kept };
        let mut users: BTreeMap<usize, usize> = BTreeMap::new();
        for item in kept.iter().flat_map(|build| &self.needs[*build]) {
            *users.entry(*item).or_default() += 1;
        }
        let mut bytes: u64 = users.keys().map(|item| self.items[*item].bytes).sum();
        let mut oldest: Vec<usize> = kept.iter().copied().filter(|build| self.builds[*build].pin.is_none()).collect();
        oldest.sort_by_key(|build| self.builds[*build].time);
        for build in oldest {
            if bytes <= most {
                break;
            }
            kept.remove(&build);
            for item in &self.needs[build] {
                if let Some(count) = users.get_mut(item) {
                    *count -= 1;
                    if *count == 0 {
                        bytes -= self.items[*item].bytes;
                    }
                }
            }
        }
        kept
    }

    /// Indices of the items that none of these builds needs, and that a policy does not spare for being young.
    pub fn surplus(&self, kept: &BTreeSet<usize>, policy: &Policy) -> Vec<usize> {
        let needed: BTreeSet<usize> = kept.iter().flat_map(|build| self.needs[*build].iter().copied()).collect();
        let is_spared = |item: &Item| item.age < policy.grace(item.kind);
        (0..self.items.len()).filter(|item| !needed.contains(item) && !is_spared(&self.items[*item])).collect()
    }

    /// Bytes that go with a build: what none of the kept ones needs of it.
    pub fn own_bytes(&self, build: usize, kept: &BTreeSet<usize>) -> u64 {
        let needed: BTreeSet<usize> = kept.iter().flat_map(|build| self.needs[*build].iter().copied()).collect();
        self.needs[build].difference(&needed).map(|item| self.items[*item].bytes).sum()
    }

    pub fn collected(&self, surplus: &[usize]) -> Collected {
        let mut gone = Collected { inside: Vec::new(), outside: Vec::new() };
        // Scratch directories go with the locks of the processes that are gone: see `Store::leftovers`.
        let items = surplus.iter().map(|index| &self.items[*index]);
        for item in items.filter(|item| item.kind != ItemKind::Scratch) {
            if item.is_inside() { &mut gone.inside } else { &mut gone.outside }.push(item.path.clone());
        }
        gone
    }

    pub fn images(&self) -> BTreeMap<(PathBuf, String), BTreeSet<usize>> {
        let mut images: BTreeMap<(PathBuf, String), BTreeSet<usize>> = BTreeMap::new();
        for (build, needs) in self.builds.iter().zip(&self.needs) {
            images.entry((build.root.recipe.clone(), build.root.image.clone())).or_default().extend(needs);
        }
        images
    }

    /// Count and bytes of items by kind.
    pub fn by_kind<'a>(&'a self, items: impl IntoIterator<Item = &'a usize>) -> BTreeMap<ItemKind, (usize, u64)> {
        let mut sums: BTreeMap<ItemKind, (usize, u64)> = BTreeMap::new();
        for item in items.into_iter().map(|index| &self.items[*index]) {
            let sum = sums.entry(item.kind).or_default();
            *sum = (sum.0 + 1, sum.1 + item.bytes);
        }
        sums
    }
}
