//! What is kept of rolls (the crate `roll` has the form), and who may roll: one at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::time::SystemTime;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::{State, StateError};

const FILE: &str = "roll.json";
const LOCK: &str = ".roll.lock";

/// What of a roll is shown: the part of its form that says how far it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RollShown {
    /// The build that nodes get.
    pub target: RollTarget,
    /// How far each node is.
    pub nodes: BTreeMap<String, RollNode>,
}

/// A build of an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RollTarget {
    /// The image.
    pub image: String,
    /// Name of the build.
    pub build: String,
}

/// A node of a roll.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct RollNode {
    /// The roll's word for how far it is.
    pub stage: String,
    /// Its last problem, or why it was left alone.
    #[serde(default)]
    pub problem: Option<String>,
}

#[derive(Deserialize)]
struct Shown {
    #[serde(default)]
    roll: Option<RollShown>,
}

impl State {
    /// The roll under way, if there is one whose file can be read.
    pub fn roll_shown(&self) -> Option<RollShown> {
        self.read::<Shown>(FILE).ok()??.roll
    }

    /// When the file of rolls was written last.
    pub fn roll_written(&self) -> Option<SystemTime> {
        std::fs::metadata(self.directory().join(FILE)).and_then(|found| found.modified()).ok()
    }

    /// What is kept of rolls.
    /// Errors: The file cannot be read, is damaged, or a later imgbuild's.
    pub fn roll<T: DeserializeOwned>(&self) -> Result<Option<T>, StateError> {
        self.read(FILE)
    }

    /// Keeps it in the place of what was kept before, also if the power is cut.
    /// Errors: It cannot be written; what was kept before is there then.
    pub fn set_roll<T: Serialize>(&self, record: &T) -> Result<(), StateError> {
        self.write(FILE, record)
    }

    /// Takes the turn of those who roll, until the file is dropped; none if another process has it.
    /// Errors: The directory cannot be made or locked.
    pub fn roll_turn(&self) -> Result<Option<File>, StateError> {
        self.make()?;
        let path = self.directory().join(LOCK);
        let file = self.shared().and_then(|shared| shared.lock_file(LOCK));
        let file = file.map_err(StateError::of("open", &path))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(file)),
            Err(std::fs::TryLockError::WouldBlock) => Ok(None),
            Err(std::fs::TryLockError::Error(error)) => Err(StateError::of("lock", &path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_process_rolls_and_what_it_keeps_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::at(directory.path().join("state"));
        assert_eq!(state.roll::<Vec<u32>>().unwrap(), None);
        let turn = state.roll_turn().unwrap().unwrap();
        assert!(state.roll_turn().unwrap().is_none());
        drop(turn);
        assert!(state.roll_turn().unwrap().is_some());
        state.set_roll(&vec![1, 2]).unwrap();
        assert_eq!(state.roll::<Vec<u32>>().unwrap(), Some(vec![1, 2]));
        std::fs::write(directory.path().join("state/roll.json"), "{").unwrap();
        assert!(matches!(state.roll::<Vec<u32>>(), Err(StateError::Damaged { .. })));
    }
}
