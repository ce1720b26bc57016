//! Matching as `find -path` does: fnmatch(3) without special treatment of `/` or leading dots.

use crate::fault;

/// Whether the whole of `name` matches `pattern`: `*` and `?` cross `/`, `[...]` and `[!...]` are sets, `\` quotes.
pub fn matches(pattern: &str, name: &str) -> bool {
    Glob::new(pattern).matches(name)
}

#[derive(Debug)]
pub struct Glob {
    /// What each name that matches begins with.
    start: String,
    rest: Vec<Element>,
}

#[derive(Debug, PartialEq, Eq)]
enum Element {
    Any,
    AnyOne,
    One(char),
    /// One of the ranges, or none of them.
    Set(bool, Vec<(char, char)>),
}

impl Element {
    fn is(&self, character: char) -> bool {
        match self {
            Self::Any => false,
            Self::AnyOne => true,
            Self::One(own) => *own == character,
            Self::Set(negated, ranges) => {
                ranges.iter().any(|(from, to)| (*from..=*to).contains(&character))
                    != (*negated && !fault::planted("glob-negation-lost"))
            }
        }
    }
}

impl Glob {
    pub fn new(pattern: &str) -> Self {
        let characters: Vec<char> = pattern.chars().collect();
        let mut glob = Self { start: String::new(), rest: Vec::new() };
        // Behind the last `]` no set is closed, and none is looked for: each would be read to the end.
        let closed = characters.iter().rposition(|character| *character == ']').unwrap_or(0);
        let mut at = 0;
        while at < characters.len() {
            let (length, element) = match characters[at] {
                '[' if at >= closed => (1, Element::One('[')),
                _ => first(&characters[at..]),
            };
            at += length;
            match element {
                Element::One(own) if glob.rest.is_empty() => glob.start.push(own),
                element => glob.rest.push(element),
            }
        }
        glob
    }

    pub fn matches(&self, name: &str) -> bool {
        let Some(mut name) = name.strip_prefix(&*self.start) else { return false };
        let mut pattern = &self.rest[..];
        // What is behind the last `*`, and what is left to it: on a mismatch it takes one character more.
        let mut star: Option<(&[Element], &str)> = None;
        while let Some(character) = name.chars().next() {
            let behind = &name[character.len_utf8()..];
            match pattern.split_first() {
                Some((Element::Any, more)) => {
                    star = Some((more, name));
                    pattern = more;
                }
                Some((element, more)) if element.is(character) => (pattern, name) = (more, behind),
                _ => {
                    let Some((more, from)) = star else { return false };
                    let mut left = from.chars();
                    left.next();
                    star = Some((more, left.as_str()));
                    (pattern, name) = (more, left.as_str());
                }
            }
        }
        pattern.iter().all(|rest| *rest == Element::Any)
    }
}

/// The first element of a pattern that is not empty, and its length.
fn first(pattern: &[char]) -> (usize, Element) {
    match pattern[0] {
        '*' => (1, Element::Any),
        '?' => (1, Element::AnyOne),
        '\\' if pattern.len() > 1 => (2, Element::One(pattern[1])),
        '[' => match set(pattern) {
            Some((length, negated, ranges)) => (length, Element::Set(negated, ranges)),
            None => (1, Element::One('[')),
        },
        plain => (1, Element::One(plain)),
    }
}

/// What follows the pattern's first element, if that matches a character; a leading `*` matches and stays.
pub fn after_first(pattern: &str, character: char) -> Option<&str> {
    if pattern.starts_with('*') {
        return Some(pattern);
    }
    let characters: Vec<char> = pattern.chars().collect();
    if characters.is_empty() {
        return None;
    }
    let (length, element) = first(&characters);
    if !element.is(character) {
        return None;
    }
    let bytes: usize = characters[..length].iter().map(|c| c.len_utf8()).sum();
    pattern.get(bytes..)
}

/// Length, negation and ranges of a set.
type Set = (usize, bool, Vec<(char, char)>);

/// Reads a set; none when it is not closed, and `[` stands for itself.
fn set(pattern: &[char]) -> Option<Set> {
    let mut at = 1;
    let negated = matches!(pattern.get(at), Some('!' | '^'));
    if negated {
        at += 1;
    }
    let first = at;
    let mut items = Vec::new();
    loop {
        let mut from = *pattern.get(at)?;
        if from == ']' && at > first {
            return Some((at + 1, negated, items));
        }
        if from == '\\' {
            at += 1;
            from = *pattern.get(at)?;
        }
        if pattern.get(at + 1) == Some(&'-') && pattern.get(at + 2).is_some_and(|to| *to != ']') {
            items.push((from, *pattern.get(at + 2)?));
            at += 3;
        } else {
            items.push((from, from));
            at += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::matches;

    #[test]
    fn matching_follows_fnmatch_without_pathname() {
        for (pattern, name, expected) in [
            ("./usr/share/doc*", "./usr/share/doc/a/README", true),
            ("./*.1", "./usr/share/man/m.1", true),
            ("./[bt]*", "./tmp/t", true),
            ("./[!b]*", "./boot", false),
            ("./a[", "./a[", true),
            ("./a\\*", "./a*", true),
            ("./a\\*", "./ab", false),
            ("./vim[0-9]*", "./vim82/x", true),
            ("./[]]x", "./]x", true),
            ("./tmp", "./tmp/t", false),
            ("*", ".", true),
            ("./a?c", "./a/c", true),
            ("", "", true),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    proptest! {
        #[test]
        fn star_takes_what_is_needed(pattern in "[ab*?]{0,8}", name in "[ab/\u{e9}]{0,8}") {
            fn slow(pattern: &[char], name: &[char]) -> bool {
                match (pattern.first(), name.first()) {
                    (None, None) => true,
                    (Some('*'), _) => slow(&pattern[1..], name) || !name.is_empty() && slow(pattern, &name[1..]),
                    (Some('?'), Some(_)) => slow(&pattern[1..], &name[1..]),
                    (Some(one), Some(other)) => one == other && slow(&pattern[1..], &name[1..]),
                    _ => false,
                }
            }
            let [slowly, of] = [&pattern, &name].map(|text| text.chars().collect::<Vec<char>>());
            prop_assert_eq!(matches(&pattern, &name), slow(&slowly, &of));
        }

        #[test]
        fn a_literal_matches_itself_and_nothing_panics(pattern in "[a-c*?\\[\\]!\\\\/-]{0,12}", name in "[a-c/]{0,12}") {
            let _ = matches(&pattern, &name);
            prop_assert!(matches(&name, &name));
            prop_assert!(matches("*", &name));
        }
    }
}
