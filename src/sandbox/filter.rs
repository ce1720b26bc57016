//! A seccomp filter: fsync and its kin succeed at once (D4), nothing can be typed into a terminal, and what is in no
//! namespace is out of reach: the kernel's log, and sockets to the machine that a virtual one runs on.
//!
//! Package managers sync after each file; a layer is either committed after one `syncfs` of the store or thrown
//! away, so those calls protect nothing here.

use std::os::fd::{FromRawFd, OwnedFd};

use libc::sock_filter;

/// The call is skipped and gives this error number; with 0 it succeeds. Source: seccomp(2).
const fn answer(error: i32) -> u32 {
    libc::SECCOMP_RET_ERRNO | error as u32
}

#[cfg(target_arch = "x86_64")]
const OWN_ARCHITECTURE: u32 = 0xC000_003E; // AUDIT_ARCH_X86_64, linux/audit.h
#[cfg(target_arch = "aarch64")]
const OWN_ARCHITECTURE: u32 = 0xC000_00B7; // AUDIT_ARCH_AARCH64, linux/audit.h

/// 32-bit programs on x86-64 come with this architecture and their own numbers.
#[cfg(target_arch = "x86_64")]
const I386: u32 = 0x4000_0003; // AUDIT_ARCH_I386, linux/audit.h

/// Calls of the x32 ABI have this bit in their number, under the architecture of x86-64. Source: seccomp(2), NOTES.
#[cfg(target_arch = "x86_64")]
const X32: u32 = 0x4000_0000;

const SKIPPED: [libc::c_long; 6] = [
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_msync,
    libc::SYS_sync_file_range,
];

/// rename, renameat and renameat2, by architecture; the first takes no directory. Source: the system call tables,
/// arch/x86/entry/syscalls/ and include/uapi/asm-generic/unistd.h.
#[cfg(target_arch = "x86_64")]
const RENAMES: [u32; 3] = [82, 264, 316];
#[cfg(target_arch = "aarch64")]
const RENAMES: [u32; 3] = [u32::MAX, 38, 276];
#[cfg(target_arch = "x86_64")]
const RENAMES_I386: [u32; 3] = [38, 302, 353];

/// uname(2). Source: as above; 32-bit programs have two older ones, which none of this century calls.
#[cfg(target_arch = "x86_64")]
const UNAME_I386: u32 = 122;

/// Whether a call of an architecture is uname(2).
pub fn is_uname(architecture: u32, call: i32) -> bool {
    #[cfg(target_arch = "x86_64")]
    if architecture == I386 {
        return call as u32 == UNAME_I386;
    }
    architecture == OWN_ARCHITECTURE && call as u32 == libc::SYS_uname as u32
}

/// Whether a call of an architecture is rename(2), which takes no directory before each path.
pub fn is_plain_rename(architecture: u32, call: i32) -> bool {
    #[cfg(target_arch = "x86_64")]
    if architecture == I386 {
        return call as u32 == RENAMES_I386[0];
    }
    architecture == OWN_ARCHITECTURE && call as u32 == RENAMES[0]
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
    let mut all = vec![sock_filter { code, jt: 0, jf: block.len() as u8, k }];
    all.extend(block);
    all
}

fn equal(k: u32, block: Vec<sock_filter>) -> Vec<sock_filter> {
    when(libc::BPF_JEQ, k, block)
}

/// The rules that all architectures share, with their numbers of ioctl, socket and syslog.
fn refusals(ioctl: u32, socket: u32, syslog: u32) -> Vec<sock_filter> {
    let mut terminal = vec![load(SECOND)];
    for request in [libc::TIOCSTI, libc::TIOCLINUX] {
        terminal.extend(equal(request as u32, vec![give(answer(libc::EPERM))]));
    }
    terminal.push(give(libc::SECCOMP_RET_ALLOW));
    let mut family = vec![load(FIRST)];
    family.extend(equal(libc::AF_VSOCK as u32, vec![give(answer(libc::EAFNOSUPPORT))]));
    family.push(give(libc::SECCOMP_RET_ALLOW));
    [equal(ioctl, terminal), equal(socket, family), equal(syslog, vec![give(answer(libc::EPERM))])].concat()
}

fn program(asked: Asked) -> Vec<sock_filter> {
    let notify = |renames: [u32; 3], uname: u32| -> Vec<sock_filter> {
        let mut calls = if asked == Asked::RenamesAndUname { renames.to_vec() } else { Vec::new() };
        if asked != Asked::Nothing {
            calls.push(uname);
        }
        calls.into_iter().flat_map(|call| equal(call, vec![give(libc::SECCOMP_RET_USER_NOTIF)])).collect()
    };
    let mut own = vec![load(NUMBER)];
    #[cfg(target_arch = "x86_64")]
    own.extend(when(libc::BPF_JSET, X32, vec![give(answer(libc::ENOSYS))]));
    for call in SKIPPED {
        own.extend(equal(call as u32, vec![give(answer(0))]));
    }
    own.extend(refusals(libc::SYS_ioctl as u32, libc::SYS_socket as u32, libc::SYS_syslog as u32));
    own.extend(notify(RENAMES, libc::SYS_uname as u32));
    own.push(give(libc::SECCOMP_RET_ALLOW));
    let mut all = vec![load(ARCHITECTURE)];
    all.extend(equal(OWN_ARCHITECTURE, own));
    #[cfg(target_arch = "x86_64")]
    {
        // Numbers of arch/x86/entry/syscalls/syscall_32.tbl. What socketcall (102) asks for lies in memory, where no
        // filter sees it; programs have used socket (359) since Linux 4.3.
        let mut other = vec![load(NUMBER)];
        other.extend(equal(102, vec![give(answer(libc::ENOSYS))]));
        other.extend(refusals(54, 359, 103));
        other.extend(notify(RENAMES_I386, UNAME_I386));
        other.push(give(libc::SECCOMP_RET_ALLOW));
        all.extend(equal(I386, other));
    }
    // Calls of yet another architecture are only slow.
    all.push(give(libc::SECCOMP_RET_ALLOW));
    all
}

/// Whether the kernel lets a call go on that was asked about: Linux 5.5. Source: seccomp_unotify(2).
fn asking_goes_on() -> bool {
    let name = rustix::system::uname();
    let release = name.release().to_string_lossy();
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) >= (5, 5)
}

/// Which calls wait for an answer of anyone who has the filter's descriptor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Uname,
    RenamesAndUname,
}

/// Installs the filter on the calling process and all that it starts. Where the kernel can, uname(2) waits for an answer of anyone who has
/// the descriptor that comes back, and with `renames` each rename, too.
/// Errors: The kernel's, where it has no seccomp.
pub fn install(renames: bool) -> std::io::Result<Option<OwnedFd>> {
    let load = |asked: Asked| {
        let mut program = program(asked);
        let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
        let flags = if asked == Asked::Nothing { 0 } else { libc::SECCOMP_FILTER_FLAG_NEW_LISTENER };
        // SAFETY: `filter` points at a live program of `len` instructions; the kernel copies it. The process has
        // CAP_SYS_ADMIN in its user namespace, so PR_SET_NO_NEW_PRIVS is not needed.
        unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const filter) }
    };
    let listener = load(if renames && asking_goes_on() { Asked::RenamesAndUname } else { Asked::Uname });
    if listener >= 0 {
        // SAFETY: a new descriptor that no one else owns.
        return Ok(Some(unsafe { OwnedFd::from_raw_fd(listener as i32) }));
    }
    // Before Linux 5.0 no one can be asked.
    if load(Asked::Nothing) == 0 { Ok(None) } else { Err(std::io::Error::last_os_error()) }
}
