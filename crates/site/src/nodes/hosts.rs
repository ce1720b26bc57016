//! hosts(5) and ethers(5).

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{ImportedNodes, Said};
use nodes::set::Name;
use nodes::{Attr, Mac};

/// A MAC address, also as ethers(5) has it: bytes without their leading zero.
fn mac_of(text: &str) -> Option<Mac> {
    let bytes: Vec<&str> = text.split(':').collect();
    let is_short = bytes.len() == 6 && bytes.iter().all(|byte| (1..=2).contains(&byte.len()));
    let padded = || bytes.iter().map(|byte| format!("{byte:0>2}")).collect::<Vec<_>>().join(":");
    if is_short { padded().parse().ok() } else { text.parse().ok() }
}

fn short(name: &str) -> &str {
    name.split('.').next().unwrap_or_default()
}

impl ImportedNodes {
    /// The node that a line of several names is about: one that is known by one of them, or by the first part of one.
    fn known(&mut self, names: &[&str]) -> String {
        let first = names.first().copied().unwrap_or_default();
        let is_node = |nodes: &BTreeMap<Name, _>, name: &str| nodes.contains_key(&Name(name.to_owned()));
        if let Some(name) = names.iter().find(|name| is_node(&self.nodes, name)) {
            return (*name).to_owned();
        }
        match self.aliases.get(first) {
            Some(Some(node)) => return node.clone(),
            Some(None) => self.note(format!("`{first}` is a name of several nodes: it is taken as another one")),
            None if is_node(&self.nodes, short(first)) => return short(first).to_owned(),
            None => {}
        }
        first.to_owned()
    }
}

/// Adds nodes by lines `ADDRESS NAME..` and `MAC NAME`; whether there were some.
pub(super) fn lines(found: &mut ImportedNodes, text: &str) -> bool {
    let mut has_some = false;
    for (number, line) in text.lines().enumerate() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let Some(first) = words.next() else { continue };
        let names: Vec<&str> = words.collect();
        let (attr, value) = match (first.parse::<IpAddr>(), mac_of(first)) {
            // What every hosts file has of the machine itself and of multicast.
            (Ok(ip), _)
                if !fault::planted("hosts-loopback")
                    && (ip.is_loopback() || ip.is_multicast() || ip.is_unspecified()) =>
            {
                continue;
            }
            (Ok(ip), _) => (Attr::Ip, ip.to_string()),
            (_, Some(mac)) => (Attr::Mac, mac.to_string()),
            _ => {
                let shown: String = first.chars().take(80).collect();
                found.note(format!("line {}: `{shown}` is neither an address nor a MAC address: left out", number + 1));
                continue;
            }
        };
        if names.is_empty() {
            continue;
        }
        let name = found.known(&names);
        let Some((values, _)) = found.node(&name) else { continue };
        has_some = true;
        // The first address is the one that counts: a second may be of another network.
        let said = values.entry(attr).or_insert_with(|| Said::Text(value.clone())).clone();
        if said != Said::Text(value.clone()) {
            found.note(format!(
                "a node has one `{}`, and `{value}` is a further one: left out of `{name}`",
                attr.name()
            ));
        }
        for alias in names.into_iter().chain([short(&name)]).filter(|alias| *alias != name) {
            let known = found.aliases.entry(alias.to_owned()).or_insert_with(|| Some(name.clone()));
            if known.as_ref().is_some_and(|known| *known != name) {
                *known = None;
            }
        }
    }
    has_some
}
