//! Text files that a person wrote, and places in them.
//!
//! A span carries its file, because `#INCLUDE:` and `extends` mix files in one value.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// One text file as it was read, with the name by which messages call it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceFile {
    /// How messages name the file: relative to the recipe where it lies below it.
    pub name: String,
    pub path: PathBuf,
    pub text: String,
    lines: Vec<usize>,
}

impl SourceFile {
    pub fn new(name: impl Into<String>, path: impl AsRef<Path>, text: impl Into<String>) -> Arc<Self> {
        let text = text.into();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        Arc::new(Self { name: name.into(), path: path.as_ref().to_path_buf(), text, lines })
    }

    /// Line and column, both counted from 1, of a byte offset; columns count characters.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let end = offset.min(self.text.len());
        let line = self.lines.partition_point(|start| *start <= end);
        let start = self.lines.get(line.saturating_sub(1)).copied().unwrap_or(0);
        let before = self.text.as_bytes().get(start..end).unwrap_or_default();
        (line, String::from_utf8_lossy(before).chars().count() + 1)
    }
}

/// Lines of a list; each becomes a value with its place.
pub const MOST_LINES: usize = 100_000;
/// Lines of a recipe's or nodes' file.
pub const MOST_LINES_OF_FILE: usize = 200_000;

/// Says that a text has more lines than are read, if it has.
pub fn too_many_lines(bytes: &[u8], most: usize) -> Option<String> {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    (lines > most).then(|| format!("it has {} lines: the limit is {}", counted(lines), counted(most)))
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    pub file: Arc<SourceFile>,
    /// First byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    pub fn new(file: &Arc<SourceFile>, range: Range<usize>) -> Self {
        Self { file: Arc::clone(file), start: range.start, end: range.end.max(range.start) }
    }

    /// The line that the span starts on, from 1.
    pub fn line(&self) -> usize {
        self.file.lines.partition_point(|start| *start <= self.start.min(self.file.text.len()))
    }

    pub fn text(&self) -> &str {
        self.file.text.get(self.start..self.end).unwrap_or_default()
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (line, column) = self.file.position(self.start);
        write!(f, "{}:{line}:{column}", self.file.name)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// Worth knowing; nothing to do.
    Note,
    /// Probably not what was meant.
    Warning,
    /// Nothing is built while it stands.
    Error,
}

/// Something to say about a place in a file: what is wrong, and what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// Stable identifier, `room::problem`.
    pub code: &'static str,
    /// What is wrong: a lower-case fragment that names the thing in backticks.
    pub message: String,
    pub label: String,
    pub help: Option<String>,
    pub span: Option<Span>,
}

impl Finding {
    pub fn error(code: &'static str, span: &Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Error, code, span, message)
    }

    pub fn warning(code: &'static str, span: &Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Warning, code, span, message)
    }

    pub fn note(code: &'static str, span: &Span, message: impl Into<String>) -> Self {
        Self::new(Severity::Note, code, span, message)
    }

    fn new(severity: Severity, code: &'static str, span: &Span, message: impl Into<String>) -> Self {
        Self { severity, code, message: message.into(), label: String::new(), help: None, span: Some(span.clone()) }
    }

    pub fn nowhere(severity: Severity, code: &'static str, message: impl Into<String>) -> Self {
        Self { severity, code, message: message.into(), label: String::new(), help: None, span: None }
    }

    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// The candidates closest to `wanted`, best first, at most three; what "did you mean" is made of.
pub fn nearest<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    // No one mistypes that much, and how near two words are takes as long as both.
    if wanted.len() > 200 {
        return Vec::new();
    }
    let mut scored: Vec<(f64, &str)> = candidates
        .into_iter()
        .map(|name| {
            let prefix = if name.starts_with(wanted) || wanted.starts_with(name) { 0.05 } else { 0.0 };
            (strsim::jaro_winkler(wanted, name).max(by_words(wanted, name)) + prefix, name)
        })
        .filter(|(score, _)| *score > 0.82)
        .collect();
    scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
    scored.dedup_by(|a, b| a.1 == b.1);
    scored.into_iter().take(3).map(|(_, name)| name).collect()
}

/// How near names of several words are: each word of the first has one like it in the second, in any order; more words take
/// a little away.
fn by_words(wanted: &str, name: &str) -> f64 {
    let words = |text: &'_ str| -> Vec<String> { text.split(['-', '_', '.']).map(str::to_owned).collect() };
    let (wanted, name) = (words(wanted), words(name));
    if wanted.len() < 2 {
        return 0.0;
    }
    let best = |word: &String| {
        let likes = name.iter().map(|other| strsim::jaro_winkler(word, other));
        likes.fold(0.0, f64::max)
    };
    let likes: Vec<f64> = wanted.iter().map(best).collect();
    if likes.iter().any(|like| *like < 0.88) {
        return 0.0;
    }
    likes.iter().sum::<f64>() / wanted.len() as f64 - 0.03 * wanted.len().abs_diff(name.len()) as f64
}

pub fn counted_as(number: usize, one: &str, many: &str) -> String {
    format!("{} {}", counted(number), if number == 1 { one } else { many })
}

pub fn counted(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_count_lines_and_characters_from_one() {
        let file = SourceFile::new("a", "/a", "éx\nyz\n");
        assert_eq!(file.position(0), (1, 1));
        assert_eq!(file.position(2), (1, 2));
        assert_eq!(file.position(4), (2, 1));
        assert_eq!(file.position(1), (1, 2));
        assert_eq!(file.position(999), (3, 1));
    }

    #[test]
    fn near_names_come_best_first() {
        assert_eq!(nearest("virtionet", ["virtio_net", "igb", "virtio_blk"])[0], "virtio_net");
        assert!(nearest("zzz", ["virtio_net"]).is_empty());
        assert_eq!(nearest("mytol", ["sitecopy", "mytool", "mtools"])[0], "mytool");
        assert_eq!(nearest("dhcp3-client", ["isc-dhcp-client", "isc-dhcp-server", "nfs-client"])[0], "isc-dhcp-client");
    }
}
