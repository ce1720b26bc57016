//! Warewulf 4's nodes.conf: profiles become groups.

use std::collections::{BTreeMap, BTreeSet};

use super::{ImportedNodes, Order, Said, Values, not_a_mac};
use nodes::{Attr, Mac};
use packages::yaml::{Value, documents};

/// Keys that are Warewulf's own, or say nothing here.
const MOOT: [&str; 5] = ["profiles", "comment", "discoverable", "valid", "primary network"];
/// What a card has that the DHCP server gives nodes, or that is the same without it.
const MOOT_OF_A_CARD: [&str; 9] =
    ["hwaddr", "ipaddr", "netmask", "gateway", "device", "type", "onboot", "primary", "ipcidr"];

/// What a table says besides its cards; the keys of what has no counterpart.
fn values(table: &Value, left: &mut Vec<String>) -> Values {
    let mut values = Values::new();
    for (key, value) in table.entries() {
        match (key, value) {
            ("image name" | "container name", Value::Text(text)) => {
                drop(values.insert(Attr::Image, Said::Text(text.clone())))
            }
            ("comment", Value::Text(text)) => drop(values.insert(Attr::Comment, Said::Text(text.clone()))),
            ("kernel", kernel) => {
                let args = kernel.get("args");
                let words: Vec<String> = match args {
                    Value::Text(text) => text.split_whitespace().map(str::to_owned).collect(),
                    list => list
                        .items()
                        .filter_map(Value::text)
                        .flat_map(str::split_whitespace)
                        .map(str::to_owned)
                        .collect(),
                };
                if !words.is_empty() {
                    values.insert(Attr::KernelArgs, Said::List(words));
                }
                let others = kernel.entries().map(|(key, _)| key).filter(|key| *key != "args");
                left.extend(others.map(|key| format!("kernel {key}")));
            }
            ("network devices", _) => {}
            (key, _) if MOOT.contains(&key) => {}
            (key, _) => left.push(key.to_owned()),
        }
    }
    values
}

/// The card that a node boots from: the one of that name, or the first one by name that has a MAC address. Source: Warewulf 4.6,
/// updatePrimaryNetDev.
fn card(node: &Value, primary: Option<&str>, values: &mut Values, left: &mut Vec<String>) -> Vec<String> {
    let mut notes = Vec::new();
    let devices = node.get("network devices");
    let has_mac = |name: &&str| devices.get(name).get("hwaddr").text().is_some();
    let first = || devices.entries().map(|(name, _)| name).filter(has_mac).min();
    let chosen = primary.filter(has_mac).or_else(first);
    for (name, device) in devices.entries() {
        let others = device.entries().map(|(key, _)| key).filter(|key| !MOOT_OF_A_CARD.contains(key));
        left.extend(others.map(|key| format!("network devices: {key}")));
        if Some(name) != chosen {
            if device.get("hwaddr").text().is_some() || device.get("ipaddr").text().is_some() {
                left.push(format!("network devices: {name}"));
            }
            continue;
        }
        if let Some(text) = device.get("hwaddr").text() {
            match text.parse::<Mac>() {
                Ok(mac) => drop(values.insert(Attr::Mac, Said::Text(mac.to_string()))),
                Err(_) => notes.push(not_a_mac(text)),
            }
        }
        if let Some(text) = device.get("ipaddr").text() {
            match text.parse::<std::net::IpAddr>() {
                Ok(ip) => drop(values.insert(Attr::Ip, Said::Text(ip.to_string()))),
                Err(_) => notes.push(format!("`{text}` is not an address")),
            }
        }
    }
    notes
}

fn texts(list: &Value) -> Vec<&str> {
    list.items().filter_map(Value::text).collect()
}

/// Profiles with those that they name before them, each once; `~NAME` takes one out. Source: Warewulf 4.6, getProfilesProfiles.
fn expanded<'a>(names: &[&'a str], profiles: &BTreeMap<&'a str, &'a Value>) -> Vec<String> {
    let mut found: Vec<&str> = Vec::new();
    let mut seen: BTreeSet<&str> = BTreeSet::new();
    // What is still to be looked at, the next one last; a profile comes again when those that it names are done.
    let mut open: Vec<(&str, bool)> = names.iter().rev().map(|name| (*name, false)).collect();
    while let Some((name, is_ready)) = open.pop() {
        if is_ready || name.starts_with('~') {
            found.push(name);
        } else if seen.insert(name) {
            open.push((name, true));
            let inner = profiles.get(name).map(|profile| texts(profile.get("profiles"))).unwrap_or_default();
            open.extend(inner.into_iter().rev().map(|name| (name, false)));
        }
    }
    let gone: BTreeSet<&str> = found.iter().filter_map(|name| name.strip_prefix('~')).collect();
    let is_left = |name: &&str| !name.starts_with('~') && !gone.contains(name);
    found.iter().copied().filter(is_left).map(str::to_owned).collect()
}

/// How many places in profiles all nodes have together: with profiles within profiles a small file has more than any memory.
const MOST_PLACES: usize = 20_000_000;

pub(super) fn nodes(found: &mut ImportedNodes, text: &str) -> Result<bool, String> {
    let documents = documents(text)?;
    found.order = Order::Last;
    let mut left = Vec::new();
    let mut places = 0usize;
    for document in &documents {
        let profiles: BTreeMap<&str, &Value> = document.get("nodeprofiles").entries().collect();
        for (name, profile) in &profiles {
            let of_profile = values(profile, &mut left);
            found.groups.entry((*name).to_owned()).or_default().extend(of_profile);
        }
        for (name, node) in document.get("nodes").entries() {
            let mut of_node = values(node, &mut left);
            let of_it = expanded(&texts(node.get("profiles")), &profiles);
            places += of_it.len();
            if places > MOST_PLACES {
                return Err(format!(
                    "has nodes with more than {MOST_PLACES} profiles together, those within profiles counted"
                ));
            }
            let inherited =
                || of_it.iter().rev().find_map(|name| profiles.get(name.as_str())?.get("primary network").text());
            let primary = node.get("primary network").text().or_else(inherited);
            for note in card(node, primary, &mut of_node, &mut left) {
                found.note(format!("{note}: left out of `{name}`"));
            }
            if let Some((own, groups)) = found.node(name) {
                own.extend(of_node);
                groups.extend(of_it);
            }
        }
    }
    left.into_iter().for_each(|key| *found.left.entry(key).or_default() += 1);
    Ok(!found.nodes.is_empty())
}
