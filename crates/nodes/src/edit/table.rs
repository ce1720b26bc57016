//! One change in one table of `nodes.toml`.

use toml_edit::{Array, DocumentMut, Item, Table, TableLike, Value};

use crate::model::{Attr, Merging};
use recipe::Change;

pub(super) fn value(attr: Attr, text: &str) -> Result<Value, String> {
    if !attr.is_list() {
        return Ok(Value::from(text));
    }
    let key = attr.name();
    let list = text.trim().parse::<Value>().ok().filter(Value::is_array);
    list.ok_or_else(|| format!("`{key}` is a list: write '{key}=[\"{text}\"]', or '{key}+={text}' to add an item"))
}

pub(super) fn table_of<'a>(
    document: &'a mut DocumentMut,
    kind: &str,
    name: &str,
) -> Result<&'a mut dyn TableLike, String> {
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
pub(super) fn apply(
    table: &mut dyn TableLike,
    attr: Attr,
    inner: Option<&str>,
    change: &Change,
) -> Result<bool, String> {
    let key = attr.name();
    let (table, key): (&mut dyn TableLike, &str) = match inner {
        None => (table, key),
        Some(inner) => {
            if !table.contains_key(key) {
                if !matches!(change, Change::Set(_)) {
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
            // An empty list that is inherited whole says something: nothing is inherited.
            if is_changed && is_empty && attr.merging() == Merging::Adding {
                table.remove(key);
            }
            Ok(is_changed)
        }
    }
}
