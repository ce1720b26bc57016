//! What a change is to bring about: the values that nodes have afterwards, all that they inherit put together.

use std::collections::BTreeMap;

use toml_edit::{Array, TableLike, Value};

use super::table::{apply, value};
use crate::file::Nodes;
use crate::file::effective::{Effective, Given, WITHOUT};
use crate::file::own::each;
use crate::model::{Attr, Merging};
use crate::set::NodeSet;
use recipe::Change;

pub(super) enum Goal {
    /// The whole value of each node.
    Values(BTreeMap<String, Vec<String>>),
    /// Items that nodes have, and those that they do not.
    Items { has: Vec<String>, lacks: Vec<String> },
    /// The variable of each node.
    Variable(String, String),
    /// Nothing beyond the change itself.
    Nothing,
}

/// An item without what takes it out, and whether that was there.
pub(super) fn plain(item: &str) -> (&str, bool) {
    item.strip_prefix(WITHOUT).map_or((item, false), |item| (item, true))
}

/// The item that says the contrary.
pub(super) fn contrary(item: &str) -> String {
    match plain(item) {
        (item, true) => item.to_owned(),
        (item, false) => format!("{WITHOUT}{item}"),
    }
}

fn of_node(node: &Effective, attr: Attr) -> Vec<String> {
    match node.values.get(&attr) {
        Some(Given::Text(text)) => vec![text.value.clone()],
        Some(Given::List(items)) => items.iter().map(|item| item.value.clone()).collect(),
        _ => Vec::new(),
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
}

impl Goal {
    /// Errors: The value cannot be one of these nodes.
    pub(super) fn of(
        nodes: &Nodes,
        set: &NodeSet,
        attr: Attr,
        inner: Option<&str>,
        change: &Change,
    ) -> Result<Self, String> {
        let spread = |text: &str| match attr.is_own() {
            true => each(attr, text, set.len()).map_err(|(message, help)| format!("{message}\n  help: {help}")),
            false => Ok(vec![text.to_owned(); set.len()]),
        };
        let now = |name: &str| nodes.get(name).map(|node| of_node(&node, attr)).unwrap_or_default();
        Ok(match (change, attr.merging()) {
            (Change::Unset, _) => Self::Nothing,
            (Change::Set(text), Merging::ByName) => Self::Variable(inner.unwrap_or_default().to_owned(), text.clone()),
            (_, Merging::ByName) => Self::Nothing,
            (Change::Set(text), Merging::Adding) => {
                let mut counting: BTreeMap<String, bool> = BTreeMap::new();
                for item in texts(&value(attr, text)?) {
                    let (item, is_out) = plain(&item);
                    counting.insert(item.to_owned(), is_out);
                }
                let (lacks, has): (Vec<_>, Vec<_>) = counting.into_iter().partition(|(_, is_out)| *is_out);
                let names = |all: Vec<(String, bool)>| all.into_iter().map(|(item, _)| item).collect();
                Self::Items { has: names(has), lacks: names(lacks) }
            }
            (Change::Take(item), Merging::Adding) if plain(item).1 => Self::Nothing,
            (Change::Take(item), Merging::Adding) => Self::Items { has: Vec::new(), lacks: vec![item.clone()] },
            (Change::Append(item), Merging::Adding) => match plain(item) {
                (item, true) => Self::Items { has: Vec::new(), lacks: vec![item.to_owned()] },
                (item, false) => Self::Items { has: vec![item.to_owned()], lacks: Vec::new() },
            },
            (Change::Set(text), Merging::Nearest) => {
                let items = if attr.is_list() { texts(&value(attr, text)?) } else { vec![text.clone()] };
                let items = items.iter().map(|item| spread(item)).collect::<Result<Vec<_>, _>>()?;
                let of = |at: usize| items.iter().filter_map(|texts| texts.get(at).cloned()).collect();
                Self::Values(set.iter().enumerate().map(|(at, name)| (name.to_owned(), of(at))).collect())
            }
            (Change::Append(text) | Change::Take(text), Merging::Nearest) => {
                let is_more = matches!(change, Change::Append(_));
                let mut values = BTreeMap::new();
                for (name, text) in set.iter().zip(spread(text)?) {
                    let mut items = now(name);
                    match is_more {
                        true if items.contains(&text) => {}
                        true => items.push(text),
                        false => items.retain(|item| *item != text),
                    }
                    values.insert(name.to_owned(), items);
                }
                Self::Values(values)
            }
        })
    }

    /// The nodes of a set for which it is not so.
    pub(super) fn missed(&self, nodes: &Nodes, set: &NodeSet, attr: Attr) -> NodeSet {
        NodeSet::of(set.iter().filter(|name| !nodes.get(name).is_some_and(|node| self.is_reached(&node, attr))))
    }

    fn is_reached(&self, node: &Effective, attr: Attr) -> bool {
        match self {
            Self::Values(values) => values.get(&node.name).is_none_or(|wanted| *wanted == of_node(node, attr)),
            Self::Items { has, lacks } => {
                let items = node.list(attr);
                has.iter().all(|one| items.contains(&one.as_str()))
                    && !lacks.iter().any(|one| items.contains(&one.as_str()))
            }
            Self::Variable(name, value) => node.variables().get(name.as_str()) == Some(&value.as_str()),
            Self::Nothing => true,
        }
    }

    /// Says it in the table of a node alone, which is the nearest.
    pub(super) fn say(&self, table: &mut dyn TableLike, name: &str, attr: Attr) -> Result<(), String> {
        let mut make = |inner: Option<&str>, change: Change| apply(table, attr, inner, &change).map(drop);
        match self {
            Self::Values(values) => {
                let wanted = values.get(name).map(Vec::as_slice).unwrap_or_default();
                let list = || wanted.iter().map(String::as_str).collect::<Array>().to_string();
                let text = if attr.is_list() { list() } else { wanted.first().cloned().unwrap_or_default() };
                make(None, Change::Set(text))
            }
            Self::Items { has, lacks } => {
                let wanted = has.iter().cloned().chain(lacks.iter().map(|item| contrary(item)));
                wanted.into_iter().try_for_each(|item| {
                    make(None, Change::Take(contrary(&item)))?;
                    make(None, Change::Append(item))
                })
            }
            Self::Variable(variable, value) => make(Some(variable), Change::Set(value.clone())),
            Self::Nothing => Ok(()),
        }
    }

    /// Where what a node has instead is written.
    pub(super) fn in_the_way(&self, nodes: &Nodes, name: &str, attr: Attr) -> Option<String> {
        let node = nodes.get(name)?;
        let span = match (self, node.values.get(&attr)) {
            (Self::Items { has, lacks }, given) => {
                let items = if let Some(Given::List(items)) = given { items.as_slice() } else { &[] };
                let there = items.iter().find(|item| lacks.contains(&item.value)).map(|item| item.span.clone());
                there.or_else(|| has.iter().find_map(|item| nodes.withdrawal(name, attr, item)))
            }
            (Self::Variable(variable, _), Some(Given::Map(all))) => all.get(variable).map(|one| one.span.clone()),
            _ => node.span(attr).cloned(),
        };
        span.map(|span| format!("{}:{}", span.file.name, span.line()))
    }
}
