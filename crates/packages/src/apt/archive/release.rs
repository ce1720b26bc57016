//! Release files: fetched, their signatures checked, their digests taken.

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;

use super::named::Architectures;
use super::source::below;
use crate::apt::Source;
use crate::{DistroError, Download, Fetcher, Keyring, verify_clear_signed, verify_detached};
use base::digest::Sha256;
use files::{self, Durability};
use pgp::clear_text;
use store::{Store, StoreError};

/// Largest Release file that is read; Debian's are about 150 KB.
const RELEASE_LIMIT: u64 = 16 << 20;

/// What a Release file may have its index compressed with, best first.
const INDEX_ENDINGS: [&str; 6] = [".xz", ".zst", ".gz", ".bz2", ".lzma", ""];

#[derive(Debug, Clone)]
pub struct SuiteRelease {
    pub suite: String,
    /// What image.lock calls the origin of its packages.
    pub origin: String,
    pub uri: String,
    /// The files that say what it has, as they came: name and bytes.
    pub files: Vec<(&'static str, Vec<u8>)>,
    /// The signed text; none for an archive without, which has to be trusted.
    pub text: Option<String>,
    /// Digest of the signed text; what the lock keeps. Without one, of the index.
    pub digest: Sha256,
    /// The index of each component that has one: component, digest, and path below the Release file.
    pub indices: Vec<(String, Sha256, String)>,
    /// The same for this host's CPU, where the image has another one and the suite has packages for it.
    pub tools: Vec<(String, Sha256, String)>,
}

struct Had {
    files: Vec<(&'static str, Vec<u8>)>,
    text: String,
}

/// Fetches a suite's Release file and checks its signature; none where a trusted archive has no such file.
fn release_of(fetcher: &Fetcher, source: &Source, suite: &str, keyring: &Keyring) -> Result<Option<Had>, DistroError> {
    let base = source.base(suite);
    let read = |name: &str| match fetcher.read(&format!("{base}/{name}"), RELEASE_LIMIT) {
        Ok(bytes) => Ok(Ok(bytes)),
        Err(DistroError::NotThere { answer, .. }) => Ok(Err(answer)),
        Err(other) => Err(other),
    };
    let bad = |file: &str, problem: String| DistroError::Signature {
        file: file.to_owned(),
        place: base.clone(),
        problem,
        help: "if this archive is signed with a key of its own, name it: ‹[[repo]] signed-by = \"keys/site.gpg\"›"
            .to_owned(),
    };
    let no_text =
        |file: &str| DistroError::Format { file: format!("{base}/{file}"), problem: "is not UTF-8 text".to_owned() };
    let answer = match read("InRelease")? {
        Ok(data) => {
            let text = match source.trusted {
                true => clear_text(&data).ok_or_else(|| no_text("InRelease"))?,
                false => verify_clear_signed(&data, keyring).map_err(|problem| bad("InRelease", problem))?,
            };
            return Ok(Some(Had { files: vec![("InRelease", data)], text }));
        }
        Err(answer) => answer,
    };
    let Ok(data) = read("Release")? else {
        if source.trusted {
            return Ok(None);
        }
        let problem = format!("it has neither InRelease nor Release: {answer}");
        let uri = source.uri.trim_end_matches('/').to_owned();
        let has = |name: &str| fetcher.read(&format!("{uri}/{name}"), RELEASE_LIMIT).is_ok();
        return Err(match below(suite) {
            Some(_) if has_index(fetcher, &base) => DistroError::NoSource {
                problem: format!("{base} has packages and an index, but no one signed it: {problem}"),
                help: "if only you can write to the archive, accept it as it is: ‹[[repo]] trusted = true›; otherwise create Release (apt-ftparchive release . >Release) and sign it (gpg --clearsign -o InRelease Release)".to_owned(),
            },
            None if has_index(fetcher, &uri) => DistroError::NoSource {
                problem: format!("{uri} has no suite `{suite}`: it is a flat archive, with Packages at its root"),
                help: match has("InRelease") || has("Release") {
                    true => "write ‹[[repo]] suites = [\"./\"]›, without components".to_owned(),
                    false => "write ‹[[repo]] suites = [\"./\"], trusted = true›, without components: no one signed it".to_owned(),
                },
            },
            _ => DistroError::NoSuite { uri: source.uri.clone(), suite: suite.to_owned(), problem },
        });
    };
    let text = String::from_utf8(data.clone()).map_err(|_| no_text("Release"))?;
    let mut files = vec![("Release", data)];
    if !source.trusted {
        let signature = read("Release.gpg")?.map_err(|_| {
            let problem = "it is not signed: it has neither InRelease nor Release.gpg".to_owned();
            DistroError::Signature {
                file: "Release".to_owned(),
                place: base.clone(),
                problem,
                help: "sign it (gpg -abs -o Release.gpg Release); an archive that only you can write needs no signature: ‹[[repo]] trusted = true›".to_owned(),
            }
        })?;
        verify_detached(&files[0].1, &signature, keyring).map_err(|problem| bad("Release.gpg", problem))?;
        files.push(("Release.gpg", signature));
    }
    Ok(Some(Had { files, text }))
}

/// Whether there is an index of packages in a directory of an archive.
fn has_index(fetcher: &Fetcher, directory: &str) -> bool {
    let is_there = |ending: &&str| fetcher.read(&format!("{directory}/Packages{ending}"), RELEASE_LIMIT).is_ok();
    [".xz", ".gz", ""].iter().any(is_there)
}

/// Fetches and checks a suite's Release file; gives the downloads of its indices beside it.
/// Errors: [`DistroError::NoSuite`] when the archive does not have the suite; [`DistroError`] for a file that cannot be had, is not signed well, is too old, or lacks a component.
pub fn fetch_suite(
    (fetcher, store): (&Fetcher, &Store),
    source: &Source,
    suite: &str,
    architectures: &Architectures,
    keyring: &Keyring,
) -> Result<(SuiteRelease, Vec<Download>), DistroError> {
    let base = source.base(suite);
    let flat = below(suite).is_some();
    let wanted: Vec<(String, String)> = match flat {
        true => vec![(String::new(), "Packages".to_owned())],
        false => source
            .components
            .iter()
            .map(|component| (component.clone(), index_of(component, architectures.image)))
            .collect(),
    };
    let architecture = architectures.image;
    let mut release = SuiteRelease {
        suite: suite.to_owned(),
        origin: source.origin(suite),
        uri: source.uri.clone(),
        files: Vec::new(),
        text: None,
        digest: Sha256::of(b""),
        indices: Vec::new(),
        tools: Vec::new(),
    };
    let Some(had) = release_of(fetcher, source, suite, keyring)? else {
        without_release((fetcher, store), &base, &wanted, &mut release)?;
        return Ok((release, Vec::new()));
    };
    let text = had.text;
    let file = had.files.first().map_or("Release", |(name, _)| name);
    let wrong = |problem: String| DistroError::Format { file: format!("{base}/{file}"), problem };
    let fields = deb822_fast::borrowed::parse_borrowed(&text)
        .map_err(|error| wrong(error.to_string()))?
        .into_iter()
        .next()
        .ok_or_else(|| wrong("is empty".to_owned()))?;
    if source.check_valid_until
        && let Some(until) = fields.get_single("Valid-Until")
        && is_past(until)
    {
        return Err(DistroError::Expired { file: file.to_owned(), place: base, until: until.trim().to_owned() });
    }
    let named: Vec<&str> =
        [fields.get_single("Suite"), fields.get_single("Codename")].into_iter().flatten().map(str::trim).collect();
    // A flat archive need not have a name; a suite of several words has one of them.
    let is_called = |name: &&str| *name == suite || (suite.contains('/') && suite.split('/').any(|part| part == *name));
    if !flat && !named.iter().any(is_called) {
        let says = named.first().copied().unwrap_or("nothing");
        return Err(wrong(format!("is for `{says}`, not `{suite}`")));
    }
    let lines_of = |field: &str| -> Vec<(String, u64, String)> {
        let lines = fields.get_field(field).map(|field| field.lines().to_vec()).unwrap_or_default();
        let of_line = |line: &str| {
            let mut words = line.split_whitespace();
            let (digest, size, path) = (words.next()?, words.next()?.parse().ok()?, words.next()?);
            Some((digest.to_owned(), size, path.trim_start_matches("./").to_owned()))
        };
        lines.iter().filter_map(|line| of_line(line)).collect()
    };
    let mut listed: BTreeMap<String, (Sha256, u64)> = BTreeMap::new();
    for (digest, size, path) in lines_of("SHA256") {
        if let Ok(digest) = Sha256::parse(&digest) {
            listed.insert(path, (digest, size));
        }
    }
    let by_hash = fields.get_single("Acquire-By-Hash").is_some_and(|word| word.trim() == "yes");
    if listed.is_empty() {
        let longer = lines_of("SHA512");
        if longer.is_empty() {
            return Err(wrong(too_weak(&["SHA1", "MD5Sum"].map(|name| (name, !lines_of(name).is_empty())))));
        }
        by_longer_digest((fetcher, store), (&base, file, by_hash), &wanted, &longer, &mut release)?;
        let digest = Sha256::of(text.as_bytes());
        return Ok((SuiteRelease { files: had.files, text: Some(text), digest, ..release }, Vec::new()));
    }
    let mut downloads = Vec::new();
    // Where there are packages for this host's CPU, tools are taken from them.
    let for_tools =
        architectures.tools.iter().filter(|_| !flat).flat_map(|tools| {
            source.components.iter().map(|component| (component.clone(), index_of(component, tools)))
        });
    let for_tools = for_tools.filter(|(_, stem)| listed.contains_key(stem));
    let count = wanted.len();
    for (at, (component, stem)) in wanted.iter().cloned().chain(for_tools.collect::<Vec<_>>()).enumerate() {
        let (component, stem) = (&component, &stem);
        let found = INDEX_ENDINGS.iter().find_map(|ending| listed.get_key_value(&format!("{stem}{ending}")));
        let Some((path, (digest, size))) = found else {
            let what = match flat {
                true => "lists no index of packages (Packages, Packages.gz)".to_owned(),
                false => format!("has no packages of component `{component}` for {architecture}"),
            };
            return Err(wrong(what));
        };
        if !flat && !listed.contains_key(stem) {
            return Err(wrong(format!("lists `{path}` but not `{stem}`, which apt needs to read it")));
        }
        if *size > super::index::INDEX_LIMIT {
            return Err(wrong(format!("announces an index of {size} bytes, too large for an index")));
        }
        let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let mut urls = vec![format!("{base}/{path}")];
        if by_hash {
            urls.insert(0, format!("{base}/{folder}by-hash/SHA256/{digest}"));
        }
        downloads.push(Download { urls, size: *size, sha256: *digest, destination: store.index(digest) });
        let indices = if at < count { &mut release.indices } else { &mut release.tools };
        indices.push((component.clone(), *digest, path.clone()));
    }
    let digest = Sha256::of(text.as_bytes());
    Ok((SuiteRelease { files: had.files, text: Some(text), digest, ..release }, downloads))
}

/// Path of an index, without its ending, below the suite's directory.
pub(crate) fn index_of(component: &str, architecture: &str) -> String {
    format!("{component}/binary-{architecture}/Packages")
}

/// What is said of a Release file without a digest that counts.
fn too_weak(others: &[(&str, bool)]) -> String {
    let has: Vec<&str> = others.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| *name).collect();
    match has.as_slice() {
        [] => "lists no file with a digest".to_owned(),
        names => format!(
            "has only {} digests, which can be forged: the archive's maintainer can add SHA256 (apt-ftparchive, reprepro and aptly do)",
            names.join(" and ")
        ),
    }
}

/// The indices of an archive that has SHA-512 alone: fetched and checked at once, since the store knows files by SHA-256.
fn by_longer_digest(
    (fetcher, store): (&Fetcher, &Store),
    (base, file, by_hash): (&str, &str, bool),
    wanted: &[(String, String)],
    listed: &[(String, u64, String)],
    release: &mut SuiteRelease,
) -> Result<(), DistroError> {
    use sha2::Digest;
    let wrong = |problem: String| DistroError::Format { file: format!("{base}/{file}"), problem };
    for (component, stem) in wanted {
        let of = |ending: &&str| listed.iter().find(|(_, _, path)| *path == format!("{stem}{ending}"));
        let Some((digest, size, path)) = INDEX_ENDINGS.iter().find_map(of) else {
            return Err(wrong(format!("lists no index `{stem}`")));
        };
        let plain = || fetcher.read(&format!("{base}/{path}"), super::index::INDEX_LIMIT);
        let folder = path.rsplit_once('/').map_or(String::new(), |(folder, _)| format!("{folder}/"));
        let url = format!("{base}/{folder}by-hash/SHA512/{digest}");
        let bytes = match by_hash.then(|| fetcher.read(&url, super::index::INDEX_LIMIT)) {
            Some(Ok(bytes)) => bytes,
            // A mirror may have the plain name alone.
            _ => plain()?,
        };
        let found = HEXLOWER.encode(&sha2::Sha512::digest(&bytes));
        if found != *digest || bytes.len() as u64 != *size {
            let problem = format!("does not match {file}: SHA-512 {found}, {} bytes", bytes.len());
            return Err(DistroError::Format { file: format!("{base}/{path}"), problem });
        }
        let digest = base::digest::Sha256::of(&bytes);
        let place = store.index(&digest);
        files::replace(&place, &bytes, 0o644, Durability::Kill)
            .map_err(|source| StoreError::io("write", &place, source))?;
        release.indices.push((component.clone(), digest, path.clone()));
    }
    Ok(())
}

/// The indices of a trusted archive that has no Release file: taken as they are.
fn without_release(
    (fetcher, store): (&Fetcher, &Store),
    base: &str,
    wanted: &[(String, String)],
    release: &mut SuiteRelease,
) -> Result<(), DistroError> {
    let mut digests = String::new();
    for (component, stem) in wanted {
        let mut found = None;
        for ending in INDEX_ENDINGS {
            match fetcher.read(&format!("{base}/{stem}{ending}"), super::index::INDEX_LIMIT) {
                Ok(bytes) => {
                    found = Some((format!("{stem}{ending}"), bytes));
                    break;
                }
                Err(DistroError::NotThere { .. }) => {}
                Err(other) => return Err(other),
            }
        }
        let Some((path, bytes)) = found else {
            return Err(DistroError::NoSuite {
                uri: release.uri.clone(),
                suite: release.suite.clone(),
                problem: format!("it has no Release file and no {stem}"),
            });
        };
        let digest = Sha256::of(&bytes);
        let place = store.index(&digest);
        files::replace(&place, &bytes, 0o644, Durability::Kill)
            .map_err(|source| StoreError::io("write", &place, source))?;
        digests.push_str(&format!("{digest}\n"));
        release.indices.push((component.clone(), digest, path));
    }
    release.digest = Sha256::of(digests.as_bytes());
    Ok(())
}

/// Whether a Release file's date lies in the past; a date that cannot be read does.
fn is_past(date: &str) -> bool {
    let date = date.trim().replace(" UTC", " +0000");
    match jiff::fmt::rfc2822::DateTimeParser::new().relaxed_weekday(true).parse_zoned(&date) {
        Ok(until) => until.timestamp() < jiff::Timestamp::now(),
        Err(_) => !fault::planted("apt-odd-date"),
    }
}

#[cfg(test)]
mod tests {
    use super::is_past;

    #[test]
    fn dates_of_release_files_are_understood() {
        assert!(is_past("Sat, 17 May 2025 09:45:39 UTC"));
        assert!(!is_past("Sat, 17 May 2625 09:45:39 UTC"));
        assert!(is_past("tomorrow"));
    }
}
