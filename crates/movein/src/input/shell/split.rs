//! Commands and words of a text, as a shell reads them.

use std::collections::BTreeMap;

/// Programs that ask something: before `&&` they are the condition of what follows.
const ASKING: [&str; 8] = ["[", "[[", "test", "!", "grep", "command", "which", "type"];

/// Most words that braces make of one.
const WORD_LIMIT: usize = 1000;

/// A command.
pub(super) struct Piece {
    /// What joins it to the one before: `&&` or `;`.
    pub(super) joined: &'static str,
    pub(super) text: String,
    /// Whether it is more than a simple command: `if`, `( .. )`, `a || b`.
    pub(super) is_compound: bool,
}

/// Commands between pipes.
pub(super) fn pieces(text: &str) -> Vec<String> {
    let (mut found, mut current, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None | Some('"'), '\\') => {
                current.push(c);
                current.extend(chars.next());
                continue;
            }
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '|') => {
                found.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    found.push(current);
    found
}

/// What stands between `$(` and its end, wherever it is.
pub(super) fn substitutions(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("$(").map(|(at, open)| {
        let inner = &text[at + open.len()..];
        let mut depth = 1;
        let end = inner.find(|c| {
            depth += i32::from(c == '(') - i32::from(c == ')');
            depth == 0
        });
        &inner[..end.unwrap_or(inner.len())]
    })
}

/// What stands between `&&`, `||`, `;` and line ends.
struct Raw {
    joined: &'static str,
    /// Without comments and joined lines.
    text: String,
    begin: usize,
    end: usize,
    is_group: bool,
}

/// Commands between `&&`, `;` and line ends; none for what groups them in ways that are not followed.
pub(super) fn split(text: &str) -> Option<Vec<Piece>> {
    let chars: Vec<char> = text.chars().collect();
    let raw = raw(&chars)?;
    let (mut found, mut at) = (Vec::new(), 0);
    while at < raw.len() {
        let begin = at;
        let mut depth = nesting(&raw[at].text)?;
        let is_asked = raw[at].text.split_whitespace().next().is_some_and(|word| ASKING.contains(&word));
        let is_more = |next: &Raw, depth: i32| depth > 0 || next.joined == "||" || is_asked && next.joined == "&&";
        while let Some(next) = raw.get(at + 1).filter(|next| is_more(next, depth)) {
            depth += nesting(&next.text)?;
            at += 1;
        }
        if depth != 0 {
            return None;
        }
        let is_compound = at > begin || raw[begin].is_group;
        let text = match is_compound {
            true => chars[raw[begin].begin..raw[at].end].iter().collect::<String>().trim().to_owned(),
            false => raw[begin].text.trim().to_owned(),
        };
        if !text.is_empty() {
            found.push(Piece { joined: raw[begin].joined, text, is_compound });
        }
        at += 1;
    }
    Some(found)
}

/// How many `if`, `for` and the like a command begins, less those that it ends; none for what is not followed.
fn nesting(text: &str) -> Option<i32> {
    let mut depth = 0;
    for word in text.split_whitespace() {
        match word {
            "then" | "else" | "elif" | "do" | "!" | "time" => {}
            "if" | "while" | "until" | "{" => depth += 1,
            "for" | "select" => return Some(depth + 1),
            "fi" | "done" | "}" => return Some(depth - 1),
            "case" | "esac" | "function" => return None,
            _ => break,
        }
    }
    Some(depth)
}

fn raw(chars: &[char]) -> Option<Vec<Raw>> {
    let (mut found, mut quote, mut depth, mut at) = (Vec::new(), None, 0, 0);
    let new = |joined, begin| Raw { joined, text: String::new(), begin, end: begin, is_group: false };
    let mut one = new(";", 0);
    while at < chars.len() {
        let (c, next) = (chars[at], chars.get(at + 1).copied());
        at += 1;
        match (quote, c) {
            (None | Some('"'), '\\') => {
                at += 1;
                match next {
                    Some('\n') => one.text.push(' '),
                    Some(next) => {
                        one.text.extend(['\\', next]);
                        one.end = at;
                    }
                    None => {}
                }
                continue;
            }
            (Some(open), _) if c == open => quote = None,
            (Some(_), _) => {}
            (None, '\'' | '"' | '`') => quote = Some(c),
            (None, '$') if next == Some('(') => {
                depth += 1;
                one.text.push_str("$(");
                at += 1;
                one.end = at;
                continue;
            }
            // A subshell; elsewhere it is a function or a list.
            (None, '(') if depth == 0 => {
                if !one.text.trim().is_empty() {
                    return None;
                }
                (one.is_group, depth) = (true, 1);
            }
            (None, '(') => depth += 1,
            (None, ')') => {
                if depth == 0 {
                    return None;
                }
                depth -= 1;
            }
            _ if depth > 0 => {}
            (None, '#') if one.text.trim().is_empty() || one.text.ends_with(char::is_whitespace) => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
                continue;
            }
            (None, ';') if next == Some(';') => return None,
            (None, '<') if next == Some('<') && chars.get(at + 1) != Some(&'<') => return None,
            (None, '&' | '|') if next == Some(c) => {
                at += 1;
                let joined = if c == '&' { "&&" } else { "||" };
                found.push(std::mem::replace(&mut one, new(joined, at)));
                continue;
            }
            (None, '&') if !one.text.ends_with('>') && next != Some('>') => return None,
            // A pipe goes on after a line end.
            (None, '\n') if one.text.trim_end().ends_with('|') => {
                one.text.push(' ');
                continue;
            }
            (None, ';' | '\n') => {
                // A line end after `&&` joins nothing.
                if !one.text.trim().is_empty() {
                    found.push(std::mem::replace(&mut one, new(";", at)));
                }
                continue;
            }
            _ => {}
        }
        one.text.push(c);
        if !c.is_whitespace() {
            one.end = at;
        }
    }
    if quote.is_some() || depth > 0 {
        return None;
    }
    found.push(one);
    found.retain(|one| !one.text.trim().is_empty());
    Some(found)
}

/// Words without their quotes, and whether a shell would still expand them.
pub(super) fn words(text: &str, variables: &BTreeMap<String, String>) -> Vec<(String, bool)> {
    let mut found = Vec::new();
    let mut word: Option<Word> = None;
    let mut quote = None;
    let chars: Vec<char> = text.chars().collect();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        at += 1;
        if quote.is_none() && c.is_whitespace() {
            word.take().into_iter().for_each(|word| word.end(&mut found));
            continue;
        }
        let one = word.get_or_insert_with(Word::default);
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None | Some('"'), '\\') => {
                one.text.extend(chars.get(at));
                at += 1;
            }
            (Some('\''), _) => one.text.push(c),
            (_, '$' | '`') => at = one.expansion(&chars, at, variables),
            (None, '{') => match alternatives(&chars[at..]) {
                Some((all, end)) => {
                    one.braces.push((one.text.len(), all));
                    at += end;
                }
                None => {
                    one.is_open = true;
                    one.text.push(c);
                }
            },
            (None, '*' | '?' | '[' | '~' | '<' | '>' | '|') => {
                one.is_open = true;
                one.text.push(c);
            }
            _ => one.text.push(c),
        }
    }
    word.into_iter().for_each(|word| word.end(&mut found));
    found
}

#[derive(Default)]
struct Word {
    text: String,
    is_open: bool,
    /// Where `{a,b}` stood, and what it stands for.
    braces: Vec<(usize, Vec<String>)>,
}

impl Word {
    /// Takes a variable, or a command whose output counts; `at` is after the `$` or the back quote. Where it ends.
    fn expansion(&mut self, chars: &[char], at: usize, variables: &BTreeMap<String, String>) -> usize {
        let begin = at - 1;
        let (name, end) = if chars[begin] == '`' {
            let inner: String = chars[at..].iter().take_while(|c| **c != '`').collect();
            let end = at + inner.chars().count() + 1;
            (format!("({})", inner.trim()), end)
        } else if chars.get(at) == Some(&'(') {
            let mut depth = 0;
            let length = chars[at..].iter().position(|c| {
                depth += i32::from(*c == '(') - i32::from(*c == ')');
                depth == 0
            });
            let end = length.map_or(chars.len(), |length| at + length + 1);
            let inner: String = chars[(at + 1).min(end)..end.saturating_sub(1).max((at + 1).min(end))].iter().collect();
            (format!("({})", inner.trim()), end)
        } else {
            let is_braced = chars.get(at) == Some(&'{');
            let from = at + usize::from(is_braced);
            let name: String = chars[from..].iter().take_while(|c| c.is_ascii_alphanumeric() || **c == '_').collect();
            let end = from + name.chars().count();
            match is_braced {
                true if chars.get(end) == Some(&'}') => (name, end + 1),
                // A form that is not known.
                true => (String::new(), end),
                false => (name, end),
            }
        };
        let end = end.min(chars.len());
        match variables.get(&name) {
            Some(value) => self.text.push_str(value),
            None => {
                self.is_open = true;
                self.text.extend(&chars[begin..end]);
            }
        }
        end
    }

    fn end(self, found: &mut Vec<(String, bool)>) {
        let mut texts = vec![self.text];
        // From the last one, so that those before keep their places.
        for (at, all) in self.braces.iter().rev() {
            texts = texts
                .iter()
                .flat_map(|text| all.iter().map(|one| format!("{}{one}{}", &text[..*at], &text[*at..])))
                .take(WORD_LIMIT)
                .collect();
        }
        found.extend(texts.into_iter().map(|text| (text, self.is_open)));
    }
}

/// What a list in braces stands for, and where it ends.
fn alternatives(chars: &[char]) -> Option<(Vec<String>, usize)> {
    let end = chars.iter().position(|c| *c == '}')?;
    let inner: String = chars[..end].iter().collect();
    let is_plain = inner.chars().all(|c| c.is_ascii_alphanumeric() || "._+-,".contains(c));
    (is_plain && inner.contains(',')).then(|| (inner.split(',').map(str::to_owned).collect(), end + 1))
}
