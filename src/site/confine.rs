//! Keeping what is written below a folder: no part of the way may be a link, which could lead elsewhere.

use std::io::{Error, Result};
use std::path::{Component, Path};

/// Makes the folders of a path below a root.
///
/// # Errors
/// Where the path is not below the root, or a part of it is a link or no folder.
pub fn make_folders(root: &Path, path: &Path) -> Result<()> {
    check(root, path)?;
    std::fs::create_dir_all(path.parent().unwrap_or(root))
}

/// Checks that the folders of a path below a root are folders, as far as they are there.
///
/// # Errors
/// Where the path is not below the root, or a part of it is a link or no folder.
pub fn check(root: &Path, path: &Path) -> Result<()> {
    let below =
        path.strip_prefix(root).map_err(|_| Error::other(format!("it does not lie below {}", root.display())))?;
    let mut at = root.to_owned();
    let parts: Vec<Component<'_>> = below.components().collect();
    for part in &parts[..parts.len().saturating_sub(1)] {
        let Component::Normal(name) = part else { return Err(Error::other("its path leads elsewhere")) };
        at.push(name);
        match std::fs::symlink_metadata(&at) {
            Ok(found) if found.is_dir() => {}
            Ok(_) => {
                return Err(Error::other(format!(
                    "{} is a link or no folder: nothing is written through it",
                    at.display()
                )));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error),
        }
    }
    match parts.last() {
        Some(Component::Normal(_)) => Ok(()),
        _ => Err(Error::other("its path leads elsewhere")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_and_dots_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root");
        std::fs::create_dir_all(root.join("a/b")).unwrap();
        std::os::unix::fs::symlink("/tmp", root.join("a/l")).unwrap();
        for good in ["x", "a/b/x", "a/new/x"] {
            make_folders(&root, &root.join(good)).unwrap();
        }
        for bad in ["a/l/x", "a/../x", "../x", "a/b/..", ""] {
            assert!(make_folders(&root, &root.join(bad)).is_err(), "{bad}");
        }
        assert!(make_folders(&root, Path::new("/etc/x")).is_err());
    }
}
