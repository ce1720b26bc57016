//! A recipe's sync lists, its packages and its scripts, brought to running nodes by ssh (xCAT: `updatenode -F`, `-S`, `-P`).
//!
//! One connection for each node: a small script for its shell, questions about the destinations, and a tar stream of what differs. What is
//! to be on a node is known before the first connection; what a node answers is believed of that node alone.

mod command;
mod connection;
mod fan;
mod node;
mod order;
mod packages;
mod stream;
#[cfg(test)]
mod tests;
mod wanted;
mod words;

pub use command::{Said, each};
pub use fan::{News, Reached, Settings, run};
pub use node::Mode;
pub use order::{Order, orders};
pub use packages::Packages;
pub use wanted::{Job, refused, wanted};

use schemars::JsonSchema;
use serde::Serialize;

/// What is otherwise on a node, or was.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It does not exist.
    Missing,
    /// Another content.
    Content,
    /// Another mode.
    Mode,
    /// Another owner or group.
    Owner,
    /// A link that leads nowhere.
    Link,
    /// Lines to append.
    Append,
    /// Lines to merge.
    Merge,
    /// A script that an earlier sync did not finish.
    Script,
    /// A package of the lock that is not installed.
    Package,
    /// A package of another version than that of the lock.
    Version,
    /// A package of the kernel: only a boot changes it.
    Kernel,
    /// A package that the lock no longer has: only a boot removes it.
    Removed,
}

/// A path of a node that differs.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Change {
    /// The path on the node; for a script its name here, for a package its name and version.
    pub path: String,
    /// What differs.
    pub what: Vec<What>,
    /// The line that asks for it: file, line and column.
    pub line: String,
}

/// A script that ran on a node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, JsonSchema)]
pub struct Executed {
    /// Its name here.
    pub name: String,
    /// Its exit status; 128 and the signal's number if one ended it.
    pub exit: i32,
    /// How it ended in words, where the exit status does not tell it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The last 4 KiB that it printed.
    pub output: String,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Answer {
    pub changes: Vec<Change>,
    pub scripts: Vec<Executed>,
    pub problem: Option<String>,
}

/// Bytes of a path, or of how a script ended, that every node may say for each line of a list.
const OF_A_LINE: usize = 256;

impl Answer {
    /// Bytes that the node said beyond what an answer to its job has.
    fn surplus(&self) -> u64 {
        let paths = self.changes.iter().map(|change| match change.what.contains(&What::Removed) {
            true => OF_A_LINE + change.path.len(),
            false => change.path.len().saturating_sub(OF_A_LINE),
        });
        let reasons = self.scripts.iter().filter_map(|one| one.reason.as_ref());
        let reasons = reasons.map(|reason| reason.len().saturating_sub(OF_A_LINE));
        paths.chain(reasons).map(|bytes| bytes as u64).sum()
    }
}
