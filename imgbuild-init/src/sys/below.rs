//! The tree that an archive is unpacked into.
//!
//! An archive is what others wrote: a name of it may lead through a link that stands in it, too. So each name is walked from the tree's
//! own descriptor, one part after the other, and no link is followed on the way or at its end. openat2(2) would do that in one call, but
//! images have kernels that are older than Linux 5.6.

use std::cell::RefCell;
use std::ffi::{CStr, CString};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::rc::Rc;

use super::{c, check};
use crate::name::bytes_of;

/// Owner, mode and time of an entry.
pub(crate) struct Made {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u32,
}

/// Which special files an archive may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Devices {
    /// All: the node is the image's.
    Made,
    /// Pipes and sockets: the machine is not the image's.
    Refused,
}

/// The directory that an archive is unpacked into; names never lead out of it.
pub(crate) struct Root {
    top: Rc<OwnedFd>,
    devices: Devices,
    /// The directory of the last name: most names lie where the one before did.
    last: RefCell<Option<(Vec<u8>, Rc<OwnedFd>)>>,
}

fn times(seconds: u32) -> [libc::timespec; 2] {
    [libc::timespec { tv_sec: i64::from(seconds), tv_nsec: 0 }; 2]
}

fn open_at(at: RawFd, name: &CStr, flags: libc::c_int) -> io::Result<OwnedFd> {
    let flags = flags | libc::O_NOFOLLOW | libc::O_CLOEXEC;
    // SAFETY: the name is live and terminated; what comes back is a new descriptor that no one else owns.
    check(unsafe { libc::openat(at, name.as_ptr(), flags, 0o600) }).map(|fd| unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Opens a directory in another one, made where an exclude list dropped it: mode 755, owner root.
fn step(at: RawFd, name: &CStr, make: bool) -> io::Result<OwnedFd> {
    let open = || open_at(at, name, libc::O_PATH | libc::O_DIRECTORY);
    let found = match open() {
        Err(error) if make && error.kind() == io::ErrorKind::NotFound && !fault::planted("node-folders-not-made") => {
            // SAFETY: the name is live and terminated.
            match check(unsafe { libc::mkdirat(at, name.as_ptr(), 0o755) }) {
                Err(error) if error.raw_os_error() != Some(libc::EEXIST) => Err(error),
                _ => open(),
            }
        }
        other => other,
    };
    found.map_err(|error| match error.raw_os_error() {
        Some(libc::ENOTDIR | libc::ELOOP) => io::Error::other("a part of its path is a link or a file"),
        _ => error,
    })
}

/// Gives what is open its owner, mode and time.
fn finish(fd: RawFd, made: &Made) -> io::Result<()> {
    // SAFETY: the descriptor is open, and there are two times.
    unsafe {
        check(libc::fchown(fd, made.uid, made.gid))?;
        if !fault::planted("node-mode-lost") {
            check(libc::fchmod(fd, made.mode))?;
        }
        check(libc::futimens(fd, times(made.mtime).as_ptr())).map(drop)
    }
}

impl Root {
    /// Uses a directory.
    pub(crate) fn open(path: &str, devices: Devices) -> io::Result<Self> {
        let top = open_at(libc::AT_FDCWD, &c(path)?, libc::O_PATH | libc::O_DIRECTORY)?;
        Ok(Self { top: Rc::new(top), devices, last: RefCell::new(None) })
    }

    /// The directory that has the last part of a name, and that part; `.` of the root itself.
    fn place(&self, name: &str, make: bool) -> io::Result<(Rc<OwnedFd>, CString)> {
        // The bytes, and not the text: what stands for bytes that are no text may stand for a slash.
        let name = bytes_of(name);
        let mut parts: Vec<&[u8]> =
            name.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
        if name.first() == Some(&b'/') || parts.contains(&&b".."[..]) {
            return Err(io::Error::other("the name escapes its root"));
        }
        let last = CString::new(parts.pop().unwrap_or(b"."))?;
        let folder = parts.join(&b'/');
        if let Some((known, handle)) = &*self.last.borrow()
            && *known == folder
        {
            return Ok((handle.clone(), last));
        }
        let mut handle = self.top.clone();
        for part in parts {
            handle = Rc::new(step(handle.as_raw_fd(), &CString::new(part)?, make)?);
        }
        self.last.replace(Some((folder, handle.clone())));
        Ok((handle, last))
    }

    /// Makes a directory, or gives an existing one its owner and mode.
    pub(crate) fn directory(&self, name: &str, made: &Made) -> io::Result<()> {
        let (folder, last) = self.place(name, true)?;
        // What is there and is no directory is not opened.
        step(folder.as_raw_fd(), &last, true)?;
        finish(open_at(folder.as_raw_fd(), &last, libc::O_RDONLY | libc::O_DIRECTORY)?.as_raw_fd(), made)
    }

    /// Makes a file.
    pub(crate) fn file(&self, name: &str, made: &Made, content: &mut dyn Read) -> io::Result<()> {
        let (folder, last) = self.place(name, true)?;
        let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL;
        let mut file = File::from(open_at(folder.as_raw_fd(), &last, flags)?);
        io::copy(content, &mut file)?;
        finish(file.as_raw_fd(), made)
    }

    /// Gives what is no file its owner, mode and time, without opening it.
    fn finish_closed(folder: &OwnedFd, last: &CStr, made: &Made, has_mode: bool) -> io::Result<()> {
        let folder = folder.as_raw_fd();
        // SAFETY: the name is live and terminated, and there are two times.
        unsafe {
            check(libc::fchownat(folder, last.as_ptr(), made.uid, made.gid, libc::AT_SYMLINK_NOFOLLOW))?;
            if has_mode {
                // This call follows links, before Linux 6.6 all do; but the caller has made this name, and no archive removes any.
                check(libc::fchmodat(folder, last.as_ptr(), made.mode, 0))?;
            }
            let flags = libc::AT_SYMLINK_NOFOLLOW;
            check(libc::utimensat(folder, last.as_ptr(), times(made.mtime).as_ptr(), flags)).map(drop)
        }
    }

    /// Makes a symbolic link.
    pub(crate) fn symlink(&self, name: &str, target: &[u8], made: &Made) -> io::Result<()> {
        let ((folder, last), target) = (self.place(name, true)?, CString::new(target)?);
        // SAFETY: both texts are live and terminated.
        check(unsafe { libc::symlinkat(target.as_ptr(), folder.as_raw_fd(), last.as_ptr()) })?;
        Self::finish_closed(&folder, &last, made, false)
    }

    /// Gives a file another name.
    pub(crate) fn hard_link(&self, name: &str, to: &str) -> io::Result<()> {
        let ((from, file), (folder, last)) = (self.place(to, false)?, self.place(name, true)?);
        // SAFETY: both names are live and terminated. Without a flag a link is not followed.
        check(unsafe { libc::linkat(from.as_raw_fd(), file.as_ptr(), folder.as_raw_fd(), last.as_ptr(), 0) }).map(drop)
    }

    /// Makes a device, pipe or socket.
    pub(crate) fn special(&self, name: &str, kind: u32, device: (u32, u32), made: &Made) -> io::Result<()> {
        match kind {
            libc::S_IFIFO | libc::S_IFSOCK => {}
            libc::S_IFCHR | libc::S_IFBLK if self.devices == Devices::Made => {}
            libc::S_IFCHR | libc::S_IFBLK => {
                return Err(io::Error::other("the image has a device, which is not made here"));
            }
            _ => return Err(io::Error::other("the archive has an entry of an unknown type")),
        }
        let (folder, last) = self.place(name, true)?;
        let device = libc::makedev(device.0, device.1);
        // SAFETY: the name is live and terminated.
        check(unsafe { libc::mknodat(folder.as_raw_fd(), last.as_ptr(), kind | 0o600, device) })?;
        Self::finish_closed(&folder, &last, made, true)
    }

    /// Sets a directory's time.
    pub(crate) fn set_time(&self, name: &str, time: u32) -> io::Result<()> {
        let (folder, last) = self.place(name, false)?;
        let flags = libc::AT_SYMLINK_NOFOLLOW;
        // SAFETY: the name is live and terminated, and there are two times.
        check(unsafe { libc::utimensat(folder.as_raw_fd(), last.as_ptr(), times(time).as_ptr(), flags) }).map(drop)
    }

    /// Sets an extended attribute, of a link itself, too; the value is hexadecimal. The working directory is another one meanwhile, so
    /// that no other thread may use it: there is no call that takes a descriptor and a name before Linux 6.13.
    pub(crate) fn set_xattr(&self, name: &str, attribute: &str, value: &str) -> io::Result<()> {
        let bytes: Option<Vec<u8>> =
            (0..value.len()).step_by(2).map(|at| u8::from_str_radix(value.get(at..at + 2)?, 16).ok()).collect();
        let bytes = bytes.ok_or(io::ErrorKind::InvalidData)?;
        let ((folder, last), text) = (self.place(name, false)?, c(attribute)?);
        let here = open_at(libc::AT_FDCWD, c".", libc::O_PATH | libc::O_DIRECTORY)?;
        // SAFETY: the descriptor is open.
        check(unsafe { libc::fchdir(folder.as_raw_fd()) })?;
        let outcome = set_here(&last, &text, &bytes);
        // SAFETY: as above.
        check(unsafe { libc::fchdir(here.as_raw_fd()) })?;
        match outcome {
            // tmpfs has no user attributes before Linux 6.6; nothing that boots needs them.
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) && attribute.starts_with("user.") => {
                crate::say!("this kernel does not support user attributes in memory: {name} is not set");
                Ok(())
            }
            other => other,
        }
    }
}

/// Sets an attribute of what has this name in the working directory.
fn set_here(name: &CStr, attribute: &CStr, value: &[u8]) -> io::Result<()> {
    let set = || {
        // SAFETY: the strings are live and terminated, and the value is as long as said.
        check(unsafe { libc::lsetxattr(name.as_ptr(), attribute.as_ptr(), value.as_ptr().cast(), value.len(), 0) })
    };
    let mut outcome = set();
    if outcome.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EOPNOTSUPP))
        && attribute.to_bytes().starts_with(b"system.")
    {
        // An overlay gives no ACL to what still lies in an image that has none: a change of mode brings it up first.
        // Source: Linux, fs/overlayfs, ovl_posix_acl_xattr_set. A link has no mode, and chmod would follow it.
        // SAFETY: all bytes zero is a value of the structure, which the call fills; the name is live and terminated.
        unsafe {
            let mut found: libc::stat = std::mem::zeroed();
            check(libc::fstatat(libc::AT_FDCWD, name.as_ptr(), &raw mut found, libc::AT_SYMLINK_NOFOLLOW))?;
            if found.st_mode & libc::S_IFMT != libc::S_IFLNK {
                check(libc::fchmodat(libc::AT_FDCWD, name.as_ptr(), found.st_mode & 0o7777, 0))?;
                outcome = set();
            }
        }
    }
    outcome.map(drop)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_file_has_its_mode_and_the_folders_that_nothing_made() {
        let directory = std::env::temp_dir().join(format!("imgbuild-tree-{}", std::process::id()));
        std::fs::create_dir(&directory).unwrap();
        let own = std::fs::metadata(&directory).unwrap();
        let root = Root::open(directory.to_str().unwrap(), Devices::Refused).unwrap();
        let made = Made { mode: 0o640, uid: own.uid(), gid: own.gid(), mtime: 7 };
        root.file("left/out/file", &made, &mut &b"text"[..]).unwrap();
        let file = std::fs::metadata(directory.join("left/out/file")).unwrap();
        assert_eq!((file.mode() & 0o7777, file.mtime(), file.len()), (0o640, 7, 4));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
