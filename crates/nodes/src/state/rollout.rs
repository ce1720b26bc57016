//! A canary under way: a few nodes have the new build, the rest waits for their reports.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Assigned, State, StateError};

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    pub format_version: String,
    pub image: String,
    pub build: String,
    /// All nodes that are to have it, as a node set.
    pub nodes: String,
    pub moved: String,
    /// When they got it, in milliseconds since 1970: only later reports count.
    pub time: u64,
    /// What the moved ones had until then; none of a canary that an earlier imgbuild began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub before: Option<BTreeMap<String, Assigned>>,
}

const FILE: &str = "rollout.json";

impl State {
    /// The canary under way, if there is one.
    /// Errors: The file cannot be read.
    pub fn rollout(&self) -> Result<Option<Rollout>, StateError> {
        self.read(FILE)
    }

    /// Notes a canary, or that it is missing.
    /// Errors: The file cannot be written.
    pub fn set_rollout(&self, rollout: Option<&Rollout>) -> Result<(), StateError> {
        match rollout {
            Some(rollout) => self.write(FILE, rollout),
            None => {
                let path = self.directory().join(FILE);
                match std::fs::remove_file(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        Err(StateError::of("remove", &path)(error))
                    }
                    _ => Ok(()),
                }
            }
        }
    }
}
