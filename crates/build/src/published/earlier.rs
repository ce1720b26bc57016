//! Removes old published builds, except the newest two and the published one.

use std::path::{Path, PathBuf};

use store::pinned_by_nodes;

/// How many earlier builds of an image are kept beside the published one.
const KEPT_BUILDS: usize = 2;

/// Removes all but the newest builds of an image, and never the one that is `published`, a link's target, nor one that nodes are
/// pinned to.
pub(super) fn forget_old(builds: &Path, current: &str, published: Option<&Path>) {
    let Ok(entries) = std::fs::read_dir(builds) else { return };
    let mut old: Vec<(std::time::SystemTime, PathBuf)> = entries
        .flatten()
        .filter(|entry| entry.file_name().to_str().is_some_and(|name| name != current && !name.starts_with('.')))
        .filter_map(|entry| Some((entry.metadata().ok()?.modified().ok()?, entry.path())))
        .collect();
    old.sort_by(|a, b| b.cmp(a));
    let published = published.and_then(Path::file_name);
    let pinned = pinned_by_nodes(builds);
    let is_pinned =
        |path: &Path| path.file_name().and_then(|name| name.to_str()).is_some_and(|name| pinned.contains(name));
    let surplus = old.into_iter().skip(KEPT_BUILDS).map(|(_, path)| path);
    for path in surplus.filter(|path| path.file_name() != published && !is_pinned(path)) {
        let _ = std::fs::remove_dir_all(path);
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{KEPT_BUILDS, forget_old};

    #[test]
    fn the_newest_builds_stay_and_the_published_one_whatever_its_age() {
        let directory = tempfile::tempdir().unwrap();
        // From the oldest on; what begins with a dot is being made.
        let names = ["a", "0", "b", "c", "d", ".e", "f"];
        for (age, name) in names.iter().enumerate() {
            let path = directory.path().join(name);
            std::fs::create_dir(&path).unwrap();
            let time = SystemTime::UNIX_EPOCH + Duration::from_secs(age as u64 * 60);
            std::fs::File::open(&path).unwrap().set_modified(time).unwrap();
        }
        std::fs::write(directory.path().join(".pins-x"), "# of a cluster\n0\n").unwrap();
        forget_old(directory.path(), "f", Some(std::path::Path::new(".builds/x/a")));
        let mut left: Vec<_> = std::fs::read_dir(directory.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(KEPT_BUILDS, 2);
        assert_eq!(left, [".e", ".pins-x", "0", "a", "c", "d", "f"]);
    }
}
