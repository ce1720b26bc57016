//! Files of the image in which its administrator says what becomes of what the node booted over: they count more than what this
//! program would write. A file for any card does not: `Name=en*` is said of no card in particular.
//!
//! Source: interfaces(5), netplan(5), nm-settings-keyfile(5), nm-settings-ifcfg-rh(5), systemd.network(5).

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::image::root;
use crate::network::lease::{Interface, Lease};
use crate::network::names_of_udev;
use crate::node::new_root::text_of;
use crate::node::statelite::inside::within;

/// What the node booted over, as files name it.
pub(super) struct Boot {
    /// Names of what has the address.
    names: Vec<String>,
    /// Its MAC address, where it is a card.
    mac: Option<String>,
    /// Names and MAC addresses of a bond's cards.
    cards: Vec<String>,
}

/// Whom a file speaks of: with names and addresses, both have to be right.
#[derive(Debug, Default)]
struct Speaks {
    /// Names.
    names: Vec<String>,
    /// MAC addresses, in small letters.
    macs: Vec<String>,
    /// Whether it makes them a part of a bond or a bridge.
    as_parts: bool,
}

impl Speaks {
    fn of_name(name: impl Into<String>) -> Self {
        Self { names: vec![name.into()], ..Self::default() }
    }
}

/// A file of the image, and by which of their names it speaks of cards.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Own {
    /// Its path in the image.
    pub file: String,
    /// Names in it that are meant.
    pub names: Vec<String>,
}

fn all_names(card: &Interface) -> Vec<String> {
    let mut names = names_of_udev(&Path::new("/sys/class/net").join(&card.name));
    names.push(card.name.clone());
    names
}

impl Boot {
    /// What a lease is on. What stays up keeps its name; other cards get those of udev.
    pub(super) fn of(lease: &Lease, is_needed: bool) -> Self {
        let own = &lease.interface;
        let names = if is_needed || lease.made.is_some() { vec![own.name.clone()] } else { all_names(own) };
        let mac = lease.made.is_none().then(|| own.mac.clone());
        let bond = lease.made.as_ref().and_then(|made| made.bond.as_ref());
        let cards = bond.iter().flat_map(|(_, cards)| cards);
        let cards = cards.flat_map(|card| all_names(card).into_iter().chain([card.mac.clone()])).collect();
        Self { names, mac, cards }
    }

    /// The card that a VLAN lies on: what has no tag there is no concern of the boot.
    pub(super) fn below(lease: &Lease) -> Option<Self> {
        let made = lease.made.as_ref().filter(|made| made.bond.is_none())?;
        let (_, card) = made.vlan.as_ref()?;
        Some(Self { names: all_names(card), mac: Some(card.mac.clone()), cards: Vec::new() })
    }

    /// Whether it is spoken of.
    fn is_meant(&self, speaks: &Speaks) -> bool {
        let is_part = |word: &String| speaks.as_parts && self.cards.contains(word);
        let name = |word: &String| self.names.contains(word) || is_part(word);
        let mac = |word: &String| self.mac.as_ref() == Some(word) || is_part(word);
        let is_right =
            |words: &[String], is_known: &dyn Fn(&String) -> bool| words.is_empty() || words.iter().any(is_known);
        let is_any = !speaks.names.is_empty() || !speaks.macs.is_empty();
        is_any && is_right(&speaks.names, &name) && is_right(&speaks.macs, &mac)
    }

    /// The first of some files of the image that speaks of it.
    fn in_files(
        &self,
        folder: &str,
        wanted: fn(&str, &Metadata) -> bool,
        read: fn(&str) -> Vec<Speaks>,
    ) -> Option<Own> {
        let place = within(Path::new(root()), folder, true).ok()?;
        let mut names: Vec<String> = std::fs::read_dir(place)
            .into_iter()
            .flatten()
            .flatten()
            .filter_map(|entry| entry.file_name().into_string().ok())
            .collect();
        names.sort();
        names.into_iter().find_map(|name| self.in_file(&format!("/{folder}/{name}"), wanted, read))
    }

    fn in_file(&self, path: &str, wanted: fn(&str, &Metadata) -> bool, read: fn(&str) -> Vec<Speaks>) -> Option<Own> {
        let place = within(Path::new(root()), path, true).ok()?;
        let name = path.rsplit('/').next().unwrap_or_default();
        if !wanted(name, &place.symlink_metadata().ok()?) {
            return None;
        }
        let meant: Vec<Speaks> = read(&text_of(&place)?).into_iter().filter(|speaks| self.is_meant(speaks)).collect();
        let names = meant.iter().flat_map(|speaks| speaks.names.clone()).collect();
        (!meant.is_empty()).then(|| Own { file: path.to_owned(), names })
    }
}

/// Whether a name is of a copy that editors and package managers leave.
fn is_left_over(name: &str) -> bool {
    [".bak", ".orig", ".old", ".rpmnew", ".rpmsave", ".rpmorig", ".dpkg-dist", ".dpkg-old", "~"]
        .iter()
        .any(|end| name.ends_with(end))
}

/// A file of ifupdown.
pub(super) fn of_ifupdown(boot: &Boot) -> Option<Own> {
    let main = boot.in_file("/etc/network/interfaces", |_, _| true, interfaces);
    main.or_else(|| boot.in_files("etc/network/interfaces.d", |name, _| name != "imgbuild", interfaces))
}

/// A file of netplan.
pub(super) fn of_netplan(boot: &Boot) -> Option<Own> {
    boot.in_files("etc/netplan", |name, _| name.ends_with(".yaml"), netplan)
}

/// A connection of NetworkManager, in its own form or that of Red Hat's scripts. It takes no keyfile that others may read or write.
pub(super) fn of_network_manager(boot: &Boot) -> Option<Own> {
    let is_keyfile = |name: &str, found: &Metadata| {
        !name.starts_with('.') && !is_left_over(name) && found.uid() == 0 && found.mode() & 0o077 == 0
    };
    boot.in_files("etc/NetworkManager/system-connections", is_keyfile, keyfile).or_else(|| {
        let is_script = |name: &str, _: &Metadata| name.starts_with("ifcfg-") && !is_left_over(name);
        boot.in_files("etc/sysconfig/network-scripts", is_script, ifcfg)
    })
}

/// A file of systemd-networkd.
pub(super) fn of_networkd(boot: &Boot) -> Option<Own> {
    boot.in_files("etc/systemd/network", |name, _| name.ends_with(".network"), network)
}

/// Keys with their values and the section that they are in.
fn assignments(text: &str) -> impl Iterator<Item = (&str, &str, &str)> {
    let mut section = "";
    text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])).filter_map(move |line| {
        if let Some(name) = line.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
            section = name;
        }
        let (key, value) = line.split_once('=')?;
        // Behind a value Red Hat's scripts may have a comment; the others' values have no blank before `#`.
        let value = value.split_once(" #").map_or(value, |(value, _)| value);
        Some((section, key.trim(), value.trim().trim_matches(['"', '\''])))
    })
}

fn network(text: &str) -> Vec<Speaks> {
    let mut found = Speaks::default();
    for (section, key, value) in assignments(text) {
        match (section, key) {
            ("Match", "Name") => found.names.extend(value.split_whitespace().map(str::to_owned)),
            ("Match", "MACAddress" | "PermanentMACAddress") => {
                found.macs.extend(value.split_whitespace().map(str::to_lowercase));
            }
            // A host, a driver, a kernel: whether that is so is for networkd to say.
            ("Match", _) => return Vec::new(),
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
            ("connection", "interface-name") => found.names.push(value.to_owned()),
            ("connection", "master" | "controller") => found.as_parts = true,
            // `cloned-mac-address` is the one that it is to get.
            (_, "mac-address") => found.macs.push(value.to_lowercase()),
            _ => {}
        }
    }
    vec![found]
}

fn ifcfg(text: &str) -> Vec<Speaks> {
    let mut found = Speaks::default();
    for (_, key, value) in assignments(text) {
        match key {
            "ONBOOT" if ["no", "n", "false", "f", "off", "0"].contains(&value.to_lowercase().as_str()) => {
                return Vec::new();
            }
            "DEVICE" => found.names.push(value.to_owned()),
            "HWADDR" => found.macs.push(value.to_lowercase()),
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
                found.extend(current.map(Speaks::of_name));
            }
            ("bond-slaves" | "bond_slaves" | "slaves" | "bridge_ports" | "bridge-ports", Some(_))
                if current.is_some() =>
            {
                found.push(Speaks { names: words[1..].to_vec(), as_parts: true, ..Speaks::default() });
            }
            ("bond-master" | "bond_master", Some(_)) => {
                found.extend(current.map(|name| Speaks { as_parts: true, ..Speaks::of_name(name) }));
            }
            _ => {}
        }
    }
    found
}

/// Names before a colon, unless a `match` says whom they are for; addresses behind `macaddress:`, names in a `match`, and what stands
/// in a list of interfaces. A reader of YAML for what netplan's files have, and no more.
fn netplan(text: &str) -> Vec<Speaks> {
    let plain = |word: &str| word.trim_matches(|c: char| c.is_whitespace() || "\"'[]{},".contains(c)).to_owned();
    let mut found: Vec<Speaks> = Vec::new();
    // Keys that the line is below: how far in each stands, whom it speaks of, whether it is a `match`.
    let mut above: Vec<(usize, usize, bool)> = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let line = line.split_once(" #").map_or(line, |(line, _)| line).trim_end();
        let (indent, line) = (line.len() - line.trim_start().len(), line.trim_start());
        if let Some(item) = line.strip_prefix("- ") {
            found.push(Speaks { as_parts: true, ..Speaks::of_name(plain(item)) });
            continue;
        }
        let Some((key, value)) = line.split_once(':') else { continue };
        let (key, value) = (plain(key), value.trim());
        while above.last().is_some_and(|(at, ..)| *at >= indent) {
            above.pop();
        }
        let of_match = above.last().filter(|(.., is_match)| *is_match).map(|(_, whom, _)| *whom);
        match (key.as_str(), of_match) {
            ("match", None) => {
                // The name above is only what other parts of the file call it.
                let whom = above.last().map_or(found.len(), |(_, whom, _)| *whom);
                found.resize_with(found.len().max(whom + 1), Speaks::default);
                found[whom].names.clear();
                in_braces(value, &mut found[whom]);
                above.push((indent, whom, true));
            }
            ("name", Some(whom)) => found[whom].names.push(plain(value)),
            ("macaddress", Some(whom)) => found[whom].macs.push(plain(value).to_lowercase()),
            ("macaddress", None) => found.push(Speaks { macs: vec![plain(value).to_lowercase()], ..Speaks::default() }),
            ("interfaces", _) if !value.is_empty() => {
                let names = value.split(',').map(plain).collect();
                found.push(Speaks { names, as_parts: true, ..Speaks::default() });
            }
            _ if value.is_empty() || value.starts_with('{') => {
                above.push((indent, found.len(), false));
                found.push(Speaks::of_name(key));
                if let Some((_, matched)) = value.split_once("match:") {
                    let whom = found.len() - 1;
                    found[whom].names.clear();
                    in_braces(matched, &mut found[whom]);
                }
            }
            _ => {}
        }
    }
    found
}

/// What a `match` in one line says: `{name: ens3, macaddress: "52:54:.."}`.
fn in_braces(text: &str, speaks: &mut Speaks) {
    let text = text.trim().trim_start_matches('{');
    for pair in text.split('}').next().unwrap_or_default().split(',') {
        let Some((key, value)) = pair.split_once(':') else { continue };
        let value = value.trim().trim_matches(['"', '\'']).to_owned();
        match key.trim() {
            "name" => speaks.names.push(value),
            "macaddress" => speaks.macs.push(value.to_lowercase()),
            _ => {}
        }
    }
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
            ("[Match]\nName=ens3\nMACAddress=52:54:00:00:00:99\n", false, false),
            ("[Match]\nHost=login1\nName=ens3\n", false, false),
        ] {
            let found = network(text);
            assert_eq!((meant(&bond(), &found), meant(&card(), &found)), (bond_is, card_is), "{text}");
        }
        for (text, bond_is, card_is) in [
            ("[connection]\nid=any\ntype=ethernet\n", false, false),
            ("[connection]\ninterface-name=bond0\n[ipv4]\nmethod=auto\n", true, false),
            ("[connection]\ninterface-name=bond0\nautoconnect=false\n", false, false),
            ("[connection]\nmaster=bond7\n[ethernet]\nmac-address=52:54:00:00:00:01\n", true, true),
            ("[connection]\ninterface-name=ens3\n[ethernet]\nmac-address=52:54:00:00:00:99\n", false, false),
            ("[ethernet]\ncloned-mac-address=52:54:00:00:00:01\n", false, false),
        ] {
            let found = keyfile(text);
            assert_eq!((meant(&bond(), &found), meant(&card(), &found)), (bond_is, card_is), "{text}");
        }
        for (text, bond_is, card_is) in [
            ("DEVICE=\"bond0\"\nONBOOT=yes\n", true, false),
            ("DEVICE=bond0\nONBOOT=no\n", false, false),
            ("HWADDR=52:54:00:00:00:01\nMASTER=bond7\n", true, true),
            ("DEVICE='bond0' # the boot's\n", true, false),
            ("DEVICE=bond0\nONBOOT=NO\n", false, false),
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
            ("    ens3:\n      match: {macaddress: \"52:54:00:00:00:99\"}\n      set-name: ens3\n", false, false),
            ("    ens3:\n      match:\n        macaddress: 52:54:00:00:00:99 # made here\n", false, false),
            ("    any: {match: {name: ens3}, dhcp4: true}\n", false, true),
            ("    any:\n      match:\n        name: ens3\n      dhcp4: true\n", false, true),
            ("    ens3: {dhcp4: true}\n", false, true),
            ("    ens3: # boot\n      dhcp4: true\n", false, true),
            ("    bond7:\n      interfaces: [ens3, ens4] # both\n", true, true),
        ] {
            let found = netplan(text);
            assert_eq!((meant(&bond(), &found), meant(&card(), &found)), (bond_is, card_is), "{text}");
        }
    }
}
