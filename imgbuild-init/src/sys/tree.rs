//! Attributes and special files by their paths, and requests to devices.

use std::ffi::CString;
use std::io;
use std::path::Path;

use super::{c, check};

/// A control call with a number; gives the number that it answers.
pub(crate) fn control_number(fd: std::os::fd::RawFd, request: u64, argument: u64) -> io::Result<i32> {
    // SAFETY: the request takes a number and no pointer.
    check(unsafe { libc::ioctl(fd, request as _, argument) })
}

/// A control call with a structure.
pub(crate) fn control_bytes(fd: std::os::fd::RawFd, request: u64, argument: &mut [u8]) -> io::Result<i32> {
    // SAFETY: the pointer is to live bytes, as many as the request's structure has.
    check(unsafe { libc::ioctl(fd, request as _, argument.as_mut_ptr()) })
}

/// Has a file system keep room for a file; one that cannot promise it is asked nothing.
pub(crate) fn reserve(fd: std::os::fd::RawFd, size: u64) -> io::Result<()> {
    let size = libc::off_t::try_from(size).map_err(io::Error::other)?;
    // SAFETY: the call takes numbers alone.
    match check(unsafe { libc::fallocate(fd, 0, 0, size) }) {
        Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(()),
        other => other.map(drop),
    }
}

/// Sets an extended attribute of a path itself, links included.
pub(crate) fn set_attribute(path: &Path, attribute: &str, value: &[u8]) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let (path, attribute) = (CString::new(path.as_os_str().as_bytes())?, c(attribute)?);
    // SAFETY: the strings are live and terminated, and the value is as long as said.
    check(unsafe { libc::lsetxattr(path.as_ptr(), attribute.as_ptr(), value.as_ptr().cast(), value.len(), 0) })
        .map(drop)
}

/// What a file system answers that has no place for an attribute.
pub(crate) const UNSUPPORTED: i32 = libc::EOPNOTSUPP;

/// Extended attributes of a path itself: names and values.
pub(crate) fn attributes(path: &Path) -> Vec<(String, Vec<u8>)> {
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
pub(crate) fn make_special(path: &Path, mode: u32, device: u64) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: the path is live and terminated.
    check(unsafe { libc::mknod(path.as_ptr(), mode, device) }).map(drop)
}
