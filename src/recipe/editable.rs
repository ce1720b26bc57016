//! A recipe's file that is changed in place, in either format.

use std::collections::{HashMap, VecDeque};

use toml_edit::DocumentMut;

use super::kdl::{KdlText, is_kdl, leading_key};
use super::kin::WHOLE;
use super::{Edit, edit};

/// A file's text with changes.
pub struct Editable {
    text: Text,
    ends: LineEnds,
}

enum Text {
    Toml(Box<DocumentMut>),
    Kdl(KdlText),
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// How the lines of a file end and whether it begins with a byte order mark: editors on Windows write so, and what is
/// edited has neither.
struct LineEnds {
    has_mark: bool,
    /// For each line that was read, in order: its text, and whether it ended in CRLF.
    lines: Vec<(String, bool)>,
}

impl LineEnds {
    /// Takes them from a text; gives the text without them.
    fn take(text: &str) -> (Self, String) {
        let bare = text.strip_prefix(BYTE_ORDER_MARK);
        let has_mark = bare.is_some();
        let bare = bare.unwrap_or(text);
        let lines = bare.split_inclusive('\n').map(|line| match line.strip_suffix("\r\n") {
            Some(line) => (line.to_owned(), true),
            None => (line.trim_end_matches('\n').to_owned(), false),
        });
        (Self { has_mark, lines: lines.collect() }, bare.replace("\r\n", "\n"))
    }

    /// Gives them back to a text: each line that was there has the end that it had, a new one that of most lines.
    fn put(&self, text: &str) -> String {
        let windows = self.lines.iter().filter(|(_, is_windows)| *is_windows).count();
        let mut known: HashMap<&str, VecDeque<bool>> = HashMap::new();
        for (line, is_windows) in &self.lines {
            known.entry(line).or_default().push_back(*is_windows);
        }
        let mut whole = String::with_capacity(text.len() + windows + 3);
        whole.extend(self.has_mark.then_some(BYTE_ORDER_MARK));
        for line in text.split_inclusive('\n') {
            let Some(bare) = line.strip_suffix('\n') else {
                whole.push_str(line);
                continue;
            };
            let was = known.get_mut(bare).and_then(VecDeque::pop_front);
            whole.push_str(bare);
            whole.push_str(if was.unwrap_or(windows * 2 > self.lines.len()) { "\r\n" } else { "\n" });
        }
        whole
    }
}

/// Makes a change; a table that it adds at the end goes behind the comments at the end, which stay where they are.
fn behind_comments(
    document: &mut DocumentMut,
    change: impl FnOnce(&mut DocumentMut) -> Result<(), String>,
) -> Result<(), String> {
    let end = document.trailing().as_str().unwrap_or_default().to_owned();
    let before = document.to_string();
    change(document)?;
    let Some(body) = before.strip_suffix(&end).filter(|_| !end.trim().is_empty()) else { return Ok(()) };
    let after = document.to_string();
    let added = after.strip_suffix(&end).and_then(|after| after.strip_prefix(body));
    if let Some(added) = added.filter(|added| added.trim_start().starts_with('[')) {
        let line = if end.ends_with('\n') { "" } else { "\n" };
        let gap = if added.starts_with('\n') { "" } else { "\n" };
        let whole = format!("{body}{end}{line}{gap}{added}");
        *document = whole.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
    }
    Ok(())
}

/// A change that is not made in KDL, as a person would write it there.
fn in_blocks(keys: &[&str], value: &str) -> String {
    let name = |key: &&str| match key.chars().all(|one| one.is_ascii_alphanumeric() || "_-".contains(one)) {
        true => (*key).to_owned(),
        false => format!("{key:?}"),
    };
    let names: Vec<String> = keys.iter().map(name).collect();
    format!("{} {value}{}", names.join(" { "), " }".repeat(keys.len().saturating_sub(1)))
}

impl Editable {
    /// Reads a text; the ending of its name says which format it is.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(name: &str, text: &str) -> Result<Self, String> {
        let (ends, text) = LineEnds::take(text);
        let text = if is_kdl(name) {
            Text::Kdl(KdlText::new(&text)?)
        } else {
            let document = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
            Text::Toml(Box::new(document))
        };
        Ok(Self { text, ends })
    }

    /// The text as it is now.
    pub fn text(&self) -> String {
        match &self.text {
            Text::Toml(document) => self.ends.put(&document.to_string()),
            Text::Kdl(text) => self.ends.put(text.text()),
        }
    }

    /// Whether a value stands in this very file.
    pub fn has(&self, keys: &[&str]) -> bool {
        match &self.text {
            Text::Toml(document) => edit::found(document.as_table(), keys).is_some(),
            Text::Kdl(text) => text.has(keys, leading_key(&WHOLE, keys)),
        }
    }

    /// Whether a list in this very file holds an item.
    pub fn holds(&self, keys: &[&str], item: &str) -> bool {
        match &self.text {
            Text::Toml(document) => edit::holds(document.as_table(), keys, item),
            Text::Kdl(text) => text.holds(keys, item),
        }
    }

    /// Makes one change below `prefix`, the keys of the table that stands for the recipe.
    ///
    /// # Errors
    /// Why it cannot be made.
    pub fn apply(&mut self, prefix: &[&str], change: &Edit) -> Result<(), String> {
        match &mut self.text {
            Text::Toml(document) => behind_comments(document, |document| edit::apply(document, prefix, change)),
            Text::Kdl(text) => {
                let keys = [prefix, &change.path.keys().unwrap_or_default()].concat();
                text.apply(prefix, change, leading_key(&WHOLE, &keys))
            }
        }
    }

    /// Adds to what is not inherited an item of a list, or the whole key.
    ///
    /// # Errors
    /// Why it cannot be written.
    pub fn put_removal(&mut self, keys: &[&str], item: Option<&str>) -> Result<(), String> {
        match &mut self.text {
            Text::Toml(document) => behind_comments(document, |document| edit::put_removal(document, keys, item)),
            Text::Kdl(_) => {
                let what = item.map_or_else(|| "#true".to_owned(), |item| format!("{item:?}"));
                Err(format!("in KDL say by hand what is not inherited: {}", in_blocks(keys, &what)))
            }
        }
    }
}
