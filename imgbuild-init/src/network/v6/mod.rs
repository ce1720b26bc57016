//! IPv6: what routers announce (RFC 4861, 4862, 8106), which the kernel does by itself, and DHCPv6 where they say so.

mod announcement;
mod message;
mod router;

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6, UdpSocket};
use std::time::{Duration, Instant};

use super::has_carrier;
use super::lease::{Interface, Lease, Source};
use crate::{say, sys};
use announcement::Announcement;
use message::{Kind, Message};

/// How long all interfaces together are asked before the caller waits and tries again.
const ASK_FOR: Duration = Duration::from_secs(30);
/// How long an address may take until no other machine has objected to it: a second, and what is delayed at random.
const OBJECTIONS: Duration = Duration::from_secs(8);
/// Where all DHCPv6 servers and relays of a link listen. Source: RFC 8415, section 7.1.
const SERVERS: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 1, 2);
const SERVER_PORT: u16 = 547;
const CLIENT_PORT: u16 = 546;

/// An address of an interface, as /proc/net/if_inet6 has it.
struct Own {
    address: Ipv6Addr,
    prefix: u8,
    /// Only for its link.
    is_local: bool,
    /// The kernel still asks whether another machine has it.
    is_tentative: bool,
    /// Another one has.
    is_taken: bool,
}

/// Addresses in a text of if_inet6: address, index, prefix, scope, flags, name. Source: net/ipv6/addrconf.c, linux/if_addr.h.
fn parse_addresses(text: &str, name: &str) -> Vec<Own> {
    let mut found = Vec::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let &[address, _, prefix, scope, flags, own] = words.as_slice() else { continue };
        let hex = |text: &str| u8::from_str_radix(text, 16).ok();
        let (Ok(bits), Some(prefix), Some(scope), Some(flags)) =
            (u128::from_str_radix(address, 16), hex(prefix), hex(scope), u32::from_str_radix(flags, 16).ok())
        else {
            continue;
        };
        // A temporary address is for going out, and another one tomorrow.
        if own == name && flags & 0x01 == 0 && scope != 0x10 {
            found.push(Own {
                address: Ipv6Addr::from(bits),
                prefix,
                is_local: scope == 0x20,
                is_tentative: flags & 0x40 != 0,
                is_taken: flags & 0x08 != 0,
            });
        }
    }
    found
}

fn own_addresses(name: &str) -> Vec<Own> {
    parse_addresses(&std::fs::read_to_string("/proc/net/if_inet6").unwrap_or_default(), name)
}

/// Waits for an address that is good for use.
fn wait_for(name: &str, until: Instant, is_meant: impl Fn(&Own) -> bool) -> Option<Own> {
    loop {
        let found = own_addresses(name).into_iter().find(|own| is_meant(own) && !own.is_tentative && !own.is_taken);
        if found.is_some() || Instant::now() > until {
            return found;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until no other machine has objected to an address.
pub(crate) fn wait_until_usable(name: &str, address: Ipv6Addr) -> Result<(), String> {
    if wait_for(name, Instant::now() + OBJECTIONS, |own| own.address == address).is_some() {
        return Ok(());
    }
    let is_taken = own_addresses(name).iter().any(|own| own.address == address && own.is_taken);
    Err(match is_taken {
        true => format!("another machine on the network of {name} has the address {address}"),
        false => format!("the address {address} of {name} does not become usable"),
    })
}

/// Asks routers, and DHCPv6 servers where a router says so or `by_dhcp`, on the interfaces that have a link.
pub(crate) fn ask(interfaces: &[Interface], by_dhcp: bool) -> Result<Lease, String> {
    if !std::path::Path::new("/proc/net/if_inet6").exists() {
        return Err("the kernel of this image has no IPv6, which the command line asks for (ip=)".to_owned());
    }
    let began = Instant::now();
    let mut problem = String::new();
    while began.elapsed() < ASK_FOR {
        for interface in interfaces.iter().filter(|one| has_carrier(&one.name)) {
            match ask_one(interface, by_dhcp) {
                Ok(lease) => return Ok(lease),
                Err(error) => problem = error,
            }
        }
        std::thread::sleep(Duration::from_millis(200));
    }
    Err(problem)
}

fn ask_one(interface: &Interface, by_dhcp: bool) -> Result<Lease, String> {
    let name = &interface.name;
    for (key, value) in [("disable_ipv6", "0"), ("accept_ra", "1"), ("autoconf", "1")] {
        let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/{key}"), value);
    }
    let own = wait_for(name, Instant::now() + OBJECTIONS, |own| own.is_local)
        .ok_or_else(|| format!("{name} gets no address of its link (IPv6)"))?;
    let announced = router::ask(name).map_err(|error| format!("{name}: routers cannot be asked: {error}"))?;
    let is_managed = by_dhcp || announced.as_ref().is_some_and(|one| one.is_managed);
    let mut lease = Lease {
        interface: interface.clone(),
        address: IpAddr::V6(own.address),
        prefix: 64,
        gateway: None,
        dns: Vec::new(),
        domain: None,
        hostname: None,
        source: Source::Announced,
        mtu: None,
        made: None,
    };
    if let Some(Announcement { dns, domain, .. }) = &announced {
        lease.dns = dns.iter().copied().map(IpAddr::V6).collect();
        lease.domain.clone_from(domain);
    }
    if is_managed {
        let reply = Conversation::open(interface)?.ask_for_an_address()?;
        let address = reply.address.ok_or_else(|| format!("the DHCPv6 server gives {name} no address"))?;
        lease.address = IpAddr::V6(address);
        // The network's prefix is the routers' to say; without one the server has to be reached at least.
        lease.prefix = if announced.is_some() { 128 } else { 64 };
        lease.source = Source::Dhcp6;
        take(&mut lease, reply);
        return Ok(lease);
    }
    let Some(announced) = announced else {
        return Err(format!("no IPv6 router announces itself on {name}; a network with DHCPv6 alone: ip=dhcp6"));
    };
    let address = wait_for(name, Instant::now() + OBJECTIONS, |own| !own.is_local)
        .ok_or_else(|| format!("the router on {name} announces no network for addresses (IPv6)"))?;
    lease.address = IpAddr::V6(address.address);
    lease.prefix = address.prefix;
    if announced.has_other && lease.dns.is_empty() {
        match Conversation::open(interface).and_then(|one| one.ask_for_information()) {
            Ok(reply) => take(&mut lease, reply),
            Err(error) => say!("{error}"),
        }
    }
    Ok(lease)
}

fn take(lease: &mut Lease, reply: Message) {
    if !reply.dns.is_empty() {
        lease.dns = reply.dns.into_iter().map(IpAddr::V6).collect();
    }
    lease.domain = reply.domain.or(lease.domain.take());
}

/// A question to DHCPv6 servers. Source: RFC 8415.
struct Conversation {
    name: String,
    mac: [u8; 6],
    socket: UdpSocket,
    index: u32,
    transaction: u32,
}

impl Conversation {
    fn open(interface: &Interface) -> Result<Self, String> {
        let name = interface.name.clone();
        let said = |error: std::io::Error| format!("{name}: no socket for DHCPv6: {error}");
        let mac = super::dhcp::mac_bytes(&interface.mac).ok_or_else(|| format!("{name} has no usable MAC address"))?;
        let socket = UdpSocket::bind((Ipv6Addr::UNSPECIFIED, CLIENT_PORT)).map_err(said)?;
        sys::bind_to_interface(&socket, &name).map_err(said)?;
        let index = sys::interface_index(&name).map_err(said)?;
        Ok(Self { name, mac, socket, index, transaction: sys::random_u32() & 0x00ff_ffff })
    }

    /// Sends a question until it is answered; the time between doubles.
    fn say(&self, question: &Message, wanted: Kind) -> Result<Message, String> {
        let began = Instant::now();
        let mut wait = Duration::from_secs(1);
        let to = SocketAddrV6::new(SERVERS, SERVER_PORT, 0, self.index);
        let mut buffer = [0; 4096];
        for _ in 0..4 {
            let bytes = question.encode(began.elapsed());
            self.socket.send_to(&bytes, to).map_err(|error| format!("{}: cannot send: {error}", self.name))?;
            let until = Instant::now() + wait;
            while let Some(left) = until.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
                let _ = self.socket.set_read_timeout(Some(left));
                let Ok(length) = self.socket.recv(&mut buffer) else { continue };
                let Some(answer) = Message::decode(&buffer[..length]) else { continue };
                let is_mine = answer.transaction == self.transaction && answer.client == question.client;
                if is_mine && answer.kind == wanted && answer.server.is_some() {
                    return match answer.refusal {
                        Some(why) => Err(format!("the DHCPv6 server refuses {}: {why}", self.name)),
                        None => Ok(answer),
                    };
                }
            }
            wait = (wait * 2).min(Duration::from_secs(8));
        }
        Err(format!("no DHCPv6 server answers on {}", self.name))
    }

    fn ask_for_an_address(&self) -> Result<Message, String> {
        let mut question = Message::question(Kind::Solicit, self.mac, self.transaction);
        let offer = self.say(&question, Kind::Advertise)?;
        question.kind = Kind::Request;
        question.server = offer.server;
        question.address = offer.address;
        self.say(&question, Kind::Reply)
    }

    fn ask_for_information(&self) -> Result<Message, String> {
        self.say(&Message::question(Kind::InformationRequest, self.mac, self.transaction), Kind::Reply)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_an_interface_are_read_as_the_kernel_writes_them() {
        let text = "fe80000000000000505400fffe000001 02 40 20 80     eth0\n\
                    fd000009000000000000000000000005 02 40 00 40     eth0\n\
                    fd000009000000000000000000000006 02 40 00 01     eth0\n\
                    00000000000000000000000000000001 01 80 10 80       lo\n\
                    fd000009000000000000000000000007 03 40 00 08     eth1\nx\n";
        let found = parse_addresses(text, "eth0");
        let facts: Vec<_> =
            found.iter().map(|own| (own.address.to_string(), own.prefix, own.is_local, own.is_tentative)).collect();
        assert_eq!(
            facts,
            [("fe80::5054:ff:fe00:1".to_owned(), 64, true, false), ("fd00:9::5".to_owned(), 64, false, true)]
        );
        assert!(parse_addresses(text, "eth1")[0].is_taken && parse_addresses(text, "lo").is_empty());
    }
}
