//! What a packed image holds: packages by its own database, and files that no package brought as they are. It is read once, from
//! whatever form it is in; nothing in it is run or believed to be whole.

use std::collections::{BTreeMap, HashMap};
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, SeekFrom};

use advisories::{LONGEST_FILE, Part, may_have_parts};
use base::digest::Sha256;

use archive::{Budget, Listed, Unlisted, list_packed, over};
use node_words::name::text_of;
use packages::installed::{self, DatabaseKind, InstalledFile};

use crate::links::Links;
use crate::model::{Package, Source};
use crate::purl::Kind;

/// A file that no package brought, or that is not as its package brought it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnFile {
    /// Path without a slash in front.
    pub path: String,
    pub size: u64,
    pub sha1: [u8; 20],
    pub sha256: Sha256,
    /// The package that has another content at this path.
    pub changed: Option<String>,
    /// What it says itself that it is made of: Go's modules, a driver, a package.
    pub parts: Vec<Part>,
}

/// What is in a packed image.
#[derive(Debug, Default)]
pub struct Contents {
    /// Fields of os-release.
    pub release: BTreeMap<String, String>,
    pub kind: Option<Kind>,
    /// By name and architecture; none where the image has no package database.
    pub packages: Option<Vec<Package>>,
    /// Sorted by path; none where no package database says what packages brought.
    pub files: Option<Vec<OwnFile>>,
}

/// Digests of a file.
#[derive(Debug, Clone)]
struct Hashed {
    size: u64,
    /// Its first bytes, as far as it has them.
    start: [u8; 4],
    md5: [u8; 16],
    sha1: [u8; 20],
    sha256: Sha256,
}

/// Where a distribution says what it is. Source: os-release(5).
const RELEASES: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// Longest os-release, in bytes.
const LONGEST_RELEASE: u64 = 1 << 16;
/// Longest target of a link, in bytes. Source: PATH_MAX.
const LONGEST_LINK: u64 = 1 << 12;
/// Where package managers keep what they know. What lies there describes packages, and is part of none.
const BOOKS: [&str; 8] = [
    "var/lib/dpkg/",
    "var/lib/rpm/",
    "usr/lib/sysimage/rpm/",
    "var/lib/apt/",
    "var/lib/dnf/",
    "var/cache/apt/",
    "var/cache/debconf/",
    "var/cache/dnf/",
];

#[derive(Default)]
struct Reading {
    files: BTreeMap<String, Hashed>,
    links: Links,
    databases: BTreeMap<String, Vec<u8>>,
    bytes: u64,
    most: u64,
    releases: BTreeMap<String, Vec<u8>>,
    /// Names of one file of cpio, of which one has the content; names that are another's, of tar.
    groups: BTreeMap<u64, Vec<String>>,
    same: Vec<(String, String)>,
}

impl Reading {
    fn take(&mut self, listed: &Listed, content: &mut dyn Read) -> io::Result<()> {
        let path = &listed.path;
        if let Some(other) = &listed.same_as {
            self.same.push((path.clone(), other.clone()));
            return Ok(());
        }
        match listed.mode & 0o170_000 {
            0o120_000 => {
                let mut bytes = Vec::new();
                content.take(LONGEST_LINK).read_to_end(&mut bytes)?;
                let target = listed.target.clone().unwrap_or_else(|| text_of(&bytes).into_owned());
                if self.links.add(path, target.trim_end_matches('\0').to_owned()) > self.most {
                    return Err(over(self.most, "bytes of links"));
                }
            }
            0o100_000 => {
                let is_release = RELEASES.contains(&path.as_str()) && listed.size <= LONGEST_RELEASE;
                let is_database = installed::is_database_file(path);
                self.bytes = self.bytes.saturating_add(if is_database { listed.size } else { 0 });
                if self.bytes > self.most {
                    return Err(over(self.most, "bytes of package databases"));
                }
                let (hashed, bytes) = hash(content, is_release || is_database)?;
                if is_release {
                    self.releases.insert(path.clone(), bytes);
                } else if is_database {
                    self.databases.insert(path.clone(), bytes);
                }
                if let Some((number, _)) = listed.file.filter(|(_, names)| *names > 1) {
                    self.groups.entry(number).or_default().push(path.clone());
                }
                self.files.insert(path.clone(), hashed);
            }
            _ => {}
        }
        Ok(())
    }

    /// Gives each name of a file the content that one of them has.
    fn join_names(&mut self) {
        for names in std::mem::take(&mut self.groups).into_values() {
            let full = names.iter().filter_map(|name| self.files.get(name)).max_by_key(|one| one.size).cloned();
            self.files.extend(names.into_iter().filter_map(|name| Some((name, full.clone()?))));
        }
        for (name, other) in std::mem::take(&mut self.same) {
            if let Some(one) = self.files.get(&other).cloned() {
                self.files.insert(name, one);
            }
        }
    }
}

/// Bytes of a package database that are kept.
fn most_kept(budget: &Budget) -> u64 {
    budget.texts().min(installed::LONGEST_DATABASE)
}

fn hash(content: &mut dyn Read, keep: bool) -> io::Result<(Hashed, Vec<u8>)> {
    let (mut md5, mut sha256): (md5::Md5, sha2::Sha256) = Default::default();
    let mut sha1 = <sha1::Sha1 as sha1::Digest>::new();
    let mut kept = Vec::new();
    let (mut size, mut start) = (0u64, [0; 4]);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = match content.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let piece = &buffer[..count];
        md5::Digest::update(&mut md5, piece);
        sha2::Digest::update(&mut sha256, piece);
        sha1::Digest::update(&mut sha1, piece);
        for (place, byte) in start.iter_mut().skip(usize::try_from(size).unwrap_or(usize::MAX)).zip(piece) {
            *place = *byte;
        }
        size += count as u64;
        if keep {
            kept.extend_from_slice(piece);
        }
    }
    let hashed = Hashed {
        size,
        start,
        md5: md5::Digest::finalize(md5).into(),
        sha1: sha1::Digest::finalize(sha1).into(),
        sha256: Sha256(sha2::Digest::finalize(sha256).into()),
    };
    Ok((hashed, kept))
}

impl Contents {
    /// Reads a packed image: cpio, tar, squashfs or erofs, compressed or not.
    /// Errors: What is wrong with it, or with the package database in it.
    pub fn of_image(file: &File) -> Result<Self, String> {
        let said = |error: io::Error| error.to_string();
        let most = most_kept(&Budget::of_file(file).map_err(said)?);
        let mut reading = Reading { most, ..Reading::default() };
        list_packed(file, &mut |listed, content| reading.take(listed, content)).map_err(|error| match error {
            Unlisted::Io(error) => error.to_string(),
            Unlisted::FileSystem(_) | Unlisted::Unknown => "it is neither cpio, tar, squashfs nor erofs".to_owned(),
        })?;
        reading.join_names();
        let mut contents = Self::of(&reading)?;
        if let Some(files) = &mut contents.files {
            find_parts(file, &reading.files, files)?;
        }
        Ok(contents)
    }

    fn of(reading: &Reading) -> Result<Self, String> {
        let release = RELEASES.iter().find_map(|path| reading.releases.get(*path)).map(|text| fields(text));
        let mut contents = Self { release: release.unwrap_or_default(), ..Self::default() };
        let Some(found) = installed::read(&reading.databases)? else { return Ok(contents) };
        let kind = match found.kind {
            DatabaseKind::Dpkg => Kind::Deb,
            DatabaseKind::Rpm => Kind::Rpm,
        };
        // As the packages are read: a byte that is not UTF-8 spoils its own field alone.
        let status = reading.databases.get(installed::dpkg::STATUS).map(|bytes| String::from_utf8_lossy(bytes));
        let stanzas = stanzas(status.as_deref().unwrap_or_default());
        let mut owners: HashMap<String, Vec<(&str, &InstalledFile)>> = HashMap::new();
        let mut bytes = 0u64;
        let mut packages = Vec::with_capacity(found.packages.len());
        for one in &found.packages {
            for file in one.files.iter().filter(|file| !file.ghost) {
                let place = reading.links.place(&file.path);
                bytes = bytes.saturating_add(place.len() as u64);
                // A short path may lead to a long one.
                if bytes > reading.most {
                    return Err(over(reading.most, "bytes of paths").to_string());
                }
                owners.entry(place).or_default().push((&one.name, file));
            }
            let more = stanzas.get(&(one.name.as_str(), one.arch.as_str()));
            packages.push(Package {
                name: one.name.clone(),
                version: one.version.clone(),
                architecture: one.arch.clone(),
                source: match kind {
                    Kind::Deb => more.and_then(|more| more.source).map(|text| Source::of_debian(text, &one.version)),
                    Kind::Rpm => one.source.as_deref().and_then(Source::of_rpm),
                },
                supplier: more.and_then(|more| more.maintainer).and_then(supplier),
                sha256: None,
            });
        }
        contents.kind = Some(kind);
        contents.files = Some(own_files(&reading.files, &owners));
        contents.packages = Some(packages);
        Ok(contents)
    }
}

/// What of a stanza of dpkg's status is not in every package database.
struct Stanza<'a> {
    source: Option<&'a str>,
    maintainer: Option<&'a str>,
}

/// By name and architecture.
fn stanzas(text: &str) -> HashMap<(&str, &str), Stanza<'_>> {
    let field = installed::dpkg::field;
    let all = text.split("\n\n").filter_map(|stanza| {
        let key = (field(stanza, "Package")?, field(stanza, "Architecture")?);
        let source = field(stanza, "Source").or(Some(key.0));
        Some((key, Stanza { source, maintainer: field(stanza, "Maintainer") }))
    });
    all.collect()
}

/// Who maintains a package, without the address: a name that SPDX and CycloneDX can have.
fn supplier(maintainer: &str) -> Option<String> {
    let name = maintainer.split('<').next().unwrap_or_default();
    let name: String = name.chars().filter(|one| !one.is_control() && !matches!(one, '(' | ')' | '"')).collect();
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// Whether a file is what a package's database says of it; one of which it says nothing is.
fn is_as_brought(file: &InstalledFile, found: &Hashed) -> bool {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    file.digest.as_ref().is_none_or(|digest| match digest.len() {
        32 => hex(&found.md5) == *digest,
        40 => hex(&found.sha1) == *digest,
        64 => found.sha256.to_string() == *digest,
        _ => true,
    })
}

fn own_files(files: &BTreeMap<String, Hashed>, owners: &HashMap<String, Vec<(&str, &InstalledFile)>>) -> Vec<OwnFile> {
    let is_brought = |path: &str, found: &Hashed| {
        owners.get(path).is_some_and(|all| all.iter().any(|(_, file)| is_as_brought(file, found)))
    };
    // Byte code of Python beside a source that a package brought: scripts of packages make it.
    let is_compiled = |path: &str| {
        let Some((folder, name)) = path.split_once("__pycache__/").filter(|_| path.ends_with(".pyc")) else {
            return false;
        };
        let source = format!("{folder}{}.py", name.split('.').next().unwrap_or_default());
        files.get(&source).is_some_and(|found| is_brought(&source, found))
    };
    let is_own = |path: &str, found: &Hashed| {
        !BOOKS.iter().any(|book| path.starts_with(book)) && !is_brought(path, found) && !is_compiled(path)
    };
    let all = files.iter().filter(|(path, found)| is_own(path, found) && !fault::planted("bill-packages-alone"));
    all.map(|(path, found)| OwnFile {
        path: path.clone(),
        size: found.size,
        sha1: found.sha1,
        sha256: found.sha256,
        changed: owners.get(path).and_then(|all| all.first()).map(|(name, _)| (*name).to_owned()),
        parts: Vec::new(),
    })
    .collect()
}

/// Looks into files of no package that may say what they are made of. Which these are is only known once all was read, so the image is
/// read again, if there are any.
/// Errors: What is wrong with the image.
fn find_parts(mut image: &File, hashed: &BTreeMap<String, Hashed>, files: &mut [OwnFile]) -> Result<(), String> {
    let may_have = |file: &&OwnFile| hashed.get(&file.path).is_some_and(|one| may_have_parts(&file.path, &one.start));
    let mut wanted: HashMap<&str, (u64, Sha256)> =
        files.iter().filter(may_have).map(|file| (file.path.as_str(), (file.size, file.sha256))).collect();
    if wanted.is_empty() || fault::planted("bill-files-unread") {
        return Ok(());
    }
    // By content: of several names of a file, one has it.
    let mut found: HashMap<Sha256, Vec<Part>> = HashMap::new();
    image.seek(SeekFrom::Start(0)).map_err(|error| error.to_string())?;
    let looked = list_packed(image, &mut |listed, content| {
        if let Some((size, sha256)) = wanted.get(listed.path.as_str()).copied()
            && listed.size == size
            && listed.same_as.is_none()
        {
            wanted.remove(listed.path.as_str());
            let mut bytes = Vec::new();
            content.take(LONGEST_FILE).read_to_end(&mut bytes)?;
            let parts = advisories::parts(&listed.path, Cursor::new(bytes));
            found.insert(sha256, parts);
        }
        Ok(())
    });
    looked.map_err(|error| match error {
        Unlisted::Io(error) => error.to_string(),
        Unlisted::FileSystem(_) | Unlisted::Unknown => "it is neither cpio, tar, squashfs nor erofs".to_owned(),
    })?;
    for file in files {
        file.parts = found.get(&file.sha256).cloned().unwrap_or_default();
    }
    Ok(())
}

/// Fields of os-release.
fn fields(text: &[u8]) -> BTreeMap<String, String> {
    let text = String::from_utf8_lossy(text);
    let pairs = text.lines().filter_map(|line| line.split_once('='));
    pairs.map(|(name, value)| (name.trim().to_owned(), value.trim().trim_matches(['"', '\'']).to_owned())).collect()
}

#[cfg(test)]
pub(crate) mod tests;
