//! A seccomp filter: fsync and its kin succeed at once (D4), nothing can be typed into a terminal, and what is in no
//! namespace is out of reach: the kernel's log, and sockets to the machine that a virtual one runs on.
//!
//! Package managers sync after each file; a layer is either committed after one `syncfs` of the store or thrown
//! away, so those calls protect nothing here.

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

fn program() -> Vec<sock_filter> {
    let mut own = vec![load(NUMBER)];
    #[cfg(target_arch = "x86_64")]
    own.extend(when(libc::BPF_JSET, X32, vec![give(answer(libc::ENOSYS))]));
    for call in SKIPPED {
        own.extend(equal(call as u32, vec![give(answer(0))]));
    }
    own.extend(refusals(libc::SYS_ioctl as u32, libc::SYS_socket as u32, libc::SYS_syslog as u32));
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
        other.push(give(libc::SECCOMP_RET_ALLOW));
        all.extend(equal(I386, other));
    }
    // Calls of yet another architecture are only slow.
    all.push(give(libc::SECCOMP_RET_ALLOW));
    all
}

/// Installs the filter on the calling process and all that it starts.
///
/// # Errors
/// The kernel's, where it has no seccomp.
pub fn install() -> std::io::Result<()> {
    let mut program = program();
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `filter` points at a live program of `len` instructions; the kernel copies it. The process has
    // CAP_SYS_ADMIN in its user namespace, so PR_SET_NO_NEW_PRIVS is not needed.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
