//! An installed policy's file contexts: which label a path gets.
//!
//! Grammar and precedence are those of libselinux (selabel_file(5), src/label_file.c before 3.8): a line is
//! `PATTERN [TYPE] LABEL`, the pattern is anchored at both ends, the last line that matches counts, and lines whose
//! pattern has no meta-character count more than all others.

use std::collections::HashMap;
use std::sync::OnceLock;

use regex::bytes::{Regex, RegexBuilder};

use store::Kind;

/// The label of a line that says that nothing is to be labelled.
const NOTHING: &str = super::NO_LABEL;

/// What makes a pattern more than a path. Source: libselinux, `spec_hasMetaChars`.
const META: &str = ".^$?*+|[({";

/// Largest compiled pattern, in bytes; those of the reference policy take some kilobytes.
const PATTERN_LIMIT: usize = 4 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Unusable {
    /// Number of the line, from 1.
    pub line: usize,
    pub problem: String,
}

fn letter(kind: &Kind) -> u8 {
    match kind {
        Kind::File { .. } | Kind::Whiteout => b'-',
        Kind::Directory => b'd',
        Kind::Symlink(_) => b'l',
        Kind::Character(..) => b'c',
        Kind::Block(..) => b'b',
        Kind::Fifo => b'p',
        Kind::Socket => b's',
    }
}

#[derive(Debug)]
struct Rule {
    pattern: String,
    /// Bytes of the pattern's first folder, where that is fixed: they are compared, not matched.
    stem: usize,
    /// What every path that matches begins with.
    fixed: String,
    /// Only such a thing.
    kind: Option<u8>,
    label: String,
    /// The whole path, if there are no meta-characters.
    exact: bool,
    compiled: OnceLock<Option<Regex>>,
}

/// File contexts, in the order in which they count.
#[derive(Debug, Default)]
pub(super) struct FileContexts {
    rules: Vec<Rule>,
    /// Numbers of rules by the folder (`/usr/bin/`) that their fixed part ends in, those that count most last.
    by_folder: HashMap<String, Vec<usize>>,
    subs: Substitutions,
    subs_dist: Substitutions,
}

/// Lines of a file `.subs` or `.subs_dist`: a folder, and the one whose rules hold for it.
#[derive(Debug, Default)]
struct Substitutions(Vec<(String, String)>);

impl Substitutions {
    fn parse(text: &str) -> Self {
        let pair = |line: &str| {
            let mut words = line.split_ascii_whitespace();
            let from = words.next().filter(|word| !word.starts_with('#'))?;
            Some((from.to_owned(), words.next()?.to_owned()))
        };
        Self(text.lines().filter_map(pair).collect())
    }

    /// The path with its beginning replaced; later lines are looked at first.
    fn apply(&self, path: &str) -> Option<String> {
        self.0.iter().rev().find_map(|(from, to)| {
            let rest = path.strip_prefix(from.as_str())?;
            match rest.as_bytes().first() {
                None => Some(to.clone()),
                Some(b'/') if to == "/" => Some(rest.to_owned()),
                Some(b'/') => Some(format!("{to}{rest}")),
                Some(_) if fault::planted("label-of-longer-name") => Some(format!("{to}{rest}")),
                Some(_) => None,
            }
        })
    }
}

/// The files of a policy that say what gets which label; empty where one is not there.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Texts<'a> {
    /// file_contexts, file_contexts.homedirs and file_contexts.local, in the order in which they are read.
    pub rules: [&'a str; 3],
    pub subs: &'a str,
    pub subs_dist: &'a str,
}

impl FileContexts {
    /// Reads the files of a policy; gives for each of the three files of rules the lines that cannot be used as well.
    pub(super) fn parse(texts: Texts<'_>) -> (Self, [Vec<Unusable>; 3]) {
        let mut unusable: [Vec<Unusable>; 3] = Default::default();
        let (mut patterns, mut exact) = (Vec::new(), Vec::new());
        for (text, unusable) in texts.rules.iter().zip(&mut unusable) {
            for (index, line) in text.lines().enumerate() {
                match rule(line) {
                    Ok(Some(rule)) => {
                        if rule.exact && !fault::planted("label-by-order-alone") { &mut exact } else { &mut patterns }
                            .push(rule);
                    }
                    Ok(None) => {}
                    Err(problem) => unusable.push(Unusable { line: index + 1, problem }),
                }
            }
        }
        patterns.append(&mut exact);
        let mut by_folder: HashMap<String, Vec<usize>> = HashMap::new();
        for (number, rule) in patterns.iter().enumerate() {
            let folder = rule.fixed.rfind('/').map_or("", |end| &rule.fixed[..=end]);
            by_folder.entry(folder.to_owned()).or_default().push(number);
        }
        let (subs, subs_dist) = (Substitutions::parse(texts.subs), Substitutions::parse(texts.subs_dist));
        (Self { rules: patterns, by_folder, subs, subs_dist }, unusable)
    }

    /// The label of an absolute path; none where no rule says one.
    pub(super) fn label(&self, path: &str, kind: &Kind) -> Option<&str> {
        let once = self.subs.apply(path);
        let twice = self.subs_dist.apply(once.as_deref().unwrap_or(path));
        let path = twice.as_deref().or(once.as_deref()).unwrap_or(path);
        let letter = letter(kind);
        let mut best: Option<usize> = None;
        let ends = path.bytes().enumerate().filter(|(_, byte)| *byte == b'/').map(|(at, _)| at + 1);
        for folder in std::iter::once(0).chain(ends).filter_map(|end| self.by_folder.get(&path[..end])) {
            for number in folder.iter().rev() {
                if best.is_some_and(|best| best > *number) {
                    break;
                }
                let Some(rule) = self.rules.get(*number) else { continue };
                if rule.kind.is_none_or(|wanted| wanted == letter) && rule.matches(path) {
                    best = Some(*number);
                    break;
                }
            }
        }
        let label = self.rules.get(best?)?.label.as_str();
        (label != NOTHING).then_some(label)
    }
}

impl Rule {
    fn matches(&self, path: &str) -> bool {
        if !path.starts_with(&self.fixed) {
            return false;
        }
        if self.exact && !self.pattern.contains('\\') {
            return path == self.pattern;
        }
        if self.stem > 0 && file_stem(path) != self.stem {
            return false;
        }
        let compiled = self.compiled.get_or_init(|| compile(&self.pattern[self.stem..]).ok());
        compiled.as_ref().is_some_and(|pattern| pattern.is_match(&path.as_bytes()[self.stem..]))
    }
}

/// Bytes of a path's first folder; none for what lies in the root.
fn file_stem(path: &str) -> usize {
    path.get(1..).and_then(|rest| rest.find('/')).map_or(0, |at| at + 1)
}

/// As libselinux compiles it: bytes, `.` is any of them, and the anchors stand beside the pattern, not around it.
fn compile(pattern: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(&format!("^{pattern}$"))
        .unicode(false)
        .dot_matches_new_line(true)
        .size_limit(PATTERN_LIMIT)
        .build()
}

fn rule(line: &str) -> Result<Option<Rule>, String> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let (pattern, kind, label) = match words[..] {
        [] => return Ok(None),
        [first, ..] if first.starts_with('#') => return Ok(None),
        [_] => return Err("a pattern without a label".to_owned()),
        [pattern, label] => (pattern, None, label),
        // What stands behind the label is not read.
        [pattern, kind, label, ..] => (pattern, Some(kind), label),
    };
    let kind = match kind.map(str::as_bytes) {
        None => None,
        Some([b'-', letter @ (b'-' | b'd' | b'l' | b'c' | b'b' | b'p' | b's')]) => Some(*letter),
        Some(_) => {
            let kind = kind.unwrap_or_default();
            return Err(format!("`{kind}` is not a type of file (--, -d, -l, -c, -b, -p, -s)"));
        }
    };
    regex_syntax::ParserBuilder::new()
        .unicode(false)
        .utf8(false)
        .dot_matches_new_line(true)
        .build()
        .parse(&format!("^{pattern}$"))
        .map_err(|error| {
            let text = error.to_string();
            let reason = text
                .lines()
                .rev()
                .find_map(|line| line.strip_prefix("error: "))
                .unwrap_or("it is not a regular expression");
            format!("the pattern `{pattern}` cannot be compiled: {reason}")
        })?;
    let fixed = fixed_part(pattern);
    let exact = !has_meta(pattern);
    let stem = pattern_stem(pattern);
    Ok(Some(Rule {
        pattern: pattern.to_owned(),
        stem,
        fixed,
        kind,
        label: label.to_owned(),
        exact,
        compiled: OnceLock::new(),
    }))
}

fn has_meta(pattern: &str) -> bool {
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        if character == '\\' {
            characters.next();
        } else if META.contains(character) {
            return true;
        }
    }
    false
}

/// Bytes of a pattern's first folder, if it has no meta-character. Source: libselinux, `get_stem_from_spec`.
fn pattern_stem(pattern: &str) -> usize {
    let end = file_stem(pattern);
    if pattern[..end].contains(|character| META.contains(character)) { 0 } else { end }
}

/// What all paths begin with that a pattern matches.
fn fixed_part(pattern: &str) -> String {
    let mut fixed = String::new();
    let mut characters = pattern.chars().peekable();
    while let Some(character) = characters.next() {
        let plain = match character {
            '\\' => match characters.next() {
                Some(escaped) if escaped.is_ascii_punctuation() => escaped,
                _ => break,
            },
            meta if META.contains(meta) => break,
            plain => plain,
        };
        // What may be missing is not fixed.
        if characters.peek().is_some_and(|next| "?*{".contains(*next)) {
            break;
        }
        fixed.push(plain);
    }
    if has_alternatives(pattern) { String::new() } else { fixed }
}

/// Whether there is a `|` outside of all brackets.
fn has_alternatives(pattern: &str) -> bool {
    let (mut depth, mut in_class) = (0usize, false);
    let mut characters = pattern.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => {
                characters.next();
            }
            ']' => in_class = false,
            _ if in_class => {}
            '[' => in_class = true,
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            '|' if depth == 0 => return true,
            _ => {}
        }
    }
    false
}
