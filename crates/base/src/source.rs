//! Text files that a person wrote, and places in them.
//!
//! A span carries its file, because `#INCLUDE:` and `extends` mix files in one value.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// One text file as it was read, with the name by which messages call it.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceFile {
    /// How messages name the file: relative to the recipe where it lies below it.
    pub name: String,
    pub path: PathBuf,
    pub text: String,
    lines: Vec<usize>,
    share: Share,
}

impl SourceFile {
    pub fn new(name: impl Into<String>, path: impl AsRef<Path>, text: impl Into<String>) -> Arc<Self> {
        let text = text.into();
        let lines = std::iter::once(0).chain(text.match_indices('\n').map(|(at, _)| at + 1)).collect();
        let share = Share::of(cost(text.as_bytes()));
        Arc::new(Self { name: name.into(), path: path.as_ref().to_path_buf(), text, lines, share })
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

/// Words of a line, on an average: without a bound one line could have as many as all others.
const MOST_WORDS: usize = 10;

/// Says that a text has more lines or words than are read, or is more than a command can hold with all that it holds, if so.
pub fn too_much(bytes: &[u8], most: usize) -> Option<String> {
    let count = |which: &[u8]| bytes.iter().filter(|byte| which.contains(byte)).count();
    for (what, found, most) in [("lines", count(b"\n"), most), ("words", count(b" \t,"), most * MOST_WORDS)] {
        if found > most {
            return Some(format!("it has {} {what}: the limit is {}", counted(found), counted(most)));
        }
    }
    let total = HELD.load(Ordering::Relaxed).saturating_add(cost(bytes));
    (total > MOST_HELD).then(|| {
        format!("all lists and recipes of a command together need more than the limit of {} MiB", MOST_HELD >> 20)
    })
}

/// What a value of a text takes in memory, its place and its name with it.
const VALUE: u64 = 200;

/// What a text takes, with the values that are made of it.
fn cost(bytes: &[u8]) -> u64 {
    let values = bytes.iter().filter(|byte| matches!(byte, b'\n' | b',')).count() as u64;
    bytes.len() as u64 + values * VALUE
}

static HELD: AtomicU64 = AtomicU64::new(0);

/// Bytes that all texts of a command and what is made of them may take together.
const MOST_HELD: u64 = 512 << 20;

/// A part of what the texts of a command may take; given back when it is dropped.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Share(u64);

impl Share {
    fn of(bytes: u64) -> Self {
        HELD.fetch_add(bytes, Ordering::Relaxed);
        Self(bytes)
    }

    /// For so many values that were made of texts; none if they are too many.
    pub fn of_values(count: usize) -> Option<Self> {
        let bytes = VALUE.saturating_mul(count as u64);
        // What does not fit is never counted: another thread's share would be refused for it.
        let fits = |held: u64| {
            let sum = held.checked_add(bytes)?;
            (sum <= MOST_HELD || fault::planted("texts-without-end")).then_some(sum)
        };
        HELD.fetch_update(Ordering::Relaxed, Ordering::Relaxed, fits).ok().map(|_| Self(bytes))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        HELD.fetch_sub(self.0, Ordering::Relaxed);
    }
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

    #[test]
    fn a_text_has_a_bound_of_lines_and_of_words() {
        assert_eq!(too_much(b"a b, c\n", 1), None);
        assert_eq!(too_much(b"a\nb\n", 1).unwrap(), "it has 2 lines: the limit is 1");
        assert_eq!(too_much(&b"a ".repeat(11), 1).unwrap(), "it has 11 words: the limit is 10");
    }

    #[test]
    fn what_a_text_takes_is_given_back() {
        assert!(Share::of_values(usize::MAX / 400).is_none());
        assert!(Share::of_values(1).is_some() && too_much(b"a", 1).is_none());
    }

    #[test]
    fn a_share_that_is_refused_takes_nothing_from_others() {
        let is_over = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    assert!(Share::of_values(usize::MAX / 400).is_none());
                }
            });
            let refused = (0..100_000).filter(|_| Share::of_values(1).is_none()).count();
            is_over.store(true, Ordering::Relaxed);
            assert_eq!(refused, 0);
        });
    }
}
