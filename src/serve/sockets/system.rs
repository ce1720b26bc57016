//! What has no safe interface: sockets that the service manager made, and changing the user.

#![expect(unsafe_code, reason = "each block says why it is sound")]

use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use crate::serve::error::ServeError;

/// Owns a descriptor that the service manager handed over.
pub fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the service manager made it for this process, and no one else owns it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Becomes a user for good: its groups, its ids, no capability left.
///
/// # Errors
/// There is no such account, or the process may not become it.
pub fn become_user(name: &str) -> Result<(), ServeError> {
    let failed = |problem: String| ServeError::User { name: name.to_owned(), problem };
    let c_name = std::ffi::CString::new(name).map_err(|_| failed("the name has a zero byte".to_owned()))?;
    let last = |what: &str| failed(format!("cannot {what}: {}", std::io::Error::last_os_error()));
    // SAFETY: the process has one thread as yet; the name ends with a zero, and what getpwnam gives is read at once.
    unsafe {
        let account = libc::getpwnam(c_name.as_ptr());
        if account.is_null() {
            return Err(failed("there is no such account".to_owned()));
        }
        let (uid, gid) = ((*account).pw_uid, (*account).pw_gid);
        if libc::geteuid() == uid && uid != 0 {
            return Ok(());
        }
        if libc::initgroups(c_name.as_ptr(), gid) != 0 {
            return Err(last("take its groups"));
        }
        if libc::setgid(gid) != 0 {
            return Err(last("take its group"));
        }
        if libc::setuid(uid) != 0 {
            return Err(last("become it"));
        }
    }
    Ok(())
}
