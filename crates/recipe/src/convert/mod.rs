//! A recipe's file in the other format: the same document, with its comments.
//!
//! Comments are carried by position: one on lines of its own belongs to the key or item that follows it, one behind
//! something to that. What is lost is in docs/kdl.md.

mod comments;
mod kdl_text;
mod snippet;
mod toml_text;

use std::sync::Arc;

use super::front::kdl::is_kdl;
use super::front::open::{document_from, file_schema};
use super::{Model, Node, Value};
use base::source::{Finding, Severity, SourceFile, Span};

use comments::{Comments, not_for_kdl};
pub use snippet::{in_format, worded};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Toml,
    Kdl,
}

impl Format {
    pub fn of(name: &str) -> Self {
        if is_kdl(name) { Self::Kdl } else { Self::Toml }
    }

    pub fn other(self) -> Self {
        match self {
            Self::Toml => Self::Kdl,
            Self::Kdl => Self::Toml,
        }
    }

    pub fn ending(self) -> &'static str {
        match self {
            Self::Toml => "toml",
            Self::Kdl => "kdl",
        }
    }
}

#[derive(Debug, Clone)]
pub struct Converted {
    pub text: String,
    /// How many parts that `/-` takes out were left behind.
    pub left_out: usize,
}

/// Writes a recipe's file in a format; the text is read back and must say the same.
/// Errors: The file breaks the rules of its format, or holds what the other cannot say.
pub fn convert(file: &Arc<SourceFile>, to: Format) -> Result<Converted, Vec<Finding>> {
    let schema = file_schema();
    let document = document_from(file, schema)?;
    let from = Format::of(&file.name);
    if (from, to) == (Format::Toml, Format::Kdl)
        && !fault::planted("convert-bad-character")
        && let Some((found, at)) = not_for_kdl(&file.text)
    {
        let span = Span::new(file, at..at + found.len_utf8());
        let problem =
            format!("a comment has the character U+{:04X}, which KDL does not allow in comments", u32::from(found));
        let finding = Finding::error("convert::character", &span, problem).label("the character is here");
        return Err(vec![finding.help("remove it from the comment, then convert; nothing was written")]);
    }
    let comments = Comments::of(file, from, &document);
    let text = match to {
        Format::Toml => toml_text::text_of(&document, &comments),
        Format::Kdl => kdl_text::text_of(&document, &comments),
    };
    let name = format!("converted.{}", to.ending());
    let again = document_from(&SourceFile::new(&*name, &name, &*text), schema);
    let same = again.as_ref().is_ok_and(|again| is_same(&document, again));
    if !same && !fault::planted("converted-not-read-back") {
        let problem = format!("`{}` contains something that {} cannot express", file.name, to.ending());
        let mut findings = vec![
            Finding::nowhere(Severity::Error, "convert::differs", problem)
                .help("`imgbuild check` reports unknown keys; nothing was written"),
        ];
        findings.extend(again.err().unwrap_or_default());
        return Err(findings);
    }
    Ok(Converted { text, left_out: comments.left_out })
}

/// Whether two documents say the same: as they stand, whatever their order, and as a model if they are whole recipes.
fn is_same(one: &Node, other: &Node) -> bool {
    let (mut one, mut other) = (one.to_json(), other.to_json());
    one_or_more(&mut one);
    one_or_more(&mut other);
    let model = |value: &serde_json::Value| serde_json::from_value::<Model>(value.clone()).ok();
    one == other && model(&one) == model(&other)
}

/// What a recipe inherits from may be a file or a list of files; KDL has one form for one.
fn one_or_more(document: &mut serde_json::Value) {
    for (key, value) in document.as_object_mut().into_iter().flatten() {
        match value {
            serde_json::Value::Array(items) if key == "extends" && items.len() == 1 => *value = items.remove(0),
            _ => one_or_more(value),
        }
    }
}

/// Whether all items of a list are tables, and there are some.
fn of_tables(items: &[Node]) -> bool {
    !items.is_empty() && items.iter().all(|item| matches!(item.value, Value::Table(_)))
}

/// Widest line that is written before a list is broken.
const WIDEST: usize = 96;

#[cfg(test)]
mod tests;
