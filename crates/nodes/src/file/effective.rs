//! What a node has when all that it inherits is put together, each value with its place.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{Nodes, Said};
use crate::model::mac::Mac;
use crate::model::{Attr, Merging};
use crate::set::Name;
use base::source::Span;
use recipe::Value;

/// What takes an inherited item out, in front of it.
pub const WITHOUT: char = '~';

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sourced<T> {
    pub value: T,
    pub span: Span,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Given {
    Text(Sourced<String>),
    List(Vec<Sourced<String>>),
    Map(BTreeMap<String, Sourced<String>>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effective {
    pub name: String,
    /// Names of its groups, the least priority first.
    pub groups: Vec<String>,
    pub values: BTreeMap<Attr, Given>,
}

impl Effective {
    pub fn text(&self, attr: Attr) -> Option<&str> {
        match self.values.get(&attr) {
            Some(Given::Text(text)) => Some(&text.value),
            _ => None,
        }
    }

    /// The place of a text, or of the first item.
    pub fn span(&self, attr: Attr) -> Option<&Span> {
        match self.values.get(&attr)? {
            Given::Text(text) => Some(&text.span),
            Given::List(items) => items.first().map(|item| &item.span),
            Given::Map(all) => all.values().next().map(|one| &one.span),
        }
    }

    pub fn list(&self, attr: Attr) -> Vec<&str> {
        match self.values.get(&attr) {
            Some(Given::List(items)) => items.iter().map(|item| item.value.as_str()).collect(),
            _ => Vec::new(),
        }
    }

    /// Its MAC addresses, the one of `mac` first.
    pub fn macs(&self) -> Vec<Mac> {
        let one = self.text(Attr::Mac).into_iter();
        one.chain(self.list(Attr::Macs)).filter_map(|text| text.parse().ok()).collect()
    }

    pub fn ip(&self) -> Option<IpAddr> {
        self.text(Attr::Ip)?.parse().ok()
    }

    pub fn image(&self) -> Option<&str> {
        self.text(Attr::Image)
    }

    /// The build of it that its file names.
    pub fn build(&self) -> Option<&str> {
        self.text(Attr::Build)
    }

    /// Its values for templates.
    pub fn variables(&self) -> BTreeMap<&str, &str> {
        match self.values.get(&Attr::Variables) {
            Some(Given::Map(all)) => all.iter().map(|(name, one)| (name.as_str(), one.value.as_str())).collect(),
            _ => BTreeMap::new(),
        }
    }

    /// Words for the kernel's command line that the node's own values make: the network's first, then consoles, then
    /// `kernel_args`.
    pub fn kernel_words(&self) -> Vec<String> {
        let mut words = Vec::new();
        match self.text(Attr::Nic) {
            Some("mac") => words.extend(self.macs().first().map(|mac| format!("BOOTIF=01-{}", mac.hyphens()))),
            Some(name) => words.push(format!("netdev={name}")),
            None => {}
        }
        words.extend(self.text(Attr::Bond).map(|text| format!("bond={text}")));
        words.extend(self.text(Attr::Vlan).map(|text| format!("vlan={text}")));
        words.extend(self.list(Attr::Console).into_iter().map(|text| format!("console={text}")));
        words.extend(self.list(Attr::KernelArgs).into_iter().map(str::to_owned));
        words
    }
}

impl Nodes {
    /// A node with all that it inherits: from the defaults, from its groups by rising priority, from tables of several nodes,
    /// and what its own table says.
    pub fn get(&self, name: &str) -> Option<Effective> {
        let (name, entry) = self.nodes.get_key_value(&Name(name.to_owned()))?;
        let mut values = BTreeMap::new();
        for said in self.layers(&name.0).flatten().filter(|said| !said.attr.is_own()) {
            add(&mut values, said);
        }
        for own in &entry.own {
            let one = Sourced { value: own.text.clone(), span: own.span.clone() };
            match own.attr {
                Attr::Macs => match values.entry(own.attr).or_insert_with(|| Given::List(Vec::new())) {
                    Given::List(items) => items.push(one),
                    other => *other = Given::List(vec![one]),
                },
                attr => drop(values.insert(attr, Given::Text(one))),
            }
        }
        let groups = entry.groups.iter().filter_map(|index| self.groups.get(*index)).map(|group| group.name.clone());
        Some(Effective { name: name.0.clone(), groups: groups.collect(), values })
    }

    /// Where an item of a list that adds up is taken out of a node, at last.
    pub(crate) fn withdrawal(&self, name: &str, attr: Attr, item: &str) -> Option<Span> {
        let said = self.layers(name).flatten().filter(|said| said.attr == attr);
        let gone =
            said.flat_map(|said| items(&said.value.value)).filter(|one| one.value.strip_prefix(WITHOUT) == Some(item));
        gone.last().map(|one| one.span)
    }

    /// What is said of a node, the farthest first.
    pub(super) fn layers(&self, name: &str) -> impl Iterator<Item = &[Said]> {
        let entry = self.nodes.get(&Name(name.to_owned()));
        let groups = entry.map_or(&[][..], |entry| &entry.groups).iter();
        let tables = entry.map_or(&[][..], |entry| &entry.tables).iter();
        std::iter::once(self.defaults.as_slice())
            .chain(groups.filter_map(|index| self.groups.get(*index)).map(|group| group.said.as_slice()))
            .chain(tables.filter_map(|named| self.tables.get(named.table)).map(|table| table.said.as_slice()))
    }
}

fn items(value: &Value) -> Vec<Sourced<String>> {
    let Value::Array(items) = value else { return Vec::new() };
    let text = |item: &recipe::Node| match &item.value {
        Value::Text(text) => Some(Sourced { value: text.clone(), span: item.span.clone() }),
        _ => None,
    };
    items.iter().filter_map(text).collect()
}

/// Adds an item of a nearer table to a list that adds up.
pub fn add_item<T>(list: &mut Vec<T>, attr: Attr, item: T, text: impl Fn(&T) -> &str) {
    match text(&item).strip_prefix(WITHOUT) {
        Some(gone) => list.retain(|known| text(known) != gone),
        // The same script is run once, at its first place; of the same word the last place counts.
        None if attr != Attr::KernelArgs && list.iter().any(|known| text(known) == text(&item)) => {}
        None => {
            list.retain(|known| text(known) != text(&item));
            list.push(item);
        }
    }
}

/// Adds what a nearer table says.
fn add(values: &mut BTreeMap<Attr, Given>, said: &Said) {
    match (said.attr.merging(), &said.value.value) {
        (Merging::Nearest, Value::Text(text)) => {
            let one = Sourced { value: text.clone(), span: said.value.span.clone() };
            values.insert(said.attr, Given::Text(one));
        }
        (Merging::Nearest, value) => drop(values.insert(said.attr, Given::List(items(value)))),
        (Merging::Adding, value) => {
            let Given::List(all) = values.entry(said.attr).or_insert_with(|| Given::List(Vec::new())) else { return };
            for item in items(value) {
                add_item(all, said.attr, item, |item| &item.value);
            }
        }
        (Merging::ByName, Value::Table(entries)) => {
            let Given::Map(all) = values.entry(said.attr).or_insert_with(|| Given::Map(BTreeMap::new())) else {
                return;
            };
            for (name, _, node) in entries {
                if let Value::Text(text) = &node.value {
                    all.insert(name.clone(), Sourced { value: text.clone(), span: node.span.clone() });
                }
            }
        }
        (Merging::ByName, _) => {}
    }
}
