//! Lines for a recipe inside messages.
//!
//! Anyone who writes a message puts what belongs into a recipe between `‹` and `›`, as TOML: `‹[kernel] version = "..."›`. Anyone who
//! prints it says in which format the reader's recipe is. A test reads all marks of the source text and holds their tables and
//! keys against the recipe's schema, so that no remedy names a key that is no longer there.

use toml_edit::{DocumentMut, InlineTable, Value};

use super::Format;
use super::kdl_text::{name_of, quoted};
use base::source::Finding;

const OPEN: char = '‹';
const CLOSE: char = '›';

/// What stands between two marks.
#[derive(Debug)]
pub(super) enum Snippet<'a> {
    Table(&'a str, Option<InlineTable>),
    /// Keys with values, of a table that the message names otherwise.
    Pairs(InlineTable),
    /// `true` or `false`.
    Truth(bool),
}

impl<'a> Snippet<'a> {
    /// Reads what stands between two marks; nothing where it is not TOML.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        if let Ok(truth) = text.parse() {
            return Some(Self::Truth(truth));
        }
        let Some(after) = text.strip_prefix('[') else { return pairs(text).map(Self::Pairs) };
        let (table, rest) = match after.strip_prefix('[') {
            Some(after) => after.split_once("]]")?,
            // A place in a list ends in a bracket too: `[repo[1]]`.
            None => {
                let end = after.find("] ").unwrap_or(after.len().checked_sub(1)?);
                (after.get(..end)?, after.get(end..)?.strip_prefix(']')?)
            }
        };
        if table.is_empty() || table.contains('\n') {
            return None;
        }
        match rest {
            "" => Some(Self::Table(table, None)),
            rest => Some(Self::Table(table, Some(pairs(rest.strip_prefix(' ')?)?))),
        }
    }

    fn in_kdl(&self) -> String {
        match self {
            Self::Table(table, None) => format!("`{table}`"),
            Self::Table(table, Some(inner)) => {
                table.rsplit('.').fold(nodes(inner), |inside, name| format!("{name} {{ {inside} }}"))
            }
            Self::Pairs(inner) => nodes(inner),
            Self::Truth(truth) => format!("#{truth}"),
        }
    }
}

fn pairs(text: &str) -> Option<InlineTable> {
    if text.contains('\n') {
        return None;
    }
    let document: DocumentMut = format!("x = {{ {text} }}\n").parse().ok()?;
    document.get("x")?.as_inline_table().filter(|inner| !inner.is_empty()).cloned()
}

fn nodes(table: &InlineTable) -> String {
    table.iter().map(|(key, value)| format!("{} {}", name_of(key), argument(value))).collect::<Vec<_>>().join("; ")
}

fn argument(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text.value()),
        Value::Boolean(truth) => format!("#{}", truth.value()),
        Value::Array(items) => items.iter().map(argument).collect::<Vec<_>>().join(" "),
        Value::InlineTable(table) => format!("{{ {} }}", nodes(table)),
        Value::Integer(_) | Value::Float(_) | Value::Datetime(_) => value.to_string().trim().to_owned(),
    }
}

/// What a text has between marks, with the text before each; the last part has no mark.
fn parts(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let whole = rest?;
        let mut from = 0;
        while let Some(at) = whole[from..].find(OPEN).map(|at| from + at) {
            let inner = at + OPEN.len_utf8();
            // The nearest pair: a name that someone gave a file may have marks of its own.
            if let Some(end) = whole[inner..].find([OPEN, CLOSE]).map(|end| inner + end)
                && whole[end..].starts_with(CLOSE)
            {
                rest = Some(&whole[end + CLOSE.len_utf8()..]);
                return Some((&whole[..at], Some(&whole[inner..end])));
            }
            from = inner;
        }
        rest = None;
        Some((whole, None))
    })
}

/// A message with its lines for a recipe in the format of the reader's. What only looks like a mark stays as it is.
pub fn in_format(text: &str, format: Format) -> String {
    let mut out = String::with_capacity(text.len());
    for (before, inner) in parts(text) {
        out.push_str(before);
        let Some(inner) = inner else { continue };
        match (Snippet::parse(inner), format) {
            (Some(_), Format::Toml) => out.push_str(inner),
            (Some(snippet), Format::Kdl) => out.push_str(&snippet.in_kdl()),
            // A path in it has a quote: shown as it was meant, without the marks.
            (None, _) if inner.starts_with('[') && inner.contains("] ") && inner.contains(" = ") => out.push_str(inner),
            (None, _) => out.extend([OPEN.to_string().as_str(), inner, CLOSE.to_string().as_str()]),
        }
    }
    out
}

/// A finding with its lines for a recipe in the format of the reader's.
pub fn worded(finding: &Finding, format: Format) -> Finding {
    Finding {
        message: in_format(&finding.message, format),
        label: in_format(&finding.label, format),
        help: finding.help.as_deref().map(|help| in_format(help, format)),
        ..finding.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::front::field::FieldPath;
    use crate::inherit::file_fields::FILE;

    #[test]
    fn marked_lines_are_in_the_readers_format_and_others_stay() {
        for (said, toml, kdl) in [
            (
                "add: ‹[system] authorized_keys = [\"keys/admin.pub\", \"b\"]›",
                "add: [system] authorized_keys = [\"keys/admin.pub\", \"b\"]",
                "add: system { authorized_keys \"keys/admin.pub\" \"b\" }",
            ),
            ("one with ‹[kernel]› version", "one with [kernel] version", "one with `kernel` version"),
            ("in ‹[[kernel.build]]›", "in [[kernel.build]]", "in `kernel.build`"),
            ("a key of ‹[repo[1]]›", "a key of [repo[1]]", "a key of `repo[1]`"),
            (
                "‹[[repo]] source = \"host\", suites = [\"...\"]›",
                "[[repo]] source = \"host\", suites = [\"...\"]",
                "repo { source \"host\"; suites \"...\" }",
            ),
            (
                "‹[xcat] path_map = { \"/opt/xcat\" = \"vendor\" }›",
                "[xcat] path_map = { \"/opt/xcat\" = \"vendor\" }",
                "xcat { path_map { \"/opt/xcat\" \"vendor\" } }",
            ),
            ("‹packages.install = [\"vim\"]›", "packages.install = [\"vim\"]", "packages { install \"vim\" }"),
            (
                "‹check-packages = false›; ‹level = 9›",
                "check-packages = false; level = 9",
                "check-packages #false; level 9",
            ),
            ("‹true› or ‹false›", "true or false", "#true or #false"),
            ("not marked: a = true, [kernel]", "not marked: a = true, [kernel]", "not marked: a = true, [kernel]"),
            ("a file ‹odd› ‹ ‹a = 1› ›", "a file ‹odd› ‹ a = 1 ›", "a file ‹odd› ‹ a 1 ›"),
            ("‹[]› ‹[a]x› ‹a = 1\n›", "‹[]› ‹[a]x› ‹a = 1\n›", "‹[]› ‹[a]x› ‹a = 1\n›"),
            ("in ‹[users.jo e]›", "in [users.jo e]", "in `users.jo e`"),
            ("‹[workspace] allow = [\"a\"b\"]›", "[workspace] allow = [\"a\"b\"]", "[workspace] allow = [\"a\"b\"]"),
            (
                "‹[[pack.also]] archive = \"squashfs\"›",
                "[[pack.also]] archive = \"squashfs\"",
                "pack { also { archive \"squashfs\" } }",
            ),
        ] {
            assert_eq!(in_format(said, Format::Toml), toml);
            assert_eq!(in_format(said, Format::Kdl), kdl);
        }
    }

    /// The marks of a file of Rust, with what is filled in when it runs as `1`.
    fn marks(source: &str) -> Vec<String> {
        let lines = source.lines().filter(|line| !line.trim_start().starts_with("//"));
        let text = lines.collect::<Vec<_>>().join("\n");
        let filled = regex::Regex::new(r"\{[a-z_]*\}").unwrap();
        let rust =
            |inner: &str| filled.replace_all(inner, "1").replace("{{", "{").replace("}}", "}").replace("\\\"", "\"");
        parts(&text).filter_map(|(_, inner)| inner.map(rust)).collect()
    }

    #[test]
    fn every_mark_names_a_table_and_keys_that_a_recipe_has() {
        let is_field = |path: &str| FieldPath::parse(path).and_then(|path| path.field()).is_ok();
        let top: Vec<&str> = FILE["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        let of_table =
            |table: &str, key: &str| is_field(&format!("{table}.{key}")) || is_field(&format!("{table}[0].{key}"));
        // Not of a recipe: a mount point; a key of imgbuild.toml.
        let is_known = |key: &str| {
            ["/tmp", "images"].contains(&key) || is_field(key) || top.iter().any(|table| of_table(table, key))
        };
        let sources =
            walkdir::WalkDir::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src")).into_iter().map(Result::unwrap);
        let mut count = 0;
        for entry in sources.filter(|entry| entry.path().extension().is_some_and(|ending| ending == "rs")) {
            // nodes.toml has a schema of its own.
            let is_this =
                entry.path().ends_with("convert/snippet.rs") || entry.path().to_string_lossy().contains("/nodes/");
            let source = std::fs::read_to_string(entry.path()).unwrap();
            for mark in marks(&source).into_iter().filter(|_| !is_this) {
                count += 1;
                let place = format!("{}: {mark}", entry.path().display());
                match Snippet::parse(&mark).unwrap_or_else(|| panic!("{place}: not a line for a recipe")) {
                    Snippet::Table("1", None) | Snippet::Truth(_) => {}
                    Snippet::Table(table, inner) => {
                        assert!(table == "remove" || is_field(table), "{place}: no such table");
                        for (key, _) in inner.iter().flatten() {
                            assert!(of_table(table, key), "{place}: no key {key}");
                        }
                    }
                    Snippet::Pairs(inner) => {
                        for (key, _) in &inner {
                            assert!(is_known(key), "{place}: no key {key}");
                        }
                    }
                }
            }
        }
        assert!(count > 100, "{count}");
    }

    proptest::proptest! {
        #[test]
        fn nothing_but_marks_is_changed(text in "[‹›\\[\\]= a1\"é]{0,40}") {
            let toml = in_format(&text, Format::Toml);
            let bare = |text: &str| text.replace([OPEN, CLOSE], "");
            proptest::prop_assert_eq!(bare(&toml), bare(&text));
            let _ = in_format(&text, Format::Kdl);
        }
    }
}
