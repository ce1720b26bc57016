//! Mirror lists and metalinks. Source: the Metalink 3 and MirrorManager formats as librepo reads them.

use crate::rpm::Checksum;
use base::xml::{Event, Reader};

pub(in crate::rpm) const MIRRORS_LIMIT: u64 = 4 << 20;

/// The file that a metalink of a repository is about.
const REPOMD: &str = "repodata/repomd.xml";

/// Reads a list of mirrors: a URL a line, lines that begin with `#` are comments. Gives repositories, best first.
/// Errors: A text when it names none.
pub fn read_mirrorlist(text: &str) -> Result<Vec<String>, String> {
    let mut mirrors = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
        if is_url(line) {
            mirrors.push(line.trim_end_matches('/').to_owned());
        }
    }
    if mirrors.is_empty() {
        return Err("names no mirror".to_owned());
    }
    Ok(mirrors)
}

/// What is fetched from: nothing of this machine's files by what a server says.
fn is_url(text: &str) -> bool {
    ["http://", "https://"].iter().any(|scheme| text.starts_with(scheme))
        && !text.contains(|c: char| c.is_whitespace() || c.is_control())
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Metalink {
    /// Repositories, best first.
    pub mirrors: Vec<String>,
    /// Digests of repomd.xml: one of them has to fit. Those of weak kinds are left out.
    pub accepted: Vec<Accepted>,
}

/// One repomd.xml that a metalink accepts: the newest one, or an earlier one that slow mirrors still have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Accepted {
    /// Bytes, if known.
    pub size: Option<u64>,
    /// Its strong digests; all have to fit.
    pub checksums: Vec<Checksum>,
}

impl Metalink {
    /// Whether a repomd.xml is one of those named.
    pub fn accepts(&self, repomd: &[u8]) -> bool {
        self.accepted.iter().any(|one| {
            one.size.is_none_or(|size| size == repomd.len() as u64)
                && !one.checksums.is_empty()
                && one.checksums.iter().all(|checksum| checksum.fits(repomd))
        })
    }
}

/// Reads a metalink.
/// Errors: A text that says what is wrong: no mirror, or no digest that can be believed.
pub fn read_metalink(bytes: &[u8]) -> Result<Metalink, String> {
    let mut reader = Reader::new(bytes);
    let mut mirrors: Vec<(u32, String)> = Vec::new();
    let mut accepted: Vec<Accepted> = Vec::new();
    let mut one = Accepted { size: None, checksums: Vec::new() };
    let (mut kind, mut preference, mut of_repomd) = (String::new(), 0u32, false);
    while let Some(event) = reader.event()? {
        match event {
            Event::Start { name, attributes } => match name {
                "file" => {
                    of_repomd = attributes.get("name") == Some("repomd.xml");
                    one = Accepted { size: None, checksums: Vec::new() };
                }
                "alternate" => {
                    accepted.push(std::mem::replace(&mut one, Accepted { size: None, checksums: Vec::new() }));
                }
                "hash" => {
                    kind.clear();
                    kind.push_str(attributes.get("type").unwrap_or_default());
                }
                "url" => {
                    preference = attributes.get("preference").and_then(|text| text.parse().ok()).unwrap_or(0);
                }
                _ => {}
            },
            Event::End { name, text } if of_repomd => match name {
                "size" => one.size = text.trim().parse().ok(),
                // Weak digests stand beside strong ones and say nothing.
                "hash" => one.checksums.extend(Checksum::parse(&kind, text).ok()),
                // What stood before the first alternate was taken when that began.
                "verification" | "alternate" => {
                    let done = std::mem::replace(&mut one, Accepted { size: None, checksums: Vec::new() });
                    accepted.push(done);
                }
                "url" => {
                    let url = text.trim();
                    if let Some(base) = url.strip_suffix(REPOMD)
                        && is_url(url)
                    {
                        mirrors.push((preference, base.trim_end_matches('/').to_owned()));
                    }
                }
                "file" => of_repomd = false,
                _ => {}
            },
            Event::End { .. } => {}
        }
    }
    reader.ended_within("metalink")?;
    accepted.retain(|one| !one.checksums.is_empty());
    if accepted.is_empty() {
        return Err("has no trustworthy digest of repomd.xml".to_owned());
    }
    if mirrors.is_empty() {
        return Err("names no http or https mirror".to_owned());
    }
    // Highest preference first, else the file's order.
    mirrors.sort_by_key(|(preference, _)| std::cmp::Reverse(*preference));
    Ok(Metalink { mirrors: mirrors.into_iter().map(|(_, url)| url).collect(), accepted })
}
