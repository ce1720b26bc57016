//! What a process has of the one that started it, besides its environment: limits, signals, priorities. A command has the same of
//! all callers, so that nothing of that gets into an image. docs/sandbox.md says what cannot be had.

use rustix::fs::{Mode, OFlags};
use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};

const MOST: Option<u64> = None;

/// Soft and hard limits of each command, those that Linux gives its first process, with these exceptions: no file of a terabyte (a
/// sparse one costs nothing but the time to read it), no core files, and locked memory and signals that each user may have. Processes
/// are [`Bounds::hold`](super::limit::Bounds::hold)'s.
const LIMITS: [(Resource, Option<u64>, Option<u64>); 15] = [
    (Resource::Cpu, MOST, MOST),
    (Resource::Fsize, Some(1 << 40), Some(1 << 40)),
    (Resource::Data, MOST, MOST),
    (Resource::Stack, Some(8 << 20), MOST),
    (Resource::Core, Some(0), Some(0)),
    (Resource::Rss, MOST, MOST),
    (Resource::Nofile, Some(1024), Some(4096)),
    (Resource::Memlock, Some(64 << 10), Some(64 << 10)),
    (Resource::As, MOST, MOST),
    (Resource::Locks, MOST, MOST),
    (Resource::Sigpending, Some(1024), Some(1024)),
    (Resource::Msgqueue, Some(819_200), Some(819_200)),
    (Resource::Nice, Some(0), Some(0)),
    (Resource::Rtprio, Some(0), Some(0)),
    (Resource::Rttime, MOST, MOST),
];

/// `RLIMIT_NICE` of a process that may take the nice value 0. Source: getrlimit(2).
const NICE_OF_ZERO: u64 = 20;

/// What the machine's memory running out ends first. Source: proc(5), oom_score_adj.
const FIRST_TO_END: &[u8] = b"500";

/// Kinds of ioprio_set(2). Source: linux/ioprio.h.
const IOPRIO_WHO_PROCESS: libc::c_int = 1;

/// Makes room for [`same_for_all`], while the process still is one of the host's: what only root can change. It is called between fork
/// and exec, so that it only makes system calls.
pub(crate) fn make_room(on_terminal: bool) {
    for (resource, _, hard) in LIMITS {
        let now = getrlimit(resource);
        let hard = if matches!(resource, Resource::Nice) { Some(NICE_OF_ZERO) } else { hard };
        // None is more than any number.
        if now.maximum.is_some_and(|now| hard.is_none_or(|hard| now < hard)) {
            let soft = if matches!(resource, Resource::Nice) { hard } else { now.current };
            let _ = setrlimit(resource, Rlimit { current: soft, maximum: hard });
        }
    }
    // Inside, the file is that of a process that may not be looked at.
    write(c"/proc/self/oom_score_adj", FIRST_TO_END);
    // Without the limit the nice value can be taken here alone, by a root that may not raise limits.
    let mut enabled = [0u8];
    let _ =
        rustix::fs::open(c"/proc/sys/kernel/sched_autogroup_enabled", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| rustix::io::read(file, &mut enabled));
    if !on_terminal && enabled == *b"1" && getrlimit(Resource::Nice).current.is_some_and(|most| most < NICE_OF_ZERO) {
        let nice = nice();
        if nice > 0 && take_ordinary() {
            let _ = rustix::process::setsid();
            group_is_nice(nice);
        }
    }
}

fn nice() -> i32 {
    // SAFETY: a plain system call.
    unsafe { libc::getpriority(libc::PRIO_PROCESS, 0) }
}

fn take_ordinary() -> bool {
    // SAFETY: as above.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 0) == 0 }
}

fn write(path: &std::ffi::CStr, bytes: &[u8]) -> bool {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
    file.is_ok_and(|file| rustix::io::write(file, bytes).is_ok())
}

/// Makes the calling process, which becomes a command, the same for all callers; in a session of its own, where it has no terminal. What
/// the kernel refuses stays the caller's.
pub(crate) fn same_for_all(on_terminal: bool) {
    // Before the limits: one of them says which nice value may be taken.
    priorities(on_terminal);
    if fault::planted("limits-of-caller") {
        return;
    }
    for (resource, soft, hard) in LIMITS {
        if setrlimit(resource, Rlimit { current: soft, maximum: hard }).is_err() {
            let most = getrlimit(resource).maximum;
            let soft = match (soft, most) {
                (Some(soft), Some(most)) => Some(soft.min(most)),
                (soft, most) => soft.or(most),
            };
            let _ = setrlimit(resource, Rlimit { current: soft, maximum: most });
        }
    }
    rustix::process::umask(Mode::from_raw_mode(0o022));
    let (default, none) = ([0u64; 4], 0u64);
    // SAFETY: plain system calls. All bytes zero is the kernel's structure of a signal's default, and a set of none; both outlive the calls,
    // which are made past libc, because it keeps two signals for itself.
    unsafe {
        for signal in 1..=64 {
            libc::syscall(libc::SYS_rt_sigaction, signal, default.as_ptr(), std::ptr::null::<u64>(), size_of::<u64>());
        }
        let set = libc::SIG_SETMASK;
        libc::syscall(libc::SYS_rt_sigprocmask, set, &raw const none, std::ptr::null::<u64>(), size_of::<u64>());
        libc::personality(0);
        // What Linux gives its first process, in nanoseconds. Source: prctl(2), init/init_task.c.
        libc::prctl(libc::PR_SET_TIMERSLACK, 50_000, 0, 0, 0);
        libc::prctl(libc::PR_SET_THP_DISABLE, 0, 0, 0, 0);
    }
}

/// Ordinary priorities. Where the kernel groups processes by session, the group takes over how nice the caller is: `nice imgbuild build`
/// stays out of others' way, and no script sees it.
fn priorities(on_terminal: bool) {
    // The helper's group may have taken it over: `/autogroup-NUMBER nice N`.
    let group = std::fs::read_to_string("/proc/self/autogroup").unwrap_or_default();
    let group = group.trim().rsplit_once(" nice ").and_then(|(_, nice)| nice.parse().ok()).unwrap_or(0);
    let nice = nice().max(group);
    let is_ordinary = take_ordinary();
    if !on_terminal {
        let _ = rustix::process::setsid();
        if nice > 0 && is_ordinary {
            // A process that may not be looked at has no such file of its own. Nothing hostile runs yet.
            let _ = set_dumpable_behavior(DumpableBehavior::Dumpable);
            group_is_nice(nice);
            let _ = set_dumpable_behavior(DumpableBehavior::NotDumpable);
        }
    }
    let parameter = [0u32; 8];
    // SAFETY: plain system calls; the structure outlives its call.
    unsafe {
        libc::syscall(libc::SYS_sched_setscheduler, 0, libc::SCHED_OTHER, parameter.as_ptr());
        libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, 0);
    }
}

/// Source: sched(7), "The autogroup feature". One write in a tenth of a second is taken, of all processes together.
fn group_is_nice(nice: i32) {
    let mut digits = [b'0'; 2];
    digits[0] += (nice / 10 % 10) as u8;
    digits[1] += (nice % 10) as u8;
    // A zero before it would make it an octal number.
    let digits = if nice < 10 { &digits[1..] } else { &digits[..] };
    for _ in 0..5 {
        if write(c"/proc/self/autogroup", digits) {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(101));
    }
}
