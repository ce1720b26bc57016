//! Passwords and tokens in texts that are shown: each byte is an asterisk, so that places in a text stay where they are.

use std::borrow::Cow;
use std::ops::Range;

/// Words that a name has whose value is secret.
const SECRET: [&str; 4] = ["password", "passwd", "secret", "token"];

/// What remedies say in place of a user and a password.
const PLACEHOLDER: &str = "USER:PASSWORD";

/// A key of recipes whose value is no secret, and that value.
const SECRETS: &str = "secrets";
const ALLOWED: &str = "allowed";

/// Names whose value says where a secret is, or that are none.
const ENDINGS: [&str; 4] = ["_file", "_files", "-file", "-files"];

/// A text without what only its owner may know: users of addresses with their passwords, values of names that say so.
pub(crate) fn masked(text: &str) -> Cow<'_, str> {
    let mut hidden = addresses(text);
    hidden.extend(values(text));
    if hidden.is_empty() {
        return Cow::Borrowed(text);
    }
    hidden.sort_by_key(|range| (range.start, range.end));
    let mut safe = String::with_capacity(text.len());
    let mut done = 0;
    for range in hidden {
        let start = range.start.max(done);
        if start < range.end {
            safe.push_str(&text[done..start]);
            safe.push_str(&"*".repeat(range.end - start));
            done = range.end;
        }
    }
    safe.push_str(&text[done..]);
    Cow::Owned(safe)
}

fn ends_word(character: char) -> bool {
    character.is_whitespace() || matches!(character, '"' | '\'' | '`' | '<' | '>' | '\u{2039}' | '\u{203a}')
}

/// Users and passwords in addresses. A login by ssh has a user that is no secret.
fn addresses(text: &str) -> Vec<Range<usize>> {
    let mut hidden = Vec::new();
    for (at, _) in text.match_indices("://") {
        if text[..at].ends_with("ssh") || fault::planted("password-shown") {
            continue;
        }
        let start = at + 3;
        let word = &text[start..];
        let word = &word[..word.find(ends_word).unwrap_or(word.len())];
        let authority = &word[..word.find(['/', '?', '#']).unwrap_or(word.len())];
        let user = authority.rfind('@').or_else(|| {
            // A password with a slash: what is behind the colon is no port.
            let behind = authority.split_once(':').map(|(_, behind)| behind)?;
            let is_port = behind.bytes().all(|byte| byte.is_ascii_digit());
            if is_port { None } else { word.rfind('@') }
        });
        hidden.extend(user.filter(|user| *user > 0 && word[..*user] != *PLACEHOLDER).map(|user| start..start + user));
    }
    hidden
}

/// Values of names that say that they are secret: `NAME=VALUE`, `NAME = "VALUE"`, `"NAME": "VALUE"`, `NAME "VALUE"`.
fn values(text: &str) -> Vec<Range<usize>> {
    let lower = text.to_ascii_lowercase();
    let bytes = text.as_bytes();
    let mut hidden = Vec::new();
    for (at, word) in SECRET.iter().flat_map(|word| lower.match_indices(word)) {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let mut end = at + word.len();
        while bytes.get(end).is_some_and(|byte| is_name(*byte)) {
            end += 1;
        }
        if ENDINGS.iter().any(|ending| lower[at..end].ends_with(ending)) {
            continue;
        }
        let is_quoted = bytes.get(end) == Some(&b'"');
        let mut value = end + usize::from(is_quoted);
        let blanks = |mut at: usize| {
            while bytes.get(at).is_some_and(|byte| *byte == b' ') {
                at += 1;
            }
            at
        };
        let sign = blanks(value);
        let takes = match bytes.get(sign) {
            // A list or a table has names of its own.
            Some(b'=') => !matches!(bytes.get(blanks(sign + 1)), Some(b'[' | b'{')),
            Some(b':') => is_quoted && bytes.get(blanks(sign + 1)) == Some(&b'"'),
            Some(b'"') => sign > value,
            _ => false,
        };
        if !takes {
            continue;
        }
        value = blanks(if bytes[sign] == b'"' { sign } else { sign + 1 });
        let range = match bytes.get(value) {
            Some(quote @ (b'"' | b'\'')) => {
                let length = text[value + 1..].find([char::from(*quote), '\n']).unwrap_or(text.len() - value - 1);
                value + 1..value + 1 + length
            }
            Some(_) => {
                let rest = &text[value..];
                let is_end = |character: char| ends_word(character) || matches!(character, '&' | ',' | '}' | ']');
                value..value + rest.find(is_end).unwrap_or(rest.len())
            }
            None => continue,
        };
        // `[image] secrets = "allowed"`: a word of the recipe, and no secret.
        if lower.get(range.clone()) == Some(ALLOWED) && lower[at..end] == *SECRETS {
            continue;
        }
        hidden.push(range);
    }
    hidden
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_and_tokens_are_asterisks() {
        for (text, shown) in [
            ("cannot fetch `x` from http://bob:PW@h/y", "cannot fetch `x` from http://******@h/y"),
            ("uri = \"https://TOKEN@h/y@z\"", "uri = \"https://*****@h/y@z\""),
            ("http://USER:PASSWORD@HOST", "http://USER:PASSWORD@HOST"),
            ("http://bob:P/W@h/y", "http://*******@h/y"),
            ("http://bob:P@W@h/y", "http://*******@h/y"),
            ("ssh://root@n1, http://h:80/a@b, http://[::1]:80/", "ssh://root@n1, http://h:80/a@b, http://[::1]:80/"),
            ("password = \"P W\" # x", "password = \"***\" # x"),
            ("ADMIN_PASSWORD=PW imgurl=http://h/", "ADMIN_PASSWORD=** imgurl=http://h/"),
            ("{\"db_password\": \"PW\", \"a\": 1}", "{\"db_password\": \"**\", \"a\": 1}"),
            ("    password \"PW\"", "    password \"**\""),
            ("https://h/x?token=PW&a=b", "https://h/x?token=**&a=b"),
            ("{\"secret\": {\"a\": 1}, \"secrets\": 3}", "{\"secret\": {\"a\": 1}, \"secrets\": 3}"),
            ("root_password_hash_file = \"keys/hash\"", "root_password_hash_file = \"keys/hash\""),
            ("a password stands in the recipe: use ‹[repo]›", "a password stands in the recipe: use ‹[repo]›"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }

    /// An asterisk is no remedy.
    #[test]
    fn no_text_of_the_program_hides_itself() {
        let texts = include_str!("../../tests/snapshots/messages.txt");
        for text in texts.lines() {
            assert_eq!(masked(text), text);
        }
        for text in ["secrets = \"allowed\"", "image secrets=\"allowed\"", "secrets \"allowed\""] {
            assert_eq!(masked(text), text);
        }
        assert_eq!(masked("secrets = \"hunter2\""), "secrets = \"*******\"");
        assert_eq!(masked("site_secret = \"allowed\""), "site_secret = \"*******\"");
    }

    proptest::proptest! {
        #[test]
        fn every_text_keeps_its_length_and_lines(text in "(password|token|://|[=:\" \n/@?,a-c\u{e9}'&]){0,40}") {
            let shown = masked(&text);
            proptest::prop_assert_eq!(shown.len(), text.len());
            proptest::prop_assert_eq!(shown.matches('\n').count(), text.matches('\n').count());
        }
    }
}
