//! uname(2) as programs inside see it: the release is that of the image's kernel, and nothing is of the build host's.
//!
//! The program `uname` has a stand-in of its own (`distro::inside::uname`), which also finds out who asks. This is for what asks the
//! kernel itself: `os.uname()` of Python, `POSIX::uname` of Perl, rpm's own look at the machine.

use crate::fault;

/// Bytes of each of the six texts. Source: linux/utsname.h, `__NEW_UTS_LEN` and the end.
const LENGTH: usize = 65;

/// Low byte of a process's personality that makes the machine a 32-bit one. Source: linux/personality.h, `PER_LINUX32`.
const LINUX32: u32 = 0x08;

/// Writes the answer where the call wants it; none when that cannot be written.
pub fn answer(asked: &libc::seccomp_notif, release: &str) -> Option<()> {
    let pid = i32::try_from(asked.pid).ok()?;
    let names = rustix::system::uname();
    let machine = names.machine().to_bytes();
    let machine = if machine == b"x86_64" && is_of_32_bits(pid) { b"i686" } else { machine };
    let texts = [
        names.sysname().to_bytes(),
        names.nodename().to_bytes(),
        if fault::planted("kernel-of-host") { names.release().to_bytes() } else { release.as_bytes() },
        b"#1 SMP",
        machine,
        names.domainname().to_bytes(),
    ];
    let mut bytes = [0u8; LENGTH * 6];
    for (place, text) in bytes.chunks_exact_mut(LENGTH).zip(texts) {
        let text = &text[..text.len().min(LENGTH - 1)];
        place[..text.len()].copy_from_slice(text);
    }
    let local = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    let remote = libc::iovec { iov_base: asked.data.args[0] as *mut libc::c_void, iov_len: bytes.len() };
    // SAFETY: the local piece is live and as long as said; the remote one is written by the kernel, which checks it.
    let written = unsafe { libc::process_vm_writev(pid, &raw const local, 1, &raw const remote, 1, 0) };
    (usize::try_from(written) == Ok(bytes.len())).then_some(())
}

fn is_of_32_bits(pid: i32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/personality")).unwrap_or_default();
    u32::from_str_radix(text.trim(), 16).is_ok_and(|personality| personality & 0xff == LINUX32)
}
