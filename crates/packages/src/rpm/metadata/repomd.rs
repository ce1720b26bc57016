//! repomd.xml: which metadata a repository has. Source: createrepo_c; libzypp and librepo read the same.

use crate::rpm::Checksum;
use base::xml::{Event, Reader};

pub(in crate::rpm) const REPOMD_LIMIT: u64 = 16 << 20;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataEntry {
    /// `primary`, `filelists`, `group`, `modules`, `updateinfo`, `primary_zck`, `primary_db`, `susedata` …
    pub kind: String,
    /// Path below the repository, or below `base`.
    pub location: String,
    /// `xml:base`: another place.
    pub base: Option<String>,
    /// Its digest, or why that cannot be believed.
    pub checksum: Result<Checksum, String>,
    /// Digest without compression.
    pub open_checksum: Option<Checksum>,
    /// Bytes, if known.
    pub size: Option<u64>,
    /// Bytes without compression.
    pub open_size: Option<u64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Repomd {
    /// Usually a time; grows with each change.
    pub revision: String,
    /// In the file's order.
    pub data: Vec<DataEntry>,
}

impl Repomd {
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut reader = Reader::new(bytes);
        let mut repomd = Self::default();
        let mut entry: Option<DataEntry> = None;
        let mut kind = String::new();
        while let Some(event) = reader.event()? {
            match event {
                Event::Start { name, attributes } => match name {
                    "data" => {
                        entry = Some(DataEntry {
                            kind: attributes.get("type").unwrap_or_default().to_owned(),
                            location: String::new(),
                            base: None,
                            checksum: Err("gives no digest".to_owned()),
                            open_checksum: None,
                            size: None,
                            open_size: None,
                        });
                    }
                    "location" => {
                        if let Some(entry) = entry.as_mut() {
                            entry.location = attributes.get("href").unwrap_or_default().to_owned();
                            entry.base = attributes.get("xml:base").map(str::to_owned);
                        }
                    }
                    "checksum" | "open-checksum" => {
                        kind.clear();
                        kind.push_str(attributes.get("type").unwrap_or_default());
                    }
                    _ => {}
                },
                Event::End { name, text } => match (name, entry.as_mut()) {
                    ("revision", None) => repomd.revision = text.trim().to_owned(),
                    ("data", Some(_)) => {
                        let entry = entry.take().filter(|entry| !entry.kind.is_empty());
                        if let Some(entry) = entry {
                            if entry.base.is_none() && !is_below(&entry.location) {
                                return Err(format!(
                                    "names a file outside the repository for `{}`: `{}`",
                                    entry.kind.escape_default(),
                                    entry.location.escape_default()
                                ));
                            }
                            repomd.data.push(entry);
                        }
                    }
                    ("checksum", Some(entry)) => entry.checksum = Checksum::parse(&kind, text),
                    ("open-checksum", Some(entry)) => entry.open_checksum = Checksum::parse(&kind, text).ok(),
                    ("size", Some(entry)) => entry.size = text.trim().parse().ok(),
                    ("open-size", Some(entry)) => entry.open_size = text.trim().parse().ok(),
                    _ => {}
                },
            }
        }
        reader.ended_within("repomd")?;
        Ok(repomd)
    }

    /// The entry of a kind; the last one where several stand.
    pub fn entry(&self, kind: &str) -> Option<&DataEntry> {
        self.data.iter().rev().find(|entry| entry.kind == kind)
    }
}

/// Whether a path stays below the place it is joined to. `?` and `#` are characters of names: addresses get them escaped.
pub(in crate::rpm) fn is_below(path: &str) -> bool {
    !path.is_empty()
        && !path.starts_with('/')
        && path.split('/').all(|part| part != "..")
        && !path.contains(|c: char| c.is_control())
        && !path.split('/').next().unwrap_or_default().ends_with(':')
}

/// How many directories a path leaves, and what follows; none for one that is no file below or beside a directory.
pub(in crate::rpm) fn plainly(path: &str) -> Option<(usize, String)> {
    let mut parts: Vec<&str> = Vec::new();
    let mut ups = 0;
    for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
        match part {
            ".." if parts.pop().is_none() => ups += 1,
            ".." => {}
            part => parts.push(part),
        }
    }
    let path = parts.join("/");
    let is_file = is_below(&path) && !path.split('/').any(|part| part == "%2e%2e");
    is_file.then_some((ups, path))
}

/// Where metadata are that a repository has elsewhere, by `xml:base`: as a redirect, never in a file of this machine, unless the repository is
/// there itself. Their digests are those of repomd.xml, wherever they are.
/// Errors: What is wrong with another place, in words.
pub(super) fn elsewhere<'b>(own: &str, base: &'b str) -> Result<&'b str, String> {
    let lower = base.to_ascii_lowercase();
    let is_server = lower.starts_with("http://") || lower.starts_with("https://");
    if is_server || lower.starts_with("file:") && own.starts_with("file:") {
        return Ok(base.trim_end_matches('/'));
    }
    Err(format!(
        "lists metadata at `{}`, but only http and https are followed: mirror the repository with its metadata into one directory",
        base.escape_default()
    ))
}

#[cfg(test)]
mod tests {
    use super::elsewhere;

    #[test]
    fn metadata_elsewhere_are_followed_to_servers_alone() {
        for (own, base, place) in [
            ("http://h/os", "https://other/os/", Some("https://other/os")),
            ("https://h/os", "HTTP://other/os", Some("HTTP://other/os")),
            ("file:/mnt/os", "file:///mnt/more", Some("file:///mnt/more")),
            ("http://h/os", "file:///etc", None),
            ("http://h/os", "/etc", None),
            ("file:/mnt/os", "media://1#2", None),
            ("http://h/os", "../x", None),
        ] {
            assert_eq!(elsewhere(own, base).ok(), place, "{own} {base}");
        }
    }
}
