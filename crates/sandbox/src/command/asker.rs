//! The process that a system call asks for: what stands in its memory, and where it is.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Longest path, with its end. Source: limits.h, PATH_MAX.
const PATH_MAX: usize = 4096;

/// Where a path of a process leads from.
#[derive(Debug)]
pub(super) struct Place {
    mounts: OwnedFd,
    /// The root directory of the process.
    pub root: OwnedFd,
    /// The directory that the path begins in.
    pub base: OwnedFd,
}

impl Place {
    /// Opens them for a path and the directory before it in the call (AT_FDCWD: it has no directory).
    pub(super) fn of(pid: i32, directory: i32, path: &[u8]) -> Option<Self> {
        let open = |what: &str, flags: OFlags| {
            rustix::fs::open(format!("/proc/{pid}/{what}"), flags | OFlags::CLOEXEC, Mode::empty()).ok()
        };
        let base = match (path.first(), directory) {
            (Some(b'/'), _) => open("root", OFlags::PATH)?,
            (Some(_), libc::AT_FDCWD) => open("cwd", OFlags::PATH)?,
            (Some(_), descriptor) => open(&format!("fd/{descriptor}"), OFlags::PATH)?,
            (None, _) => return None,
        };
        Some(Self { mounts: open("ns/mnt", OFlags::RDONLY)?, root: open("root", OFlags::PATH)?, base })
    }

    /// Works where the process is, in a process of its own, and waits for it.
    pub(super) fn visit(&self, work: impl FnOnce() -> Option<()>) -> Option<()> {
        self.run(|| i32::from(work().is_none())).filter(|status| *status == 0).map(drop)
    }

    /// The same; gives what `work` gives, a number up to 255, and 255 where it could not go there.
    pub(super) fn run(&self, work: impl FnOnce() -> i32) -> Option<i32> {
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => {
                let status = self.enter().map_or(255, |()| work());
                // SAFETY: ends the process and nothing else.
                unsafe { libc::_exit(status) }
            }
            child if child > 0 => {
                let mut status = 0;
                // SAFETY: `status` is live.
                unsafe { libc::waitpid(child, &raw mut status, 0) };
                libc::WIFEXITED(status).then(|| libc::WEXITSTATUS(status))
            }
            _ => None,
        }
    }

    fn enter(&self) -> Option<()> {
        let kind = Some(rustix::thread::LinkNameSpaceType::Mount);
        rustix::thread::move_into_link_name_space(self.mounts.as_fd(), kind).ok()?;
        rustix::process::fchdir(&self.root).ok()?;
        rustix::process::chroot(".").ok()?;
        rustix::process::fchdir(&self.base).ok()
    }
}

/// Goes to the directory that has a path's last name, and gives that name.
pub(super) fn enter_parent(path: &[u8]) -> Option<&OsStr> {
    let path = Path::new(OsStr::from_bytes(path));
    let (parent, name) = (path.parent()?, path.file_name()?);
    if !parent.as_os_str().is_empty() {
        rustix::process::chdir(parent).ok()?;
    }
    Some(name)
}

/// A text in another process's memory.
pub(super) fn text_at(pid: i32, address: u64) -> Option<Vec<u8>> {
    const PAGE: usize = 4096;
    let mut text = vec![0u8; PATH_MAX];
    let first = (PAGE - address as usize % PAGE).min(PATH_MAX);
    // A script may give any number for an address.
    let second = usize::try_from(address).ok()?.checked_add(first)?;
    let local = libc::iovec { iov_base: text.as_mut_ptr().cast(), iov_len: text.len() };
    // In two pieces: the second page may not be there.
    let remote = [
        libc::iovec { iov_base: address as *mut libc::c_void, iov_len: first },
        libc::iovec { iov_base: second as *mut libc::c_void, iov_len: PATH_MAX - first },
    ];
    // SAFETY: the local piece is live and as long as said; the remote ones are read by the kernel, which checks them.
    let read = unsafe { libc::process_vm_readv(pid, &raw const local, 1, remote.as_ptr(), 2, 0) };
    let read = usize::try_from(read).ok()?;
    let end = text[..read].iter().position(|byte| *byte == 0)?;
    text.truncate(end);
    Some(text)
}
