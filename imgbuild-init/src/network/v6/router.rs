//! Asking the routers of a link. Source: RFC 4861, section 6.3.7.

use std::io;
use std::net::{Ipv6Addr, SocketAddr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use super::announcement::Announcement;
use crate::sys;

/// Where all routers of a link listen.
const ROUTERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 2);
/// A host asks three times, four seconds apart. Source: RFC 4861, section 10.
const TRIES: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(4);

const SOLICITATION: u8 = 133;
const SOURCE_LINK_LAYER: u8 = 1;

/// Asks the routers of a link; none where none answers.
pub(crate) fn ask(name: &str) -> io::Result<Option<Announcement>> {
    let socket: UdpSocket = sys::router_socket(name)?.into();
    let index = sys::interface_index(name)?;
    let mac = std::fs::read_to_string(format!("/sys/class/net/{name}/address")).unwrap_or_default();
    // The kernel sets the checksum.
    let mut question = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    if let Some(mac) = super::super::dhcp::mac_bytes(mac.trim()) {
        question.extend([SOURCE_LINK_LAYER, 1]);
        question.extend(mac);
    }
    let mut buffer = [0; 2048];
    for _ in 0..TRIES {
        socket.send_to(&question, SocketAddrV6::new(ROUTERS, 0, 0, index))?;
        let until = Instant::now() + BETWEEN;
        while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            socket.set_read_timeout(Some(left))?;
            let Ok((length, SocketAddr::V6(from))) = socket.recv_from(&mut buffer) else { continue };
            // A router of this link speaks from its own address of the link.
            if from.ip().is_unicast_link_local()
                && let Some(found) = Announcement::read(&buffer[..length])
            {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}
