//! hosts(5) and ethers(5).

use std::net::IpAddr;

use super::{ImportedNodes, Said};
use crate::fault;
use crate::nodes::{Attr, Mac};

/// Adds nodes by lines `ADDRESS NAME..` and `MAC NAME`; whether there were some.
pub fn lines(found: &mut ImportedNodes, text: &str) -> bool {
    let mut has_some = false;
    for line in text.lines() {
        let mut words = line.split('#').next().unwrap_or_default().split_whitespace();
        let (Some(first), Some(name)) = (words.next(), words.next()) else { continue };
        let (attr, value) = match (first.parse::<IpAddr>(), first.parse::<Mac>()) {
            // What every hosts file has of the machine itself and of multicast.
            (Ok(ip), _)
                if !fault::planted("hosts-loopback")
                    && (ip.is_loopback() || ip.is_multicast() || ip.is_unspecified()) =>
            {
                continue;
            }
            (Ok(ip), _) => (Attr::Ip, ip.to_string()),
            (_, Ok(mac)) => (Attr::Mac, mac.to_string()),
            _ => continue,
        };
        // A name that is known by its first part, or the other way round.
        let short = name.split('.').next().unwrap_or_default();
        let known = [name, short]
            .into_iter()
            .find(|name| found.nodes.contains_key(&crate::nodes::set::Name((*name).to_owned())));
        let name = known.unwrap_or(name);
        if let Some((values, _)) = found.node(name) {
            has_some = true;
            // The first address is the one that counts: a second may be of another network.
            values.entry(attr).or_insert(Said::Text(value));
        }
    }
    has_some
}
