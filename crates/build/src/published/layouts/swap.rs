//! Puts several files into a directory that others use too, in one moment.
//!
//! The directory cannot be exchanged as a whole: it holds what is not ours, perhaps a tree of gigabytes, perhaps a
//! mount. So the names are led through one link, and that link is turned:
//!
//! ```text
//! 1. the new files are written to   .imgbuild-publish/new/
//! 2. .imgbuild-publish/current   -> old
//! 3. each name is exchanged with a link:  kernel -> .imgbuild-publish/current/kernel, the file is now in old/
//! 4. .imgbuild-publish/current   -> new       by one rename: the moment
//! 5. each link is replaced by its file, and .imgbuild-publish goes
//! ```
//!
//! Who opens a name gets the old file before 4 and the new one after it, at any time. A run that was killed leaves
//! links that lead to one or the other; the next run does step 5 first.

use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use files::beside::Beside;

/// Where files are put aside, below the directory itself: a rename does not leave a file system.
const ASIDE: &str = ".imgbuild-publish";

/// What failed: what was to be done, with which path, and why.
#[derive(Debug)]
pub(super) struct Trouble {
    /// As in "cannot INTENT `PATH`".
    pub intent: &'static str,
    pub path: PathBuf,
    pub source: io::Error,
}

fn to(intent: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Trouble + use<> {
    let path = path.to_owned();
    move |source| Trouble { intent, path, source }
}

pub(super) struct Swap {
    directory: PathBuf,
    aside: PathBuf,
}

/// Called between any two changes of the directory; tests look, and stop, there.
pub(super) type Between<'a> = &'a mut dyn FnMut();

impl Swap {
    /// Finishes what a killed run left, and makes room for new files. The caller holds the directory's lock.
    /// Errors: [`Trouble`]; each name of the directory has what it had.
    pub(super) fn begin(directory: &Path, between: Between<'_>) -> Result<Self, Trouble> {
        let swap = Self { directory: directory.to_owned(), aside: directory.join(ASIDE) };
        swap.settle(between)?;
        for path in [swap.aside.clone(), swap.aside.join("new"), swap.aside.join("old")] {
            std::fs::create_dir(&path).map_err(to("create the directory", &path))?;
            // A web server goes through it, whatever the umask is.
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).map_err(to("set the mode of", &path))?;
            between();
        }
        Ok(swap)
    }

    /// Where a new file is written.
    pub(super) fn place(&self, name: &str) -> PathBuf {
        self.aside.join("new").join(name)
    }

    /// Takes the new files away again.
    pub(super) fn abandon(self) {
        let _ = std::fs::remove_dir_all(&self.aside);
    }

    /// Replaces the names of the new files, and removes those of `retired` that are there; gives what was removed.
    /// Errors: [`Trouble`]; all names have their old files then, or, when only the last step failed, the new ones.
    pub(super) fn commit(self, retired: &[&str], between: Between<'_>) -> Result<Vec<String>, Trouble> {
        let outcome = self.turn(retired, between);
        let settled = self.settle(between);
        let removed = outcome?;
        settled?;
        Ok(removed)
    }

    fn turn(&self, retired: &[&str], between: Between<'_>) -> Result<Vec<String>, Trouble> {
        let new = self.aside.join("new");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&new).map_err(to("read", &new))? {
            let entry = entry.map_err(to("read", &new))?;
            let path = entry.path();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(0o644)).map_err(to("set the mode of", &path))?;
            std::fs::File::open(&path).and_then(|file| file.sync_all()).map_err(to("sync", &path))?;
            names.extend(entry.file_name().into_string());
        }
        names.sort();
        sync(&new)?;
        let there = |name: &str| self.directory.join(name).symlink_metadata().is_ok();
        let removed: Vec<String> = retired.iter().filter(|name| there(name)).map(|name| (*name).to_owned()).collect();
        for name in names.iter().chain(&removed) {
            let path = self.directory.join(name);
            if path.is_dir() {
                let error = io::Error::other("there is a directory of this name");
                return Err(to("replace", &path)(error));
            }
        }
        let current = self.aside.join("current");
        symlink("old", &current).map_err(to("create the link", &current))?;
        between();
        for name in names.iter().chain(&removed) {
            self.lead(name, between)?;
        }
        for directory in [&self.directory, &self.aside.join("old"), &self.aside] {
            sync(directory)?;
        }
        let next = self.aside.join("next");
        symlink("new", &next).map_err(to("create the link", &next))?;
        between();
        std::fs::rename(&next, &current).map_err(to("replace", &current))?;
        between();
        sync(&self.aside)?;
        Ok(removed)
    }

    /// Leads a name through the link; what it names does not change for anyone who opens it.
    fn lead(&self, name: &str, between: Between<'_>) -> Result<(), Trouble> {
        let path = self.directory.join(name);
        let target = format!("{ASIDE}/current/{name}");
        let old = self.aside.join("old").join(name);
        let Ok(metadata) = path.symlink_metadata() else {
            // A link to nothing is as good as no file.
            symlink(&target, &path).map_err(to("create the link", &path))?;
            between();
            return Ok(());
        };
        let spare = self.aside.join("link");
        if metadata.is_symlink()
            && let Ok(whole) = path.canonicalize()
        {
            // It would lead elsewhere from old/.
            symlink(&whole, &spare).map_err(to("create the link", &spare))?;
            std::fs::rename(&spare, &path).map_err(to("replace", &path))?;
            between();
        }
        symlink(&target, &old).map_err(to("create the link", &old))?;
        between();
        match exchange(&old, &path) {
            // Some file systems, NFS among them, cannot exchange: a second name for the file does it too.
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::OPNOTSUPP) => {
                std::fs::remove_file(&old).map_err(to("replace", &old))?;
                self.lead_by_hard_link(&target, &path, &old, between)?;
            }
            Err(error) => return Err(to("replace", &path)(error.into())),
            Ok(()) => between(),
        }
        Ok(())
    }

    fn lead_by_hard_link(&self, target: &str, path: &Path, old: &Path, between: Between<'_>) -> Result<(), Trouble> {
        let spare = self.aside.join("link");
        std::fs::hard_link(path, old).map_err(to("create a hard link to", path))?;
        between();
        symlink(target, &spare).map_err(to("create the link", &spare))?;
        std::fs::rename(&spare, path).map_err(to("replace", path))?;
        between();
        Ok(())
    }

    /// Replaces each link by the file that it leads to, and takes everything away that was put aside.
    fn settle(&self, between: Between<'_>) -> Result<(), Trouble> {
        if self.aside.symlink_metadata().is_err() {
            return Ok(());
        }
        // Names are led through it: never through what another user put there.
        Beside::open(&self.aside).map_err(to("use", &self.aside))?;
        let entries = std::fs::read_dir(&self.directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
        for entry in entries.map_err(to("read", &self.directory))? {
            let (path, name) = (entry.path(), entry.file_name());
            let own = Path::new(ASIDE).join("current").join(&name);
            if !std::fs::read_link(&path).is_ok_and(|target| target == own) {
                continue;
            }
            let file = self.directory.join(own);
            if file.symlink_metadata().is_ok() {
                std::fs::rename(&file, &path).map_err(to("replace", &path))?;
            } else {
                std::fs::remove_file(&path).map_err(to("remove", &path))?;
            }
            between();
        }
        sync(&self.directory)?;
        // Nothing leads here now.
        std::fs::remove_dir_all(&self.aside).map_err(to("remove", &self.aside))?;
        between();
        sync(&self.directory)
    }
}

fn sync(directory: &Path) -> Result<(), Trouble> {
    std::fs::File::open(directory).and_then(|file| file.sync_all()).map_err(to("sync", directory))
}

fn exchange(one: &Path, other: &Path) -> Result<(), rustix::io::Errno> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    const NAMES: [&str; 4] = ["image", "image.index", "image.old", "kernel"];

    /// What opening each name gives.
    fn look(directory: &Path) -> BTreeMap<&'static str, String> {
        let read = |name: &&'static str| Some((*name, std::fs::read_to_string(directory.join(name)).ok()?));
        NAMES.iter().filter_map(read).collect()
    }

    fn old() -> BTreeMap<&'static str, String> {
        [("image", "old"), ("image.old", "old"), ("kernel", "old, linked")]
            .map(|(name, text)| (name, text.to_owned()))
            .into()
    }

    fn new() -> BTreeMap<&'static str, String> {
        [("image", "new"), ("image.index", "new"), ("kernel", "new")].map(|(name, text)| (name, text.to_owned())).into()
    }

    /// A directory with an old image, a link, and what others keep in it.
    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        std::fs::create_dir_all(at("rootimg/etc")).unwrap();
        std::fs::write(at("rootimg/etc/hostname"), "tree").unwrap();
        std::fs::write(at("notes"), "foreign").unwrap();
        std::fs::write(at("image"), "old").unwrap();
        std::fs::write(at("image.old"), "old").unwrap();
        std::fs::write(at("rootimg/kernel"), "old, linked").unwrap();
        symlink("rootimg/kernel", at("kernel")).unwrap();
        directory
    }

    fn replace(directory: &Path, between: Between<'_>) -> Result<Vec<String>, Trouble> {
        let swap = Swap::begin(directory, between)?;
        for name in ["image", "image.index", "kernel"] {
            std::fs::write(swap.place(name), "new").unwrap();
        }
        swap.commit(&["image.old", "image.older"], between)
    }

    #[track_caller]
    fn nothing_foreign_is_lost(directory: &Path) {
        let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
        assert_eq!(
            (read("rootimg/etc/hostname"), read("notes"), read("rootimg/kernel")),
            ("tree".into(), "foreign".into(), "old, linked".into())
        );
    }

    #[track_caller]
    fn is_settled(directory: &Path) {
        let mut names: Vec<String> = std::fs::read_dir(directory)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["image", "image.index", "kernel", "notes", "rootimg"]);
        for name in ["image", "image.index", "kernel"] {
            let metadata = directory.join(name).symlink_metadata().unwrap();
            assert!(metadata.is_file() && metadata.permissions().mode() & 0o7777 == 0o644, "{name}");
        }
    }

    #[test]
    fn a_reader_finds_all_old_or_all_new_files_at_every_step() {
        let directory = directory();
        assert_eq!(look(directory.path()), old());
        let mut seen = Vec::new();
        let removed = replace(directory.path(), &mut || seen.push(look(directory.path()))).unwrap();
        assert_eq!(removed, ["image.old"]);
        let turned = seen.iter().position(|files| *files == new()).unwrap();
        assert!(turned > 5, "{seen:?}");
        assert!(seen[..turned].iter().all(|files| *files == old()), "{seen:?}");
        assert!(seen[turned..].iter().all(|files| *files == new()), "{seen:?}");
        assert_eq!(look(directory.path()), new());
        is_settled(directory.path());
        nothing_foreign_is_lost(directory.path());
    }

    #[test]
    fn a_run_that_is_killed_at_any_step_leaves_old_or_new_and_the_next_one_cleans() {
        let mut steps = 0;
        replace(directory().path(), &mut || steps += 1).unwrap();
        assert!(steps > 10);
        for last in 1..=steps {
            let directory = directory();
            let mut count = 0;
            // Nothing is undone when this unwinds, as nothing is when a process is killed.
            let died = catch_unwind(AssertUnwindSafe(|| {
                replace(directory.path(), &mut || {
                    count += 1;
                    if count == last {
                        std::panic::resume_unwind(Box::new(()));
                    }
                })
            }));
            assert!(died.is_err());
            let left = look(directory.path());
            assert!(left == old() || left == new(), "step {last}: {left:?}");
            nothing_foreign_is_lost(directory.path());
            let mut seen = Vec::new();
            replace(directory.path(), &mut || seen.push(look(directory.path()))).unwrap();
            assert!(seen.iter().all(|files| *files == left || *files == new()), "step {last}: {seen:?}");
            assert_eq!(look(directory.path()), new(), "step {last}");
            is_settled(directory.path());
            nothing_foreign_is_lost(directory.path());
        }
    }

    #[test]
    fn what_cannot_be_replaced_leaves_everything_as_it_was() {
        let directory = directory();
        std::fs::create_dir(directory.path().join("image.index")).unwrap();
        let trouble = replace(directory.path(), &mut || {}).unwrap_err();
        assert_eq!(trouble.path, directory.path().join("image.index"));
        assert_eq!(look(directory.path()), old());
        assert!(!directory.path().join(ASIDE).exists());
        nothing_foreign_is_lost(directory.path());
    }

    #[test]
    fn files_are_led_by_a_second_name_where_exchanging_is_not_known() {
        let directory = directory();
        let swap = Swap::begin(directory.path(), &mut || {}).unwrap();
        symlink("old", swap.aside.join("current")).unwrap();
        let (path, old_place) = (directory.path().join("image"), swap.aside.join("old/image"));
        let target = format!("{ASIDE}/current/image");
        swap.lead_by_hard_link(&target, &path, &old_place, &mut || assert_eq!(look(directory.path()), old())).unwrap();
        assert!(path.is_symlink());
        swap.settle(&mut || {}).unwrap();
        assert!(!path.is_symlink());
        assert_eq!(look(directory.path()), old());
    }
}
