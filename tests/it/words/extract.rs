//! Reads the texts that a program can print out of its source: enough of Rust's tokens for that.

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `#[error("...")]`, or the message of a finding.
    Message,
    Help,
    /// The words at the place itself.
    Label,
    /// A doc comment that clap prints.
    Usage,
}

#[derive(Debug, PartialEq, Eq)]
pub struct Text {
    pub kind: Kind,
    pub code: Option<String>,
    pub text: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Token {
    Word(String),
    Mark(char),
    String(String),
    Doc(String),
}

/// All texts of a file; what is compiled for tests only is left out.
pub fn texts(source: &str) -> Vec<Text> {
    let tokens = without_tests(tokens(source));
    let (usage, codes) = (usage(&tokens), codes(&tokens));
    let mut all = Vec::new();
    let mut segment = 0;
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::Word(word) if word == "fn" => segment = at,
            Token::Word(word) if word == "error" && is_attribute(&tokens, at) => segment = at,
            Token::Doc(text) if usage.contains(&at) => {
                all.push(Text { kind: Kind::Usage, code: None, text: text.clone() });
            }
            Token::String(text) => {
                let kind = kind(&tokens, at);
                if kind.is_some() || is_sentence(text) {
                    let code = nearest(&codes, at, segment, end_of_segment(&tokens, at));
                    all.push(Text { kind: kind.unwrap_or(Kind::Message), code, text: text.clone() });
                }
            }
            _ => {}
        }
    }
    all
}

/// Two words next to each other: names, paths and keys have none.
fn is_sentence(text: &str) -> bool {
    let words: Vec<&str> = text.split(' ').collect();
    words.windows(2).any(|pair| pair.iter().all(|word| word.chars().filter(|c| c.is_ascii_lowercase()).count() >= 2))
}

fn is_mark(tokens: &[Token], at: usize, mark: char) -> bool {
    tokens.get(at) == Some(&Token::Mark(mark))
}

fn word(tokens: &[Token], at: usize) -> Option<&str> {
    match tokens.get(at)? {
        Token::Word(word) => Some(word),
        _ => None,
    }
}

/// Whether a word begins an attribute: `#[word`.
fn is_attribute(tokens: &[Token], at: usize) -> bool {
    at >= 2 && is_mark(tokens, at - 1, '[') && is_mark(tokens, at - 2, '#')
}

/// What a string is for, where the call that it is in says so: `help("..."`, `.label(format!("..."`.
fn kind(tokens: &[Token], at: usize) -> Option<Kind> {
    let mut at = at.checked_sub(1)?;
    while is_mark(tokens, at, '(') || is_mark(tokens, at, '!') || word(tokens, at) == Some("format") {
        at = at.checked_sub(1)?;
    }
    match word(tokens, at)? {
        "help" => Some(Kind::Help),
        "label" => Some(Kind::Label),
        "error" if is_attribute(tokens, at) => Some(Kind::Message),
        _ => None,
    }
}

/// The codes of diagnostics and where they are: `"room::problem"`, and `code(room::problem)`.
fn codes(tokens: &[Token]) -> Vec<(usize, String)> {
    let is_name = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b == b'_');
    let mut codes = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        match token {
            Token::String(text) if text.split_once("::").is_some_and(|(room, rest)| is_name(room) && is_name(rest)) => {
                codes.push((at, text.clone()));
            }
            Token::Word(name) if name == "code" && is_mark(tokens, at + 1, '(') && is_mark(tokens, at + 3, ':') => {
                if let (Some(room), Some(rest)) = (word(tokens, at + 2), word(tokens, at + 5)) {
                    codes.push((at, format!("{room}::{rest}")));
                }
            }
            _ => {}
        }
    }
    codes
}

/// The code nearest to a string within its function or its variant of an error.
fn nearest(codes: &[(usize, String)], at: usize, from: usize, to: usize) -> Option<String> {
    let within = codes.iter().filter(|(place, _)| (from..to).contains(place));
    within.min_by_key(|(place, _)| place.abs_diff(at)).map(|(_, code)| code.clone())
}

fn end_of_segment(tokens: &[Token], at: usize) -> usize {
    let ends = |place: &usize| match word(tokens, *place) {
        Some("fn") => true,
        Some("error") => is_attribute(tokens, *place),
        _ => false,
    };
    (at + 1..tokens.len()).find(ends).unwrap_or(tokens.len())
}

/// Where doc comments are that clap prints: of what derives one of its traits.
fn usage(tokens: &[Token]) -> std::collections::BTreeSet<usize> {
    let mut places = std::collections::BTreeSet::new();
    for at in 0..tokens.len() {
        if word(tokens, at) != Some("derive") || !is_attribute(tokens, at) {
            continue;
        }
        let end = (at..tokens.len()).find(|place| is_mark(tokens, *place, ']')).unwrap_or(tokens.len());
        let is_clap = |place| matches!(word(tokens, place), Some("Args" | "Parser" | "Subcommand" | "ValueEnum"));
        if !(at..end).any(is_clap) {
            continue;
        }
        let before = (0..at - 2).rev().take_while(|place| matches!(tokens[*place], Token::Doc(_)));
        places.extend(before);
        let Some(open) = (end..tokens.len()).find(|place| is_mark(tokens, *place, '{')) else { continue };
        let close = closing(tokens, open);
        places.extend((end..close).filter(|place| matches!(tokens[*place], Token::Doc(_))));
    }
    places
}

/// Where the brace that opens here is closed.
fn closing(tokens: &[Token], open: usize) -> usize {
    let mut depth = 0_usize;
    for at in open..tokens.len() {
        if is_mark(tokens, at, '{') {
            depth += 1;
        } else if is_mark(tokens, at, '}') {
            depth -= 1;
            if depth == 0 {
                return at;
            }
        }
    }
    tokens.len()
}

/// Leaves out what follows `#[cfg(test)]`: a module, or a function.
fn without_tests(tokens: Vec<Token>) -> Vec<Token> {
    let mut kept = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let is_test =
            word(&tokens, at) == Some("cfg") && is_attribute(&tokens, at) && word(&tokens, at + 2) == Some("test");
        if is_test {
            let ends = |place: &usize| is_mark(&tokens, *place, '{') || is_mark(&tokens, *place, ';');
            let end = (at..tokens.len()).find(ends).unwrap_or(tokens.len());
            at = if is_mark(&tokens, end, '{') { closing(&tokens, end) + 1 } else { end + 1 };
        } else {
            kept.push(tokens[at].clone());
            at += 1;
        }
    }
    kept
}

fn tokens(source: &str) -> Vec<Token> {
    let chars: Vec<char> = source.chars().collect();
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = 0;
    let peek = |at: usize| chars.get(at).copied().unwrap_or('\0');
    while at < chars.len() {
        let current = chars[at];
        if current == '/' && peek(at + 1) == '/' {
            let end = (at..chars.len()).find(|place| chars[*place] == '\n').unwrap_or(chars.len());
            let line: String = chars[at..end].iter().collect();
            at = end;
            // Lines of one comment are one text, until an empty line.
            match (line.strip_prefix("///"), tokens.last_mut()) {
                (Some(line), Some(Token::Doc(text))) if !line.trim().is_empty() && !text.is_empty() => {
                    text.push(' ');
                    text.push_str(line.trim());
                }
                (Some(line), _) => tokens.push(Token::Doc(line.trim().to_owned())),
                (None, _) => {}
            }
        } else if current == '/' && peek(at + 1) == '*' {
            at = (at..chars.len())
                .find(|place| chars[*place] == '*' && peek(place + 1) == '/')
                .map_or(chars.len(), |p| p + 2);
        } else if let Some(hashes) = raw_string(&chars, at) {
            let start = at + if chars[at] == 'b' { 2 } else { 1 } + hashes + 1;
            let is_end =
                |place: &usize| chars[*place] == '"' && (1..=hashes).all(|more| chars.get(place + more) == Some(&'#'));
            let end = (start..chars.len()).find(is_end).unwrap_or(chars.len());
            tokens.push(Token::String(chars[start..end].iter().collect()));
            at = end + 1 + hashes;
        } else if current == '"' {
            let (text, end) = string(&chars, at + 1);
            tokens.push(Token::String(text));
            at = end;
        } else if current == '\'' {
            let is_char = peek(at + 1) == '\\' || peek(at + 2) == '\'';
            at = match is_char {
                // The character after a backslash may be a quote itself.
                true => (at + if peek(at + 1) == '\\' { 3 } else { 2 }..chars.len())
                    .find(|place| chars[*place] == '\'')
                    .map_or(chars.len(), |place| place + 1),
                false => at + 1,
            };
        } else if current.is_alphanumeric() || current == '_' {
            let end =
                (at..chars.len()).find(|p| !chars[*p].is_alphanumeric() && chars[*p] != '_').unwrap_or(chars.len());
            // The mark of a byte string is no word.
            if !(end == at + 1 && matches!(current, 'b' | 'c') && peek(end) == '"') {
                tokens.push(Token::Word(chars[at..end].iter().collect()));
            }
            at = end;
        } else {
            if !current.is_whitespace() {
                tokens.push(Token::Mark(current));
            }
            at += 1;
        }
    }
    tokens
}

/// How many `#` a raw string has that begins here.
fn raw_string(chars: &[char], at: usize) -> Option<usize> {
    if at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') {
        return None;
    }
    let after = match (chars.get(at)?, chars.get(at + 1)) {
        ('r', _) => at + 1,
        ('b', Some('r')) => at + 2,
        _ => return None,
    };
    let hashes = chars[after..].iter().take_while(|c| **c == '#').count();
    (chars.get(after + hashes) == Some(&'"')).then_some(hashes)
}

/// The content of a string up to its quote, as the program has it, and what comes after it.
fn string(chars: &[char], start: usize) -> (String, usize) {
    let mut text = String::new();
    let mut at = start;
    while at < chars.len() && chars[at] != '"' {
        if chars[at] != '\\' {
            text.push(chars[at]);
            at += 1;
            continue;
        }
        match chars.get(at + 1) {
            Some('\n') => {
                at += 2;
                while chars.get(at).is_some_and(|c| c.is_whitespace()) {
                    at += 1;
                }
                continue;
            }
            Some('n') => text.push('\n'),
            Some('t') => text.push('\t'),
            Some('"') => text.push('"'),
            Some('\\') => text.push('\\'),
            Some(other) => text.extend(['\\', *other]),
            None => {}
        }
        at += 2;
    }
    (text, at + 1)
}

/// Names of modules in files of their own that are compiled for tests only: `#[cfg(test)] mod NAME;`.
pub fn test_modules(source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let is_one = |at: &usize| {
        word(&tokens, *at) == Some("cfg")
            && is_attribute(&tokens, *at)
            && word(&tokens, at + 2) == Some("test")
            && is_mark(&tokens, at + 4, ']')
            && word(&tokens, at + 5) == Some("mod")
            && is_mark(&tokens, at + 7, ';')
    };
    (0..tokens.len()).filter(is_one).filter_map(|at| word(&tokens, at + 6).map(str::to_owned)).collect()
}
