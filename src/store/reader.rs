//! Reads files of layers seen as one tree. Runs inside the namespace.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::OwnedFd;

use rustix::fs::{Mode, OFlags, ResolveFlags};

use super::{Kind, Manifest, Merged, Store, merge};
use crate::digest::Digest;

/// Layers laid over one another, and their directories.
#[derive(Debug)]
pub struct LayerReader {
    /// The tree.
    pub tree: Merged,
    roots: Vec<OwnedFd>,
}

impl LayerReader {
    /// Opens layers, lowest first.
    ///
    /// # Errors
    /// A text with the layer that is missing or damaged.
    pub fn open(layers: &[Digest]) -> Result<Self, String> {
        let mut manifests = Vec::new();
        let mut roots = Vec::new();
        for digest in layers {
            let name = Store::manifest_name(digest);
            let text = std::fs::read_to_string(&name).map_err(|error| format!("cannot read {name}: {error}"))?;
            if Digest::of(text.as_bytes()) != *digest {
                return Err(format!("the store is damaged: {name} has other content than its name says"));
            }
            manifests.push(Manifest::parse(&text).map_err(|error| format!("{name}: {error}"))?);
            let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            let root = Store::tree_name(digest);
            roots.push(rustix::fs::open(&root, flags, Mode::empty()).map_err(|error| format!("{root}: {error}"))?);
        }
        Ok(Self { tree: merge(&manifests), roots })
    }

    /// Opens a regular file of a layer.
    ///
    /// # Errors
    /// The kernel's; a link on the way is one.
    pub fn open_in(&self, layer: usize, path: &str) -> std::io::Result<File> {
        let root = self.roots.get(layer).ok_or(std::io::ErrorKind::NotFound)?;
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        Ok(File::from(rustix::fs::openat2(root, path, flags, Mode::empty(), resolve)?))
    }

    /// Reads a regular file of the tree; none where the path is no such file.
    ///
    /// # Errors
    /// The file's, with its path.
    pub fn read(&self, path: &str) -> Result<Option<Vec<u8>>, String> {
        use std::io::Read;
        let Some(found) = self.tree.0.get(path) else { return Ok(None) };
        let Kind::File { size, .. } = found.entry.kind else { return Ok(None) };
        let said = |error: std::io::Error| format!("cannot read `{path}`: {error}");
        let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0));
        self.open_in(found.layer, path).map_err(said)?.read_to_end(&mut bytes).map_err(said)?;
        Ok(Some(bytes))
    }

    /// Names directly below a directory.
    pub fn names_in(&self, directory: &str) -> BTreeSet<String> {
        let prefix = format!("{directory}/");
        self.tree
            .0
            .range(prefix.clone()..)
            .take_while(|(path, _)| path.starts_with(&prefix))
            .filter_map(|(path, _)| path[prefix.len()..].split('/').next())
            .map(str::to_owned)
            .collect()
    }
}
