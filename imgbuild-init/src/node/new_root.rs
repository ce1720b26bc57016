//! Files of the new root, and of /run, which moves along.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::image::root;

/// A path in the new root.
pub fn inside(path: &str) -> PathBuf {
    Path::new(root()).join(path)
}

/// Whether something is there in the new root, links taken as such.
pub fn has(path: &str) -> bool {
    inside(path).symlink_metadata().is_ok()
}

/// Writes a file with a mode, in place of what is there.
pub fn write(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(said)?;
    }
    // Never through a link: an absolute one would lead into this program's own root.
    let _ = std::fs::remove_file(path);
    std::fs::write(path, text).map_err(said)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(said)
}
