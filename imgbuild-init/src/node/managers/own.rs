//! Files of the image in which its administrator says what becomes of what the node booted over: they count more than what this
//! program would write. A file for any card does not: `Name=en*` is said of no card in particular.
//!
//! Source: interfaces(5), netplan(5), nm-settings-keyfile(5), nm-settings-ifcfg-rh(5), systemd.network(5).

use std::path::Path;

use crate::image::root;
use crate::network::lease::{Interface, Lease};
use crate::network::names_of_udev;

/// What the node booted over, as files name it.
pub struct Boot {
    /// Names of what has the address.
    names: Vec<String>,
    /// Its MAC address, where it is a card.
    mac: Option<String>,
    /// Names and MAC addresses of a bond's cards.
    cards: Vec<String>,
}

/// Whom a file speaks of.
#[derive(Debug, Default)]
struct Speaks {
    /// Names and MAC addresses.
    of: Vec<String>,
    /// Whether it makes them a part of a bond or a bridge.
    as_parts: bool,
}

fn all_names(card: &Interface) -> Vec<String> {
    let mut names = names_of_udev(&Path::new("/sys/class/net").join(&card.name));
    names.push(card.name.clone());
    names
}

impl Boot {
    /// What a lease is on. What stays up keeps its name; other cards get those of udev.
    pub fn of(lease: &Lease, is_needed: bool) -> Self {
        let own = &lease.interface;
        let names = if is_needed || lease.made.is_some() { vec![own.name.clone()] } else { all_names(own) };
        let mac = lease.made.is_none().then(|| own.mac.clone());
        let bond = lease.made.as_ref().and_then(|made| made.bond.as_ref());
        let cards = bond.iter().flat_map(|(_, cards)| cards);
        let cards = cards.flat_map(|card| all_names(card).into_iter().chain([card.mac.clone()])).collect();
        Self { names, mac, cards }
    }

    /// The card that a VLAN lies on: what has no tag there is no concern of the boot.
    pub fn below(lease: &Lease) -> Option<Self> {
        let made = lease.made.as_ref().filter(|made| made.bond.is_none())?;
        let (_, card) = made.vlan.as_ref()?;
        Some(Self { names: all_names(card), mac: Some(card.mac.clone()), cards: Vec::new() })
    }

    fn is_meant(&self, speaks: &Speaks) -> bool {
        let known = |word: &String| self.names.contains(word) || self.mac.as_ref() == Some(word);
        speaks.of.iter().any(|word| known(word) || (speaks.as_parts && self.cards.contains(word)))
    }

    /// The first of some files of the image that speaks of it.
    fn in_files(&self, folder: &str, wanted: fn(&str) -> bool, read: fn(&str) -> Vec<Speaks>) -> Option<String> {
        let place = Path::new(root()).join(folder);
        let mut names: Vec<String> = std::fs::read_dir(place)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| wanted(name))
            .collect();
        names.sort();
        names.into_iter().map(|name| format!("/{folder}/{name}")).find(|path| self.is_in(path, read))
    }

    fn is_in(&self, path: &str, read: fn(&str) -> Vec<Speaks>) -> bool {
        let place = Path::new(root()).join(path.trim_start_matches('/'));
        let text = std::fs::read_to_string(place).unwrap_or_default();
        read(&text).iter().any(|speaks| self.is_meant(speaks))
    }
}

/// A file of ifupdown.
pub fn of_ifupdown(boot: &Boot) -> Option<String> {
    let main = "/etc/network/interfaces";
    if boot.is_in(main, interfaces) {
        return Some(main.to_owned());
    }
    boot.in_files("etc/network/interfaces.d", |name| name != "imgbuild", interfaces)
}

/// A file of netplan.
pub fn of_netplan(boot: &Boot) -> Option<String> {
    boot.in_files("etc/netplan", |name| name.ends_with(".yaml"), netplan)
}

/// A connection of NetworkManager, in its own form or that of Red Hat's scripts.
pub fn of_network_manager(boot: &Boot) -> Option<String> {
    boot.in_files("etc/NetworkManager/system-connections", |name| !name.starts_with('.'), keyfile)
        .or_else(|| boot.in_files("etc/sysconfig/network-scripts", |name| name.starts_with("ifcfg-"), ifcfg))
}

/// A file of systemd-networkd.
pub fn of_networkd(boot: &Boot) -> Option<String> {
    boot.in_files("etc/systemd/network", |name| name.ends_with(".network"), network)
}

/// Keys with their values and the section that they are in.
fn assignments(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut section = "";
    text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])).filter_map(move |line| {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        let (key, value) = line.split_once('=')?;
        Some((section, key.trim(), value.trim().trim_matches('"')))
    })
}

fn network(text: &str) -> Vec<Speaks> {
    let mut found = Speaks::default();
    for (section, key, value) in assignments(text) {
        match (section, key) {
            ("Match", "Name") => found.of.extend(value.split_whitespace().map(str::to_owned)),
            ("Match", "MACAddress" | "PermanentMACAddress") => {
                found.of.extend(value.split_whitespace().map(str::to_lowercase));
            }
            ("Network", "Bond" | "Bridge") => found.as_parts = true,
            _ => {}
        }
    }
    vec![found]
}

fn keyfile(text: &str) -> Vec<Speaks> {
    let mut found = Speaks::default();
    for (section, key, value) in assignments(text) {
        match (section, key) {
            ("connection", "autoconnect") if value == "false" => return Vec::new(),
            ("connection", "interface-name") => found.of.push(value.to_owned()),
            ("connection", "master" | "controller") => found.as_parts = true,
            // `cloned-mac-address` is the one that it is to get.
            (_, "mac-address") => found.of.push(value.to_lowercase()),
            _ => {}
        }
    }
    vec![found]
}

fn ifcfg(text: &str) -> Vec<Speaks> {
    let mut found = Speaks::default();
    for (_, key, value) in assignments(text) {
        match key {
            "ONBOOT" if value == "no" => return Vec::new(),
            "DEVICE" => found.of.push(value.to_owned()),
            "HWADDR" => found.of.push(value.to_lowercase()),
            "MASTER" | "BRIDGE" => found.as_parts = true,
            _ => {}
        }
    }
    vec![found]
}

/// Only what is brought up when the node starts counts.
fn interfaces(text: &str) -> Vec<Speaks> {
    let words = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<String>>();
    let lines: Vec<Vec<String>> = text.lines().map(words).filter(|words| !words.is_empty()).collect();
    let starts = |name: &String| {
        let is_auto = |word: &str| word == "auto" || word.starts_with("allow-");
        lines.iter().any(|words| is_auto(&words[0]) && words[1..].contains(name))
    };
    let mut found: Vec<Speaks> = Vec::new();
    let mut current: Option<&String> = None;
    for words in &lines {
        match (words[0].as_str(), words.get(1)) {
            ("iface", Some(name)) => {
                current = Some(name).filter(|name| starts(name));
                found.extend(current.map(|name| Speaks { of: vec![name.clone()], as_parts: false }));
            }
            ("bond-slaves" | "bond_slaves" | "slaves" | "bridge_ports" | "bridge-ports", Some(_))
                if current.is_some() =>
            {
                found.push(Speaks { of: words[1..].to_vec(), as_parts: true });
            }
            ("bond-master" | "bond_master", Some(_)) => {
                found.extend(current.map(|name| Speaks { of: vec![name.clone()], as_parts: true }));
            }
            _ => {}
        }
    }
    found
}

/// Names before a colon, addresses behind `macaddress:`, and what stands in a list of interfaces.
fn netplan(text: &str) -> Vec<Speaks> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        let plain = |word: &str| word.trim_matches(|c: char| c.is_whitespace() || "\"'[],".contains(c)).to_owned();
        match line.split_once(':') {
            Some(("macaddress", mac)) => {
                found.push(Speaks { of: vec![plain(mac).to_lowercase()], as_parts: false });
            }
            Some(("interfaces", list)) => {
                found.push(Speaks { of: list.split(',').map(plain).collect(), as_parts: true });
            }
            Some((name, "")) => found.push(Speaks { of: vec![plain(name)], as_parts: false }),
            None if line.starts_with("- ") => {
                found.push(Speaks { of: vec![plain(&line[2..])], as_parts: true });
            }
            _ => {}
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bond() -> Boot {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect();
        Boot {
            names: words("bond0"),
            mac: None,
            cards: words("ens3 eth0 52:54:00:00:00:01 ens4 eth1 52:54:00:00:00:02"),
        }
    }

    fn card() -> Boot {
        let names = vec!["ens3".to_owned(), "eth0".to_owned()];
        Boot { names, mac: Some("52:54:00:00:00:01".to_owned()), cards: Vec::new() }
    }

    fn meant(boot: &Boot, found: &[Speaks]) -> bool {
        found.iter().any(|speaks| boot.is_meant(speaks))
    }

    #[test]
    fn a_file_that_names_what_the_node_booted_over_counts_and_one_for_any_card_does_not() {
        for (text, bond_is, card_is) in [
            ("[Match]\nName=en* eth*\n[Network]\nDHCP=yes\n", false, false),
            ("[Match]\nName=ens3 ens4\n[Network]\nDHCP=yes\n", false, true),
            ("[Match]\nName=ens3 ens4\n[Network]\nBond=bond7\n", true, true),
            ("[Match]\nMACAddress=52:54:00:00:00:01\n", false, true),
            ("# [Match]\n[Match]\nName=bond0\n", true, false),
        ] {
            let found = network(text);
            assert_eq!((meant(&bond(), &found), meant(&card(), &found)), (bond_is, card_is), "{text}");
        }
        for (text, bond_is, card_is) in [
            ("[connection]\nid=any\ntype=ethernet\n", false, false),
            ("[connection]\ninterface-name=bond0\n[ipv4]\nmethod=auto\n", true, false),
            ("[connection]\ninterface-name=bond0\nautoconnect=false\n", false, false),
            ("[connection]\nmaster=bond7\n[ethernet]\nmac-address=52:54:00:00:00:01\n", true, true),
            ("[ethernet]\ncloned-mac-address=52:54:00:00:00:01\n", false, false),
        ] {
            let found = keyfile(text);
            assert_eq!((meant(&bond(), &found), meant(&card(), &found)), (bond_is, card_is), "{text}");
        }
        for (text, bond_is, card_is) in [
            ("DEVICE=\"bond0\"\nONBOOT=yes\n", true, false),
            ("DEVICE=bond0\nONBOOT=no\n", false, false),
            ("HWADDR=52:54:00:00:00:01\nMASTER=bond7\n", true, true),
        ] {
            let found = ifcfg(text);
            assert_eq!((meant(&bond(), &found), meant(&card(), &found)), (bond_is, card_is), "{text}");
        }
        for (text, bond_is, card_is) in [
            ("auto lo\niface lo inet loopback\n", false, false),
            ("iface bond0 inet dhcp\n", false, false),
            ("auto bond0\niface bond0 inet dhcp\n    bond-slaves none\n", true, false),
            ("allow-hotplug ens3\niface ens3 inet dhcp\n", false, true),
            ("auto bond7\niface bond7 inet dhcp\n  bond-slaves ens3 ens4\n", true, true),
            ("auto ens3\niface ens3 inet manual\n  bond-master bond7\n", true, true),
        ] {
            let found = interfaces(text);
            assert_eq!((meant(&bond(), &found), meant(&card(), &found)), (bond_is, card_is), "{text}");
        }
        for (text, bond_is, card_is) in [
            ("network:\n  ethernets:\n    any:\n      match: {name: \"en*\"}\n      dhcp4: true\n", false, false),
            ("  ethernets:\n    ens3:\n      dhcp4: true\n", false, true),
            ("  bonds:\n    bond7:\n      interfaces: [ens3, \"ens4\"]\n", true, true),
            ("  bonds:\n    bond7:\n      interfaces:\n        - ens3\n", true, true),
            ("    boot:\n      match:\n        macaddress: \"52:54:00:00:00:01\"\n", false, true),
        ] {
            let found = netplan(text);
            assert_eq!((meant(&bond(), &found), meant(&card(), &found)), (bond_is, card_is), "{text}");
        }
    }
}
