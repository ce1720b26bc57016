//! Temporary directories that go away however the program ends, also by a signal or a kill.
//!
//! A second process of the program makes the directory, tells its path, and holds one end of a pipe. When the first one is
//! gone, the pipe is closed, and the second removes the directory. As it makes the directory itself, there is no moment at
//! which the directory is there and nobody who removes it.

use std::io::{Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

/// First argument of the process that sweeps.
pub const ARGUMENT: &str = "__sweep";

/// Start of the names of the directories.
const PREFIX: &str = "imgbuild-revision-";

/// A private directory below the temporary one.
pub struct Swept {
    directory: PathBuf,
    sweeper: Child,
}

impl Swept {
    /// Makes one.
    ///
    /// # Errors
    /// The directory cannot be made, or the second process not be started.
    pub fn new() -> std::io::Result<Self> {
        let mut sweeper = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C is for the program in front.
            .process_group(0)
            .spawn()
            .map_err(crate::failure::not_started)?;
        let mut told = Vec::new();
        if let Some(mut output) = sweeper.stdout.take() {
            output.read_to_end(&mut told)?;
        }
        // An absolute path, or the number of an error.
        if told.first() == Some(&b'/') {
            return Ok(Self { directory: PathBuf::from(std::ffi::OsString::from_vec(told)), sweeper });
        }
        let number = std::str::from_utf8(&told).ok().and_then(|number| number.parse().ok());
        let status = sweeper.wait()?;
        Err(number.map_or_else(
            || std::io::Error::other(format!("the process that makes it ended with {status}")),
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

/// The second process: makes the directory, tells it, waits for the end of the first, and removes it.
pub fn run() -> ExitCode {
    let made = std::path::absolute(std::env::temp_dir())
        .and_then(|below| tempfile::Builder::new().prefix(PREFIX).tempdir_in(below));
    let told = match &made {
        Ok(directory) => tell(directory.path().as_os_str().as_bytes()),
        Err(error) => tell(error.raw_os_error().unwrap_or(0).to_string().as_bytes()),
    };
    // In nobody's way who unmounts something.
    let _ = std::env::set_current_dir("/");
    if made.is_ok() && told.is_ok() {
        let _ = std::io::stdin().read_to_end(&mut Vec::new());
    }
    if let Ok(directory) = made {
        let _ = directory.close();
    }
    ExitCode::SUCCESS
}

/// Writes bytes to the standard output and closes it: the reader waits for its end.
fn tell(bytes: &[u8]) -> std::io::Result<()> {
    let mut output = std::io::stdout().lock();
    output.write_all(bytes)?;
    output.flush()?;
    // The descriptor itself, not only the buffer before it.
    let _ = rustix::stdio::dup2_stdout(std::fs::File::open("/dev/null")?);
    Ok(())
}
