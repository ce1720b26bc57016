//! Renames of directories that lie in lower layers.
//!
//! overlayfs refuses them with EXDEV (Documentation/filesystems/overlayfs.rst, "Renaming directories"; `redirect_dir` cannot be had
//! together with `userxattr`). mv(1) copies then, but rename(2) in a script does not: rpm's guidelines tell packages to replace a
//! directory by a link with `os.rename` in Lua, and such a script fails, or spins. So each rename asks here first: a directory of
//! lower layers is recreated above them, as mv would, and the call goes on. A layer is what differs between two trees, so its bytes
//! are those of the other way to assemble trees, where no rename fails.

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use crate::sandbox::tree::copy::copy_layers;

/// Longest path, with its end. Source: limits.h, PATH_MAX.
const PATH_MAX: usize = 4096;

/// Recreates what a call renames, where it is a directory of lower layers. Whatever fails here fails in the call, too.
pub fn make_room(asked: &libc::seccomp_notif) -> Option<()> {
    let pid = i32::try_from(asked.pid).ok()?;
    let of_process = |what: &str| {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        rustix::fs::open(format!("/proc/{pid}/{what}"), flags, Mode::empty()).ok()
    };
    // rename(old, new); renameat(olddir, old, ..). Source: the system call tables.
    let has_directory = super::super::filter::name_of(asked.data.arch, asked.data.nr) != Some("rename");
    let (directory, address) = match has_directory {
        false => (libc::AT_FDCWD, asked.data.args[0]),
        true => (asked.data.args[0] as i32, asked.data.args[1]),
    };
    let path = text_at(pid, address)?;
    let root = of_process("root")?;
    let base = match (path.first(), directory) {
        (Some(b'/'), _) => of_process("root")?,
        (Some(_), libc::AT_FDCWD) => of_process("cwd")?,
        (Some(_), descriptor) => of_process(&format!("fd/{descriptor}"))?,
        (None, _) => return None,
    };
    // Most renames are of files. This look never leaves the directory; the one that counts is made where the process is.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = if path[0] == b'/' { ResolveFlags::IN_ROOT } else { ResolveFlags::BENEATH };
    if let Ok(found) = rustix::fs::openat2(&base, path.as_slice(), flags, Mode::empty(), resolve)
        && rustix::fs::fstat(&found).is_ok_and(|stat| stat.st_mode & libc::S_IFMT != libc::S_IFDIR)
    {
        return None;
    }
    let mounts =
        rustix::fs::open(format!("/proc/{pid}/ns/mnt"), OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).ok()?;
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        0 => {
            let _ = recreate(&mounts, &root, &base, &path);
            // SAFETY: ends the process and nothing else.
            unsafe { libc::_exit(0) }
        }
        child if child > 0 => {
            let mut status = 0;
            // SAFETY: `status` is live.
            unsafe { libc::waitpid(child, &raw mut status, 0) };
            Some(())
        }
        _ => None,
    }
}

/// Goes where the process is, and makes a directory again if it cannot be renamed.
fn recreate(mounts: &OwnedFd, root: &OwnedFd, base: &OwnedFd, path: &[u8]) -> Option<()> {
    use std::os::unix::ffi::OsStrExt;
    rustix::thread::move_into_link_name_space(mounts.as_fd(), Some(rustix::thread::LinkNameSpaceType::Mount)).ok()?;
    rustix::process::fchdir(root).ok()?;
    rustix::process::chroot(".").ok()?;
    rustix::process::fchdir(base).ok()?;
    let path = Path::new(std::ffi::OsStr::from_bytes(path));
    let (parent, name) = (path.parent()?, path.file_name()?);
    if !parent.as_os_str().is_empty() {
        rustix::process::chdir(parent).ok()?;
    }
    let name = name.to_str()?;
    let stat = rustix::fs::statat(CWD, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).ok()?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
        return None;
    }
    // The kernel says best whether it can be renamed.
    let aside = format!(".imgbuild-renamed-{}", std::process::id());
    match rustix::fs::rename(name, &aside) {
        Ok(()) => return rustix::fs::rename(&aside, name).ok(),
        Err(Errno::XDEV) => {}
        Err(_) => return None,
    }
    std::fs::create_dir(&aside).ok()?;
    if copy_layers(&[name.to_owned()], &aside).is_err() {
        let _ = std::fs::remove_dir_all(&aside);
        return None;
    }
    std::fs::remove_dir_all(name).ok()?;
    rustix::fs::rename(&aside, name).ok()
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
