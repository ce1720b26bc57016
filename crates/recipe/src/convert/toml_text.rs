//! A document as TOML.

use std::fmt::Write;

use super::comments::Comments;
use super::{WIDEST, of_tables};
use crate::{Node, Value};
use base::source::Span;

type Entry = (String, Span, Node);

pub(super) fn text_of(document: &Node, comments: &Comments) -> String {
    let mut writer = Writer { comments, out: String::new() };
    if let Value::Table(entries) = &document.value {
        writer.body(entries, "");
    }
    if !comments.end.is_empty() {
        writer.out.push('\n');
        writer.lines(&comments.end, "");
    }
    let text = writer.out.trim().to_owned();
    text + "\n"
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn key_of(name: &str) -> String {
    let bare = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c));
    if bare { name.to_owned() } else { quoted(name) }
}

/// A value on one line.
fn inline(node: &Node) -> String {
    match &node.value {
        Value::Text(text) => quoted(text),
        Value::Date(text) => text.clone(),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => format!("{number:?}"),
        Value::Boolean(truth) => truth.to_string(),
        Value::Array(items) => format!("[{}]", items.iter().map(inline).collect::<Vec<_>>().join(", ")),
        Value::Table(entries) if entries.is_empty() => "{}".to_owned(),
        Value::Table(entries) => {
            let pairs = entries.iter().map(|(name, _, value)| format!("{} = {}", key_of(name), inline(value)));
            format!("{{ {} }}", pairs.collect::<Vec<_>>().join(", "))
        }
    }
}

struct Writer<'a> {
    comments: &'a Comments,
    out: String,
}

impl Writer<'_> {
    fn lines(&mut self, lines: &[String], indent: &str) {
        for line in lines {
            if !line.is_empty() {
                self.out.push_str(indent);
                self.out.push_str("# ");
                self.out.push_str(line);
            }
            self.out.push('\n');
        }
    }

    fn end(&mut self, at: usize) {
        if let Some(comment) = self.comments.behind(at) {
            self.out.push_str("  # ");
            self.out.push_str(comment);
        }
        self.out.push('\n');
    }

    /// Whether something inside a value has a comment.
    fn noted(&self, node: &Node) -> bool {
        if !self.comments.last(node.span.start).is_empty() && matches!(node.value, Value::Array(_) | Value::Table(_)) {
            return true;
        }
        match &node.value {
            Value::Table(entries) => {
                entries.iter().any(|(_, key, value)| self.comments.any(key.start) || self.noted(value))
            }
            Value::Array(items) => items.iter().any(|item| self.comments.any(item.span.start) || self.noted(item)),
            _ => false,
        }
    }

    /// Whether an entry needs a header of its own.
    fn has_header(&self, (name, _, node): &Entry, path: &str) -> bool {
        match &node.value {
            Value::Array(items) => of_tables(items),
            Value::Table(_) if path.is_empty() => true,
            Value::Table(entries) => {
                let simple = entries.iter().all(|(_, _, value)| !matches!(value.value, Value::Table(_)));
                !simple || self.noted(node) || key_of(name).len() + 3 + inline(node).len() > WIDEST
            }
            _ => false,
        }
    }

    /// Keys of a table, then the tables in it: TOML has no other order.
    fn body(&mut self, entries: &[Entry], path: &str) {
        let (tables, keys): (Vec<&Entry>, Vec<&Entry>) = entries.iter().partition(|entry| self.has_header(entry, path));
        for (name, key, node) in keys {
            self.lines(self.comments.before(key.start), "");
            let _ = write!(self.out, "{} = ", key_of(name));
            match &node.value {
                Value::Array(items) => self.list(name, key.start, node, items),
                _ => {
                    self.out.push_str(&inline(node));
                    self.end(key.start);
                }
            }
        }
        for (name, key, node) in tables {
            let path = if path.is_empty() { key_of(name) } else { format!("{path}.{}", key_of(name)) };
            match &node.value {
                Value::Array(items) => {
                    for (index, item) in items.iter().enumerate() {
                        self.out.push('\n');
                        if index == 0 && key.start != item.span.start {
                            self.lines(self.comments.before(key.start), "");
                        }
                        self.lines(self.comments.before(item.span.start), "");
                        let _ = write!(self.out, "[[{path}]]");
                        self.end(item.span.start);
                        self.table(item, &path);
                    }
                }
                _ => {
                    // A table that holds tables only needs no header.
                    let is_bare = !self.comments.any(key.start)
                        && matches!(&node.value, Value::Table(inner)
                            if !inner.is_empty() && inner.iter().all(|one| self.has_header(one, &path)));
                    if !is_bare {
                        self.out.push('\n');
                        self.lines(self.comments.before(key.start), "");
                        let _ = write!(self.out, "[{path}]");
                        self.end(key.start);
                    }
                    self.table(node, &path);
                }
            }
        }
    }

    fn table(&mut self, node: &Node, path: &str) {
        if let Value::Table(entries) = &node.value {
            self.body(entries, path);
            self.lines(self.comments.last(node.span.start), "");
        }
    }

    fn list(&mut self, name: &str, at: usize, node: &Node, items: &[Node]) {
        let line = inline(node);
        let only = items.last().filter(|_| items.len() == 1);
        // In KDL a comment behind the last item is one behind the whole line.
        let behind_last = items.last().and_then(|item| self.comments.behind(item.span.start));
        let noted = !self.comments.last(node.span.start).is_empty()
            || items.iter().take(items.len().saturating_sub(1)).any(|item| self.comments.any(item.span.start))
            || items.last().is_some_and(|item| !self.comments.before(item.span.start).is_empty());
        let short = key_of(name).len() + 3 + line.len() <= WIDEST;
        if !noted && (short || only.is_some()) {
            self.out.push_str(&line);
            if let Some(comment) = behind_last {
                let _ = write!(self.out, "  # {comment}");
            }
            self.end(at);
            return;
        }
        self.out.push('[');
        self.end(at);
        for item in items {
            self.lines(self.comments.before(item.span.start), "    ");
            let _ = write!(self.out, "    {},", inline(item));
            self.end(item.span.start);
        }
        self.lines(self.comments.last(node.span.start), "    ");
        self.out.push_str("]\n");
    }
}
