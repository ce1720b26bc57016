//! Changes of a recipe in KDL in place. Each is a splice of the text, so that comments, order and layout stay.

use kdl::{KdlDocument, KdlEntry, KdlNode, KdlValue};

use super::{guard, parse};
use crate::front::field::Field;
use crate::{Change, Edit};

pub(crate) struct KdlText {
    text: String,
}

enum Found<'a> {
    /// As the arguments of a node, or of the `-` nodes in its block.
    Node(&'a KdlNode),
    Property(&'a KdlEntry),
    Argument(&'a KdlEntry),
}

/// The tables around a value, as far as the text has them.
struct Around<'a> {
    /// The innermost one that is there; none for the document.
    node: Option<&'a KdlNode>,
    inside: Option<&'a KdlDocument>,
    /// Keys of tables that are not there.
    missing: Vec<&'a str>,
}

fn range(span: miette::SourceSpan) -> std::ops::Range<usize> {
    span.offset()..span.offset() + span.len()
}

/// A value as KDL writes it; strings in quotes, as most recipes have them.
fn written(value: &KdlValue) -> String {
    match value.as_string() {
        Some(text) if !text.contains(char::is_control) => {
            format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
        }
        _ => value.to_string(),
    }
}

fn by_hand(path: &str) -> String {
    format!("`{path}` is written in a form that imgbuild cannot edit: change it by hand")
}

impl KdlText {
    /// Takes a text that KDL's parser and its guard accept.
    pub(crate) fn new(text: &str) -> Result<Self, String> {
        let this = Self { text: text.to_owned() };
        this.document().map(|_| this)
    }

    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn document(&self) -> Result<KdlDocument, String> {
        guard::check(&self.text).map_err(|refusal| refusal.problem)?;
        parse(&self.text).map_err(|problems| problems.into_iter().next().map_or_else(String::new, |one| one.1))
    }

    pub(crate) fn has(&self, keys: &[&str], leading: Option<&str>) -> bool {
        self.document().is_ok_and(|document| matches!(find(&document, keys, leading), Ok((_, Some(_)))))
    }

    pub(crate) fn holds(&self, keys: &[&str], item: &str) -> bool {
        let Ok(document) = self.document() else { return false };
        let Ok((_, Some(found))) = find(&document, keys, None) else { return false };
        items(&found).iter().any(|(_, value)| value.as_string() == Some(item))
    }

    /// Makes one change. `leading` is the key that the table's argument stands for.
    pub(crate) fn apply(&mut self, prefix: &[&str], edit: &Edit, leading: Option<&str>) -> Result<(), String> {
        let field = edit.path.field()?;
        let shown = edit.path.plain();
        let own = edit.path.keys().ok_or("a list item has no path of its own: use += and -=")?;
        let keys = [prefix, &own].concat();
        let document = self.document()?;
        let (around, found) = find(&document, &keys, leading)?;
        let last = keys.last().ok_or("an empty path")?;
        let (at, new) = match (&edit.change, found) {
            (Change::Set(text), Some(found)) => {
                let values = values(&field, &field.kind, &shown, text)?;
                match (&found, values.as_slice()) {
                    (Found::Property(entry), [value]) => {
                        (range(entry.span()), format!("{}={}", key(entry), written(value)))
                    }
                    (Found::Argument(entry), [value]) => (range(entry.span()), written(value)),
                    (Found::Node(node), values) => {
                        let (first, last) = (node.entries().first(), node.entries().last());
                        let (Some(first), Some(last), None) = (first, last, node.children()) else {
                            return Err(by_hand(&shown));
                        };
                        let words: Vec<String> = values.iter().map(written).collect();
                        (range(first.span()).start..range(last.span()).end, words.join(" "))
                    }
                    _ => return Err(by_hand(&shown)),
                }
            }
            (Change::Set(text), None) => {
                let values = values(&field, &field.kind, &shown, text)?;
                self.inserted(&around, last, &values, field.item.is_none())?
            }
            (Change::Append(text), found) => {
                let Some(kind) = &field.item else {
                    return Err(format!("`{shown}` is not a list: write {shown}={text}"));
                };
                let values = values(&field, kind, &shown, text)?;
                match found {
                    Some(found) if items(&found).iter().any(|(_, value)| value.as_string() == Some(text)) => {
                        return Err(format!("`{shown}` already has `{text}`"));
                    }
                    Some(Found::Node(node)) => self.appended(node, &values).ok_or_else(|| by_hand(&shown))?,
                    Some(_) => return Err(by_hand(&shown)),
                    None => self.inserted(&around, last, &values, false)?,
                }
            }
            (Change::Take(text), Some(found)) => {
                let all = items(&found);
                let taken = all.iter().find(|(_, value)| value.as_string() == Some(text));
                let (at, _) = taken.ok_or_else(|| format!("`{shown}` has no `{text}` in this file"))?;
                (self.with_blanks(at.clone()), String::new())
            }
            (Change::Unset, Some(Found::Node(node))) => (self.with_blanks(range(node.span())), String::new()),
            (Change::Unset, Some(Found::Property(entry))) => (self.with_blanks(range(entry.span())), String::new()),
            (Change::Unset, Some(Found::Argument(_))) => return Err(by_hand(&shown)),
            (Change::Take(text), None) => return Err(format!("`{shown}` has no `{text}` in this file")),
            (Change::Unset, None) => return Err(format!("`{shown}` is not set in this file")),
        };
        let mut after = self.text.clone();
        after.replace_range(at, &new);
        // What a splice made must be KDL again.
        *self = Self::new(&after).map_err(|_| by_hand(&shown))?;
        Ok(())
    }

    /// What to take out so that no blank, and no empty line, is left of it.
    fn with_blanks(&self, at: std::ops::Range<usize>) -> std::ops::Range<usize> {
        let (before, after) = (&self.text[..at.start], &self.text[at.end..]);
        let start = before.trim_end_matches([' ', '\t']).len();
        let line_starts = start == 0 || before[..start].ends_with('\n');
        let rest = after.trim_start_matches([' ', '\t', ';']);
        match rest.strip_prefix('\n') {
            Some(_) if line_starts => start..at.end + (after.len() - rest.len()) + 1,
            _ if line_starts => at.start..at.end + (after.len() - rest.len()),
            _ => start..at.end,
        }
    }

    /// One more item of a list that a node is.
    fn appended(&self, node: &KdlNode, values: &[KdlValue]) -> Option<(std::ops::Range<usize>, String)> {
        let words: Vec<String> = values.iter().map(written).collect();
        if let Some(last) = node.children().and_then(|block| block.nodes().last()) {
            let end = range(last.entries().last()?.span()).end;
            let indent = self.indent_of(range(last.span()).start)?;
            let line_end = self.text[end..].find('\n').map_or(self.text.len(), |at| end + at);
            return Some((line_end..line_end, words.iter().map(|word| format!("\n{indent}- {word}")).collect()));
        }
        if node.children().is_some() {
            return None;
        }
        let end = node.entries().last().map_or(range(node.name().span()).end, |entry| range(entry.span()).end);
        Some((end..end, format!(" {}", words.join(" "))))
    }

    /// The blanks in front of something that starts its line.
    fn indent_of(&self, at: usize) -> Option<&str> {
        let before = &self.text[..at];
        let line = before.rfind('\n').map_or(0, |at| at + 1);
        before[line..].chars().all(|one| one == ' ' || one == '\t').then_some(&before[line..])
    }

    /// A value that is not there yet: in its table's block, or as its property, or with the tables that it needs.
    fn inserted(
        &self,
        around: &Around<'_>,
        last: &str,
        values: &[KdlValue],
        is_scalar: bool,
    ) -> Result<(std::ops::Range<usize>, String), String> {
        let plain = |key: &str| {
            let simple = key.starts_with(|one: char| one.is_ascii_alphabetic())
                && key.chars().all(|one| one.is_ascii_alphanumeric() || one == '_' || one == '-');
            if simple { key.to_owned() } else { format!("\"{}\"", key.replace('\\', "\\\\").replace('"', "\\\"")) }
        };
        let words: Vec<String> = values.iter().map(written).collect();
        let own = format!("{} {}", plain(last), words.join(" ")).trim_end().to_owned();
        let mut lines = own;
        for key in around.missing.iter().rev() {
            let inner: Vec<String> = lines.lines().map(|line| format!("    {line}")).collect();
            lines = format!("{} {{\n{}\n}}", plain(key), inner.join("\n"));
        }
        let end_of = |node: &KdlNode| {
            node.entries().last().map_or(range(node.name().span()).end, |entry| range(entry.span()).end)
        };
        match (around.node, around.inside.and_then(|block| block.nodes().last())) {
            (Some(node), None) if node.children().is_none() && is_scalar && around.missing.is_empty() => {
                let at = end_of(node);
                Ok((at..at, format!(" {}={}", plain(last), words.join(" "))))
            }
            (Some(node), None) if node.children().is_none() => {
                let indent = self.indent_of(range(node.span()).start).unwrap_or_default();
                let inner: Vec<String> = lines.lines().map(|line| format!("{indent}    {line}")).collect();
                let at = end_of(node);
                Ok((at..at, format!(" {{\n{}\n{indent}}}", inner.join("\n"))))
            }
            (None, None) => {
                let start = if self.text.is_empty() || self.text.ends_with('\n') { "" } else { "\n" };
                Ok((self.text.len()..self.text.len(), format!("{start}{lines}\n")))
            }
            (_, None) => Err("its table has an empty block: change it by hand".to_owned()),
            (_, Some(sibling)) => {
                let end = range(sibling.span()).end;
                let shown = self.text[..end].trim_end_matches([' ', '\t', '\n', ';']).len();
                let line_end = self.text[shown..].find('\n').map_or(self.text.len(), |at| shown + at);
                let rest = self.text[shown..line_end].split("//").next().unwrap_or_default();
                match self.indent_of(range(sibling.span()).start) {
                    Some(indent) if !rest.contains('}') => {
                        let lines: Vec<String> = lines.lines().map(|line| format!("{indent}{line}")).collect();
                        let gap = if around.node.is_none() && around.missing.len() == 1 { "\n\n" } else { "\n" };
                        Ok((line_end..line_end, format!("{gap}{}", lines.join("\n"))))
                    }
                    _ => {
                        // What stands on one line stays on one: `users { slurm uid=901; munge uid=5 }`.
                        let mut line = format!("{} {}", plain(last), words.join(" ")).trim_end().to_owned();
                        for (depth, key) in around.missing.iter().rev().enumerate() {
                            line = match depth == 0 && is_scalar {
                                true => format!("{} {}={}", plain(key), plain(last), words.join(" ")),
                                false => format!("{} {{ {line} }}", plain(key)),
                            };
                        }
                        Ok((shown..shown, format!("; {line}")))
                    }
                }
            }
        }
    }
}

/// Name of a property as it is written.
fn key(entry: &KdlEntry) -> String {
    entry.name().map(ToString::to_string).unwrap_or_default()
}

fn items<'a>(found: &Found<'a>) -> Vec<(std::ops::Range<usize>, &'a KdlValue)> {
    match found {
        Found::Node(node) => {
            let own = node.entries().iter().filter(|entry| entry.name().is_none());
            let own = own.map(|entry| (range(entry.span()), entry.value()));
            let block = node.children().into_iter().flat_map(KdlDocument::nodes);
            let block = block.filter_map(|one| Some((range(one.span()), one.entries().first()?.value())));
            own.chain(block).collect()
        }
        Found::Property(entry) | Found::Argument(entry) => vec![(range(entry.span()), entry.value())],
    }
}

fn find<'a>(
    document: &'a KdlDocument,
    keys: &[&'a str],
    leading: Option<&str>,
) -> Result<(Around<'a>, Option<Found<'a>>), String> {
    let (last, tables) = keys.split_last().ok_or("an empty path")?;
    let mut around = Around { node: None, inside: Some(document), missing: Vec::new() };
    for (depth, key) in tables.iter().enumerate() {
        let mut nodes =
            around.inside.into_iter().flat_map(KdlDocument::nodes).filter(|node| node.name().value() == *key);
        let Some(node) = nodes.next() else {
            around.missing = tables[depth..].to_vec();
            return Ok((around, None));
        };
        if nodes.next().is_some() {
            return Err(by_hand(&keys[..=depth].join(".")));
        }
        around.inside = node.children();
        around.node = Some(node);
    }
    let mut nodes = around.inside.into_iter().flat_map(KdlDocument::nodes).filter(|node| node.name().value() == *last);
    if let Some(node) = nodes.next() {
        return if nodes.next().is_some() {
            Err(by_hand(&keys.join(".")))
        } else {
            Ok((around, Some(Found::Node(node))))
        };
    }
    let entries = || around.node.into_iter().flat_map(KdlNode::entries);
    let property = entries().find(|entry| entry.name().is_some_and(|name| name.value() == *last));
    let argument = || entries().find(|entry| entry.name().is_none() && leading == Some(*last));
    let found = property.map(Found::Property).or_else(|| argument().map(Found::Argument));
    Ok((around, found))
}

/// What a text means for a field: one value, or the items of a list.
fn values(field: &Field, kind: &str, path: &str, text: &str) -> Result<Vec<KdlValue>, String> {
    fn value(one: &toml_edit::Value) -> Option<KdlValue> {
        match one {
            toml_edit::Value::String(text) => Some(KdlValue::String(text.value().clone())),
            toml_edit::Value::Integer(number) => Some(KdlValue::Integer(i128::from(*number.value()))),
            toml_edit::Value::Boolean(truth) => Some(KdlValue::Bool(*truth.value())),
            _ => None,
        }
    }
    let read = Edit::value(field, kind, path, text)?;
    let all: Option<Vec<KdlValue>> = match &read {
        toml_edit::Value::Array(items) => items.iter().map(value).collect(),
        one => value(one).map(|one| vec![one]),
    };
    all.ok_or_else(|| by_hand(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "// head\nimage compute release=\"bookworm\"   // the image\n\nkernel package=\"linux-image-amd64\" {\n    drivers \"+ice\"  // new cards\n}\n\npackages {\n    install {\n        - \"a\"  // for a\n        - \"b\"\n    }\n}\nboot { cmdline \"quiet\" }\n";

    #[track_caller]
    fn edited(text: &str, edits: &[&str]) -> String {
        let mut after = KdlText::new(text).unwrap();
        for edit in edits {
            after.apply(&[], &Edit::parse(edit).unwrap(), Some("name")).unwrap();
        }
        after.text().to_owned()
    }

    #[test]
    fn values_change_where_they_stand() {
        let after = edited(TEXT, &["image.release=trixie", "image.name=login", "kernel.drivers+=-be2net"]);
        let wanted = TEXT.replace("bookworm", "trixie").replace("image compute", "image \"login\"");
        assert_eq!(after, wanted.replace("\"+ice\"  //", "\"+ice\" \"-be2net\"  //"));
        assert_eq!(edited(TEXT, &["kernel.package=linux-image-cloud-amd64"]).matches("cloud").count(), 1);
        let after = edited(TEXT, &["boot.cmdline=[\"a b\", \"c\"]"]);
        assert!(after.contains("boot { cmdline \"a b\" \"c\" }"), "{after}");
    }

    #[test]
    fn items_come_and_go_with_their_layout() {
        let after = edited(TEXT, &["packages.install+=c", "packages.install-=b"]);
        assert!(after.contains("        - \"a\"  // for a\n        - \"c\"\n    }"), "{after}");
        let after = edited(TEXT, &["kernel.drivers-=+ice"]);
        assert!(after.contains("    drivers  // new cards\n"), "{after}");
    }

    #[test]
    fn what_is_missing_is_made() {
        let after = edited(TEXT, &["kernel.version=6.1.0-31-amd64"]);
        assert!(after.contains("    drivers \"+ice\"  // new cards\n    version \"6.1.0-31-amd64\"\n}"), "{after}");
        let after = edited(TEXT, &["boot.root_size=80%", "pack.level=5", "image.arch=x86_64"]);
        assert!(after.contains("boot { cmdline \"quiet\"; root_size \"80%\" }"), "{after}");
        assert!(after.contains("release=\"bookworm\" arch=\"x86_64\"   //"), "{after}");
        assert!(after.ends_with("}\n\npack {\n    level 5\n}\n"), "{after}");
        // Tables that stand on one line.
        let after = edited("users { slurm uid=901 gid=901 }  // ids\n", &["users.munge.uid=5", "users.munge.gid=6"]);
        assert_eq!(after, "users { slurm uid=901 gid=901; munge uid=5 gid=6 }  // ids\n");
        let after = edited("variant { gpu plain=#true }\n", &["variant.cpu.packages.install+=a"]);
        assert_eq!(after, "variant { gpu plain=#true; cpu { packages { install \"a\" } } }\n");
        assert_eq!(edited("", &["xcat.node_support=true"]), "xcat {\n    node_support #true\n}\n");
        let after = edited("kernel package=x\n", &["kernel.drivers+=+ice"]);
        assert_eq!(after, "kernel package=x {\n    drivers \"+ice\"\n}\n");
    }

    #[test]
    fn what_goes_leaves_no_empty_line() {
        let text = "system {\n    timezone UTC\n    hostname dhcp\n}\n";
        let mut after = KdlText::new(text).unwrap();
        let path = crate::FieldPath::parse("system.timezone").unwrap();
        after.apply(&[], &Edit { path, change: Change::Unset }, None).unwrap();
        assert_eq!(after.text(), "system {\n    hostname dhcp\n}\n");
    }

    #[test]
    fn what_is_not_edited_is_said_and_nothing_changes() {
        for (text, edit) in [
            ("kernel package=a\nkernel version=b\n", "kernel.package=c"),
            ("packages { }\n", "packages.install+=a"),
            ("packages { install \"a\" }\n", "packages.install+=a"),
            ("packages { install \"a\" }\n", "packages.install-=b"),
            ("packages { install \"a\" }\n", "kernel.drivers-=b"),
        ] {
            let mut after = KdlText::new(text).unwrap();
            after.apply(&[], &Edit::parse(edit).unwrap(), None).unwrap_err();
            assert_eq!(after.text(), text);
        }
        assert!(KdlText::new("a {").is_err());
    }
}
