//! `imgbuild show`: shows a recipe's values with their places.

use serde_json::{Value as Json, json};

use crate::Exit;
use crate::output::render;
use crate::setup::{chosen_to_look, named_draft, print_findings};
use crate::verbs::site::export::{definitions_of, long_text};
use base::source::{Span, nearest};
use recipe::{Draft, Field, FieldPath, HOSTNAME_BY_DHCP, Model, ROOT_SIZE, Spans, Step, document_from, file_schema};
use xcat::definitions::{LINUXIMAGE_COLUMNS, OSIMAGE_COLUMNS};

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// The image; `.` for the recipe in the current directory
    #[arg(value_name = "IMAGE")]
    pub image: String,
    /// Print only this value, for instance kernel.version; lists one item per line
    #[arg(value_name = "PATH")]
    pub path: Option<String>,
    /// Also show defaults that the recipe does not set
    #[arg(long)]
    pub effective: bool,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print xCAT attributes, as `lsdef -i` does: pkglist,osvers
    #[arg(short = 'i', long, value_name = "ATTRIBUTE", value_delimiter = ',', conflicts_with_all = ["path", "json", "effective"])]
    pub attributes: Vec<String>,
}

fn attributes(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    let images = if own.image == "." { Vec::new() } else { vec![own.image.clone()] };
    let recipes = chosen_to_look(arguments, &images)?;
    let wanted: Vec<String> = own.attributes.iter().map(|one| one.trim().to_owned()).collect();
    let is_known = |name: &&String| {
        ["usercomment", "objtype"].contains(&name.as_str())
            || OSIMAGE_COLUMNS.iter().chain(&LINUXIMAGE_COLUMNS).any(|column| column == name)
    };
    if let Some(unknown) = wanted.iter().find(|name| !is_known(name)) {
        let near = nearest(unknown, OSIMAGE_COLUMNS.iter().chain(&LINUXIMAGE_COLUMNS).copied());
        let near = near.first().map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        render::say(&format!("error: an osimage has no attribute `{unknown}`{near}"));
        return Err(Exit::Usage);
    }
    let all = definitions_of(&recipes);
    render::print_as_is(&all.iter().map(|one| long_text(&one.definition, &wanted)).collect::<Vec<_>>().join("\n"));
    Ok(Exit::Done)
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Result<Exit, Exit> {
    if !own.attributes.is_empty() {
        return attributes(arguments, own);
    }
    let (known, draft) = named_draft(arguments, &own.image)?;
    let draft = &draft;
    let said = draft.document.to_json();
    let effective =
        serde_json::from_value::<Model>(said.clone()).ok().and_then(|model| serde_json::to_value(model).ok());
    let mut spans = Spans::of(&draft.document);
    let of_a_file = own.path.as_deref().and_then(|path| of_a_file(draft, path));
    let value = match (own.effective, effective) {
        _ if of_a_file.is_some() => {
            let (value, places) = of_a_file.unwrap_or_default();
            spans = places;
            value
        }
        (false, _) => said,
        (true, Some(mut effective)) => {
            fill_in(&mut effective);
            effective
        }
        (true, None) => {
            render::say("error: the recipe is incomplete, so its defaults are unknown: `imgbuild check` shows why");
            return Err(Exit::Input);
        }
    };
    drop(known);
    print_findings(&draft.findings, arguments.verbose);
    let shown = Shown { spans };
    Ok(match &own.path {
        Some(path) => shown.one(path, &value, own),
        None if own.json => {
            let mut values = Vec::new();
            shown.leaves("", &value, &mut values);
            let name = draft.name().map(|(name, _)| name);
            let files: Vec<&str> = draft.files.iter().map(|file| file.name.as_str()).collect();
            let document = json!({"format_version": "1.0", "image": name, "files": files, "values": values});
            render::print_json(&format!("{document:#}\n"));
            Exit::Done
        }
        None => {
            let mut text = String::new();
            shown.table("", &value, &mut text);
            render::print(text.trim_start_matches('\n'));
            Exit::Done
        }
    })
}

/// What speaks of files and not of the image, `extends`, `variant`, `plain` and `remove`: as the last of the image's files
/// says it that does.
fn of_a_file(draft: &Draft, path: &str) -> Option<(Json, Spans)> {
    let path = FieldPath::parse(path).ok()?;
    let Some(Step::Key(first)) = path.steps.first() else { return None };
    if !["extends", "variant", "plain", "remove"].contains(&first.as_str()) {
        return None;
    }
    draft.files.iter().rev().find_map(|file| {
        let document = document_from(file, file_schema()).ok()?;
        let value = document.to_json();
        path.of(&value).is_some().then(|| (value, Spans::of(&document)))
    })
}

/// Writes in what a build takes where the recipe says nothing and the default depends on something else.
fn fill_in(effective: &mut Json) {
    let Ok(model) = serde_json::from_value::<Model>(effective.clone()) else { return };
    for (table, key, default) in [
        ("pack", "level", json!(model.pack.first().effective_level())),
        ("system", "hostname", json!(HOSTNAME_BY_DHCP)),
        ("boot", "root_size", json!(ROOT_SIZE)),
        ("xcat", "profile", json!(model.profile())),
        ("xcat", "osimage", json!(model.osimage())),
    ] {
        let Some(entries) = effective.get_mut(table).and_then(Json::as_object_mut) else { continue };
        if entries.get(key).is_none_or(Json::is_null) {
            entries.insert(key.to_owned(), default);
        }
    }
    // Edits of the default list stay edits: they have places, and what they edit is in docs/recipe.md.
    if let Some(drivers) = effective.pointer_mut("/kernel/drivers").filter(|drivers| *drivers == &json!([])) {
        *drivers = json!(recipe::default_drivers());
    }
}

struct Shown {
    spans: Spans,
}

/// A key as TOML writes it.
fn key(name: &str) -> String {
    let is_bare = !name.is_empty() && name.chars().all(|one| one.is_ascii_alphanumeric() || "_-".contains(one));
    if is_bare { name.to_owned() } else { toml::Value::String(name.to_owned()).to_string() }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// A value as TOML writes it.
fn literal(value: &Json) -> String {
    match value {
        Json::String(text) => toml::Value::String(text.clone()).to_string(),
        other => other.to_string(),
    }
}

impl Shown {
    fn place(&self, path: &str) -> Option<&Span> {
        self.spans.get(path)
    }

    fn comment(&self, path: &str) -> String {
        match self.place(path) {
            Some(span) => format!("{}:{}", span.file.name, span.line()),
            None => "default".to_owned(),
        }
    }

    /// A table: its own values, then the tables in it; all with their places.
    fn table(&self, path: &str, value: &Json, text: &mut String) {
        let Json::Object(entries) = value else { return };
        let is_table = |value: &Json| {
            value.is_object() || value.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(Json::is_object))
        };
        let is_plain = entries.values().any(|one| !is_table(one) && !one.is_null());
        if is_plain && !path.is_empty() {
            let header: Vec<String> = path.split('\u{1f}').map(key).collect();
            text.push_str(&format!("\n[{}]\n", header.join(".")));
        }
        self.values(path, entries, text);
        for (name, value) in entries.iter().filter(|(_, value)| is_table(value)) {
            let inner = if path.is_empty() { name.clone() } else { format!("{path}\u{1f}{name}") };
            match value {
                Json::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        let header: Vec<String> = inner.split('\u{1f}').map(key).collect();
                        let at = format!("{}[{index}]", inner.replace('\u{1f}', "."));
                        text.push_str(&format!("\n[[{}]]{:>3}# {}\n", header.join("."), "", self.comment(&at)));
                        if let Json::Object(entries) = item {
                            self.values(&at, entries, text);
                        }
                    }
                }
                _ => self.table(&inner, value, text),
            }
        }
    }

    fn values(&self, path: &str, entries: &serde_json::Map<String, Json>, text: &mut String) {
        for (name, value) in entries {
            let at = join(&path.replace('\u{1f}', "."), name);
            match value {
                Json::Object(_) => {}
                Json::Null => text.push_str(&format!("# {} is not set\n", key(name))),
                Json::Array(items) if items.iter().any(Json::is_object) => {}
                Json::Array(items) if !items.is_empty() => {
                    text.push_str(&format!("{} = [\n", key(name)));
                    for (index, item) in items.iter().enumerate() {
                        let line = format!("    {},", literal(item));
                        text.push_str(&format!("{line:<36} # {}\n", self.comment(&format!("{at}[{index}]"))));
                    }
                    text.push_str("]\n");
                }
                _ => {
                    let line = format!("{} = {}", key(name), literal(value));
                    text.push_str(&format!("{line:<36} # {}\n", self.comment(&at)));
                }
            }
        }
    }

    /// Each value that is no table and no list, with its path and place.
    fn leaves(&self, path: &str, value: &Json, found: &mut Vec<Json>) {
        match value {
            Json::Object(entries) => {
                for (name, value) in entries {
                    self.leaves(&join(path, name), value, found);
                }
            }
            Json::Array(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.leaves(&format!("{path}[{index}]"), item, found);
                }
            }
            Json::Null => {}
            _ => found.push(match self.place(path) {
                Some(span) => json!({"path": path, "value": value, "file": span.file.name, "line": span.line()}),
                None => json!({"path": path, "value": value, "default": true}),
            }),
        }
    }

    fn one(&self, path: &str, value: &Json, own: &Arguments) -> Exit {
        let read = FieldPath::parse(path).and_then(|path| path.field().map(|field| (path, field)));
        let (path, field) = match read {
            Ok(read) => read,
            Err(problem) => {
                render::say(&format!("error: {problem}"));
                return Exit::Input;
            }
        };
        let Some(found) = path.of(value).filter(|found| !found.is_null()) else {
            render::say(&unset(&path.plain(), &field));
            return Exit::Input;
        };
        if own.json {
            render::print_json(&format!("{found}\n"));
            return Exit::Done;
        }
        match found {
            Json::Object(_) => {
                let mut text = String::new();
                let keys = path.keys().map_or_else(|| path.plain(), |keys| keys.join("\u{1f}"));
                self.table(&keys, found, &mut text);
                render::print(text.trim_start_matches('\n'));
            }
            Json::Array(items) => {
                for item in items {
                    render::print(&format!("{}\n", item.as_str().map_or_else(|| item.to_string(), str::to_owned)));
                }
            }
            Json::String(text) => render::print(&format!("{text}\n")),
            other => render::print(&format!("{other}\n")),
        }
        Exit::Done
    }
}

/// What is said of a value that the recipe does not set.
fn unset(path: &str, field: &Field) -> String {
    match &field.default {
        Some(Json::Null) | None => format!("`{path}` is not set. {}", field.description),
        Some(default) => format!("`{path}` is not set; the default is {}", literal(default)),
    }
}
