//! Temporary directories that go away however the program ends, also by a signal or a kill.
//!
//! A second process of the program holds the other end of a pipe. When the first one is gone, the pipe is closed, and what is
//! left of the directory is removed.

use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, ExitCode, Stdio};

/// First argument of the process that sweeps.
pub const ARGUMENT: &str = "__sweep";

/// Start of the names of directories that it removes; it removes no others.
const PREFIX: &str = "imgbuild-revision-";

/// A private directory below the temporary one.
pub struct Swept {
    directory: Option<tempfile::TempDir>,
    sweeper: Child,
}

impl Swept {
    /// Makes one.
    ///
    /// # Errors
    /// The directory cannot be made, or the second process not be started.
    pub fn new() -> std::io::Result<Self> {
        let directory = tempfile::Builder::new().prefix(PREFIX).tempdir()?;
        let sweeper = Command::new("/proc/self/exe")
            .arg(ARGUMENT)
            .arg(directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .current_dir("/")
            // Ctrl-C is for the program in front.
            .process_group(0)
            .spawn()
            .map_err(crate::failure::not_started)?;
        Ok(Self { directory: Some(directory), sweeper })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.directory.as_ref().map_or(Path::new(""), tempfile::TempDir::path)
    }
}

impl Drop for Swept {
    fn drop(&mut self) {
        drop(self.directory.take());
        drop(self.sweeper.stdin.take());
        let _ = self.sweeper.wait();
    }
}

/// The second process: waits for the end of the first, and removes what it left.
pub fn run(arguments: &[String]) -> ExitCode {
    let _ = std::io::stdin().read_to_end(&mut Vec::new());
    let directory = arguments.first().map(Path::new);
    let is_ours = |path: &&Path| {
        path.is_absolute()
            && path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(PREFIX))
    };
    if let Some(directory) = directory.filter(is_ours) {
        let _ = std::fs::remove_dir_all(directory);
    }
    ExitCode::SUCCESS
}
