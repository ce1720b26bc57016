//! `Interface` and `Lease`: the network configuration.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::words::{Bond, Vlan};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Interface {
    /// Name.
    pub name: String,
    /// MAC address, with colons, lower case.
    pub mac: String,
}

/// The network's configuration as received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    /// On which interface.
    pub interface: Interface,
    /// Address.
    pub address: IpAddr,
    /// Bits of the network.
    pub prefix: u8,
    /// Gateway.
    pub gateway: Option<IpAddr>,
    /// Name servers.
    pub dns: Vec<IpAddr>,
    /// Domain.
    pub domain: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// Where it comes from.
    pub source: Source,
    /// MTU.
    pub mtu: Option<u16>,
    /// What the interface is made of; none for a card.
    pub made: Option<Made>,
}

impl Lease {
    /// The server that gave it by DHCP for IPv4, and for how many seconds.
    pub(crate) fn dhcp(&self) -> Option<(Ipv4Addr, u32)> {
        match self.source {
            Source::Dhcp { server, seconds } => Some((server, seconds)),
            _ => None,
        }
    }
}

/// Where an address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Source {
    /// The command line.
    Given,
    /// A DHCP server for IPv4, for some seconds.
    Dhcp {
        /// The server.
        server: Ipv4Addr,
        /// How long it lasts.
        seconds: u32,
    },
    /// IPv6 routers: the kernel keeps it.
    Announced,
    /// A DHCPv6 server.
    Dhcp6,
}

/// What an interface was made of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Made {
    /// The bond and its cards.
    pub bond: Option<(Bond, Vec<Interface>)>,
    /// The VLAN, and what it lies on.
    pub vlan: Option<(Vlan, Interface)>,
}

impl Made {
    /// Names of all interfaces that it needs.
    pub(crate) fn names(&self) -> Vec<&str> {
        let bond = self.bond.iter().flat_map(|(bond, cards)| {
            std::iter::once(bond.name.as_str()).chain(cards.iter().map(|card| card.name.as_str()))
        });
        let vlan = self.vlan.iter().flat_map(|(vlan, below)| [vlan.name.as_str(), below.name.as_str()]);
        bond.chain(vlan).collect()
    }

    /// The cards that all of it lies on.
    pub(crate) fn cards(&self) -> Vec<&Interface> {
        match (&self.bond, &self.vlan) {
            (Some((_, cards)), _) => cards.iter().collect(),
            (None, Some((_, card))) => vec![card],
            (None, None) => Vec::new(),
        }
    }
}
