//! Matching as `find -path` does: fnmatch(3) without special treatment of `/` or leading dots.

/// Whether the whole of `name` matches `pattern`: `*` and `?` cross `/`, `[...]` and `[!...]` are sets, `\` quotes.
pub fn matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where the last `*` was and how much it has taken: on a mismatch it takes one more.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        let step = match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
                continue;
            }
            Some(_) => match_one(&pattern[p..], name[n]),
            None => None,
        };
        match (step, star) {
            (Some(length), _) => {
                p += length;
                n += 1;
            }
            (None, Some((at, taken))) => {
                star = Some((at, taken + 1));
                p = at + 1;
                n = taken + 1;
            }
            (None, None) => return false,
        }
    }
    pattern[p..].iter().all(|rest| *rest == '*')
}

/// Whether the pattern's first element matches a character; gives the element's length.
fn match_one(pattern: &[char], character: char) -> Option<usize> {
    match pattern[0] {
        '?' => Some(1),
        '\\' if pattern.len() > 1 => (pattern[1] == character).then_some(2),
        '[' => match set(pattern) {
            Some((length, negated, items)) => {
                let inside = items.iter().any(|(from, to)| (*from..=*to).contains(&character));
                (inside != negated).then_some(length)
            }
            None => (character == '[').then_some(1),
        },
        plain => (plain == character).then_some(1),
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
    let length = match_one(&characters, character)?;
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
        fn a_literal_matches_itself_and_nothing_panics(pattern in "[a-c*?\\[\\]!\\\\/-]{0,12}", name in "[a-c/]{0,12}") {
            let _ = matches(&pattern, &name);
            prop_assert!(matches(&name, &name));
            prop_assert!(matches("*", &name));
        }
    }
}
