//! DHCP: asking for a lease, and keeping it where the image has nothing that does. Source: RFC 2131, RFC 2132.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::lease::{Interface, Lease, Source};
use super::message::{Code, Kind, Message};
use crate::sys::PacketSocket;
use crate::{say, sys};

/// How long all interfaces together are asked before the caller waits and tries again.
const ASK_FOR: Duration = Duration::from_secs(30);

/// Bytes of a MAC address.
pub(crate) fn mac_bytes(mac: &str) -> Option<[u8; 6]> {
    let mut bytes = [0u8; 6];
    let mut parts = mac.split(':');
    for byte in &mut bytes {
        *byte = u8::from_str_radix(parts.next()?, 16).ok()?;
    }
    Some(bytes)
}

fn message(kind: Kind, mac: [u8; 6], transaction: u32, seconds: u16) -> Message {
    let mut message = Message::question(kind, mac, transaction, seconds);
    let mut identifier = vec![1];
    identifier.extend_from_slice(&mac);
    message.add(Code::ClientIdentifier, &identifier);
    message.add(Code::MaxMessageSize, &1472u16.to_be_bytes());
    let wanted = [
        Code::SubnetMask,
        Code::Router,
        Code::NameServer,
        Code::DomainName,
        Code::HostName,
        Code::Mtu,
        Code::LeaseTime,
    ];
    message.add(Code::ParameterRequestList, &wanted.map(|code| code as u8));
    message
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
    Message::decode(data)
}

fn server(message: &Message) -> Ipv4Addr {
    message.address(Code::ServerIdentifier).unwrap_or(message.server)
}

fn lease(message: &Message, interface: &Interface) -> Lease {
    let text = |code| {
        let good = |text: &String| {
            !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_".contains(&byte))
        };
        message.text(code).filter(good)
    };
    Lease {
        interface: interface.clone(),
        address: message.yours.into(),
        prefix: message.address(Code::SubnetMask).map_or(24, |mask| u32::from(mask).leading_ones() as u8),
        gateway: message.address(Code::Router).map(Into::into),
        dns: message.addresses(Code::NameServer).into_iter().map(Into::into).collect(),
        domain: text(Code::DomainName),
        hostname: text(Code::HostName),
        source: Source::Dhcp { server: server(message), seconds: message.number(Code::LeaseTime).unwrap_or(3600) },
        mtu: message.short(Code::Mtu),
        made: None,
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
        self.socket
            .send(&packet(&message.encode(), from))
            .map_err(|error| format!("{}: cannot send: {error}", self.interface.name))
    }

    /// Waits for an answer of one of some kinds.
    fn receive(&self, wanted: &[Kind], until: Instant) -> Option<Message> {
        let mut buffer = vec![0u8; 4096];
        loop {
            let left = until.checked_duration_since(Instant::now())?;
            let length = self.socket.receive(&mut buffer, left)?;
            let Some(message) = payload(&buffer[..length]) else { continue };
            let mine = message.transaction == self.transaction && message.card == self.mac;
            if mine && message.kind().is_some_and(|kind| wanted.contains(&kind)) {
                return Some(message);
            }
        }
    }

    /// Asks once; the time doubles with each try.
    fn ask(&self, wait: Duration, seconds: u16) -> Result<Option<Lease>, String> {
        let unspecified = Ipv4Addr::UNSPECIFIED;
        self.send(&message(Kind::Discover, self.mac, self.transaction, seconds), unspecified)?;
        let Some(offer) = self.receive(&[Kind::Offer], Instant::now() + wait) else { return Ok(None) };
        let mut request = message(Kind::Request, self.mac, self.transaction, seconds);
        request.add(Code::RequestedAddress, &offer.yours.octets());
        request.add(Code::ServerIdentifier, &server(&offer).octets());
        self.send(&request, unspecified)?;
        match self.receive(&[Kind::Ack, Kind::Nak], Instant::now() + wait) {
            Some(answer) if answer.kind() == Some(Kind::Ack) => Ok(Some(lease(&answer, self.interface))),
            Some(_) => Err(format!("the DHCP server {} withdrew its offer", server(&offer))),
            None => Ok(None),
        }
    }
}

/// Asks on all interfaces in turn until one gets a lease.
pub(crate) fn ask(interfaces: &[Interface]) -> Result<Lease, String> {
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
    let mut last = String::new();
    while began.elapsed() < ASK_FOR {
        for conversation in &conversations {
            match conversation.ask(wait, began.elapsed().as_secs() as u16) {
                Ok(Some(lease)) => return Ok(lease),
                Ok(None) => {}
                // A card that cannot send, such as a bond without an active card, can do so later.
                Err(error) => {
                    if error != last {
                        say!("{error}");
                        last = error;
                    }
                    std::thread::sleep(Duration::from_millis(500));
                }
            }
        }
        wait = (wait * 2).min(Duration::from_secs(8));
    }
    let names: Vec<String> = interfaces.iter().map(|one| format!("{} ({})", one.name, one.mac)).collect();
    Err(format!("no DHCP server answers on {} (IPv4; where there is only IPv6: ip=auto6)", names.join(", ")))
}

/// Keeps a lease for ever, in a process of its own that outlives this program.
pub(crate) fn keep(lease: &Lease) -> ! {
    let mut seconds = lease.dhcp().map_or(3600, |(_, seconds)| seconds);
    let IpAddr::V4(address) = lease.address else { std::process::exit(0) };
    loop {
        if fault::planted("node-lease-not-renewed") {
            seconds = 3600;
        }
        std::thread::sleep(Duration::from_secs(u64::from(seconds.max(4)) / 2));
        let expires = Instant::now() + Duration::from_secs(u64::from(seconds) / 2);
        loop {
            if let Ok(conversation) = Conversation::open(&lease.interface) {
                let mut renewal = message(Kind::Request, conversation.mac, conversation.transaction, 0);
                renewal.client = address;
                let sent = conversation.send(&renewal, address);
                let answer = sent.ok().and_then(|()| {
                    conversation.receive(&[Kind::Ack, Kind::Nak], Instant::now() + Duration::from_secs(4))
                });
                match answer {
                    Some(answer) if answer.kind() == Some(Kind::Ack) && answer.yours == address => {
                        seconds = answer.number(Code::LeaseTime).unwrap_or(seconds);
                        break;
                    }
                    _ => {}
                }
            }
            if Instant::now() > expires {
                say!("the lease of {address} could not be renewed; the address is kept, as the root lives on it");
                break;
            }
            std::thread::sleep(Duration::from_secs(3));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_is_a_packet_to_a_server_with_all_that_it_needs() {
        let mac = mac_bytes("52:54:00:12:34:56").unwrap();
        let question = message(Kind::Discover, mac, 7, 3);
        let mut packet = packet(&question.encode(), Ipv4Addr::UNSPECIFIED);
        assert_eq!(checksum(&packet[..20]), 0);
        // It is no answer: neither by its port nor by what it says.
        assert_eq!(payload(&packet), None);
        packet[22..24].copy_from_slice(&68u16.to_be_bytes());
        assert_eq!(payload(&packet), None);
        // An answer that says the same.
        packet[28] = 2;
        let read = payload(&packet).unwrap();
        assert_eq!((read.transaction, read.card, read.kind()), (7, mac, Some(Kind::Discover)));
        assert_eq!(read.option(Code::ClientIdentifier), question.option(Code::ClientIdentifier));
        for end in 0..packet.len() {
            let _ = payload(&packet[..end]);
        }
    }
}
