//! Interface ioctls, routes, packet sockets.

use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
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
pub(crate) fn set_up(name: &str) -> io::Result<()> {
    let mut wanted = request(name)?;
    control(libc::SIOCGIFFLAGS, &mut wanted)?;
    // SAFETY: the request above filled this member of the union.
    let flags = unsafe { wanted.ifr_ifru.ifru_flags };
    wanted.ifr_ifru.ifru_flags = flags | (libc::IFF_UP | libc::IFF_RUNNING) as libc::c_short;
    control(libc::SIOCSIFFLAGS, &mut wanted)
}

/// Takes an interface down, and its address away.
pub(crate) fn set_down(name: &str) -> io::Result<()> {
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
pub(crate) fn set_mtu(name: &str, mtu: u16) -> io::Result<()> {
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
pub(crate) fn set_address(name: &str, address: Ipv4Addr, prefix: u8) -> io::Result<()> {
    let mut wanted = request(name)?;
    wanted.ifr_ifru.ifru_addr = socket_address(address);
    control(libc::SIOCSIFADDR, &mut wanted)?;
    let bits = u32::MAX.checked_shl(32 - u32::from(prefix.min(32))).unwrap_or(0);
    wanted.ifr_ifru.ifru_netmask = socket_address(Ipv4Addr::from(bits));
    control(libc::SIOCSIFNETMASK, &mut wanted)
}

/// Adds the default route.
pub(crate) fn add_default_route(gateway: Ipv4Addr) -> io::Result<()> {
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

/// Number of an interface.
pub(crate) fn interface_index(name: &str) -> io::Result<u32> {
    let interface = c(name)?;
    // SAFETY: the pointer is to a live, terminated string.
    match unsafe { libc::if_nametoindex(interface.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        index => Ok(index),
    }
}

/// Source: linux/ipv6.h.
#[repr(C)]
struct In6Request {
    address: libc::in6_addr,
    prefix: u32,
    index: libc::c_int,
}

/// Adds an IPv6 address.
pub(crate) fn set_address6(name: &str, address: Ipv6Addr, prefix: u8) -> io::Result<()> {
    let wanted = In6Request {
        address: libc::in6_addr { s6_addr: address.octets() },
        prefix: u32::from(prefix),
        index: interface_index(name)? as libc::c_int,
    };
    let socket = socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
    // SAFETY: the structure is live and the one that SIOCSIFADDR takes on such a socket.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFADDR as _, &raw const wanted) }).map(drop)
}

/// Source: linux/ipv6_route.h.
#[repr(C)]
struct In6Route {
    to: libc::in6_addr,
    from: libc::in6_addr,
    gateway: libc::in6_addr,
    kind: u32,
    to_bits: u16,
    from_bits: u16,
    metric: u32,
    info: libc::c_ulong,
    flags: u32,
    index: libc::c_int,
}

/// Adds the default route for IPv6.
pub(crate) fn add_default_route6(name: &str, gateway: Ipv6Addr) -> io::Result<()> {
    let any = libc::in6_addr { s6_addr: [0; 16] };
    let route = In6Route {
        to: any,
        from: any,
        gateway: libc::in6_addr { s6_addr: gateway.octets() },
        kind: 0,
        to_bits: 0,
        from_bits: 0,
        // The kernel's own for routes of this kind.
        metric: 1024,
        info: 0,
        flags: u32::from(libc::RTF_UP | libc::RTF_GATEWAY),
        index: interface_index(name)? as libc::c_int,
    };
    let socket = socket(libc::AF_INET6, libc::SOCK_DGRAM, 0)?;
    // SAFETY: the structure is live and the one that SIOCADDRT takes on such a socket.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCADDRT as _, &raw const route) }).map(drop)
}

fn set_option<T>(socket: &impl AsFd, level: libc::c_int, name: libc::c_int, value: &T) -> io::Result<()> {
    // SAFETY: the value is live and as long as said.
    check(unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            level,
            name,
            std::ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    })
    .map(drop)
}

/// Keeps a socket to an interface.
pub(crate) fn bind_to_interface(socket: &impl AsFd, name: &str) -> io::Result<()> {
    let request = request(name)?;
    set_option(socket, libc::SOL_SOCKET, libc::SO_BINDTODEVICE, &request.ifr_name)
}

/// A socket for what routers of a link announce.
pub(crate) fn router_socket(name: &str) -> io::Result<OwnedFd> {
    let socket = socket(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6)?;
    bind_to_interface(&socket, name)?;
    // Routers pass over a question that could have come from farther away. Source: RFC 4861, section 6.1.1.
    set_option(&socket, libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS, &(255 as libc::c_int))?;
    Ok(socket)
}

/// What a request about VLANs takes. Source: linux/if_vlan.h.
#[repr(C)]
struct VlanRequest {
    command: libc::c_int,
    device: [u8; 24],
    id: libc::c_int,
    rest: [u8; 20],
    quality: libc::c_short,
}

const ADD_VLAN: libc::c_int = 0;
const DELETE_VLAN: libc::c_int = 1;

fn ask_for_vlan(command: libc::c_int, name: &str, id: u16) -> io::Result<()> {
    const SIOCSIFVLAN: libc::c_ulong = 0x8983;
    let mut wanted = VlanRequest { command, device: [0; 24], id: id.into(), rest: [0; 20], quality: 0 };
    if name.len() >= wanted.device.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    wanted.device[..name.len()].copy_from_slice(name.as_bytes());
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: the structure is live and the one that this request takes.
    check(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCSIFVLAN as _, &raw mut wanted) }).map(drop)
}

/// Adds a VLAN to an interface. Source: net/8021q/vlan.c.
pub(crate) fn add_vlan(name: &str, id: u16, own: &str) -> io::Result<()> {
    ask_for_vlan(ADD_VLAN, name, id)?;
    // The kernel names it by its card and its number.
    let made = format!("{name}.{id}");
    if made == own {
        return Ok(());
    }
    let mut renamed = request(&made)?;
    renamed.ifr_ifru.ifru_newname = request(own)?.ifr_name;
    control(libc::SIOCSIFNAME, &mut renamed)
}

/// Removes a VLAN.
pub(crate) fn remove_vlan(name: &str) -> io::Result<()> {
    ask_for_vlan(DELETE_VLAN, name, 0)
}

/// A socket for whole IPv4 packets on one interface. Source: packet(7).
pub(crate) struct PacketSocket {
    socket: OwnedFd,
    index: libc::c_int,
}

impl PacketSocket {
    /// Opens it.
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        let index = interface_index(name)? as libc::c_int;
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
    pub(crate) fn send(&self, packet: &[u8]) -> io::Result<()> {
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
    pub(crate) fn receive(&self, buffer: &mut [u8], wait: Duration) -> Option<usize> {
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
