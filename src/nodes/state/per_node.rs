//! Small files of the state, one a node in a folder a kind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::owner::as_directory;
use super::{State, StateError, aside};
use crate::files::{Aside, Durability};
use crate::nodes::file::is_node_name;

pub(super) const REPORTS: &str = "reports";
pub(super) const SCRIPTS: &str = "scripts";
pub(super) const ASKED: &str = "asked";
pub(super) const KEYS: &str = "keys";
const KINDS: [&str; 4] = [REPORTS, SCRIPTS, ASKED, KEYS];

/// Longest file that is read: what is kept of a node is bounded.
const LONGEST: u64 = 1 << 20;

/// What is to be kept of a node, written beside its place; dropped, it goes.
#[derive(Debug)]
pub struct Beside {
    file: Aside,
    path: PathBuf,
}

impl Beside {
    /// Keeps it in the place of what was there, by one rename.
    /// Errors: It cannot be renamed; what was there stays then.
    pub fn place(self) -> Result<(), StateError> {
        // The next one comes in seconds: none is worth a wait for the disk.
        self.file.replace(Durability::Kill).map_err(StateError::of("write", &self.path))
    }
}

impl State {
    fn folder(&self, kind: &str) -> PathBuf {
        self.directory().join(kind)
    }

    /// Keeps something of a node in the place of what was there, by one rename: anyone who reads has one of the two.
    /// Errors: It cannot be written; what was there stays then. No node can have such a name.
    pub(super) fn keep<T: Serialize>(&self, kind: &str, node: &str, value: &T, mode: u32) -> Result<(), StateError> {
        self.aside(kind, node, value, mode)?.place()
    }

    /// The same, written beside its place: what was there stays until [`Beside::place`].
    pub(super) fn aside<T: Serialize>(
        &self,
        kind: &str,
        node: &str,
        value: &T,
        mode: u32,
    ) -> Result<Beside, StateError> {
        let directory = self.folder(kind);
        if !is_node_name(node) {
            let problem = "cannot be a report: no node can have this name".to_owned();
            return Err(StateError::Damaged { path: directory.join("?"), problem });
        }
        if !directory.is_dir() {
            self.make()?;
            let made = std::fs::create_dir_all(&directory).and_then(|()| File::open(&directory));
            let given = made.and_then(|made| as_directory(&made, self.directory()));
            given.map_err(StateError::of("make", &directory))?;
        }
        let mut text = serde_json::to_vec(value).unwrap_or_default();
        text.push(b'\n');
        let name = format!("{node}.json");
        Ok(Beside { file: aside(&directory, &name, &text, mode)?, path: directory.join(name) })
    }

    /// What is kept of a node, if it can be read.
    pub(super) fn kept<T: DeserializeOwned>(&self, kind: &str, node: &str) -> Option<T> {
        let path = self.folder(kind).join(format!("{node}.json"));
        if !is_node_name(node) || std::fs::metadata(&path).ok()?.len() > LONGEST {
            return None;
        }
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    }

    /// The same of all nodes that have it.
    pub(super) fn all_kept<T: DeserializeOwned>(&self, kind: &str) -> BTreeMap<String, T> {
        self.names_of(kind).into_iter().filter_map(|name| self.kept(kind, &name).map(|one| (name, one))).collect()
    }

    fn names_of(&self, kind: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.folder(kind)).into_iter().flatten().flatten();
        let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
        names
            .filter_map(|name| name.strip_suffix(".json").filter(|name| is_node_name(name)).map(str::to_owned))
            .collect()
    }

    /// All nodes of which something is kept.
    pub fn kept_names(&self) -> BTreeSet<String> {
        KINDS.into_iter().flat_map(|kind| self.names_of(kind)).collect()
    }

    /// Forgets all that was kept of a node.
    pub fn forget_all(&self, node: &str) {
        KINDS.into_iter().for_each(|kind| self.forget_kept(kind, node));
    }

    pub(super) fn forget_kept(&self, kind: &str, node: &str) {
        if is_node_name(node) {
            let _ = std::fs::remove_file(self.folder(kind).join(format!("{node}.json")));
        }
    }
}
