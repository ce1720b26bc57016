//! A process that lives as long as the machine.

use std::fs::File;
use std::io;
use std::os::fd::FromRawFd;

use super::{c, check};

/// Makes this process one that nothing ends but the machine's end: signals of others are not heard, it is a session of its own, its
/// memory is not paged out, and it is not what the kernel ends when memory is short. Source: systemd.io/ROOT_STORAGE_DAEMONS.
pub(crate) fn outlive_all() -> io::Result<()> {
    for signal in
        [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT, libc::SIGUSR1, libc::SIGUSR2, libc::SIGPIPE]
    {
        // SAFETY: no handler but the kernel's own that ignores.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    // SAFETY: no pointers. It fails where it is one already.
    unsafe { libc::setsid() };
    let _ = std::fs::write("/proc/self/oom_score_adj", "-1000");
    // Pages that are used, and not all that stacks may grow to. Source: mlockall(2), Linux 4.4.
    // SAFETY: no pointers.
    check(unsafe { libc::mlockall(libc::MCL_CURRENT | libc::MCL_FUTURE | libc::MCL_ONFAULT) }).map(drop)
}

/// Makes a directory this process's root.
pub(crate) fn move_into(path: &str) -> io::Result<()> {
    let path = c(path)?;
    // SAFETY: the pointers are to live, terminated strings.
    unsafe {
        check(libc::chroot(path.as_ptr()))?;
        check(libc::chdir(c"/".as_ptr())).map(drop)
    }
}

/// Lets all others go before this thread. Source: setpriority(2): on Linux it is the thread's.
pub(crate) fn lower_priority() {
    // SAFETY: no pointers.
    unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, 10) };
}

/// A socket to the kernel's families of requests; what is written is a request, and what is read its answers. Source: netlink(7).
pub(crate) fn generic_netlink() -> io::Result<File> {
    // SAFETY: no pointers; what comes back is a new descriptor that no one else owns.
    unsafe {
        let fd = check(libc::socket(libc::AF_NETLINK, libc::SOCK_RAW | libc::SOCK_CLOEXEC, libc::NETLINK_GENERIC))?;
        Ok(File::from_raw_fd(fd))
    }
}
