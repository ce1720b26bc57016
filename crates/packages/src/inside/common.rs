//! Helpers of in-sandbox operations: environment, quoting, normalising, parallel work. Runs inside.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;

use serde::{Deserialize, Serialize};

use super::berkeley;
use super::secrets::{SECRETS, settle_ids};
use super::uname::Uname;
use base::digest::{Digest, Sha256};
use base::failure::start;
use recipe::Accounts;
use sandbox::helper::News;
use sandbox::{CommandResult, TreeMount};
use store::{ScanAnswer, TreeEditor, lower_directories, make_directories, root_of};

/// What came of a transaction: a layer, or how the command failed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Made {
    /// A committed layer, and the users and groups that came with it.
    Layer(ScanAnswer, Accounts),
    Failed(CommandResult),
    /// Scripts asked for the kernel's release, which is not known.
    AsksRelease,
    /// The database does not have afterwards what the lock says: what it lacks, and what it has more.
    Otherwise {
        lacks: Vec<String>,
        has: Vec<String>,
    },
}

/// A package of a transaction.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PackageFile {
    /// Path relative to the store's directory.
    pub file: String,
    pub name: String,
    /// What its package manager has to find it as.
    pub called: String,
}

/// Gives packages the names that their package manager wants, in a directory below the scratch directory; gives its path.
pub(crate) fn call_packages<'a>(
    scratch: &str,
    packages: impl IntoIterator<Item = &'a PackageFile>,
) -> Result<String, String> {
    let directory = format!("{scratch}/packages");
    make_directories(&directory, &[""])?;
    for package in packages {
        std::fs::hard_link(&package.file, format!("{directory}/{}", package.called))
            .map_err(|error| format!("cannot link the package `{}`: {error}", package.name))?;
    }
    Ok(directory)
}

/// The tree that layers make, over a scratch directory's `upper` and `work`.
/// Errors: A layer that is missing or damaged.
pub fn tree_of(scratch: &str, layers: &[Digest], upper: &str, work: &str) -> Result<TreeMount, String> {
    let at = |name: &str| format!("{scratch}/{name}");
    Ok(TreeMount { root: root_of(layers)?, ..tools_tree(layers, at(upper), at(work))? })
}

/// The tree of a tools root, whose own first directory has the mode and owner of `upper`.
/// Errors: As [`tree_of`].
pub fn tools_tree(tools: &[Digest], upper: String, work: String) -> Result<TreeMount, String> {
    Ok(TreeMount { lower: lower_directories(tools)?, upper, work, root: None })
}

/// Environment of package managers and their scripts: nothing of the host's (D3).
pub(crate) fn environment(epoch: i64) -> Vec<(String, String)> {
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

/// Programs that would make an initrd in the image, enter a kernel into a boot loader, or reach for a running system; replaced in the
/// sandbox only (D19). All of them for all package managers: an image may have another distribution's tools.
const KERNEL_HOOKS: [&str; 11] = [
    "dracut",
    "grubby",
    "installkernel",
    "kernel-install",
    "mkinitrd",
    "new-kernel-pkg",
    "update-bootloader",
    "update-grub",
    "update-grub2",
    "update-grub-legacy",
    "update-initramfs",
];

/// What stands in for programs while packages are installed, by name with its text.
pub(crate) fn stand_ins(uname: &Uname) -> Vec<(String, String)> {
    let hooks = KERNEL_HOOKS.iter().map(|name| ((*name).to_owned(), "#!/bin/sh\nexit 0\n".to_owned()));
    hooks.chain([uname.stand_in()]).collect()
}

/// Writes a file of a scratch directory.
/// Errors: A text with its name.
pub(crate) fn write(path: &str, text: &str) -> Result<(), String> {
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

/// The list of its own packages that Octave saves when it is installed. The first line is a comment with the time.
const OCTAVE: &str = "usr/share/octave/octave_packages";

/// Bytes of the longest list that is looked at: some hundred packages have some ten thousand.
const LONGEST_LIST: u64 = 1 << 20;

/// Takes the time and the host out of the comment at the beginning of a file that Octave saved: `# Created by Octave 7.3.0, TIME
/// <USER@HOST>`. What reads it looks for `# name:` (Octave's load-save.cc, `get_file_format`).
fn settle_octave(editor: &TreeEditor) -> Result<(), String> {
    let said = |error: std::io::Error| format!("cannot read /{OCTAVE}: {error}");
    let Some(file) = editor.open_file(OCTAVE) else { return Ok(()) };
    let metadata = file.metadata().map_err(said)?;
    let mut text = String::new();
    if metadata.len() > LONGEST_LIST || (&file).read_to_string(&mut text).is_err() {
        return Ok(());
    }
    match text.split_once('\n') {
        Some((first, rest)) if first.starts_with("# Created by Octave ") => {
            let version = first.split(',').next().unwrap_or(first);
            editor.write(OCTAVE, format!("{version}\n{rest}").as_bytes(), metadata.mode() & 0o7777)
        }
        _ => Ok(()),
    }
}

/// Puts a tree into the form in which it is hashed.
/// Errors: A text that says what could not be changed.
pub(crate) fn normalise(tree: &str, own: &[&str]) -> Result<(), String> {
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
    settle_octave(&editor)?;
    settle_ids(&editor)?;
    // Empty, not "uninitialized": that would mean first boot, and systemd-firstboot waits at the console (D34).
    if editor.has_file("etc/machine-id") {
        editor.write("etc/machine-id", b"", 0o444)?;
    }
    Ok(())
}

/// A word that no shell takes apart.
pub(crate) fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

pub(crate) fn quoted_words(words: &[String]) -> String {
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// Does something to each of some packages (digest, and name for messages) with all threads, in the order given; tells the
/// digest of each that is done, and gives their number.
/// Errors: The first that comes.
pub(crate) fn side_by_side(
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_in_a_list_that_octave_saved_is_taken_out_and_nothing_else() {
        let tree = tempfile::tempdir().unwrap();
        let path = tree.path().join(OCTAVE);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let rest = "# name: global_packages\n# type: cell\n# rows: 0\n# columns: 0\n\n";
        let cases = [
            (
                "# Created by Octave 7.3.0, Tue Nov 24 20:12:33 2026 UTC <root@imgbuild>\n",
                "# Created by Octave 7.3.0\n",
            ),
            ("# mine\n", "# mine\n"),
            ("", ""),
        ];
        for (before, after) in cases {
            std::fs::write(&path, format!("{before}{rest}")).unwrap();
            normalise(tree.path().to_str().unwrap(), &[]).unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), format!("{after}{rest}"));
        }
        std::fs::write(&path, b"# Created by Octave \xff\n").unwrap();
        normalise(tree.path().to_str().unwrap(), &[]).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"# Created by Octave \xff\n");
    }
}
