//! Sockets and rights: what is taken as root, and given up before the first byte of a client is read.

use std::net::{SocketAddr, TcpListener};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::system;
use crate::error::ServeError;

/// How many clients may wait until they are accepted: a whole cluster after a power cut. The kernel takes less where
/// net.core.somaxconn says so.
const WAITING: i32 = 4096;

/// The sockets that the service manager handed over, or those of `addresses`.
/// Errors: None can be had.
pub(crate) fn sockets(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ServeError> {
    let handed = handed_over()?;
    if !handed.is_empty() {
        return Ok(handed);
    }
    listening(addresses)
}

/// Sockets that listen on some addresses.
/// Errors: One cannot be had.
pub(crate) fn listening(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, ServeError> {
    addresses.iter().map(|address| listen(*address)).collect()
}

/// Sockets of systemd's socket activation. Source: sd_listen_fds(3).
fn handed_over() -> Result<Vec<TcpListener>, ServeError> {
    let unusable = |what: String| ServeError::Activation { what };
    let descriptors = sd_notify::listen_fds().map_err(|error| unusable(format!("no sockets: {error}")))?;
    let taken = descriptors.map(|descriptor| {
        let descriptor = system::own(descriptor);
        rustix::io::fcntl_setfd(&descriptor, rustix::io::FdFlags::CLOEXEC).map_err(ServeError::errno)?;
        if !is_listening(descriptor.as_fd()) {
            return Err(unusable("something that is not a listening TCP socket".to_owned()));
        }
        Ok(TcpListener::from(descriptor))
    });
    taken.collect()
}

fn is_listening(descriptor: BorrowedFd<'_>) -> bool {
    let stream = rustix::net::sockopt::socket_type(descriptor) == Ok(rustix::net::SocketType::STREAM);
    stream && rustix::net::sockopt::socket_acceptconn(descriptor).unwrap_or(false)
}

fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let made = || -> rustix::io::Result<OwnedFd> {
        let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
        // A server that is started again must not wait for connections of the one before.
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &address)?;
        listen(&socket, WAITING)?;
        Ok(socket)
    };
    made().map(TcpListener::from).map_err(|errno| {
        use rustix::io::Errno;
        let port = address.port();
        let help = match errno {
            Errno::ADDRINUSE => {
                format!("another program listens there: `ss -ltnp 'sport = :{port}'` names it; or take another port")
            }
            Errno::ACCESS | Errno::PERM => {
                format!("ports below 1024 are root's: start it as root with --user, by a systemd socket, or take another port than {port}")
            }
            Errno::ADDRNOTAVAIL => "no network card of this machine has the address: `ip address` lists them".to_owned(),
            _ => "`ip address` lists the addresses of this machine".to_owned(),
        };
        ServeError::Listen { address, source: errno.into(), help }
    })
}

impl ServeError {
    fn errno(errno: rustix::io::Errno) -> Self {
        Self::Machine(errno.into())
    }
}

/// Gives up what a server never needs: new rights by programs that it would start. As many files as may be open are allowed.
pub(crate) fn prepare_process() -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let _ = rustix::thread::set_no_new_privs(true);
    let most = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(most).unwrap_or(usize::MAX)
}
