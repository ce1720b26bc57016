//! xCAT's nodes: objects as `lsdef -t node,group -z` prints them, and its tables as `tabdump` does. Source: the columns of its tables
//! nodelist, nodegroup, mac, hosts, noderes, nodetype, nodehm, bootparams and postscripts.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{ALL, ImportedNodes, Said, Values, not_a_mac};
use base::source::{Severity, SourceFile};
use nodes::{Attr, Effective};
use xcat::definitions::{ObjectKind, parse_stanzas};

/// What xCAT keeps for itself, or finds out again.
const MOOT: [&str; 20] = [
    "objtype",
    "status",
    "statustime",
    "appstatus",
    "appstatustime",
    "updatestatus",
    "updatestatustime",
    "currchain",
    "currstate",
    "initrd",
    "kernel",
    "kcmdline",
    "comments",
    "disable",
    "node",
    "groupname",
    "grouptype",
    "monserver",
    "setupconserver",
    "chain",
];

/// Adds what an object or a row says; whether its attribute is known. What cannot be taken over is a note.
fn add(values: &mut Values, name: &str, value: &str, notes: &mut Vec<String>) -> bool {
    let text = |text: &str| Said::Text(text.to_owned());
    let list = |separator: char| {
        let items = value.split(separator).map(str::trim).filter(|item| !item.is_empty());
        // xCAT runs what is named twice once, at its first place.
        let mut found: Vec<String> = Vec::new();
        for item in items.map(|item| item.split_whitespace().collect::<Vec<_>>().join(" ")) {
            if !found.contains(&item) {
                found.push(item);
            }
        }
        Said::List(found)
    };
    match name {
        "provmethod" if !matches!(value, "install" | "netboot" | "statelite" | "sysclone") => {
            values.insert(Attr::Image, text(value));
        }
        "provmethod" => {}
        "mac" => {
            // `aa:..!host|bb:..`: the first is the one that it boots from.
            let all = value.split('|').map(|one| one.split('!').next().unwrap_or_default().trim().to_owned());
            let (macs, others): (Vec<_>, Vec<_>) = all.partition(|one| one.parse::<nodes::Mac>().is_ok());
            notes.extend(others.iter().map(|one| not_a_mac(one)));
            let mut macs = macs.into_iter();
            if let Some(first) = macs.next() {
                values.insert(Attr::Mac, Said::Text(first));
            }
            let more: Vec<String> = macs.collect();
            if !more.is_empty() {
                values.insert(Attr::Macs, Said::List(more));
            }
        }
        // Further ones are of other networks.
        "ip" => {
            let mut all = value.split(',').map(str::trim);
            match all.next().filter(|one| one.parse::<std::net::IpAddr>().is_ok()) {
                Some(first) => drop(values.insert(Attr::Ip, text(first))),
                None => notes.push(format!("`{value}` is not an address")),
            }
            notes.extend(all.map(|one| format!("a node has one address, and `{one}` is a further one")));
        }
        "arch" if matches!(value, "x86_64" | "aarch64" | "ppc64le") => drop(values.insert(Attr::Arch, text(value))),
        "netboot" => {
            let loader = match value {
                "xnba" => "xnba",
                "pxe" => "pxelinux",
                "petitboot" => "petitboot",
                grub if grub.starts_with("grub2") => "grub",
                _ => return false,
            };
            values.insert(Attr::Loader, text(loader));
        }
        "installnic" | "primarynic" if value == "mac" || value.parse::<nodes::Mac>().is_ok() => {
            values.insert(Attr::Nic, text("mac"));
        }
        "installnic" => drop(values.insert(Attr::Nic, text(value))),
        "primarynic" => drop(values.entry(Attr::Nic).or_insert_with(|| text(value))),
        // Words with `R::` are for systems on disks.
        "addkcmdline" => {
            let words = value.split_whitespace().filter(|word| !word.starts_with("R::"));
            values.insert(Attr::KernelArgs, Said::List(words.map(str::to_owned).collect()));
        }
        "serialport" if value.bytes().all(|one| one.is_ascii_digit()) => {
            let speed = match values.remove(&Attr::Console) {
                Some(Said::List(items)) => {
                    items.first().and_then(|one| one.split_once(',').map(|(_, speed)| speed.to_owned()))
                }
                _ => None,
            };
            let speed = speed.map(|speed| format!(",{speed}")).unwrap_or_default();
            values.insert(Attr::Console, Said::List(vec![format!("ttyS{value}{speed}")]));
        }
        "serialspeed" => {
            let port = match values.remove(&Attr::Console) {
                Some(Said::List(items)) => items.first().cloned().unwrap_or_else(|| "ttyS0".to_owned()),
                _ => "ttyS0".to_owned(),
            };
            values.insert(Attr::Console, Said::List(vec![format!("{port},{value}")]));
        }
        "postscripts" => drop(values.insert(Attr::Postscripts, list(','))),
        "postbootscripts" => drop(values.insert(Attr::Postbootscripts, list(','))),
        "serial" => drop(values.insert(Attr::Serial, text(value))),
        "usercomment" => drop(values.insert(Attr::Comment, text(&value.replace(char::is_control, " ")))),
        "groups" | "members" => {}
        _ => return MOOT.contains(&name),
    }
    true
}

impl ImportedNodes {
    fn of_xcat(&mut self, name: &str, is_group: bool, attributes: &BTreeMap<String, String>) {
        let (mut left, mut notes) = (Vec::new(), Vec::new());
        let mut values = Values::new();
        for (key, value) in attributes.iter().filter(|(_, value)| !value.is_empty()) {
            if !add(&mut values, key, value, &mut notes) {
                left.push(key.clone());
            }
        }
        notes.into_iter().for_each(|note| self.note(format!("{note}: left out of `{name}`")));
        values.retain(|_, said| !matches!(said, Said::List(items) if items.is_empty()));
        left.into_iter().for_each(|key| *self.left.entry(key).or_default() += 1);
        let list = |key: &str| -> Vec<String> {
            let text = attributes.get(key).map(String::as_str).unwrap_or_default();
            text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect()
        };
        if name == "xcatdefaults" {
            return self.defaults.extend(values);
        }
        if !is_group {
            if let Some((own, groups)) = self.node(name) {
                own.extend(values);
                // A port of POWER is one of the hypervisor's consoles; the CPU may be in another table than the port. Source: xCAT 2.19.
                let is_power = matches!(own.get(&Attr::Arch), Some(Said::Text(arch)) if arch == "ppc64le");
                if let Some(Said::List(items)) = own.get_mut(&Attr::Console).filter(|_| is_power) {
                    items.iter_mut().for_each(|item| *item = item.replacen("ttyS", "hvc", 1));
                }
                // What is named again goes at the end.
                groups.extend(list("groups"));
            }
            return;
        }
        if attributes.get("grouptype").is_some_and(|kind| kind == "dynamic") {
            self.note(format!(
                "the group `{name}` is dynamic: name its nodes, or use a source of groups (@image:NAME, @arch:NAME)"
            ));
            return;
        }
        // Its own group of all is `*` here.
        if name == ALL {
            return self.all.extend(values);
        }
        // What no node has by itself is no node's.
        for attr in [Attr::Mac, Attr::Macs, Attr::Ip, Attr::Serial] {
            if values.remove(&attr).is_some() {
                self.note(format!("`{}` of the group `{name}` is left out: each node has its own", attr.name()));
            }
        }
        self.groups.entry(name.to_owned()).or_default().extend(values);
        for member in list("members") {
            if let Some((_, groups)) = self.node(&member) {
                groups.push(name.to_owned());
            }
        }
    }
}

/// Adds the nodes and groups of stanzas; whether there were some.
pub fn stanzas(found: &mut ImportedNodes, file: &Arc<SourceFile>) -> Result<bool, String> {
    let (definitions, findings) = parse_stanzas(file);
    if let Some(finding) = findings.iter().find(|finding| finding.severity == Severity::Error) {
        let place = finding.span.as_ref().map(|span| format!(" in line {}", span.line())).unwrap_or_default();
        return Err(format!("has an error{place}: {}", finding.message));
    }
    let mut has_some = false;
    for definition in &definitions {
        let is_group = match &definition.kind {
            ObjectKind::Other(kind) if kind == "node" => false,
            ObjectKind::Other(kind) if kind == "group" => true,
            _ => continue,
        };
        has_some = true;
        let attributes = definition.attributes.iter().map(|(name, one)| (name.clone(), one.value.clone()));
        found.of_xcat(&definition.name, is_group, &attributes.collect());
    }
    Ok(has_some)
}

/// Fields of a row of `tabdump`: quotes around them, doubled within.
fn rows(text: &str) -> Result<Vec<Vec<String>>, String> {
    let (mut rows, mut row, mut field, mut is_quoted) = (Vec::new(), Vec::new(), String::new(), false);
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match (letter, is_quoted) {
            ('"', true) if letters.next_if_eq(&'"').is_some() => field.push('"'),
            ('"', _) => is_quoted = !is_quoted,
            (',', false) => row.push(std::mem::take(&mut field)),
            ('\r', false) => {}
            ('\n', false) => {
                row.push(std::mem::take(&mut field));
                rows.push(std::mem::take(&mut row));
            }
            (letter, _) => field.push(letter),
        }
    }
    if is_quoted {
        return Err("has a quote that is not closed".to_owned());
    }
    if !field.is_empty() || !row.is_empty() {
        row.push(field);
        rows.push(row);
    }
    rows.retain(|row| row.iter().any(|field| !field.is_empty()));
    Ok(rows)
}

/// Adds the rows of a table, whose first line names the columns. A row of a group is the group's.
pub fn table(found: &mut ImportedNodes, text: &str) -> Result<(), String> {
    let mut rows = rows(text)?.into_iter();
    let columns: Vec<String> =
        rows.next().unwrap_or_default().iter().map(|one| one.trim_start_matches('#').to_owned()).collect();
    let of_groups = columns.first().is_some_and(|first| first == "groupname");
    let is_list = columns.iter().any(|column| column == "groups");
    for (number, row) in rows.enumerate() {
        if row.len() > columns.len() {
            return Err(format!("has {} fields in row {}, and {} columns", row.len(), number + 1, columns.len()));
        }
        let all: BTreeMap<String, String> = columns.iter().cloned().zip(row).collect();
        if matches!(all.get("disable").map(String::as_str), Some("yes" | "1")) {
            continue;
        }
        let names = all.get(&columns[0]).cloned().unwrap_or_default();
        for name in names.split(',').filter(|name| !name.is_empty()) {
            // nodelist comes first in a dump, so that a name that it does not have is a group.
            let is_node = is_list || found.nodes.contains_key(&nodes::set::Name(name.to_owned()));
            let is_group = of_groups || !is_node;
            found.of_xcat(name, is_group, &all);
        }
    }
    Ok(())
}

/// Attributes of a node as xCAT calls them, in their order.
pub fn attributes(node: &Effective) -> Vec<(&'static str, String)> {
    let text = |attr: Attr| node.text(attr).map(str::to_owned);
    let list = |attr: Attr| Some(node.list(attr).join(","));
    let macs: Vec<String> = node.macs().iter().map(ToString::to_string).collect();
    let console = node.list(Attr::Console).last().and_then(|one| {
        let port = ["ttyS", "hvc"].into_iter().find_map(|line| one.strip_prefix(line))?;
        Some(port.to_owned())
    });
    let (port, speed) = match console.as_deref().map(|one| one.split_once(',').unwrap_or((one, ""))) {
        Some((port, speed)) => (Some(port.to_owned()), Some(speed.to_owned())),
        None => (None, None),
    };
    let all = [
        ("addkcmdline", Some(node.list(Attr::KernelArgs).join(" "))),
        ("arch", text(Attr::Arch)),
        ("groups", Some(node.groups.join(","))),
        ("installnic", text(Attr::Nic)),
        ("ip", text(Attr::Ip)),
        ("mac", Some(macs.join("|"))),
        (
            "netboot",
            text(Attr::Loader).map(|loader| match loader.as_str() {
                "grub" => "grub2".to_owned(),
                "pxelinux" => "pxe".to_owned(),
                // xCAT's iPXE.
                "ipxe" => "xnba".to_owned(),
                _ => loader,
            }),
        ),
        ("postbootscripts", list(Attr::Postbootscripts)),
        ("postscripts", list(Attr::Postscripts)),
        ("provmethod", text(Attr::Image)),
        ("serial", text(Attr::Serial)),
        ("serialport", port),
        ("serialspeed", speed),
        ("usercomment", text(Attr::Comment)),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name, value.filter(|value| !value.is_empty())?))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_port_is_the_line_that_the_nodes_cpu_has() {
        let text = "a:\n    objtype=node\n    arch=ppc64le\n    serialport=0\n    serialspeed=115200\n\nb:\n    objtype=node\n    arch=x86_64\n    serialport=1\n";
        let mut found = ImportedNodes::default();
        assert!(stanzas(&mut found, &SourceFile::new("defs", "/defs", text)).unwrap());
        let mut console = |name: &str| match found.node(name).unwrap().0.get(&Attr::Console) {
            Some(Said::List(items)) => items.clone(),
            other => panic!("{other:?}"),
        };
        assert_eq!(console("a"), ["hvc0,115200"]);
        assert_eq!(console("b"), ["ttyS1"]);
    }
}
