//! One recipe over another: lists append, tables merge, everything else is replaced; and what is taken out.
//!
//! Works on documents, before the model is made of them, so that each value keeps the place where it was written.

use crate::{Node, Value};
use base::source::{Finding, Span, nearest};

/// An inherited value that does not count: `[remove]` takes it out, or another one stands in its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Withdrawn {
    /// The field, without the numbers of lists: `kernel.drivers`.
    pub field: String,
    /// The value as text; of a list, an item.
    pub value: String,
    pub was: Span,
    /// What takes it out.
    pub span: Span,
    /// Whether another value stands in its place.
    pub is_overridden: bool,
    pub is_item: bool,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Trail {
    pub withdrawn: Vec<Withdrawn>,
    pub findings: Vec<Finding>,
}

impl Trail {
    /// Notes each value of a node; `span` is what takes it out.
    fn note(&mut self, node: &Node, field: &str, span: &Span, (is_overridden, is_item): (bool, bool)) {
        match &node.value {
            Value::Table(entries) => {
                entries
                    .iter()
                    .for_each(|(name, _, one)| self.note(one, &join(field, name), span, (is_overridden, false)));
            }
            Value::Array(items) => items.iter().for_each(|item| self.note(item, field, span, (is_overridden, true))),
            other => {
                let value = match other {
                    Value::Text(text) => text.clone(),
                    _ => node.to_json().to_string(),
                };
                let (was, span) = (node.span.clone(), span.clone());
                self.withdrawn.push(Withdrawn { field: field.to_owned(), value, was, span, is_overridden, is_item });
            }
        }
    }
}

/// Puts `over` on `under`: tables merge, lists append, what is neither is replaced.
pub(crate) fn merge(under: Node, over: Node, trail: &mut Trail) -> Node {
    merge_at(under, over, "", trail)
}

fn merge_at(under: Node, over: Node, path: &str, trail: &mut Trail) -> Node {
    let is_whole = |value: &Value| matches!(value, Value::Table(_) | Value::Array(_));
    if !is_whole(&under.value) && under.to_json() != over.to_json() {
        trail.note(&under, path, &over.span, (true, false));
    }
    let span = over.span;
    let value = match (under.value, over.value) {
        (Value::Table(mut below), Value::Table(above)) => {
            for (name, key, value) in above {
                match below.iter_mut().find(|(known, _, _)| *known == name) {
                    Some(entry) => {
                        let earlier = std::mem::replace(&mut entry.2, Node::nothing(&key));
                        entry.2 = merge_at(earlier, value, &join(path, &name), trail);
                        entry.1 = key;
                    }
                    None => below.push((name, key, value)),
                }
            }
            Value::Table(below)
        }
        (Value::Array(mut below), Value::Array(above)) => {
            below.extend(above);
            Value::Array(below)
        }
        (_, above) => above,
    };
    Node { value, span }
}

/// Keys by which an entry of an array of tables is known.
const NAMES: [&str; 6] = ["id", "source", "uri", "file", "mirrorlist", "metalink"];

/// Whether an entry of a list is meant by an item of a removal: equal, or a table that a text names.
fn is_meant(entry: &Node, item: &Node) -> bool {
    match (&entry.value, &item.value) {
        (Value::Table(entries), Value::Text(wanted)) => entries.iter().any(
            |(name, _, value)| matches!(&value.value, Value::Text(text) if NAMES.contains(&name.as_str()) && text == wanted),
        ),
        _ => entry.to_json() == item.to_json(),
    }
}

/// The words by which entries of a list can be meant.
fn names(entries: &[Node]) -> Vec<&str> {
    let mut found = Vec::new();
    for entry in entries {
        match &entry.value {
            Value::Text(text) => found.push(text.as_str()),
            Value::Table(inner) => found.extend(inner.iter().filter_map(|(name, _, value)| match &value.value {
                Value::Text(text) if NAMES.contains(&name.as_str()) => Some(text.as_str()),
                _ => None,
            })),
            _ => {}
        }
    }
    found
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

/// Takes out of a document what a `[remove]` table says, path by path.
pub(crate) fn remove(from: &mut Node, what: &Node, trail: &mut Trail) {
    remove_below(from, what, "", trail);
}

fn remove_below(from: &mut Node, what: &Node, path: &str, trail: &mut Trail) {
    let (Value::Table(entries), Value::Table(wanted)) = (&mut from.value, &what.value) else { return };
    for (name, key, value) in wanted {
        let inner = join(path, name);
        let Some(at) = entries.iter().position(|(known, _, _)| known == name) else {
            let near = nearest(name, entries.iter().map(|(known, _, _)| known.as_str()));
            trail.findings.push(nothing_there(key, &inner, near.first().map(|near| join(path, near))));
            continue;
        };
        match (&value.value, &mut entries[at].2) {
            (Value::Boolean(true), _) => {
                let (_, _, gone) = entries.remove(at);
                trail.note(&gone, &inner, key, (false, false));
            }
            (Value::Table(_), inner_node @ Node { value: Value::Table(_), .. }) => {
                remove_below(inner_node, value, &inner, trail);
            }
            (Value::Array(items), Node { value: Value::Array(known), .. }) => {
                for item in items {
                    let before = known.len();
                    known.retain(|entry| {
                        let is_meant = is_meant(entry, item);
                        if is_meant {
                            trail.note(entry, &inner, &item.span, (false, true));
                        }
                        !is_meant
                    });
                    if known.len() == before {
                        let said = match &item.value {
                            Value::Text(text) => text.clone(),
                            _ => item.to_json().to_string(),
                        };
                        let near = nearest(&said, names(known)).first().map(|near| (*near).to_owned());
                        let place = format!("{inner} = [\"{said}\"]");
                        trail.findings.push(nothing_there(&item.span, &place, near));
                    }
                }
            }
            // The kinds were compared with the schema; what was inherited has another one, and was reported.
            _ => trail.findings.push(nothing_there(key, &inner, None)),
        }
    }
}

/// What is removed may have been dropped by the parent in the meantime: no error.
fn nothing_there(span: &Span, what: &str, near: Option<String>) -> Finding {
    let help = match near {
        Some(near) => format!("did you mean `{near}`? Else remove the line"),
        None => "remove the line; `imgbuild show` prints what is inherited, and from where".to_owned(),
    };
    Finding::warning("recipe::removes_nothing", span, format!("`{what}` removes nothing: it is not inherited"))
        .label("not inherited")
        .help(help)
}

impl Node {
    /// An empty table at a place.
    pub fn nothing(span: &Span) -> Self {
        Self { value: Value::Table(Vec::new()), span: span.clone() }
    }

    /// The value of a key of a table.
    pub fn get(&self, name: &str) -> Option<&Self> {
        let Value::Table(entries) = &self.value else { return None };
        entries.iter().find(|(known, _, _)| known == name).map(|(_, _, value)| value)
    }

    /// Takes a key out of a table; gives its place and its value.
    pub fn take(&mut self, name: &str) -> Option<(Span, Self)> {
        let Value::Table(entries) = &mut self.value else { return None };
        let at = entries.iter().position(|(known, _, _)| known == name)?;
        let (_, key, value) = entries.remove(at);
        Some((key, value))
    }

    pub fn put(&mut self, name: &str, key: Span, value: Self) {
        let Value::Table(entries) = &mut self.value else { return };
        match entries.iter_mut().find(|(known, _, _)| known == name) {
            Some(entry) => (entry.1, entry.2) = (key, value),
            None => entries.push((name.to_owned(), key, value)),
        }
    }

    /// Takes out the key, or the value in a table or list, that stands at a place.
    pub fn leave_out(&mut self, place: &Span) {
        match &mut self.value {
            Value::Table(entries) => {
                entries.retain(|(_, key, value)| key != place && value.span != *place);
                entries.iter_mut().for_each(|(_, _, value)| value.leave_out(place));
            }
            Value::Array(items) => {
                items.retain(|item| item.span != *place);
                items.iter_mut().for_each(|item| item.leave_out(place));
            }
            _ => {}
        }
    }

    pub fn text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use base::source::SourceFile;

    fn document(text: &str) -> Node {
        let (node, findings) = crate::front::toml::read(&SourceFile::new("t", "/t", text));
        assert!(findings.is_empty(), "{findings:?}");
        node
    }

    #[test]
    fn lists_append_tables_merge_and_the_rest_is_replaced() {
        let under = document("[a]\nlist = [1]\nkeep = true\ntext = \"x\"\n[[t]]\nid = \"one\"\n");
        let over = document("[a]\nlist = [2]\ntext = \"y\"\n[b]\nnew = 1\n[[t]]\nid = \"two\"\n");
        let merged = merge(under, over, &mut Trail::default());
        let wanted = serde_json::json!({
            "a": {"list": [1, 2], "keep": true, "text": "y"}, "t": [{"id": "one"}, {"id": "two"}], "b": {"new": 1}
        });
        assert_eq!(merged.to_json(), wanted);
    }

    #[test]
    fn items_keys_tables_and_entries_with_a_name_are_removed() {
        let mut from =
            document("[a]\nlist = [\"x\", \"y\"]\ngone = 1\n[b]\nc = 1\n[[t]]\nid = \"one\"\n[[t]]\nuri = \"two\"\n");
        let mut trail = Trail::default();
        let what = document("a.list = [\"x\"]\na.gone = true\nb = true\nt = [\"two\"]\n");
        remove(&mut from, &what, &mut trail);
        assert_eq!(from.to_json(), serde_json::json!({"a": {"list": ["y"]}, "t": [{"id": "one"}]}));
        assert!(trail.findings.is_empty(), "{trail:?}");
        remove(&mut from, &document("a.list = [\"z\"]\nd = true\n"), &mut trail);
        assert_eq!(trail.findings.len(), 2);
    }
}
