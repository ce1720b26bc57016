//! Warewulf 4's nodes.conf: profiles become groups.

use super::{ImportedNodes, Said, Values};
use crate::distro::yaml::{Value, documents};
use crate::nodes::{Attr, Mac};

/// Keys that are Warewulf's own, or say nothing here.
const MOOT: [&str; 4] = ["profiles", "comment", "discoverable", "valid"];

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
            }
            ("network devices", devices) => {
                for (_, device) in devices.entries().filter(|(_, device)| device.get("hwaddr").text().is_some()) {
                    let mac = device.get("hwaddr").text().and_then(|text| text.parse::<Mac>().ok());
                    let Some(mac) = mac else { continue };
                    // The first card with a MAC address is the one that it boots from; `default` stands first.
                    values.entry(Attr::Mac).or_insert(Said::Text(mac.to_string()));
                    if let Some(ip) = device.get("ipaddr").text().filter(|ip| ip.parse::<std::net::IpAddr>().is_ok()) {
                        values.entry(Attr::Ip).or_insert(Said::Text(ip.to_owned()));
                    }
                }
            }
            (key, _) if MOOT.contains(&key) => {}
            (key, _) => left.push(key.to_owned()),
        }
    }
    values
}

pub fn nodes(found: &mut ImportedNodes, text: &str) -> Result<bool, String> {
    let documents = documents(text)?;
    found.lists_add = true;
    let mut left = Vec::new();
    for document in &documents {
        for (name, profile) in document.get("nodeprofiles").entries() {
            let mut of_profile = values(profile, &mut left);
            for attr in [Attr::Mac, Attr::Ip] {
                of_profile.remove(&attr);
            }
            found.groups.entry(name.to_owned()).or_default().extend(of_profile);
        }
        for (name, node) in document.get("nodes").entries() {
            let of_node = values(node, &mut left);
            let profiles: Vec<String> =
                node.get("profiles").items().filter_map(Value::text).map(str::to_owned).collect();
            if let Some((own, groups)) = found.node(name) {
                own.extend(of_node);
                groups.extend(profiles);
            }
        }
    }
    left.into_iter().for_each(|key| *found.left.entry(key).or_default() += 1);
    Ok(!found.nodes.is_empty())
}
