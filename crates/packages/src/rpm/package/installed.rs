//! Headers as rpm's database keeps them: of packages that are installed.

use super::file::{FileEntry, files, script_texts};
use super::header::{Header, tag};
use crate::rpm::Evr;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InstalledHeader {
    pub name: String,
    pub evr: Evr,
    /// Architecture; `(none)` of what has none.
    pub arch: String,
    /// Files, in the header's order.
    pub files: Vec<FileEntry>,
    /// State of each file, in the same order. Source: rpm's rpmfiles.h, `rpmfileState`.
    pub states: Vec<u64>,
    /// File of the source package: `bash-5.1.8-9.el9.src.rpm`.
    pub source: Option<String>,
    /// Texts of its scripts.
    pub scripts: Vec<String>,
}

impl InstalledHeader {
    /// Reads a header of the database: as in a package file, without its magic.
    pub fn read(blob: &[u8]) -> Result<Self, String> {
        let header = Header::of_database(blob).map_err(|problem| format!("has a package that {problem}"))?;
        let name = header.text(tag::NAME).ok_or("has a package without a name")?.to_owned();
        let said = |problem: String| format!("has a package {name} that {problem}");
        let evr = Evr {
            epoch: u32::try_from(header.number(tag::EPOCH).unwrap_or(0)).unwrap_or(u32::MAX),
            version: header.text(tag::VERSION).unwrap_or_default().to_owned(),
            release: header.text(tag::RELEASE).unwrap_or_default().to_owned(),
        };
        let arch = header.text(tag::ARCH).unwrap_or("(none)").to_owned();
        // A package that was built without one has this word. Source: rpm, `headerGetAsString` of what is missing.
        let source = header.text(tag::SOURCE_RPM).filter(|text| !["", "(none)"].contains(text)).map(str::to_owned);
        let (files, states) = (files(&header).map_err(said)?, header.numbers(tag::FILE_STATES).map_err(said)?);
        let scripts = script_texts(&header);
        Ok(Self { name, evr, arch, files, states, source, scripts })
    }
}
