//! Nodes as other programs take them. Names, MAC addresses and addresses were checked when the file was read: nothing in them
//! can end a line or a quote.

mod provisioners;

use std::net::IpAddr;

use serde_json::json;

use super::set::NodeSet;
use super::{Effective, State, known_hosts};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeFormat {
    /// dnsmasq: `dhcp-host=` lines. Source: dnsmasq(8).
    Dnsmasq,
    /// Kea's DHCPv4 server: reservations. Source: Kea's manual, "Host Reservations in DHCPv4".
    Kea,
    /// ISC's dhcpd: `host` statements. Source: dhcpd.conf(5).
    Isc,
    /// `/etc/hosts`. Source: hosts(5).
    Hosts,
    /// `/etc/ethers`. Source: ethers(5).
    Ethers,
    /// A file of groups for ClusterShell's `groups.d`. Source: ClusterShell's guide, "YAML group files".
    Clustershell,
    /// Lines for `slurm.conf`. Source: slurm.conf(5), NodeName and NodeSet.
    Slurm,
    /// What ssh knows hosts by. Source: sshd(8), SSH_KNOWN_HOSTS FILE FORMAT.
    KnownHosts,
    /// Warewulf: `nodes.conf`.
    Warewulf,
    /// OpenCHAMI's SMD: components, Ethernet interfaces and groups.
    Smd,
    /// Grendel: `hosts.json`.
    Grendel,
    /// Cobbler 3.3: systems.
    Cobbler,
}

/// The text, and what it leaves out, a sentence each. The state has what nodes reported.
pub fn written(format: NodeFormat, nodes: &[Effective], state: &State) -> (String, Vec<String>) {
    let mut left_out = Vec::new();
    let named = |nodes: Vec<&Effective>| NodeSet::of(nodes.iter().map(|node| node.name.as_str())).folded();
    let without = |what: &str, good: &dyn Fn(&Effective) -> bool, left_out: &mut Vec<String>| {
        let bad: Vec<&Effective> = nodes.iter().filter(|node| !good(node)).collect();
        if !bad.is_empty() {
            left_out.push(format!("left out, because they have {what}: {}", named(bad)));
        }
    };
    let is_v6 = |node: &Effective| matches!(node.ip(), Some(IpAddr::V6(_)));
    let v6 = "an IPv6 address, which DHCPv4 does not give";
    let no_mac = "no MAC address (‹mac = \"...\"›)";
    let text = match format {
        NodeFormat::Dnsmasq => {
            without(no_mac, &|node| !node.macs().is_empty(), &mut left_out);
            nodes.iter().filter_map(dnsmasq).collect()
        }
        NodeFormat::Kea => {
            without(no_mac, &|node| !node.macs().is_empty(), &mut left_out);
            without(v6, &|node| !is_v6(node), &mut left_out);
            kea(nodes.iter().filter(|node| !is_v6(node)))
        }
        NodeFormat::Isc => {
            without(no_mac, &|node| !node.macs().is_empty(), &mut left_out);
            without(v6, &|node| !is_v6(node), &mut left_out);
            nodes.iter().filter(|node| !is_v6(node)).map(isc).collect()
        }
        NodeFormat::Hosts => {
            without("no address (‹ip = \"...\"›)", &|node| node.ip().is_some(), &mut left_out);
            nodes.iter().filter_map(|node| Some(format!("{}\t{}\n", node.ip()?, with_short(&node.name)))).collect()
        }
        NodeFormat::Ethers => {
            without(no_mac, &|node| !node.macs().is_empty(), &mut left_out);
            let lines = |node: &Effective| -> String {
                node.macs().iter().map(|mac| format!("{mac}\t{}\n", node.name)).collect()
            };
            nodes.iter().map(lines).collect()
        }
        NodeFormat::Clustershell => clustershell(nodes),
        NodeFormat::Slurm => slurm(nodes),
        NodeFormat::Warewulf => return of_provisioner(provisioners::warewulf(nodes)),
        NodeFormat::Smd => return of_provisioner(provisioners::smd(nodes)),
        NodeFormat::Grendel => return of_provisioner(provisioners::grendel(nodes)),
        NodeFormat::Cobbler => return of_provisioner(provisioners::cobbler(nodes)),
        NodeFormat::KnownHosts => {
            let all = state.host_keys_of(nodes.iter().map(|node| node.name.as_str()));
            without(
                "no report with ssh host keys since their start",
                &|node| all.contains_key(&node.name),
                &mut left_out,
            );
            known_hosts(nodes.iter().filter_map(|node| Some((node.name.as_str(), all.get(&node.name)?.as_slice()))))
        }
    };
    (text, left_out)
}

fn of_provisioner(document: provisioners::Document) -> (String, Vec<String>) {
    (document.text, document.left_out)
}

/// A name, and its first part where it has a domain.
fn with_short(name: &str) -> String {
    match name.split_once('.') {
        Some((short, _)) => format!("{name} {short}"),
        None => name.to_owned(),
    }
}

fn dnsmasq(node: &Effective) -> Option<String> {
    let macs: Vec<String> = node.macs().iter().map(ToString::to_string).collect();
    if macs.is_empty() {
        return None;
    }
    let address = match node.ip() {
        Some(IpAddr::V4(ip)) => format!(",{ip}"),
        Some(IpAddr::V6(ip)) => format!(",[{ip}]"),
        None => String::new(),
    };
    // dnsmasq takes a name without its domain.
    let short = node.name.split('.').next().unwrap_or_default();
    Some(format!("dhcp-host={},set:imgbuild,{short}{address}\n", macs.join(",")))
}

fn kea<'a>(nodes: impl Iterator<Item = &'a Effective>) -> String {
    let mut reservations = Vec::new();
    let mut is_shared = false;
    for node in nodes {
        let macs = node.macs();
        is_shared |= macs.len() > 1 && node.ip().is_some();
        for mac in macs {
            let mut one = json!({"hw-address": mac.to_string(), "hostname": node.name});
            if let Some(ip) = node.ip() {
                one["ip-address"] = json!(ip.to_string());
            }
            reservations.push(one);
        }
    }
    let mut server =
        json!({"reservations-global": true, "reservations-in-subnet": false, "reservations": reservations});
    if is_shared {
        // One address for all cards of a node: whichever it boots from.
        server["ip-reservations-unique"] = json!(false);
    }
    format!("{:#}\n", json!({"Dhcp4": server}))
}

fn isc(node: &Effective) -> String {
    let mut text = String::new();
    for (index, mac) in node.macs().iter().enumerate() {
        let label = if index == 0 { node.name.clone() } else { format!("{}-card{}", node.name, index + 1) };
        let address = match node.ip() {
            Some(ip) => format!(" fixed-address {ip};"),
            None => String::new(),
        };
        text.push_str(&format!(
            "host {label} {{ hardware ethernet {mac};{address} option host-name \"{}\"; }}\n",
            node.name
        ));
    }
    text
}

/// Groups of these nodes, in the order of their names.
fn groups(nodes: &[Effective]) -> Vec<(String, NodeSet)> {
    let mut found = std::collections::BTreeMap::<&str, NodeSet>::new();
    for node in nodes {
        for group in &node.groups {
            found.entry(group).or_default().insert(&node.name);
        }
    }
    found.into_iter().map(|(name, set)| (name.to_owned(), set)).collect()
}

fn clustershell(nodes: &[Effective]) -> String {
    let all = NodeSet::of(nodes.iter().map(|node| node.name.as_str()));
    let mut text = format!("imgbuild:\n  all: '{all}'\n");
    for (name, set) in groups(nodes) {
        // YAML reads bare words such as `on` and numbers as something else.
        text.push_str(&format!("  '{name}': '{set}'\n"));
    }
    text
}

fn slurm(nodes: &[Effective]) -> String {
    let all = NodeSet::of(nodes.iter().map(|node| node.name.as_str()));
    let mut text = "# Add what the nodes have, for instance CPUs=64 RealMemory=256000.\n".to_owned();
    for word in hostlists(&all) {
        text.push_str(&format!("NodeName={word} State=UNKNOWN\n"));
    }
    for (name, set) in groups(nodes) {
        text.push_str(&format!("NodeSet={name} Nodes={}\n", hostlists(&set).join(",")));
    }
    text
}

/// Words that Slurm reads: it takes nothing after the last bracket.
fn hostlists(set: &NodeSet) -> Vec<String> {
    let mut words = Vec::new();
    let mut plain = std::collections::BTreeMap::<String, NodeSet>::new();
    for name in set.iter() {
        let stem = name.trim_end_matches(|letter: char| letter.is_ascii_digit());
        plain.entry(stem.to_owned()).or_default().insert(name);
    }
    for set in plain.into_values() {
        // Names of one stem: only the last number differs.
        words.push(set.folded());
    }
    words
}

#[cfg(test)]
mod tests {
    use super::super::Nodes;
    use super::*;
    use base::source::SourceFile;

    const TEXT: &str = "[group.compute]\nnodes = \"cn[001-003]\"\n\n[node.\"cn[001-003]\"]\nip = \"10.0.0.[1-3]\"\n\n\
        [node.cn001]\nmac = \"52:54:00:00:00:01\"\nmacs = [\"52:54:00:00:01:01\"]\n[node.cn002]\nmac = \"52:54:00:00:00:02\"\n\
        [node.\"v6.site\"]\nip = \"fd00::1\"\nmac = \"52-54-00-00-00-06\"\n";

    #[test]
    fn each_program_gets_its_own_words() {
        let nodes = Nodes::of_file(&SourceFile::new("nodes.toml", "/nodes.toml", TEXT)).unwrap();
        let all: Vec<Effective> = nodes.names().filter_map(|name| nodes.get(name)).collect();
        for (format, name) in [
            (NodeFormat::Dnsmasq, "dnsmasq"),
            (NodeFormat::Kea, "kea"),
            (NodeFormat::Isc, "isc"),
            (NodeFormat::Hosts, "hosts"),
            (NodeFormat::Ethers, "ethers"),
            (NodeFormat::Clustershell, "clustershell"),
            (NodeFormat::Slurm, "slurm"),
        ] {
            let (text, left_out) = written(format, &all, &State::at("/nowhere"));
            insta::assert_snapshot!(name, format!("{text}---\n{}\n", left_out.join("\n")));
        }
    }

    const SITE: &str = r#"
        [defaults]
        variables = { prefix = "22" }
        [group.compute]
        nodes = "cn[001-003]"
        image = "compute"
        console = ["tty0", "ttyS0,115200"]
        kernel_args = ["quiet", "hugepages=8"]
        [group.gpu]
        nodes = "cn002"
        arch = "aarch64"
        build = "934ebe"
        comment = "a \"quoted\" # text: yes"
        variables = { rack = "r1", path = "a:b", xname = "x1000c0s0b0n2", nid = "2" }
        [node.cn001]
        ip = "10.0.0.1"
        mac = "52:54:00:00:00:01"
        macs = ["52:54:00:00:01:01"]
        nic = "eno1"
        [node.cn002]
        mac = "52:54:00:00:00:02"
        uuid = "4c4c4544-0000-2010-8020-80c04f202020"
        [node.cn003]
        image = "compute"
        [node.x1000c0s0b0n7]
        ip = "fd00::7"
        mac = "52:54:00:00:00:07"
        variables = { prefix = "64" }
        [node.8x]
        mac = "52:54:00:00:00:08"
        ip = "10.0.0.8"
        image = "compute"
        variables = { prefix = "33" }
    "#;

    fn effective(text: &str) -> Vec<Effective> {
        let nodes = Nodes::of_file(&SourceFile::new("nodes.toml", "/nodes.toml", text)).unwrap();
        nodes.names().filter_map(|name| nodes.get(name)).collect()
    }

    #[test]
    fn each_provisioner_gets_its_own_document() {
        for (format, name) in [
            (NodeFormat::Warewulf, "warewulf"),
            (NodeFormat::Smd, "smd"),
            (NodeFormat::Grendel, "grendel"),
            (NodeFormat::Cobbler, "cobbler"),
        ] {
            let (text, left_out) = written(format, &effective(SITE), &State::at("/nowhere"));
            insta::assert_snapshot!(name, format!("{text}---\n{}\n", left_out.join("\n")));
        }
    }

    /// Whatever a node has is in the document, or a note names its key.
    #[test]
    fn no_provisioner_loses_a_value_in_silence() {
        let values = [
            ("build", "build = \"934ebe0\"", "934ebe0"),
            ("kernel_args", "kernel_args = [\"one.two=3\"]", "one.two"),
            ("console", "console = [\"ttyS9,9600\"]", "ttyS9,9600"),
            ("nic", "nic = \"eno9\"", "eno9"),
            ("bond", "bond = \"bond9:eno1,eno2\"", "bond9"),
            ("vlan", "vlan = \"eno1.109:eno1\"", "eno1.109"),
            ("arch", "arch = \"ppc64le\"", "Other"),
            ("loader", "loader = \"grub\"", "grub"),
            ("postscripts", "postscripts = [\"nine\"]", "nine"),
            ("postbootscripts", "postbootscripts = [\"nine\"]", "nine"),
            ("variables", "variables = { rack = \"r99\" }", "r99"),
            ("comment", "comment = \"words 99\"", "words 99"),
            ("uuid", "uuid = \"4c4c4544-0000-2010-8020-80c04f202020\"", "4c4c4544"),
            ("serial", "serial = \"S99\"", "S99"),
        ];
        for (key, line, shown) in values {
            let site = format!(
                "[node.x1c0s0b0n0]\nmac = \"52:54:00:00:00:01\"\nimage = \"compute\"\nip = \"10.0.0.1\"\n{line}\n"
            );
            for format in [NodeFormat::Warewulf, NodeFormat::Smd, NodeFormat::Grendel, NodeFormat::Cobbler] {
                let (text, left_out) = written(format, &effective(&site), &State::at("/nowhere"));
                let is_noted = left_out.iter().any(|note| note.contains(&format!("`{key}`")));
                assert!(text.contains(shown) != is_noted, "{format:?} {key}: {text}{left_out:?}");
            }
        }
    }
}
