//! A later import: what changed in a definition since the last one is changed in its recipe, and nothing else.

use std::path::Path;

use serde_json::Value as Json;

use crate::recipe::{Change, Edit, Editable, FieldPath, document_in, recipe_file};
use crate::site::osimage::{Field, Mapping, Value, by_field};

use super::ImportError;

/// The recipe's new text, and what is to be said.
pub struct Changed {
    /// The text; none where nothing of it changes.
    pub text: Option<String>,
    /// Changes made, and those left because the recipe says something else.
    pub said: Vec<String>,
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
///
/// # Errors
/// [`ImportError::Unreadable`] where the recipe cannot be read or edited.
pub fn changed(directory: &Path, old: &Mapping, new: &Mapping) -> Result<Changed, ImportError> {
    let path = recipe_file(directory);
    let unreadable = |problem: String| ImportError::Unreadable { path: path.clone(), problem };
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let text = std::fs::read_to_string(&path).map_err(|error| unreadable(error.to_string()))?;
    let first = |findings: Vec<crate::source::Finding>| {
        unreadable(findings.into_iter().next().map_or_else(String::new, |one| one.message))
    };
    let document = document_in(&path, &name, None).map_err(first)?.to_json();
    let mut file = Editable::read(&name, &text).map_err(&unreadable)?;
    let mut said = Vec::new();
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
                "{path} is {} in xCAT now, in the recipe as it was: change it by hand",
                is_now.map(shown).unwrap_or_default()
            ));
            continue;
        }
        let current = document.get(field.table).and_then(|table| table.get(&field.key)).cloned().unwrap_or(Json::Null);
        for change in changes(was, is_now, &current) {
            match change {
                Step::Left(why) => said.push(format!("{path} stays: {why}")),
                Step::Do(change, what) => {
                    let field = FieldPath::parse(path).map_err(&unreadable)?;
                    match file.apply(&[], &Edit { path: field, change }) {
                        Ok(()) => said.push(format!("{path}{what}")),
                        Err(problem) => said.push(format!("{path} stays: {problem}")),
                    }
                }
            }
        }
    }
    if old.repositories != new.repositories {
        said.push("pkgdir or otherpkgdir changed in xCAT: change [[repo]] by hand".to_owned());
    }
    let new_text = file.text();
    Ok(Changed { text: (new_text != text).then_some(new_text), said })
}

enum Step {
    Do(Change, String),
    Left(String),
}

fn changes(was: Option<&Value>, is_now: Option<&Value>, current: &Json) -> Vec<Step> {
    let list = |value: Option<&Value>| match value {
        Some(Value::List(items)) => Some(items.clone()),
        _ => None,
    };
    let is_list = matches!(was.or(is_now), Some(Value::List(_)));
    if is_list {
        let (was, is_now) = (list(was).unwrap_or_default(), list(is_now).unwrap_or_default());
        let holds =
            |item: &String| current.as_array().is_some_and(|all| all.iter().any(|one| one.as_str() == Some(item)));
        let gone = was.iter().filter(|item| !is_now.contains(item) && holds(item));
        let new = is_now.iter().filter(|item| !was.contains(item) && !holds(item));
        let take = gone.map(|item| Step::Do(Change::Take(item.clone()), format!(" -= {item}")));
        return take.chain(new.map(|item| Step::Do(Change::Append(item.clone()), format!(" += {item}")))).collect();
    }
    let says_old = match was {
        Some(value) => is(current, value),
        None => current.is_null(),
    };
    match is_now {
        Some(value) if is(current, value) => Vec::new(),
        None if current.is_null() => Vec::new(),
        Some(value) if says_old => vec![Step::Do(Change::Set(shown(value)), format!(" = {}", shown(value)))],
        None if says_old => vec![Step::Do(Change::Unset, " is no longer set".to_owned())],
        _ => {
            let theirs = is_now.map_or_else(|| "not set".to_owned(), shown);
            vec![Step::Left(format!("the recipe was edited to {current}; in xCAT it is {theirs} now"))]
        }
    }
}
