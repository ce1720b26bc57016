//! Changes of a recipe's file in place: comments, order and layout of the rest stay as they are.

use toml_edit::{Array, DocumentMut, Item, RawString, Table, TableLike, Value};

use super::field::{Field, FieldPath};

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// `PATH=VALUE`
    Set(String),
    /// `PATH+=ITEM`
    Append(String),
    /// `PATH-=ITEM`
    Take(String),
    Unset,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    pub path: FieldPath,
    pub change: Change,
}

impl Edit {
    /// Reads `PATH=VALUE`, `PATH+=ITEM` or `PATH-=ITEM`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(at) = text.find('=') else {
            return Err(format!("`{text}` changes nothing: write PATH=VALUE, PATH+=ITEM or PATH-=ITEM"));
        };
        let value = unquoted(&text[at + 1..]);
        let (path, change) = match (text[..at].strip_suffix('+'), text[..at].strip_suffix('-')) {
            (Some(path), _) => (path, Change::Append(value)),
            (None, Some(path)) => (path, Change::Take(value)),
            (None, None) => (&text[..at], Change::Set(value)),
        };
        Ok(Self { path: FieldPath::parse(path.trim())?, change })
    }

    /// The TOML value that a text means for a field.
    /// Errors: What is expected instead.
    pub(crate) fn value(field: &Field, kind: &str, path: &str, text: &str) -> Result<Value, String> {
        let toml = || text.trim().parse::<Value>();
        match kind {
            "string" => Ok(Value::from(text)),
            "integer" => {
                toml().ok().filter(Value::is_integer).ok_or_else(|| format!("`{path}` is a whole number, not `{text}`"))
            }
            "boolean" => {
                toml().ok().filter(Value::is_bool).ok_or_else(|| format!("`{path}` is true or false, not `{text}`"))
            }
            "array" => toml().ok().filter(Value::is_array).ok_or_else(|| {
                format!("`{path}` is a list: write '{path}=[\"{text}\"]', or '{path}+={text}' to add an item")
            }),
            _ => Err(format!("`{path}` is a table: set the values in it one by one ({})", field.description)),
        }
    }
}

/// What a text in quotes holds, as people write it who know the file: `kernel.version="5.14"` in a shell's own quotes.
fn unquoted(text: &str) -> String {
    let is_quoted = text.trim().starts_with(['"', '\'']);
    let inner = is_quoted.then(|| text.trim().parse::<Value>().ok()?.as_str().map(str::to_owned)).flatten();
    inner.unwrap_or_else(|| text.to_owned())
}

/// A table below others, made where it is missing.
fn table_at<'a>(root: &'a mut Table, keys: &[&str]) -> Result<&'a mut dyn TableLike, String> {
    let mut table: &mut dyn TableLike = root;
    for (depth, key) in keys.iter().enumerate() {
        if !table.contains_key(key) {
            let mut new = Table::new();
            // Only the last one gets a header of its own.
            new.set_implicit(depth + 1 < keys.len());
            table.insert(key, Item::Table(new));
        }
        let found = table.get_mut(key).and_then(Item::as_table_like_mut);
        table = found.ok_or_else(|| {
            format!("`{}` is not a table that can be edited; change it by hand", keys[..=depth].join("."))
        })?;
    }
    Ok(table)
}

/// The value at a path of a document, if it stands in this very file.
pub(crate) fn found<'a>(root: &'a Table, keys: &[&str]) -> Option<&'a Item> {
    let (last, tables) = keys.split_last()?;
    let mut table: &dyn TableLike = root;
    for key in tables {
        table = table.get(key)?.as_table_like()?;
    }
    table.get(last)
}

pub(crate) fn holds(root: &Table, keys: &[&str], item: &str) -> bool {
    let list = found(root, keys).and_then(Item::as_array);
    list.is_some_and(|list| list.iter().any(|one| one.as_str() == Some(item)))
}

/// Makes one change below `prefix`, the keys of the table that stands for the recipe.
pub(crate) fn apply(document: &mut DocumentMut, prefix: &[&str], edit: &Edit) -> Result<(), String> {
    let field = edit.path.field()?;
    let own = edit.path.keys().ok_or("a list item has no path of its own: use += and -=")?;
    let shown = edit.path.plain();
    let keys = [prefix, &own].concat();
    let (last, tables) = keys.split_last().ok_or("an empty path")?;
    match &edit.change {
        Change::Set(text) => {
            let mut value = Edit::value(&field, &field.kind, &shown, text)?;
            let table = table_at(document.as_table_mut(), tables)?;
            match table.get_mut(last) {
                Some(Item::Value(old)) => {
                    *value.decor_mut() = old.decor().clone();
                    *old = value;
                }
                Some(_) => return Err(format!("`{shown}` is written as tables; change it by hand")),
                None => drop(table.insert(last, Item::Value(value))),
            }
        }
        Change::Append(text) => {
            let Some(kind) = &field.item else { return Err(format!("`{shown}` is not a list: write {shown}={text}")) };
            let value = Edit::value(&field, kind, &shown, text)?;
            if holds(document.as_table(), &keys, text) {
                return Err(format!("`{shown}` already has `{text}`"));
            }
            let table = table_at(document.as_table_mut(), tables)?;
            if !table.contains_key(last) {
                table.insert(last, Item::Value(Value::Array(Array::new())));
            }
            let list = table.get_mut(last).and_then(Item::as_array_mut);
            push(list.ok_or_else(|| format!("`{shown}` is written as tables; change it by hand"))?, value);
        }
        Change::Take(text) => {
            let table = table_at(document.as_table_mut(), tables)?;
            let list = table.get_mut(last).and_then(Item::as_array_mut);
            let list = list.ok_or_else(|| format!("`{shown}` has no `{text}` in this file"))?;
            let at = list.iter().position(|one| one.as_str() == Some(text.as_str()));
            take(list, at.ok_or_else(|| format!("`{shown}` has no `{text}` in this file"))?);
        }
        Change::Unset => {
            let table = table_at(document.as_table_mut(), tables)?;
            table.remove(last).ok_or_else(|| format!("`{shown}` is not set in this file"))?;
        }
    }
    Ok(())
}

/// Adds to `[remove]` an item of a list, or the whole key.
pub(crate) fn put_removal(document: &mut DocumentMut, keys: &[&str], item: Option<&str>) -> Result<(), String> {
    let (last, tables) = keys.split_last().ok_or("an empty path")?;
    // One [remove] with dotted keys reads better than a header for each table.
    let at = tables.iter().position(|key| *key == "remove").map_or(tables.len(), |at| at + 1);
    let mut table = table_at(document.as_table_mut(), &tables[..at])?;
    for key in &tables[at..] {
        if !table.contains_key(key) {
            let mut new = Table::new();
            new.set_dotted(true);
            table.insert(key, Item::Table(new));
        }
        let found = table.get_mut(key).and_then(Item::as_table_like_mut);
        table = found.ok_or_else(|| format!("`{key}` in [remove] is not a table; change it by hand"))?;
    }
    match (item, table.get_mut(last)) {
        (None, _) => drop(table.insert(last, Item::Value(Value::from(true)))),
        (Some(item), Some(known)) => match known.as_array_mut() {
            Some(list) => push(list, Value::from(item)),
            None => return Err(format!("all of `{last}` is removed already")),
        },
        (Some(item), None) => {
            let mut list = Array::new();
            list.push(item);
            table.insert(last, Item::Value(Value::Array(list)));
        }
    }
    Ok(())
}

fn text_of(raw: Option<&RawString>) -> String {
    raw.and_then(RawString::as_str).unwrap_or_default().to_owned()
}

/// Adds an item in the list's own layout: on a line of its own where the others are, behind the comment of the last one.
fn push(list: &mut Array, mut value: Value) {
    let Some(last) = list.len().checked_sub(1).and_then(|at| list.get_mut(at)) else {
        list.push(value);
        return;
    };
    let before = text_of(last.decor().prefix());
    let Some((_, indent)) = before.rsplit_once('\n') else {
        list.push(value);
        return;
    };
    let indent = indent.to_owned();
    // What stands behind the last item: after its comma, or, without one, as its own suffix.
    let behind = if list.trailing_comma() {
        text_of(Some(list.trailing()))
    } else {
        let behind = list.get(list.len() - 1).map(|last| text_of(last.decor().suffix())).unwrap_or_default();
        if let Some(last) = list.get_mut(list.len() - 1) {
            last.decor_mut().set_suffix("");
        }
        format!("{behind}{}", text_of(Some(list.trailing())))
    };
    let (comment, end) = behind.rsplit_once('\n').unwrap_or(("", &behind));
    value.decor_mut().set_prefix(format!("{comment}\n{indent}"));
    value.decor_mut().set_suffix("");
    let end = format!("\n{end}");
    list.push_formatted(value);
    list.set_trailing(end);
    list.set_trailing_comma(true);
}

/// Takes an item out, and the comment behind it on its line, which is kept in front of what follows.
fn take(list: &mut Array, at: usize) {
    let own_prefix = list.get(at).map(|one| text_of(one.decor().prefix())).unwrap_or_default();
    list.remove(at);
    match list.get_mut(at) {
        Some(next) => {
            let before = text_of(next.decor().prefix());
            // The end of the line before stays with the item before.
            let (kept, _) = own_prefix.split_once('\n').unwrap_or(("", ""));
            if let Some((_, rest)) = before.split_once('\n') {
                next.decor_mut().set_prefix(format!("{kept}\n{rest}"));
            } else if at == 0 {
                next.decor_mut().set_prefix(own_prefix);
            }
        }
        None => {
            let behind = text_of(Some(list.trailing()));
            let kept = own_prefix.split_once('\n').map(|(kept, _)| kept.to_owned());
            if let (Some((_, rest)), Some(kept)) = (behind.split_once('\n'), kept) {
                list.set_trailing(format!("{kept}\n{rest}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn edited(text: &str, edits: &[&str]) -> String {
        let mut document: DocumentMut = text.parse().unwrap();
        for edit in edits {
            apply(&mut document, &[], &Edit::parse(edit).unwrap()).unwrap();
        }
        document.to_string()
    }

    const TEXT: &str = "# head\n[kernel]   # the kernel\nversion = \"1\"  # why\n\n[packages]\ninstall = [\n    \"a\",  # for a\n    # above b\n    \"b\",  # for b\n]\n";

    #[test]
    fn comments_order_and_layout_stay() {
        let after = edited(TEXT, &["kernel.version=2", "packages.install+=c", "kernel.drivers+=+ice", "pack.level=5"]);
        let wanted = TEXT
            .replace("\"1\"", "\"2\"")
            .replace("  # why\n", "  # why\ndrivers = [\"+ice\"]\n")
            .replace("# for b\n", "# for b\n    \"c\",\n");
        assert_eq!(after, format!("{wanted}\n[pack]\nlevel = 5\n"));
    }

    #[test]
    fn a_text_in_quotes_is_what_they_hold() {
        let plain = edited(TEXT, &["kernel.version=5.14", "packages.install+=c"]);
        assert_eq!(edited(TEXT, &["kernel.version=\"5.14\"", "packages.install+='c'"]), plain);
        assert_eq!(edited(TEXT, &["packages.install-=\"a\""]), edited(TEXT, &["packages.install-=a"]));
        // Quotes within, and half of one, are what they are.
        for text in ["say \"x\"", "\"half", "\"a\" \"b\""] {
            assert!(
                edited(TEXT, &[&format!("kernel.version={text}")]).contains(&format!("version = '{text}'")),
                "{text}"
            );
        }
    }

    #[test]
    fn an_item_goes_with_its_comment() {
        assert_eq!(edited(TEXT, &["packages.install-=a"]), TEXT.replace("    \"a\",  # for a\n", ""));
        assert_eq!(edited(TEXT, &["packages.install-=b"]), TEXT.replace("    # above b\n    \"b\",  # for b\n", ""));
        assert_eq!(
            edited("packages.install = [\"a\", \"b\"]\n", &["packages.install-=a"]),
            "packages.install = [\"b\"]\n"
        );
        assert_eq!(
            edited("packages.install = [\"a\", \"b\"]\n", &["packages.install-=b"]),
            "packages.install = [\"a\"]\n"
        );
    }

    #[test]
    fn other_layouts_of_lists_are_kept() {
        let one_line = "packages.install = [\"a\"]\n";
        assert_eq!(edited(one_line, &["packages.install+=b"]), "packages.install = [\"a\", \"b\"]\n");
        let without_comma = "packages.install = [\n  \"a\",\n  \"b\"  # for b\n]\n";
        assert_eq!(
            edited(without_comma, &["packages.install+=c"]),
            "packages.install = [\n  \"a\",\n  \"b\",  # for b\n  \"c\",\n]\n"
        );
        assert_eq!(edited("", &["boot.tmpfs.\"/tmp\"=5m"]), "[boot.tmpfs]\n\"/tmp\" = \"5m\"\n");
        assert_eq!(
            edited("[boot]\ntmpfs = { \"/a\" = \"1m\" }\n", &["boot.tmpfs.\"/tmp\"=5m"]),
            "[boot]\ntmpfs = { \"/a\" = \"1m\" , \"/tmp\" = \"5m\" }\n"
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let refused = |edit: &str| {
            let mut document: DocumentMut = TEXT.parse().unwrap();
            let edit = Edit::parse(edit).and_then(|edit| apply(&mut document, &[], &edit));
            edit.unwrap_err()
        };
        assert!(refused("pack.level=high").contains("whole number"));
        assert!(refused("packages.install=a").contains("'packages.install+=a'"));
        assert!(refused("kernel.version+=a").contains("is not a list"));
        assert!(refused("packages.install+=a").contains("already"));
        assert!(refused("packages.install-=z").contains("has no `z`"));
        assert!(refused("kernel=x").contains("is a table"));
        assert!(refused("kernel.versoin=x").contains("did you mean `version`"));
        assert!(refused("kernel").contains("PATH=VALUE"));
    }
}
