//! What a node has by its groups as its own tool counts them, said so that it has the same by `nodes.toml`.

use std::collections::BTreeSet;

use super::{ALL, ImportedNodes, Order, Said, Values};
use nodes::Attr;
use nodes::file::effective::{WITHOUT, add_item};
use nodes::model::Merging;

/// The items of a list of a table.
fn items(values: &Values, attr: Attr) -> &[String] {
    match values.get(&attr) {
        Some(Said::List(items)) => items,
        _ => &[],
    }
}

/// A list with what a nearer table says.
fn with(mut list: Vec<String>, attr: Attr, more: &[String]) -> Vec<String> {
    more.iter().for_each(|item| add_item(&mut list, attr, item.clone(), |item| item.as_str()));
    list
}

/// What a node says for itself so that it has `wanted` where its groups and the defaults give it `given`.
fn own_list(attr: Attr, given: &[String], wanted: &[String]) -> Vec<String> {
    let gone = given.iter().filter(|item| !wanted.contains(item)).map(|item| format!("{WITHOUT}{item}"));
    let more = wanted.iter().filter(|item| !given.contains(item)).cloned();
    let short: Vec<String> = gone.chain(more).collect();
    if with(given.to_vec(), attr, &short) == wanted {
        return short;
    }
    // In another order: all of it.
    let gone = given.iter().map(|item| format!("{WITHOUT}{item}"));
    gone.chain(wanted.iter().cloned()).collect()
}

impl ImportedNodes {
    /// Gives each node what its groups do not give it by themselves, and takes out what they do.
    pub(super) fn finish(&mut self) {
        if self.order == Order::First {
            // The first place of a group counts.
            for (_, groups) in self.nodes.values_mut() {
                let mut seen = BTreeSet::new();
                let is_new: Vec<bool> = groups.iter().map(|group| seen.insert(group)).collect();
                let mut is_new = is_new.into_iter();
                groups.retain(|_| is_new.next().unwrap_or_default());
            }
        }
        // Rows of a node that were read before nodelist named it.
        let misplaced: Vec<String> = self
            .groups
            .keys()
            .filter(|name| self.nodes.contains_key(&nodes::set::Name((*name).clone())))
            .cloned()
            .collect();
        let named: BTreeSet<&String> = match misplaced.is_empty() {
            true => BTreeSet::new(),
            false => self.nodes.values().flat_map(|(_, groups)| groups).collect(),
        };
        let misplaced: Vec<String> = misplaced.into_iter().filter(|name| !named.contains(name)).collect();
        for name in misplaced {
            if let Some(values) = self.groups.remove(&name)
                && let Some((own, _)) = self.nodes.get_mut(&nodes::set::Name(name))
            {
                for (attr, said) in values {
                    own.entry(attr).or_insert(said);
                }
            }
        }
        for (_, groups) in self.nodes.values() {
            for group in groups.iter().filter(|group| *group != ALL) {
                self.groups.entry(group.clone()).or_default();
            }
        }
        let Self { nodes, groups: all_groups, all, defaults, order, .. } = self;
        // What nodes.toml says of all nodes: what counts for each of them, and what of it is xCAT's group.
        let mut of_all = defaults.clone();
        for (attr, said) in all.iter() {
            match (attr.merging(), said) {
                (Merging::Adding, Said::List(more)) => {
                    of_all.insert(*attr, Said::List(with(items(defaults, *attr).to_vec(), *attr, more)));
                }
                _ => drop(of_all.insert(*attr, said.clone())),
            }
        }
        for (values, groups) in nodes.values_mut() {
            let of_group = |name: &String| if name == ALL { Some(&*all) } else { all_groups.get(name) };
            // In the order of the tool; all nodes are in the group of all, though not all say it.
            let mut counting: Vec<&Values> = groups.iter().filter_map(of_group).collect();
            if !groups.iter().any(|group| group == ALL) {
                counting.push(all);
            }
            if *order == Order::Last {
                counting.reverse();
            }
            groups.retain(|group| group != ALL);
            // In the order of nodes.toml.
            let mut written: Vec<&String> = groups.iter().collect();
            written.sort();
            let written: Vec<&Values> = written.into_iter().filter_map(of_group).collect();
            for attr in Attr::ALL.into_iter().filter(|attr| !attr.is_own() && attr.merging() != Merging::ByName) {
                let nearest = || values.get(&attr).or_else(|| counting.iter().find_map(|group| group.get(&attr)));
                if attr.merging() == Merging::Adding {
                    let given = written
                        .iter()
                        .fold(items(&of_all, attr).to_vec(), |list, group| with(list, attr, items(group, attr)));
                    let base = items(defaults, attr).to_vec();
                    let wanted = match order {
                        Order::First => match nearest() {
                            Some(Said::List(list)) => with(base, attr, list),
                            _ => base,
                        },
                        Order::Last => {
                            // What one table takes out is in no list, wherever it stands. Source: Warewulf 4.6, cleanList.
                            let tables = counting.iter().rev().flat_map(|group| items(group, attr));
                            let all: Vec<&String> = base.iter().chain(tables).chain(items(values, attr)).collect();
                            let gone: BTreeSet<&str> =
                                all.iter().filter_map(|item| item.strip_prefix(WITHOUT)).collect();
                            let left = all
                                .into_iter()
                                .filter(|item| !item.starts_with(WITHOUT) && !gone.contains(item.as_str()));
                            with(Vec::new(), attr, &left.cloned().collect::<Vec<_>>())
                        }
                    };
                    match own_list(attr, &given, &wanted) {
                        own if own.is_empty() => drop(values.remove(&attr)),
                        own => drop(values.insert(attr, Said::List(own))),
                    }
                    continue;
                }
                let Some(wanted) = nearest().cloned() else { continue };
                let mut given: Vec<&Said> = written.iter().filter_map(|group| group.get(&attr)).collect();
                if given.is_empty() {
                    given.extend(of_all.get(&attr));
                }
                match given.is_empty() || given.iter().any(|said| **said != wanted) {
                    true => drop(values.insert(attr, wanted)),
                    false => drop(values.remove(&attr)),
                }
            }
        }
        self.defaults = of_all;
        self.all = Values::new();
        let is_name = |name: &str| {
            !name.is_empty() && name.bytes().all(|one| one.is_ascii_alphanumeric() || b"._-".contains(&one))
        };
        let odd: BTreeSet<String> = self.groups.keys().filter(|name| !is_name(name)).cloned().collect();
        self.groups.retain(|name, _| !odd.contains(name));
        if !odd.is_empty() {
            self.nodes.values_mut().for_each(|(_, groups)| groups.retain(|group| !odd.contains(group)));
        }
        for name in odd {
            let name: String = name.chars().take(80).collect();
            self.note(format!("`{name}` cannot be the name of a group, nor are nodes named by patterns: left out"));
        }
    }
}
