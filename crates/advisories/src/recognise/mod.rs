//! What a file is a copy of: packages, programs of Go and Rust, wheels and jars, and drivers say their names and versions themselves.
//!
//! Such files are in no package database where a site copies them into an image itself. They are read within bounds, as all that others
//! made; a file that says nothing, or is damaged, is not recognised.

mod elf;
mod listed;

use std::io::{Cursor, Read, Seek, SeekFrom};

use packages::rpm::Package;

use crate::Ecosystem;
use crate::model::{source_of_deb, source_of_rpm};
use crate::read::zip;

/// Something with a version in a file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Part {
    /// Who names it so.
    pub ecosystem: Ecosystem,
    /// Its name there: `openssl`, `golang.org/x/net`, `org.apache.logging.log4j:log4j-core`.
    pub name: String,
    /// Its version there; never empty.
    pub version: String,
    /// Architecture of a package; empty for all others.
    pub arch: String,
    /// Name and version of the source package, where a package says it.
    pub source: Option<(String, String)>,
    /// Whether it is a module of the kernel.
    pub is_driver: bool,
}

impl Part {
    fn new(ecosystem: Ecosystem, name: &str, version: &str) -> Option<Self> {
        let is_word = |text: &str| crate::read::is_name(text);
        (is_word(name) && is_word(version)).then(|| Self {
            ecosystem,
            name: ecosystem.normal(name),
            version: version.to_owned(),
            arch: String::new(),
            source: None,
            is_driver: false,
        })
    }
}

/// Longest file that is looked into, in bytes: what is behind that is not read.
pub const LONGEST_FILE: u64 = 256 << 20;
/// Longest text in a file: build information, METADATA, pom.properties.
const LONGEST_TEXT: u64 = 16 << 20;
/// Most parts of one file.
const MOST_PARTS: usize = 10_000;
/// Most files of a zip whose texts are read.
const MOST_TEXTS: usize = 2_000;

/// Whether a file may have parts, by its path and first bytes (four of them at least, if it has so many).
pub fn may_have_parts(path: &str, start: &[u8]) -> bool {
    const STARTS: [&[u8]; 4] = [b"\x7fELF", &[0xed, 0xab, 0xee, 0xdb], b"!<ar", b"PK\x03\x04"];
    STARTS.iter().any(|magic| start.starts_with(magic)) || is_packed_driver(path) || listed::is_metadata(path)
}

fn is_packed_driver(path: &str) -> bool {
    [".ko.xz", ".ko.zst", ".ko.gz"].iter().any(|ending| path.ends_with(ending))
}

/// The parts of a file, sorted; none where it says nothing of itself. Reading ends at [`LONGEST_FILE`].
pub fn parts(path: &str, mut file: impl Read + Seek) -> Vec<Part> {
    let mut start = [0; 4];
    let mut length = 0;
    while length < start.len() {
        match file.read(&mut start[length..]) {
            Ok(0) => break,
            Ok(read) => length += read,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return Vec::new(),
        }
    }
    if !may_have_parts(path, &start[..length]) || file.seek(SeekFrom::Start(0)).is_err() {
        return Vec::new();
    }
    let mut found = match &start {
        b"\x7fELF" => elf::parts(&mut file),
        [0xed, 0xab, 0xee, 0xdb] => of_rpm(file).into_iter().collect(),
        b"!<ar" => of_deb(file).into_iter().collect(),
        b"PK\x03\x04" => of_zip(path, &mut file),
        _ if is_packed_driver(path) => of_packed_driver(file),
        _ => listed::metadata(&text(file)).into_iter().collect(),
    };
    found.sort();
    found.dedup();
    found.truncate(MOST_PARTS);
    found
}

fn text(file: impl Read) -> String {
    let mut bytes = Vec::new();
    match file.take(LONGEST_TEXT).read_to_end(&mut bytes) {
        Ok(_) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(_) => String::new(),
    }
}

fn of_rpm(file: impl Read) -> Option<Part> {
    let named = Package::named(file).ok()?;
    let version = named.version.to_string();
    let source = named.source.and_then(|source| source_of_rpm(&source, &version));
    let part = Part::new(Ecosystem::Distribution, &named.name, &version)?;
    Some(Part { arch: named.arch, source, ..part })
}

fn of_deb(file: impl Read) -> Option<Part> {
    let stanza = archive::control_stanza(file.take(LONGEST_FILE)).ok()?;
    let field = |name: &str| stanza.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim);
    let (name, version) = (field("Package")?, field("Version")?);
    let source = Some(source_of_deb(name, version, field("Source")));
    let part = Part::new(Ecosystem::Distribution, name, version)?;
    Some(Part { arch: field("Architecture").unwrap_or_default().to_owned(), source, ..part })
}

/// Wheels have METADATA, jars a pom.properties for each of the projects that are in them.
fn of_zip(path: &str, file: &mut (impl Read + Seek)) -> Vec<Part> {
    let Ok(members) = zip::members(file) else { return Vec::new() };
    let is_wanted = |name: &str| match path.ends_with(".whl") {
        true => name.ends_with(".dist-info/METADATA"),
        false => name.starts_with("META-INF/maven/") && name.ends_with("/pom.properties"),
    };
    let mut found = Vec::new();
    for member in members.iter().filter(|member| is_wanted(&member.name)).take(MOST_TEXTS) {
        let Ok(bytes) = member.read(file, LONGEST_TEXT) else { continue };
        let text = String::from_utf8_lossy(&bytes);
        found.extend(if path.ends_with(".whl") { listed::metadata(&text) } else { listed::properties(&text) });
    }
    found
}

fn of_packed_driver(file: impl Read) -> Vec<Part> {
    let mut bytes = Vec::new();
    let plain = archive::plain(file);
    match plain.and_then(|plain| plain.take(LONGEST_FILE).read_to_end(&mut bytes)) {
        Ok(_) => elf::parts(&mut Cursor::new(bytes)),
        Err(_) => Vec::new(),
    }
}

#[cfg(test)]
mod tests;
