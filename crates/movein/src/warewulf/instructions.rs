//! Instructions of a Containerfile, as container builders read them. Source: the Dockerfile reference, and `parser.go` of buildkit.

use std::collections::BTreeMap;

/// Most instructions of a file.
const LIMIT: usize = 10_000;

/// An instruction: its line, its word, and the rest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Instruction {
    pub(super) line: usize,
    pub(super) word: String,
    pub(super) text: String,
    pub(super) heredocs: Vec<Heredoc>,
}

/// A text after an instruction.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Heredoc {
    pub(super) marker: String,
    /// Whether its variables stay as they are.
    pub(super) is_quoted: bool,
    /// Whether tabs at the beginning of its lines are cut.
    is_cut: bool,
    /// The line before its first.
    pub(super) line: usize,
    raw: String,
}

impl Heredoc {
    /// `<<EOF`, if a word is one.
    fn of(word: &str) -> Option<Self> {
        let rest = word.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix("<<")?;
        let (is_cut, rest) = rest.strip_prefix('-').map_or((false, rest), |rest| (true, rest));
        let marker: String = rest.chars().filter(|c| !['"', '\'', '\\'].contains(c)).collect();
        let is_one = !marker.is_empty() && !marker.contains('<');
        is_one.then(|| Self { is_quoted: marker.len() != rest.len(), marker, is_cut, ..Self::default() })
    }

    /// Its lines as commands read them.
    pub(super) fn text(&self) -> String {
        match self.is_cut {
            true => self.raw.split_inclusive('\n').map(|line| line.trim_start_matches('\t')).collect(),
            false => self.raw.clone(),
        }
    }

    /// Its lines with the one that ends it.
    pub(super) fn whole(&self) -> String {
        format!("{}{}\n", self.raw, self.marker)
    }

    /// Whether a shell would change it before it is read.
    pub(super) fn is_expanded(&self) -> bool {
        !self.is_quoted && self.raw.contains(['$', '`', '\\'])
    }
}

/// Joins lines and leaves comments out, as a container builder does.
/// Errors: The line and what is wrong there.
pub(super) fn instructions(text: &str) -> Result<Vec<Instruction>, (usize, String)> {
    let lines: Vec<&str> = text.lines().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    while at < lines.len() {
        let (mut line, mut whole) = (at + 1, String::new());
        while let Some(one) = lines.get(at) {
            at += 1;
            if whole.is_empty() {
                line = at;
            }
            if one.trim_start().starts_with('#') || (one.trim().is_empty() && !whole.is_empty()) {
                continue;
            }
            match one.trim_end().strip_suffix('\\') {
                Some(begin) => whole.push_str(&format!("{begin}\\\n")),
                None => {
                    whole.push_str(one);
                    break;
                }
            }
        }
        let whole = whole.trim().to_owned();
        if whole.is_empty() {
            continue;
        }
        if found.len() >= LIMIT {
            return Err((line, format!("more than {LIMIT} instructions")));
        }
        let (word, rest) = whole.split_once(char::is_whitespace).unwrap_or((&whole, ""));
        let (word, rest) = (word.to_ascii_uppercase(), rest.trim().to_owned());
        let has_heredocs = |word: &str| ["RUN", "COPY", "ADD"].contains(&word);
        let after = rest.split_whitespace().next().unwrap_or_default().to_ascii_uppercase();
        let mut heredocs = Vec::new();
        if has_heredocs(&word) || word == "ONBUILD" && has_heredocs(&after) {
            heredocs = parts(&rest).iter().filter_map(|word| Heredoc::of(word)).collect();
        }
        for one in &mut heredocs {
            one.line = at;
            loop {
                let Some(next) = lines.get(at).copied() else {
                    return Err((line, format!("its text does not end: no line is `{}`", one.marker.escape_debug())));
                };
                at += 1;
                let plain = if one.is_cut { next.trim_start_matches('\t') } else { next };
                if plain == one.marker {
                    break;
                }
                one.raw.push_str(next);
                one.raw.push('\n');
            }
        }
        found.push(Instruction { line, word, text: rest, heredocs });
    }
    Ok(found)
}

/// Words with their quotes: what blanks outside of quotes part.
fn parts(text: &str) -> Vec<String> {
    let (mut found, mut current, mut quote) = (Vec::new(), String::new(), None);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (None | Some('"'), '\\') => {
                match chars.next() {
                    Some('\n') | None => {}
                    Some(next) => current.extend([c, next]),
                }
                continue;
            }
            (Some(open), _) if c == open => quote = None,
            (None, '"' | '\'') => quote = Some(c),
            (None, c) if c.is_whitespace() => {
                found.push(std::mem::take(&mut current));
                continue;
            }
            _ => {}
        }
        current.push(c);
    }
    found.push(current);
    found.retain(|word| !word.is_empty());
    found
}

/// Words of ENV and ARG: quotes hold words together, and variables have their values.
pub(super) fn words(text: &str, values: &BTreeMap<String, String>) -> Vec<String> {
    parts(text).iter().map(|word| without_quotes(word, values)).collect()
}

/// A word without its quotes; variables have their values but between single ones.
pub(super) fn without_quotes(word: &str, values: &BTreeMap<String, String>) -> String {
    let (mut found, mut open, mut quote) = (String::new(), String::new(), None);
    let mut chars = word.chars();
    let flush = |found: &mut String, open: &mut String| found.push_str(&filled(&std::mem::take(open), values));
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(end), _) if c == end => {
                flush(&mut found, &mut open);
                quote = None;
            }
            (Some('\''), _) => found.push(c),
            (None, '"' | '\'') => {
                flush(&mut found, &mut open);
                quote = Some(c);
            }
            (_, '\\') => {
                flush(&mut found, &mut open);
                match chars.next() {
                    Some(next) if quote.is_some() && !['"', '$', '\\'].contains(&next) => found.extend([c, next]),
                    next => found.extend(next),
                }
            }
            _ => open.push(c),
        }
    }
    flush(&mut found, &mut open);
    found
}

/// A text with the values of its variables; others stay as they are.
pub(super) fn filled(text: &str, values: &BTreeMap<String, String>) -> String {
    let mut found = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        found.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let is_braced = rest.starts_with('{');
        let inner = rest.strip_prefix('{').unwrap_or(rest);
        let end = inner.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(inner.len());
        let (name, after) = inner.split_at(end);
        if name.is_empty() {
            found.push('$');
            continue;
        }
        let (default, after) = match (
            is_braced,
            after.strip_prefix(":-").or_else(|| after.strip_prefix('-')).and_then(|rest| rest.split_once('}')),
        ) {
            (true, Some((default, after))) => (Some(default), after),
            (true, None) => match after.strip_prefix('}') {
                Some(after) => (None, after),
                // A form that is not known stays.
                None => {
                    found.push_str("${");
                    rest = inner;
                    continue;
                }
            },
            (false, _) => (None, after),
        };
        match values.get(name).map(String::as_str).filter(|value| !value.is_empty()).or(default) {
            Some(value) => found.push_str(value),
            None => found.push_str(&format!("${{{name}}}")),
        }
        rest = after;
    }
    found.push_str(rest);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instructions_are_joined_and_have_their_lines() {
        let text = "# c\nARG V=9\nFROM x:${V}\n\nRUN a \\\n  # inside\n  && b\nCOPY <<EOF /etc/x\nline\nEOF\nRUN <<E bash\necho\nE\nCMD [\"/bin/sh\"]\n";
        let found = instructions(text).unwrap();
        let words: Vec<_> = found.iter().map(|one| (one.line, one.word.as_str())).collect();
        assert_eq!(words, [(2, "ARG"), (3, "FROM"), (5, "RUN"), (8, "COPY"), (11, "RUN"), (14, "CMD")]);
        assert_eq!(found[2].text, "a \\\n  && b");
        assert_eq!((found[3].heredocs[0].text(), found[4].heredocs[0].text()), ("line\n".into(), "echo\n".into()));
        let values = BTreeMap::from([("V".to_owned(), "9".to_owned())]);
        assert_eq!(filled("x:${V} $V ${W:-d} $OTHER ${V%x} $", &values), "x:9 9 d ${OTHER} ${V%x} $");
    }

    #[test]
    fn texts_begin_with_words_outside_of_quotes_and_must_end() {
        let found = instructions("RUN echo \"a <<EOF\" && cat <<<x\nCOPY <<A <<-'B' /d/\n1\nA\n\t$x\n\tB\nUSER root\n")
            .unwrap();
        let found: Vec<_> = found.iter().map(|one| (one.word.as_str(), one.heredocs.len())).collect();
        assert_eq!(found, [("RUN", 0), ("COPY", 2), ("USER", 0)]);
        let found = instructions("COPY <<A <<-'B' /d/\n1\nA\n\t$x\n\tB\n").unwrap();
        let [a, b] = &found[0].heredocs[..] else { panic!() };
        assert_eq!((a.marker.as_str(), a.text().as_str(), a.is_quoted, a.line), ("A", "1\n", false, 1));
        assert_eq!((b.marker.as_str(), b.text().as_str(), b.is_expanded(), b.line), ("B", "$x\n", false, 3));
        assert_eq!(instructions("FROM x\nRUN <<EOF\na\n EOF\n").unwrap_err().0, 2);
        assert!(instructions(&"USER root\n".repeat(LIMIT + 1)).is_err());
    }

    #[test]
    fn words_are_held_together_by_quotes() {
        let values = BTreeMap::from([("V".to_owned(), "9".to_owned())]);
        let found = words("CFLAGS=\"-O2 -g$V\" A='$V x' B=a\\ b \\\n C=$V\"$V\"'c'", &values);
        assert_eq!(found, ["CFLAGS=-O2 -g9", "A=$V x", "B=a b", "C=99c"]);
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in "((FROM|RUN|COPY|ADD|ENV) )?[a-c$\\{\\}:<=\\\\\n\"' \\[\\]-]{0,80}") {
            for one in instructions(&text).unwrap_or_default() {
                let _ = (filled(&one.text, &BTreeMap::new()), words(&one.text, &BTreeMap::new()));
            }
        }
    }
}
