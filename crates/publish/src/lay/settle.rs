//! The change itself: names get their new files, one after the other.

use super::record::Record;
use super::{Place, to};
use crate::Error;
use files::shared::Named;

impl Place<'_> {
    /// Completes the publication that was decided, by this run or by one that was killed; whether there was one.
    /// Errors: Those of the operating system; the next publication completes it then.
    pub(super) fn settle(&self) -> Result<bool, Error> {
        let Some(next) = self.read(".next.json")? else { return Ok(false) };
        for folder in ["/new", "/previous"] {
            let name = self.state(folder);
            self.shared.make_folder(&name, 0o755).map_err(to("create the directory", self.path(&name)))?;
        }
        for (number, entry) in next.files.iter().enumerate() {
            let new = self.state(&format!("/new/{number}"));
            // It has its name already, or is the one that was there.
            if self.shared.named(&new).map_err(to("read", self.path(&new)))? != Named::File {
                continue;
            }
            self.keep(&entry.path, number)?;
            if let Some((folder, _)) = entry.path.rsplit_once('/') {
                let done = self.shared.make_folder(folder, 0o755);
                done.map_err(to("create the directory", self.path(folder)))?;
            }
            self.shared.rename(&new, &entry.path).map_err(to("replace", self.path(&entry.path)))?;
            fault::point("publish.kinds.changing");
        }
        for (number, path) in next.remove.iter().enumerate() {
            self.keep(path, next.files.len() + number)?;
            self.shared.remove(path).map_err(to("remove", self.path(path)))?;
            self.remove_folders(path);
        }
        let mut folders: Vec<&str> = next.files.iter().map(|entry| folder_of(&entry.path)).collect();
        folders.extend(next.remove.iter().map(|path| folder_of(path)));
        folders.sort_unstable();
        folders.dedup();
        for folder in folders {
            self.shared.flush(folder).map_err(to("sync", self.path(folder)))?;
        }
        self.write(".json", &Record { remove: Vec::new(), ..next })?;
        fault::point("publish.kinds.recorded");
        let name = self.state(".next.json");
        self.shared.remove(&name).map_err(to("remove", self.path(&name)))?;
        Ok(true)
    }

    /// Gives what is replaced a second name.
    fn keep(&self, path: &str, number: usize) -> Result<(), Error> {
        let there = self.shared.named(path).map_err(to("read", self.path(path)))?;
        if !matches!(there, Named::File | Named::Other) {
            return Ok(());
        }
        let last = path.rsplit('/').next().unwrap_or(path);
        let kept = self.state(&format!("/previous/{number}-{last}"));
        self.shared.link(path, &kept).map_err(to("keep", self.path(path)))
    }

    /// Removes all files of a folder of the state.
    pub(super) fn clear(&self, folder: &str) -> Result<(), Error> {
        let name = self.state(folder);
        for entry in self.shared.list(&name).map_err(to("read", self.path(&name)))? {
            let one = format!("{name}/{}", entry.name);
            self.shared.remove(&one).map_err(to("remove", self.path(&one)))?;
        }
        Ok(())
    }

    /// Removes folders that a removed file was the last one of. One that cannot be removed stays.
    fn remove_folders(&self, path: &str) {
        let mut folder = folder_of(path);
        while !folder.is_empty() && self.shared.remove_empty_folder(folder).unwrap_or(false) {
            folder = folder_of(folder);
        }
    }
}

fn folder_of(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(folder, _)| folder)
}
