//! What jobs are to do and what they did, as files that compute nodes and the machine that submits share.

use files::shared::Shared;
use files::{self, Durability};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub const VERSION: u32 = 1;
/// Longest file that is read, in bytes.
const LIMIT: u64 = 256 << 20;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    pub version: u32,
    /// The workspace's directory where the order comes from.
    pub root: PathBuf,
    /// The directory in which the command runs, below the workspace's.
    pub start: PathBuf,
    pub words: Vec<String>,
    /// Variables with the files of imgbuild-init, below the round's directory.
    pub init: BTreeMap<String, PathBuf>,
    /// Where a node keeps its store; none for below its temporary directory.
    pub store: Option<PathBuf>,
    pub steps: Vec<OrderedStep>,
    /// The steps of each submission, by the numbers of their tasks.
    pub submissions: Vec<BTreeMap<usize, usize>>,
    /// User, group and mode of what has others where the order comes from, below the round's directory.
    #[serde(default)]
    pub owners: BTreeMap<PathBuf, (u32, u32, u32)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderedStep {
    pub actions: Vec<String>,
    pub packages: Vec<String>,
    pub cpus: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Began {
    /// The job's id, with the task's of an array.
    pub job: String,
    pub node: String,
    /// How often Slurm ran it before.
    pub restarts: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Ended {
    pub began: Began,
    /// The exit code of imgbuild there.
    pub code: u8,
    pub said: String,
    /// What ran, as the history has it.
    pub runs: serde_json::Value,
    /// What the lock is to say before the step can be done.
    pub fix: Option<Fix>,
    /// What a failed command printed: the name of its log, where that lay, and its end.
    pub log: Option<(String, String, String)>,
}

/// What a lock is to say, which only running the packages showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fix {
    /// Accounts keep the ids that they have in the lock.
    Accounts(Vec<String>),
    /// Scripts of a transaction ask for the kernel's release.
    AsksRelease(String),
}

pub fn step_directory(round: &Path, step: usize) -> PathBuf {
    round.join("steps").join(step.to_string())
}

/// Name of the file that says where a step began.
pub const BEGAN: &str = "began";
/// Name of the file that says how it ended.
pub const ENDED: &str = "ended";
pub const ORDER: &str = "order.json";

pub fn write(path: &Path, value: &impl Serialize) -> Result<(), String> {
    let said = |error: &dyn std::fmt::Display| format!("`{}` cannot be written: {error}", path.display());
    let bytes = serde_json::to_vec(value).map_err(|error| said(&error))?;
    files::replace(path, &bytes, 0o600, Durability::PowerCut).map_err(|error| said(&error))
}

/// Reads a file; none where it is not there, or not whole.
pub fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    // A listing that is asked for makes NFS look again for names that it remembers as missing.
    let folder = path.parent()?;
    let name = path.file_name()?.to_str()?;
    std::fs::read_dir(folder).ok()?.flatten().find(|entry| entry.file_name() == name)?;
    let bytes = Shared::open(folder).ok()?.read(name, LIMIT).ok()??;
    serde_json::from_slice(&bytes).ok()
}

/// A word of a POSIX shell.
pub fn shell(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again_and_halves_are_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(BEGAN);
        assert_eq!(read::<Began>(&path), None);
        let began = Began { job: "12_1".to_owned(), node: "cn1".to_owned(), restarts: 2 };
        write(&path, &began).unwrap();
        assert_eq!(read(&path), Some(began));
        std::fs::write(&path, "{\"job\":").unwrap();
        assert_eq!(read::<Began>(&path), None);
        // What leads elsewhere is not read, and a pipe is not waited for.
        std::fs::rename(&path, directory.path().join("other")).unwrap();
        std::os::unix::fs::symlink("other", &path).unwrap();
        assert_eq!(read::<serde_json::Value>(&path), None);
        std::fs::remove_file(&path).unwrap();
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, &path, kind, mode, 0).unwrap();
        assert_eq!(read::<serde_json::Value>(&path), None);
    }
}
