//! A recipe's files as they were before a command changed them: they come back where what the change was for fails.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::shell::Shell;
use super::{Done, Ended};
use crate::plans::emit::quote::shell as quoted;
use recipe::recipe_file;
use sandbox::interrupt;
use site::osimage::STANZA_FILE;
use site::workspace::write_whole;

/// Exit code after Ctrl-C.
const INTERRUPTED: u8 = 130;

pub(super) struct Undo<'a> {
    shell: &'a Shell,
    directory: Option<PathBuf>,
    files: BTreeMap<PathBuf, (Vec<u8>, u32)>,
}

impl<'a> Undo<'a> {
    /// Keeps what the files of an image hold now. From now on Ctrl-C ends what this process started, and then this process: the
    /// files come back before.
    pub(super) fn of(shell: &'a Shell, image: &str) -> Self {
        interrupt::install();
        interrupt::wait_for_caller();
        let directory = shell.directory_of(image);
        let read = |path: PathBuf| {
            let mode = std::fs::metadata(&path).ok()?.permissions().mode();
            Some((path.clone(), (std::fs::read(&path).ok()?, mode & 0o7777)))
        };
        let files = directory.iter().flat_map(|directory| changed_by_commands(directory)).filter_map(read).collect();
        Self { shell, directory, files }
    }

    /// Passes a result on; before a failure the files become what they were, and it is printed how to keep the change anyway.
    pub(super) fn unless(&self, done: Done, image: &str, changes: &[String]) -> Done {
        let Err(Ended(code)) = done else { return Ok(()) };
        let code = if interrupt::came() { INTERRUPTED } else { code };
        match self.back() {
            Ok(false) => {}
            Ok(true) if changes.is_empty() => self.shell.say(&format!("the recipe of {image} is unchanged")),
            Ok(true) => {
                let changes: Vec<String> = changes.iter().map(|change| quoted(change)).collect();
                self.shell.say(&format!(
                    "the recipe of {image} is unchanged; to change it anyway: imgbuild -C {} set {image} {}",
                    self.shell.workspace.display(),
                    changes.join(" ")
                ));
            }
            Err(problem) => {
                let _ = self.shell.fail(&problem);
            }
        }
        Err(Ended(code))
    }

    /// Makes the files what they were; whether any was changed.
    fn back(&self) -> Result<bool, String> {
        let mut is_changed = false;
        for (path, (bytes, mode)) in &self.files {
            if std::fs::read(path).is_ok_and(|now| now == *bytes) {
                continue;
            }
            is_changed = true;
            write_whole(path, bytes)
                .and_then(|()| std::fs::set_permissions(path, PermissionsExt::from_mode(*mode)))
                .map_err(|error| format!("cannot restore `{}`: {error}", path.display()))?;
        }
        let new = self.directory.iter().flat_map(|directory| changed_by_commands(directory));
        for path in new.filter(|path| !self.files.contains_key(path)) {
            is_changed = true;
            std::fs::remove_file(&path).map_err(|error| format!("`{}` cannot be removed: {error}", path.display()))?;
        }
        Ok(is_changed)
    }
}

/// Files of a recipe's directory that imgbuild's commands write: the recipe, its locks, xCAT's definition.
fn changed_by_commands(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let recipe = recipe_file(directory);
    let is_lock = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("image.") && name.ends_with(".lock")
    };
    let is_one = |path: &PathBuf| *path == recipe || path.ends_with(STANZA_FILE) || is_lock(path);
    entries.filter(|path| path.is_file() && is_one(path)).collect()
}
