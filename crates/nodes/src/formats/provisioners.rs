//! Nodes as other provisioners take them. Each has its own idea of a node: what it has no place for is named, one sentence a key.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::groups;
use crate::file::effective::Effective;
use crate::model::Attr;
use crate::model::mac::Mac;
use crate::set::NodeSet;

/// Variables in which nodes.toml has what only some of them need: bits of the network in an address, and Cray's name and number of a
/// node. Source of the names: RFC 4632; OpenCHAMI/smd, `Component`.
const PREFIX: &str = "prefix";
const XNAME: &str = "xname";
const NID: &str = "nid";

/// The text, and what it leaves out.
pub(super) struct Document {
    pub text: String,
    pub left_out: Vec<String>,
}

/// Notes of what has no place.
struct Notes<'a> {
    nodes: &'a [Effective],
    program: &'static str,
    all: Vec<String>,
}

fn folded<'a>(names: impl Iterator<Item = &'a str>) -> Option<String> {
    let set = NodeSet::of(names);
    (set.iter().next().is_some()).then(|| set.folded())
}

impl<'a> Notes<'a> {
    fn new(nodes: &'a [Effective], program: &'static str, homeless: &[Attr]) -> Self {
        let mut notes = Self { nodes, program, all: Vec::new() };
        for attr in homeless {
            notes.of(attr.name(), &|node| node.values.contains_key(attr));
        }
        notes
    }

    /// Names nodes whose value has no place in the format.
    fn of(&mut self, what: &str, has: &dyn Fn(&Effective) -> bool) {
        let of = self.nodes.iter().filter(|node| has(node)).map(|node| node.name.as_str());
        if let Some(nodes) = folded(of).filter(|_| !fault::planted("formats-values-unsaid")) {
            self.all.push(format!("left out, because {} has no place for it: `{what}` of {nodes}", self.program));
        }
    }

    /// Names nodes whose variable `prefix` is no length of an address's prefix.
    fn odd_prefixes(&mut self) {
        let of = self.nodes.iter().filter(|node| has_odd_prefix(node)).map(|node| node.name.as_str());
        if let Some(nodes) = folded(of) {
            self.all.push(format!("left out, because it is not a number of bits: the variable `prefix` of {nodes}"));
        }
    }

    /// Names nodes that are left out as a whole.
    fn without(&mut self, what: &str, is_out: &dyn Fn(&Effective) -> bool) {
        let out = self.nodes.iter().filter(|node| is_out(node)).map(|node| node.name.as_str());
        if let Some(nodes) = folded(out).filter(|_| !fault::planted("formats-nodes-unsaid")) {
            self.all.push(format!("left out, because they have {what}: {nodes}"));
        }
    }
}

const NO_MAC: &str = "no MAC address (‹mac = \"...\"›)";
const NO_IMAGE: &str = "no image (‹image = \"...\"›)";

/// Bits of the network in the node's address, where its variables have them.
fn prefix(node: &Effective, most: u8) -> Option<u8> {
    node.variables().get(PREFIX)?.parse().ok().filter(|bits| *bits <= most)
}

/// Whether its variables have bits that no network of its address has.
fn has_odd_prefix(node: &Effective) -> bool {
    let most = if matches!(node.ip(), Some(IpAddr::V6(_))) { 128 } else { 32 };
    node.variables().contains_key(PREFIX) && prefix(node, most).is_none()
}

/// The same as a netmask.
fn netmask(node: &Effective) -> Option<String> {
    let bits = u32::from(prefix(node, 32)?);
    let mask = u32::MAX.checked_shl(32 - bits).unwrap_or(0);
    Some(std::net::Ipv4Addr::from(mask).to_string())
}

/// The name of its card, where the file has one.
fn card(node: &Effective) -> Option<&str> {
    node.text(Attr::Nic).filter(|name| *name != "mac")
}

/// Its cards by name, the one first that has its address.
fn cards(node: &Effective) -> Vec<(String, Mac)> {
    let name = |at: usize| match (at, card(node)) {
        (0, Some(name)) => name.to_owned(),
        (0, None) => "default".to_owned(),
        _ => format!("card{}", at + 1),
    };
    node.macs().into_iter().enumerate().map(|(at, mac)| (name(at), mac)).collect()
}

/// Its variables, without those that have another meaning for a format.
fn variables<'a>(node: &'a Effective, apart: &[&str]) -> BTreeMap<&'a str, &'a str> {
    let mut all = node.variables();
    all.retain(|name, _| !apart.contains(name));
    all
}

/// `nodes.conf` of Warewulf 4.7: groups become profiles, which the nodes name after `default`. Source: warewulf/warewulf,
/// internal/pkg/node/datastructure.go.
pub(super) fn warewulf(nodes: &[Effective]) -> Document {
    const HOMELESS: [Attr; 7] =
        [Attr::Build, Attr::Arch, Attr::Uuid, Attr::Serial, Attr::Loader, Attr::Postscripts, Attr::Postbootscripts];
    let mut notes = Notes::new(nodes, "Warewulf", &HOMELESS);
    notes.odd_prefixes();
    notes.without(NO_MAC, &|node| node.macs().is_empty());
    // JSON's texts are YAML's too, and no word is read as a number or a truth.
    let quoted = |text: &str| Value::from(text).to_string();
    let mut text =
        "# Merge it into nodes.conf: overlays, gateways and IPMI belong to the profile `default`.\n".to_owned();
    let profiles: Vec<String> =
        groups(nodes).into_iter().map(|(name, _)| name).filter(|name| name != "default").collect();
    text.push_str(if profiles.is_empty() { "nodeprofiles: {}\n" } else { "nodeprofiles:\n" });
    profiles.iter().for_each(|name| text.push_str(&format!("  {}: {{}}\n", quoted(name))));
    let is_empty = nodes.iter().all(|node| node.macs().is_empty());
    text.push_str(if is_empty { "nodes: {}\n" } else { "nodes:\n" });
    for node in nodes.iter().filter(|node| !node.macs().is_empty()) {
        text.push_str(&format!("  {}:\n", quoted(&node.name)));
        let mut line = |key: &str, value: String| text.push_str(&format!("    {key}: {value}\n"));
        let own = node.groups.iter().map(String::as_str).filter(|name| *name != "default");
        let names: Vec<String> = std::iter::once("default").chain(own).map(quoted).collect();
        line("profiles", format!("[{}]", names.join(", ")));
        if let Some(comment) = node.text(Attr::Comment) {
            line("comment", quoted(comment));
        }
        if let Some(image) = node.image() {
            line("image name", quoted(image));
        }
        let words: Vec<String> = node.kernel_words().iter().map(|word| quoted(word)).collect();
        if !words.is_empty() {
            line("kernel", format!("{{args: [{}]}}", words.join(", ")));
        }
        let cards = cards(node);
        if let Some((first, _)) = cards.first() {
            line("primary network", quoted(first));
        }
        let tags: Vec<String> = variables(node, &[PREFIX])
            .into_iter()
            .map(|(name, value)| format!("{}: {}", quoted(name), quoted(value)))
            .collect();
        if !tags.is_empty() {
            line("tags", format!("{{{}}}", tags.join(", ")));
        }
        line("network devices", String::new());
        for (at, (name, mac)) in cards.iter().enumerate() {
            let mut values = vec![format!("hwaddr: {}", quoted(&mac.to_string()))];
            if at == 0 {
                values.extend(card(node).map(|name| format!("device: {}", quoted(name))));
                match node.ip() {
                    Some(IpAddr::V4(ip)) => {
                        values.push(format!("ipaddr: {}", quoted(&ip.to_string())));
                        values.extend(netmask(node).map(|mask| format!("netmask: {}", quoted(&mask))));
                    }
                    Some(IpAddr::V6(ip)) => {
                        values.push(format!("ipaddr6: {}", quoted(&ip.to_string())));
                        values.extend(prefix(node, 128).map(|bits| format!("prefixlen6: \"{bits}\"")));
                    }
                    None => {}
                }
            }
            text.push_str(&format!("      {}: {{{}}}\n", quoted(name), values.join(", ")));
        }
    }
    // A key with nothing but a map below it has no value of its own.
    let text = text.replace("    network devices: \n", "    network devices:\n");
    Document { text, left_out: notes.all }
}

/// Cray's name of a node: its own name, or that of its variables. Source: Cray-HPE/hms-xname, type Node.
fn xname(node: &Effective) -> Option<&str> {
    let is_xname = |text: &str| {
        let mut rest = text;
        "xcsbn".chars().all(|letter| match rest.strip_prefix(letter) {
            Some(after) => {
                rest = after.trim_start_matches(|one: char| one.is_ascii_digit());
                let digits = after.len() - rest.len();
                (1..=4).contains(&digits)
            }
            None => false,
        }) && rest.is_empty()
    };
    let given = node.variables().get(XNAME).copied();
    given.or(Some(node.name.as_str())).filter(|text| is_xname(text))
}

/// What SMD calls a processor. Source: Cray-HPE/hms-base, `HMSArch`.
fn smd_arch(node: &Effective) -> Option<&'static str> {
    Some(match node.text(Attr::Arch)? {
        "x86_64" => "X86",
        "aarch64" => "ARM",
        _ => "Other",
    })
}

/// Bodies for OpenCHAMI's SMD: `Components` as `POST /State/Components` takes it, each of `EthernetInterfaces` for
/// `POST /Inventory/EthernetInterfaces`, each of `Groups` for `POST /groups`. Source: OpenCHAMI/smd, pkg/sm.
pub(super) fn smd(nodes: &[Effective]) -> Document {
    const HOMELESS: [Attr; 12] = [
        Attr::Image,
        Attr::Build,
        Attr::KernelArgs,
        Attr::Console,
        Attr::Nic,
        Attr::Bond,
        Attr::Vlan,
        Attr::Uuid,
        Attr::Serial,
        Attr::Loader,
        Attr::Postscripts,
        Attr::Postbootscripts,
    ];
    let mut notes = Notes::new(nodes, "SMD (BSS has what nodes boot)", &HOMELESS);
    notes.of("comment", &|node| node.values.contains_key(&Attr::Comment));
    notes.of("variables", &|node| !variables(node, &[XNAME, NID]).is_empty());
    notes.of("a variable nid that is not a number", &|node| {
        node.variables().get(NID).is_some_and(|nid| nid.parse::<u32>().is_err())
    });
    notes.without("no xname (‹variables = { xname = \"x1000c0s0b0n0\" }›)", &|node| xname(node).is_none());
    notes.without(NO_MAC, &|node| xname(node).is_some() && node.macs().is_empty());
    let is_in = |node: &&Effective| xname(node).is_some() && !node.macs().is_empty();
    let (mut components, mut interfaces) = (Vec::new(), Vec::new());
    let mut members = BTreeMap::<&str, Vec<&str>>::new();
    for node in nodes.iter().filter(is_in) {
        let Some(id) = xname(node) else { continue };
        let mut one = json!({"ID": id, "State": "On", "Enabled": true, "Role": "Compute"});
        if let Some(nid) = node.variables().get(NID).and_then(|nid| nid.parse::<u32>().ok()) {
            one["NID"] = json!(nid);
        }
        if let Some(arch) = smd_arch(node) {
            one["Arch"] = json!(arch);
        }
        components.push(one);
        for (at, mac) in node.macs().into_iter().enumerate() {
            let addresses: Vec<Value> =
                node.ip().filter(|_| at == 0).map(|ip| json!({"IPAddress": ip.to_string()})).into_iter().collect();
            interfaces.push(json!({"MACAddress": mac.to_string(), "ComponentID": id, "Description": node.name, "IPAddresses": addresses}));
        }
        for group in &node.groups {
            members.entry(group).or_default().push(id);
        }
    }
    let groups: Vec<Value> =
        members.into_iter().map(|(label, ids)| json!({"label": label, "members": {"ids": ids}})).collect();
    let document = json!({"Components": components, "EthernetInterfaces": interfaces, "Groups": groups});
    Document { text: format!("{document:#}\n"), left_out: notes.all }
}

/// What Grendel takes as a name. Source: go-playground/validator, `hostname` (RFC 952), which ubccr/grendel's `Host` asks for.
fn is_grendel_name(name: &str) -> bool {
    let is_good = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '.';
    name.len() > 1
        && name.starts_with(|letter: char| letter.is_ascii_alphabetic())
        && name.ends_with(|letter: char| letter.is_ascii_alphanumeric())
        && name.chars().all(is_good)
        && !name.contains("..")
}

/// `hosts.json` of Grendel: groups and variables become tags. Source: ubccr/grendel, pkg/model/{host,nic}.go.
pub(super) fn grendel(nodes: &[Effective]) -> Document {
    const HOMELESS: [Attr; 11] = [
        Attr::Build,
        Attr::KernelArgs,
        Attr::Console,
        Attr::Bond,
        Attr::Vlan,
        Attr::Arch,
        Attr::Uuid,
        Attr::Serial,
        Attr::Loader,
        Attr::Postscripts,
        Attr::Postbootscripts,
    ];
    let mut notes = Notes::new(nodes, "Grendel (an image has its words for the kernel)", &HOMELESS);
    notes.of("comment", &|node| node.values.contains_key(&Attr::Comment));
    let is_tag = |name: &str, value: &str| !name.contains(':') && !value.contains(':');
    notes.of("variables with a colon", &|node| {
        variables(node, &[PREFIX]).iter().any(|(name, value)| !is_tag(name, value))
    });
    notes.of("an IPv6 address", &|node| matches!(node.ip(), Some(IpAddr::V6(_))));
    let of_ip = |node: &Effective| match node.ip() {
        Some(IpAddr::V4(ip)) => Some((ip, prefix(node, 32))),
        _ => None,
    };
    let has_no_bits = |node: &Effective| matches!(of_ip(node), Some((_, None)));
    if let Some(nodes) = folded(nodes.iter().filter(|node| has_no_bits(node)).map(|node| node.name.as_str())) {
        notes.all.push(format!(
            "left out, because Grendel's addresses have the bits of their network (‹variables = {{ prefix = \"24\" }}›): `ip` of {nodes}"
        ));
    }
    notes.without(NO_MAC, &|node| node.macs().is_empty());
    notes.without("a name that Grendel does not take", &|node| !is_grendel_name(&node.name));
    let hosts: Vec<Value> = nodes
        .iter()
        .filter(|node| !node.macs().is_empty() && is_grendel_name(&node.name))
        .map(|node| {
            let interfaces: Vec<Value> = node
                .macs()
                .into_iter()
                .enumerate()
                .map(|(at, mac)| {
                    let ip = of_ip(node).filter(|_| at == 0).and_then(|(ip, bits)| Some(format!("{ip}/{}", bits?)));
                    let name = card(node).filter(|_| at == 0).unwrap_or_default();
                    let fqdn = if at == 0 { node.name.as_str() } else { "" };
                    json!({"mac": mac.to_string(), "ip": ip.unwrap_or_default(), "ifname": name, "fqdn": fqdn, "bmc": false})
                })
                .collect();
            let own = variables(node, &[PREFIX]);
            let own = own.iter().filter(|(name, value)| is_tag(name, value)).map(|(name, value)| format!("{name}:{value}"));
            let tags: Vec<String> = node.groups.iter().cloned().chain(own).collect();
            json!({
                "name": node.name, "provision": node.image().is_some(), "boot_image": node.image().unwrap_or_default(),
                "firmware": "", "interfaces": interfaces, "bonds": [], "tags": tags,
            })
        })
        .collect();
    Document { text: format!("{:#}\n", Value::from(hosts)), left_out: notes.all }
}

/// Words for the kernel as Cobbler keeps them: by name, several of one name as a list, `~` where a word has no value. Source:
/// cobbler/cobbler 3.3, utils/input_converters.py.
fn kernel_options(node: &Effective) -> Map<String, Value> {
    let mut options = Map::new();
    for word in node.kernel_words() {
        let (name, value) = word.split_once('=').unwrap_or((&word, "~"));
        let value = json!(value);
        match options.get_mut(name) {
            Some(Value::Array(all)) => all.push(value),
            Some(one) => *one = json!([one.take(), value]),
            None => drop(options.insert(name.to_owned(), value)),
        }
    }
    options
}

/// Systems of Cobbler 3.3, as a list of what `collections/systems` has, one file each: the image's name is the profile's, groups become
/// management classes, variables those of templates. Source: cobbler/cobbler 3.3, items/system.py.
pub(super) fn cobbler(nodes: &[Effective]) -> Document {
    const HOMELESS: [Attr; 7] =
        [Attr::Build, Attr::Arch, Attr::Uuid, Attr::Serial, Attr::Loader, Attr::Postscripts, Attr::Postbootscripts];
    let mut notes = Notes::new(nodes, "Cobbler", &HOMELESS);
    notes.odd_prefixes();
    notes.without(NO_IMAGE, &|node| node.image().is_none());
    notes.without(NO_MAC, &|node| node.image().is_some() && node.macs().is_empty());
    let mut systems = Vec::new();
    for node in nodes.iter().filter(|node| !node.macs().is_empty()) {
        let Some(image) = node.image() else { continue };
        let mut interfaces = Map::new();
        for (at, (name, mac)) in cards(node).into_iter().enumerate() {
            let mut one = json!({"mac_address": mac.to_string()});
            match node.ip().filter(|_| at == 0) {
                Some(IpAddr::V4(ip)) => {
                    one["ip_address"] = json!(ip.to_string());
                    one["dns_name"] = json!(node.name);
                    if let Some(mask) = netmask(node) {
                        one["netmask"] = json!(mask);
                    }
                }
                Some(IpAddr::V6(ip)) => one["ipv6_address"] = json!(ip.to_string()),
                None => {}
            }
            interfaces.insert(name, one);
        }
        systems.push(json!({
            "name": node.name, "hostname": node.name, "profile": image, "netboot_enabled": true,
            "comment": node.text(Attr::Comment).unwrap_or_default(), "mgmt_classes": node.groups,
            "autoinstall_meta": variables(node, &[PREFIX]), "kernel_options": kernel_options(node), "interfaces": interfaces,
        }));
    }
    Document { text: format!("{:#}\n", Value::from(systems)), left_out: notes.all }
}
