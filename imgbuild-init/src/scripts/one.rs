//! One script: started, watched, ended when its time is over, with all that it left running.

use std::collections::BTreeMap;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::log::Log;
use super::plan::Item;
use crate::sys;

/// How long processes that were asked to end may take for it.
const TO_END: Duration = Duration::from_secs(2);
/// How often it is looked whether something has ended.
const LOOK: Duration = Duration::from_millis(20);
/// Passes over what was left behind: more than this many, and it makes children faster than they can be ended.
const PASSES: usize = 200;

/// A script and what it gets.
pub(super) struct Script<'a> {
    pub item: &'a Item,
    pub file: &'a Path,
    pub environment: &'a BTreeMap<String, String>,
    /// Directory of the logs.
    pub logs: &'a Path,
    /// Name of its log, without `.log`.
    pub log: &'a str,
    /// How long it may take.
    pub time: Option<Duration>,
}

/// How a script ended. The words are those of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    /// With status 0.
    Done,
    /// With another status.
    Failed,
    /// Its time was over.
    Timeout,
    /// By a signal that was not imgbuild's.
    Signal,
    /// It could not be started.
    Unstarted,
}

/// What became of a script.
#[derive(Debug, Serialize)]
pub(crate) struct ScriptResult {
    pub name: String,
    pub outcome: Outcome,
    /// The same in words.
    pub reason: String,
    /// Its exit status as a shell would give it: 128 and the signal's number, 124 after its time, 127 where it was not started.
    pub exit: i32,
    pub seconds: u64,
    /// The last lines that it printed.
    pub lines: Vec<String>,
}

/// The result of a script that could not be started.
pub(super) fn not_started(name: &str, reason: String) -> ScriptResult {
    let outcome = Outcome::Unstarted;
    ScriptResult { name: name.to_owned(), outcome, reason, exit: 127, seconds: 0, lines: Vec::new() }
}

/// Runs a script to its end.
pub(super) fn run(script: &Script<'_>) -> ScriptResult {
    let name = &script.item.name;
    let began = Instant::now();
    let started = std::io::pipe().and_then(|(reader, writer)| {
        let (out, error) = (writer.try_clone()?, writer);
        Ok((reader, start(script, out, error)))
    });
    let (reader, main) = match started {
        Ok((reader, Ok(main))) => (reader, main),
        Ok((_, Err(error))) => return not_started(name, why_not(script.file, &error)),
        Err(error) => return not_started(name, format!("no pipe for its output: {error}")),
    };
    let (mut log, unlogged) = Log::open(script.logs, script.log);
    let printed = read_beside(reader);
    let mut status = None;
    let mut in_time = true;
    while status.is_none() {
        take(&printed, &mut log, LOOK);
        status = reap_until(main);
        if script.time.is_some_and(|time| began.elapsed() > time) && status.is_none() {
            in_time = false;
            break;
        }
    }
    let left = end_all(&printed, &mut log, |pid, ended| {
        if pid == main {
            status = Some(ended);
        }
    });
    drain(&printed, &mut log);
    let seconds = began.elapsed().as_secs();
    let (outcome, mut reason) = judged(status, in_time, script.time);
    // Where its time was over, what it started is a part of it.
    if in_time && left > 0 {
        reason += &format!("; it left {left} {} running: ended", if left == 1 { "process" } else { "processes" });
    }
    if let Some(error) = unlogged {
        reason += &format!("; no log: {error}");
    }
    let lines = log.close(script.logs, script.log);
    let exit = match (outcome, status) {
        (Outcome::Done, _) => 0,
        (Outcome::Timeout, _) => 124,
        (_, Some(status)) if libc::WIFSIGNALED(status) => 128 + libc::WTERMSIG(status),
        (_, Some(status)) => libc::WEXITSTATUS(status),
        (_, None) => 1,
    };
    ScriptResult { name: name.clone(), outcome, reason, exit, seconds, lines }
}

fn judged(status: Option<i32>, in_time: bool, time: Option<Duration>) -> (Outcome, String) {
    if !in_time {
        let seconds = time.unwrap_or_default().as_secs();
        return (Outcome::Timeout, format!("not done after {seconds} seconds: ended"));
    }
    match status {
        Some(status) if libc::WIFSIGNALED(status) => {
            (Outcome::Signal, format!("ended by signal {}", libc::WTERMSIG(status)))
        }
        Some(status) if libc::WEXITSTATUS(status) == 0 => (Outcome::Done, "done".to_owned()),
        Some(status) => (Outcome::Failed, format!("exit status {}", libc::WEXITSTATUS(status))),
        None => (Outcome::Failed, "its exit status is not known".to_owned()),
    }
}

/// Starts it in its directory, with that first in its path, in a process group of its own.
fn start(script: &Script<'_>, out: std::io::PipeWriter, error: std::io::PipeWriter) -> std::io::Result<i32> {
    let directory = script.file.parent().unwrap_or(Path::new("/"));
    let path = script.environment.get("PATH").map(String::as_str).unwrap_or_default();
    let command = |program: &Path, first: Option<&Path>| -> std::io::Result<Command> {
        let mut command = Command::new(program);
        command
            .args(first)
            .args(&script.item.arguments)
            .env_clear()
            .envs(script.environment)
            .env("PATH", format!("{}:{path}", directory.display()))
            .current_dir(directory)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(error.try_clone()?);
        Ok(command)
    };
    match command(script.file, None)?.spawn() {
        // A shell runs what names no interpreter, and so does xCAT.
        Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {
            Ok(command(Path::new("/bin/sh"), Some(script.file))?.spawn()?.id().cast_signed())
        }
        started => Ok(started?.id().cast_signed()),
    }
}

/// Why a script cannot be started, in words that say what to do.
fn why_not(file: &Path, error: &std::io::Error) -> String {
    let start = std::fs::read(file).unwrap_or_default();
    let line = start.strip_prefix(b"#!").map(|rest| rest.split(|byte| *byte == b'\n').next().unwrap_or_default());
    let line = line.map(|line| String::from_utf8_lossy(line).into_owned());
    match (error.kind(), line) {
        (std::io::ErrorKind::NotFound, Some(line)) if line.ends_with('\r') => {
            format!("it has Windows line endings (CR LF), so that no `{}\\r` is found: sed -i 's/\\r$//'", line.trim())
        }
        (std::io::ErrorKind::NotFound, Some(line)) => {
            let interpreter = line.split_whitespace().next().unwrap_or_default().to_owned();
            format!("the image has no `{interpreter}`, which its first line names")
        }
        (std::io::ErrorKind::NotFound, None) if !file.exists() => "the image has no script of this name".to_owned(),
        (std::io::ErrorKind::PermissionDenied, _) => {
            "it is not executable, or its file system is mounted noexec".to_owned()
        }
        _ => format!("it cannot be started: {error}"),
    }
}

/// Reads what is printed in a thread; a reader that does not keep up holds the script, and no memory.
fn read_beside(mut reader: std::io::PipeReader) -> Receiver<Vec<u8>> {
    let (give, printed) = sync_channel(16);
    std::thread::spawn(move || {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(length) = reader.read(&mut buffer) {
            if length == 0 || give.send(buffer[..length].to_vec()).is_err() {
                return;
            }
        }
    });
    printed
}

/// Takes what was printed within a time.
fn take(printed: &Receiver<Vec<u8>>, log: &mut Log, within: Duration) {
    let until = Instant::now() + within;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        match printed.recv_timeout(left) {
            Ok(bytes) => log.add(&bytes),
            Err(std::sync::mpsc::RecvTimeoutError::Timeout) => return,
            Err(std::sync::mpsc::RecvTimeoutError::Disconnected) => {
                // It closed its output, and goes on.
                std::thread::sleep(left);
                return;
            }
        }
        if left.is_zero() {
            return;
        }
    }
}

/// Takes the rest: all who could print have ended.
fn drain(printed: &Receiver<Vec<u8>>, log: &mut Log) {
    let until = Instant::now() + TO_END;
    while let Ok(bytes) = printed.recv_timeout(until.saturating_duration_since(Instant::now())) {
        log.add(&bytes);
    }
}

/// Reaps what has ended; gives the status of the script, if it is among that.
fn reap_until(main: i32) -> Option<i32> {
    while let Some((pid, status)) = sys::reap() {
        if pid == main {
            return Some(status);
        }
    }
    None
}

/// Ends all processes that are still there: they are this program's children, in whatever session or group they went. Gives how
/// many there were.
fn end_all(printed: &Receiver<Vec<u8>>, log: &mut Log, mut ended: impl FnMut(i32, i32)) -> usize {
    let mut found = std::collections::BTreeSet::new();
    let began = Instant::now();
    for _ in 0..PASSES {
        while let Some((pid, status)) = sys::reap() {
            ended(pid, status);
        }
        let running = sys::descendants();
        if running.is_empty() {
            break;
        }
        let signal = if began.elapsed() < TO_END { libc::SIGTERM } else { libc::SIGKILL };
        for process in &running {
            // Each is asked once, and then made to.
            if found.insert(*process) || signal == libc::SIGKILL {
                sys::signal(*process, signal);
            }
        }
        take(printed, log, LOOK);
    }
    found.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_in_words() {
        let (time, second) = (Some(Duration::from_secs(7)), 1 << 8);
        assert_eq!(judged(Some(0), true, time), (Outcome::Done, "done".to_owned()));
        assert_eq!(judged(Some(3 * second), true, time), (Outcome::Failed, "exit status 3".to_owned()));
        assert_eq!(judged(Some(9), true, time), (Outcome::Signal, "ended by signal 9".to_owned()));
        assert_eq!(judged(Some(9), false, time), (Outcome::Timeout, "not done after 7 seconds: ended".to_owned()));
    }
}
