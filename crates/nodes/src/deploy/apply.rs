//! A new generation: written aside, then taken by turning one link.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::own::{self, Own, lead};
use super::{CURRENT, HOME, INDEX, Index, Served, is_ours, kind, place, target};
use crate::loaders::NodeFiles;
use crate::state::{STATE_FORMAT, StateError};
use files::Folders;
use files::beside::{self, Beside};

/// A generation that is written and does not count yet; dropped, it goes.
#[derive(Debug)]
pub struct Pending<'a> {
    served: &'a Served,
    name: String,
    index: Index,
    made: Vec<PathBuf>,
    /// The generation that counts; one of no nodes where there was none before.
    base: Option<String>,
    folders: Folders,
    is_taken: bool,
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        let (out, home) = (&self.served.out, self.served.out.join(HOME));
        if self.is_taken {
            std::mem::take(&mut self.folders).keep();
            return;
        }
        own::give_back(out, &home.join(&self.name));
        self.made.iter().for_each(|link| drop(std::fs::remove_file(link)));
        let _ = std::fs::remove_dir_all(home.join(&self.name));
        if let Some(base) = &self.base {
            let _ = own::settle(out, &home.join(base));
            if self.served.current.is_none() {
                let _ = std::fs::remove_file(home.join(CURRENT));
                let _ = std::fs::remove_dir_all(home.join(base));
            }
        }
    }
}

impl Served {
    /// Writes a generation in which nodes have these files, and all others what they have. Nothing that a node sees changes.
    /// Errors: It cannot be written; nothing of it is left then.
    pub fn write(&self, wanted: &BTreeMap<String, NodeFiles>) -> Result<Pending<'_>, StateError> {
        let home = self.out.join(HOME);
        let mut folders = Folders::default();
        folders.also(&self.out).map_err(StateError::of("make", &self.out))?;
        // What killed runs left in it is removed: never what another user's link leads to.
        Beside::make(&home).map_err(StateError::of("use", &home))?;
        self.tidy();
        let mut index = Index { format_version: STATE_FORMAT.to_string(), nodes: self.index.nodes.clone() };
        for (node, files) in wanted {
            match files.paths.is_empty() {
                true => drop(index.nodes.remove(node)),
                false => drop(index.nodes.insert(node.clone(), files.paths.clone())),
            }
        }
        let number = self.current.as_deref().and_then(|name| name.parse::<u64>().ok()).unwrap_or(0);
        let name = (number + 1).to_string();
        let generation = home.join(&name);
        let base = self.current.clone();
        let pending = Pending { served: self, name, index, made: Vec::new(), base, folders, is_taken: false };
        for folder in [generation.clone(), generation.join("plain"), generation.join("uefi")] {
            std::fs::create_dir(&folder).map_err(StateError::of("make", &folder))?;
        }
        let old = self.current.as_ref().map(|name| home.join(name));
        let nodes: Vec<(&String, &Vec<String>)> = pending.index.nodes.iter().collect();
        nodes.par_iter().try_for_each(|(node, paths)| {
            for kind in ["plain", "uefi"].into_iter().filter(|one| paths.iter().any(|path| kind(path) == *one)) {
                let path = generation.join(place(node, kind));
                let text = wanted.get(*node).and_then(|files| match kind {
                    "uefi" => files.uefi.as_ref(),
                    _ => Some(&files.plain),
                });
                match (text, &old) {
                    (Some(text), _) => std::fs::write(&path, text),
                    // What does not change is the same file.
                    (None, Some(old)) => std::fs::hard_link(old.join(place(node, kind)), &path),
                    (None, None) => Ok(()),
                }
                .map_err(StateError::of("write", &path))?;
            }
            Ok::<(), StateError>(())
        })?;
        let path = generation.join(INDEX);
        let text = serde_json::to_vec(&pending.index).unwrap_or_default();
        std::fs::write(&path, text).map_err(StateError::of("write", &path))?;
        fault::point("nodeset.written");
        Ok(pending)
    }

    /// Removes what killed runs left: generations that do not count, and links that lead nowhere.
    pub fn tidy(&self) {
        let home = self.out.join(HOME);
        if Beside::open(&home).is_err() {
            return;
        }
        for entry in std::fs::read_dir(&home).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name == CURRENT || Some(&name) == self.current.as_ref() {
                continue;
            }
            let path = entry.path();
            own::give_back(&self.out, &path);
            if let Ok(index) = std::fs::read(path.join(INDEX)).map(|bytes| serde_json::from_slice::<Index>(&bytes)) {
                let ours = self.index.paths();
                let index = index.unwrap_or_default();
                for link in index
                    .paths()
                    .into_iter()
                    .filter(|path| !ours.contains(path) && !fault::planted("nodeset-leftover-links"))
                {
                    remove_link(&self.out.join(link));
                }
            }
            let removed = if path.is_dir() { std::fs::remove_dir_all(&path) } else { std::fs::remove_file(&path) };
            let _ = removed;
        }
        if let Some(current) = &self.current {
            let _ = own::settle(&self.out, &home.join(current));
        }
    }
}

/// Removes a name that is ours.
fn remove_link(link: &Path) {
    if fault::planted("nodeset-removes-others") || std::fs::read_link(link).is_ok_and(|to| is_ours(&to)) {
        let _ = std::fs::remove_file(link);
    }
}

impl Pending<'_> {
    /// The link that is turned, and what it leads to then: anyone who finds it so knows that the generation counts.
    pub fn turn(&self) -> (PathBuf, String) {
        (self.served.out.join(HOME).join(CURRENT), self.name.clone())
    }

    /// Makes the names that are missing. They lead nowhere until the generation counts, as if they were not there. With
    /// `force`, what is in their place stays as NAME.ORIG.
    /// Errors: One cannot be made.
    pub fn link(&mut self, force: bool) -> Result<(), StateError> {
        let out = &self.served.out;
        let before = self.served.index.paths();
        let mut folder_made = PathBuf::new();
        let mut own = Vec::new();
        for (node, paths) in &self.index.nodes {
            for path in paths {
                let (link, to) = (out.join(path), target(path, node));
                match std::fs::read_link(&link) {
                    Ok(is) if is == to => continue,
                    // Another node's before: it is turned with the rest, below.
                    Ok(is) if is_ours(&is) && before.contains(path.as_str()) => continue,
                    Ok(is) if is_ours(&is) => drop(std::fs::remove_file(&link)),
                    _ if force && link.symlink_metadata().is_ok() => {
                        beside::check_owners(out, &link).map_err(StateError::of("keep", &link))?;
                        own.push(Own::of(out, path, node)?);
                        continue;
                    }
                    _ => {}
                }
                let folder = link.parent().unwrap_or(out);
                if folder != folder_made {
                    beside::check_owners(out, &link).map_err(StateError::of("make", folder))?;
                    self.folders.also(folder).map_err(StateError::of("make", folder))?;
                    folder_made = folder.to_owned();
                }
                std::os::unix::fs::symlink(&to, &link).map_err(StateError::of("create the link", &link))?;
                self.made.push(link);
            }
        }
        if !own.is_empty() {
            let base = own::base(self.served)?;
            self.base = Some(base.clone());
            own::take(self.served, &base, &self.name, &own)?;
        }
        let file = File::open(out).map_err(StateError::of("open", out))?;
        rustix::fs::syncfs(&file).map_err(|error| StateError::of("sync", out)(error.into()))?;
        fault::point("nodeset.linked");
        Ok(())
    }

    /// Makes the generation count, by one rename.
    /// Errors: The link cannot be turned; the old one counts then.
    pub fn take(mut self) -> Result<(), StateError> {
        let (link, name) = self.turn();
        lead(&self.served.out, &link, Path::new(&name))?;
        self.is_taken = true;
        fault::point("nodeset.turned");
        let home = self.served.out.join(HOME);
        if let Ok(folder) = File::open(&home) {
            let _ = folder.sync_all();
        }
        // Names that moved from one node to another, and those that no one has now.
        for (node, paths) in &self.index.nodes {
            for path in paths {
                let (link, to) = (self.served.out.join(path), target(path, node));
                if std::fs::read_link(&link).is_ok_and(|is| is != to && is_ours(&is)) {
                    lead(&self.served.out, &link, &to)?;
                }
            }
        }
        let now = self.index.paths();
        for path in self.served.index.paths().into_iter().filter(|path| !now.contains(path)) {
            remove_link(&self.served.out.join(path));
        }
        own::settle(&self.served.out, &home.join(&self.name))?;
        if let Some(old) = &self.base {
            let _ = std::fs::remove_dir_all(home.join(old));
        }
        Ok(())
    }
}
