//! Temporary directories that go away however the program ends, also by a signal or a kill.
//!
//! A second process of the program makes the directory, tells its path, and holds one end of a pipe. When the first one is
//! gone, the pipe is closed, and the second removes the directory. As it makes the directory itself, there is no moment at
//! which the directory is there and no one who removes it. It holds a lock on it, so what is left where the second process was
//! killed too, or the machine lost its power, is known by a lock that is free: the next command of the kind removes it.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

/// First argument of the process that sweeps.
pub const ARGUMENT: &str = "__sweep";

/// A private directory.
#[derive(Debug)]
pub struct Swept {
    directory: PathBuf,
    sweeper: Child,
}

impl Swept {
    /// Makes one whose name begins so, below a directory; those of that kind go whose commands are dead.
    ///
    /// # Errors
    /// The directory cannot be made, or the second process not be started.
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
            .map_err(crate::failure::not_started)?;
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

    /// The directory.
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

/// Takes the lock of a directory, if it is free.
fn lock(path: &Path) -> Option<File> {
    let held = File::open(path).ok()?;
    held.try_lock().is_ok().then_some(held)
}

/// Removes directories of this user whose commands are dead.
fn remove_dead(parent: &Path, prefix: &OsStr) {
    for entry in std::fs::read_dir(parent).into_iter().flatten().flatten() {
        let path = entry.path();
        let is_own = path
            .symlink_metadata()
            .is_ok_and(|found| found.is_dir() && found.uid() == rustix::process::geteuid().as_raw());
        if is_own
            && entry.file_name().as_bytes().starts_with(prefix.as_bytes())
            && let Some(_held) = lock(&path)
        {
            let _ = std::fs::remove_dir_all(&path);
        }
    }
}

/// The second process: makes the directory, tells it, waits for the end of the first, and removes it.
pub fn run() -> ExitCode {
    let mut words = std::env::args_os().skip(2);
    let (Some(parent), Some(prefix)) = (words.next(), words.next()) else { return ExitCode::FAILURE };
    let parent = PathBuf::from(parent);
    // One at a time makes and locks, so that no one takes a new one for a dead one. A place that others may lock has no turns.
    let turn = File::open(&parent).ok();
    let is_own = turn.as_ref().is_some_and(|turn| {
        turn.metadata()
            .is_ok_and(|found| found.uid() == rustix::process::geteuid().as_raw() && found.mode() & 0o022 == 0)
    });
    if let Some(turn) = turn.as_ref().filter(|_| is_own)
        && turn.lock().is_ok()
    {
        remove_dead(&parent, &prefix);
    }
    let made = tempfile::Builder::new().prefix(&prefix).tempdir_in(&parent);
    let held = made.as_ref().ok().and_then(|made| lock(made.path()));
    drop(turn);
    let sent = match &made {
        Ok(directory) => tell(directory.path().as_os_str().as_bytes()),
        Err(error) => tell(error.raw_os_error().unwrap_or(0).to_string().as_bytes()),
    };
    // In no one's way who unmounts something.
    let _ = std::env::set_current_dir("/");
    if made.is_ok() && sent.is_ok() {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
    if let Ok(directory) = made {
        let _ = directory.close();
    }
    drop(held);
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
