//! Files of advisories: what each is its content says, never its name.

mod csaf;
mod epss;
mod few;
mod kev;
mod openvex;
mod osv;
mod tracker;
mod updateinfo;
pub(crate) mod zip;

use std::io::{Cursor, Read, Seek, SeekFrom};

use serde::Deserialize;
use serde::de::IgnoredAny;

use crate::AdvisoryError;
use crate::model::{Database, Loaded, WEIGHT};

/// Longest document, in bytes without compression. Debian's tracker has 70 MB, updateinfo.xml of a large repository 200 MB.
const LONGEST: u64 = 1 << 30;
/// Longest document of OSV, CSAF, OpenVEX and CISA, which is in memory as a whole. Those of Red Hat on the kernel have 30 MB.
const LONGEST_MEMBER: u64 = 64 << 20;
/// All documents of a zip together, in bytes.
const LONGEST_ZIP: u64 = 16 << 30;
/// Longest text that is kept of a title or a reason, in characters.
const LONGEST_TEXT: usize = 300;
/// Longest name of a package, an advisory or a version, in bytes.
const LONGEST_NAME: usize = 400;
/// Most that is kept, of all files: a version counts as one; a package, another vulnerability and a line of EPSS as [`WEIGHT`]. Each package
/// is one that an image has.
const MOST_KEPT: usize = WEIGHT * 8_000_000;
/// Most vulnerabilities that one advisory is about.
const MOST_VULNERABILITIES: usize = 10_000;

/// Fields of a document that tell what it is.
#[derive(Deserialize)]
struct Head {
    #[serde(rename = "@context")]
    context: Option<IgnoredAny>,
    statements: Option<IgnoredAny>,
    document: Option<IgnoredAny>,
    affected: Option<IgnoredAny>,
    withdrawn: Option<IgnoredAny>,
    schema_version: Option<IgnoredAny>,
    modified: Option<IgnoredAny>,
    #[serde(rename = "catalogVersion")]
    catalog: Option<IgnoredAny>,
    vulnerabilities: Option<IgnoredAny>,
}

impl Database {
    /// Reads a file; `name` is how messages call it.
    /// Errors: [`AdvisoryError`]: it cannot be read, is nothing that is known, is damaged, or has more than is read. What it had before
    /// the damage may have been added.
    pub fn read(&mut self, name: &str, mut file: impl Read + Seek) -> Result<(), AdvisoryError> {
        let unread = |error: std::io::Error| AdvisoryError::whole(name, format!("cannot be read: {error}"));
        let mut start = [0; 4];
        let mut length = 0;
        while length < start.len() {
            match file.read(&mut start[length..]).map_err(unread)? {
                0 => break,
                read => length += read,
            }
        }
        file.seek(SeekFrom::Start(0)).map_err(unread)?;
        // An empty zip has its end alone.
        if matches!(&start, b"PK\x03\x04" | b"PK\x05\x06") {
            return self.zip(name, file);
        }
        // Metadata of old repositories are in bzip2, which nothing else here is.
        let bytes = match &start {
            b"BZh1" | b"BZh2" | b"BZh3" | b"BZh4" | b"BZh5" | b"BZh6" | b"BZh7" | b"BZh8" | b"BZh9" => {
                bounded(bzip2::read::MultiBzDecoder::new(file), LONGEST)
            }
            _ => bounded(archive::plain(file).map_err(unread)?, LONGEST),
        };
        let bytes = bytes.map_err(|problem| AdvisoryError::whole(name, problem))?;
        self.document(name, name, &bytes)
    }

    /// All files of a zip: one database.
    fn zip(&mut self, name: &str, mut file: impl Read + Seek) -> Result<(), AdvisoryError> {
        let whole = |problem: String| AdvisoryError::whole(name, problem);
        let members = zip::members(&mut file).map_err(whole)?;
        let mut left = LONGEST_ZIP;
        for member in members.iter().filter(|member| !member.name.ends_with('/')) {
            let inner = format!("{name}: {}", cut(&member.name, LONGEST_NAME));
            let bytes = member
                .read(&mut file, LONGEST_MEMBER.min(left))
                .map_err(|problem| AdvisoryError::whole(&inner, problem))?;
            left -= bytes.len() as u64;
            self.document(&inner, name, &bytes)?;
        }
        match left {
            LONGEST_ZIP => Err(whole("is a zip without files: records of OSV or CSAF were expected".to_owned())),
            _ => Ok(()),
        }
    }

    /// Reads a document, which counts as one of the file `file`.
    fn document(&mut self, name: &str, file: &str, bytes: &[u8]) -> Result<(), AdvisoryError> {
        // Written by Windows: a mark of byte order.
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        let kind = kind_of(name, bytes)?;
        if matches!(kind, "osv" | "csaf" | "openvex" | "kev") && bytes.len() as u64 > LONGEST_MEMBER {
            let problem =
                format!("has more than {LONGEST_MEMBER} bytes without compression: the limit of such a document");
            return Err(AdvisoryError::whole(name, problem));
        }
        few::begin();
        let database = match self.loaded.iter().position(|one| one.name == file && one.kind == kind) {
            Some(at) => at,
            None => {
                self.loaded.push(Loaded { name: file.to_owned(), kind: kind.to_owned(), records: 0, about: 0 });
                self.loaded.len() - 1
            }
        };
        self.has_distribution |= matches!(kind, "debian" | "csaf" | "updateinfo");
        let records = match kind {
            "osv" => osv::read(self, database, name, bytes)?,
            "debian" => tracker::read(self, database, name, bytes)?,
            "csaf" => csaf::read(self, database, name, bytes)?,
            "openvex" => openvex::read(self, database, name, bytes)?,
            "kev" => kev::read(self, name, bytes)?,
            "epss" => epss::read(self, name, bytes)?,
            _ => updateinfo::read(self, database, name, Cursor::new(bytes))?,
        };
        self.loaded[database].records += records;
        if self.kept > MOST_KEPT {
            return Err(AdvisoryError::whole(name, too_much()));
        }
        Ok(())
    }
}

/// What a document is.
fn kind_of(name: &str, bytes: &[u8]) -> Result<&'static str, AdvisoryError> {
    let text = bytes.trim_ascii_start();
    match text.first() {
        Some(b'<') => Ok("updateinfo"),
        Some(b'{') => {
            let head: Head = serde_json::from_slice(text)
                .map_err(|error| AdvisoryError::json(name, "JSON that can be read", &error))?;
            Ok(match head {
                Head { context: Some(_), statements: Some(_), .. } => "openvex",
                Head { catalog: Some(_), vulnerabilities: Some(_), .. } => "kev",
                Head { document: Some(_), .. } => "csaf",
                // A record without packages is still one.
                Head { affected: Some(_), .. }
                | Head { withdrawn: Some(_), .. }
                | Head { schema_version: Some(_), .. }
                | Head { modified: Some(_), .. } => "osv",
                _ => "debian",
            })
        }
        Some(_) if text.starts_with(b"#model_version") || text.starts_with(b"cve,epss") => Ok("epss"),
        None => Err(AdvisoryError::whole(name, "is empty: advisories were expected")),
        Some(_) => {
            Err(AdvisoryError::whole(name, "is not a file of advisories: JSON, XML, CSV of EPSS or a zip was expected"))
        }
    }
}

/// What is said of more than [`MOST_KEPT`].
fn too_much() -> String {
    format!("says more about packages of the images than is kept: {MOST_KEPT} versions, of all files together")
}

/// Reads to the end, at most so many bytes.
fn bounded(stream: impl Read, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    stream.take(limit + 1).read_to_end(&mut bytes).map_err(|error| format!("cannot be unpacked: {error}"))?;
    match bytes.len() as u64 > limit {
        true => Err(format!("has more than {limit} bytes without compression: the limit")),
        false => Ok(bytes),
    }
}

/// A text of others, as it is kept: one line, of a length.
fn cut(text: &str, longest: usize) -> String {
    let mut words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((at, _)) = words.char_indices().nth(longest) {
        words.truncate(at);
        words.push_str("..");
    }
    words
}

fn title(text: &str) -> String {
    cut(text, LONGEST_TEXT)
}

/// Whether something can be the name of a package, an advisory or a version.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_NAME && !text.contains(|c: char| c.is_control() || c.is_whitespace())
}

/// The vulnerabilities of an advisory: CVEs among the names that go with it, else its own name.
fn vulnerabilities(id: &str, others: impl IntoIterator<Item = String>) -> Result<Vec<String>, String> {
    // `DEBIAN-CVE-2024-1` and `UBUNTU-CVE-2024-1` are that CVE.
    let cve = |text: String| text.find("CVE-").map(|at| text[at..].to_owned()).filter(|cve| is_name(cve));
    let mut all: Vec<String> = std::iter::once(id.to_owned()).chain(others).filter_map(cve).collect();
    if all.is_empty() {
        all.push(id.to_owned());
    }
    all.sort();
    all.dedup();
    match all.len() > MOST_VULNERABILITIES {
        true => Err(format!("is an advisory on more than {MOST_VULNERABILITIES} vulnerabilities: the limit")),
        false => Ok(all),
    }
}

/// Most pairs of a package and a vulnerability that one advisory is about: each is a finding in an image that has the package.
const MOST_PAIRS: usize = 5_000_000;

/// Whether an advisory has no more pairs than are compared.
/// Errors: It has.
fn within_pairs(packages: usize, vulnerabilities: usize) -> Result<(), String> {
    match packages.saturating_mul(vulnerabilities) > MOST_PAIRS {
        true => Err(format!(
            "is an advisory on {vulnerabilities} vulnerabilities of {packages} packages: the limit is {MOST_PAIRS} pairs"
        )),
        false => Ok(()),
    }
}

#[cfg(test)]
impl Database {
    /// One that has read a text, and wants all packages of some names.
    pub(crate) fn of_text(names: &[&str], text: &str) -> Result<Self, AdvisoryError> {
        let mut database = Self { wanted: names.iter().map(|name| (*name).to_owned()).collect(), ..Self::default() };
        database.read("db", Cursor::new(text.as_bytes().to_vec()))?;
        Ok(database)
    }
}

#[cfg(test)]
mod tests;
