//! A later import: what changed in a definition since the last one is changed in its recipe, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde_json::Value as Json;

use crate::osimage::{Field, LEFT_OVER, Mapping, Value, by_field, comments_of, head};
use recipe::{Change, Edit, Editable, FieldPath, Step, document_in, recipe_file};

use super::ImportError;

/// The recipe's new text, and what is to be said.
pub(super) struct Changed {
    /// The text; none where nothing of it changes.
    pub text: Option<String>,
    /// Changes made, and those left because the recipe says something else.
    pub said: Vec<String>,
    pub left: Vec<String>,
}

fn shown(value: &Value) -> String {
    match value {
        Value::Text(text) => text.clone(),
        Value::Flag(flag) => flag.to_string(),
        Value::List(items) => items.join(", "),
    }
}

fn is(current: &Json, value: &Value) -> bool {
    match value {
        Value::Text(text) => current.as_str() == Some(text),
        Value::Flag(flag) => current.as_bool() == Some(*flag),
        Value::List(_) => false,
    }
}

/// Brings a recipe from one definition to the next.
/// Errors: [`ImportError::Unreadable`] where the recipe cannot be read or edited.
pub(super) fn changed(directory: &Path, old: &Mapping, new: &Mapping) -> Result<Changed, ImportError> {
    let path = recipe_file(directory);
    let unreadable = |problem: String| ImportError::Unreadable { path: path.clone(), problem };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
    let first = |findings: Vec<base::source::Finding>| {
        unreadable(findings.into_iter().next().map_or_else(String::new, |one| one.message))
    };
    let document = document_in(&path, &name, None).map_err(first)?.to_json();
    let mut file = Editable::read(&name, &text).map_err(&unreadable)?;
    let (mut said, mut left) = (Vec::new(), Vec::new());
    let (before, after) = (by_field(old), by_field(new));
    let paths: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for path in paths {
        let (was, is_now) = (before.get(path).map(|one| &one.value), after.get(path).map(|one| &one.value));
        let field: &Field = match after.get(path).or_else(|| before.get(path)) {
            Some(field) if was != is_now => field,
            _ => continue,
        };
        if field.table == "image" {
            said.push(format!(
                "{path} is now {} in xCAT, but unchanged in the recipe: change it by hand",
                is_now.map(shown).unwrap_or_default()
            ));
            continue;
        }
        let current = document.get(&field.table).and_then(|table| table.get(&field.key)).cloned().unwrap_or(Json::Null);
        for change in changes(was, is_now, &current) {
            match change {
                Action::Left(why) => {
                    left.push(field.attribute.clone());
                    said.push(format!("{path} is kept: {why}"));
                }
                Action::Do(change, what) => {
                    let steps = vec![Step::Key(field.table.clone()), Step::Key(field.key.clone())];
                    let field = FieldPath { steps };
                    match file.apply(&[], &Edit { path: field, change }) {
                        Ok(()) => said.push(format!("{path}{what}")),
                        Err(problem) => said.push(format!("{path} is kept: {problem}")),
                    }
                }
            }
        }
    }
    // A table of which nothing is left would be half a table.
    for table in ["otherpkgs", "postinstall", "environment", "sync", "exclude"] {
        let has = |mapping: &Mapping| mapping.fields.iter().any(|field| field.table == table);
        if has(old) && !has(new) && file.has(&[table]) {
            let whole = Edit { path: FieldPath { steps: vec![Step::Key(table.to_owned())] }, change: Change::Unset };
            match file.apply(&[], &whole) {
                Ok(()) => said.push(format!("[{table}] is no longer in xCAT: removed")),
                Err(problem) => said.push(format!("[{table}] is no longer in xCAT, but is kept: {problem}")),
            }
        }
    }
    if old.repositories != new.repositories {
        left.push("pkgdir".to_owned());
        said.push("pkgdir or otherpkgdir changed in xCAT: change [[repo]] by hand".to_owned());
    }
    let new_text = comments(&file.text(), old, new, &mut said);
    Ok(Changed { text: (new_text != text).then_some(new_text), said, left })
}

/// Brings the comments that an import wrote up to date, where they stand as it wrote them.
pub fn brought_up_to_date(text: &str, old: &Mapping, new: &Mapping) -> String {
    let mut text = text.replace(&head(old), &head(new));
    text = text.replace(&format!("xcat:{}\n", old.rootimgdir), &format!("xcat:{}\n", new.rootimgdir));
    for one in &old.remarks {
        for (was, is_now) in comments_of(old, new, &one.attribute) {
            text = text.replace(&was, &is_now);
        }
    }
    // Nothing may be left of what had no counterpart.
    match text.split_once(LEFT_OVER) {
        Some((before, after)) if after.is_empty() || after.starts_with('\n') => {
            match fault::planted("stale-comments") {
                true => text,
                false => format!("{before}{after}"),
            }
        }
        _ => text,
    }
}

/// Brings the comments up to date, and says what else changed.
fn comments(text: &str, old: &Mapping, new: &Mapping, said: &mut Vec<String>) -> String {
    let values = |mapping: &Mapping| -> BTreeMap<String, String> {
        mapping.remarks.iter().map(|one| (one.attribute.clone(), one.value.clone())).collect()
    };
    let (before, after) = (values(old), values(new));
    let names: BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for name in names {
        let (was, is_now) =
            (before.get(name).cloned().unwrap_or_default(), after.get(name).cloned().unwrap_or_default());
        if was == is_now {
            continue;
        }
        let has_field = new.fields.iter().chain(&old.fields).any(|field| field.attribute == *name)
            || ["pkgdir", "otherpkgdir"].contains(&name.as_str());
        if !has_field {
            let shown = if is_now.is_empty() { "not set".to_owned() } else { format!("`{is_now}`") };
            said.push(format!("{name} is {shown} in xCAT now; the recipe has no field for it"));
        }
    }
    brought_up_to_date(text, old, new)
}

enum Action {
    Do(Change, String),
    Left(String),
}

fn changes(was: Option<&Value>, is_now: Option<&Value>, current: &Json) -> Vec<Action> {
    let list = |value: Option<&Value>| match value {
        Some(Value::List(items)) => Some(items.clone()),
        _ => None,
    };
    let is_list = matches!(was.or(is_now), Some(Value::List(_)));
    if is_list {
        let (was, is_now) = (list(was).unwrap_or_default(), list(is_now).unwrap_or_default());
        let said: Vec<&str> = current.as_array().into_iter().flatten().filter_map(|one| one.as_str()).collect();
        // No one edited it: it becomes what it is there, in that order.
        if said == was {
            let whole: Vec<String> = is_now.iter().map(|item| toml::Value::from(item.as_str()).to_string()).collect();
            return vec![match is_now.is_empty() {
                true => Action::Do(Change::Unset, " is no longer set".to_owned()),
                false => {
                    Action::Do(Change::Set(format!("[{}]", whole.join(", "))), format!(" = {}", is_now.join(", ")))
                }
            }];
        }
        let sorted = |items: &[String]| {
            let mut items = items.to_vec();
            items.sort();
            items
        };
        // Drivers are edits of the default list, or a whole one: never both.
        let is_edit = |item: &str| item.starts_with(['+', '-']);
        let mixes = said.iter().any(|item| is_edit(item)) && is_now.iter().any(|item| !is_edit(item));
        if sorted(&was) == sorted(&is_now) || mixes {
            return vec![Action::Left(format!("it was edited; in xCAT it is {} now", is_now.join(", ")))];
        }
        let holds =
            |item: &String| current.as_array().is_some_and(|all| all.iter().any(|one| one.as_str() == Some(item)));
        let gone = was.iter().filter(|item| !is_now.contains(item) && holds(item));
        let new = is_now.iter().filter(|item| !was.contains(item) && !holds(item));
        let take = gone.map(|item| Action::Do(Change::Take(item.clone()), format!(" -= {item}")));
        return take.chain(new.map(|item| Action::Do(Change::Append(item.clone()), format!(" += {item}")))).collect();
    }
    let says_old = match was {
        Some(value) => is(current, value),
        None => current.is_null(),
    };
    match is_now {
        Some(value) if is(current, value) => Vec::new(),
        None if current.is_null() => Vec::new(),
        Some(value) if says_old => vec![Action::Do(Change::Set(shown(value)), format!(" = {}", shown(value)))],
        None if says_old => vec![Action::Do(Change::Unset, " is no longer set".to_owned())],
        _ => {
            let theirs = is_now.map_or_else(|| "not set".to_owned(), shown);
            let ours = if current.is_null() { "removed".to_owned() } else { format!("edited to {current}") };
            vec![Action::Left(format!("in the recipe it was {ours}; in xCAT it is {theirs} now"))]
        }
    }
}
