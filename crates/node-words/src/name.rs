//! Names of files as text. A name is any bytes; what is not UTF-8 in it stands for itself as a character that no name has.
//!
//! A byte 0xHH that is not UTF-8 becomes U+10FEHH, at the end of the last private plane; a name that has such a character has
//! its bytes taken one by one, so each name has one text, and each such text one name. imgbuild-init has the same file.

use std::borrow::Cow;

/// Added to a byte.
const BASE: u32 = 0x10_fe00;

pub fn text_of(bytes: &[u8]) -> Cow<'_, str> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.chars().any(|one| byte_of(one).is_some()) => return Cow::Borrowed(text),
        _ => {}
    }
    let escaped =
        |bytes: &[u8]| -> String { bytes.iter().filter_map(|byte| char::from_u32(BASE + u32::from(*byte))).collect() };
    let mut text = String::with_capacity(bytes.len() + 16);
    for chunk in bytes.utf8_chunks() {
        for character in chunk.valid().chars() {
            match byte_of(character) {
                Some(_) => text.push_str(&escaped(character.encode_utf8(&mut [0; 4]).as_bytes())),
                None => text.push(character),
            }
        }
        text.push_str(&escaped(chunk.invalid()));
    }
    Cow::Owned(text)
}

/// The byte that a character of such a text stands for; none for every other.
pub fn byte_of(character: char) -> Option<u8> {
    (character as u32).checked_sub(BASE).and_then(|byte| u8::try_from(byte).ok()).filter(|byte| !byte.is_ascii())
}

/// A name for a message: one line, whatever it is.
pub fn shown(text: &str) -> Cow<'_, str> {
    if !text.contains(char::is_control) {
        return Cow::Borrowed(text);
    }
    let escape = |character: char| match character.is_control() {
        true => character.escape_default().to_string(),
        false => character.to_string(),
    };
    Cow::Owned(text.chars().map(escape).collect())
}

pub fn bytes_of(text: &str) -> Cow<'_, [u8]> {
    if !text.chars().any(|one| byte_of(one).is_some()) {
        return Cow::Borrowed(text.as_bytes());
    }
    let mut bytes = Vec::with_capacity(text.len());
    for character in text.chars() {
        match byte_of(character) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
    Cow::Owned(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_a_message_is_one_line() {
        assert_eq!(shown("etc/a b"), "etc/a b");
        assert_eq!(shown("a\nfailed: b\u{1b}"), "a\\nfailed: b\\u{1b}");
    }

    #[test]
    fn each_name_has_one_text_and_comes_back_of_it() {
        let odd = "\u{10fe41}\u{10feff}\u{10ffff}".as_bytes();
        for name in [&b"plain"[..], "gr\u{fc}n".as_bytes(), b"caf\xe9", b"\xff\xfe\x80", b"a\xf4\x8f", odd, b""] {
            let text = text_of(name);
            assert_eq!(*bytes_of(&text), *name, "{text:?}");
            assert_eq!(text_of(&bytes_of(&text)), text);
        }
        assert_eq!(text_of(b"caf\xe9"), "caf\u{10fee9}");
        assert_ne!(text_of(b"\xe9"), text_of("\u{10fee9}".as_bytes()));
        let bytes: Vec<u8> = (0..=255).collect();
        assert_eq!(*bytes_of(&text_of(&bytes)), bytes[..]);
    }
}
