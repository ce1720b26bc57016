//! A seccomp filter under which fsync and its kin succeed at once (D4), and nothing can be typed into a terminal.
//!
//! Package managers sync after each file; a layer is either committed after one `syncfs` of the store or thrown
//! away, so those calls protect nothing here. Calls of another architecture pass through: they are only slow.

/// `SECCOMP_RET_ERRNO` with error number 0: the call is skipped and succeeds. Source: seccomp(2).
const RET_SUCCESS: u32 = libc::SECCOMP_RET_ERRNO;

#[cfg(target_arch = "x86_64")]
const OWN_ARCHITECTURE: u32 = 0xC000_003E; // AUDIT_ARCH_X86_64, linux/audit.h
#[cfg(target_arch = "aarch64")]
const OWN_ARCHITECTURE: u32 = 0xC000_00B7; // AUDIT_ARCH_AARCH64, linux/audit.h

const SKIPPED: [libc::c_long; 6] = [
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_msync,
    libc::SYS_sync_file_range,
];

/// Installs the filter on the calling process and all that it starts.
///
/// # Errors
/// The kernel's, where it has no seccomp; the caller goes on without, only slower.
pub fn install() -> std::io::Result<()> {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let jump = |k: u32, jt: u8, jf: u8| libc::sock_filter {
        code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
        jt,
        jf,
        k,
    };
    let load = libc::BPF_LD | libc::BPF_W | libc::BPF_ABS;
    // struct seccomp_data: the call's number at offset 0, the architecture at offset 4.
    let mut program = vec![statement(load, 4), jump(OWN_ARCHITECTURE, 1, 0)];
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(load, 0));
    let first = program.len();
    for call in SKIPPED {
        program.push(jump(call as u32, 0, 0));
    }
    // ioctl's request is its second argument: low half at offset 24.
    program.push(jump(libc::SYS_ioctl as u32, 1, 0));
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(load, 24));
    program.push(jump(libc::TIOCSTI as u32, 2, 0));
    program.push(jump(libc::TIOCLINUX as u32, 1, 0));
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    let success = program.len();
    program.push(statement(libc::BPF_RET | libc::BPF_K, RET_SUCCESS));
    for (index, jump) in program[first..first + SKIPPED.len()].iter_mut().enumerate() {
        jump.jt = (success - (first + index) - 1) as u8;
    }
    let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: `filter` points at a live program of `len` instructions; the kernel copies it. The process has
    // CAP_SYS_ADMIN in its user namespace, so PR_SET_NO_NEW_PRIVS is not needed.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, 0, &raw const filter) };
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
