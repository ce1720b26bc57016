//! Escapes control characters in text from packages, scripts and mirrors.

use std::borrow::Cow;

use super::masked::masked;
use node_words::name::byte_of;

/// Whether a terminal does something else with a character than to show it: control characters, those that turn the
/// direction of a text (Unicode UAX #9), and those that end a line (UAX #14).
pub(crate) fn is_obeyed(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        )
}

/// A text in which what a terminal obeys is written as an escape; lines and tabs stay.
pub(crate) fn harmless(text: &str) -> Cow<'_, str> {
    escaped(text, &['\n', '\t'])
}

/// The same for a name or a value: it cannot start a line of its own.
pub(crate) fn one_line(text: &str) -> String {
    escaped(text, &[]).into_owned()
}

/// Appends a line of a report: what was put into it cannot start another one.
pub(crate) fn push_line(text: &mut String, line: &str) {
    text.push_str(&one_line(line));
    text.push('\n');
}

/// JSON that means the same, in which no text has what a terminal obeys. Outside of texts only ends of lines are such.
pub(crate) fn in_json(text: &str) -> Cow<'_, str> {
    let is_bad = |character: char| is_obeyed(character) && character != '\n';
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let escape = |character: char| match is_bad(character) {
        true => format!("\\u{:04x}", u32::from(character)),
        false => character.to_string(),
    };
    Cow::Owned(text.chars().map(escape).collect())
}

fn escaped<'a>(text: &'a str, but: &[char]) -> Cow<'a, str> {
    // What is shown goes through here: the place for passwords, too.
    match masked(text) {
        Cow::Borrowed(text) => of_plain(text, but),
        Cow::Owned(text) => Cow::Owned(of_plain(&text, but).into_owned()),
    }
}

fn of_plain<'a>(text: &'a str, but: &[char]) -> Cow<'a, str> {
    let is_bad = |character: char| (is_obeyed(character) && !but.contains(&character)) || byte_of(character).is_some();
    if !text.contains(is_bad) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        match byte_of(character) {
            // A byte of a file's name that is not UTF-8.
            Some(byte) => safe.push_str(&format!("\\x{byte:02x}")),
            None if is_bad(character) => safe.extend(character.escape_default()),
            None => safe.push(character),
        }
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_obeys_is_written_as_an_escape() {
        assert_eq!(harmless("a\tb\nc"), "a\tb\nc");
        assert_eq!(harmless("\x1b]0;x\x07\r\u{9b}é\u{202e}"), "\\u{1b}]0;x\\u{7}\\r\\u{9b}é\\u{202e}");
        assert_eq!(one_line("a\nb"), "a\\nb");
        assert_eq!(one_line("\u{200f}\u{2028}"), "\\u{200f}\\u{2028}");
        let mut report = String::new();
        push_line(&mut report, "name\nforged");
        assert_eq!(report, "name\\nforged\n");
    }

    #[test]
    fn json_keeps_its_meaning() {
        let value = serde_json::json!({"a\u{9b}": ["\u{202e}x\u{7f}", "\u{1b}[2J\n\t", "é"]});
        let text = format!("{value:#}\n");
        let safe = in_json(&text);
        assert!(!safe.contains(|character: char| is_obeyed(character) && character != '\n'), "{safe}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&safe).unwrap(), value);
    }
}
