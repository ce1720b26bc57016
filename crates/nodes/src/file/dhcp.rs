//! Names and addresses that mean something else to a DHCP server or a loader than a node.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr};

use super::Nodes;
use crate::model::Attr;
use crate::{Effective, Given};
use base::source::{Finding, Severity, Span};

/// Whether dnsmasq reads a name as a word of its own: a time of a lease, or that a host is not answered. Source: dnsmasq(8),
/// dhcp-host; its option.c takes a number with a unit in either case.
fn is_word_of_dnsmasq(name: &str) -> bool {
    let number = match name.len() {
        0 | 1 => name,
        _ => name.strip_suffix(['w', 'W', 'd', 'D', 'h', 'H', 'm', 'M', 's', 'S']).unwrap_or(name),
    };
    number.bytes().all(|one| one.is_ascii_digit())
        || ["infinite", "ignore"].iter().any(|word| name.eq_ignore_ascii_case(word))
}

/// Names of nodes that DHCP gives addresses: they are given without a domain, and case is all one.
pub(super) fn names(nodes: &Nodes, findings: &mut Vec<Finding>) {
    let mut known: HashMap<String, &str> = HashMap::new();
    let has_card = |own: &super::Own| matches!(own.attr, Attr::Mac | Attr::Macs);
    for (name, entry) in nodes.nodes.iter().filter(|(_, entry)| entry.own.iter().any(has_card)) {
        let short = name.0.split('.').next().unwrap_or_default();
        if is_word_of_dnsmasq(short) && !fault::planted("nodes-name-a-word") {
            let message = format!(
                "`{}` cannot be the name of a node that boots by DHCP: dnsmasq reads `{short}` as a word of its own",
                name.0
            );
            let help =
                "begin it with a letter, as in cn12; `infinite` and `ignore` are such words, and so are times like 5m";
            findings.push(Finding::error("nodes::name", &entry.span, message).help(help));
            continue;
        }
        if let Some(other) = known.insert(short.to_ascii_lowercase(), &name.0) {
            let line = nodes.span_of(other).map_or(0, Span::line);
            let message =
                format!("`{other}` and `{}` are one name to a DHCP server: `{}`", name.0, short.to_ascii_lowercase());
            let help = format!(
                "it takes names without their domain, and does not tell case apart: rename one of them; the first is in line {line}"
            );
            findings.push(Finding::error("nodes::name", &entry.span, message).label("again here").help(help));
        }
    }
}

/// Addresses of nodes that are that of the server which the file names. A service node may be meant, which `servers` names: that is a
/// warning.
pub(super) fn server(nodes: &Nodes, findings: &mut Vec<Finding>) {
    let mut seen = BTreeSet::new();
    for (key, url) in nodes.url.iter().map(|url| ("url", url)).chain(nodes.report.iter().map(|url| ("report", url))) {
        let Some(ip) = address_in(url) else { continue };
        let Some(name) = nodes.by_ip(ip).filter(|name| seen.insert(name.to_string())) else { continue };
        let is_service_node = nodes.servers.iter().any(|other| address_in(other) == Some(ip));
        let found = nodes.refused_address(name, &format!("that of the server in ‹[nodeset] {key}›"));
        findings.extend(found.map(|finding| match is_service_node {
            true => Finding { severity: Severity::Warning, ..finding },
            false => finding.help(
                "give the node another address of the network; if it is a service node, list its address in ‹[nodeset] servers›",
            ),
        }));
    }
}

/// The address in a URL: `http://10.0.0.1:80/x`, `http://[fd00::1]/`.
fn address_in(url: &str) -> Option<IpAddr> {
    let (_, rest) = url.split_once("://")?;
    let host = rest.split('/').next()?;
    match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?.parse().ok(),
        None => host.split(':').next()?.parse().ok(),
    }
}

impl Nodes {
    fn refused_address(&self, name: &str, what: &str) -> Option<Finding> {
        let node = self.get(name)?;
        let (ip, span) = (node.ip()?, node.span(Attr::Ip)?);
        let message = format!("`{ip}` of `{name}` is {what}");
        Some(Finding::error("nodes::address", span, message).help("give the node another address of the network"))
    }

    /// What is wrong with addresses of nodes on a network: no node has that of the server, of the network or of all of it.
    pub fn taken_addresses(&self, server: Ipv4Addr, mask: Ipv4Addr) -> Vec<Finding> {
        let network = server & mask;
        let mut taken = vec![(server, format!("that of this server, {server}"))];
        // Two addresses have neither: RFC 3021.
        if u32::from(mask).count_ones() < 31 {
            taken.push((network, format!("that of the network {network}/{} itself", u32::from(mask).count_ones())));
            taken.push((network | !mask, format!("the broadcast address of the network {network}")));
        }
        let refused = |(ip, what): &(Ipv4Addr, String)| self.refused_address(self.by_ip(IpAddr::V4(*ip))?, what);
        taken.iter().filter_map(refused).collect()
    }
}

/// Words for the kernel that iPXE would put values of its own into. It has no way to write `${` as it is.
pub(super) fn settings_of_ipxe(nodes: &Nodes, findings: &mut Vec<Finding>) {
    if !nodes.file.text.contains("${") {
        return;
    }
    let mut seen = BTreeSet::new();
    let words = [Attr::KernelArgs, Attr::Console, Attr::Nic, Attr::Bond, Attr::Vlan];
    for node in nodes.names().filter_map(|name| nodes.get(name)).filter(is_by_ipxe) {
        let given = words.iter().filter_map(|attr| node.values.get(attr));
        let items = given.flat_map(|given| match given {
            Given::Text(text) => std::slice::from_ref(text),
            Given::List(items) => items.as_slice(),
            Given::Map(_) => &[],
        });
        for item in items.filter(|item| item.value.contains("${") && seen.insert(item.span.start)) {
            let message = format!(
                "`{}`: iPXE replaces `${{..}}` by a setting of its own, so the kernel of `{}` would not get it",
                item.value, node.name
            );
            let help = "remove it; what is meant for iPXE belongs into a template of your own, loaders/ipxe.j2";
            findings.push(Finding::error("nodes::text", &item.span, message).label("here").help(help));
        }
    }
}

/// Whether a node's words go through a script of iPXE, which is the usual loader.
fn is_by_ipxe(node: &Effective) -> bool {
    matches!(node.text(Attr::Loader), None | Some("ipxe" | "xnba"))
}
