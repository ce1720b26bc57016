//! Small files of the state, one a node in a folder a kind.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{State, StateError};
use crate::file::is_node_name;
use files::Durability;

pub(super) const REPORTS: &str = "reports";
pub(super) const SCRIPTS: &str = "scripts";
pub(super) const ASKED: &str = "asked";
pub(super) const KEYS: &str = "keys";
pub(super) const SYNCED: &str = "synced";
const KINDS: [&str; 5] = [REPORTS, SCRIPTS, ASKED, KEYS, SYNCED];

/// Longest file that is read: what is kept of a node is bounded.
const LONGEST: u64 = 1 << 20;

/// The file of a node, below the state; nothing for a name that no node can have.
fn file(kind: &str, node: &str) -> Option<String> {
    is_node_name(node).then(|| format!("{kind}/{node}.json"))
}

impl State {
    /// Keeps something of a node in the place of what was there, by one rename: anyone who reads has one of the two.
    /// Errors: It cannot be written; what was there stays then. No node can have such a name.
    pub(super) fn keep<T: Serialize>(&self, kind: &str, node: &str, value: &T, mode: u32) -> Result<(), StateError> {
        self.keep_after((kind, node), value, mode, &mut || Ok(()))
    }

    /// The same; what goes with it is changed when the file is written, and not yet in its place.
    /// Errors: Also those of that change.
    pub(super) fn keep_after<T: Serialize>(
        &self,
        (kind, node): (&str, &str),
        value: &T,
        mode: u32,
        change: &mut dyn FnMut() -> Result<(), StateError>,
    ) -> Result<(), StateError> {
        let Some(name) = file(kind, node) else {
            let problem = "cannot be a report: no node can have this name".to_owned();
            return Err(StateError::Damaged { path: self.directory().join(kind).join("?"), problem });
        };
        let mut text = serde_json::to_vec(value).unwrap_or_default();
        text.push(b'\n');
        // The next one comes in seconds: none is worth a wait for the disk.
        self.replace_after(&name, (&text, mode), Durability::Kill, change)
    }

    /// What is kept of a node, if it can be read.
    pub(super) fn kept<T: DeserializeOwned>(&self, kind: &str, node: &str) -> Option<T> {
        serde_json::from_slice(&self.read_bytes(&file(kind, node)?, LONGEST).ok()??).ok()
    }

    /// The same of all nodes that have it.
    pub(super) fn all_kept<T: DeserializeOwned>(&self, kind: &str) -> BTreeMap<String, T> {
        self.names_of(kind).into_iter().filter_map(|name| self.kept(kind, &name).map(|one| (name, one))).collect()
    }

    fn names_of(&self, kind: &str) -> Vec<String> {
        self.try_names_of(kind).unwrap_or_default()
    }

    fn try_names_of(&self, kind: &str) -> std::io::Result<Vec<String>> {
        let entries = self.shared()?.list(kind)?;
        let names = entries.iter().filter_map(|entry| entry.name.strip_suffix(".json"));
        Ok(names.filter(|name| is_node_name(name)).map(str::to_owned).collect())
    }

    /// All nodes of which something is kept.
    /// Errors: The state is not there, or a folder of it cannot be read: then nothing says that a node is not among them.
    pub fn try_kept_names(&self) -> std::io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for kind in KINDS {
            names.extend(self.try_names_of(kind)?);
        }
        Ok(names)
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
        if let (Some(name), Ok(shared)) = (file(kind, node), self.shared()) {
            let _ = shared.remove(&name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_cannot_be_read_is_not_taken_for_nothing() {
        let place = tempfile::tempdir().unwrap();
        let state = State::at(place.path().join("state"));
        assert!(state.try_kept_names().is_err(), "there is no state");
        std::fs::create_dir_all(place.path().join("state/reports")).unwrap();
        assert!(state.try_kept_names().unwrap().is_empty());
        std::fs::write(place.path().join("state/reports/cn1.json"), "1").unwrap();
        assert_eq!(state.try_kept_names().unwrap().into_iter().collect::<Vec<_>>(), ["cn1"]);
        std::fs::remove_dir_all(place.path().join("state/reports")).unwrap();
        std::fs::write(place.path().join("state/reports"), "").unwrap();
        assert!(state.try_kept_names().is_err(), "a file in the place of the folder");
    }

    #[test]
    fn what_the_owner_of_the_state_links_to_is_neither_read_nor_written_nor_removed() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let state = State::at(at("state"));
        std::fs::create_dir_all(at("other")).unwrap();
        std::fs::create_dir_all(at("state/reports")).unwrap();
        for name in ["other/cn1.json", "other/secret"] {
            std::fs::write(at(name), "[1]").unwrap();
        }
        for kind in [SCRIPTS, ASKED, KEYS, SYNCED] {
            symlink(at("other"), at("state").join(kind)).unwrap();
        }
        symlink(at("other/cn1.json"), at("state/reports/cn1.json")).unwrap();
        for kind in KINDS {
            assert!(state.kept::<Vec<u8>>(kind, "cn1").is_none(), "{kind}");
        }
        assert_eq!(state.kept_names().into_iter().collect::<Vec<_>>(), ["cn1"]);
        for kind in [SCRIPTS, ASKED, KEYS, SYNCED] {
            let error = state.keep(kind, "cn1", &vec![2], 0o644).unwrap_err();
            assert!(matches!(error, StateError::Damaged { .. }), "{error}");
        }
        state.forget_all("cn1");
        assert_eq!(std::fs::read_to_string(at("other/cn1.json")).unwrap(), "[1]");
        assert!(at("state/reports/cn1.json").symlink_metadata().is_err());
        // So are those that are not of one node; a pipe is not waited for.
        symlink(at("other/cn1.json"), at("state/assigned.json")).unwrap();
        assert!(matches!(state.assignments(), Err(StateError::Damaged { .. })));
        symlink(at("other/secret"), at("state/secret")).unwrap();
        assert!(state.tokens().is_err());
        let kind = rustix::fs::FileType::Fifo;
        for name in ["reports/cn2.json", "rollout.json"] {
            rustix::fs::mknodat(rustix::fs::CWD, at("state").join(name), kind, rustix::fs::Mode::RWXU, 0).unwrap();
        }
        assert!(state.kept::<Vec<u8>>(REPORTS, "cn2").is_none() && state.rollout().is_err());
        std::fs::remove_file(at("state/secret")).unwrap();
        symlink(at("other/secret"), at("state/.lock")).unwrap();
        assert!(state.turn().is_err() && state.tokens().is_err());
        assert_eq!(std::fs::read_to_string(at("other/secret")).unwrap(), "[1]");
    }
}
