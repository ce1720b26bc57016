//! How long a command may take: one that waits for ever is ended and named, and so is a script that spins.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, pidfd_open};

/// Environment variable that tells the helper how long, in seconds.
pub const VARIABLE: &str = "IMGBUILD_COMMAND_SECONDS";

/// How a command's time went.
pub enum Waited {
    /// It ended.
    Ended(ExitStatus),
    /// It was still there when its time was over: what ran below it, the outermost first.
    TooLong(Vec<String>),
}

/// What the host process allows; none: as long as it takes.
pub fn allowed() -> Option<Duration> {
    std::env::var(VARIABLE).ok()?.parse().ok().filter(|seconds| *seconds > 0).map(Duration::from_secs)
}

/// Waits until a child ends, or its time is over.
///
/// # Errors
/// A system call failed.
pub fn wait(child: &mut Child, most: Option<Duration>) -> std::io::Result<Waited> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // A kernel before 5.3 has no such descriptors, and no limit then.
    let (Some(most), Some(Ok(ended))) = (most, pid.map(|pid| pidfd_open(pid, PidfdFlags::empty()))) else {
        return child.wait().map(Waited::Ended);
    };
    let until = Instant::now() + most;
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = rustix::event::Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let mut ready = [PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN)];
        match poll(&mut ready, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) if left.is_zero() => return Ok(Waited::TooLong(running(child.id()))),
            Ok(0) => {}
            Ok(_) => return child.wait().map(Waited::Ended),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Commands below a process, each after the one that started it; without imgbuild's own processes.
fn running(from: u32) -> Vec<String> {
    let mut below: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    for pid in processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()) {
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { continue };
        if let Some(parent) = parent_in(&stat) {
            below.entry(parent).or_default().push(pid);
        }
    }
    let mut found = Vec::new();
    let mut waiting = vec![from];
    while let Some(pid) = waiting.pop() {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
        if pid != from && !line.is_empty() && !line.starts_with("imgbuild-process-1") {
            found.push(super::shown(&line));
        }
        waiting.extend(below.get(&pid).into_iter().flatten().rev());
    }
    // The helper's fork that becomes the command has the helper's words until then.
    found.retain(|line| !line.contains(crate::sandbox::helper::ARGUMENT));
    found
}

/// The parent in a line of /proc/PID/stat, whose second field is a name that may hold anything. Source: proc(5).
fn parent_in(stat: &str) -> Option<u32> {
    stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_ends_is_waited_for_and_one_that_does_not_is_named() {
        let mut quick = std::process::Command::new("true").spawn().unwrap();
        let waited = wait(&mut quick, Some(Duration::from_secs(60))).unwrap();
        assert!(matches!(waited, Waited::Ended(status) if status.success()));
        let mut slow = std::process::Command::new("sh").args(["-c", "sleep 321; true"]).spawn().unwrap();
        let waited = wait(&mut slow, Some(Duration::from_millis(300))).unwrap();
        let Waited::TooLong(named) = waited else { panic!("it ended") };
        assert!(named.iter().any(|line| line == "sleep 321"), "{named:?}");
        let _ = std::process::Command::new("pkill").args(["-P", &slow.id().to_string()]).status();
        let _ = slow.kill();
        let _ = slow.wait();
    }

    #[test]
    fn a_name_may_hold_brackets() {
        assert_eq!(parent_in("12 (a) b) S 7 12 12 0"), Some(7));
        assert_eq!(parent_in("12 (a"), None);
    }
}
