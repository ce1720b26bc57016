//! DHCP: asking for a lease, and keeping it where the image has nothing that does. Source: RFC 2131, RFC 2132.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use dhcproto::v4::{DhcpOption, Flags, Message, MessageType, Opcode, OptionCode};
use dhcproto::{Decodable, Decoder, Encodable, Encoder};

use super::lease::{Interface, Lease};
use crate::sys::PacketSocket;
use crate::{say, sys};

/// How long all interfaces together are asked before the caller waits and tries again.
const ASK_FOR: Duration = Duration::from_secs(30);

fn mac_bytes(mac: &str) -> Option<[u8; 6]> {
    let mut bytes = [0u8; 6];
    let mut parts = mac.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    Some(bytes)
}

/// Bytes of a message without options, and what stands at their end. Source: RFC 2131, section 2 and 3.
const HEADER: usize = 240;
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// A request that says nothing yet. Not `Message::default()`, which draws a random number, for which a static program waits
/// until the kernel has collected some: for ever, on a machine whose processor makes none and on which nothing happens.
fn blank() -> Result<Message, String> {
    let mut bytes = [0; HEADER];
    // A request; Ethernet, whose addresses have six bytes.
    bytes[..3].copy_from_slice(&[1, 1, 6]);
    bytes[HEADER - MAGIC.len()..].copy_from_slice(&MAGIC);
    Message::decode(&mut Decoder::new(&bytes)).map_err(|error| format!("no DHCP message can be made: {error}"))
}

fn message(kind: MessageType, mac: &[u8; 6], transaction: u32, seconds: u16) -> Result<Message, String> {
    let mut message = blank()?;
    message.set_opcode(Opcode::BootRequest).set_chaddr(mac).set_xid(transaction).set_secs(seconds);
    message.set_flags(Flags::default().set_broadcast());
    let options = message.opts_mut();
    options.insert(DhcpOption::MessageType(kind));
    let mut identifier = vec![1];
    identifier.extend_from_slice(mac);
    options.insert(DhcpOption::ClientIdentifier(identifier));
    options.insert(DhcpOption::MaxMessageSize(1472));
    options.insert(DhcpOption::ParameterRequestList(vec![
        OptionCode::SubnetMask,
        OptionCode::Router,
        OptionCode::DomainNameServer,
        OptionCode::DomainName,
        OptionCode::Hostname,
        OptionCode::InterfaceMtu,
        OptionCode::AddressLeaseTime,
    ]));
    Ok(message)
}

/// An IPv4 packet with a UDP datagram from port 68 to port 67. Source: RFC 791, RFC 768.
fn packet(payload: &[u8], from: Ipv4Addr) -> Vec<u8> {
    let total = 28 + payload.len();
    let mut bytes = Vec::with_capacity(total);
    bytes.extend_from_slice(&[0x45, 0x10]);
    bytes.extend_from_slice(&(total as u16).to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 0, 64, 17, 0, 0]);
    bytes.extend_from_slice(&from.octets());
    bytes.extend_from_slice(&[255; 4]);
    let sum = checksum(&bytes);
    bytes[10..12].copy_from_slice(&sum.to_be_bytes());
    bytes.extend_from_slice(&68u16.to_be_bytes());
    bytes.extend_from_slice(&67u16.to_be_bytes());
    bytes.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    // No UDP checksum: zero means none.
    bytes.extend_from_slice(&[0, 0]);
    bytes.extend_from_slice(payload);
    bytes
}

fn checksum(header: &[u8]) -> u16 {
    let mut sum: u32 =
        header.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The DHCP message in an IPv4 packet to port 68.
fn payload(packet: &[u8]) -> Option<Message> {
    let header = usize::from(packet.first()? & 15) * 4;
    if packet.first()? >> 4 != 4 || *packet.get(9)? != 17 || header < 20 {
        return None;
    }
    let udp = packet.get(header..)?;
    if udp.get(2..4)? != 68u16.to_be_bytes() {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([*udp.get(4)?, *udp.get(5)?]));
    let data = udp.get(8..length.min(udp.len()))?;
    Message::decode(&mut Decoder::new(data)).ok()
}

fn kind(message: &Message) -> Option<MessageType> {
    match message.opts().get(OptionCode::MessageType) {
        Some(DhcpOption::MessageType(kind)) => Some(*kind),
        _ => None,
    }
}

fn server(message: &Message) -> Ipv4Addr {
    match message.opts().get(OptionCode::ServerIdentifier) {
        Some(DhcpOption::ServerIdentifier(address)) => *address,
        _ => message.siaddr(),
    }
}

fn lease(message: &Message, interface: &Interface) -> Lease {
    let options = message.opts();
    let prefix = match options.get(OptionCode::SubnetMask) {
        Some(DhcpOption::SubnetMask(mask)) => u32::from(*mask).leading_ones() as u8,
        _ => 24,
    };
    let text = |code| match options.get(code) {
        Some(DhcpOption::DomainName(text) | DhcpOption::Hostname(text)) => {
            let good =
                !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte));
            good.then(|| text.clone())
        }
        _ => None,
    };
    Lease {
        interface: interface.clone(),
        address: message.yiaddr(),
        prefix,
        gateway: match options.get(OptionCode::Router) {
            Some(DhcpOption::Router(routers)) => routers.first().copied(),
            _ => None,
        },
        dns: match options.get(OptionCode::DomainNameServer) {
            Some(DhcpOption::DomainNameServer(servers)) => servers.clone(),
            _ => Vec::new(),
        },
        domain: text(OptionCode::DomainName),
        hostname: text(OptionCode::Hostname),
        dhcp: Some((
            server(message),
            match options.get(OptionCode::AddressLeaseTime) {
                Some(DhcpOption::AddressLeaseTime(seconds)) => *seconds,
                _ => 3600,
            },
        )),
        mtu: match options.get(OptionCode::InterfaceMtu) {
            Some(DhcpOption::InterfaceMtu(mtu)) => Some(*mtu),
            _ => None,
        },
    }
}

struct Conversation<'a> {
    interface: &'a Interface,
    mac: [u8; 6],
    socket: PacketSocket,
    transaction: u32,
}

impl<'a> Conversation<'a> {
    fn open(interface: &'a Interface) -> Result<Self, String> {
        let mac = mac_bytes(&interface.mac).ok_or_else(|| format!("{} has no usable MAC address", interface.name))?;
        let socket = PacketSocket::open(&interface.name)
            .map_err(|error| format!("{}: no raw socket: {error}", interface.name))?;
        Ok(Self { interface, mac, socket, transaction: sys::random_u32() })
    }

    fn send(&self, message: &Message, from: Ipv4Addr) -> Result<(), String> {
        let mut bytes = Vec::new();
        message.encode(&mut Encoder::new(&mut bytes)).map_err(|error| error.to_string())?;
        self.socket
            .send(&packet(&bytes, from))
            .map_err(|error| format!("{}: cannot send: {error}", self.interface.name))
    }

    /// Waits for an answer of one of some kinds.
    fn receive(&self, wanted: &[MessageType], until: Instant) -> Option<Message> {
        let mut buffer = vec![0u8; 4096];
        loop {
            let left = until.checked_duration_since(Instant::now())?;
            let length = self.socket.receive(&mut buffer, left)?;
            let Some(message) = payload(&buffer[..length]) else { continue };
            let mine = message.xid() == self.transaction && message.chaddr() == self.mac;
            if mine && kind(&message).is_some_and(|kind| wanted.contains(&kind)) {
                return Some(message);
            }
        }
    }

    /// Asks once; the time doubles with each try.
    fn ask(&self, wait: Duration, seconds: u16) -> Result<Option<Lease>, String> {
        let nobody = Ipv4Addr::UNSPECIFIED;
        self.send(&message(MessageType::Discover, &self.mac, self.transaction, seconds)?, nobody)?;
        let Some(offer) = self.receive(&[MessageType::Offer], Instant::now() + wait) else { return Ok(None) };
        let mut request = message(MessageType::Request, &self.mac, self.transaction, seconds)?;
        request.opts_mut().insert(DhcpOption::RequestedIpAddress(offer.yiaddr()));
        request.opts_mut().insert(DhcpOption::ServerIdentifier(server(&offer)));
        self.send(&request, nobody)?;
        match self.receive(&[MessageType::Ack, MessageType::Nak], Instant::now() + wait) {
            Some(answer) if kind(&answer) == Some(MessageType::Ack) => Ok(Some(lease(&answer, self.interface))),
            Some(_) => Err(format!("the DHCP server {} took its offer back", server(&offer))),
            None => Ok(None),
        }
    }
}

/// Asks on all interfaces in turn until one gets a lease.
pub fn ask(interfaces: &[Interface]) -> Result<Lease, String> {
    let mut conversations = Vec::new();
    let mut problem = String::new();
    for interface in interfaces {
        match Conversation::open(interface) {
            Ok(conversation) => conversations.push(conversation),
            Err(error) => problem = error,
        }
    }
    if conversations.is_empty() {
        return Err(problem);
    }
    let began = Instant::now();
    let mut wait = Duration::from_millis(1000);
    while began.elapsed() < ASK_FOR {
        for conversation in &conversations {
            match conversation.ask(wait, began.elapsed().as_secs() as u16) {
                Ok(Some(lease)) => return Ok(lease),
                Ok(None) => {}
                Err(error) => say!("{error}"),
            }
        }
        wait = (wait * 2).min(Duration::from_secs(8));
    }
    let names: Vec<String> = interfaces.iter().map(|one| format!("{} ({})", one.name, one.mac)).collect();
    Err(format!("no DHCP server answers on {}", names.join(", ")))
}

/// Keeps a lease for ever, in a process of its own that outlives this program.
pub fn keep(lease: &Lease) -> ! {
    let mut current = lease.clone();
    loop {
        let (server, seconds) = current.dhcp.unwrap_or((Ipv4Addr::UNSPECIFIED, 3600));
        std::thread::sleep(Duration::from_secs(u64::from(seconds.max(4)) / 2));
        let expires = Instant::now() + Duration::from_secs(u64::from(seconds) / 2);
        loop {
            if let Ok(conversation) = Conversation::open(&current.interface) {
                let renewal = message(MessageType::Request, &conversation.mac, conversation.transaction, 0);
                let sent = renewal.and_then(|mut renewal| {
                    renewal.set_ciaddr(current.address);
                    conversation.send(&renewal, current.address)
                });
                let answer = sent.ok().and_then(|()| {
                    conversation.receive(&[MessageType::Ack, MessageType::Nak], Instant::now() + Duration::from_secs(4))
                });
                match answer {
                    Some(answer) if kind(&answer) == Some(MessageType::Ack) && answer.yiaddr() == current.address => {
                        current.dhcp = Some((server, lease_seconds(&answer, seconds)));
                        break;
                    }
                    _ => {}
                }
            }
            if Instant::now() > expires {
                say!(
                    "the lease of {} could not be renewed; the address is kept, as the root lives on it",
                    current.address
                );
                break;
            }
            std::thread::sleep(Duration::from_secs(3));
        }
    }
}

fn lease_seconds(answer: &Message, default: u32) -> u32 {
    match answer.opts().get(OptionCode::AddressLeaseTime) {
        Some(DhcpOption::AddressLeaseTime(seconds)) => *seconds,
        _ => default,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_can_be_read_by_a_server_and_back() {
        let mac = mac_bytes("52:54:00:12:34:56").unwrap();
        let mut bytes = Vec::new();
        message(MessageType::Discover, &mac, 7, 0).unwrap().encode(&mut Encoder::new(&mut bytes)).unwrap();
        let mut packet = packet(&bytes, Ipv4Addr::UNSPECIFIED);
        // To the client's port instead of the server's.
        packet[22..24].copy_from_slice(&68u16.to_be_bytes());
        let read = payload(&packet).unwrap();
        assert_eq!((read.xid(), read.chaddr()), (7, &mac[..]));
        assert_eq!(checksum(&packet[..20]), 0);
        // As the library makes one, but for the number that it draws.
        let mut library = Message::default();
        library.set_chaddr(&[0; 6]).set_xid(0);
        assert_eq!(blank().unwrap(), library);
        for end in 0..packet.len() {
            let _ = payload(&packet[..end]);
        }
    }
}
