//! exec, module loading, memory, reboot.

use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;
use std::time::Duration;

use super::mounts::mount;
use super::{c, check};

/// What cannot happen.
pub(crate) enum Never {}

/// Frees the initrd, makes `root` the root, does what is `last`, and executes `init` in this process.
pub(crate) fn become_root(root: &str, init: &str, last: impl FnOnce() -> io::Result<()>) -> io::Result<Never> {
    std::env::set_current_dir(root)?;
    free_initrd();
    mount(".", "/", "", libc::MS_MOVE, "")?;
    let (here, init) = (c(".")?, c(init)?);
    let arguments = [init.as_ptr(), std::ptr::null()];
    // SAFETY: all pointers are to live, terminated strings; execv takes a null-terminated array of them.
    unsafe {
        check(libc::chroot(here.as_ptr()))?;
        check(libc::chdir(c"/".as_ptr()))?;
    }
    last()?;
    // SAFETY: as above.
    unsafe {
        check(libc::execv(init.as_ptr(), arguments.as_ptr()))?;
    }
    Err(io::Error::other("execv returned"))
}

/// Removes the files of the initrd: they would take memory for ever. Mounts below are left alone.
fn free_initrd() {
    use std::os::unix::fs::MetadataExt;
    fn remove(path: &Path, device: u64) {
        let Ok(entries) = std::fs::read_dir(path) else { return };
        for entry in entries.flatten() {
            let Ok(metadata) = entry.path().symlink_metadata() else { continue };
            if metadata.dev() != device {
                continue;
            }
            if metadata.is_dir() {
                remove(&entry.path(), device);
                let _ = std::fs::remove_dir(entry.path());
            } else {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
    if let Ok(metadata) = Path::new("/").symlink_metadata() {
        remove(Path::new("/"), metadata.dev());
    }
}

/// Loads a module from a file.
pub(crate) fn load_module(path: &Path, options: &str) -> io::Result<()> {
    let file = std::fs::File::open(path)?;
    let options = c(options)?;
    // SAFETY: the descriptor is open and the string is live and terminated. Source: finit_module(2).
    let result = unsafe { libc::syscall(libc::SYS_finit_module, file.as_raw_fd(), options.as_ptr(), 0) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// What `uname -r` prints.
pub(crate) fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
}

/// Sets the host name.
pub(crate) fn set_host_name(name: &str) {
    // SAFETY: pointer and length belong to one live string.
    unsafe { libc::sethostname(name.as_ptr().cast(), name.len()) };
}

/// Memory that can be used, in bytes. Source: proc(5), MemAvailable.
pub(crate) fn memory_available() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let kib = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:")?.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// A random number; from the clock where the kernel has none yet.
pub(crate) fn random_u32() -> u32 {
    let mut bytes = [0u8; 4];
    // SAFETY: the buffer is live and as long as said. GRND_NONBLOCK: early in the boot the pool may be empty.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), libc::GRND_NONBLOCK) };
    if got == 4 {
        return u32::from_ne_bytes(bytes);
    }
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    now.subsec_nanos().wrapping_mul(2_654_435_761)
}

/// Waits until the kernel has random numbers, which makes it collect them from its own timing where the processor has no
/// generator: from Linux 5.4 on that takes a second, and without anybody who waits it is not done. TLS needs them, and so does
/// the image. Source: Linux, drivers/char/random.c, `try_to_generate_entropy`.
pub(crate) fn ask_for_randomness() {
    let mut byte = 0u8;
    // SAFETY: the buffer is live and as long as said.
    unsafe { libc::getrandom((&raw mut byte).cast(), 1, 0) };
}

/// Starts the machine again.
pub(crate) fn reboot() -> ! {
    // SAFETY: no pointers; the machine is in memory only, so nothing has to be written first.
    unsafe { libc::reboot(libc::RB_AUTOBOOT) };
    stop_here()
}

/// Does nothing for ever: the first process must not end.
pub(crate) fn stop_here() -> ! {
    loop {
        std::thread::sleep(Duration::from_secs(3600));
    }
}

/// Reaps until a process has ended; gives its status, or 128 and the number of the signal that ended it.
pub(super) fn end_as(child: libc::pid_t) -> i32 {
    loop {
        let mut status = 0;
        // SAFETY: `status` is live.
        let found = unsafe { libc::waitpid(-1, &raw mut status, 0) };
        if found == child && libc::WIFEXITED(status) {
            return libc::WEXITSTATUS(status);
        }
        if found == child && libc::WIFSIGNALED(status) {
            return 128 + libc::WTERMSIG(status);
        }
        if found < 0 && io::Error::last_os_error().kind() != io::ErrorKind::Interrupted {
            return 1;
        }
    }
}

/// Runs something in a process of its own that outlives this program's exec; gives its number.
pub(crate) fn fork_daemon(work: impl FnOnce()) -> io::Result<libc::pid_t> {
    // SAFETY: the child uses the heap, which glibc's fork leaves usable; other threads only sleep or wait.
    match check(unsafe { libc::fork() })? {
        0 => {
            // SAFETY: no pointers.
            unsafe { libc::setsid() };
            work();
            std::process::exit(0);
        }
        child => Ok(child),
    }
}

/// Goes to the topmost control group, where no service manager looks for what is left of a service.
pub(crate) fn leave_control_group() {
    for file in ["/sys/fs/cgroup/cgroup.procs", "/sys/fs/cgroup/systemd/cgroup.procs"] {
        // Without systemd there is no such file, and nothing to leave.
        if Path::new(file).exists() {
            let _ = std::fs::write(file, "0");
        }
    }
}

/// Ends a process.
pub(crate) fn end(process: libc::pid_t) {
    // SAFETY: no pointers; the number is that of a child.
    unsafe { libc::kill(process, libc::SIGKILL) };
}
