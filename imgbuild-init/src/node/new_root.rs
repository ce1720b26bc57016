//! Files of the new root, and of /run, which moves along.

use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::statelite::inside::within;
use crate::image::root;

/// A path in the new root.
pub(super) fn inside(path: &str) -> PathBuf {
    Path::new(root()).join(path)
}

/// Whether something is there in the new root, links taken as such.
pub(super) fn has(path: &str) -> bool {
    inside(path).symlink_metadata().is_ok()
}

/// A path in the new root as its own programs would find it: links of folders lead within the tree. The last part is not followed.
///
/// # Errors
/// Links that lead in a circle.
pub(super) fn beneath(path: &str) -> std::io::Result<PathBuf> {
    within(Path::new(root()), path, false)
}

/// Longest file of the image that is read here, in bytes.
const LONGEST: u64 = 1 << 20;

/// The text of a plain file; what is no text in it is replaced. None for anything else, which might never end.
pub(super) fn text_of(path: &Path) -> Option<String> {
    let is_file = path.symlink_metadata().is_ok_and(|found| found.is_file());
    let mut bytes = Vec::new();
    std::fs::File::open(path).ok().filter(|_| is_file)?.take(LONGEST).read_to_end(&mut bytes).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// Writes a file with a mode, in place of what is there.
pub(super) fn write(path: &Path, text: &str, mode: u32) -> Result<(), String> {
    let said = |error: std::io::Error| format!("{} cannot be written: {error}", path.display());
    // A folder of the new root may be a link, which means a place in it.
    let path = match path.strip_prefix(root()).ok().and_then(Path::to_str) {
        Some(own) => &beneath(own).map_err(said)?,
        None => path,
    };
    if let Some(parent) = path.parent() {
        std::fs::create_dir_all(parent).map_err(said)?;
    }
    // Never through a link: an absolute one would lead into this program's own root.
    let _ = std::fs::remove_file(path);
    std::fs::write(path, text).map_err(said)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(said)
}
