//! Mounts a chain of layers as one tree.

use std::path::Path;

use rustix::mount::MountFlags;
use serde::{Deserialize, Serialize};

/// A tree assembled from layers; all paths are relative to the store's directory.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct TreeMount {
    /// Layers, lowest first. None: the upper directory alone is the tree.
    pub lower: Vec<String>,
    /// Directory that takes what is written.
    pub upper: String,
    /// Empty directory beside it that overlayfs works in.
    pub work: String,
}

impl TreeMount {
    /// Mounts the tree at `at`, a path relative to the working directory.
    ///
    /// # Errors
    /// A text with the mount point.
    pub fn mount(&self, at: &Path) -> Result<(), String> {
        let said = |error: rustix::io::Errno| format!("cannot mount the layers at {}: {error}", at.display());
        if self.lower.is_empty() {
            return rustix::mount::mount_bind(self.upper.as_str(), at).map_err(said);
        }
        let lower: Vec<&str> = self.lower.iter().rev().map(String::as_str).collect();
        // `userxattr`: without it removing a lower directory fails with EIO in a user namespace.
        let options = format!("lowerdir={},upperdir={},workdir={},userxattr", lower.join(":"), self.upper, self.work);
        if options.len() >= 4095 {
            return Err(format!("{} layers are more than one overlay mount takes", lower.len()));
        }
        let options = std::ffi::CString::new(options).map_err(|error| error.to_string())?;
        rustix::mount::mount("overlay", at, "overlay", MountFlags::empty(), Some(options.as_c_str())).map_err(said)
    }
}
