//! The kernel that runs when this one crashes, and how a machine ends.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

use super::{c, stop_here};

/// Puts a kernel, its initrd and its command line into the memory that is reserved for them. Source: kexec_file_load(2).
pub(crate) fn load_crash_kernel(kernel: &File, initrd: &File, words: &str) -> io::Result<()> {
    /// Source: Linux, include/uapi/linux/kexec.h.
    const ON_CRASH: libc::c_ulong = 2;
    let words = c(words)?;
    // The length counts the byte that ends it.
    let length = words.as_bytes_with_nul().len();
    // SAFETY: both descriptors are open; pointer and length belong to one live, terminated string.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kexec_file_load,
            kernel.as_raw_fd(),
            initrd.as_raw_fd(),
            length as libc::c_ulong,
            words.as_ptr(),
            ON_CRASH,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Switches the machine off.
pub(crate) fn power_off() -> ! {
    // SAFETY: no pointers; what was to be written is.
    unsafe { libc::reboot(libc::RB_POWER_OFF) };
    stop_here()
}
