//! Published builds that nodes are pinned to: `nodeset` notes them beside the builds.

use std::collections::BTreeSet;
use std::path::Path;

/// How the files begin that name them, one for each state directory: a digest a line, `#` begins a comment.
pub const NODE_PINS: &str = ".pins-";

/// Names of the builds in a directory of published builds that nodes are pinned to.
pub fn pinned_by_nodes(builds: &Path) -> BTreeSet<String> {
    let Ok(entries) = std::fs::read_dir(builds) else { return BTreeSet::new() };
    let files = entries.flatten().filter(|entry| entry.file_name().to_string_lossy().starts_with(NODE_PINS));
    let texts = files.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
    let lines = texts.flat_map(|text| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>());
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).collect()
}

pub fn is_pinned_by_nodes(published: &Path) -> bool {
    let (Some(builds), Some(name)) = (published.parent(), published.file_name().and_then(|name| name.to_str())) else {
        return false;
    };
    pinned_by_nodes(builds).contains(name)
}
