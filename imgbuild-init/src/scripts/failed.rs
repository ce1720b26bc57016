//! Whether a script failed that may not.

use std::path::Path;

/// Says why this node counts as failed, from the first script that failed, where the recipe says so.
const FAILED: &str = "run/imgbuild/postscripts-failed";

/// Why this node counts as failed, if a script failed that may not.
pub(crate) fn failure(root: &Path) -> Option<String> {
    std::fs::read_to_string(root.join(FAILED)).ok()
}

/// Notes it below a root; what was noted first stays.
pub(crate) fn leave_failure(root: &Path, text: &str) -> std::io::Result<()> {
    let path = root.join(FAILED);
    if path.exists() {
        return Ok(());
    }
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::write(path, text)
}
