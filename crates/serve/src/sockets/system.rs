//! What has no safe interface: sockets that the service manager made, and changing the user.

#![expect(unsafe_code, reason = "each block says why it is sound")]

use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use crate::error::ServeError;

/// Owns a descriptor that the service manager handed over.
pub(crate) fn own(descriptor: RawFd) -> OwnedFd {
    // SAFETY: the service manager made it for this process, and no one else owns it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

fn failed(name: &str, problem: String) -> ServeError {
    ServeError::User { name: name.to_owned(), problem }
}

/// Ids of an account, and of its group.
/// Errors: There is no such account.
pub(crate) fn account(name: &str) -> Result<(u32, u32), ServeError> {
    let c_name = std::ffi::CString::new(name).map_err(|_| failed(name, "the name has a zero byte".to_owned()))?;
    // SAFETY: the process has one thread as yet; the name ends with a zero, and what getpwnam gives is read at once.
    unsafe {
        let account = libc::getpwnam(c_name.as_ptr());
        match account.is_null() {
            true => Err(failed(name, "there is no such account".to_owned())),
            false => Ok(((*account).pw_uid, (*account).pw_gid)),
        }
    }
}

/// Becomes a user for good: its groups, its ids, no capability left unless the process keeps them.
/// Errors: There is no such account, or the process may not become it.
pub(crate) fn become_user(name: &str) -> Result<(), ServeError> {
    let (uid, gid) = account(name)?;
    let c_name = std::ffi::CString::new(name).map_err(|_| failed(name, "the name has a zero byte".to_owned()))?;
    let last = |what: &str| failed(name, format!("cannot {what}: {}", std::io::Error::last_os_error()));
    // SAFETY: the process has one thread as yet; the name ends with a zero and is only read.
    unsafe {
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

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Address {
    pub interface: String,
    /// Its IPv4 address; unspecified where it has none.
    pub address: Ipv4Addr,
    pub mask: Ipv4Addr,
    pub is_up: bool,
}

/// IPv4 addresses of all cards; a card without one is there once, too. Source: getifaddrs(3).
/// Errors: The system does not say them.
pub(crate) fn addresses() -> io::Result<Vec<Address>> {
    let mut found: Vec<Address> = Vec::new();
    let mut first: *mut libc::ifaddrs = std::ptr::null_mut();
    // SAFETY: getifaddrs fills a list that is freed below and not used after that.
    if unsafe { libc::getifaddrs(&raw mut first) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let mut next = first;
    while !next.is_null() {
        // SAFETY: an entry of the list, with a name that ends with a zero; its addresses are null or as long as their family says.
        let (interface, flags, family, address, mask) = unsafe {
            let entry = &*next;
            next = entry.ifa_next;
            let name = std::ffi::CStr::from_ptr(entry.ifa_name).to_string_lossy().into_owned();
            let family = entry.ifa_addr.as_ref().map(|address| libc::c_int::from(address.sa_family));
            let text = |address: *mut libc::sockaddr| {
                // Entries may be less aligned than the type.
                let address = address.cast::<libc::sockaddr_in>().read_unaligned();
                Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr))
            };
            let is_v4 = family == Some(libc::AF_INET) && !entry.ifa_netmask.is_null();
            let pair = is_v4.then(|| (text(entry.ifa_addr), text(entry.ifa_netmask)));
            let (address, mask) = pair.unwrap_or((Ipv4Addr::UNSPECIFIED, Ipv4Addr::BROADCAST));
            (name, entry.ifa_flags, family, address, mask)
        };
        let is_up = flags & libc::IFF_UP.cast_unsigned() != 0;
        if family == Some(libc::AF_INET) || !found.iter().any(|one| one.interface == interface) {
            found.push(Address { interface, address, mask, is_up });
        }
    }
    // SAFETY: the list of above, freed once.
    unsafe { libc::freeifaddrs(first) };
    let with: Vec<String> =
        found.iter().filter(|one| !one.address.is_unspecified()).map(|one| one.interface.clone()).collect();
    found.retain(|one| !one.address.is_unspecified() || !with.contains(&one.interface));
    Ok(found)
}

/// Whether a port for datagrams is free: on one card, if it is named. Nothing stays of it.
pub(crate) fn probe(address: SocketAddrV4, interface: Option<&str>) -> Result<(), rustix::io::Errno> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, socket_with};
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    if let Some(interface) = interface {
        let length = libc::socklen_t::try_from(interface.len()).unwrap_or_default();
        // SAFETY: the name is so long, and is only read.
        let set = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_BINDTODEVICE,
                interface.as_ptr().cast(),
                length,
            )
        };
        if set != 0 {
            return Err(
                rustix::io::Errno::from_io_error(&io::Error::last_os_error()).unwrap_or(rustix::io::Errno::INVAL)
            );
        }
    }
    bind(&socket, &address)
}
