//! The program of the image that runs its network: which one it is, and its settings for the interface that the node booted from.
//!
//! Source: nm-settings-keyfile(5), interfaces(5) of ifupdown, systemd.network(5).

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::new_root::{has, inside, write};
use crate::network::lease::{Interface, Lease, Source};

/// Who runs the image's network.
pub enum Manager {
    /// One that knows interfaces by their MAC addresses.
    ByMac,
    /// One that knows them by their names.
    ByName,
    /// No one.
    None,
}

/// Configures it, by what the image has.
pub fn configure(lease: &Lease) -> Result<Manager, String> {
    if has("usr/sbin/NetworkManager") {
        for (name, text) in network_manager(lease) {
            let file = format!("/run/NetworkManager/system-connections/{name}.nmconnection");
            write(Path::new(&file), &text, 0o600)?;
        }
        return Ok(Manager::ByMac);
    }
    let asks = match lease.source {
        Source::Given | Source::Announced => true,
        Source::Dhcp { .. } | Source::Dhcp6 => has("usr/sbin/dhclient"),
    };
    if has("usr/sbin/ifup") && asks {
        write(&inside("etc/network/interfaces.d/imgbuild"), &ifupdown(lease), 0o644)?;
        return Ok(Manager::ByName);
    }
    if has("usr/lib/systemd/systemd-networkd") {
        write(Path::new("/run/systemd/network/10-imgbuild.network"), &networkd(lease), 0o644)?;
        enable_networkd().map_err(|error| error.to_string())?;
        return Ok(Manager::ByMac);
    }
    Ok(Manager::None)
}

/// For this boot, whatever the image says.
fn enable_networkd() -> std::io::Result<()> {
    let wanted = |target: &str, unit: &str| {
        let wants = PathBuf::from(format!("/run/systemd/system/{target}.wants"));
        std::fs::create_dir_all(&wants)?;
        let _ = std::os::unix::fs::symlink(format!("/usr/lib/systemd/system/{unit}"), wants.join(unit));
        Ok(())
    };
    wanted("multi-user.target", "systemd-networkd.service")?;
    // Without it network-online.target waits for nothing, and what comes after it (mounts, munge) starts without an address.
    let waits = "systemd-networkd-wait-online.service";
    if has(&format!("usr/lib/systemd/system/{waits}")) { wanted("network-online.target", waits) } else { Ok(()) }
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
fn network_manager(lease: &Lease) -> Vec<(String, String)> {
    let head = |id: &str, kind: &str, more: &str| {
        format!("[connection]\nid={id}\ntype={kind}\n{more}autoconnect-priority=100\n\n")
    };
    let of_card = |card: &Interface| format!("[ethernet]\nmac-address={}\n\n", card.mac);
    let addresses = keyfile_addresses(lease);
    let nothing = "[ipv4]\nmethod=disabled\n\n[ipv6]\nmethod=disabled\n";
    let main = "imgbuild".to_owned();
    let Some(made) = &lease.made else {
        return vec![(main, format!("{}{}{addresses}", head("imgbuild", "ethernet", ""), of_card(&lease.interface)))];
    };
    let mut found = Vec::new();
    if let Some((bond, cards)) = &made.bond {
        let (id, addresses) = match made.vlan {
            Some(_) => ("imgbuild-bond", nothing),
            None => ("imgbuild", addresses.as_str()),
        };
        let options: String = bond.options.iter().map(|(key, value)| format!("{key}={value}\n")).collect();
        let miimon = bond.option("miimon").or(bond.option("arp_interval")).map_or("miimon=100\n", |_| "");
        let own = head(id, "bond", &format!("interface-name={}\n", bond.name));
        found.push((id.to_owned(), format!("{own}[bond]\n{options}{miimon}\n{addresses}")));
        for card in cards {
            let id = format!("imgbuild-{}", card.name);
            let own = head(&id, "ethernet", &format!("master={}\nslave-type=bond\n", bond.name));
            found.push((id, format!("{own}{}", of_card(card))));
        }
    }
    if let Some((vlan, below)) = &made.vlan {
        let own = head("imgbuild", "vlan", &format!("interface-name={}\n", vlan.name));
        let (parent, card) = match made.bond {
            Some(_) => (format!("parent={}\n", below.name), String::new()),
            None => (String::new(), of_card(below)),
        };
        found.push((main, format!("{own}[vlan]\nid={}\n{parent}\n{card}{addresses}", vlan.id)));
    }
    found
}

/// A file of /etc/network/interfaces.d.
fn ifupdown(lease: &Lease) -> String {
    let name = &lease.interface.name;
    let family = if lease.address.is_ipv4() { "inet" } else { "inet6" };
    let method = match lease.source {
        Source::Dhcp { .. } | Source::Dhcp6 => "dhcp\n".to_owned(),
        Source::Announced => "auto\n".to_owned(),
        Source::Given => {
            let gateway = lease.gateway.map(|gateway| format!("    gateway {gateway}\n")).unwrap_or_default();
            format!("static\n    address {}/{}\n{gateway}", lease.address, lease.prefix)
        }
    };
    format!("auto {name}\niface {name} {family} {method}")
}

/// Number of the association of a card's addresses: the last four bytes of its own, as `network::v6` and NetworkManager have it.
fn association(mac: &str) -> u32 {
    mac.split(':')
        .skip(2)
        .filter_map(|byte| u8::from_str_radix(byte, 16).ok())
        .fold(0, |number, byte| number << 8 | u32::from(byte))
}

/// A file for systemd-networkd.
fn networkd(lease: &Lease) -> String {
    let matched = match &lease.made {
        Some(_) => format!("Name={}", lease.interface.name),
        None => format!("MACAddress={}", lease.interface.mac),
    };
    let method = match lease.source {
        Source::Dhcp { .. } => {
            "DHCP=ipv4\nKeepConfiguration=dhcp-on-stop\n\n[DHCPv4]\nClientIdentifier=mac\n".to_owned()
        }
        Source::Announced => "IPv6AcceptRA=yes\n".to_owned(),
        // The identifiers are those by which the node asked before: else it would be given another address.
        Source::Dhcp6 => format!(
            "DHCP=ipv6\nIPv6AcceptRA=yes\n\n[DHCPv6]\nDUIDType=link-layer\nIAID={}\nWithoutRA=solicit\n\n[IPv6AcceptRA]\nDHCPv6Client=always\n",
            association(&lease.interface.mac)
        ),
        Source::Given => {
            let gateway = lease.gateway.map(|gateway| format!("Gateway={gateway}\n")).unwrap_or_default();
            let dns: String = lease.dns.iter().map(|server| format!("DNS={server}\n")).collect();
            format!("Address={}/{}\n{gateway}{dns}", lease.address, lease.prefix)
        }
    };
    format!("[Match]\n{matched}\n\n[Network]\n{method}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::network::lease::Made;
    use crate::words::{Bond, Vlan};

    fn card(number: u8) -> Interface {
        Interface { name: format!("eth{number}"), mac: format!("52:54:00:00:00:0{number}") }
    }

    fn lease(source: Source, address: &str, made: Option<Made>) -> Lease {
        let interface = match &made {
            Some(Made { vlan: Some((vlan, _)), .. }) => Interface { name: vlan.name.clone(), ..card(1) },
            Some(Made { bond: Some((bond, _)), .. }) => Interface { name: bond.name.clone(), ..card(1) },
            _ => card(1),
        };
        let address: IpAddr = address.parse().unwrap();
        let gateway = (source == Source::Given).then_some(address);
        let (domain, hostname, mtu) = (None, None, None);
        Lease { interface, address, prefix: 24, gateway, dns: vec![address], domain, hostname, source, mtu, made }
    }

    fn bond() -> Option<(Bond, Vec<Interface>)> {
        Some((Bond::read("bond0:eth0,eth1:mode=802.3ad,lacp_rate=fast").unwrap(), vec![card(0), card(1)]))
    }

    const BY_DHCP: Source = Source::Dhcp { server: std::net::Ipv4Addr::LOCALHOST, seconds: 60 };

    #[test]
    fn a_card_is_known_by_its_address_and_what_is_made_by_its_name() {
        let plain = lease(BY_DHCP, "10.0.0.5", None);
        assert!(networkd(&plain).starts_with("[Match]\nMACAddress=52:54:00:00:00:01\n"));
        assert_eq!(ifupdown(&plain), "auto eth1\niface eth1 inet dhcp\n");
        let [(name, text)] = &network_manager(&plain)[..] else { panic!() };
        assert_eq!(name, "imgbuild");
        assert!(
            text.contains("type=ethernet\n")
                && text.ends_with("mac-address=52:54:00:00:00:01\n\n[ipv4]\nmethod=auto\ndhcp-client-id=mac\n"),
            "{text}"
        );
        let made = lease(BY_DHCP, "10.0.0.5", Some(Made { bond: bond(), vlan: None }));
        assert!(networkd(&made).starts_with("[Match]\nName=bond0\n"));
        assert_eq!(ifupdown(&made), "auto bond0\niface bond0 inet dhcp\n");
    }

    #[test]
    fn networkmanager_is_told_of_the_bond_its_cards_and_the_vlan() {
        let found = network_manager(&lease(BY_DHCP, "10.0.0.5", Some(Made { bond: bond(), vlan: None })));
        let names: Vec<&str> = found.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["imgbuild", "imgbuild-eth0", "imgbuild-eth1"]);
        assert!(
            found[0].1.contains("[bond]\nmode=802.3ad\nlacp_rate=fast\nmiimon=100\n\n[ipv4]\nmethod=auto\n"),
            "{}",
            found[0].1
        );
        assert!(
            found[1].1.contains("master=bond0\nslave-type=bond\n") && found[1].1.contains("00:00:00\n"),
            "{}",
            found[1].1
        );
        let vlan = |card: &str, below| Some((Vlan::read(&format!("vlan20:{card}")).unwrap(), below));
        let both = Made { bond: bond(), vlan: vlan("bond0", Interface { name: "bond0".to_owned(), ..card(0) }) };
        let found = network_manager(&lease(BY_DHCP, "10.0.0.5", Some(both)));
        assert!(
            found[0].1.contains("id=imgbuild-bond\n") && found[0].1.ends_with("[ipv6]\nmethod=disabled\n"),
            "{}",
            found[0].1
        );
        assert!(
            found[3].1.contains("type=vlan\ninterface-name=vlan20\n")
                && found[3].1.contains("[vlan]\nid=20\nparent=bond0\n"),
            "{}",
            found[3].1
        );
        let found =
            network_manager(&lease(BY_DHCP, "10.0.0.5", Some(Made { bond: None, vlan: vlan("eth0", card(0)) })));
        assert!(
            found.len() == 1 && found[0].1.contains("[vlan]\nid=20\n\n[ethernet]\nmac-address=52:54:00:00:00:00\n"),
            "{found:?}"
        );
    }

    #[test]
    fn addresses_of_ipv6_come_as_the_node_got_them() {
        let of = |source, address: &str| {
            let lease = lease(source, address, None);
            (networkd(&lease), ifupdown(&lease), network_manager(&lease).remove(0).1)
        };
        let (networkd, ifupdown, manager) = of(Source::Announced, "fd00::5");
        assert!(networkd.ends_with("[Network]\nIPv6AcceptRA=yes\n") && ifupdown.ends_with("inet6 auto\n"));
        assert!(manager.contains("[ipv4]\nmethod=disabled\n\n[ipv6]\nmethod=auto\n"), "{manager}");
        let (networkd, ifupdown, manager) = of(Source::Dhcp6, "fd00::5");
        assert!(
            networkd.contains("DHCPv6Client=always")
                && networkd.contains("IAID=1\n")
                && ifupdown.ends_with("inet6 dhcp\n")
        );
        assert!(manager.contains("[ipv6]\nmethod=dhcp\n"), "{manager}");
        let (networkd, ifupdown, manager) = of(Source::Given, "fd00::5");
        assert!(networkd.ends_with("Address=fd00::5/24\nGateway=fd00::5\nDNS=fd00::5\n"), "{networkd}");
        assert!(ifupdown.ends_with("inet6 static\n    address fd00::5/24\n    gateway fd00::5\n"), "{ifupdown}");
        assert!(manager.ends_with("[ipv6]\nmethod=manual\naddress1=fd00::5/24,fd00::5\ndns=fd00::5;\n"), "{manager}");
    }
}
