//! uname(2) as programs inside see it: the release is that of the image's kernel, and nothing is of the build host's.
//!
//! The program `uname` has a stand-in of its own (`distro::inside::uname`), which also finds out who asks. This is for what asks the
//! kernel itself: `os.uname()` of Python, `POSIX::uname` of Perl, rpm's own look at the machine.

use rustix::io::Errno;

use super::supervisor::write;
use crate::emulator::images_machine;

/// Bytes of each of the six texts. Source: linux/utsname.h, `__NEW_UTS_LEN` and the end.
const LENGTH: usize = 65;

/// Low byte of a process's personality that makes the machine a 32-bit one. Source: linux/personality.h, `PER_LINUX32`.
const LINUX32: u32 = 0x08;

/// Writes the answer where the call wants it.
/// Errors: EFAULT when that cannot be written.
pub(super) fn answer(asked: &libc::seccomp_notif, release: &str) -> Result<(), Errno> {
    let names = rustix::system::uname();
    let machine = match images_machine() {
        "x86_64" if is_of_32_bits(asked.pid) => "i686",
        "aarch64" if is_of_32_bits(asked.pid) => "armv8l",
        machine => machine,
    };
    let texts = [
        names.sysname().to_bytes(),
        names.nodename().to_bytes(),
        if fault::planted("kernel-of-host") { names.release().to_bytes() } else { release.as_bytes() },
        b"#1 SMP",
        machine.as_bytes(),
        names.domainname().to_bytes(),
    ];
    let mut bytes = [0u8; LENGTH * 6];
    for (place, text) in bytes.chunks_exact_mut(LENGTH).zip(texts) {
        let text = &text[..text.len().min(LENGTH - 1)];
        place[..text.len()].copy_from_slice(text);
    }
    write(asked, asked.data.args[0], &bytes)
}

fn is_of_32_bits(pid: u32) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/personality")).unwrap_or_default();
    u32::from_str_radix(text.trim(), 16).is_ok_and(|personality| personality & 0xff == LINUX32)
}
