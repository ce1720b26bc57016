//! The process that makes a call for which the filter asks: its memory, and where its paths lead.

use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

/// Longest path, with its end. Source: limits.h, PATH_MAX.
const PATH_MAX: usize = 4096;

/// A path of the process, with what it starts from.
pub struct Place {
    mounts: OwnedFd,
    root: OwnedFd,
    pub base: OwnedFd,
    pub path: Vec<u8>,
}

impl Place {
    /// The path at an address, from a directory of the process on.
    pub fn of(asked: &libc::seccomp_notif, directory: i32, address: u64) -> Option<Self> {
        let pid = i32::try_from(asked.pid).ok()?;
        let of_process = |what: &str| {
            let flags = OFlags::PATH | OFlags::CLOEXEC;
            rustix::fs::open(format!("/proc/{pid}/{what}"), flags, Mode::empty()).ok()
        };
        let path = text_at(pid, address)?;
        let base = match (path.first(), directory) {
            (Some(b'/'), _) => of_process("root")?,
            (Some(_), libc::AT_FDCWD) => of_process("cwd")?,
            (Some(_), descriptor) => of_process(&format!("fd/{descriptor}"))?,
            (None, _) => return None,
        };
        let mounts = rustix::fs::open(format!("/proc/{pid}/ns/mnt"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        Some(Self { mounts: mounts.ok()?, root: of_process("root")?, base, path })
    }

    /// Does something where the process is, in the directory that has the path's last name; gives what `work` gives, a number up to 255.
    pub fn run(&self, work: impl FnOnce(&OsStr) -> i32) -> Option<i32> {
        // SAFETY: this process has one thread.
        match unsafe { libc::fork() } {
            0 => {
                let status = self.enter().map_or(libc::ENOENT, work);
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

    /// Goes there; gives the last name.
    fn enter(&self) -> Option<&OsStr> {
        let kind = Some(rustix::thread::LinkNameSpaceType::Mount);
        rustix::thread::move_into_link_name_space(self.mounts.as_fd(), kind).ok()?;
        rustix::process::fchdir(&self.root).ok()?;
        rustix::process::chroot(".").ok()?;
        rustix::process::fchdir(&self.base).ok()?;
        let path = Path::new(OsStr::from_bytes(&self.path));
        let (parent, name) = (path.parent()?, path.file_name()?);
        if !parent.as_os_str().is_empty() {
            rustix::process::chdir(parent).ok()?;
        }
        Some(name)
    }
}

/// A text in another process's memory.
fn text_at(pid: i32, address: u64) -> Option<Vec<u8>> {
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
