//! Which comment belongs to what.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use super::{Format, of_tables};
use crate::front::kdl;
use crate::{Node, Value};
use base::source::SourceFile;

/// Comments of a document by where that stands to which they belong.
#[derive(Debug, Default)]
pub(super) struct Comments {
    /// Lines before a key or an item, by its first byte; an empty line separates paragraphs.
    leading: BTreeMap<usize, Vec<String>>,
    trailing: BTreeMap<usize, String>,
    /// Lines at the end of a list or table, by the first byte of that.
    last: BTreeMap<usize, Vec<String>>,
    pub end: Vec<String>,
    /// How many parts `/-` takes out.
    pub left_out: usize,
}

/// Where comments can hang.
struct PackageSources {
    /// First bytes of keys and items, in order.
    anchors: Vec<usize>,
    blocks: Vec<Range<usize>>,
}

impl PackageSources {
    fn collect(&mut self, node: &Node) {
        match &node.value {
            Value::Table(entries) => {
                for (_, key, value) in entries {
                    self.anchors.push(key.start);
                    self.collect(value);
                }
            }
            Value::Array(items) => {
                for item in items {
                    self.anchors.push(item.span.start);
                    self.collect(item);
                }
            }
            _ => return,
        }
        if node.span.end > node.span.start {
            self.blocks.push(node.span.start..node.span.end);
        }
    }
}

/// Comments of a TOML text, with their marks.
fn of_toml(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(next) = text[at..].chars().next() {
        let rest = &text[at..];
        if next == '#' {
            let end = rest.find('\n').map_or(text.len(), |end| at + end);
            found.push(at..end);
            at = end;
        } else if next == '"' || next == '\'' {
            let three: String = std::iter::repeat_n(next, 3).collect();
            let close = if rest.starts_with(&three) { three } else { next.to_string() };
            at += close.len();
            while at < text.len() && !text[at..].starts_with(&close) {
                let inner = text[at..].chars().next().map_or(1, char::len_utf8);
                at += inner;
                if next == '"' && text[at - inner..at] == *"\\" {
                    at += text[at..].chars().next().map_or(0, char::len_utf8);
                }
            }
            at = (at + close.len()).min(text.len());
        } else {
            at += next.len_utf8();
        }
    }
    found
}

/// The first character in a comment of a TOML text that no comment in KDL can have, with its place: characters that KDL
/// forbids, and those that end a line there. Source: KDL 2.0.0, "Disallowed Literal Code Points" and "Newline".
pub(super) fn not_for_kdl(text: &str) -> Option<(char, usize)> {
    let is_bad = |c: char| matches!(c, '\u{85}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
    of_toml(text).into_iter().find_map(|range| {
        let (at, found) = text[range.clone()].char_indices().find(|(_, c)| is_bad(*c))?;
        Some((found, range.start + at))
    })
}

/// The lines of a comment without its marks.
fn lines_of(comment: &str) -> Vec<String> {
    let clean = |line: &str| line.strip_prefix(' ').unwrap_or(line).trim_end().to_owned();
    if let Some(inner) = comment.strip_prefix("/*") {
        let inner = inner.strip_suffix("*/").unwrap_or(inner);
        return inner.trim().lines().map(|line| clean(line.trim_start().trim_start_matches('*'))).collect();
    }
    vec![clean(comment.strip_prefix("//").or_else(|| comment.strip_prefix('#')).unwrap_or(comment))]
}

impl Comments {
    pub(super) fn of(file: &Arc<SourceFile>, format: Format, document: &Node) -> Self {
        let text = &file.text;
        let mut found = Self::default();
        let ranges = match format {
            Format::Toml => of_toml(text),
            Format::Kdl => match kdl::remarks(text) {
                Ok(remarks) => {
                    found.left_out = remarks.slashdashes.len();
                    remarks.comments
                }
                Err(_) => Vec::new(),
            },
        };
        let mut places = PackageSources { anchors: Vec::new(), blocks: Vec::new() };
        places.collect(document);
        places.anchors.sort_unstable();
        for range in ranges {
            found.attach(text, &places, range);
        }
        found.of_lists(document);
        found
    }

    /// Moves what stands behind the name of a list of tables to the first of them, and what stands at its end to the last:
    /// both formats write one after another, without the list.
    fn of_lists(&mut self, node: &Node) {
        match &node.value {
            Value::Table(entries) => {
                for (_, key, value) in entries {
                    self.of_list(key.start, value);
                    self.of_lists(value);
                }
            }
            Value::Array(items) => items.iter().for_each(|item| self.of_lists(item)),
            _ => {}
        }
    }

    fn of_list(&mut self, key: usize, list: &Node) {
        let Value::Array(items) = &list.value else { return };
        let (Some(first), Some(last)) = (items.first(), items.last()) else { return };
        if !of_tables(items) {
            return;
        }
        if first.span.start != key
            && let Some(comment) = self.trailing.remove(&key)
        {
            let there = self.trailing.entry(first.span.start).or_default();
            let more = if there.is_empty() { String::new() } else { format!("; {there}") };
            *there = comment + &more;
        }
        if items.iter().all(|item| item.span.start != list.span.start)
            && let Some(lines) = self.last.remove(&list.span.start)
        {
            self.last.entry(last.span.start).or_default().extend(lines);
        }
    }

    fn attach(&mut self, text: &str, places: &PackageSources, range: Range<usize>) {
        let lines = lines_of(&text[range.clone()]);
        let before = &text[..range.start];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        let from = |at: usize| places.anchors.partition_point(|anchor| *anchor < at);
        let next = places.anchors.get(from(range.end)).copied();
        let own_line = before[line_start..].trim().is_empty();
        let earlier = from(range.start).checked_sub(1).map(|index| places.anchors[index]);
        if !own_line && let Some(anchor) = earlier {
            let there = self.trailing.entry(anchor).or_default();
            if !there.is_empty() {
                there.push_str("; ");
            }
            there.push_str(&lines.join(" "));
            return;
        }
        // The innermost list or block that holds the comment, unless more of it follows.
        let block = places
            .blocks
            .iter()
            .filter(|block| block.start < range.start && range.end < block.end)
            .min_by_key(|block| block.len())
            .filter(|block| next.is_none_or(|next| next >= block.end));
        let to = match (block, next) {
            (Some(block), _) => self.last.entry(block.start).or_default(),
            (None, Some(next)) => self.leading.entry(next).or_default(),
            (None, None) => &mut self.end,
        };
        to.extend(lines);
        // An empty line after a comment is kept: it ends a paragraph.
        let after = &text[range.end..];
        let blank = &after[..after.len() - after.trim_start().len()];
        if blank.matches('\n').count() > 1 {
            to.push(String::new());
        }
    }

    /// Lines before what starts at a byte.
    pub(super) fn before(&self, at: usize) -> &[String] {
        self.leading.get(&at).map_or(&[], Vec::as_slice)
    }

    /// What stands behind what starts at a byte.
    pub(super) fn behind(&self, at: usize) -> Option<&str> {
        self.trailing.get(&at).map(String::as_str)
    }

    /// Lines at the end of the list or table that starts at a byte.
    pub(super) fn last(&self, at: usize) -> &[String] {
        self.last.get(&at).map_or(&[], Vec::as_slice)
    }

    pub(super) fn any(&self, at: usize) -> bool {
        !self.before(at).is_empty() || self.behind(at).is_some()
    }
}
