//! Texts of the store in JSON whose last field is BLAKE3 of all bytes before it: records of actions, and what describes a frame.

use base::digest::Digest;

/// What stands before and behind the digest, where the text has lines and where it has not.
const FORMS: [(&str, &str); 2] = [(",\n  \"digest\": \"", "\"\n}"), (",\"digest\":\"", "\"}")];

/// Whether a text is as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seal {
    /// It has a digest of itself, which is right.
    Whole,
    /// It has one that is of another text.
    Broken,
    Missing,
}

/// Adds the digest to an object with at least one field.
pub fn sealed(text: &str) -> String {
    let form = FORMS[usize::from(!text.ends_with("\n}"))];
    let body = text.strip_suffix("\n}").or_else(|| text.strip_suffix('}')).unwrap_or(text);
    format!("{body}{}{}{}", form.0, Digest::of(body.as_bytes()), form.1)
}

pub fn seal(text: &[u8]) -> Seal {
    let of = |(before, behind): (&str, &str)| {
        let rest = text.strip_suffix(behind.as_bytes())?;
        // A digest has 64 digits.
        let (rest, digest) = rest.split_at_checked(rest.len().checked_sub(64)?)?;
        let body = rest.strip_suffix(before.as_bytes())?;
        Some(if Digest::of(body).to_string().as_bytes() == digest { Seal::Whole } else { Seal::Broken })
    };
    FORMS.into_iter().find_map(of).unwrap_or(Seal::Missing)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_as_it_was_written_or_is_not_whole() {
        let value = serde_json::json!({"size": 7, "sha256": "a", "words": [1, 2]});
        for text in [serde_json::to_string(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap()] {
            assert_eq!(seal(text.as_bytes()), Seal::Missing);
            let text = sealed(&text);
            assert_eq!(seal(text.as_bytes()), Seal::Whole);
            assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["words"], value["words"]);
            for at in 0..text.len() {
                let mut other = text.clone().into_bytes();
                other[at] ^= 1;
                assert_ne!(seal(&other), Seal::Whole, "byte {at}");
                assert_ne!(seal(&text.as_bytes()[..at]), Seal::Whole);
            }
        }
        assert_eq!(seal(b""), Seal::Missing);
    }
}
