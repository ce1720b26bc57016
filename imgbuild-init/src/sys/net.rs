//! Interface ioctls, routes, packet sockets.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use super::{c, check};

fn socket(domain: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: no pointers.
    let fd = check(unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) })?;
    // SAFETY: the descriptor was just made and belongs to no one else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn request(name: &str) -> io::Result<libc::ifreq> {
    // SAFETY: an all-zero ifreq is valid: it is plain data.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if name.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn control(code: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: the structure is live and the one that these requests take. Source: netdevice(7).
    check(unsafe { libc::ioctl(socket.as_raw_fd(), code as _, std::ptr::from_mut(request)) }).map(drop)
}

/// Brings an interface up.
pub fn set_up(name: &str) -> io::Result<()> {
    let mut wanted = request(name)?;
    control(libc::SIOCGIFFLAGS, &mut wanted)?;
    // SAFETY: the request above filled this member of the union.
    let flags = unsafe { wanted.ifr_ifru.ifru_flags };
    wanted.ifr_ifru.ifru_flags = flags | (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    control(libc::SIOCSIFFLAGS, &mut wanted)
}

/// Takes an interface down, and its address away.
pub fn set_down(name: &str) -> io::Result<()> {
    let mut wanted = request(name)?;
    wanted.ifr_ifru.ifru_addr = socket_address(Ipv4Addr::UNSPECIFIED);
    // There may be none.
    let _ = control(libc::SIOCSIFADDR, &mut wanted);
    let mut wanted = request(name)?;
    control(libc::SIOCGIFFLAGS, &mut wanted)?;
    // SAFETY: the request above filled this member of the union.
    let flags = unsafe { wanted.ifr_ifru.ifru_flags };
    wanted.ifr_ifru.ifru_flags = flags & !(libc::IFF_UP as libc::c_short);
    control(libc::SIOCSIFFLAGS, &mut wanted)
}

/// Sets the MTU.
pub fn set_mtu(name: &str, mtu: u16) -> io::Result<()> {
    let mut wanted = request(name)?;
    wanted.ifr_ifru.ifru_mtu = libc::c_int::from(mtu);
    control(libc::SIOCSIFMTU, &mut wanted)
}

fn socket_address(address: Ipv4Addr) -> libc::sockaddr {
    let inner = libc::sockaddr_in {
        sin_family: libc::AF_INET as libc::sa_family_t,
        sin_port: 0,
        sin_addr: libc::in_addr { s_addr: u32::from(address).to_be() },
        sin_zero: [0; 8],
    };
    // SAFETY: sockaddr_in and sockaddr have the same size, and the family says which one it is.
    unsafe { std::mem::transmute::<libc::sockaddr_in, libc::sockaddr>(inner) }
}

/// Sets address and netmask.
pub fn set_address(name: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut wanted = request(name)?;
    wanted.ifr_ifru.ifru_addr = socket_address(address);
    control(libc::SIOCSIFADDR, &mut wanted)?;
    let bits = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    wanted.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::from(bits));
    control(libc::SIOCSIFNETMASK, &mut wanted)
}

/// Adds the default route.
pub fn add_default_route(gateway: Ipv4Addr) -> io::Result<()> {
    // SAFETY: an all-zero rtentry is valid: it is plain data with a null device name.
    let mut route: libc::rtentry = unsafe { std::mem::zeroed() };
    route.rt_dst = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_genmask = socket_address(Ipv4Addr::UNSPECIFIED);
    route.rt_gateway = socket_address(gateway);
    route.rt_flags = libc::RTF_UP | libc::RTF_GATEWAY;
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: the structure is live and the one that SIOCADDRT takes.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &raw mut route) }).map(drop)
}

/// A socket for whole IPv4 packets on one interface. Source: packet(7).
pub struct PacketSocket {
    socket: OwnedFd,
    index: libc::c_int,
}

impl PacketSocket {
    /// Opens it.
    pub fn open(name: &str) -> io::Result<Self> {
        let interface = c(name)?;
        // SAFETY: the pointer is to a live, terminated string.
        let index = unsafe { libc::if_nametoindex(interface.as_ptr()) } as libc::c_int;
        if index == 0 {
            return Err(io::Error::last_os_error());
        }
        let protocol = (libc::ETH_P_IP as u16).to_be();
        let socket = socket(libc::AF_PACKET, libc::SOCK_DGRAM, libc::c_int::from(protocol))?;
        let address = Self::address(index);
        // SAFETY: the address is live and its size is the one given.
        check(unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        })?;
        Ok(Self { socket, index })
    }

    fn address(index: libc::c_int) -> libc::sockaddr_ll {
        // SAFETY: an all-zero sockaddr_ll is valid: it is plain data.
        let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::sa_family_t;
        address.sll_protocol = (libc::ETH_P_IP as u16).to_be();
        address.sll_ifindex = index;
        address.sll_halen = 6;
        address.sll_addr = [255; 8];
        address
    }

    /// Sends a packet to everyone.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        let address = Self::address(self.index);
        // SAFETY: buffer and address are live and as long as said.
        let sent = unsafe {
            libc::sendto(
                self.socket.as_raw_fd(),
                packet.as_ptr().cast(),
                packet.len(),
                0,
                (&raw const address).cast(),
                size_of::<libc::sockaddr_ll>() as libc::socklen_t,
            )
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
    }

    /// Waits for a packet; none when the time is over.
    pub fn receive(&self, buffer: &mut [u8], wait: Duration) -> Option<usize> {
        let mut ready = libc::pollfd { fd: self.socket.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        let milliseconds = i32::try_from(wait.as_millis()).unwrap_or(i32::MAX).max(1);
        // SAFETY: one live pollfd.
        if unsafe { libc::poll(&raw mut ready, 1, milliseconds) } <= 0 {
            return None;
        }
        // SAFETY: the buffer is live and as long as said.
        let got = unsafe { libc::recv(self.socket.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        usize::try_from(got).ok()
    }
}
