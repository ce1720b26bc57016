//! A seccomp filter: which system calls a command inside may make, by each ABI that this kernel runs (`calls.txt`); all others, and all of
//! another ABI, are answered with ENOSYS. What is listed and is in no namespace is out of reach by its argument: sockets of a
//! family that knows no network namespace (to the machine that a virtual one runs on, for instance), the kernel's log, what is typed
//! into a terminal, limits of other processes. fsync and its kin succeed at once (D4), and so does choosing processors: which there are
//! is the host's.
//!
//! Package managers sync after each file; a layer is either committed after one `syncfs` of the store or thrown
//! away, so those calls protect nothing here.

use std::os::fd::{FromRawFd, OwnedFd};

use libc::sock_filter;

/// Names of calls with their numbers; see there.
const CALLS: &str = include_str!("calls.txt");

/// An ABI of system calls: its name for the kernel, and the column of its numbers in [`CALLS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Abi {
    architecture: u32,
    column: usize,
}

// Numbers of linux/audit.h. Calls of x32 come as those of x86-64 with a bit in their number that is in no list.
const X86_64: Abi = Abi { architecture: 0xC000_003E, column: 0 };
const I386: Abi = Abi { architecture: 0x4000_0003, column: 1 };
const AARCH64: Abi = Abi { architecture: 0xC000_00B7, column: 2 };
const AARCH32: Abi = Abi { architecture: 0x4000_0028, column: 3 };

/// Those that this kernel runs.
const ABIS: [Abi; 2] = if cfg!(target_arch = "x86_64") { [X86_64, I386] } else { [AARCH64, AARCH32] };

/// All names with their numbers.
fn calls(abi: Abi) -> impl Iterator<Item = (&'static str, u32)> {
    let lines = CALLS.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(move |line| {
        let mut words = line.split(' ');
        Some((words.next()?, words.nth(abi.column)?.parse().ok()?))
    })
}

/// The name of a call of an architecture.
pub(crate) fn name_of(architecture: u32, call: i32) -> Option<&'static str> {
    let abi = ABIS.into_iter().find(|abi| abi.architecture == architecture)?;
    calls(abi).find(|(_, number)| *number == call as u32).map(|(name, _)| name)
}

/// Whether the calls of an architecture are made with words of 32 bits. Source: linux/audit.h, `__AUDIT_ARCH_64BIT`.
pub(crate) fn is_of_32_bits(architecture: u32) -> bool {
    architecture & 0x8000_0000 == 0
}

/// Families of sockets that know network namespaces, or reach nothing but what is inside. Others are of this machine (AF_VSOCK, AF_ALG,
/// AF_QIPCRTR, AF_BLUETOOTH), and no package needs them to be installed.
const FAMILIES: [i32; 4] = [libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK];

/// The call is skipped and gives this error number; with 0 it succeeds. Source: seccomp(2).
const fn answer(error: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | error as u32
}

/// struct seccomp_data: the number at offset 0, the architecture at 4, the first two arguments' low halves.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const FIRST: u32 = 16;
const SECOND: u32 = 24;

fn statement(code: u32, k: u32) -> sock_filter {
    sock_filter { code: code as u16, jt: 0, jf: 0, k }
}

fn load(offset: u32) -> sock_filter {
    statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, offset)
}

fn give(action: u32) -> sock_filter {
    statement(libc::BPF_RET | libc::BPF_K, action)
}

/// Runs `block` where what was loaded passes the test, and else goes on behind it.
fn when(test: u32, k: u32, block: Vec<sock_filter>) -> Vec<sock_filter> {
    let code = (libc::BPF_JMP | test | libc::BPF_K) as u16;
    // A conditional jump goes 255 steps at most.
    let mut all =
        vec![sock_filter { code, jt: 1, jf: 0, k }, statement(libc::BPF_JMP | libc::BPF_JA, block.len() as u32)];
    all.extend(block);
    all
}

fn equal(k: u32, block: Vec<sock_filter>) -> Vec<sock_filter> {
    when(libc::BPF_JEQ, k, block)
}

/// Lets go on what is in one of the ranges, which are in order, and answers all else with ENOSYS: always the half is left.
fn within(ranges: &[(u32, u32)]) -> Vec<sock_filter> {
    match ranges {
        [] => vec![give(answer(libc::ENOSYS))],
        [(first, last)] => {
            let last = when(libc::BPF_JGT, *last, vec![give(answer(libc::ENOSYS))]);
            let block = [last, vec![give(libc::SECCOMP_RET_ALLOW)]].concat();
            [when(libc::BPF_JGE, *first, block), vec![give(answer(libc::ENOSYS))]].concat()
        }
        _ => {
            let (below, above) = ranges.split_at(ranges.len() / 2);
            [when(libc::BPF_JGE, above[0].0, within(above)), within(below)].concat()
        }
    }
}

/// Numbers as ranges, in order.
fn ranges(mut numbers: Vec<u32>) -> Vec<(u32, u32)> {
    numbers.sort_unstable();
    numbers.dedup();
    let mut all: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match all.last_mut() {
            Some((_, last)) if *last + 1 == number => *last = number,
            _ => all.push((number, number)),
        }
    }
    all
}

/// What becomes of a call of this name, where that is not that it goes on.
fn special(name: &str, asked: Asked) -> Option<Vec<sock_filter>> {
    let by_argument = |argument: u32, wanted: &[u32], action: u32, else_action: u32| {
        let mut block = vec![load(argument)];
        block.extend(wanted.iter().flat_map(|value| equal(*value, vec![give(action)])));
        block.push(give(else_action));
        block
    };
    let go_on = libc::SECCOMP_RET_ALLOW;
    match name {
        "fsync"
        | "fdatasync"
        | "sync"
        | "syncfs"
        | "msync"
        | "sync_file_range"
        | "sync_file_range2"
        | "arm_sync_file_range"
        | "sched_setaffinity" => Some(vec![give(answer(0))]),
        "syslog" => Some(vec![give(answer(libc::EPERM))]),
        "ioctl" => {
            let requests = [libc::TIOCSTI as u32, libc::TIOCLINUX as u32];
            Some(by_argument(SECOND, &requests, answer(libc::EPERM), go_on))
        }
        "socket" | "socketpair" => {
            Some(by_argument(FIRST, &FAMILIES.map(|one| one as u32), go_on, answer(libc::EAFNOSUPPORT)))
        }
        // Its own limits, and not those of process 1.
        "prlimit64" => Some(by_argument(FIRST, &[0], go_on, answer(libc::EPERM))),
        "uname" | "sysinfo" | "sched_getaffinity" | "getcpu" if asked != Asked::Nothing => {
            Some(vec![give(libc::SECCOMP_RET_USER_NOTIF)])
        }
        "mknod" | "mknodat" if matches!(asked, Asked::More { .. }) => Some(vec![give(libc::SECCOMP_RET_USER_NOTIF)]),
        "rename" | "renameat" | "renameat2" if matches!(asked, Asked::More { renames: true, .. }) => {
            Some(vec![give(libc::SECCOMP_RET_USER_NOTIF)])
        }
        "execve" | "execveat" if matches!(asked, Asked::More { starts: true, .. }) => {
            Some(vec![give(libc::SECCOMP_RET_USER_NOTIF)])
        }
        _ => None,
    }
}

fn program(abis: &[Abi], asked: Asked) -> Vec<sock_filter> {
    let mut all = vec![load(ARCHITECTURE)];
    for abi in abis {
        let mut block = vec![load(NUMBER)];
        for (name, number) in calls(*abi) {
            block.extend(special(name, asked).map(|block| equal(number, block)).unwrap_or_default());
        }
        block.extend(within(&ranges(calls(*abi).map(|(_, number)| number).collect())));
        all.extend(equal(abi.architecture, block));
    }
    all.push(give(answer(libc::ENOSYS)));
    all
}

/// Whether the kernel lets a call go on that was asked about: Linux 5.5. Source: seccomp_unotify(2).
fn asking_goes_on() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 5)
}

/// Which calls wait for an answer of anyone who has the filter's descriptor: each has those before it, too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Machine,
    /// Those that tell of the machine and its kernel, and calls that may go on afterwards: mknod(2), renames, starts of programs.
    More {
        renames: bool,
        starts: bool,
    },
}

/// Installs the filter on the calling process and all that it starts. Where the kernel can, calls that tell of the machine and its kernel and
/// mknod(2) wait for an answer of anyone who has the descriptor that comes back, with `renames` each rename, and with `starts` each start
/// of a program, too.
/// Errors: The kernel's, where it has no seccomp.
pub(crate) fn install(renames: bool, starts: bool) -> std::io::Result<Option<OwnedFd>> {
    let load = |asked: Asked| {
        let mut program = program(&ABIS, asked);
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        let flags = if asked == Asked::Nothing { 0 } else { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER };
        // SAFETY: `filter` points at a live program of `len` instructions; the kernel copies it. The process has
        // CAP_SYS_ADMIN in its user namespace, so PR_SET_NO_NEW_PRIVS is not needed.
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) }
    };
    let listener = load(if asking_goes_on() { Asked::More { renames, starts } } else { Asked::Machine });
    if listener >= 0 {
        // SAFETY: a new descriptor that no one else owns.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(listener as i32) }));
    }
    // Before Linux 5.0 no one can be asked.
    if load(Asked::Nothing) == 0 { Ok(None) } else { Err(std::io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Asked = Asked::More { renames: true, starts: true };

    /// What the filter gives, as the kernel would run it.
    fn run(program: &[sock_filter], data: [u32; 8]) -> u32 {
        let (mut at, mut value) = (0, 0);
        for _ in 0..program.len() {
            let step = program[at];
            at += 1;
            let test = |passes: bool| usize::from(if passes { step.jt } else { step.jf });
            match u32::from(step.code) {
                0x20 => value = data[step.k as usize / 4],
                0x06 => return step.k,
                0x05 => at += step.k as usize,
                0x15 => at += test(value == step.k),
                0x25 => at += test(value > step.k),
                0x35 => at += test(value >= step.k),
                code => panic!("{code:x}"),
            }
        }
        panic!("it does not end")
    }

    fn call(program: &[sock_filter], abi: Abi, number: u32, arguments: (u32, u32)) -> u32 {
        run(program, [number, abi.architecture, 0, 0, arguments.0, 0, arguments.1, 0])
    }

    #[test]
    fn what_is_listed_goes_on_and_each_other_number_of_each_abi_is_unknown() {
        for abis in [[X86_64, I386], [AARCH64, AARCH32]] {
            for asked in [Asked::Nothing, Asked::Machine, ALL] {
                let program = program(&abis, asked);
                // Source: linux/bpf_common.h, BPF_MAXINSNS.
                assert!(program.len() < 4096, "{}", program.len());
                for abi in abis {
                    let listed: std::collections::BTreeMap<u32, &str> =
                        calls(abi).map(|(name, number)| (number, name)).collect();
                    assert!(listed.len() > 250, "{}", listed.len());
                    let numbers = (0..1024).chain(983_040..983_050).chain([0x4000_0000, 0x4000_0001, u32::MAX]);
                    for number in numbers {
                        let found = call(&program, abi, number, (0, 0));
                        let is_unknown = found == answer(libc::ENOSYS);
                        assert_eq!(is_unknown, !listed.contains_key(&number), "{abi:?} {number}: {found:x}");
                    }
                }
                for other in [X86_64, I386, AARCH64, AARCH32, Abi { architecture: 0x8000_0016, column: 0 }] {
                    let is_run = call(&program, other, calls(X86_64).next().unwrap().1, (0, 0)) != answer(libc::ENOSYS);
                    assert!(!is_run || abis.contains(&other), "{other:?}");
                }
            }
        }
    }

    #[test]
    fn no_list_has_what_goes_round_the_filter_or_reaches_another_process() {
        for abi in [X86_64, I386, AARCH64, AARCH32] {
            for name in [
                "io_uring_setup",
                "io_uring_enter",
                "io_uring_register",
                "ptrace",
                "process_vm_readv",
                "process_vm_writev",
                "pidfd_getfd",
                "kcmp",
                "userfaultfd",
                "perf_event_open",
                "bpf",
                "memfd_secret",
                "fsopen",
                "open_tree",
                "move_mount",
                "open_by_handle_at",
                "name_to_handle_at",
                "keyctl",
                "socketcall",
                "rseq",
                "reboot",
                "kexec_load",
            ] {
                assert!(calls(abi).all(|(known, _)| known != name), "{name}");
            }
        }
    }

    #[test]
    fn calls_that_depend_on_an_argument_do_so_by_each_abi() {
        for abi in [X86_64, I386, AARCH64, AARCH32] {
            let program = program(&[abi], ALL);
            let of = |name: &str, arguments| {
                let (_, number) = calls(abi).find(|(known, _)| *known == name).unwrap();
                call(&program, abi, number, arguments)
            };
            let go_on = libc::SECCOMP_RET_ALLOW;
            for family in 0..64 {
                let allowed = [1, 2, 10, 16].contains(&family);
                assert_eq!(of("socket", (family, 1)) == go_on, allowed, "{family}");
                assert_eq!(of("socketpair", (family, 1)) == go_on, allowed, "{family}");
            }
            for name in ["fsync", "syncfs", "sched_setaffinity"] {
                assert_eq!(of(name, (3, 0)), answer(0), "{name}");
            }
            assert_eq!(
                (of("ioctl", (0, 0x5412)), of("ioctl", (0, 0x541c))),
                (answer(libc::EPERM), answer(libc::EPERM))
            );
            assert_eq!((of("ioctl", (0, 0x5413)), of("prlimit64", (0, 1))), (go_on, go_on));
            assert_eq!((of("prlimit64", (1, 1)), of("syslog", (3, 0))), (answer(libc::EPERM), answer(libc::EPERM)));
            for name in [
                "renameat",
                "renameat2",
                "uname",
                "sysinfo",
                "sched_getaffinity",
                "getcpu",
                "mknodat",
                "execve",
                "execveat",
            ] {
                assert_eq!(of(name, (0, 0)), libc::SECCOMP_RET_USER_NOTIF, "{name}");
            }
        }
    }
}
