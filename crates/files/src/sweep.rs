//! Temporary directories that go away however the program ends, also by a signal or a kill.
//!
//! A second process of the program makes the directory, tells its path, and holds one end of a pipe. When the first one is
//! gone, the pipe is closed, and the second removes the directory. As it makes the directory itself, there is no moment at
//! which the directory is there and no one who removes it. It holds a lock on it, so what is left where the second process was
//! killed too, or the machine lost its power, is known by a lock that is free: the next command of the kind removes it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Mutex;

/// First argument of the process that sweeps.
pub const ARGUMENT: &str = "__sweep";

#[derive(Debug)]
pub struct Swept {
    directory: PathBuf,
    sweeper: Child,
}

impl Swept {
    /// Makes one whose name begins so, below a directory; those of that kind go whose commands are dead.
    /// Errors: The directory cannot be made, or the second process not be started.
    pub fn below(parent: &Path, prefix: &str) -> std::io::Result<Self> {
        let mut sweeper = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .arg(std::path::absolute(parent)?)
            .arg(prefix)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C is for the program in front.
            .process_group(0)
            .spawn()
            .map_err(base::failure::not_started)?;
        let mut answer = Vec::new();
        if let Some(mut output) = sweeper.stdout.take() {
            output.read_to_end(&mut answer)?;
        }
        // An absolute path, or the number of an error.
        if answer.first() == Some(&b'/') {
            return Ok(Self { directory: PathBuf::from(OsString::from_vec(answer)), sweeper });
        }
        let number = std::str::from_utf8(&answer).ok().and_then(|number| number.parse().ok());
        let status = sweeper.wait()?;
        Err(number.map_or_else(
            || std::io::Error::other(format!("the process that makes it exited with {status}")),
            std::io::Error::from_raw_os_error,
        ))
    }

    pub fn path(&self) -> &Path {
        &self.directory
    }
}

impl Drop for Swept {
    fn drop(&mut self) {
        drop(self.sweeper.stdin.take());
        let _ = self.sweeper.wait();
    }
}

/// Makes a temporary file beside its place; those of that kind go whose commands are dead. It is locked as long as it is open.
/// `mode` is that of a new file, as for open(2).
pub fn file_in(folder: &Path, prefix: &str, mode: u32) -> std::io::Result<tempfile::NamedTempFile> {
    /// Folders in which this process has looked for a prefix.
    static SWEPT: Mutex<BTreeSet<(PathBuf, String)>> = Mutex::new(BTreeSet::new());
    if SWEPT.lock().is_ok_and(|mut swept| swept.insert((folder.to_owned(), prefix.to_owned()))) {
        remove_dead_files(folder, prefix);
    }
    // Another process may take a new one for a dead one before it is locked.
    for _ in 0..32 {
        let made = new_file(folder, prefix, mode)?;
        let is_taken = matches!(made.as_file().try_lock(), Err(std::fs::TryLockError::WouldBlock));
        if !is_taken && made.path().symlink_metadata().is_ok() {
            return Ok(made);
        }
    }
    new_file(folder, prefix, mode)
}

fn new_file(folder: &Path, prefix: &str, mode: u32) -> std::io::Result<tempfile::NamedTempFile> {
    let permissions = std::os::unix::fs::PermissionsExt::from_mode(mode);
    tempfile::Builder::new().prefix(prefix).permissions(permissions).tempfile_in(folder)
}

/// Removes temporary files of this user whose commands are dead. Others may write to the folder, too: a name of theirs is left alone.
pub fn remove_dead_files(folder: &Path, prefix: &str) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        if !entry.file_name().as_bytes().starts_with(prefix.as_bytes()) {
            continue;
        }
        let path = entry.path();
        let is_own = path
            .symlink_metadata()
            .is_ok_and(|found| found.is_file() && found.uid() == rustix::process::geteuid().as_raw());
        if is_own && let Some(_held) = lock(&path) {
            let _ = std::fs::remove_file(&path);
        }
    }
}

/// Whether no one else can give the directories of this user in a folder other names.
fn is_kept(folder: &Path) -> bool {
    let is_own = |found: &std::fs::Metadata| found.uid() == rustix::process::geteuid().as_raw();
    folder.metadata().is_ok_and(|found| found.mode() & 0o1000 != 0 || is_own(&found) && found.mode() & 0o022 == 0)
}

/// Takes the lock of a directory or a file, if it is free.
fn lock(path: &Path) -> Option<File> {
    // Whatever another user puts there meanwhile: no link is followed, no pipe is waited for.
    let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    let held = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path).ok()?;
    held.try_lock().is_ok().then_some(held)
}

/// The directories that libraries hold for a moment in the one for temporary files.
pub const OF_A_MOMENT: [&str; 3] = ["imgbuild-check-", "imgbuild-rpmdb-", "imgbuild-dnsmasq-"];

/// Removes what killed commands of this user left of these in a directory, whatever the command that comes next.
pub fn remove_dead_of_a_moment(parent: &Path) {
    if is_kept(parent) {
        remove_dead(parent, &OF_A_MOMENT);
    }
}

/// Removes directories of this user whose commands are dead.
fn remove_dead(parent: &Path, prefixes: &[impl AsRef<OsStr>]) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let name = entry.file_name();
        if !prefixes.iter().any(|prefix| name.as_bytes().starts_with(prefix.as_ref().as_bytes())) {
            continue;
        }
        let path = entry.path();
        let is_own = path
            .symlink_metadata()
            .is_ok_and(|found| found.is_dir() && found.uid() == rustix::process::geteuid().as_raw());
        if is_own && let Some(_held) = lock(&path) {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// A temporary directory of this process, locked as long as it lives: what a killed one leaves goes with the next of its kind.
#[derive(Debug)]
pub struct Held {
    // In this order: what is no longer there needs no lock.
    directory: tempfile::TempDir,
    lock: Option<File>,
}

impl Held {
    /// Makes one whose name begins so; those of that kind go whose processes are dead. No lock of the folder is waited for: it may
    /// be such a directory itself, whose lock is held as long as the command lives that waits for this one.
    pub fn below(parent: &Path, prefix: impl AsRef<OsStr>) -> std::io::Result<Self> {
        let prefix = prefix.as_ref();
        if is_kept(parent) {
            remove_dead(parent, &[prefix]);
        }
        let new = || tempfile::Builder::new().prefix(prefix).tempdir_in(parent);
        // Another process may take a new one for a dead one before it is locked.
        for _ in 0..32 {
            let directory = new()?;
            let Ok(lock) = File::open(directory.path()) else { continue };
            let is_taken = matches!(lock.try_lock(), Err(std::fs::TryLockError::WouldBlock));
            if !is_taken && directory.path().symlink_metadata().is_ok() {
                return Ok(Self { directory, lock: Some(lock) });
            }
        }
        Ok(Self { directory: new()?, lock: None })
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves it to the caller, with its lock.
    pub fn keep(self) -> (PathBuf, Option<File>) {
        (self.directory.keep(), self.lock)
    }
}

/// The second process: makes the directory, tells it, waits for the end of the first, and removes it.
pub fn run() -> ExitCode {
    let mut words = std::env::args_os().skip(2);
    let (Some(parent), Some(prefix)) = (words.next(), words.next()) else { return ExitCode::FAILURE };
    let parent = PathBuf::from(parent);
    let made = Held::below(&parent, &prefix);
    let sent = match &made {
        Ok(directory) => tell(directory.path().as_os_str().as_bytes()),
        Err(error) => tell(error.raw_os_error().unwrap_or(0).to_string().as_bytes()),
    };
    // In no one's way who unmounts something.
    let _ = std::env::set_current_dir("/");
    if made.is_ok() && sent.is_ok() {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
    drop(made);
    ExitCode::SUCCESS
}

/// Writes bytes to the standard output and closes it: the reader waits for its end.
fn tell(bytes: &[u8]) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(bytes)?;
    output.flush()?;
    // The descriptor itself, not only the buffer before it.
    let _ = rustix::stdio::dup2_stdout(File::open("/dev/null")?);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_of_a_moment_go_with_whatever_command_comes_next() {
        let place = tempfile::tempdir().unwrap();
        let of = |prefix: &str| place.path().join(format!("{prefix}x"));
        OF_A_MOMENT.iter().for_each(|prefix| std::fs::create_dir(of(prefix)).unwrap());
        std::fs::create_dir(of("imgbuild-other-")).unwrap();
        let held = Held::below(place.path(), "imgbuild-checks-").unwrap();
        let locked = lock(&of(OF_A_MOMENT[1])).unwrap();
        remove_dead_of_a_moment(place.path());
        let left = OF_A_MOMENT.map(|prefix| of(prefix).exists());
        assert_eq!(left, [false, true, false]);
        drop(locked);
        assert!(held.path().exists() && of("imgbuild-other-").exists());
    }
}
