//! The packages that a tree of files has, by the database that its own dpkg or rpm keeps: Debian's text files; rpm's SQLite,
//! ndb and Berkeley DB. Read from bytes, wherever they come from; nothing is run, and nothing is trusted to be whole.

mod berkeley;
pub mod dpkg;
mod ndb;
mod rpm;
mod sqlite;

use std::collections::BTreeMap;

pub use berkeley::places as berkeley_places;
pub use rpm::{PLACES as RPM_PLACES, database_files as rpm_database_files};
pub use sqlite::{open_database, problem_of as sqlite_problem, stored_columns};

/// Longest file of a database that is read, in bytes; a node with 3,000 packages has some 400 MB.
pub const LONGEST_DATABASE: u64 = 2 << 30;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseKind {
    Dpkg,
    Rpm,
}

/// What a package manager knows of a file beyond its name. dpkg knows a digest alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstalledFile {
    /// Path without a slash in front, as the package has it: links on the way are not followed.
    pub path: String,
    /// Digest of the content, hexadecimal: MD5 of 32 characters, SHA-1 of 40, SHA-256 of 64 and so on.
    pub digest: Option<String>,
    /// Type and permission bits, as stat(2) has them.
    pub mode: Option<u32>,
    pub owner: Option<(String, String)>,
    /// Whether it has file capabilities; known of rpm.
    pub has_capabilities: bool,
    pub link: Option<String>,
    /// Whether it may be missing, or be anything: owned, but not brought by the package.
    pub ghost: bool,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstalledPackage {
    pub name: String,
    /// Version, as the package manager writes it: `EPOCH:VERSION-RELEASE`, without an epoch of 0.
    pub version: String,
    pub arch: String,
    /// Whether it is there only because others needed it; known of apt.
    pub automatic: bool,
    pub files: Vec<InstalledFile>,
    /// How many of its files the one who installed it left out; known of rpm.
    pub left_out: usize,
    /// File of the source package that it was built from; known of rpm.
    pub source: Option<String>,
    /// Texts of its scripts.
    pub scripts: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub kind: DatabaseKind,
    /// The packages, by name and architecture.
    pub packages: Vec<InstalledPackage>,
    /// Other paths that the package manager itself gives modes and owners (dpkg-statoverride(1)).
    pub overridden: Vec<String>,
}

/// Whether a file, by its path without a slash in front, belongs to a database: [`read`] wants it.
pub fn is_database_file(path: &str) -> bool {
    dpkg::is_database_file(path) || rpm::is_database_file(path)
}

/// Whether a file is all that the names and versions of packages need.
pub fn lists_packages(path: &str) -> bool {
    path == dpkg::STATUS || rpm::is_database_file(path)
}

/// Reads the packages of a tree; none where no database is among the files, by path without a slash in front.
/// Errors: A text that names the file and says what is wrong with it.
pub fn read(files: &BTreeMap<String, Vec<u8>>) -> Result<Option<Installed>, String> {
    let mut found = match files.get(dpkg::STATUS).filter(|status| !status.is_empty()) {
        Some(status) => dpkg::read(status, files),
        None => match rpm::read(files)? {
            Some(found) => found,
            None => return Ok(None),
        },
    };
    found.packages.sort_by(|a, b| (&a.name, &a.arch, &a.version).cmp(&(&b.name, &b.arch, &b.version)));
    Ok(Some(found))
}

/// A little-endian number of 32 bits; none past the end.
fn little(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|chunk| u32::from_le_bytes(*chunk))
}

#[cfg(test)]
mod tests;
