//! What the package managers' operations have in common. Runs inside.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use serde::{Deserialize, Serialize};

use crate::digest::Sha256;
use crate::recipe::Accounts;
use crate::sandbox::CommandResult;
use crate::sandbox::helper::News;
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

/// Does something to each of some packages (digest, and name for messages) with all threads, in the order given; tells the
/// digest of each that is done, and gives their number.
///
/// # Errors
/// The first that comes.
pub fn side_by_side(
    packages: &[(Sha256, String)],
    news: News<'_>,
    work: &(dyn Fn(&Sha256, &str) -> Result<(), String> + Sync),
) -> Result<usize, String> {
    let next = AtomicUsize::new(0);
    let (sender, results) = channel();
    std::thread::scope(|scope| {
        for _ in 0..rayon::current_num_threads().clamp(1, packages.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            scope.spawn(move || {
                while let Some((digest, name)) = packages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = work(digest, name).map(|()| *digest);
                    let failed = outcome.is_err();
                    if sender.send(outcome).is_err() || failed {
                        break;
                    }
                }
            });
        }
        drop(sender);
        let mut count = 0;
        for outcome in results {
            news(&outcome?.to_string());
            count += 1;
        }
        Ok(count)
    })
}
