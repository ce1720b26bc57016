//! What each node has for itself: its name in a table of several, MAC addresses, addresses.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use super::{Nodes, Own, Said};
use crate::model::Attr;
use crate::model::mac::Mac;
use crate::set::MOST_NODES;
use crate::set::parse::{SetError, expand};
use base::source::{Finding, Span, counted};
use recipe::Value;

/// Names of a table: a name, or sets with commas between them; no groups, because these are what groups are made of.
pub(crate) fn names(text: &str) -> Result<Vec<String>, SetError> {
    let wrong = |message: &str, help: &str| {
        Err(SetError { at: 0..text.len(), message: message.to_owned(), help: help.to_owned() })
    };
    if text.contains(['@', '!', '&', '^', '*', '?']) {
        return wrong(
            "a node's table has names, and no groups, operators or wildcards",
            "write for instance cn[001-040]",
        );
    }
    let mut names = Vec::new();
    let mut start = 0;
    let mut inside = false;
    for (at, letter) in text.char_indices().chain([(text.len(), ',')]) {
        match letter {
            '[' => inside = true,
            ']' => inside = false,
            ',' if !inside || at == text.len() => {
                let word = text[start..at].trim();
                if word.is_empty() {
                    return wrong("a name is empty", "remove the comma, or write a name");
                }
                names.extend(expand(word, start)?);
                if names.len() > MOST_NODES {
                    return wrong(&format!("these are more than {} nodes", counted(MOST_NODES)), "correct the ranges");
                }
                start = at + 1;
            }
            _ => {}
        }
    }
    Ok(names)
}

/// A key of a table that each of its nodes has for itself.
#[derive(Debug, Clone)]
pub(crate) struct OwnSaid {
    pub attr: Attr,
    /// Each item of a list, or the one text: the text of each node, and the place of all.
    items: Vec<(Vec<String>, Span)>,
}

impl OwnSaid {
    /// What node number `at` has.
    pub(crate) fn of(&self, at: usize) -> impl DoubleEndedIterator<Item = (&str, &Span)> {
        self.items.iter().filter_map(move |(texts, span)| Some((texts.get(at)?.as_str(), span)))
    }
}

/// What each of the `count` nodes of a table has for itself. Each text is read once, whatever the number of nodes.
pub(crate) fn of_table(said: &[Said], count: usize, findings: &mut Vec<Finding>) -> Vec<OwnSaid> {
    let mut found = Vec::new();
    for one in said.iter().filter(|one| one.attr.is_own()) {
        let list = std::slice::from_ref(&one.value);
        let nodes = if let Value::Array(items) = &one.value.value { items } else { list };
        let mut items = Vec::new();
        for node in nodes {
            let Value::Text(text) = &node.value else { continue };
            match each(one.attr, text, count) {
                Ok(texts) => items.push((texts, node.span.clone())),
                Err((message, help)) => {
                    findings.push(Finding::error("nodes::count", &node.span, message).help(help));
                }
            }
        }
        found.push(OwnSaid { attr: one.attr, items });
    }
    found
}

/// The texts of several nodes, each with its own.
/// Errors: The message and the remedy.
pub(crate) fn each(attr: Attr, text: &str, count: usize) -> Result<Vec<String>, (String, String)> {
    let name = attr.name();
    if count == 1 && !text.contains('[') {
        return Ok(vec![text.to_owned()]);
    }
    let texts = expand(text, 0).map_err(|error| (format!("`{text}`: {}", error.message), error.help))?;
    if texts.len() != count {
        let (found, nodes) = (texts.len(), count);
        let message = format!("`{name}` has {found} {} for {nodes} nodes", if found == 1 { "value" } else { "values" });
        let help = match attr {
            Attr::Ip => format!(
                "write a range with {nodes} numbers, for instance \"10.0.0.[1-{nodes}]\", or a table for each node"
            ),
            _ => "give each node a table of its own with it: [node.NAME]".to_owned(),
        };
        return Err((message, help));
    }
    Ok(texts)
}

/// Gives each node its own values: those of the nearest table that says them.
pub(crate) fn spread(nodes: &mut Nodes) {
    let Nodes { tables, nodes, .. } = nodes;
    for entry in nodes.values_mut() {
        // From the nearest on: what is farther is not looked at, however many tables name the node.
        let mut known = Vec::new();
        for named in entry.tables.iter().rev() {
            for said in tables.get(named.table).into_iter().flat_map(|table| table.own.iter().rev()) {
                if known.contains(&said.attr) {
                    continue;
                }
                known.push(said.attr);
                let one =
                    |(text, span): (&str, &Span)| Own { attr: said.attr, text: text.to_owned(), span: span.clone() };
                entry.own.extend(said.of(named.at).rev().map(one));
            }
        }
        entry.own.reverse();
    }
}

/// Reads MAC addresses and addresses, and tells those that two nodes have.
pub(crate) fn index(nodes: &mut Nodes, findings: &mut Vec<Finding>) {
    let mut macs = Unique::new("MAC address");
    let mut ips = Unique::new("address");
    let mut firmware = Unique::new("identifier");
    for (name, entry) in &nodes.nodes {
        for own in &entry.own {
            let bad = |what: &str, expected: &str| {
                Finding::error("nodes::address", &own.span, format!("`{}` is not {what}", own.text))
                    .help(expected.to_owned())
            };
            match own.attr {
                Attr::Mac | Attr::Macs => match own.text.parse::<Mac>() {
                    Ok(mac) => macs.put(mac, &own.text, &name.0, &own.span, findings),
                    Err(expected) => findings.push(bad("a MAC address", &format!("write {expected}"))),
                },
                Attr::Ip => match own.text.parse::<IpAddr>() {
                    Ok(ip) if ip.is_unspecified() || ip.is_multicast() || ip.is_loopback() => {
                        findings.push(bad("an address that a node can have", "write the address of its boot network"));
                    }
                    Ok(ip) => ips.put(ip, &own.text, &name.0, &own.span, findings),
                    Err(_) => {
                        findings.push(bad("an address", "write for instance 10.0.0.11 or fd00::11, without a netmask"))
                    }
                },
                Attr::Uuid if !is_uuid(&own.text) => findings.push(bad(
                    "a UUID",
                    "as `dmidecode -s system-uuid` prints it: 4c4c4544-0043-4810-8057-b4c04f4d3232",
                )),
                Attr::Serial if own.text.trim().is_empty() || own.text.contains(char::is_control) => {
                    findings.push(bad("a serial number", "as `dmidecode -s system-serial-number` prints it"));
                }
                Attr::Uuid | Attr::Serial => {
                    let key = format!("{} {}", own.attr.name(), own.text.to_lowercase());
                    firmware.put(key, &own.text, &name.0, &own.span, findings);
                }
                _ => {}
            }
        }
    }
    nodes.by_mac = macs.known.into_iter().map(|(key, (name, _))| (key, name)).collect();
    nodes.by_ip = ips.known.into_iter().map(|(key, (name, _))| (key, name)).collect();
    nodes.by_firmware = firmware.known.into_iter().map(|(key, (name, _))| (key, name)).collect();
}

/// 8-4-4-4-12 hexadecimal digits (RFC 9562).
fn is_uuid(text: &str) -> bool {
    let parts: Vec<&str> = text.split('-').collect();
    let lengths: Vec<usize> = parts.iter().map(|part| part.len()).collect();
    lengths == [8, 4, 4, 4, 12] && parts.iter().all(|part| part.bytes().all(|one| one.is_ascii_hexdigit()))
}

/// Values of which each belongs to one node.
struct Unique<K> {
    what: &'static str,
    known: HashMap<K, (String, Span)>,
}

impl<K: Eq + Hash> Unique<K> {
    fn new(what: &'static str) -> Self {
        Self { what, known: HashMap::new() }
    }

    fn put(&mut self, key: K, text: &str, node: &str, span: &Span, findings: &mut Vec<Finding>) {
        match self.known.get(&key) {
            Some((other, first)) => {
                let what = self.what;
                let message = match other == node {
                    true => format!("`{node}` has the {what} `{text}` twice"),
                    false => format!("`{other}` and `{node}` have the same {what} `{text}`"),
                };
                let help = format!("correct one of them; the first is in line {}", first.line());
                findings.push(Finding::error("nodes::twice", span, message).label("again here").help(help));
            }
            None => drop(self.known.insert(key, (node.to_owned(), span.clone()))),
        }
    }
}
