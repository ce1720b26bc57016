//! What the package managers' operations have in common. Runs inside.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use serde::{Deserialize, Serialize};

use super::berkeley;
use super::secrets::SECRETS;
use crate::digest::Sha256;
use crate::failure::start;
use crate::recipe::Accounts;
use crate::sandbox::CommandResult;
use crate::sandbox::helper::News;
use crate::store::{ScanAnswer, TreeEditor};

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

/// Files that differ from run to run or describe the build host, whatever the package manager; removed from each layer, with
/// those of the package manager and with the secrets that packages make (`secrets.txt`). One reason a line.
const NORMALISED: [&str; 5] = [
    "var/cache/ldconfig/aux-cache", // holds inode numbers and times of the build's file system
    "var/log/*.log",                // times of the build
    "var/log/*/*.log",              // the same, in a package's own directory
    "var/lib/certmonger/cas/*",     // named by the time of the build; certmonger makes them when it starts
    "var/lib/cfengine3/state/cf_*", // databases with process ids and times, which CFEngine makes where they are missing
];

/// Databases that packages make when they are installed, in Berkeley DB: postfix's and sendmail's names.
const BERKELEY: [&str; 2] = ["etc/aliases.db", "etc/mail/aliases.db"];

/// A name that each node must have of its own, and the program that makes it where the file asks for it (Debian's
/// open-iscsi: startup-checks.sh); elsewhere it is made where the file is missing.
const INITIATOR: &str = "etc/iscsi/initiatorname.iscsi";
const INITIATOR_MAKERS: [&str; 2] = ["usr/lib/open-iscsi/startup-checks.sh", "lib/open-iscsi/startup-checks.sh"];
const INITIATOR_ASKED: &[u8] = b"# The name is made at the first start.\nGenerateName=yes\n";

/// Puts a tree into the form in which it is hashed.
///
/// # Errors
/// A text that says what could not be changed.
pub fn normalise(tree: &str, own: &[&str]) -> Result<(), String> {
    let editor = TreeEditor::open(tree)?;
    let secrets = SECRETS.iter().map(|secret| &secret.pattern);
    for pattern in NORMALISED.iter().chain(secrets).chain(own) {
        editor.remove(pattern)?;
    }
    if editor.has_file(INITIATOR) {
        match INITIATOR_MAKERS.iter().any(|path| editor.has_file(path)) {
            true => editor.write(INITIATOR, INITIATOR_ASKED, 0o600)?,
            false => editor.remove(INITIATOR)?,
        }
    }
    for path in BERKELEY {
        berkeley::settle(&editor, path)?;
    }
    // Empty, not "uninitialized": that would mean first boot, and systemd-firstboot waits at the console (D34).
    if editor.has_file("etc/machine-id") {
        editor.write("etc/machine-id", b"", 0o444)?;
    }
    Ok(())
}

/// A word that no shell takes apart.
pub fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// Words for a shell.
pub fn quoted_words(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
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
        for number in 0..rayon::current_num_threads().clamp(1, packages.len().max(1)) {
            let (sender, next) = (sender.clone(), &next);
            let started = start(scope, move || {
                while let Some((digest, name)) = packages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let outcome = work(digest, name).map(|()| *digest);
                    let failed = outcome.is_err();
                    if sender.send(outcome).is_err() || failed {
                        break;
                    }
                }
            });
            match started {
                Ok(_) => {}
                Err(error) if number == 0 => return Err(error.to_string()),
                // Those that run do it.
                Err(_) => break,
            }
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
