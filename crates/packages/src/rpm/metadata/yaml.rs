//! YAML documents as values of text, lists and maps. No tags, no anchors: module metadata use none.

use saphyr_parser::{Event, Parser};

/// How deep values may be nested; modules.yaml needs six.
const DEPTH_LIMIT: usize = 32;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Null,
    /// A text, also where it looks like a number.
    Text(String),
    List(Vec<Value>),
    /// In the document's order.
    Map(Vec<(String, Value)>),
}

const NULL: Value = Value::Null;

impl Value {
    /// The entry of a map, or nothing.
    pub fn get(&self, name: &str) -> &Self {
        match self {
            Self::Map(entries) => entries.iter().find(|(key, _)| key == name).map_or(&NULL, |(_, value)| value),
            _ => &NULL,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Text(text) => Some(text),
            _ => None,
        }
    }

    pub fn items(&self) -> impl Iterator<Item = &Self> {
        match self {
            Self::List(items) => items.as_slice(),
            _ => &[],
        }
        .iter()
    }

    pub fn entries(&self) -> impl Iterator<Item = (&str, &Self)> {
        match self {
            Self::Map(entries) => entries.as_slice(),
            _ => &[],
        }
        .iter()
        .map(|(name, value)| (name.as_str(), value))
    }
}

enum Open {
    List(Vec<Value>),
    Map(Vec<(String, Value)>, Option<String>),
}

/// All documents of a file.
/// Errors: A text with line and column where it is not YAML, or uses what is not read here.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut found = Vec::new();
    let mut open: Vec<Open> = Vec::new();
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| format!("is not well-formed YAML: {error}"))?;
        let wrong = |problem: &str| format!("is not well-formed YAML on line {}: {problem}", span.start.line());
        let value = match event {
            Event::Scalar(text, ..) => Value::Text(text.into_owned()),
            Event::Alias(_) => return Err(wrong("it uses an alias, which is not read here")),
            Event::SequenceStart(..) | Event::MappingStart(..) => {
                if open.len() >= DEPTH_LIMIT {
                    return Err(wrong("it is nested too deeply"));
                }
                let is_list = matches!(event, Event::SequenceStart(..));
                open.push(if is_list { Open::List(Vec::new()) } else { Open::Map(Vec::new(), None) });
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(items)) => Value::List(items),
                Some(Open::Map(entries, _)) => Value::Map(entries),
                None => continue,
            },
            _ => continue,
        };
        match open.last_mut() {
            None => found.push(value),
            Some(Open::List(items)) => items.push(value),
            Some(Open::Map(entries, key)) => match (key.take(), value) {
                (Some(name), value) => entries.push((name, value)),
                (None, Value::Text(name)) => *key = Some(name),
                (None, _) => return Err(wrong("a key is not a text")),
            },
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_become_values() {
        let text = "---\ndocument: modulemd\nversion: 2\ndata:\n  a: [x, 'y z']\n  b:\n  - 1\n  - \"2\"\n  c: {}\n  d: >\n    long\n    text\n...\n---\nx: 1\n";
        let found = documents(text).unwrap();
        assert_eq!(found.len(), 2);
        let data = found[0].get("data");
        assert_eq!(data.get("a").items().filter_map(Value::text).collect::<Vec<_>>(), ["x", "y z"]);
        assert_eq!(data.get("b").items().count(), 2);
        assert_eq!(data.get("d").text(), Some("long text\n"));
        assert_eq!(data.get("nothing").get("at all").text(), None);
    }

    #[test]
    fn what_could_grow_without_bounds_is_refused() {
        assert!(documents("a: &x 1\nb: *x\n").unwrap_err().contains("alias"));
        assert!(documents(&"[".repeat(100)).is_err());
        assert!(documents("a: [").is_err());
    }
}
