//! Mounts a chain of layers as one tree: by overlayfs, or as a copy (D5).

use std::path::Path;
use std::sync::OnceLock;

use rustix::fs::{Gid, Mode, OFlags, Uid};
use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};

use super::copy::copy_layers;

/// How trees are made of layers. Both give the same layers in the end, because a layer is what differs between two
/// trees.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Assembly {
    /// overlayfs: nothing is copied.
    #[default]
    Overlay,
    /// A copy of all layers, for kernels and file systems without overlayfs in user namespaces.
    Copy,
}

impl Assembly {
    pub fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlay",
            Self::Copy => "copy",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        [Self::Overlay, Self::Copy].into_iter().find(|one| one.name() == name)
    }
}

/// This helper's way; it does one operation and ends.
static ASSEMBLY: OnceLock<Assembly> = OnceLock::new();

/// Says how this process assembles trees; the first word counts.
pub(crate) fn set_assembly(assembly: Assembly) {
    let _ = ASSEMBLY.set(assembly);
}

/// Whether the upper directory of a tree over layers holds all of the tree, and not only what was changed.
pub fn upper_is_whole() -> bool {
    ASSEMBLY.get().copied().unwrap_or_default() == Assembly::Copy
}

/// A tree assembled from layers; all paths are relative to the store's directory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TreeMount {
    /// Layers, lowest first. None: the upper directory alone is the tree.
    pub lower: Vec<String>,
    pub upper: String,
    /// Empty directory beside it that overlayfs works in.
    pub work: String,
    /// Mode, owner and group of the root, where a layer has them; none: those of the upper directory.
    pub root: Option<(u32, u32, u32)>,
}

impl TreeMount {
    /// Mounts the tree at `at`, a path relative to the working directory.
    pub fn mount(&self, at: &Path) -> Result<(), String> {
        let said = |error: rustix::io::Errno| format!("cannot mount the layers at {}: {error}", at.display());
        if self.lower.is_empty() || upper_is_whole() {
            // Once: a second command in the same tree must not bring back what the first one removed.
            let made = format!("{}/assembled", self.work);
            if !self.lower.is_empty() && !Path::new(&made).exists() {
                copy_layers(&self.lower, &self.upper)?;
                self.settle_root().map_err(said)?;
                std::fs::write(&made, "").map_err(|error| format!("{made}: {error}"))?;
            }
            return rustix::mount::mount_bind(self.upper.as_str(), at).map_err(said);
        }
        let lower: Vec<&str> = self.lower.iter().rev().map(String::as_str).collect();
        // `userxattr`: without it removing a lower directory fails with EIO in a user namespace.
        let options = format!("lowerdir={},upperdir={},workdir={},userxattr", lower.join(":"), self.upper, self.work);
        if options.len() >= 4095 {
            return Err(format!("{} layers are more than one overlay mount takes", lower.len()));
        }
        let options = std::ffi::CString::new(options).map_err(|error| error.to_string())?;
        self.settle_root().map_err(said)?;
        rustix::mount::mount("overlay", at, "overlay", MountFlags::empty(), Some(options.as_c_str())).map_err(said)
    }

    /// Gives the upper directory mode and owner of the tree's root, which is what overlayfs shows. Once: a command may change
    /// them for the next one.
    fn settle_root(&self) -> Result<(), rustix::io::Errno> {
        // overlayfs makes it at the first mount.
        let was_mounted = Path::new(&format!("{}/work", self.work)).exists();
        self.root.filter(|_| !was_mounted).map_or(Ok(()), |root| set_owner_and_mode(&self.upper, root))
    }
}

/// Gives a directory, a path relative to the working directory, mode, owner and group.
/// Errors: The kernel's.
pub fn set_owner_and_mode(directory: &str, (mode, uid, gid): (u32, u32, u32)) -> Result<(), rustix::io::Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let directory = rustix::fs::open(directory, flags, Mode::empty())?;
    rustix::fs::fchown(&directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode))
}
