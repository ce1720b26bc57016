//! Matching as `find -path` does: fnmatch(3) without special treatment of `/` or leading dots.

/// Whether the whole of `name` matches `pattern`: `*` and `?` cross `/`, `[...]` and `[!...]` are sets, `\` quotes.
pub fn matches(pattern: &str, name: &str) -> bool {
    Glob::new(pattern).matches(name)
}

#[derive(Debug)]
pub(crate) struct Glob {
    /// What each name that matches begins with.
    start: String,
    rest: Vec<Element>,
}

#[derive(Debug)]
enum Element {
    Any,
    AnyOne,
    One(char),
    /// One of the items, or none of them.
    Set(bool, Vec<Item>),
    /// What fnmatch(3) never matches.
    Never,
}

/// What stands in a set.
#[derive(Debug)]
enum Item {
    Range(char, char),
    Class(Class),
    /// A class that there is not: what was not matched before it never is.
    Never,
}

/// A class of characters as C.UTF-8 has it.
type Class = fn(char) -> bool;

/// Source: wctype(3). C's locales say that digits of other scripts are letters.
fn class(name: &str) -> Option<Class> {
    Some(match name {
        "alnum" => |one| one.is_alphanumeric(),
        "alpha" => |one| one.is_alphanumeric() && !one.is_ascii_digit(),
        "blank" => |one| one == '\t' || is_space(one) && !one.is_control() && !is_line(one),
        "cntrl" => |one| one.is_control() || is_line(one),
        "digit" => |one| one.is_ascii_digit(),
        "graph" => |one| is_graphic(one),
        "lower" => |one| one.is_lowercase(),
        "print" => |one| is_graphic(one) || is_space(one) && !one.is_control() && !is_line(one),
        "punct" => |one| is_graphic(one) && !one.is_alphanumeric(),
        "space" => |one| is_space(one),
        "upper" => |one| one.is_uppercase(),
        "xdigit" => |one| one.is_ascii_hexdigit(),
        _ => return None,
    })
}

/// Marks that end a line or a paragraph.
fn is_line(one: char) -> bool {
    matches!(one, '\u{2028}' | '\u{2029}')
}

/// Spaces at which a line may end, and what moves the place as they do.
fn is_space(one: char) -> bool {
    one.is_whitespace() && !matches!(one, '\u{85}' | '\u{a0}' | '\u{2007}' | '\u{202f}')
}

fn is_graphic(one: char) -> bool {
    !one.is_control() && !is_line(one) && !is_space(one)
}

impl Element {
    fn is(&self, character: char) -> bool {
        match self {
            Self::Any | Self::Never => false,
            Self::AnyOne => true,
            Self::One(own) => *own == character,
            Self::Set(negated, items) => {
                let is_negated = *negated && !fault::planted("glob-negation-lost");
                let has = |item: &Item| match item {
                    Item::Range(from, to) => (*from..=*to).contains(&character),
                    Item::Class(class) => class(character),
                    Item::Never => true,
                };
                match items.iter().find(|item| has(item)) {
                    Some(Item::Never) => false,
                    found => found.is_some() != is_negated,
                }
            }
        }
    }
}

impl Glob {
    pub(crate) fn new(pattern: &str) -> Self {
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

    pub(crate) fn matches(&self, name: &str) -> bool {
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
        pattern.iter().all(|rest| matches!(rest, Element::Any))
    }
}

/// The first element of a pattern that is not empty, and its length.
fn first(pattern: &[char]) -> (usize, Element) {
    match pattern[0] {
        '*' => (1, Element::Any),
        '?' => (1, Element::AnyOne),
        '\\' => pattern.get(1).map_or((1, Element::Never), |quoted| (2, Element::One(*quoted))),
        '[' => match set(pattern) {
            Some((length, negated, items)) => (length, Element::Set(negated, items)),
            None => (1, Element::One('[')),
        },
        plain => (1, Element::One(plain)),
    }
}

/// What follows the pattern's first element, if that matches a character; a leading `*` matches and stays.
pub(crate) fn after_first(pattern: &str, character: char) -> Option<&str> {
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

/// Length, negation and items of a set.
type Set = (usize, bool, Vec<Item>);

/// Reads a set as glibc's fnmatch does where characters have no order but that of their numbers; none when it is not closed,
/// and `[` stands for itself.
fn set(pattern: &[char]) -> Option<Set> {
    let is = |at: usize, character: char| pattern.get(at) == Some(&character);
    let mut at = 1;
    let negated = is(at, '!') || is(at, '^');
    if negated {
        at += 1;
    }
    let first = at;
    let mut items = Vec::new();
    while at < LONGEST_SET {
        let mut from = *pattern.get(at)?;
        if from == ']' && at > first {
            return Some((at + 1, negated, items));
        }
        at += 1;
        let found = if from == '[' { named(&pattern[at..]) } else { None };
        match (from, found) {
            (_, Some((length, Named::Class(class)))) => {
                items.push(class.map_or(Item::Never, Item::Class));
                at += length;
                continue;
            }
            (_, Some((length, Named::Same(one)))) => {
                items.push(Item::Range(one, one));
                at += length;
                continue;
            }
            (_, Some((length, Named::Symbol(one)))) => {
                at += length;
                let Some(one) = one else {
                    items.push(Item::Never);
                    continue;
                };
                from = one;
            }
            ('\\', None) => {
                from = *pattern.get(at)?;
                at += 1;
            }
            _ => {}
        }
        if is(at, '-') && pattern.get(at + 1).is_some() && !is(at + 1, ']') {
            at += 1 + usize::from(is(at + 1, '\\'));
            let symbol = if is(at, '[') && is(at + 1, '.') { named(&pattern[at + 1..]) } else { None };
            match symbol {
                Some((length, Named::Symbol(to))) => {
                    items.push(to.map_or(Item::Never, |to| Item::Range(from, to)));
                    at += length;
                }
                _ => items.push(Item::Range(from, *pattern.get(at)?)),
            }
            at += 1;
        } else {
            items.push(Item::Range(from, from));
        }
    }
    None
}

/// What stands in brackets of its own in a set.
enum Named {
    /// `[:digit:]`
    Class(Option<Class>),
    /// `[=a=]`
    Same(char),
    /// `[.a.]`; none if its name has not one character.
    Symbol(Option<char>),
}

/// Reads what follows a `[` in a set, and its length.
fn named(pattern: &[char]) -> Option<(usize, Named)> {
    let kind = *pattern.first()?;
    let end = |longest: usize| {
        let behind = pattern.get(1..)?;
        behind.windows(2).take(longest).position(|two| two == [kind, ']'])
    };
    match kind {
        ':' => {
            let length = end(LONGEST_CLASS)?;
            let name: String = pattern[1..=length].iter().collect();
            name.bytes().all(|letter| letter.is_ascii_lowercase()).then(|| (length + 3, Named::Class(class(&name))))
        }
        '=' => (end(2)? == 1).then(|| (4, Named::Same(pattern[1]))),
        '.' => {
            let length = end(LONGEST_CLASS)?;
            Some((length + 3, Named::Symbol((length == 1).then(|| pattern[1]))))
        }
        _ => None,
    }
}

/// Characters of a set: each that is not closed is read to its end.
const LONGEST_SET: usize = 1024;
/// Characters of a name of a class.
const LONGEST_CLASS: usize = 16;

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
            ("./tty[[:digit:]]*", "./tty10", true),
            ("./tty[[:digit:]]*", "./ttyS0", false),
            ("*[[:space:]]*", "./a b", true),
            ("./[![:upper:]_]*", "./_x", false),
            ("./[[=a=]]", "./a", true),
            ("./[[.-.]x]", "./-", true),
            ("./[\u{e9}]t\u{e9}", "./\u{e9}t\u{e9}", true),
            ("./[[:nothing:]]", "./n", false),
            ("./a\\", "./a\\", false),
        ] {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }

    /// What the C library answers, by Python; none where it has no UTF-8 of its own.
    fn oracle(cases: &[(String, String)]) -> Option<Vec<bool>> {
        let script = "import ctypes, locale, sys\nlocale.setlocale(locale.LC_ALL, 'C.UTF-8')\nfnmatch = ctypes.CDLL(None).fnmatch\n\
                      for line in sys.stdin.buffer:\n  pattern, name = line.rstrip(b'\\n').split(b'\\t')\n  print(fnmatch(pattern, name, 0))";
        let mut child = std::process::Command::new("python3")
            .args(["-c", script])
            .env_remove("POSIXLY_CORRECT")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .ok()?;
        let text: String = cases.iter().map(|(pattern, name)| format!("{pattern}\t{name}\n")).collect();
        let mut input = child.stdin.take()?;
        let writer = std::thread::spawn(move || std::io::Write::write_all(&mut input, text.as_bytes()));
        let answer = child.wait_with_output().ok()?;
        writer.join().unwrap().unwrap();
        let answer = String::from_utf8(answer.stdout).unwrap();
        answer.lines().map(|line| Some(line == "0")).collect()
    }

    /// The library's own answers to random patterns, of parts that make sets, classes and quotes often.
    #[test]
    fn random_patterns_are_answered_as_by_the_c_library() {
        const PARTS: &[&str] = &[
            "a",
            "b",
            "-",
            "]",
            "[",
            "[",
            "!",
            "^",
            "*",
            "?",
            "\\\\",
            "\\]",
            "\\a",
            "/",
            "\u{e9}",
            "\u{2003}",
            "7",
            "]*",
            "[!",
            "[^]",
            "[a-c",
            "[[:digit:]",
            "[:alpha:]",
            "[:space:]",
            "[:upper:]",
            "[:punct:]",
            "[:print:]",
            "[:blank:]",
            "[:none:]",
            "[=a=]",
            "[=\u{e9}=]",
            "[.a.]",
            "[.-.]",
            "[[:digit:]]",
            "[![:space:]]",
            "[[:alnum:]_]",
            "[[=b=]]",
            "[\u{e9}-\u{fc}]",
            "[[.a.]-c]",
        ];
        const LETTERS: &[&str] = &[
            "a", "b", "c", "d", "-", "]", "[", "!", "\\", "/", "7", "Z", "_", " ", "\u{e9}", "\u{c9}", "\u{663}",
            "\u{a0}", "\u{2003}", "\u{2014}", "\u{4e2d}", ":",
        ];
        let mut seed = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = |below: usize| {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            usize::try_from(seed % below as u64).unwrap()
        };
        let mut text = |parts: &[&str], most: usize| {
            let count = next(most) + 1;
            (0..count).map(|_| parts[next(parts.len())]).collect::<String>()
        };
        let cases: Vec<_> = (0..200_000).map(|_| (text(PARTS, 6), text(LETTERS, 3))).collect();
        let Some(answers) = oracle(&cases) else { return };
        assert_eq!(answers.len(), cases.len());
        // Where characters do not match, glibc tries their bytes, which are of no class.
        let bytes = |text: &str| -> String {
            let of = |byte: u8| {
                if byte.is_ascii() { char::from(byte) } else { char::from_u32(0xe000 + u32::from(byte)).unwrap() }
            };
            text.bytes().map(of).collect()
        };
        let differs = |((pattern, name), answer): (&(String, String), &bool)| {
            let own = matches(pattern, name);
            let is_same = own == *answer
                || *answer
                    && !(pattern.is_ascii() && name.is_ascii())
                    && (pattern.contains("[:p") || matches(&bytes(pattern), &bytes(name)));
            (!is_same).then(|| format!("{pattern} {name}: {answer}"))
        };
        let differ: Vec<String> = cases.iter().zip(&answers).filter_map(differs).collect();
        assert!(differ.is_empty(), "{} of {}: {:#?}", differ.len(), cases.len(), &differ[..differ.len().min(40)]);
        assert!(answers.iter().filter(|answer| **answer).count() > 2000);
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
        fn nothing_panics_and_all_match_a_star(pattern in "[a-c*?\\[\\]!\\\\/-]{0,12}", name in "[a-c/]{0,12}") {
            let _ = matches(&pattern, &name);
            prop_assert!(matches(&name, &name));
            prop_assert!(matches("*", &name));
        }
    }
}
