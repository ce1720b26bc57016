//! YAML as values with their lines. Anchors and merge keys are followed, within bounds.

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Parser};

const DEPTH_LIMIT: usize = 32;

/// Most values of a document, those of aliases counted each time.
const NODE_LIMIT: usize = 200_000;

/// How many bytes of a text count as a value.
const TEXT_UNIT: usize = 64;

/// A value and the line on which it begins, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    pub(crate) line: usize,
    pub(crate) value: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    /// A text, also where it looks like a number.
    Text(String),
    List(Vec<Node>),
    /// In the document's order.
    Map(Vec<Entry>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) line: usize,
    pub(crate) node: Node,
}

impl Node {
    pub(crate) fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Items of a list; a text is a list of one, and an empty value is an empty list.
    pub(crate) fn items(&self) -> Vec<&Node> {
        match &self.value {
            Value::List(items) => items.iter().collect(),
            Value::Text(text) if is_null(text) => Vec::new(),
            _ => vec![self],
        }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The entry of a map; the last one, as PyYAML has it.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entries().iter().rev().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    pub(crate) fn is_true(&self) -> bool {
        self.text().is_some_and(|text| matches!(text.to_ascii_lowercase().as_str(), "true" | "yes" | "on"))
    }

    /// On one line, for reports.
    pub(crate) fn shown(&self) -> String {
        match &self.value {
            Value::Text(text) => text.trim().replace('\n', " "),
            Value::List(items) => items.iter().map(Node::shown).collect::<Vec<_>>().join(", "),
            Value::Map(entries) => entries
                .iter()
                .map(|entry| format!("{}: {}", entry.key, entry.node.shown()))
                .collect::<Vec<_>>()
                .join(", "),
        }
    }

    /// How many values it is; long texts are several.
    fn count(&self) -> usize {
        1 + match &self.value {
            Value::Text(text) => text.len() / TEXT_UNIT,
            Value::List(items) => items.iter().map(Node::count).sum(),
            Value::Map(entries) => {
                entries.iter().map(|entry| entry.key.len() / TEXT_UNIT + entry.node.count()).sum::<usize>()
            }
        }
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null")
}

enum Open {
    List(usize, usize, Vec<Node>),
    Map(usize, usize, Vec<Entry>, Option<(String, usize)>),
}

/// The only document of a text; none in an empty one.
/// Errors: The line and what is wrong there; a second document.
pub(crate) fn document(text: &str) -> Result<Option<Node>, (usize, String)> {
    let mut open: Vec<Open> = Vec::new();
    let mut anchors: HashMap<usize, Node> = HashMap::new();
    let mut count = 0;
    let mut document: Option<Node> = None;
    for event in Parser::new_from_str(text) {
        let (event, span) = event.map_err(|error| (error.marker().line(), format!("not well-formed YAML: {error}")))?;
        let line = span.start.line();
        count += 1;
        let (anchor, node) = match event {
            Event::Scalar(text, _, anchor, _) => (anchor, Node { line, value: Value::Text(text.into_owned()) }),
            Event::Alias(anchor) => {
                let node = anchors.get(&anchor).ok_or((line, "an alias of a value that is not complete".to_owned()))?;
                count += node.count();
                (0, if count > NODE_LIMIT { Node { line, value: Value::List(Vec::new()) } } else { node.clone() })
            }
            Event::SequenceStart(anchor, _) => {
                open.push(Open::List(anchor, line, Vec::new()));
                if open.len() > DEPTH_LIMIT {
                    return Err((line, "values are nested too deeply".to_owned()));
                }
                continue;
            }
            Event::MappingStart(anchor, _) => {
                open.push(Open::Map(anchor, line, Vec::new(), None));
                if open.len() > DEPTH_LIMIT {
                    return Err((line, "values are nested too deeply".to_owned()));
                }
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match open.pop() {
                Some(Open::List(anchor, line, items)) => (anchor, Node { line, value: Value::List(items) }),
                Some(Open::Map(anchor, line, entries, _)) => {
                    if let Some((line, key)) = twice(&entries) {
                        let problem = format!(
                            "the key `{}` is there twice, and the other tool takes the last one: remove the first",
                            key.escape_debug()
                        );
                        return Err((line, problem));
                    }
                    (anchor, Node { line, value: Value::Map(merged(entries)) })
                }
                None => continue,
            },
            Event::StreamEnd => break,
            _ => continue,
        };
        if count > NODE_LIMIT {
            return Err((line, format!("more than {NODE_LIMIT} values")));
        }
        if anchor != 0 {
            anchors.insert(anchor, node.clone());
            count += node.count();
        }
        match open.last_mut() {
            None => match &document {
                // An empty one does not count.
                Some(_) if node.text().is_some_and(is_null) => {}
                Some(first) if !first.text().is_some_and(is_null) => {
                    return Err((node.line, "a second document: give each its own file".to_owned()));
                }
                _ => document = Some(node),
            },
            Some(Open::List(_, _, items)) => items.push(node),
            Some(Open::Map(_, _, entries, key)) => match (key.take(), node) {
                (Some((key, line)), node) => entries.push(Entry { key, line, node }),
                (None, Node { line, value: Value::Text(text) }) => *key = Some((text, line)),
                (None, node) => return Err((node.line, "a key is not a text".to_owned())),
            },
        }
    }
    Ok(document)
}

/// The line of a key that a map has already.
fn twice(entries: &[Entry]) -> Option<(usize, &str)> {
    let mut known: HashSet<&str> = HashSet::new();
    let again = entries.iter().find(|entry| entry.key != "<<" && !known.insert(&entry.key))?;
    Some((again.line, &again.key))
}

/// Entries of `<<` where the map has none of that name.
fn merged(entries: Vec<Entry>) -> Vec<Entry> {
    if entries.iter().all(|entry| entry.key != "<<") {
        return entries;
    }
    let (merges, mut own): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.key == "<<");
    for one in merges.iter().flat_map(|entry| entry.node.items()).flat_map(Node::entries) {
        if !own.iter().any(|entry| entry.key == one.key) {
            own.push(one.clone());
        }
    }
    own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_have_their_lines_and_anchors_are_followed() {
        let text = "a: &x\n  - 1\n  - two\nb: *x\nc:\n  <<: {k: v, l: w}\n  k: own\n";
        let found = document(text).unwrap().unwrap();
        assert_eq!(
            found.get("b").unwrap().items().iter().filter_map(|one| one.text()).collect::<Vec<_>>(),
            ["1", "two"]
        );
        assert_eq!(found.get("b").unwrap().items()[1].line, 3);
        let c = found.get("c").unwrap();
        assert_eq!((c.get("k").unwrap().text(), c.get("l").unwrap().text()), (Some("own"), Some("w")));
        assert_eq!(document("# nothing\n").unwrap(), None);
    }

    #[test]
    fn what_grows_without_bounds_is_refused() {
        let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..9 {
            let item = format!("*a{}", level - 1);
            text.push_str(&format!("a{level}: &a{level} [{}]\n", vec![item; 10].join(", ")));
        }
        assert!(document(&text).unwrap_err().1.contains("values"));
        assert!(document(&"[".repeat(100)).is_err());
        // Long texts count by their length.
        let text = format!("a: &a {}\nb: [{}]\n", "x".repeat(1 << 20), vec!["*a"; 100].join(", "));
        assert!(document(&text).unwrap_err().1.contains("values"));
        assert_eq!(document("a: 1\nb: [\n").unwrap_err().1.split(':').next(), Some("not well-formed YAML"));
    }

    #[test]
    fn a_key_that_is_there_twice_is_refused_and_not_lost() {
        let (line, problem) = document("packages: [a]\ncmds: []\npackages: [b]\n").unwrap_err();
        assert!(line == 3 && problem.contains("`packages` is there twice"), "{line} {problem}");
        assert!(document("a: {x: 1}\nb: {x: 1}\nc: {<<: {y: 1}, <<: {z: 1}}\n").is_ok());
    }

    #[test]
    fn a_second_document_is_refused_and_not_lost() {
        let (line, problem) = document("a: 1\n---\nb: 2\n").unwrap_err();
        assert!(line == 3 && problem.contains("second document"), "{line} {problem}");
        for text in ["---\na: 1\n", "a: 1\n---\n", "---\n---\na: 1\n", "a: 1\n...\n"] {
            assert_eq!(document(text).unwrap().unwrap().get("a").unwrap().text(), Some("1"), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "[ a:\\-\\[\\]{}&*<>|'\"#\n]{0,200}") {
            let _ = document(&text);
        }
    }
}
