//! Directories of an image without what lies in them: enough to write files into them, and nothing to mount.

use std::collections::BTreeMap;

use rustix::fs::{Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid};
use rustix::io::Errno;

use node_words::name::{bytes_of, shown};
use store::{Entry, Kind, Merged};

/// The directories above some paths, each before those in it.
#[derive(Debug)]
pub(crate) struct Bare<'t>(BTreeMap<&'t str, &'t Entry>);

impl<'t> Bare<'t> {
    /// The directories of a tree that are above paths. None where that is not enough to write there as in the whole tree: a link
    /// is on the way, a directory has attributes, or what is to be written is a directory already.
    pub(crate) fn above<'p>(tree: &'t Merged, paths: impl Iterator<Item = &'p str>) -> Option<Self> {
        let mut found = BTreeMap::new();
        for path in paths {
            let path = path.trim_matches('/');
            if path.split('/').any(|part| matches!(part, "" | "." | "..")) {
                return None;
            }
            if matches!(tree.0.get(path), Some(there) if there.entry.is_directory()) {
                return None;
            }
            for (end, _) in path.match_indices('/') {
                let Some((name, there)) = tree.0.get_key_value(&path[..end]) else { break };
                if there.entry.kind != Kind::Directory || !there.entry.xattrs.is_empty() {
                    return None;
                }
                found.insert(name.as_str(), &there.entry);
            }
        }
        Some(Self(found))
    }

    /// Makes them below a directory, given relative to the working directory.
    pub(crate) fn make(&self, root: &str) -> Result<(), String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(|error| format!("{root}: {error}"))?;
        let open = |path: &str| {
            let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
            rustix::fs::openat2(&root, &*bytes_of(path), flags, Mode::empty(), resolve)
        };
        let said = |path: &str, error: Errno| format!("cannot create `{path}`: {error}", path = shown(path));
        for (path, entry) in &self.0 {
            let make = || {
                rustix::fs::mkdirat(&root, &*bytes_of(path), Mode::from_raw_mode(0o700))?;
                let directory = open(path)?;
                rustix::fs::fchown(&directory, Some(Uid::from_raw(entry.uid)), Some(Gid::from_raw(entry.gid)))?;
                rustix::fs::fchmod(&directory, Mode::from_raw_mode(entry.mode))
            };
            make().map_err(|error| said(path, error))?;
        }
        // What is made in a directory changes its time: those below come first.
        for (path, entry) in self.0.iter().rev() {
            let time = Timespec { tv_sec: entry.mtime, tv_nsec: 0 };
            let times = Timestamps { last_access: time, last_modification: time };
            open(path)
                .and_then(|directory| rustix::fs::futimens(&directory, &times))
                .map_err(|error| said(path, error))?;
        }
        Ok(())
    }

    /// A directory below `path` that the tree has, and these have not: anyone who wrote there would have hidden its owner and mode.
    pub(crate) fn forgot<'f>(&self, tree: &Merged, mut directories: impl Iterator<Item = &'f str>) -> Option<&'f str> {
        let is_there = |path: &str| tree.0.get(path).is_some_and(|there| there.entry.is_directory());
        directories.find(|path| is_there(path) && !self.0.contains_key(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Merged {
        let mut tree = Merged::default();
        let of = |kind| Entry { kind, mode: 0o755, mtime: 1_000, ..Entry::whiteout() };
        for path in [".", "etc", "etc/ssh", "usr", "usr/lib", "opt"] {
            tree.apply(path.to_owned(), of(Kind::Directory), 0);
        }
        tree.apply("lib".to_owned(), of(Kind::Symlink("usr/lib".to_owned())), 0);
        tree.apply("etc/motd".to_owned(), of(Kind::Fifo), 0);
        let acl = [("system.posix_acl_access".to_owned(), vec![2])].into();
        tree.apply("opt".to_owned(), Entry { xattrs: acl, ..of(Kind::Directory) }, 0);
        tree
    }

    #[test]
    fn directories_above_are_found_and_what_they_cannot_stand_for_is_left_to_a_mount() {
        let tree = tree();
        let above = |paths: &[&str]| {
            Bare::above(&tree, paths.iter().copied()).map(|bare| bare.0.keys().copied().collect::<Vec<_>>())
        };
        assert_eq!(above(&["/etc/ssh/a", "etc/motd", "etc/new/b", "new"]).unwrap(), ["etc", "etc/ssh"]);
        // A link, attributes, a directory where a file is to be, and what is no plain path.
        for path in ["lib/x", "opt/x", "etc/ssh", "etc/motd/x", "etc//x", "etc/../x"] {
            assert_eq!(above(&["etc/a", path]), None, "{path}");
        }
    }

    #[test]
    fn they_are_made_with_mode_and_time() {
        use std::os::unix::fs::MetadataExt;
        let (tree, to) = (tree(), tempfile::tempdir().unwrap());
        let mut bare = Bare::above(&tree, ["etc/ssh/a"].into_iter()).unwrap();
        // Tests need not be root.
        let own = std::fs::metadata(to.path()).unwrap();
        let entries: Vec<(&str, Entry)> = bare
            .0
            .iter()
            .map(|(path, entry)| (*path, Entry { uid: own.uid(), gid: own.gid(), ..(*entry).clone() }))
            .collect();
        bare = Bare(entries.iter().map(|(path, entry)| (*path, entry)).collect());
        bare.make(to.path().to_str().unwrap()).unwrap();
        for path in ["etc", "etc/ssh"] {
            let found = std::fs::metadata(to.path().join(path)).unwrap();
            assert_eq!((found.mode() & 0o7777, found.mtime()), (0o755, 1_000), "{path}");
        }
        assert_eq!(bare.forgot(&tree, ["etc", "etc/new", "usr"].into_iter()), Some("usr"));
        assert_eq!(bare.forgot(&tree, ["etc", "etc/new"].into_iter()), None);
    }
}
