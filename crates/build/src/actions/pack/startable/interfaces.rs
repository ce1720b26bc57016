//! What the image's own settings of the network need of the kernel: modules of bonds, VLANs and the like. Runs inside.

use std::collections::BTreeMap;

use super::mounts::Modules;
use super::{Obstacle, View};

/// Kinds of interfaces that a module makes, as systemd.netdev(5), NetworkManager's keyfiles and ip-link(8) call them.
const KINDS: [(&str, &str); 12] = [
    ("bond", "bonding"),
    ("bridge", "bridge"),
    ("dummy", "dummy"),
    ("infiniband", "ib_ipoib"),
    ("ipoib", "ib_ipoib"),
    ("ipvlan", "ipvlan"),
    ("macvlan", "macvlan"),
    ("team", "team"),
    ("tun", "tun"),
    ("vlan", "8021q"),
    ("vxlan", "vxlan"),
    ("wireguard", "wireguard"),
];

/// Keys of netplan's YAML below which such interfaces stand. Source: netplan(5).
const OF_NETPLAN: [(&str, &str); 5] =
    [("bonds:", "bond"), ("bridges:", "bridge"), ("dummy-devices:", "dummy"), ("vlans:", "vlan"), ("vrfs:", "vrf")];

/// Words of interfaces(5), its extensions, and ifcfg files.
const WORDS: [(&str, &str); 8] = [
    ("bond-", "bond"),
    ("bond_", "bond"),
    ("bridge_ports", "bridge"),
    ("vlan-raw-device", "vlan"),
    ("vlan_raw_device", "vlan"),
    ("bonding_opts=", "bond"),
    ("vlan=yes", "vlan"),
    ("type=bridge", "bridge"),
];

/// Settings whose module no kernel of the image has: such an interface will not be there.
pub(crate) fn interfaces(view: &View<'_>, modules: &Modules) -> Result<Vec<Obstacle>, String> {
    let places = [
        "etc/systemd/network/",
        "etc/NetworkManager/system-connections/",
        "etc/netplan/",
        "etc/network/",
        "etc/sysconfig/network-scripts/ifcfg-",
        "etc/sysconfig/network/ifcfg-",
    ];
    let mut wanted: BTreeMap<&str, (String, &str)> = BTreeMap::new();
    for place in places {
        let files: Vec<String> =
            view.below(place).filter(|(_, is_left_out)| !is_left_out).map(|(path, _)| path.to_owned()).collect();
        for path in files {
            let text = String::from_utf8_lossy(&view.read(&path)?.unwrap_or_default()).into_owned();
            for (kind, module) in kinds_of(place, &text) {
                wanted.entry(module).or_insert_with(|| (path.clone(), kind));
            }
        }
    }
    let lacks = wanted.into_iter().filter(|(module, _)| !modules.has(module));
    Ok(lacks
        .map(|(module, (file, kind))| Obstacle::Interface {
            file,
            kind: kind.to_owned(),
            module: module.to_owned(),
            left_out: modules.left_out(module),
        })
        .collect())
}

/// Kinds of interfaces that a file of settings makes, with their modules.
fn kinds_of(place: &str, text: &str) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        let lower = line.to_ascii_lowercase();
        let kind = match place {
            "etc/systemd/network/" => lower.strip_prefix("kind").and_then(|rest| rest.trim_start().strip_prefix('=')),
            "etc/NetworkManager/system-connections/" => lower.strip_prefix("type="),
            "etc/netplan/" => OF_NETPLAN.iter().find(|(key, _)| lower == *key).map(|(_, kind)| *kind),
            _ => {
                let plain = lower.replace(['"', '\''], "");
                WORDS.iter().find(|(word, _)| plain.starts_with(word)).map(|(_, kind)| *kind)
            }
        };
        let kind = kind.map(str::trim);
        found.extend(KINDS.iter().find(|(known, _)| Some(*known) == kind).copied());
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_manager_says_what_its_interfaces_are() {
        for (place, text, expected) in [
            ("etc/systemd/network/", "[NetDev]\nName=bond0\nKind = bond\n", Some("bonding")),
            ("etc/systemd/network/", "[Match]\nName=eth0\n", None),
            ("etc/NetworkManager/system-connections/", "[connection]\nid=x\ntype=vlan\n", Some("8021q")),
            ("etc/NetworkManager/system-connections/", "[connection]\ntype=ethernet\n", None),
            ("etc/netplan/", "network:\n  version: 2\n  bonds:\n    bond0: {}\n", Some("bonding")),
            ("etc/network/", "iface bond0 inet dhcp\n    bond-slaves eth0 eth1\n", Some("bonding")),
            ("etc/network/", "iface br0 inet dhcp\n    bridge_ports eth0\n", Some("bridge")),
            ("etc/network/", "# bond-slaves none\niface eth0 inet dhcp\n", None),
            ("etc/sysconfig/network-scripts/ifcfg-", "DEVICE=bond0\nBONDING_OPTS=\"mode=1\"\n", Some("bonding")),
            ("etc/sysconfig/network-scripts/ifcfg-", "TYPE=\"Bridge\"\n", Some("bridge")),
        ] {
            let found = kinds_of(place, text);
            assert_eq!(found.first().map(|(_, module)| *module), expected, "{text}");
        }
    }
}
