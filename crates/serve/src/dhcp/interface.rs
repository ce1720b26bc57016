//! The card on which nodes are answered.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::error::ServeError;
use crate::sockets::system::Address;
use nodes::Effective;

impl Address {
    /// Whether an address is in the network of this one.
    pub(crate) fn has(&self, other: Ipv4Addr) -> bool {
        other & self.mask == self.address & self.mask
    }

    /// The network: `10.0.0.0/24`.
    pub(crate) fn network(&self) -> String {
        format!("{}/{}", self.address & self.mask, u32::from(self.mask).count_ones())
    }
}

/// The card of a name, else the one whose address is listened on, else the one in whose network nodes are.
/// Errors: It is missing, down or has no address; or several would do.
pub(super) fn choose(
    all: &[Address],
    named: Option<&str>,
    listened: &[SocketAddr],
    nodes: &[Effective],
) -> Result<Address, ServeError> {
    let is_listened = |one: &Address| {
        !one.address.is_unspecified() && listened.iter().any(|socket| socket.ip() == IpAddr::V4(one.address))
    };
    let nodes_in = |one: &Address| {
        let here = |node: &&Effective| matches!(node.ip(), Some(IpAddr::V4(ip)) if one.has(ip));
        nodes.iter().filter(here).count()
    };
    let known = || {
        let shown: Vec<String> = all
            .iter()
            .filter(|one| one.address != Ipv4Addr::UNSPECIFIED)
            .map(|one| format!("{} {}", one.interface, one.network()))
            .collect();
        format!("this machine has {}", shown.join(", "))
    };
    let of_card: Vec<&Address> = match named {
        Some(name) => {
            let own: Vec<&Address> = all.iter().filter(|one| one.interface == name).collect();
            if own.is_empty() {
                let problem = format!("there is no network card `{}`", name.escape_debug());
                return Err(ServeError::dhcp_input(problem, &known()));
            }
            own
        }
        None => {
            let specific: Vec<&Address> = all.iter().filter(|one| is_listened(one)).collect();
            if specific.is_empty() { all.iter().filter(|one| nodes_in(one) > 0).collect() } else { specific }
        }
    };
    let mut cards: Vec<&str> = of_card.iter().map(|one| one.interface.as_str()).collect();
    cards.sort_unstable();
    cards.dedup();
    let name = match cards.as_slice() {
        [name] => *name,
        [] => {
            let problem = "no network card of this machine is in the network of a node".to_owned();
            return Err(ServeError::dhcp_input(
                problem,
                &format!("name the nodes' card: --interface eth1; {}", known()),
            ));
        }
        several => {
            let problem = format!("nodes may be on any of the network cards {}", several.join(", "));
            return Err(ServeError::dhcp_input(problem, "name the nodes' card: --interface eth1"));
        }
    };
    let usable = of_card.iter().filter(|one| one.address != Ipv4Addr::UNSPECIFIED);
    let Some(best) = usable.max_by_key(|one| (is_listened(one), nodes_in(one))) else {
        return Err(ServeError::dhcp_machine(
            format!("the network card `{name}` has no IPv4 address"),
            format!("give it one: ip address add 10.0.0.1/24 dev {name}"),
        ));
    };
    if !best.is_up {
        return Err(ServeError::dhcp_machine(
            format!("the network card `{name}` is down"),
            format!("switch it on: ip link set {name} up"),
        ));
    }
    Ok((*best).clone())
}

/// The port by which nodes reach the server at an address.
/// Errors: It does not listen there.
pub(super) fn port(listened: &[SocketAddr], address: Ipv4Addr) -> Result<u16, ServeError> {
    let reaches = |socket: &&SocketAddr| socket.ip() == IpAddr::V4(address) || socket.ip().is_unspecified();
    listened.iter().find(reaches).map(SocketAddr::port).ok_or_else(|| {
        let problem = format!("nodes would be sent to {address}, where this server does not listen");
        ServeError::dhcp_input(problem, &format!("add --listen {address}:80, or name another card with --interface"))
    })
}
