//! Who can decide what is in a directory.

use std::io::{ErrorKind, Result};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// The one of a path's directories in which others could put another directory in this one's place. Root's programs are not left to
/// a group either; members of a user's own group are believed, as they are who share the workspace.
/// Errors: Those of the operating system.
pub fn open_to_others(directory: &Path) -> Result<Option<PathBuf>> {
    let user = rustix::process::getuid().as_raw();
    let writers = if user == 0 { 0o022 } else { 0o002 };
    for one in directory.ancestors().filter(|one| !one.as_os_str().is_empty()) {
        let found = std::fs::metadata(one)?;
        let is_others = found.uid() != 0 && found.uid() != user;
        if is_others || found.mode() & writers != 0 && found.mode() & 0o1000 == 0 {
            return Ok(Some(one.to_owned()));
        }
    }
    Ok(None)
}

/// Who can decide what is in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Writers {
    /// This user and root.
    Own,
    /// Others, too: another user, or a group.
    Others(String),
    /// Anybody, by this directory; or the user who owns one above it.
    Anyone(PathBuf),
}

/// Who writes to a directory, and to some of its folders.
/// Errors: Those of the operating system.
pub fn writers(directory: &Path, folders: &[&str]) -> Result<Writers> {
    let directory = directory.canonicalize()?;
    if let Some(open) = directory.parent().map(open_above).transpose()?.flatten() {
        return Ok(Writers::Anyone(open));
    }
    let (user, group) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    let mut others = Writers::Own;
    for path in std::iter::once(directory.clone()).chain(folders.iter().map(|name| directory.join(name))) {
        let found = match std::fs::symlink_metadata(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => continue,
            found => found?,
        };
        // A sticky bit keeps files of others as they are, and lets all add their own.
        if found.mode() & 0o002 != 0 {
            return Ok(Writers::Anyone(path));
        }
        let owner = found.uid();
        if owner != 0 && owner != user {
            others = Writers::Others(format!("user {owner}, who owns `{}`", path.display()));
        } else if found.mode() & 0o020 != 0 && (user == 0 || found.gid() != group) {
            others = Writers::Others(format!("group {}, which can write to `{}`", found.gid(), path.display()));
        }
    }
    Ok(others)
}

/// The directory on a way that another user owns, or in which anybody could put another one in its place.
fn open_above(directory: &Path) -> Result<Option<PathBuf>> {
    let user = rustix::process::geteuid().as_raw();
    for one in directory.ancestors() {
        let found = std::fs::metadata(one)?;
        let is_others = found.uid() != 0 && found.uid() != user;
        if is_others || found.mode() & 0o002 != 0 && found.mode() & 0o1000 == 0 {
            return Ok(Some(one.to_owned()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn who_can_write_there_is_known() {
        let place = tempfile::tempdir().unwrap();
        let cache = place.path().join("above/cache");
        std::fs::create_dir_all(cache.join("v1/actions")).unwrap();
        let set = |path: &Path, mode: u32| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
        let above = place.path().join("above");
        let all = [place.path(), &above, &cache, &cache.join("v1"), &cache.join("v1/actions")];
        all.iter().for_each(|path| set(path, 0o755));
        let found = || writers(&cache, &["v1", "v1/actions", "v1/none"]).unwrap();
        assert_eq!(found(), Writers::Own);
        for (path, mode) in [
            (&cache, 0o777),
            (&cache, 0o1777),
            (&above, 0o777),
            (&cache.join("v1"), 0o757),
            (&cache.join("v1/actions"), 0o1777),
        ] {
            set(path, mode);
            assert_eq!(found(), Writers::Anyone(path.canonicalize().unwrap()), "{path:?} {mode:o}");
            set(path, 0o755);
        }
        // Where only owners replace things, a directory in it is its owner's.
        set(&above, 0o1777);
        assert_eq!(found(), Writers::Own);
        set(&cache, 0o2775);
        if rustix::process::geteuid().is_root() {
            assert!(matches!(found(), Writers::Others(_)));
            set(&cache, 0o755);
            std::os::unix::fs::chown(&cache, Some(1234), None).unwrap();
            assert!(matches!(found(), Writers::Others(_)));
            std::os::unix::fs::chown(&cache, Some(0), None).unwrap();
            std::os::unix::fs::chown(&above, Some(1234), None).unwrap();
            assert!(matches!(found(), Writers::Anyone(_)));
        }
    }
}
