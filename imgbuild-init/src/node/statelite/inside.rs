//! Paths of a tree that is not the root yet: links in them lead where they would once it is.

use std::io;
use std::path::{Path, PathBuf};

/// Follows links of a path within a tree; the last part only where `all` says so. What is not there yet is a plain name.
///
/// # Errors
/// Links that go round in a circle.
pub(crate) fn within(tree: &Path, path: &str, all: bool) -> io::Result<PathBuf> {
    let mut rest: Vec<String> = path.split('/').rev().filter(|part| !part.is_empty()).map(str::to_owned).collect();
    let mut done = tree.to_owned();
    let mut links = 0;
    while let Some(part) = rest.pop() {
        match part.as_str() {
            "." => continue,
            ".." => {
                if done != tree {
                    done.pop();
                }
                continue;
            }
            _ => {}
        }
        let next = done.join(&part);
        let is_link = next.symlink_metadata().is_ok_and(|found| found.is_symlink());
        if !is_link || (rest.is_empty() && !all) {
            done = next;
            continue;
        }
        links += 1;
        if links > 40 {
            return Err(io::Error::other(format!("{path}: its links lead in a circle")));
        }
        let target = std::fs::read_link(&next)?;
        let target =
            target.to_str().ok_or_else(|| io::Error::other(format!("{path}: a link that is no text")))?.to_owned();
        if target.starts_with('/') {
            done = tree.to_owned();
        }
        rest.extend(target.split('/').rev().filter(|part| !part.is_empty()).map(str::to_owned));
    }
    Ok(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_within_the_tree() {
        let tree = std::env::temp_dir().join(format!("imgbuild-within-{}", std::process::id()));
        std::fs::create_dir_all(tree.join("run/lock")).unwrap();
        std::fs::create_dir_all(tree.join("var")).unwrap();
        for (link, to) in
            [("var/run", "/run"), ("var/lock", "../run/lock"), ("var/up", "../../../.."), ("a", "b"), ("b", "a")]
        {
            std::os::unix::fs::symlink(to, tree.join(link)).unwrap();
        }
        let found =
            |path: &str, all: bool| within(&tree, path, all).map(|path| path.strip_prefix(&tree).unwrap().to_owned());
        assert_eq!(found("/var/run/x", false).unwrap(), Path::new("run/x"));
        assert_eq!(found("/var/lock/x/", false).unwrap(), Path::new("run/lock/x"));
        assert_eq!(found("/var/up/etc", false).unwrap(), Path::new("etc"));
        assert_eq!(found("/var/run", false).unwrap(), Path::new("var/run"));
        assert_eq!(found("/var/run", true).unwrap(), Path::new("run"));
        assert!(found("/a/x", false).is_err());
        std::fs::remove_dir_all(&tree).unwrap();
    }
}
