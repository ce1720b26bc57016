//! Files that appear whole under their names, or not at all: written beside their place and renamed there. What is there stays
//! until then, and what a killed command left goes with the next file that is written in the folder.

use std::fs::File;
use std::io::{Error, ErrorKind, Result, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use crate::sweep;

/// How names of files begin that are being written.
pub const TEMPORARY: &str = ".imgbuild-new.";

/// What a file outlasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// The end of the program at any moment: for what is made again, or compared with its digest before it is used.
    Kill,
    /// A power cut too: the content is on the disk before its name leads there, and the name when the call returns.
    PowerCut,
}

/// Writes a file in the place of what is there; its folder is made. `mode` is that of a new file, as for open(2).
/// Errors: Those of the operating system; what was there is there still then, and nothing else.
pub fn replace(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<()> {
    let mut aside = Aside::of(path, mode)?;
    aside.write_all(bytes)?;
    aside.replace(durability)
}

/// Writes a file where nothing has its name; its folder is made.
/// Errors: `AlreadyExists`; those of the operating system. Nothing is made then.
pub fn create(path: &Path, bytes: &[u8], mode: u32, durability: Durability) -> Result<()> {
    let mut aside = Aside::of(path, mode)?;
    aside.write_all(bytes)?;
    aside.create(durability)
}

/// A file beside its place, which has no name of its own yet; dropped, it goes, and folders that were made for it.
#[derive(Debug)]
pub struct Aside {
    // In this order: a folder goes when it is empty.
    file: NamedTempFile,
    folders: Folders,
    path: PathBuf,
}

impl Aside {
    /// Begins a file; its folder is made.
    pub fn of(path: &Path, mode: u32) -> Result<Self> {
        let folder = folder_of(path);
        let folders = Folders::make(folder)?;
        let file = sweep::file_in(folder, TEMPORARY, mode)?;
        Ok(Self { file, folders, path: path.to_owned() })
    }

    pub fn as_file(&self) -> &File {
        self.file.as_file()
    }

    /// Gives it its name, in the place of what has it.
    pub fn replace(self, durability: Durability) -> Result<()> {
        self.put(durability, |file, path| file.persist(path))
    }

    /// Gives it its name, if nothing has it.
    pub fn create(self, durability: Durability) -> Result<()> {
        self.put(durability, |file, path| file.persist_noclobber(path))
    }

    /// Gives it its name; what has it stays as `kept`, and is back if the change is given up.
    pub fn exchange(self, kept: Option<PathBuf>, replaced: &mut Replaced) -> Result<()> {
        let (_locked, made) = self.file.keep().map_err(|error| error.error)?;
        let done = replaced.put(&made, &self.path, kept);
        match &done {
            Ok(()) => self.folders.keep(),
            Err(_) => drop(std::fs::remove_file(&made)),
        }
        done
    }

    fn put(
        self,
        durability: Durability,
        name: impl FnOnce(NamedTempFile, &Path) -> std::result::Result<File, tempfile::PersistError>,
    ) -> Result<()> {
        if durability == Durability::PowerCut {
            self.file.as_file().sync_all()?;
        }
        name(self.file, &self.path).map_err(|error| error.error)?;
        self.folders.keep();
        match durability {
            Durability::Kill => Ok(()),
            Durability::PowerCut => flush_folder(folder_of(&self.path)),
        }
    }
}

impl Write for Aside {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.file.as_file_mut().write(bytes)
    }

    fn flush(&mut self) -> Result<()> {
        self.file.as_file_mut().flush()
    }
}

/// Names in whose place something else was put; dropped, what was there is back.
#[derive(Debug, Default)]
pub struct Replaced(Vec<(PathBuf, Option<PathBuf>)>);

impl Replaced {
    /// Puts what was made into a place on the same file system; what is there stays as `kept`.
    /// Errors: Those of the operating system; this place is as it was then.
    pub fn put(&mut self, made: &Path, path: &Path, kept: Option<PathBuf>) -> Result<()> {
        if let Some(kept) = &kept {
            // A second name, where there can be one: then the first leads somewhere at any moment.
            std::fs::hard_link(path, kept).or_else(|_| std::fs::rename(path, kept))?;
        }
        let done = std::fs::rename(made, path);
        match &done {
            Ok(()) => self.0.push((path.to_owned(), kept)),
            Err(_) => kept.iter().for_each(|kept| drop(put_back(path, kept))),
        }
        done
    }

    /// Makes a link, also in the place of another, which is not put back.
    pub fn link(&mut self, target: &Path, path: &Path) -> Result<()> {
        if path.symlink_metadata().is_err() {
            std::os::unix::fs::symlink(target, path)?;
            self.0.push((path.to_owned(), None));
            return Ok(());
        }
        turn(target, path, &path.with_file_name(format!("{TEMPORARY}link")))
    }

    /// Gives what is there another name.
    pub fn move_away(&mut self, path: &Path, kept: PathBuf) -> Result<()> {
        std::fs::rename(path, &kept)?;
        self.0.push((path.to_owned(), Some(kept)));
        Ok(())
    }

    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Replaced {
    fn drop(&mut self) {
        for (path, kept) in self.0.iter().rev() {
            let _ = match kept {
                Some(kept) => put_back(path, kept),
                None => remove(path),
            };
        }
    }
}

/// Has a name be a link at any moment: made under the name `aside`, and renamed.
pub fn turn(target: &Path, path: &Path, aside: &Path) -> Result<()> {
    // What a killed command left.
    let _ = std::fs::remove_file(aside);
    std::os::unix::fs::symlink(target, aside)?;
    std::fs::rename(aside, path).inspect_err(|_| drop(std::fs::remove_file(aside)))
}

fn remove(path: &Path) -> Result<()> {
    match path.symlink_metadata()?.is_dir() {
        true => std::fs::remove_dir_all(path),
        false => std::fs::remove_file(path),
    }
}

/// Gives what was kept its name again. A rename to another name of the same file does nothing.
pub fn put_back(path: &Path, kept: &Path) -> Result<()> {
    use std::os::unix::fs::MetadataExt;
    let id = |found: &std::fs::Metadata| (found.dev(), found.ino());
    let was = kept.symlink_metadata()?;
    match path.symlink_metadata() {
        Ok(now) if id(&now) == id(&was) => std::fs::remove_file(kept),
        Ok(now) if now.is_dir() || was.is_dir() => remove(path).and_then(|()| std::fs::rename(kept, path)),
        _ => std::fs::rename(kept, path),
    }
}

/// Folders that were made for something; dropped, those of them go that are empty.
#[derive(Debug, Default)]
pub struct Folders(Vec<PathBuf>);

impl Folders {
    /// Makes a folder and those above it.
    /// Errors: Those of the operating system; what was made goes then.
    pub fn make(folder: &Path) -> Result<Self> {
        let mut made = Self::default();
        made.also(folder)?;
        Ok(made)
    }

    /// Makes one more.
    pub fn also(&mut self, folder: &Path) -> Result<()> {
        let missing: Vec<&Path> = folder.ancestors().take_while(|one| !is_there(one)).collect();
        for one in missing.into_iter().rev() {
            match std::fs::create_dir(one) {
                Ok(()) => self.0.push(one.to_owned()),
                // Another process made it.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && one.is_dir() => {}
                Err(error) => return Err(error),
            }
        }
        match folder.as_os_str().is_empty() || folder.is_dir() {
            true => Ok(()),
            false => Err(Error::from(ErrorKind::NotADirectory)),
        }
    }

    pub fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Folders {
    fn drop(&mut self) {
        self.0.iter().rev().for_each(|folder| drop(std::fs::remove_dir(folder)));
    }
}

fn is_there(path: &Path) -> bool {
    path.as_os_str().is_empty() || path.symlink_metadata().is_ok()
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Has the names of a folder on the disk, where its file system knows how.
fn flush_folder(folder: &Path) -> Result<()> {
    match File::open(folder)?.sync_all() {
        Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported) => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let walk = walkdir::WalkDir::new(folder).min_depth(1).sort_by_file_name().into_iter().flatten();
        walk.map(|entry| entry.path().strip_prefix(folder).unwrap().display().to_string()).collect()
    }

    #[test]
    fn a_file_is_there_whole_or_what_was_there_is() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for durability in [Durability::Kill, Durability::PowerCut] {
            replace(&at("a/b/file"), b"old", 0o600, durability).unwrap();
            replace(&at("a/b/file"), b"new", 0o644, durability).unwrap();
            assert_eq!(std::fs::read(at("a/b/file")).unwrap(), b"new");
            assert_eq!(create(&at("a/b/file"), b"", 0o644, durability).unwrap_err().kind(), ErrorKind::AlreadyExists);
        }
        let mode = std::os::unix::fs::PermissionsExt::mode(&at("a/b/file").metadata().unwrap().permissions());
        assert_eq!(mode & 0o7077, 0o044 & !umask());
        // What is given up leaves neither a file nor a folder; a folder that another one fills stays.
        let mut aside = Aside::of(&at("c/d/file"), 0o644).unwrap();
        aside.write_all(b"half").unwrap();
        create(&at("c/other"), b"x", 0o644, Durability::Kill).unwrap();
        drop(aside);
        assert_eq!(names(folder.path()), ["a", "a/b", "a/b/file", "c", "c/other"]);
        // A link is replaced, and not what it leads to.
        std::os::unix::fs::symlink("b/file", at("a/link")).unwrap();
        replace(&at("a/link"), b"own", 0o644, Durability::Kill).unwrap();
        assert_eq!(
            (std::fs::read(at("a/b/file")).unwrap(), std::fs::read(at("a/link")).unwrap()),
            (b"new".into(), b"own".into())
        );
        assert!(replace(&at("a/link/below"), b"", 0o644, Durability::Kill).is_err());
    }

    #[test]
    fn what_dead_ones_left_goes_and_what_lives_stays() {
        let folder = tempfile::tempdir().unwrap();
        let left = folder.path().join(format!("{TEMPORARY}dead"));
        std::fs::write(&left, "half").unwrap();
        let alive = Aside::of(&folder.path().join("alive"), 0o644).unwrap();
        assert!(!left.exists());
        replace(&folder.path().join("other"), b"", 0o644, Durability::Kill).unwrap();
        alive.replace(Durability::Kill).unwrap();
        assert_eq!(names(folder.path()), ["alive", "other"]);
    }

    fn umask() -> u32 {
        let mask = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
        rustix::process::umask(mask);
        mask.bits()
    }
}
