//! dnsmasq's leases, where they contradict nodes.toml: it would keep to them for half a day.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::process::write_aside;
use nodes::Nodes;

/// Takes away leases that contradict nodes.toml: while dnsmasq does not run, which has them in its memory.
/// Errors: The file cannot be read or written.
pub(super) fn settle(path: &Path, nodes: &Nodes) -> std::io::Result<()> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let text = String::from_utf8_lossy(&bytes);
    let settled = without_contradictions(&text, nodes);
    if settled == text { Ok(()) } else { write_aside(path, settled.as_bytes()) }
}

/// The leases but for those of a node's card with another address than the node's, and those of a node's address for another card.
///
/// A lease is a line: time of its end, card, address, name, client id. Source: dnsmasq's lease.c.
fn without_contradictions(text: &str, nodes: &Nodes) -> String {
    let mut of_card: BTreeMap<String, (Option<Ipv4Addr>, String)> = BTreeMap::new();
    let mut of_address: BTreeMap<Ipv4Addr, String> = BTreeMap::new();
    for node in nodes.names().filter_map(|name| nodes.get(name)) {
        let address = match node.ip() {
            Some(IpAddr::V4(address)) => Some(address),
            _ => None,
        };
        for mac in node.macs() {
            of_card.insert(mac.to_string().to_lowercase(), (address, node.name.clone()));
        }
        if let Some(address) = address {
            of_address.insert(address, node.name.clone());
        }
    }
    let contradicts = |line: &str| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [_, card, address, ..] = words[..] else { return false };
        // Those of IPv6 have numbers and addresses of another form.
        let Ok(address) = address.parse::<Ipv4Addr>() else { return false };
        match of_card.get(&card.to_lowercase()) {
            Some((Some(own), _)) if *own != address => true,
            Some((_, name)) => of_address.get(&address).is_some_and(|other| other != name),
            None => of_address.contains_key(&address),
        }
    };
    text.split_inclusive('\n').filter(|line| !contradicts(line)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leases_that_contradict_the_nodes_go_and_all_others_stay() {
        let place = tempfile::tempdir().unwrap();
        let text = "[node.a]\nmac = \"52:54:00:00:00:0A\"\nip = \"10.0.0.1\"\n[node.b]\nmac = \"52:54:00:00:00:0b\"\nip = \"10.0.0.2\"\n\
                    [node.c]\nmac = \"52:54:00:00:00:0c\"\n";
        std::fs::write(place.path().join("nodes.toml"), text).unwrap();
        let nodes = Nodes::load(place.path()).unwrap().unwrap();
        let stays = "1790000000 52:54:00:00:00:0a 10.0.0.1 a *\n\
                     1790000000 52:54:00:00:00:0c 10.0.0.77 c 01:52:54:00:00:00:0c\n\
                     0 52:54:00:00:00:99 10.0.0.99 * *\n\
                     duid 00:01\n\
                     1790000000 123 fd00::2 b 00:01\n\
                     half a\n";
        assert_eq!(without_contradictions(stays, &nodes), stays);
        let goes = [
            // The node's address was changed, both nodes' were swapped, a removed node's was given to another.
            "1790000000 52:54:00:00:00:0a 10.0.0.5 a *",
            "1790000000 52:54:00:00:00:0b 10.0.0.1 b *",
            "1790000000 52:54:00:00:00:99 10.0.0.2 old *",
            "1790000000 52:54:00:00:00:0c 10.0.0.2 c *",
        ];
        let all: String = goes.iter().map(|line| format!("{line}\n")).collect();
        assert_eq!(without_contradictions(&format!("{all}{stays}"), &nodes), stays);
        let file = place.path().join("leases");
        settle(&file, &nodes).unwrap();
        std::fs::write(&file, &all).unwrap();
        settle(&file, &nodes).unwrap();
        assert_eq!(std::fs::read_to_string(&file).unwrap(), "");
    }
}
