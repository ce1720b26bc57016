//! One .rpm file: what its header says, and whether it can be believed.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use sha2::Digest as _;

use super::header::{Header, Headers, tag};
use crate::rpm::{Candidate, Capability, Checksum, Evr, Relation, Requirement, Weak};
use crate::{Keyring, Strength, verify_package};
use base::digest::Sha256;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scriptlet {
    /// `pre`, `post`, `preun`, `postun`, `pretrans`, `posttrans`, `preuntrans`, `postuntrans`, `verify`, `trigger`,
    /// `filetrigger`, `transfiletrigger`.
    pub kind: &'static str,
    /// Its interpreter; empty: rpm's own default, /bin/sh.
    pub program: String,
}

/// Kinds of scriptlets: their name, the tags of the script and of its interpreter.
const SCRIPTLETS: [(&str, u32, u32); 12] = [
    ("pre", 1023, 1085),
    ("post", 1024, 1086),
    ("preun", 1025, 1087),
    ("postun", 1026, 1088),
    ("pretrans", 1151, 1153),
    ("posttrans", 1152, 1154),
    ("preuntrans", 5103, 5105),
    ("postuntrans", 5104, 5106),
    ("verify", 1079, 1091),
    ("trigger", 1065, 1092),
    ("filetrigger", 5066, 5067),
    ("transfiletrigger", 5076, 5077),
];

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileEntry {
    /// Absolute path.
    pub path: String,
    /// Type and permission bits, as stat(2) has them.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970.
    pub mtime: i64,
    pub user: String,
    pub group: String,
    /// File capabilities as text; empty: none.
    pub capabilities: String,
    /// Digest of the content, hexadecimal; empty for what is no file.
    pub digest: String,
    pub link: String,
    /// Owned, but not in the payload.
    pub ghost: bool,
    pub config: bool,
    /// Device and inode number where it was packed: names of one file have the same.
    pub inode: (u32, u32),
}

/// Type bits of a mode. Source: stat(2).
const TYPE: u32 = 0o170_000;

impl FileEntry {
    pub fn is_directory(&self) -> bool {
        self.mode & TYPE == 0o040_000
    }

    pub fn is_file(&self) -> bool {
        self.mode & TYPE == 0o100_000
    }

    pub fn is_link(&self) -> bool {
        self.mode & TYPE == 0o120_000
    }
}

/// What a package is believed for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum VerifiedBy {
    /// Its own digests only.
    Digest,
    /// A good signature of a key that was given.
    Signature,
    /// Such a signature, by something that can be forged.
    WeakSignature,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Package {
    /// As a repository would list it; its location is the file's name.
    pub candidate: Candidate,
    pub scriptlets: Vec<Scriptlet>,
    /// Files, in the header's order.
    pub files: Vec<FileEntry>,
    pub is_source: bool,
}

impl Package {
    /// Reads a package file whole and checks its own digests: header, payload, sizes.
    pub fn read(path: &Path) -> Result<Self, String> {
        let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
        let location = path.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
        Self::read_from(BufReader::with_capacity(1 << 17, file), location)
    }

    /// As [`Package::read`], of a stream.
    pub(in crate::rpm) fn read_from(input: impl Read, location: String) -> Result<Self, String> {
        let mut input = Hashing { inner: input, hash: sha2::Sha256::new(), size: 0 };
        let headers = Headers::read(&mut input)?;
        if headers.main.text(tag::PAYLOAD_FORMAT) == Some("drpm") {
            return Err("is a delta package, which only patches another package".to_owned());
        }
        check_header(&headers)?;
        let payload = hash_rest(&mut input).map_err(|error| format!("cannot be read: {error}"))?;
        check_payload(&headers, payload, input.size)?;
        let checksum = Checksum::Sha256(Sha256(input.hash.finalize().into()));
        Self::of(&headers, checksum, input.size, location)
    }

    /// Checks the signature of a package file, and its own digests.
    ///
    /// A signature of the header suffices where the header has a digest of the payload; packages made before rpm 4.14
    /// have none, and then header and payload must be signed together.
    /// Errors: A text with each signature's problem; a missing signature is one.
    pub fn verify(path: &Path, keys: &Keyring) -> Result<VerifiedBy, String> {
        let file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
        let mut input = BufReader::with_capacity(1 << 17, file);
        let headers = Headers::read(&mut input)?;
        check_header(&headers)?;
        let signature = &headers.signature;
        if headers.main.has(tag::PAYLOAD_SHA256) {
            let mut counted = Hashing { inner: input, hash: sha2::Sha256::new(), size: headers.range.1 };
            let payload = hash_rest(&mut counted).map_err(|error| format!("cannot be read: {error}"))?;
            check_payload(&headers, payload, counted.size)?;
            let mut found: Vec<Vec<u8>> = Vec::new();
            for text in signature.texts(tag::SIG_OPENPGP).unwrap_or_default() {
                found.extend(from_base64(text));
            }
            found.extend(
                [tag::SIG_RSA, tag::SIG_DSA].iter().filter_map(|tag| signature.binary(*tag)).map(<[u8]>::to_vec),
            );
            return signed(&found, &headers.main.bytes, keys);
        }
        let found = [tag::SIG_PGP, tag::SIG_GPG].iter().filter_map(|tag| signature.binary(*tag)).map(<[u8]>::to_vec);
        let found: Vec<Vec<u8>> = found.collect();
        let mut all = headers.main.bytes.clone();
        input.read_to_end(&mut all).map_err(|error| format!("cannot be read: {error}"))?;
        signed(&found, &all, keys)
    }

    pub(in crate::rpm) fn of(
        headers: &Headers,
        checksum: Checksum,
        size: u64,
        location: String,
    ) -> Result<Self, String> {
        let header = &headers.main;
        let text = |tag: u32, what: &str| header.text(tag).map(str::to_owned).ok_or(format!("has no {what}"));
        let files = files(header)?;
        let epoch = header.number(tag::EPOCH).unwrap_or(0);
        let evr = Evr {
            epoch: u32::try_from(epoch).unwrap_or(u32::MAX),
            version: text(tag::VERSION, "version")?,
            release: text(tag::RELEASE, "release")?,
        };
        let capabilities = |name: u32, flags: u32, version: u32| -> Result<Vec<Capability>, String> {
            Ok(dependencies(header, name, flags, version)?.into_iter().map(|(capability, _)| capability).collect())
        };
        // Pre-requirements in the form of rpm 4, of before, and those of scripts. Source: rpm's rpmds.h.
        let pre = |flags: u64| flags & (1 << 6 | 1 << 9 | 1 << 10) != 0;
        let requires = dependencies(header, 1049, 1048, 1050)?
            .into_iter()
            .map(|(capability, flags)| Requirement { capability, pre: pre(flags) })
            .collect();
        let candidate = Candidate {
            name: text(tag::NAME, "name")?,
            arch: text(tag::ARCH, "architecture")?,
            evr,
            checksum,
            size,
            installed_size: header.number(tag::LONG_SIZE).or_else(|| header.number(tag::SIZE)).unwrap_or(0),
            location,
            base: None,
            header_range: Some(headers.range),
            source: header.text(tag::SOURCE_RPM).map(str::to_owned),
            provides: capabilities(1047, 1112, 1113)?,
            requires,
            conflicts: capabilities(1054, 1053, 1055)?,
            obsoletes: capabilities(1090, 1114, 1115)?,
            weak: Weak {
                recommends: capabilities(5046, 5048, 5047)?,
                suggests: capabilities(5049, 5051, 5050)?,
                supplements: capabilities(5052, 5054, 5053)?,
                enhances: capabilities(5055, 5057, 5056)?,
            },
            files: files.iter().map(|file| file.path.clone()).collect(),
        };
        let mut scriptlets = Vec::new();
        for (kind, script, program) in SCRIPTLETS {
            if header.has(script) || header.has(program) {
                let program = header.text(program).unwrap_or_default().to_owned();
                scriptlets.push(Scriptlet { kind, program });
            }
        }
        let is_source = header.has(tag::SOURCE_PACKAGE);
        Ok(Self { candidate, scriptlets, files, is_source })
    }

    /// Absolute paths of its files.
    pub fn paths(path: &Path) -> Result<Vec<String>, String> {
        let mut file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
        Ok(files(&Headers::read(&mut file)?.main)?.into_iter().map(|file| file.path).collect())
    }

    /// Texts of its scripts, and a line for each account that rpm makes for it. Source: rpm, docs/manual/users_and_groups.md.
    pub fn script_texts(path: &Path) -> Result<Vec<String>, String> {
        let mut file = File::open(path).map_err(|error| format!("cannot be opened: {error}"))?;
        let headers = Headers::read(&mut file)?;
        let provides = headers.main.texts(1047).unwrap_or_default().into_iter();
        let account = |name: &str| {
            let name = ["user(", "group("].iter().find_map(|kind| name.strip_prefix(kind))?.strip_suffix(')')?;
            Some(format!("systemd-sysusers {name}"))
        };
        let accounts: Vec<String> = provides.filter_map(account).collect();
        Ok(script_texts(&headers.main).into_iter().chain(accounts).collect())
    }

    /// The kernel releases (`uname -r`) whose modules or image it brings, sorted.
    pub fn kernel_releases(&self) -> Vec<String> {
        let mut found = BTreeSet::new();
        for file in &self.files {
            let path = file.path.as_str();
            let below = ["/lib/modules/", "/usr/lib/modules/"].iter().find_map(|start| path.strip_prefix(start));
            let image = path
                .strip_prefix("/boot/")
                .and_then(|name| {
                    ["vmlinuz-", "vmlinux-", "Image-", "image-"].iter().find_map(|start| name.strip_prefix(start))
                })
                .filter(|_| !file.is_link());
            // Modules or an image, and not only a directory that a driver package shares.
            if let Some((release, rest)) = below.and_then(|below| below.split_once('/'))
                && (rest.starts_with("kernel/") || rest.starts_with("vmlinuz") || rest.starts_with("modules."))
                && !release.is_empty()
            {
                found.insert(release.to_owned());
            }
            if let Some(release) = image.filter(|release| !release.is_empty() && !release.contains('/')) {
                found.insert(release.trim_end_matches(".gz").to_owned());
            }
        }
        found.into_iter().collect()
    }
}

/// Texts of all scripts that a header has.
pub(super) fn script_texts(header: &Header) -> Vec<String> {
    let mut all = Vec::new();
    for (_, script, _) in SCRIPTLETS {
        all.extend(header.texts(script).unwrap_or_default().into_iter().map(str::to_owned));
        all.extend(header.text(script).map(str::to_owned));
    }
    all
}

/// Hashes and counts what goes through.
struct Hashing<R> {
    inner: R,
    hash: sha2::Sha256,
    size: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hash.update(&buffer[..read]);
        self.size += read as u64;
        Ok(read)
    }
}

fn hash_rest(input: &mut impl Read) -> std::io::Result<Sha256> {
    let any = Checksum::Sha256(Sha256([0; 32]));
    Ok(any.of_same_kind(input)?.sha256().unwrap_or(Sha256([0; 32])))
}

/// Compares the main header with the digest beside it.
pub(super) fn check_header(headers: &Headers) -> Result<(), String> {
    let Some(expected) = headers.signature.text(tag::SIG_SHA256) else { return Ok(()) };
    if Sha256::of(&headers.main.bytes).to_string() == expected {
        return Ok(());
    }
    Err("is damaged: its header does not match its digest".to_owned())
}

/// Compares the payload with what the headers say of it.
fn check_payload(headers: &Headers, found: Sha256, whole: u64) -> Result<(), String> {
    if let Some(expected) = headers.main.text(tag::PAYLOAD_SHA256)
        && expected != found.to_string()
    {
        return Err("is damaged: its payload does not match the digest in its header".to_owned());
    }
    let signature = &headers.signature;
    let announced = signature.number(tag::SIG_LONG_SIZE).or_else(|| signature.number(tag::SIG_SIZE));
    // Header and payload together.
    let size = whole - headers.range.0;
    match announced {
        Some(announced) if announced != size => {
            Err(format!("is damaged: its signature announces {announced} bytes, but it has {size}"))
        }
        _ => Ok(()),
    }
}

fn signed(signatures: &[Vec<u8>], data: &[u8], keys: &Keyring) -> Result<VerifiedBy, String> {
    let mut problems = Vec::new();
    for signature in signatures {
        match verify_package(data, signature, keys) {
            Ok(Strength::Sound) => return Ok(VerifiedBy::Signature),
            Ok(Strength::Weak) => return Ok(VerifiedBy::WeakSignature),
            Err(problem) => problems.push(problem),
        }
    }
    Err(if problems.is_empty() { "is not signed".to_owned() } else { problems.join("; ") })
}

/// Base64 with padding, as header version 6 has signatures. Source: RFC 4648, 4.
fn from_base64(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for byte in text.bytes().filter(|byte| !byte.is_ascii_whitespace() && *byte != b'=') {
        let value = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            out.push((bits >> count) as u8);
        }
    }
    Some(out)
}

fn dependencies(header: &Header, name: u32, flags: u32, version: u32) -> Result<Vec<(Capability, u64)>, String> {
    let (names, flags, versions) = (header.texts(name)?, header.numbers(flags)?, header.texts(version)?);
    let mut found = Vec::with_capacity(names.len());
    for (at, name) in names.iter().enumerate() {
        let flags = flags.get(at).copied().unwrap_or(0);
        let version = versions.get(at).copied().unwrap_or_default();
        let relation = Relation { less: flags & 2 != 0, greater: flags & 4 != 0, equal: flags & 8 != 0 };
        let versioned = flags & 14 != 0 && !version.is_empty();
        let version = versioned.then(|| (relation, Evr::parse(version)));
        found.push((Capability { name: (*name).into(), version: version.map(std::sync::Arc::new) }, flags));
    }
    Ok(found)
}

pub(super) fn files(header: &Header) -> Result<Vec<FileEntry>, String> {
    let mut paths: Vec<String> = header.texts(tag::OLD_FILE_NAMES)?.into_iter().map(str::to_owned).collect();
    if paths.is_empty() {
        let directories = header.texts(tag::DIR_NAMES)?;
        let indexes = header.numbers(tag::DIR_INDEXES)?;
        for (at, base) in header.texts(tag::BASE_NAMES)?.into_iter().enumerate() {
            let index = indexes.get(at).and_then(|index| usize::try_from(*index).ok());
            let directory = index.and_then(|index| directories.get(index));
            let directory = directory.ok_or("has a file without a directory")?;
            // PATH_MAX; a header could name one long directory for each of many files.
            if directory.len() + base.len() > 4096 {
                return Err("has a path that is too long".to_owned());
            }
            paths.push(format!("{directory}{base}"));
        }
    }
    let modes = header.numbers(tag::FILE_MODES)?;
    let mut sizes = header.numbers(tag::LONG_FILE_SIZES)?;
    if sizes.is_empty() {
        sizes = header.numbers(tag::FILE_SIZES)?;
    }
    let flags = header.numbers(tag::FILE_FLAGS)?;
    let times = header.numbers(tag::FILE_MTIMES)?;
    let (devices, inodes) = (header.numbers(tag::FILE_DEVICES)?, header.numbers(tag::FILE_INODES)?);
    let (users, groups) = (header.texts(tag::FILE_USERS)?, header.texts(tag::FILE_GROUPS)?);
    let (digests, links) = (header.texts(tag::FILE_DIGESTS)?, header.texts(tag::FILE_LINKS)?);
    let capabilities = header.texts(tag::FILE_CAPS)?;
    let number = |list: &[u64], at: usize| list.get(at).copied().unwrap_or(0);
    let text = |list: &[&str], at: usize| list.get(at).copied().unwrap_or_default().to_owned();
    let mut found = Vec::with_capacity(paths.len());
    for (at, path) in paths.into_iter().enumerate() {
        let flags = number(&flags, at);
        found.push(FileEntry {
            path,
            mode: *modes.get(at).ok_or("has a file without a mode")? as u32,
            size: number(&sizes, at),
            mtime: number(&times, at) as i64,
            user: text(&users, at),
            group: text(&groups, at),
            capabilities: text(&capabilities, at),
            digest: text(&digests, at),
            link: text(&links, at),
            // RPMFILE_GHOST and RPMFILE_CONFIG. Source: rpm's rpmfiles.h.
            ghost: flags & (1 << 6) != 0,
            config: flags & 1 != 0,
            inode: (number(&devices, at) as u32, number(&inodes, at) as u32),
        });
    }
    Ok(found)
}

#[cfg(test)]
pub(in crate::rpm) mod tests;
