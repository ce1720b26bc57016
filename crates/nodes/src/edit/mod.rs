//! Changes of `nodes.toml` in place: comments, order and layout of the rest stay as they are.
//!
//! Where a change is written: in the table of the group that is named, in the table whose nodes are just the named ones, or that
//! of the single node; else in a new table of the set. Then the file is read again: a node that a nearer table gives something
//! else gets it in a table of its own.

mod goal;
mod table;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use toml_edit::{DocumentMut, Item, Value};

use self::goal::{Goal, contrary, plain};
use self::table::{apply, table_of};
use super::file::Nodes;
use super::file::own::names;
use super::model::{Attr, Merging};
use super::set::NodeSet;
use base::source::{SourceFile, nearest};
use recipe::{Change, Edit};

#[derive(Debug, Clone)]
pub enum Target {
    Group(String),
    Nodes(NodeSet),
}

/// A text with changes.
#[derive(Debug)]
pub struct Changed {
    pub text: String,
    /// Nodes of a group for which a nearer table counts.
    pub notes: Vec<String>,
    /// The nodes of the text, where there was a change.
    pub after: Option<Nodes>,
}

/// The text of a file with changes.
/// Errors: Why one cannot be made.
pub fn changed(nodes: &Nodes, target: &Target, edits: &[Edit]) -> Result<Changed, String> {
    let document = nodes.file.text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    let mut draft = Draft { document, notes: Vec::new() };
    let mut so_far: Option<Nodes> = None;
    for edit in edits {
        let before = so_far.as_ref().unwrap_or(nodes);
        let after = match target {
            Target::Group(name) => draft.in_group(before, name, edit)?,
            Target::Nodes(set) => draft.in_nodes(before, set, edit)?,
        };
        so_far = Some(after);
    }
    Ok(Changed { text: draft.document.to_string(), notes: draft.notes, after: so_far })
}

struct Draft {
    document: DocumentMut,
    notes: Vec<String>,
}

impl Draft {
    /// What the file says as it is now.
    fn read(&self, before: &Nodes) -> Result<Nodes, String> {
        let file = &before.file;
        Nodes::between_changes(&SourceFile::new(file.name.as_str(), &file.path, self.document.to_string()))
    }

    fn apply(&mut self, key: &str, what: &What, change: &Change) -> Result<bool, String> {
        apply(table_of(&mut self.document, "node", key)?, what.attr, what.inner, change)
    }

    fn in_group(&mut self, before: &Nodes, name: &str, edit: &Edit) -> Result<Nodes, String> {
        let group = before.groups().iter().find(|group| group.name == name);
        let group = group.ok_or_else(|| format!("there is no group `{name}`"))?;
        if edit.path.keys().as_deref() == Some(&["nodes"]) {
            members(&mut self.document, before, name, &group.nodes, &edit.change)?;
            return self.read(before);
        }
        if edit.path.keys().as_deref() == Some(&["priority"]) {
            let table = table_of(&mut self.document, "group", name)?;
            match &edit.change {
                Change::Set(text) => {
                    let number: i64 =
                        text.parse().map_err(|_| format!("`priority` is a whole number, not `{text}`"))?;
                    table.insert("priority", Item::Value(Value::from(number)));
                }
                Change::Unset => drop(table.remove("priority")),
                _ => return Err("`priority` is not a list".to_owned()),
            }
            return self.read(before);
        }
        let (attr, inner) = key_of(edit)?;
        if attr.is_own() {
            return Err(format!("each node has its own `{}`: a group cannot have one", attr.name()));
        }
        let set = &group.nodes;
        let goal = Goal::of(before, set, attr, inner, &edit.change)?;
        let is_adding = attr.merging() == Merging::Adding;
        let table = table_of(&mut self.document, "group", name)?;
        if let (Change::Append(item), true) = (&edit.change, is_adding) {
            apply(table, attr, inner, &Change::Take(contrary(item)))?;
        }
        let done = apply(table, attr, inner, &edit.change)?;
        let mut after = self.read(before)?;
        let mut missed = goal.missed(&after, set, attr);
        match &edit.change {
            Change::Take(item) if is_adding && !plain(item).1 => {
                if !missed.is_empty() {
                    // Farther tables have it: the group takes it out, where that changes something.
                    let kept = self.document.clone();
                    let table = table_of(&mut self.document, "group", name)?;
                    apply(table, attr, inner, &Change::Append(contrary(item)))?;
                    let then = self.read(before)?;
                    let still = goal.missed(&then, set, attr);
                    if still.len() < missed.len() {
                        (after, missed) = (then, still);
                    } else {
                        self.document = kept;
                        if !done {
                            let place = missed.iter().next().and_then(|name| goal.in_the_way(&after, name, attr));
                            let place = place.map_or_else(String::new, |place| format!(" (see {place})"));
                            return Err(format!(
                                "`{item}` in `{}` is not the group's: its nodes have it{place}",
                                attr.name()
                            ));
                        }
                    }
                } else if !done {
                    return Err(format!("no node of the group has `{item}` in `{}`", attr.name()));
                }
            }
            Change::Take(item) if !done => return Err(format!("`{}` of the group has no `{item}`", attr.name())),
            Change::Unset if !done => return Err(format!("the group does not say `{}`", edit.path.plain())),
            _ => {}
        }
        if let Some(name) = missed.iter().next() {
            let place = goal.in_the_way(&after, name, attr).unwrap_or_else(|| after.file.name.clone());
            let verb = if missed.len() == 1 { "does" } else { "do" };
            self.notes.push(format!("{missed} {verb} not follow in `{}`: {place} counts more", edit.path.plain()));
        }
        Ok(after)
    }

    fn in_nodes(&mut self, before: &Nodes, set: &NodeSet, edit: &Edit) -> Result<Nodes, String> {
        let (attr, inner) = key_of(edit)?;
        let what = What { attr, inner };
        let tables = known(&self.document, attr, inner);
        // Tables of these nodes alone that say something already.
        let saying: Vec<&Known> = tables.iter().filter(|one| one.says && one.nodes.minus(set).is_empty()).collect();
        if matches!(edit.change, Change::Append(_) | Change::Take(_)) {
            listed(before, set, &saying, edit)?;
        }
        let goal = Goal::of(before, set, attr, inner, &edit.change)?;
        let is_adding = attr.merging() == Merging::Adding;
        let mut done = true;
        match &edit.change {
            Change::Unset | Change::Take(_) => {
                done = false;
                for table in &saying {
                    done |= self.apply(&table.key, &what, &edit.change)?;
                }
            }
            Change::Append(item) if is_adding => {
                let mut has_contrary = false;
                for table in &saying {
                    has_contrary |= self.apply(&table.key, &what, &Change::Take(contrary(item)))?;
                }
                // Where they have it again without what took it out, that is all.
                if !has_contrary || !goal.missed(&self.read(before)?, set, attr).is_empty() {
                    self.apply(&place_of(&tables, set), &what, &edit.change)?;
                }
            }
            Change::Append(_) => {
                for table in saying.iter().filter(|table| !attr.is_own() || table.nodes == *set) {
                    self.apply(&table.key, &what, &edit.change)?;
                }
            }
            Change::Set(_) => self.set(&tables, &saying, set, &what, &edit.change)?,
        }
        let mut after = self.read(before)?;
        let mut missed = goal.missed(&after, set, attr);
        if fault::planted("edit-effect-unread") {
            missed = NodeSet::default();
        }
        // What they inherit is taken out by a word, in the table that is for just these.
        if let (Change::Take(item), true, false) = (&edit.change, is_adding, missed.is_empty()) {
            let kept = self.document.clone();
            self.apply(&place_of(&tables, &missed), &what, &Change::Append(contrary(item)))?;
            let then = self.read(before)?;
            let still = goal.missed(&then, set, attr);
            if still.is_empty() {
                (after, missed) = (then, still)
            } else {
                self.document = kept
            }
            done = true;
        }
        if !missed.is_empty() {
            done = true;
            let alone: HashMap<&str, &str> =
                tables.iter().filter_map(|one| Some((one.alone()?, one.key.as_str()))).collect();
            for name in missed.iter() {
                let key = alone.get(name).copied().unwrap_or(name);
                goal.say(table_of(&mut self.document, "node", key)?, name, attr)?;
            }
            after = self.read(before)?;
            missed = goal.missed(&after, set, attr);
        }
        if let Some(name) = missed.iter().next() {
            let place = goal.in_the_way(&after, name, attr).unwrap_or_else(|| after.file.name.clone());
            return Err(format!(
                "`{}` of `{name}` stays as it is: {place} says it; change that by hand",
                edit.path.plain()
            ));
        }
        if done { Ok(after) } else { Err(not_there(before, set, attr, edit)) }
    }

    fn set(
        &mut self,
        tables: &[Known],
        saying: &[&Known],
        set: &NodeSet,
        what: &What,
        change: &Change,
    ) -> Result<(), String> {
        let mut left = set.clone();
        for table in saying {
            if what.attr.is_own() && table.nodes != *set {
                // Each has its own: one value for all of them is that of the set.
                self.apply(&table.key, what, &Change::Unset)?;
                continue;
            }
            self.apply(&table.key, what, change)?;
            left.take_out(&table.nodes);
        }
        // A table of more nodes that says something else: only what is said of each node alone is nearer.
        let is_contested =
            |one: &Known| one.says && !one.nodes.and(&left).is_empty() && !one.nodes.minus(set).is_empty();
        if left.is_empty() || what.attr.merging() == Merging::Nearest && tables.iter().any(is_contested) {
            return Ok(());
        }
        self.apply(&place_of(tables, &left), what, change).map(drop)
    }
}

/// The key of a change, and the name in it.
struct What<'a> {
    attr: Attr,
    inner: Option<&'a str>,
}

/// Refuses items for what is not a list, and for a list that these nodes inherit: it is inherited whole or not at all.
fn listed(nodes: &Nodes, set: &NodeSet, saying: &[&Known], edit: &Edit) -> Result<(), String> {
    let (attr, _) = key_of(edit)?;
    let (path, is_more) = (edit.path.plain(), matches!(edit.change, Change::Append(_)));
    let (Change::Append(text) | Change::Take(text)) = &edit.change else { return Ok(()) };
    if !attr.is_list() {
        let remedy = if is_more { format!("write {path}={text}") } else { format!("write --unset {path}") };
        return Err(format!("`{path}` is not a list: {remedy}"));
    }
    if attr.merging() == Merging::Adding || fault::planted("edit-list-of-others") {
        return Ok(());
    }
    let mut others = set.clone();
    saying.iter().for_each(|table| others.take_out(&table.nodes));
    let Some(name) = others.iter().find(|name| {
        is_more || nodes.get(name).is_some_and(|node| attr.is_own() || node.list(attr).contains(&text.as_str()))
    }) else {
        return Ok(());
    };
    let place = nodes.get(name).and_then(|node| node.span(attr).cloned());
    let place =
        place.map_or_else(String::new, |span| format!(" (`{name}` has that of {}:{})", span.file.name, span.line()));
    Err(format!("`{path}` is inherited whole or not at all{place}: write all of it, '{path}=[...]'"))
}

/// Why nothing was taken out.
fn not_there(nodes: &Nodes, set: &NodeSet, attr: Attr, edit: &Edit) -> String {
    if let Change::Take(item) = &edit.change {
        return format!("none of these nodes has `{item}` in `{}`", edit.path.plain());
    }
    let first = set.iter().next().and_then(|name| nodes.get(name));
    match first.as_ref().and_then(|node| node.span(attr)) {
        Some(span) => format!(
            "`{}` of these nodes is inherited: it is written at {}:{}",
            edit.path.plain(),
            span.file.name,
            span.line()
        ),
        None => format!("these nodes do not say `{}`", edit.path.plain()),
    }
}

/// The key of a change, and the name in it where it is a table.
fn key_of(edit: &Edit) -> Result<(Attr, Option<&str>), String> {
    let keys = edit.path.keys().ok_or("an item of a list has no path of its own: use += and -=")?;
    let (key, inner) = match keys.as_slice() {
        [key] => (*key, None),
        [key, inner] => (*key, Some(*inner)),
        _ => return Err(format!("`{}` is not a key of a node", edit.path.plain())),
    };
    let Some(attr) = Attr::named(key) else {
        let near = nearest(key, Attr::ALL.map(Attr::name)).first().map(|near| format!("; did you mean `{near}`?"));
        let known = Attr::ALL.map(Attr::name).join(", ");
        return Err(format!("`{key}` is not a key of a node{}", near.unwrap_or_else(|| format!(": keys are {known}"))));
    };
    match (attr == Attr::Variables, inner) {
        (true, None) => Err("name the variable: variables.NAME=VALUE".to_owned()),
        (false, Some(inner)) => Err(format!("`{}` is not a table: it has no `{inner}`", attr.name())),
        _ => Ok((attr, inner)),
    }
}

fn members(
    document: &mut DocumentMut,
    nodes: &Nodes,
    name: &str,
    now: &NodeSet,
    change: &Change,
) -> Result<(), String> {
    let of = |text: &str| {
        nodes.select(text).map_err(|findings| findings.first().map(|one| one.message.clone()).unwrap_or_default())
    };
    let after = match change {
        Change::Set(text) => {
            of(text)?;
            text.clone()
        }
        Change::Append(text) => {
            let mut after = now.clone();
            after.extend(&of(text)?);
            after.folded()
        }
        Change::Take(text) => now.minus(&of(text)?).folded(),
        Change::Unset => return Err("a group has nodes: `nodes-=` takes some out".to_owned()),
    };
    let table = table_of(document, "group", name)?;
    let mut new = Value::from(after);
    if let Some(Item::Value(old)) = table.get("nodes") {
        *new.decor_mut() = old.decor().clone();
    }
    table.insert("nodes", Item::Value(new));
    Ok(())
}

struct Known {
    key: String,
    nodes: NodeSet,
    says: bool,
}

impl Known {
    /// The node of a table that has just one.
    fn alone(&self) -> Option<&str> {
        self.nodes.iter().next().filter(|_| self.nodes.len() == 1)
    }
}

fn known(document: &DocumentMut, attr: Attr, inner: Option<&str>) -> Vec<Known> {
    let tables = document.get("node").and_then(Item::as_table_like);
    let all = tables.into_iter().flat_map(|tables| tables.iter());
    all.filter_map(|(key, item)| {
        let table = item.as_table_like()?;
        let says = match (table.get(attr.name()), inner) {
            (Some(found), Some(inner)) => found.as_table_like().is_some_and(|table| table.contains_key(inner)),
            (found, None) => found.is_some(),
            (None, Some(_)) => false,
        };
        Some(Known { key: key.to_owned(), nodes: NodeSet::of(names(key).ok()?), says })
    })
    .collect()
}

/// The key of the table that is for just these nodes, or of a new one.
fn place_of(tables: &[Known], set: &NodeSet) -> String {
    let same = tables.iter().find(|one| &one.nodes == set);
    same.map_or_else(|| set.folded(), |one| one.key.clone())
}
