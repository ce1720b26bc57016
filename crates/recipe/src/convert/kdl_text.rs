//! A document as KDL.

use std::fmt::Write;

use super::comments::Comments;
use super::{WIDEST, of_tables};
use crate::{Node, Value};
use base::source::Span;

pub(super) fn text_of(document: &Node, comments: &Comments) -> String {
    let mut writer = Writer { comments, out: String::new() };
    if let Value::Table(entries) = &document.value {
        for (index, (name, key, node)) in entries.iter().enumerate() {
            if index > 0 {
                writer.out.push('\n');
            }
            writer.entry(name, key, node, 0);
        }
    }
    if !comments.end.is_empty() {
        writer.out.push('\n');
        writer.lines(&comments.end, 0);
    }
    let trimmed = writer.out.trim_end().len();
    writer.out.truncate(trimmed);
    writer.out.push('\n');
    writer.out
}

/// A string in quotes; what may not stand in a KDL file is escaped.
pub(super) fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c if c.is_control() => {
                let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

fn is_bare(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c))
        && !matches!(name, "true" | "false" | "null" | "inf" | "nan")
}

/// A node's name, in quotes where it needs them.
pub(super) fn name_of(name: &str) -> String {
    if is_bare(name) { name.to_owned() } else { quoted(name) }
}

/// One value; none for a list or a table.
fn value_of(node: &Node) -> Option<String> {
    match &node.value {
        Value::Text(text) | Value::Date(text) => Some(quoted(text)),
        Value::Integer(number) => Some(number.to_string()),
        Value::Float(number) => Some(format!("{number:?}")),
        Value::Boolean(truth) => Some(format!("#{truth}")),
        Value::Array(_) | Value::Table(_) => None,
    }
}

struct Writer<'a> {
    comments: &'a Comments,
    out: String,
}

impl Writer<'_> {
    fn indent(&mut self, depth: usize) {
        self.out.extend(std::iter::repeat_n("    ", depth));
    }

    fn lines(&mut self, lines: &[String], depth: usize) {
        for line in lines {
            if !line.is_empty() {
                self.indent(depth);
                self.out.push_str("// ");
                self.out.push_str(line);
            }
            self.out.push('\n');
        }
    }

    /// Ends a line, with what stands behind it in the source.
    fn end(&mut self, at: usize) {
        if let Some(comment) = self.comments.behind(at) {
            self.out.push_str("  // ");
            self.out.push_str(comment);
        }
        self.out.push('\n');
    }

    fn entry(&mut self, name: &str, key: &Span, node: &Node, depth: usize) {
        match &node.value {
            Value::Array(items) if of_tables(items) => {
                for (index, item) in items.iter().enumerate() {
                    if index == 0 && key.start != item.span.start {
                        self.lines(self.comments.before(key.start), depth);
                    }
                    if index > 0 && depth == 0 {
                        self.out.push('\n');
                    }
                    self.lines(self.comments.before(item.span.start), depth);
                    self.table(name, item.span.start, item, depth);
                }
            }
            Value::Table(_) => {
                self.lines(self.comments.before(key.start), depth);
                self.table(name, key.start, node, depth);
            }
            Value::Array(items) => {
                self.lines(self.comments.before(key.start), depth);
                self.list(name, key.start, node, items, depth);
            }
            _ => {
                self.lines(self.comments.before(key.start), depth);
                self.indent(depth);
                let _ = write!(self.out, "{} {}", name_of(name), value_of(node).unwrap_or_default());
                self.end(key.start);
            }
        }
    }

    fn list(&mut self, name: &str, at: usize, node: &Node, items: &[Node], depth: usize) {
        let values: Vec<String> = items.iter().filter_map(value_of).collect();
        let line = std::iter::once(name_of(name)).chain(values.iter().cloned()).collect::<Vec<_>>().join(" ");
        let last = self.comments.last(node.span.start);
        // A comment behind the only item of a line stays behind the line.
        let noted = items.iter().take(items.len().saturating_sub(1)).any(|item| self.comments.any(item.span.start))
            || items.last().is_some_and(|item| !self.comments.before(item.span.start).is_empty());
        self.indent(depth);
        if !noted && last.is_empty() && line.len() + 4 * depth <= WIDEST {
            self.out.push_str(&line);
            if let Some(comment) = items.last().and_then(|item| self.comments.behind(item.span.start)) {
                let _ = write!(self.out, "  // {comment}");
                if self.comments.behind(at).is_some() {
                    self.out.push(';');
                    let both = self.comments.behind(at).unwrap_or_default();
                    let _ = write!(self.out, " {both}");
                }
                self.out.push('\n');
            } else {
                self.end(at);
            }
            return;
        }
        let _ = write!(self.out, "{} {{", name_of(name));
        self.end(at);
        for (item, value) in items.iter().zip(values) {
            self.lines(self.comments.before(item.span.start), depth + 1);
            self.indent(depth + 1);
            let _ = write!(self.out, "- {value}");
            self.end(item.span.start);
        }
        self.lines(last, depth + 1);
        self.indent(depth);
        self.out.push_str("}\n");
    }

    /// A table: its first values as properties where they fit, the rest in a block.
    fn table(&mut self, name: &str, at: usize, node: &Node, depth: usize) {
        let Value::Table(entries) = &node.value else { return };
        let mut head = name_of(name);
        let plain = |(name, key, node): &(String, Span, Node)| {
            let value = value_of(node).filter(|_| is_bare(name) && !self.comments.any(key.start))?;
            Some(format!(" {}={value}", name_of(name)))
        };
        let properties: Vec<String> = entries.iter().map_while(plain).collect();
        let fits = head.len() + properties.iter().map(String::len).sum::<usize>() + 4 * depth <= WIDEST;
        let rest = if fits { &entries[properties.len()..] } else { entries.as_slice() };
        if fits {
            head.extend(properties);
        }
        self.indent(depth);
        self.out.push_str(&head);
        let last = self.comments.last(node.span.start);
        if rest.is_empty() && last.is_empty() {
            if entries.is_empty() {
                self.out.push_str(" {}");
            }
            self.end(at);
            return;
        }
        let mut inner = Writer { comments: self.comments, out: String::new() };
        for (name, key, node) in rest {
            inner.entry(name, key, node, depth + 1);
        }
        inner.lines(last, depth + 1);
        let block = inner.out;
        let line = block.trim();
        if rest.len() == 1
            && block.lines().count() == 1
            && !line.contains("//")
            && self.comments.behind(at).is_none()
            && head.len() + line.len() + 4 * depth + 5 <= 80
        {
            let _ = writeln!(self.out, " {{ {line} }}");
            return;
        }
        self.out.push_str(" {");
        self.end(at);
        self.out.push_str(&block);
        self.indent(depth);
        self.out.push_str("}\n");
    }
}
