//! Versions of the files and JSON that imgbuild writes, `major.minor`; docs/formats.md has the rule.
//!
//! Another minor version has fields more, which readers leave alone; another major version is not understood, and
//! refused with the release that reads it.

use std::fmt;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// Forms of another major version mean something else.
    pub major: u32,
    /// Forms of a later minor version say more.
    pub minor: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl Version {
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// Reads `1.0`, or `1` for `1.0`.
    pub fn parse(text: &str) -> Option<Self> {
        let (major, minor) = text.split_once('.').unwrap_or((text, "0"));
        let number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten();
        Some(Self { major: number(major)?, minor: number(minor)? })
    }

    /// Whether a reader of this version understands what was written as `found`.
    /// Errors: [`Newer`]: it has a later major version. `what` is how messages call it, `needs` the release that the file names
    /// as the first to read it.
    pub fn reads(self, what: &str, found: Self, needs: Option<&str>) -> Result<(), Newer> {
        if found.major <= self.major {
            return Ok(());
        }
        // What a file says is printed only if it looks like a release.
        let is_release = |text: &&str| {
            text.len() <= 32
                && text.starts_with(|c: char| c.is_ascii_digit())
                && !text.contains(|c: char| c.is_control())
        };
        let needs = needs.filter(is_release).map_or_else(
            || format!("an imgbuild later than {}, one that writes format {}", env!("CARGO_PKG_VERSION"), found.major),
            |release| format!("imgbuild {release} or later"),
        );
        Err(Newer { what: what.to_owned(), found, known: self.major, needs })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
#[error("{what} has format {found}, but this imgbuild ({}) knows formats up to {known}", env!("CARGO_PKG_VERSION"))]
#[diagnostic(code(format::newer), help("use {needs}; nothing was changed"))]
pub struct Newer {
    pub what: String,
    pub found: Version,
    /// The last major version that is known here.
    pub known: u32,
    /// Which imgbuild reads it.
    pub needs: String,
}

/// Version and needed release of a JSON document: `format_version` or `format`, and `needs_imgbuild`.
///
/// None where it has no version that can be read.
pub fn version_of(document: &serde_json::Value) -> Option<(Version, Option<&str>)> {
    let written = [&document["format_version"], &document["format"]].into_iter().find(|value| !value.is_null())?;
    let version = match written {
        serde_json::Value::String(text) => Version::parse(text)?,
        number => Version::new(u32::try_from(number.as_u64()?).ok()?, 0),
    };
    Some((version, document["needs_imgbuild"].as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        assert_eq!(Version::parse("1.12"), Some(Version::new(1, 12)));
        assert_eq!(Version::parse("2"), Some(Version::new(2, 0)));
        for text in ["", "x", "1.x", "-1", "1.2.3", "+1"] {
            assert_eq!(Version::parse(text), None, "{text}");
        }
        let known = Version::new(1, 3);
        assert!(known.reads("x", Version::new(1, 99), None).is_ok());
        assert!(known.reads("x", Version::new(1, 0), None).is_ok());
        let newer = known.reads("image.lock", Version::new(2, 0), Some("0.7.0")).unwrap_err();
        assert_eq!(
            newer.to_string(),
            format!(
                "image.lock has format 2.0, but this imgbuild ({}) knows formats up to 1",
                env!("CARGO_PKG_VERSION")
            )
        );
        assert_eq!(newer.needs, "imgbuild 0.7.0 or later");
        let hostile = known.reads("x", Version::new(2, 0), Some("0.7\u{1b}[2J")).unwrap_err();
        assert!(hostile.needs.starts_with("an imgbuild later than"), "{}", hostile.needs);
    }

    #[test]
    fn the_version_of_a_document_is_a_text_or_a_number() {
        let of = |text: &str| version_of(&serde_json::from_str(text).unwrap()).map(|(version, _)| version);
        assert_eq!(of(r#"{"format_version": "1.4"}"#), Some(Version::new(1, 4)));
        assert_eq!(of(r#"{"format": 2}"#), Some(Version::new(2, 0)));
        assert_eq!(of(r#"{}"#), None);
        assert_eq!(of(r#"[]"#), None);
        assert_eq!(of(r#"{"format": -1}"#), None);
    }
}
