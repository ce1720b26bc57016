//! Runs a command in an assembled root, with the layers of an image at /target.

mod asker;
pub(super) mod caller;
mod confined;
mod devices;
mod limit;
mod machine;
mod process_one;
mod renames;
mod setup;
mod stand_ins;
mod supervisor;
mod uname;

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde::{Deserialize, Serialize};

use self::limit::{Bounds, Excess, Waited};
use super::TreeMount;
use super::log::Pump;
use super::tree::api_mounts::NO_RELEASE;
use base::failure::{Failure, NO_SPACE, NOT_STARTED, OVER_LIMIT, TOO_LONG, is_not_started, not_started};

pub use confined::{Confined, run_confined};
pub use limit::{ScriptLimits, VARIABLE as LIMIT_VARIABLE};
pub use process_one::set_process_one;
pub use stand_ins::STAND_IN_DIRECTORY;

/// A file or directory of the store that the command sees.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bind {
    /// Path relative to the store's directory.
    pub source: String,
    pub target: String,
    pub writable: bool,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CommandRequest {
    /// The root directory: usually a tools root.
    pub root: TreeMount,
    /// The image's tree, at /target.
    pub target: Option<TreeMount>,
    /// What else is visible.
    pub binds: Vec<Bind>,
    /// What of the root is also visible below /target: (absolute path, absolute path inside the target).
    pub target_binds: Vec<(String, String)>,
    /// Programs that stand in for those of their names inside the target, by the search path and by any other, with their text; they vanish
    /// with /run.
    pub stand_ins: Vec<(String, String)>,
    /// Release of the kernel that /proc tells of; none: one that means nothing.
    pub kernel: Option<String>,
    /// Whether the command's root is /target itself.
    pub enter_target: bool,
    pub working_directory: String,
    pub arguments: Vec<String>,
    pub environment: Vec<(String, String)>,
    /// File, relative to the store's directory, that takes what the command prints.
    pub log: String,
    /// Whether the log goes on behind what is there; else it is recreated.
    pub goes_on: bool,
    /// Words whose lines the log keeps, however much is left out of it.
    pub log_keeps: Vec<String>,
    /// Empty directory, relative to the store's directory, that the root is mounted on.
    pub mount_point: String,
    /// Whether the command talks to the caller's terminal instead of the log.
    pub interactive: bool,
}

impl CommandRequest {
    /// Release of the kernel that the command gets.
    pub fn release(&self) -> &str {
        self.kernel.as_deref().unwrap_or(NO_RELEASE)
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CommandResult {
    /// Exit status, or 128 plus the signal's number.
    pub status: i32,
    /// What it printed last, at most 40 lines.
    pub last_lines: Vec<String>,
    /// Where in the log its own begins.
    pub began_at: u64,
}

/// Runs a command; meant to be called inside, by process 1 of the namespace. Where the caller asked for another command to
/// stand in, that one runs in the same root, and nothing comes of the operation.
/// Errors: A text that says what could not be set up; the command's own failure is in the result.
pub fn run_command(request: &CommandRequest) -> Result<CommandResult, String> {
    match super::substitute::asked_for() {
        Some(substitute) => Err(super::substitute::ended(run(&substitute.in_place_of(request))?.status)),
        None => run(request),
    }
}

fn run(request: &CommandRequest) -> Result<CommandResult, String> {
    // Recreated, and appended to: a script may open its own output again.
    if !request.goes_on {
        let _ = std::fs::remove_file(&request.log);
    }
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&request.log)
        .map_err(|error| format!("cannot open the log {}: {error}", request.log))?;
    let began_at = log.metadata().map_or(0, |found| found.len());
    let program = request.arguments.first().ok_or("no command given")?.clone();
    let report = PathBuf::from(format!("{}.setup", request.log));
    let _ = std::fs::remove_file(&report);
    let mut command = Command::new(&program);
    command.args(&request.arguments[1..]).env_clear().envs(request.environment.iter().cloned());
    let mut printed = None;
    if !request.interactive {
        let (from, to) = std::io::pipe().map_err(|error| format!("cannot create a pipe: {error}"))?;
        let same = || to.try_clone().map(Stdio::from).map_err(|error| error.to_string());
        command.stdin(Stdio::null()).stdout(same()?).stderr(same()?);
        printed = Some(from);
    }
    let setup = request.clone();
    let complaint = std::fs::File::create(&report).map_err(|error| error.to_string())?;
    let bounds = Bounds::allowed().filter(|_| !request.interactive);
    // SAFETY: the closure runs in the forked child of a process whose other threads, if any, are idle; it only makes
    // system calls and allocates, which glibc allows after fork.
    unsafe {
        command.pre_exec(move || {
            process_one::below_a_new_one(&setup, || setup::assemble(&setup))
                .and_then(|()| setup::enter(&setup))
                .map_err(|text| {
                    use std::io::Write;
                    let _ = (&complaint).write_all(text.as_bytes());
                    std::io::Error::other("set-up failed")
                })?;
            if let Some(bounds) = bounds {
                bounds.hold();
            }
            Ok(())
        });
    }
    fault::point("command.before");
    let mut pump = None;
    let count = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let outcome = command.spawn().and_then(|mut child| {
        // Only now: the child is forked off a process without other threads that work.
        if let Some(from) = printed.take() {
            match Pump::start(from, log, count.clone(), request.log_keeps.clone()) {
                Ok(started) => pump = Some(started),
                Err(error) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(error);
                }
            }
        }
        fault::point("command.running");
        limit::wait(&mut child, bounds.as_ref(), &count)
    });
    fault::point("command.ended");
    end_all_others();
    // The pipe's last ends outside the command.
    drop(command);
    if let Some(pump) = pump {
        pump.wait();
    }
    let said = std::fs::read_to_string(&report).unwrap_or_default();
    let _ = std::fs::remove_file(&report);
    match outcome {
        Ok(Waited::TooLong(running)) => {
            let minutes = bounds.map_or(0, |bounds| bounds.seconds()).div_ceil(60);
            let problem = Failure::TooLong
                .met(format!("{TOO_LONG}: `{program}` did not finish within {minutes} min and was stopped."));
            let (running, ending) = (running.join("\n  "), ending(&request.log, 40));
            Err(format!("{problem} Still running, the innermost last:\n  {running}{ending}"))
        }
        Ok(Waited::TooMuch(excess, running)) => {
            let problem = match excess {
                Excess::Limit(what) => Failure::OverLimit.met(format!("{OVER_LIMIT}: `{program}` {what}")),
                Excess::Space(what) => Failure::NoSpace.met(format!("{NO_SPACE}: `{program}` {what}")),
            };
            let (running, ending) = (running.join("\n  "), ending(&request.log, 10));
            Err(format!("{problem} and was stopped. Running at that moment:\n  {running}{ending}"))
        }
        Ok(Waited::Ended(status)) => {
            let result = CommandResult {
                status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
                last_lines: last_lines(Path::new(&request.log), 40),
                began_at,
            };
            if result.status != 0 && !request.interactive && is_full(Path::new(&request.log)) {
                let problem = Failure::NoSpace.met(format!("{NO_SPACE} while `{program}` ran"));
                return Err(format!("{problem}; its last lines:\n{}", result.last_lines.join("\n")));
            }
            if result.status != 0 && !request.interactive && lacks_processes(Path::new(&request.log)) {
                if let Some(what) = bounds.as_ref().and_then(Bounds::too_many) {
                    let problem = Failure::OverLimit.met(format!("{OVER_LIMIT}: `{program}` {what}"));
                    return Err(format!("{problem}{}", ending(&request.log, 10)));
                }
                let problem = Failure::NotStarted.met(format!("{NOT_STARTED} while `{program}` ran"));
                return Err(format!("{problem}; its last lines:\n{}", result.last_lines.join("\n")));
            }
            Ok(result)
        }
        Err(_) if !said.is_empty() => Err(said),
        Err(error) if is_not_started(&error) => Err(format!("cannot run `{program}`: {}", not_started(error))),
        Err(error) => {
            let is_missing = error.kind() == std::io::ErrorKind::NotFound;
            let failure = if is_missing { Failure::NoProgram } else { Failure::NotRun };
            Err(failure.met(format!("cannot run `{program}`: {error}")))
        }
    }
}

/// The last lines of a log, as they follow a message.
fn ending(log: &str, count: usize) -> String {
    let last = last_lines(Path::new(log), count).join("\n");
    if last.is_empty() { String::new() } else { format!("\nits last lines:\n{last}") }
}

/// Ends whatever the command left running: it would go on writing into the layer while that is hashed.
fn end_all_others() {
    if std::process::id() != 1 {
        return;
    }
    // SAFETY: as process 1 of a pid namespace this reaches its processes only; `status` is live.
    unsafe {
        libc::kill(-1, libc::SIGKILL);
        let mut status = 0;
        while libc::waitpid(-1, &raw mut status, 0) > 0 {}
    }
}

/// Whether a command failed for want of space: it says so, or so little is left that it could not even say it.
///
/// What it said may stand far from the end of its log, and by now another action that failed may have freed its space.
fn is_full(log: &Path) -> bool {
    let left = rustix::fs::statvfs(".").map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    left < 1 << 20 || tail_of(log).windows(NO_SPACE.len()).any(|words| words == NO_SPACE.as_bytes())
}

/// Whether a command failed because it could not fork.
fn lacks_processes(log: &Path) -> bool {
    tells_of_no_processes(&String::from_utf8_lossy(&tail_of(log)))
}

/// The C library's words for EAGAIN, those of shells and perl, and apt's (fileutl.cc, `ExecFork`).
fn tells_of_no_processes(text: &str) -> bool {
    let tail = text.to_lowercase();
    let of_fork = |line: &str| line.contains("fork") || line.contains("thread") || line.contains("subprocess");
    tail.lines().any(|line| line.contains("resource temporarily unavailable") && of_fork(line))
        || ["cannot fork", "failed to fork"].iter().any(|words| tail.contains(words))
}

fn tail_of(log: &Path) -> Vec<u8> {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::new();
    let read = std::fs::File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)))?;
        file.read_to_end(&mut bytes)
    });
    drop(read);
    bytes
}

/// A line of a log as it may be shown: without what a terminal would obey, at most 400 characters.
pub fn shown(line: &str) -> String {
    line.chars().take(400).map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// The end of a log, at most `count` lines of at most 400 characters.
fn last_lines(log: &Path, count: usize) -> Vec<String> {
    let tail = tail_of(log);
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| shown(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::tells_of_no_processes;

    #[test]
    fn words_for_too_few_processes_are_known_and_no_others() {
        for words in [
            "FATAL -> Failed to fork.",
            "bash: fork: retry: Resource temporarily unavailable",
            "Can't open pipe: cannot fork",
            "dpkg: error: fork failed: Resource temporarily unavailable",
        ] {
            assert!(tells_of_no_processes(words), "{words}");
        }
        for words in ["read: Resource temporarily unavailable\nforked", "the project was forked", ""] {
            assert!(!tells_of_no_processes(words), "{words}");
        }
    }
}
