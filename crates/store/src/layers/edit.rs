//! Small changes to a directory that an action wrote, without following its links. Runs inside the namespace.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};

use node_words::name::shown;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

#[derive(Debug)]
pub struct TreeEditor {
    root: OwnedFd,
}

impl TreeEditor {
    /// Opens the directory, given relative to the working directory.
    pub fn open(path: &str) -> Result<Self, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self { root })
    }

    fn directory(&self, path: &str) -> Result<OwnedFd, Errno> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let path = if path.is_empty() { "." } else { path };
        rustix::fs::openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS)
    }

    /// Removes what a pattern names: a path each part of which may hold one `*`. Directories go only when empty.
    /// Errors: A text with the path; that nothing is there is no error.
    pub fn remove(&self, pattern: &str) -> Result<(), String> {
        let (parents, name) = pattern.rsplit_once('/').unwrap_or(("", pattern));
        let mut found = vec![String::new()];
        for part in parents.split('/').filter(|part| !part.is_empty()) {
            let below = |base: &String| match part.contains('*') {
                true => self.names(base).into_iter().filter(|name| fits(part, name)).collect(),
                false => vec![part.to_owned()],
            };
            let deeper =
                |base: &String| below(base).into_iter().map(|name| format!("{base}/{name}")).collect::<Vec<_>>();
            found = found.iter().flat_map(deeper).map(|path| path.trim_start_matches('/').to_owned()).collect();
        }
        found.iter().try_for_each(|parent| self.remove_from(parent, name))
    }

    fn remove_from(&self, parent: &str, pattern: &str) -> Result<(), String> {
        let directory = match self.directory(parent) {
            Ok(directory) => directory,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
            Err(error) => return Err(format!("cannot open `{parent}`: {error}")),
        };
        let said = |error: Errno| format!("cannot remove `{pattern}` from `/{parent}`: {error}");
        let mut names = Vec::new();
        for entry in Dir::read_from(&directory).map_err(said)? {
            let entry = entry.map_err(said)?;
            if let Ok(found) = entry.file_name().to_str()
                && found != "."
                && found != ".."
                && fits(pattern, found)
            {
                names.push(found.to_owned());
            }
        }
        for found in names {
            let stat = rustix::fs::statat(&directory, found.as_str(), AtFlags::SYMLINK_NOFOLLOW).map_err(said)?;
            // A whiteout stays: it hides what an earlier layer has.
            if FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0 {
                continue;
            }
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                let _ = rustix::fs::unlinkat(&directory, found.as_str(), AtFlags::REMOVEDIR);
                continue;
            }
            rustix::fs::unlinkat(&directory, found.as_str(), AtFlags::empty()).map_err(said)?;
        }
        Ok(())
    }

    fn stat(&self, path: &str) -> Option<rustix::fs::Stat> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let directory = self.directory(parent).ok()?;
        rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW).ok()
    }

    /// Mode with its type, user and group of what a path is; none where nothing is, or a link is on the way.
    pub fn owned(&self, path: &str) -> Option<(u32, u32, u32)> {
        self.stat(path).map(|stat| (stat.st_mode, stat.st_uid, stat.st_gid))
    }

    /// Whether a regular file has file capabilities.
    pub fn has_capabilities(&self, path: &str) -> bool {
        let mut value = [0u8; 64];
        let file = self.open_file(path);
        file.is_some_and(|file| rustix::fs::fgetxattr(&file, "security.capability", &mut value[..]).is_ok())
    }

    /// Whether a path is there, as a file that is no link.
    pub fn has_file(&self, path: &str) -> bool {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.directory(parent)
            .and_then(|directory| rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW))
            .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile)
    }

    /// Names in a directory, sorted; none where there is no directory.
    pub fn names(&self, directory: &str) -> Vec<String> {
        let entries = self.directory(directory).and_then(|directory| Dir::read_from(&directory));
        let mut names: Vec<String> = entries
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().to_str().ok().map(str::to_owned))
            .filter(|name| name != "." && name != "..")
            .collect();
        names.sort();
        names
    }

    /// Whether a path is there, whatever it is; a link counts as itself.
    pub fn exists(&self, path: &str) -> bool {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        self.directory(parent)
            .and_then(|directory| rustix::fs::statat(&directory, name, AtFlags::SYMLINK_NOFOLLOW))
            .is_ok()
    }

    /// Opens a regular file, if there is no link on the way to it.
    pub fn open_file(&self, path: &str) -> Option<std::fs::File> {
        self.open_regular(path, OFlags::RDONLY)
    }

    fn open_regular(&self, path: &str, access: OFlags) -> Option<std::fs::File> {
        let flags = access | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        let file = rustix::fs::openat2(&self.root, path, flags, Mode::empty(), resolve).ok()?;
        let file = std::fs::File::from(file);
        file.metadata().is_ok_and(|metadata| metadata.is_file()).then_some(file)
    }

    /// Opens a regular file to change its bytes where they are, if there is no link on the way to it.
    pub fn open_to_change(&self, path: &str) -> Option<std::fs::File> {
        self.open_regular(path, OFlags::RDWR)
    }

    /// Writes a file, replacing what has its name; missing directories are made with mode 755.
    pub fn write(&self, path: &str, bytes: &[u8], mode: u32) -> Result<(), String> {
        let said = |error: Errno| format!("cannot write `{path}`: {error}", path = shown(path));
        let (directory, name) = self.make_parent(path).map_err(said)?;
        match rustix::fs::unlinkat(&directory, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(said(error)),
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&directory, name, flags, Mode::from_raw_mode(0o600)).map_err(said)?;
        rustix::fs::fchmod(&file, Mode::from_raw_mode(mode)).map_err(said)?;
        std::fs::File::from(file)
            .write_all(bytes)
            .map_err(|error| format!("cannot write `{path}`: {error}", path = shown(path)))
    }

    /// Gives a file, or a link itself, an owner.
    pub fn set_owner(&self, path: &str, uid: u32, gid: u32) -> Result<(), String> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let owner = (Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)));
        self.directory(parent)
            .and_then(|directory| rustix::fs::chownat(directory, name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW))
            .map_err(|error| format!("cannot change the owner of `{path}`: {error}", path = shown(path)))
    }

    /// Makes a directory and those above it, with mode 755 where they are missing.
    /// Errors: A text with the path; a link on the way is one.
    pub fn make_directory(&self, path: &str) -> Result<(), String> {
        self.make_parent(&format!("{path}/x"))
            .map(drop)
            .map_err(|error| format!("cannot create `{path}`: {error}", path = shown(path)))
    }

    /// Gives a directory that has one mode another one, and an owner; makes it where it is missing.
    /// Errors: A text with the path; a link on the way is one.
    pub fn settle_directory(&self, path: &str, from: u32, (mode, uid, gid): (u32, u32, u32)) -> Result<(), String> {
        let said = |error: Errno| format!("cannot change `{path}`: {error}", path = shown(path));
        // What a later layer removed stays so.
        let is_whiteout = self.stat(path).is_some_and(|stat| {
            FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == 0
        });
        if is_whiteout {
            return Ok(());
        }
        let was_there = self.directory(path).is_ok();
        let directory = self.make_parent(&format!("{path}/x")).map_err(said)?.0;
        if was_there && rustix::fs::fstat(&directory).map_err(said)?.st_mode & 0o7777 != from {
            return Ok(());
        }
        let owner = (Some(rustix::fs::Uid::from_raw(uid)), Some(rustix::fs::Gid::from_raw(gid)));
        rustix::fs::fchown(&directory, owner.0, owner.1).map_err(said)?;
        rustix::fs::fchmod(&directory, Mode::from_raw_mode(mode)).map_err(said)
    }

    /// Makes a symbolic link, replacing what has its name.
    pub fn symlink(&self, path: &str, target: &str) -> Result<(), String> {
        let said = |error: Errno| format!("cannot create the link `{path}`: {error}", path = shown(path));
        let (directory, name) = self.make_parent(path).map_err(said)?;
        let _ = rustix::fs::unlinkat(&directory, name, AtFlags::empty());
        rustix::fs::symlinkat(target, directory.as_fd(), name).map_err(said)
    }

    fn make_parent<'p>(&self, path: &'p str) -> Result<(OwnedFd, &'p str), Errno> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let mut done = String::new();
        for part in parent.split('/').filter(|part| !part.is_empty()) {
            let above = self.directory(&done)?;
            match rustix::fs::mkdirat(&above, part, Mode::from_raw_mode(0o755)) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(error) => return Err(error),
            }
            if !done.is_empty() {
                done.push('/');
            }
            done.push_str(part);
        }
        Ok((self.directory(parent)?, name))
    }
}

/// Whether a name is what a pattern with at most one `*` names.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.split_once('*') {
        None => name == pattern,
        Some((head, tail)) => name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail),
    }
}

#[cfg(test)]
mod tests {
    use super::TreeEditor;

    #[test]
    fn a_pattern_names_files_of_several_directories() {
        let tree = tempfile::tempdir().unwrap();
        let write = |path: &str| {
            let path = tree.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        let all =
            ["var/log/one/a.log", "var/log/two/b.log", "var/log/two/deep/c.log", "var/log/d.log", "var/log/two/log"];
        all.iter().for_each(|path| write(path));
        std::os::unix::fs::symlink("two", tree.path().join("var/log/link")).unwrap();
        let editor = TreeEditor::open(tree.path().to_str().unwrap()).unwrap();
        editor.remove("var/log/*/*.log").unwrap();
        let left = |path: &&str| tree.path().join(path).exists();
        assert_eq!(all.iter().filter(|path| left(path)).collect::<Vec<_>>(), [&all[2], &all[3], &all[4]]);
        for nothing in ["nothing/*/x", "*/nothing", "var/log/d.log/*/x", "var/log/link/*"] {
            editor.remove(nothing).unwrap();
        }
        editor.remove("*/*/*.log").unwrap();
        assert_eq!(all.iter().filter(|path| left(path)).collect::<Vec<_>>(), [&all[2], &all[4]]);
    }

    #[test]
    fn a_planted_link_leads_nowhere() {
        let outside = tempfile::tempdir().unwrap();
        let tree = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(outside.path(), tree.path().join("var")).unwrap();
        let editor = TreeEditor::open(tree.path().to_str().unwrap()).unwrap();
        assert!(editor.make_directory("var/lib/dpkg").is_err());
        assert!(editor.write("var/evil", b"x", 0o644).is_err());
        assert!(editor.symlink("var/evil", "x").is_err());
        assert!(editor.set_owner("var/evil", 0, 0).is_err());
        assert!(editor.open_file("var/evil").is_none() && editor.names("var").is_empty());
        assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    }
}
