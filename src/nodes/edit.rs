//! Changes of `nodes.toml` in place: comments, order and layout of the rest stay as they are.
//!
//! Where a change is written: in the table of the group that is named, in the table whose nodes are just the named ones, or that
//! of the single node; else in a new table of the set. Whatever is nearer to a node and says something else is changed with it.

use std::collections::BTreeSet;

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use super::file::Nodes;
use super::file::effective::WITHOUT;
use super::file::own::names;
use super::model::{Attr, Merging};
use super::set::NodeSet;
use crate::recipe::{Change, Edit};
use crate::source::nearest;

#[derive(Debug, Clone)]
pub enum Target {
    Group(String),
    Nodes(NodeSet),
}

/// The text of a file with changes.
/// Errors: Why one cannot be made.
pub fn changed(nodes: &Nodes, target: &Target, edits: &[Edit]) -> Result<String, String> {
    let mut document: DocumentMut = nodes.file.text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    for edit in edits {
        match target {
            Target::Group(name) => in_group(&mut document, nodes, name, edit)?,
            Target::Nodes(set) => in_nodes(&mut document, nodes, set, edit)?,
        }
    }
    Ok(document.to_string())
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

fn value(attr: Attr, text: &str) -> Result<Value, String> {
    if !attr.is_list() {
        return Ok(Value::from(text));
    }
    let key = attr.name();
    let list = text.trim().parse::<Value>().ok().filter(Value::is_array);
    list.ok_or_else(|| format!("`{key}` is a list: write '{key}=[\"{text}\"]', or '{key}+={text}' to add an item"))
}

fn table_of<'a>(document: &'a mut DocumentMut, kind: &str, name: &str) -> Result<&'a mut dyn TableLike, String> {
    let root = document.as_table_mut();
    if !root.contains_key(kind) {
        let mut new = Table::new();
        new.set_implicit(true);
        root.insert(kind, Item::Table(new));
    }
    let all = root.get_mut(kind).and_then(Item::as_table_like_mut);
    let all = all.ok_or_else(|| format!("`{kind}` is not a table"))?;
    if !all.contains_key(name) {
        all.insert(name, Item::Table(Table::new()));
    }
    let found = all.get_mut(name).and_then(Item::as_table_like_mut);
    found.ok_or_else(|| format!("`{kind}.{name}` is not a table; change it by hand"))
}

/// Makes one change in a table; whether it had what is taken out.
fn apply(table: &mut dyn TableLike, attr: Attr, inner: Option<&str>, change: &Change) -> Result<bool, String> {
    let key = attr.name();
    let (table, key): (&mut dyn TableLike, &str) = match inner {
        None => (table, key),
        Some(inner) => {
            if !table.contains_key(key) {
                if matches!(change, Change::Unset) {
                    return Ok(false);
                }
                table.insert(key, Item::Value(Value::InlineTable(toml_edit::InlineTable::new())));
            }
            let found = table.get_mut(key).and_then(Item::as_table_like_mut);
            (found.ok_or_else(|| format!("`{key}` is not a table; change it by hand"))?, inner)
        }
    };
    match change {
        Change::Set(text) => {
            let mut new = if inner.is_some() { Value::from(text.as_str()) } else { value(attr, text)? };
            match table.get_mut(key) {
                Some(Item::Value(old)) => {
                    *new.decor_mut() = old.decor().clone();
                    *old = new;
                }
                _ => drop(table.insert(key, Item::Value(new))),
            }
            Ok(true)
        }
        Change::Unset => Ok(table.remove(key).is_some()),
        Change::Append(text) => {
            if !attr.is_list() {
                return Err(format!("`{key}` is not a list: write {key}={text}"));
            }
            if !table.contains_key(key) {
                table.insert(key, Item::Value(Value::Array(Array::new())));
            }
            let list = table.get_mut(key).and_then(Item::as_array_mut);
            let list = list.ok_or_else(|| format!("`{key}` is not a list; change it by hand"))?;
            if !list.iter().any(|one| one.as_str() == Some(text)) {
                list.push(text.as_str());
            }
            Ok(true)
        }
        Change::Take(text) => {
            let Some(list) = table.get_mut(key).and_then(Item::as_array_mut) else { return Ok(false) };
            let before = list.len();
            list.retain(|one| one.as_str() != Some(text));
            let (is_changed, is_empty) = (list.len() != before, list.is_empty());
            if is_empty {
                table.remove(key);
            }
            Ok(is_changed)
        }
    }
}

fn in_group(document: &mut DocumentMut, nodes: &Nodes, name: &str, edit: &Edit) -> Result<(), String> {
    let group = nodes.groups().iter().find(|group| group.name == name);
    let group = group.ok_or_else(|| format!("there is no group `{name}`"))?;
    if edit.path.keys().as_deref() == Some(&["nodes"]) {
        return members(document, nodes, name, &group.nodes, &edit.change);
    }
    if edit.path.keys().as_deref() == Some(&["priority"]) {
        let table = table_of(document, "group", name)?;
        match &edit.change {
            Change::Set(text) => {
                let number: i64 = text.parse().map_err(|_| format!("`priority` is a whole number, not `{text}`"))?;
                table.insert("priority", Item::Value(Value::from(number)));
            }
            Change::Unset => drop(table.remove("priority")),
            _ => return Err("`priority` is not a list".to_owned()),
        }
        return Ok(());
    }
    let (attr, inner) = key_of(edit)?;
    if attr.is_own() {
        return Err(format!("each node has its own `{}`: a group cannot have one", attr.name()));
    }
    let table = table_of(document, "group", name)?;
    let done = apply(table, attr, inner, &edit.change)?;
    match (&edit.change, done) {
        (Change::Take(text), false) if attr.merging() == Merging::Adding => {
            apply(table, attr, inner, &Change::Append(format!("{WITHOUT}{text}"))).map(drop)
        }
        (Change::Take(text), false) => Err(format!("`{}` of the group has no `{text}`", attr.name())),
        (Change::Unset, false) => Err(format!("the group does not say `{}`", edit.path.plain())),
        _ => Ok(()),
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

fn in_nodes(document: &mut DocumentMut, nodes: &Nodes, set: &NodeSet, edit: &Edit) -> Result<(), String> {
    let (attr, inner) = key_of(edit)?;
    let tables = known(document, attr, inner);
    let is_inside = |table: &Known| table.nodes.minus(set).is_empty();
    // Tables of these nodes alone that say something already.
    let saying: BTreeSet<String> =
        tables.iter().filter(|one| one.says && is_inside(one)).map(|one| one.key.clone()).collect();
    match &edit.change {
        Change::Unset | Change::Take(_) => {
            let mut done = false;
            for key in &saying {
                done |= apply(table_of(document, "node", key)?, attr, inner, &edit.change)?;
            }
            if let (Change::Take(text), Merging::Adding) = (&edit.change, attr.merging()) {
                // What they inherit is taken out by a word of its own.
                let has = |name: &&str| {
                    let still = nodes.get(name).is_some_and(|node| node.list(attr).contains(&text.as_str()));
                    let own = tables.iter().any(|one| saying.contains(&one.key) && one.nodes.contains(name));
                    still && !(own && done)
                };
                let inheriting = NodeSet::of(set.iter().filter(has));
                if !inheriting.is_empty() {
                    let key = place_of(&tables, &inheriting);
                    let without = Change::Append(format!("{WITHOUT}{text}"));
                    return apply(table_of(document, "node", &key)?, attr, inner, &without).map(drop);
                }
            }
            if done {
                return Ok(());
            }
            let from = set.iter().next().and_then(|name| nodes.get(name));
            let from = from.as_ref().and_then(|node| node.span(attr));
            Err(match from {
                Some(span) => format!(
                    "`{}` of these nodes is inherited: it is written at {}:{}",
                    edit.path.plain(),
                    span.file.name,
                    span.line()
                ),
                None => format!("these nodes do not say `{}`", edit.path.plain()),
            })
        }
        Change::Append(_) if attr.merging() != Merging::Adding && attr.is_list() && saying.is_empty() => {
            Err(format!("`{0}` is inherited whole or not at all: write all of it, '{0}=[...]'", attr.name()))
        }
        Change::Append(_) => {
            let key = place_of(&tables, set);
            apply(table_of(document, "node", &key)?, attr, inner, &edit.change).map(drop)
        }
        Change::Set(_) => {
            let mut left = set.clone();
            for key in &saying {
                let table = tables.iter().find(|one| &one.key == key);
                if attr.is_own() && table.is_some_and(|table| table.nodes != *set) {
                    // Each has its own: one value for all of them is that of the set.
                    apply(table_of(document, "node", key)?, attr, inner, &Change::Unset)?;
                    continue;
                }
                apply(table_of(document, "node", key)?, attr, inner, &edit.change)?;
                if let Some(table) = table {
                    left = left.minus(&table.nodes);
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            // A table of more nodes that says something else: only what is said of each node alone is nearer.
            let is_contested = tables.iter().any(|one| one.says && !is_inside(one) && !one.nodes.and(&left).is_empty());
            if is_contested && !attr.is_own() {
                for name in left.iter() {
                    apply(table_of(document, "node", name)?, attr, inner, &edit.change)?;
                }
                return Ok(());
            }
            let key = place_of(&tables, &left);
            apply(table_of(document, "node", &key)?, attr, inner, &edit.change).map(drop)
        }
    }
}

/// The key of the table that is for just these nodes, or of a new one.
fn place_of(tables: &[Known], set: &NodeSet) -> String {
    let same = tables.iter().find(|one| &one.nodes == set);
    same.map_or_else(|| set.folded(), |one| one.key.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::SourceFile;

    const TEXT: &str = "# Ours.\n[group.compute]\nnodes = \"cn[1-4]\"   # all\nimage = \"a\"  # tested\n\n[node.\"cn[1-4]\"]\nkernel_args = [\"quiet\"]\n\n[node.cn1]  # the first\nmac = \"52:54:00:00:00:01\"\nimage = \"b\"\n";

    fn nodes() -> Nodes {
        Nodes::of_file(&SourceFile::new("nodes.toml", "/nodes.toml", TEXT)).unwrap()
    }

    fn edited(range: &str, edits: &[&str], unset: &[&str]) -> Result<String, String> {
        let nodes = nodes();
        let target = match range.strip_prefix('@') {
            Some(group) => Target::Group(group.to_owned()),
            None => Target::Nodes(nodes.select(range).unwrap()),
        };
        let mut all: Vec<Edit> = edits.iter().map(|text| Edit::parse(text).unwrap()).collect();
        let path = |text: &&str| crate::recipe::FieldPath::parse(text).unwrap();
        all.extend(unset.iter().map(|text| Edit { path: path(text), change: Change::Unset }));
        let text = changed(&nodes, &target, &all)?;
        // What was written is good, and comments are still there.
        Nodes::of_file(&SourceFile::new("nodes.toml", "/nodes.toml", text.as_str()))
            .map_err(|found| format!("{found:?}\n{text}"))?;
        for comment in ["# Ours.", "# all", "# the first"] {
            assert!(text.contains(comment), "{text}");
        }
        Ok(text)
    }

    #[test]
    fn a_change_is_written_where_it_is_said_and_counts_for_all_of_the_range() {
        assert_eq!(edited("@compute", &["image=c"], &[]).unwrap(), TEXT.replace("\"a\"", "\"c\""));
        // cn1 has its own, the others get a table.
        let text = edited("cn[1-2]", &["image=c"], &[]).unwrap();
        assert_eq!(text, format!("{}\n[node.cn2]\nimage = \"c\"\n", TEXT.replace("\"b\"", "\"c\"")));
        let text =
            edited("cn[1-4]", &["kernel_args+=nosmt", "kernel_args-=quiet", "console=[\"ttyS0\"]"], &[]).unwrap();
        assert_eq!(text, TEXT.replace("[\"quiet\"]", "[\"nosmt\"]\nconsole = [\"ttyS0\"]"), "{text}");
        // Some of a table: what they inherit is taken out by a word.
        let text = edited("cn[2-3]", &["kernel_args-=quiet", "variables.rack=r1"], &[]).unwrap();
        assert!(
            text.ends_with("\n[node.\"cn[2-3]\"]\nkernel_args = [\"~quiet\"]\nvariables = { rack = \"r1\" }\n"),
            "{text}"
        );
        let text = edited("cn[2-3]", &["ip=10.0.0.[2-3]"], &[]).unwrap();
        assert!(text.ends_with("\n[node.\"cn[2-3]\"]\nip = \"10.0.0.[2-3]\"\n"), "{text}");
        assert_eq!(edited("cn1", &[], &["image"]).unwrap(), TEXT.replace("image = \"b\"\n", ""));
        assert_eq!(
            edited("@compute", &["nodes-=cn4", "priority=3"], &[]).unwrap(),
            TEXT.replace("cn[1-4]\"   # all\n", "cn[1-3]\"   # all\n")
                .replace("# tested\n", "# tested\npriority = 3\n")
        );
    }

    #[test]
    fn what_cannot_be_changed_is_refused() {
        for (range, edit, said) in [
            ("cn1", "imag=x", "`imag` is not a key of a node; did you mean `image`?"),
            (
                "cn1",
                "kernel_args=x",
                "`kernel_args` is a list: write 'kernel_args=[\"x\"]', or 'kernel_args+=x' to add an item",
            ),
            ("cn1", "image+=x", "`image` is not a list: write image=x"),
            ("@compute", "mac=x", "each node has its own `mac`: a group cannot have one"),
            ("cn1", "variables=x", "name the variable: variables.NAME=VALUE"),
            ("cn1", "image.x=y", "`image` is not a table: it has no `x`"),
            ("@compute", "nodes+=cn9", "there is no node `cn9` in nodes.toml"),
        ] {
            assert_eq!(edited(range, &[edit], &[]).unwrap_err(), said, "{range} {edit}");
        }
        let said = edited("cn2", &[], &["image"]).unwrap_err();
        assert_eq!(said, "`image` of these nodes is inherited: it is written at nodes.toml:4");
    }
}
