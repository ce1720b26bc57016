//! `Interface` and `Lease`: the network configuration.

use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

/// A network interface.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// MAC address, with colons, lower case.
    pub mac: String,
}

/// The network's configuration as received.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// On which interface.
    pub interface: Interface,
    /// Address.
    pub address: Ipv4Addr,
    /// Bits of the network.
    pub prefix: u8,
    /// Gateway.
    pub gateway: Option<Ipv4Addr>,
    /// Name servers.
    pub dns: Vec<Ipv4Addr>,
    /// Domain.
    pub domain: Option<String>,
    /// Host name.
    pub hostname: Option<String>,
    /// The server that gave it, and how long it lasts in seconds; none for a given address.
    pub dhcp: Option<(Ipv4Addr, u32)>,
    /// MTU.
    pub mtu: Option<u16>,
}
