//! What NetworkManager is given. Source: nm-settings-keyfile(5); NetworkManager, src/core/nm-config.c (states of devices).

use std::net::IpAddr;

use sha2::Digest;

use crate::network::lease::{Interface, Lease, Source};

/// The connection that has the address.
pub(super) const MAIN: &str = "imgbuild";
/// The bond below a VLAN.
const BOND: &str = "imgbuild-bond";

/// Name of the connection of a card below.
fn of_part(card: &Interface) -> String {
    format!("imgbuild-{}", card.name)
}

/// By which a state names a connection.
fn uuid(id: &str) -> String {
    let digest = sha2::Sha256::digest(format!("imgbuild connection {id}"));
    let hex: String = digest[..16].iter().map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{}-4{}-8{}-{}", &hex[..8], &hex[8..12], &hex[13..16], &hex[17..20], &hex[20..])
}

/// Sections [ipv4] and [ipv6] of a connection.
fn keyfile_addresses(lease: &Lease) -> String {
    let gateway = lease.gateway.map(|gateway| format!(",{gateway}")).unwrap_or_default();
    let dns: String = lease.dns.iter().map(|server| format!("{server};")).collect();
    let dns = if dns.is_empty() { String::new() } else { format!("dns={dns}\n") };
    let given = format!("method=manual\naddress1={}/{}{gateway}\n{dns}", lease.address, lease.prefix);
    match (lease.source, lease.address) {
        (Source::Dhcp { .. }, _) => "[ipv4]\nmethod=auto\ndhcp-client-id=mac\n".to_owned(),
        (Source::Announced, _) => "[ipv4]\nmethod=disabled\n\n[ipv6]\nmethod=auto\naddr-gen-mode=eui64\n".to_owned(),
        (Source::Dhcp6, _) => "[ipv4]\nmethod=disabled\n\n[ipv6]\nmethod=dhcp\ndhcp-duid=ll\n".to_owned(),
        (Source::Given, IpAddr::V4(_)) => format!("[ipv4]\n{given}"),
        (Source::Given, IpAddr::V6(_)) => format!("[ipv4]\nmethod=disabled\n\n[ipv6]\n{given}"),
    }
}

/// Connections of NetworkManager: names of files, and texts.
pub(super) fn connections(lease: &Lease) -> Vec<(String, String)> {
    let head = |id: &str, kind: &str, more: &str| {
        format!("[connection]\nid={id}\nuuid={}\ntype={kind}\n{more}autoconnect-priority=100\n\n", uuid(id))
    };
    let of_card = |card: &Interface| format!("[ethernet]\nmac-address={}\n\n", card.mac);
    let addresses = keyfile_addresses(lease);
    let nothing = "[ipv4]\nmethod=disabled\n\n[ipv6]\nmethod=disabled\n";
    let main = MAIN.to_owned();
    let Some(made) = &lease.made else {
        return vec![(main, format!("{}{}{addresses}", head(MAIN, "ethernet", ""), of_card(&lease.interface)))];
    };
    let mut found = Vec::new();
    if let Some((bond, cards)) = &made.bond {
        let (id, addresses) = match made.vlan {
            Some(_) => (BOND, nothing),
            None => (MAIN, addresses.as_str()),
        };
        let options: String = bond.options.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        let miimon = bond.option("miimon").or(bond.option("arp_interval")).map_or("miimon=100\n", |_| "");
        let own = head(id, "bond", &format!("interface-name={}\n", bond.name));
        found.push((id.to_owned(), format!("{own}[bond]\n{options}{miimon}\n{addresses}")));
        for card in cards {
            let id = of_part(card);
            let own = head(&id, "ethernet", &format!("master={}\nslave-type=bond\n", bond.name));
            found.push((id, format!("{own}{}", of_card(card))));
        }
    }
    if let Some((vlan, below)) = &made.vlan {
        let own = head(MAIN, "vlan", &format!("interface-name={}\n", vlan.name));
        let (parent, card) = match made.bond {
            Some(_) => (format!("parent={}\n", below.name), String::new()),
            None => (String::new(), of_card(below)),
        };
        if made.bond.is_none() {
            // Without one it would make one of its own, which asks for an address on what is not tagged.
            let id = of_part(below);
            found.push((id.clone(), format!("{}{card}{nothing}", head(&id, "ethernet", ""))));
        }
        found.push((main, format!("{own}[vlan]\nid={}\n{parent}\n{card}{addresses}", vlan.id)));
    }
    found
}

/// Interfaces, and the connections that they have.
pub(super) fn parts(lease: &Lease) -> Vec<(&str, String)> {
    let mut parts = vec![(lease.interface.name.as_str(), MAIN.to_owned())];
    if let Some(made) = &lease.made {
        if let Some((bond, cards)) = &made.bond {
            if made.vlan.is_some() {
                parts.push((&bond.name, BOND.to_owned()));
            }
            parts.extend(cards.iter().map(|card| (card.name.as_str(), of_part(card))));
        } else if let Some((_, below)) = &made.vlan {
            parts.push((&below.name, of_part(below)));
        }
    }
    parts
}

/// State of a device as it leaves it itself. By it, it goes on with what is up, as after a restart of its own; else it takes what is
/// up for someone else's, and no one renews the lease.
pub(super) fn state(id: &str) -> String {
    format!("[device]\nmanaged=true\nconnection-uuid={}\nnm-owned=true\n", uuid(id))
}
