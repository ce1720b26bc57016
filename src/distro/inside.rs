//! What the package managers' operations have in common. Runs inside.

use serde::{Deserialize, Serialize};

use crate::recipe::Accounts;
use crate::sandbox::CommandResult;
use crate::store::ScanAnswer;

/// What came of it: a layer, or how the command failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Made {
    /// A committed layer, and the users and groups that came with it.
    Layer(ScanAnswer, Accounts),
    /// The package manager failed.
    Failed(CommandResult),
}

/// Environment of package managers and their scripts: nothing of the host's (D3).
pub fn environment(epoch: i64) -> Vec<(String, String)> {
    [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("LC_ALL", "C.UTF-8"),
        ("TZ", "UTC"),
        ("TERM", "dumb"),
        ("SOURCE_DATE_EPOCH", &epoch.to_string()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Writes a file of a scratch directory.
///
/// # Errors
/// A text with its name.
pub fn write(path: &str, text: &str) -> Result<(), String> {
    std::fs::write(path, text).map_err(|error| format!("cannot write {path}: {error}"))
}

/// A word that no shell takes apart.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
