//! `nodes.toml` of what was read: groups, what several nodes have in common by sets of them, and each node with what is its own.

use std::collections::BTreeMap;

use super::{ImportedNodes, Said, Values};
use nodes::{Attr, NodeSet};

fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string()
}

fn line(attr: Attr, said: &Said) -> String {
    let value = match said {
        Said::Text(text) => quoted(text),
        Said::List(items) => format!("[{}]", items.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ")),
    };
    format!("{} = {value}\n", attr.name())
}

fn lines(values: &Values) -> String {
    values.iter().map(|(attr, said)| line(*attr, said)).collect()
}

fn key(name: &str) -> String {
    let is_bare = name.bytes().all(|one| one.is_ascii_alphanumeric() || one == b'-' || one == b'_');
    if is_bare || fault::planted("nodes-key-unquoted") { name.to_owned() } else { quoted(name) }
}

pub fn nodes_file_text(found: &ImportedNodes) -> String {
    let mut text =
        "# Who boots what: docs/nodes.md. `imgbuild nodes` lists them, `imgbuild set RANGE KEY=VALUE` changes them.\n"
            .to_owned();
    if !found.defaults.is_empty() {
        text.push_str(&format!("\n[defaults]\n{}", lines(&found.defaults)));
    }
    let mut members_of: BTreeMap<&str, NodeSet> = BTreeMap::new();
    for (node, (_, groups)) in &found.nodes {
        for group in groups {
            members_of.entry(group).or_default().insert(node.0.as_str());
        }
    }
    for (name, values) in &found.groups {
        let members = members_of.remove(name.as_str()).unwrap_or_default();
        if members.is_empty() {
            text.push_str(&format!("\n# The group {name} has no nodes.\n"));
            text.extend(lines(values).lines().map(|line| format!("# {line}\n")));
            continue;
        }
        text.push_str(&format!("\n[group.{}]\nnodes = {}\n{}", key(name), quoted(&members.folded()), lines(values)));
    }
    // What is the same for several nodes stands once.
    let mut shared: BTreeMap<(Attr, &Said), NodeSet> = BTreeMap::new();
    for (name, (values, _)) in &found.nodes {
        for (attr, said) in values.iter().filter(|(attr, _)| !attr.is_own()) {
            shared.entry((*attr, said)).or_default().insert(name.0.as_str());
        }
    }
    let mut sets: BTreeMap<String, Vec<(Attr, &Said)>> = BTreeMap::new();
    for ((attr, said), set) in &shared {
        if set.len() > 1 {
            sets.entry(set.folded()).or_default().push((*attr, said));
        }
    }
    for (set, values) in &sets {
        let lines: String = values.iter().map(|(attr, said)| line(*attr, said)).collect();
        text.push_str(&format!("\n[node.{}]\n{lines}", key(set)));
    }
    for (name, (values, _)) in &found.nodes {
        let own = values.iter().filter(|(attr, said)| shared.get(&(**attr, *said)).is_none_or(|set| set.len() == 1));
        let lines: String = own.map(|(attr, said)| line(*attr, said)).collect();
        text.push_str(&format!("\n[node.{}]\n{lines}", key(&name.0)));
    }
    text
}
