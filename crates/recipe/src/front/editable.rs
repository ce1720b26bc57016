//! A recipe's file that is changed in place, in either format.

use std::collections::{HashMap, VecDeque};

use toml_edit::DocumentMut;

use super::edit;
use super::kdl::{KdlText, is_kdl, leading_key};
use crate::inherit::file_fields::WHOLE;
use crate::{Change, Edit};

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

/// The text with a table that a change added in the place of its template: the commented lines that begin with `# [table]`,
/// as `imgbuild init` writes them. None where there is no such template, or where the text would say something else then.
fn in_its_template(before: &str, after: &str) -> Option<String> {
    let is_header = |line: &str| line.starts_with('[') && line.trim_end().ends_with(']');
    let old: Vec<&str> = before.lines().filter(|line| is_header(line)).collect();
    let mut lines: Vec<&str> = after.lines().collect();
    let at = lines.iter().position(|line| is_header(line) && !old.contains(line))?;
    let template = lines.iter().position(|line| line.strip_prefix('#').is_some_and(|rest| rest.trim() == lines[at]))?;
    let length = lines[template..].iter().take_while(|line| line.starts_with('#')).count();
    // What follows it must not become the new table's.
    let mut behind = lines[template + length..].iter().filter(|line| !line.trim().is_empty() && !line.starts_with('#'));
    if behind.next().is_some_and(|line| !is_header(line)) {
        return None;
    }
    let table = lines[at..].iter().take_while(|line| !line.trim().is_empty()).count();
    let table: Vec<&str> = lines.splice(at..at + table, []).collect();
    let template = if at < template { template - table.len() } else { template };
    lines.splice(template..template + length, table);
    let text = format!("{}\n", lines.join("\n").trim_end());
    let same = |text: &str| text.parse::<toml::Table>().ok();
    (same(&text)? == same(after)?).then_some(text)
}

/// The text after something was taken out, with the comments before it that a blank line parts from it: they are about something else.
/// None where there are none.
fn with_paragraphs(before: &str, after: &str) -> Option<String> {
    let (old, new): (Vec<&str>, Vec<&str>) =
        (before.split_inclusive('\n').collect(), after.split_inclusive('\n').collect());
    // From the end: of two comments that say the same the one above what was taken out is found.
    let same = old.iter().rev().zip(new.iter().rev()).take_while(|(old, new)| old == new).count();
    let start = new.len() - same;
    // In several places: which comment is about what is not known.
    let length = (old.len() > new.len() && old[..start] == new[..start]).then(|| old.len() - new.len())?;
    // What was taken out may end as the item before it does: the lines fit further down, too.
    let slides = (0..=same).take_while(|down| old[start..start + down] == old[start + length..start + length + down]);
    slides.into_iter().find_map(|down| paragraphs_at(&old, &new, start + down, length, after))
}

/// The same for what was taken out at a line.
fn paragraphs_at(old: &[&str], new: &[&str], start: usize, length: usize, after: &str) -> Option<String> {
    let removed = &old[start..start + length];
    let is_blank = |line: &str| line.trim().is_empty();
    let is_comment = |line: &str| line.trim_start().starts_with('#');
    let item = removed.iter().position(|line| !is_blank(line) && !is_comment(line))?;
    let end = removed[..item].iter().rposition(|line| is_blank(line))?;
    // One blank line is enough.
    let is_parted = new.get(start).is_some_and(|line| is_blank(line));
    let kept = if is_parted { &removed[..end] } else { &removed[..=end] };
    if !kept.iter().any(|line| is_comment(line)) || fault::planted("unset-takes-comments") {
        return None;
    }
    let text = [&old[..start], kept, &new[start..]].concat().concat();
    let same = |text: &str| text.parse::<toml::Table>().ok();
    (same(&text)? == same(after)?).then_some(text)
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

    pub fn holds(&self, keys: &[&str], item: &str) -> bool {
        match &self.text {
            Text::Toml(document) => edit::holds(document.as_table(), keys, item),
            Text::Kdl(text) => text.holds(keys, item),
        }
    }

    /// Makes one change below `prefix`, the keys of the table that stands for the recipe.
    pub fn apply(&mut self, prefix: &[&str], change: &Edit) -> Result<(), String> {
        match &mut self.text {
            Text::Toml(document) => {
                let before = document.to_string();
                behind_comments(document, |document| edit::apply(document, prefix, change))?;
                let after = document.to_string();
                let text = match change.change {
                    Change::Unset => with_paragraphs(&before, &after),
                    _ => in_its_template(&before, &after),
                };
                if let Some(text) = text {
                    **document = text.parse().map_err(|error: toml_edit::TomlError| error.to_string())?;
                }
                Ok(())
            }
            Text::Kdl(text) => {
                let keys = [prefix, &change.path.keys().unwrap_or_default()].concat();
                text.apply(prefix, change, leading_key(&WHOLE, &keys))
            }
        }
    }

    /// Adds to what is not inherited an item of a list, or the whole key.
    pub fn put_removal(&mut self, keys: &[&str], item: Option<&str>) -> Result<(), String> {
        match &mut self.text {
            Text::Toml(document) => behind_comments(document, |document| edit::put_removal(document, keys, item)),
            Text::Kdl(_) => {
                let what = item.map_or_else(|| "#true".to_owned(), |item| format!("{item:?}"));
                Err(format!("in KDL, write by hand what is not inherited: {}", in_blocks(keys, &what)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_table_takes_the_place_of_its_template() {
        let text = "[a]\nx = 1\n\n# A script.\n# [postinstall]\n# script = \"x\"\n# inputs = []\n\n# Units.\n# [services]\n# enable = []\n\n[boot]\ny = 2\n";
        let mut file = Editable::read("image.toml", text).unwrap();
        file.apply(&[], &Edit::parse("postinstall.script=compute.sh").unwrap()).unwrap();
        let expected = text
            .replace("# [postinstall]\n# script = \"x\"\n# inputs = []\n", "[postinstall]\nscript = \"compute.sh\"\n");
        assert_eq!(file.text(), expected);
        file.apply(&[], &Edit::parse("services.enable+=munge").unwrap()).unwrap();
        assert_eq!(
            file.text(),
            expected.replace("# [services]\n# enable = []\n", "[services]\nenable = [\"munge\"]\n")
        );
        // Where a value would land in the new table, the template stays.
        let inner = "[system]\n# [postinstall]\n# script = \"x\"\nhostname = \"n\"\n";
        let mut file = Editable::read("image.toml", inner).unwrap();
        file.apply(&[], &Edit::parse("postinstall.script=a.sh").unwrap()).unwrap();
        assert_eq!(file.text(), format!("{inner}\n[postinstall]\nscript = \"a.sh\"\n"));
    }

    #[test]
    fn what_is_taken_out_leaves_the_comments_of_others() {
        let text = "[a]\nx = 1\n\n# Who may log in.\n# [system]\n# hash = 1\n\n# About the script.\n[postinstall]\nscript = \"x\"\n\n[boot]\nroot_size = \"2G\"\n";
        let unset = |text: &str, path: &str| {
            let mut file = Editable::read("image.toml", text).unwrap();
            file.apply(&[], &Edit { path: crate::FieldPath::parse(path).unwrap(), change: Change::Unset }).unwrap();
            file.text()
        };
        let expected = text.replace("# About the script.\n[postinstall]\nscript = \"x\"\n\n", "");
        assert_eq!(unset(text, "postinstall"), expected);
        // At the end, and a key.
        let last = &text[..text.find("\n[boot]").unwrap()];
        assert_eq!(unset(last, "postinstall"), &text[..text.find("# About").unwrap()]);
        let key = "[kernel]\n# Our cards.\n\n# For the new one.\ndrivers = [\"+ice\"]\nversion = \"1\"\n";
        assert_eq!(unset(key, "kernel.drivers"), "[kernel]\n# Our cards.\n\nversion = \"1\"\n");
        assert_eq!(unset(&key.replace("# Our cards.\n\n", ""), "kernel.drivers"), "[kernel]\nversion = \"1\"\n");
        // The table before it ends with the same line.
        let twins = "[packages]\nlists = [\"b\"]\n\n# Ours.\n\n[otherpkgs]\nlists = [\"b\"]\n\n# Who.\n# [system]\n";
        assert_eq!(unset(twins, "otherpkgs"), twins.replace("[otherpkgs]\nlists = [\"b\"]\n\n", ""));
    }
}
