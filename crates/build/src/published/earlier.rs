//! Removes old published builds, except the newest two and the published one.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use files::Durability;
use store::{NODE_PINS, pinned_by_nodes};

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

/// Notes beside all that is published in a directory which builds nodes read their root from, by image, so that these are kept; where
/// none does any longer, the note goes.
/// Errors: A note cannot be written or removed.
pub fn keep_roots(out: &Path, roots: &BTreeMap<String, BTreeSet<String>>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(out.join(".builds"))?.flatten() {
        let note = entry.path().join(format!("{NODE_PINS}reports"));
        let there = std::fs::read_to_string(&note).ok();
        let names = entry.file_name().to_str().and_then(|image| roots.get(image));
        let is_name = |name: &&String| name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let lines: String = names.into_iter().flatten().filter(is_name).map(|name| format!("{name}\n")).collect();
        if lines.is_empty() {
            there.map_or(Ok(()), |_| std::fs::remove_file(&note))?;
            continue;
        }
        let text = format!("# Nodes read their root from these, as they report.\n{lines}");
        if there.as_ref() != Some(&text) {
            files::replace(&note, text.as_bytes(), 0o644, Durability::PowerCut)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::{KEPT_BUILDS, forget_old, keep_roots, pinned_by_nodes};

    #[test]
    fn builds_that_nodes_read_their_root_from_are_noted_and_forgotten() {
        let out = tempfile::tempdir().unwrap();
        let builds = |image: &str| out.path().join(".builds").join(image);
        ["compute", "gpu"].iter().for_each(|image| std::fs::create_dir_all(builds(image)).unwrap());
        let roots = |names: &[&str]| {
            let names = names.iter().map(|&name| name.to_owned()).collect();
            [("compute".to_owned(), names), ("elsewhere".to_owned(), ["0".to_owned()].into())].into()
        };
        keep_roots(out.path(), &roots(&["0a", "0b", "../0c"])).unwrap();
        assert_eq!(pinned_by_nodes(&builds("compute")), ["0a".to_owned(), "0b".to_owned()].into());
        assert!(pinned_by_nodes(&builds("gpu")).is_empty());
        keep_roots(out.path(), &roots(&["0b"])).unwrap();
        assert_eq!(pinned_by_nodes(&builds("compute")), ["0b".to_owned()].into());
        keep_roots(out.path(), &roots(&[])).unwrap();
        assert_eq!(std::fs::read_dir(builds("compute")).unwrap().count(), 0);
        assert!(keep_roots(&out.path().join("gone"), &roots(&[])).is_err());
    }

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
