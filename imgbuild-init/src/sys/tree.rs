//! Files of the new root, and requests to devices.

use std::ffi::CString;
use std::io::{self, Read};
use std::path::Path;

use super::{c, check, os};

use crate::fault;

/// A control call with a number; gives the number that it answers.
pub fn control_number(fd: std::os::fd::RawFd, request: u64, argument: u64) -> io::Result<i32> {
    // SAFETY: the request takes a number and no pointer.
    check(unsafe { libc::ioctl(fd, request as _, argument) })
}

/// A control call with a structure.
pub fn control_bytes(fd: std::os::fd::RawFd, request: u64, argument: &mut [u8]) -> io::Result<i32> {
    // SAFETY: the pointer is to live bytes, as many as the request's structure has.
    check(unsafe { libc::ioctl(fd, request as _, argument.as_mut_ptr()) })
}

/// Has a file system keep room for a file; one that cannot promise it is asked nothing.
pub fn reserve(fd: std::os::fd::RawFd, size: u64) -> io::Result<()> {
    let size = libc::off_t::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the call takes numbers alone.
    match check(unsafe { libc::fallocate(fd, 0, 0, size) }) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        other => other.map(drop),
    }
}

/// Owner, mode and time of an entry.
pub struct Made {
    /// Permission bits.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: u32,
}

/// Makes something, and its folders where an exclude list dropped them: mode 755, owner root.
fn with_parents<T>(path: &str, make: impl Fn() -> io::Result<T>) -> io::Result<T> {
    match make() {
        Err(error) if error.kind() == io::ErrorKind::NotFound && !fault::planted("node-folders-not-made") => {
            if let Some(parent) = os(path).parent() {
                std::fs::create_dir_all(parent)?;
            }
            make()
        }
        other => other,
    }
}

/// The directory that an archive is unpacked into; names never lead out of it.
pub struct Root {
    path: String,
}

impl Root {
    /// Uses a directory.
    pub fn open(path: &str) -> io::Result<Self> {
        std::fs::metadata(path)?;
        Ok(Self { path: path.to_owned() })
    }

    /// The path of a name: its directories were made by this archive's first frame, so none of them is a link.
    fn at(&self, name: &str) -> io::Result<CString> {
        c(&format!("{}/{name}", self.path))
    }

    fn finish(path: &CString, made: &Made, link: bool) -> io::Result<()> {
        let times = [libc::timespec { tv_sec: i64::from(made.mtime), tv_nsec: 0 }; 2];
        // SAFETY: the path is live and terminated, and there are two times.
        unsafe {
            check(libc::lchown(path.as_ptr(), made.uid, made.gid))?;
            if !link && !fault::planted("node-mode-lost") {
                check(libc::chmod(path.as_ptr(), made.mode))?;
            }
            check(libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW)).map(drop)
        }
    }

    /// Makes a directory, or gives an existing one its owner and mode.
    pub fn directory(&self, name: &str, made: &Made) -> io::Result<()> {
        let path = self.at(name)?;
        // SAFETY: the path is live and terminated.
        match with_parents(&format!("{}/{name}", self.path), || check(unsafe { libc::mkdir(path.as_ptr(), 0o755) })) {
            Err(error) if error.raw_os_error() != Some(libc::EEXIST) => return Err(error),
            _ => {}
        }
        Self::finish(&path, made, false)
    }

    /// Makes a file.
    pub fn file(&self, name: &str, made: &Made, content: &mut dyn Read) -> io::Result<()> {
        use std::os::unix::fs::OpenOptionsExt;
        let path = format!("{}/{name}", self.path);
        let open = || {
            std::fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .custom_flags(libc::O_NOFOLLOW)
                .open(os(&path))
        };
        let mut file = with_parents(&path, open)?;
        io::copy(content, &mut file)?;
        drop(file);
        Self::finish(&c(&path)?, made, false)
    }

    /// Makes a symbolic link.
    pub fn symlink(&self, name: &str, target: &[u8], made: &Made) -> io::Result<()> {
        let (path, target) = (self.at(name)?, CString::new(target)?);
        // SAFETY: both paths are live and terminated.
        let make = || check(unsafe { libc::symlink(target.as_ptr(), path.as_ptr()) });
        with_parents(&format!("{}/{name}", self.path), make)?;
        Self::finish(&path, made, true)
    }

    /// Gives a file another name.
    pub fn hard_link(&self, name: &str, to: &str) -> io::Result<()> {
        let place = format!("{}/{name}", self.path);
        with_parents(&place, || std::fs::hard_link(os(&format!("{}/{to}", self.path)), os(&place)))
    }

    /// Makes a device, pipe or socket.
    pub fn special(&self, name: &str, kind: u32, device: (u32, u32), made: &Made) -> io::Result<()> {
        let path = self.at(name)?;
        // SAFETY: the path is live and terminated.
        let make = || check(unsafe { libc::mknod(path.as_ptr(), kind | 0o600, libc::makedev(device.0, device.1)) });
        with_parents(&format!("{}/{name}", self.path), make)?;
        Self::finish(&path, made, false)
    }
}

/// Gives a file another name.
pub fn hard_link(root: &str, name: &str, to: &str) -> io::Result<()> {
    Root::open(root)?.hard_link(name, to)
}

/// Sets a directory's time.
pub fn set_time(root: &str, name: &str, time: u32) -> io::Result<()> {
    let path = c(&format!("{root}/{name}"))?;
    let times = [libc::timespec { tv_sec: i64::from(time), tv_nsec: 0 }; 2];
    // SAFETY: the path is live and terminated, and there are two times.
    check(unsafe { libc::utimensat(libc::AT_FDCWD, path.as_ptr(), times.as_ptr(), libc::AT_SYMLINK_NOFOLLOW) })
        .map(drop)
}

/// Sets an extended attribute of a path itself, links included.
pub fn set_attribute(path: &Path, attribute: &str, value: &[u8]) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let (path, attribute) = (CString::new(path.as_os_str().as_bytes())?, c(attribute)?);
    // SAFETY: the strings are live and terminated, and the value is as long as said.
    check(unsafe { libc::lsetxattr(path.as_ptr(), attribute.as_ptr(), value.as_ptr().cast(), value.len(), 0) })
        .map(drop)
}

/// Sets an extended attribute; the value is hexadecimal.
pub fn set_xattr(root: &str, name: &str, attribute: &str, value: &str) -> io::Result<()> {
    let bytes: Option<Vec<u8>> =
        (0..value.len()).step_by(2).map(|at| u8::from_str_radix(value.get(at..at + 2)?, 16).ok()).collect();
    let bytes = bytes.ok_or(io::ErrorKind::InvalidData)?;
    let (path, attribute) = (c(&format!("{root}/{name}"))?, c(attribute)?);
    let set = || {
        // SAFETY: the strings are live and terminated, and the value is as long as said.
        check(unsafe { libc::lsetxattr(path.as_ptr(), attribute.as_ptr(), bytes.as_ptr().cast(), bytes.len(), 0) })
    };
    let mut outcome = set();
    if outcome.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::EOPNOTSUPP))
        && attribute.to_bytes().starts_with(b"system.")
    {
        // An overlay gives no ACL to what still lies in an image that has none: a change of mode brings it up first.
        // Source: Linux, fs/overlayfs, ovl_posix_acl_xattr_set.
        let full = format!("{root}/{name}");
        let mode = std::fs::symlink_metadata(&full).map(|found| found.permissions())?;
        std::fs::set_permissions(&full, mode)?;
        outcome = set();
    }
    match outcome {
        // tmpfs has no user attributes before Linux 6.6; nothing that boots needs them.
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) && attribute.to_bytes().starts_with(b"user.") => {
            crate::say!("this kernel does not support user attributes in memory: {name} is not set");
            Ok(())
        }
        other => other.map(drop),
    }
}

/// What a file system answers that has no place for an attribute.
pub const UNSUPPORTED: i32 = libc::EOPNOTSUPP;

/// Extended attributes of a path itself: names and values.
pub fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
    use std::os::unix::ffi::OsStrExt;
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return Vec::new() };
    let mut names = vec![0u8; 64 << 10];
    // SAFETY: the path is live and terminated, and the buffer as long as said.
    let length = unsafe { libc::llistxattr(path.as_ptr(), names.as_mut_ptr().cast(), names.len()) };
    let length = usize::try_from(length).unwrap_or(0);
    let names = names[..length].split(|byte| *byte == 0).filter_map(|name| std::str::from_utf8(name).ok());
    let value = |name: &str| {
        let text = c(name).ok()?;
        let mut value = vec![0u8; 64 << 10];
        // SAFETY: the strings are live and terminated, and the buffer as long as said.
        let length = unsafe { libc::lgetxattr(path.as_ptr(), text.as_ptr(), value.as_mut_ptr().cast(), value.len()) };
        value.truncate(usize::try_from(length).ok()?);
        Some((name.to_owned(), value))
    };
    names.filter(|name| !name.is_empty()).filter_map(value).collect()
}

/// Makes a device, a pipe or a socket.
pub fn make_special(path: &Path, mode: u32, device: u64) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is live and terminated.
    check(unsafe { libc::mknod(path.as_ptr(), mode, device) }).map(drop)
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
        let root = Root::open(directory.to_str().unwrap()).unwrap();
        let made = Made { mode: 0o640, uid: own.uid(), gid: own.gid(), mtime: 7 };
        root.file("left/out/file", &made, &mut &b"text"[..]).unwrap();
        let file = std::fs::metadata(directory.join("left/out/file")).unwrap();
        assert_eq!((file.mode() & 0o7777, file.mtime(), file.len()), (0o640, 7, 4));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
