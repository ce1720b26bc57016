//! Names of values: `kernel.version`, `packages.install[0]`, `boot.tmpfs."/tmp"`; what the schema says of them.

use serde_json::Value as Json;

use crate::front::check::resolved;
use crate::inherit::file_fields::FILE;
use base::source::nearest;

/// The way to a value: keys, and places in lists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldPath {
    /// The keys and numbers, outermost first.
    pub steps: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Key(String),
    /// A place in a list, from 0.
    Index(usize),
}

#[derive(Debug, Clone, PartialEq)]
pub struct Field {
    /// What a person calls its kind, as JSON Schema does: `string`, `array`, `object`, `integer`, `boolean`.
    pub kind: String,
    pub item: Option<String>,
    pub description: String,
    pub default: Option<Json>,
}

impl FieldPath {
    /// Reads a path; keys with other letters stand in quotes.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut steps = Vec::new();
        let mut rest = text;
        loop {
            let (key, after) = match rest.strip_prefix('"') {
                Some(quoted) => {
                    let end = quoted.find('"').ok_or_else(|| format!("`{text}` has a quote that is not closed"))?;
                    (&quoted[..end], &quoted[end + 1..])
                }
                None => rest.split_at(rest.find(['.', '[']).unwrap_or(rest.len())),
            };
            if key.is_empty() {
                return Err(format!("`{text}` is not a path of a value: write for instance kernel.version"));
            }
            steps.push(Step::Key(key.to_owned()));
            rest = after;
            while let Some(inner) = rest.strip_prefix('[') {
                let number = inner.find(']').and_then(|end| Some((inner[..end].parse().ok()?, &inner[end + 1..])));
                let (number, after) = number.ok_or_else(|| format!("`{text}` has no number in its brackets"))?;
                steps.push(Step::Index(number));
                rest = after;
            }
            match rest.strip_prefix('.') {
                Some(more) => rest = more,
                None if rest.is_empty() => return Ok(Self { steps }),
                None => return Err(format!("`{text}` is not a path of a value: `{rest}` is left over")),
            }
        }
    }

    pub fn plain(&self) -> String {
        let mut text = String::new();
        for step in &self.steps {
            match step {
                Step::Key(key) if text.is_empty() => text.push_str(key),
                Step::Key(key) => text.push_str(&format!(".{key}")),
                Step::Index(index) => text.push_str(&format!("[{index}]")),
            }
        }
        text
    }

    /// The keys, where there is no place in a list among them.
    pub fn keys(&self) -> Option<Vec<&str>> {
        let mut keys = Vec::new();
        for step in &self.steps {
            match step {
                Step::Key(key) => keys.push(key.as_str()),
                Step::Index(_) => return None,
            }
        }
        Some(keys)
    }

    pub fn of<'a>(&self, root: &'a Json) -> Option<&'a Json> {
        self.steps.iter().try_fold(root, |value, step| match step {
            Step::Key(key) => value.get(key),
            Step::Index(index) => value.get(index),
        })
    }

    /// What the schema says of it.
    /// Errors: That there is no such field, with the nearest one.
    pub fn field(&self) -> Result<Field, String> {
        let mut schema = &*FILE;
        let (mut around, mut default) = (schema, None);
        let mut so_far = String::new();
        for step in &self.steps {
            let inner = resolved(&FILE, schema);
            let found = match step {
                Step::Index(_) => Some(&inner["items"]).filter(|items| items.is_object()),
                Step::Key(key) => {
                    let known = inner["properties"].get(key);
                    known.or_else(|| Some(&inner["additionalProperties"]).filter(|more| more.is_object()))
                }
            };
            let Some(found) = found else {
                let Step::Key(key) = step else { return Err(format!("`{so_far}` is not a list")) };
                let names = inner["properties"].as_object().into_iter().flat_map(|all| all.keys().map(String::as_str));
                let place = if so_far.is_empty() { "a recipe".to_owned() } else { format!("‹[{so_far}]›") };
                let near = nearest(key, names).first().map(|near| format!("; did you mean `{near}`?"));
                return Err(format!("`{key}` is not a key of {place}{}", near.unwrap_or_default()));
            };
            so_far = match step {
                Step::Key(key) if so_far.is_empty() => key.clone(),
                Step::Key(key) => format!("{so_far}.{key}"),
                Step::Index(index) => format!("{so_far}[{index}]"),
            };
            default = found.get("default").cloned();
            around = found;
            schema = found;
        }
        let inner = resolved(&FILE, schema);
        let described = [around, inner].into_iter().find_map(|one| one["description"].as_str()).unwrap_or_default();
        Ok(Field {
            kind: kind_of(inner),
            item: inner["items"].is_object().then(|| kind_of(resolved(&FILE, &inner["items"]))),
            description: described.replace('\n', " "),
            default,
        })
    }
}

/// The one kind of a schema; enumerations are strings.
fn kind_of(schema: &Json) -> String {
    match &schema["type"] {
        Json::String(kind) => kind.clone(),
        Json::Array(kinds) => {
            kinds.iter().filter_map(Json::as_str).find(|kind| *kind != "null").unwrap_or("string").to_owned()
        }
        _ => "string".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_read_and_fields_found() {
        let path = FieldPath::parse("boot.tmpfs.\"/var/tmp\"").unwrap();
        assert_eq!(path.keys().unwrap(), ["boot", "tmpfs", "/var/tmp"]);
        assert_eq!(path.field().unwrap().kind, "string");
        let path = FieldPath::parse("repo[1].uri").unwrap();
        assert_eq!((path.plain().as_str(), path.keys()), ("repo[1].uri", None));
        assert_eq!(path.field().unwrap().kind, "string");
        for bad in ["", ".", "a..b", "a[", "a[x]", "\"a", "a]b"] {
            assert!(FieldPath::parse(bad).is_err() || FieldPath::parse(bad).unwrap().field().is_err(), "{bad}");
        }
        let error = FieldPath::parse("kernel.versoin").unwrap().field().unwrap_err();
        assert_eq!(error, "`versoin` is not a key of ‹[kernel]›; did you mean `version`?");
        assert_eq!(FieldPath::parse("pack.archive").unwrap().field().unwrap().default, Some("cpio".into()));
    }
}
