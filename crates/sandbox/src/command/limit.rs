//! What a command may take: time, processes, memory, what it prints and what it writes. One that takes more is ended and named.
//!
//! Looked at from outside, several times a second, by what the kernel says of processes; a control group is not needed. Where it
//! grows faster than it is looked at, limits of the kernel's own (processes; the size of a file, `caller.rs`) hold it meanwhile.

use std::collections::BTreeMap;
use std::os::fd::AsFd;
use std::process::{Child, ExitStatus};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, PidfdFlags, Resource, Rlimit, pidfd_open, setrlimit};
use serde::{Deserialize, Serialize};

/// Environment variable that tells the helper the limits.
pub const VARIABLE: &str = "IMGBUILD_COMMAND_LIMITS";

/// How often a command is looked at.
const TICK: Duration = Duration::from_millis(200);

/// What one run of a package manager or a script may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScriptLimits {
    /// How long, in seconds.
    pub seconds: u64,
    pub processes: u64,
    /// Memory of all of them, in bytes; none: three quarters of the machine's.
    pub memory: Option<u64>,
    /// Bytes that it prints.
    pub output: u64,
    /// Bytes that it writes; none: nine tenths of what is free.
    pub disk: Option<u64>,
}

impl Default for ScriptLimits {
    fn default() -> Self {
        Self { seconds: 2 * 3600, processes: 4096, memory: None, output: 1 << 30, disk: None }
    }
}

/// How a command's time went.
pub(super) enum Waited {
    Ended(ExitStatus),
    /// It was still there when its time was over: what ran below it, the outermost first.
    TooLong(Vec<String>),
    /// It went over another limit; what ran below it.
    TooMuch(Excess, Vec<String>),
}

/// What a command took too much of, in words.
pub(super) enum Excess {
    Limit(String),
    /// It wrote nearly all of what was free, and little was: an ordinary command does that on a small disk.
    Space(String),
}

/// Free bytes below which a command that fills them is not thought to run wild: a root file system with packages may need so much.
const SMALL_DISK: u64 = 8 << 30;

/// Limits that this machine gives where none are named.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    limits: ScriptLimits,
    memory: u64,
    disk: u64,
    /// Bytes that are free before the command runs.
    free: u64,
    /// Processes that the machine allows, by limits that are not ours.
    machine: u64,
}

fn free() -> u64 {
    rustix::fs::statvfs(".").map_or(u64::MAX, |found| found.f_bavail.saturating_mul(found.f_frsize))
}

/// Processes that this user and its control groups may have. Source: getrlimit(2); kernel, admin-guide/cgroup-v2.rst, "pids.max".
fn processes_of_machine() -> u64 {
    let own = rustix::process::getrlimit(Resource::Nproc).current.unwrap_or(u64::MAX);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let group = groups.lines().find_map(|line| line.strip_prefix("0::/")).unwrap_or_default();
    let group = std::path::Path::new("/sys/fs/cgroup").join(group);
    let limits = group.ancestors().take_while(|one| one.starts_with("/sys/fs/cgroup"));
    let limits =
        limits.filter_map(|one| std::fs::read_to_string(one.join("pids.max")).ok()?.trim().parse::<u64>().ok());
    limits.fold(own, u64::min)
}

impl Bounds {
    /// Those that the host process allows; none where it says nothing: as much as it takes.
    pub(super) fn allowed() -> Option<Self> {
        let limits: ScriptLimits = serde_json::from_str(&std::env::var(VARIABLE).ok()?).ok()?;
        let meminfo = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB"));
        let total =
            total.and_then(|kib| kib.trim().parse::<u64>().ok()).map_or(u64::MAX, |kib| kib.saturating_mul(1024));
        let free = free();
        let (memory, disk) = (limits.memory.unwrap_or(total / 4 * 3), limits.disk.unwrap_or(free / 10 * 9));
        Some(Self { limits, memory, disk, free, machine: processes_of_machine() })
    }

    /// How long a command may take, in seconds.
    pub(super) fn seconds(&self) -> u64 {
        self.limits.seconds
    }

    /// The kernel's own limit of processes for the one that becomes the command: between two looks it cannot do everything.
    pub(super) fn hold(&self) {
        let limit = |most: u64| Rlimit { current: Some(most), maximum: Some(most) };
        let _ = setrlimit(Resource::Nproc, limit(self.held()));
    }

    /// Processes that the kernel holds a command at. Threads count too, for each user of the namespace: far above the limit itself.
    fn held(&self) -> u64 {
        self.limits.processes.saturating_mul(4).saturating_add(1000)
    }

    /// Says of a command that could start no more processes that it had too many, where it met our limit and not the machine's: it
    /// may get there between two looks.
    pub(super) fn too_many(&self) -> Option<String> {
        (self.held() < self.machine).then(|| format!("has more than {} processes", self.limits.processes))
    }

    /// What a command took too much of, in words.
    fn exceeded(&self, child: u32, printed: &AtomicU64) -> Option<Excess> {
        self.of_disk(free()).or_else(|| self.of_processes(child, printed).map(Excess::Limit))
    }

    /// The same of the disk, of which so many bytes are left.
    fn of_disk(&self, left: u64) -> Option<Excess> {
        (self.free.saturating_sub(left) > self.disk).then(|| match self.limits.disk {
            None if self.free < SMALL_DISK => {
                Excess::Space(format!("wrote nearly all of the {} that were free", bytes(self.free)))
            }
            _ => Excess::Limit(format!("writes more than {}", bytes(self.disk))),
        })
    }

    fn of_processes(&self, child: u32, printed: &AtomicU64) -> Option<String> {
        let ScriptLimits { processes, output, .. } = self.limits;
        if printed.load(Ordering::Relaxed) > output {
            return Some(format!("printed more than {}", bytes(output)));
        }
        let all = below(child);
        if all.len() as u64 > processes {
            return Some(format!("has more than {processes} processes"));
        }
        if all.iter().map(|one| one.resident).fold(0, u64::saturating_add) > self.memory
            && all.iter().map(|one| own_memory(one.pid)).fold(0, u64::saturating_add) > self.memory
        {
            return Some(format!("takes more than {} of memory", bytes(self.memory)));
        }
        None
    }
}

/// Bytes for people.
fn bytes(count: u64) -> String {
    match count {
        0..1_048_576 => format!("{count} bytes"),
        _ => format!("{} MiB", count >> 20),
    }
}

/// Waits until a child ends, or goes over a limit; `printed` counts what it prints.
/// Errors: A system call failed.
pub(super) fn wait(child: &mut Child, bounds: Option<&Bounds>, printed: &AtomicU64) -> std::io::Result<Waited> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    // A kernel before 5.3 has no such descriptors, and no limit then.
    let (Some(bounds), Some(Ok(ended))) = (bounds, pid.map(|pid| pidfd_open(pid, PidfdFlags::empty()))) else {
        return child.wait().map(Waited::Ended);
    };
    let until = Instant::now() + Duration::from_secs(bounds.limits.seconds);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        let tick = left.min(TICK);
        let timeout = rustix::event::Timespec { tv_sec: tick.as_secs() as i64, tv_nsec: tick.subsec_nanos().into() };
        let mut ready = [PollFd::from_borrowed_fd(ended.as_fd(), PollFlags::IN)];
        match poll(&mut ready, Some(&timeout)) {
            Err(rustix::io::Errno::INTR) => {}
            Ok(0) if left.is_zero() => return Ok(Waited::TooLong(running(child.id()))),
            Ok(0) => {
                if let Some(what) = bounds.exceeded(child.id(), printed) {
                    let mut running = running(child.id());
                    let more = running.len().saturating_sub(SHOWN);
                    running.truncate(SHOWN);
                    running.extend((more > 0).then(|| format!("and {more} more")));
                    return Ok(Waited::TooMuch(what, running));
                }
            }
            Ok(_) => return child.wait().map(Waited::Ended),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Bytes of a page of this machine.
fn page() -> u64 {
    // SAFETY: it reads a number.
    u64::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) }).unwrap_or(4096)
}

/// Commands that a message names at most.
const SHOWN: usize = 10;

struct Process {
    pid: u32,
    parent: u32,
    resident: u64,
}

/// All processes that can be seen. Source: proc(5), /proc/PID/stat: the second field is a name that may hold anything.
fn processes() -> Vec<Process> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let read = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let parent = fields.nth(1)?.parse().ok()?;
        let pages: u64 = fields.nth(19)?.parse().ok()?;
        Some(Process { pid, parent, resident: pages.saturating_mul(page()) })
    };
    pids.filter_map(read).collect()
}

/// Processes of a command: all but this one, where this is the first of a namespace, as the kernel hands it those whose parent is gone.
fn below(child: u32) -> Vec<Process> {
    let mut all = processes();
    let own = std::process::id();
    if own == 1 {
        all.retain(|one| one.pid != own);
        return all;
    }
    let mut kin = std::collections::HashSet::from([child]);
    loop {
        let before = kin.len();
        kin.extend(all.iter().filter(|one| kin.contains(&one.parent)).map(|one| one.pid).collect::<Vec<_>>());
        if kin.len() == before {
            break;
        }
    }
    all.retain(|one| kin.contains(&one.pid));
    all
}

/// Memory that a process shares with no file. Source: proc(5), /proc/PID/statm.
fn own_memory(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap_or_default();
    let mut fields = text.split_whitespace().skip(1).filter_map(|field| field.parse::<u64>().ok());
    let (resident, shared) = (fields.next().unwrap_or(0), fields.next().unwrap_or(0));
    resident.saturating_sub(shared).saturating_mul(page())
}

/// Commands below a process, each after the one that started it; without imgbuild's own processes.
fn running(from: u32) -> Vec<String> {
    let mut below: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for Process { pid, parent, .. } in processes() {
        below.entry(parent).or_default().push(pid);
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
    found.retain(|line| !line.contains(crate::helper::ARGUMENT));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bounds(change: impl FnOnce(&mut Bounds)) -> Bounds {
        let limits = ScriptLimits { seconds: 60, ..ScriptLimits::default() };
        let mut bounds = Bounds { limits, memory: u64::MAX, disk: u64::MAX, free: free(), machine: u64::MAX };
        change(&mut bounds);
        bounds
    }

    fn waited(script: &str, bounds: &Bounds, printed: u64) -> Waited {
        use std::os::unix::process::CommandExt;
        let mut child = std::process::Command::new("sh").args(["-c", script]).process_group(0).spawn().unwrap();
        let waited = wait(&mut child, Some(bounds), &AtomicU64::new(printed)).unwrap();
        if let Some(group) = Pid::from_raw(child.id() as i32) {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        let _ = child.wait();
        waited
    }

    #[test]
    fn a_command_that_ends_is_waited_for_and_one_that_does_not_is_named() {
        assert!(matches!(waited("true", &bounds(|_| {}), 0), Waited::Ended(status) if status.success()));
        let Waited::TooLong(named) = waited("sleep 321; true", &bounds(|one| one.limits.seconds = 1), 0) else {
            panic!("it ended")
        };
        assert!(named.iter().any(|line| line == "sleep 321"), "{named:?}");
    }

    #[test]
    fn each_limit_ends_a_command_and_says_which_it_is() {
        let over = |script: &str, bounds: &Bounds, printed: u64| match waited(script, bounds, printed) {
            Waited::TooMuch(Excess::Limit(what) | Excess::Space(what), running) => (what, running),
            Waited::Ended(_) | Waited::TooLong(_) => panic!("{script} was not ended for what it took"),
        };
        let many = "for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do sleep 322 & done; wait";
        let (what, running) = over(many, &bounds(|one| one.limits.processes = 12), 0);
        assert_eq!(what, "has more than 12 processes");
        assert!(running.len() == SHOWN + 1 && running[SHOWN].starts_with("and "), "{running:?}");
        let large = "x=$(head -c 60000000 /dev/zero | tr '\\0' x); sleep 323";
        let (what, _) = over(large, &bounds(|one| one.memory = 40 << 20), 0);
        assert_eq!(what, "takes more than 40 MiB of memory");
        let (what, _) = over("sleep 324", &bounds(|one| one.limits.output = 5000), 5001);
        assert_eq!(what, "printed more than 5000 bytes");
        let (what, _) = over("sleep 325", &bounds(|one| (one.disk, one.free) = (1 << 20, u64::MAX)), 0);
        assert_eq!(what, "writes more than 1 MiB");
        // No limit was named, and the disk is small: the disk is what needs room.
        let of_disk =
            |free, named| bounds(|one| (one.free, one.disk, one.limits.disk) = (free, free / 10 * 9, named)).of_disk(0);
        assert!(matches!(of_disk(SMALL_DISK - 1, None), Some(Excess::Space(what)) if what.contains("8191 MiB")));
        assert!(matches!(of_disk(SMALL_DISK - 1, Some(1)), Some(Excess::Limit(_))));
        assert!(matches!(of_disk(SMALL_DISK, None), Some(Excess::Limit(_))));
    }
}
