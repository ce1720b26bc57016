//! A repository fetched: mirrors, repomd.xml and its signature, metadata with their digests.
//!
//! What is fetched is what dnf and zypper read of a repository, so that both can be shown the same files later.

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::PathBuf;

use super::comps::COMPS_LIMIT;
use super::mirrors::MIRRORS_LIMIT;
use super::modules::MODULES_LIMIT;
use super::primary::read_primary;
use super::repomd::{DataEntry, REPOMD_LIMIT, elsewhere, is_below};
use super::susetags::fetch_medium;
use crate::fetch::address::{Escapes, below};
use crate::fetch::credentials::access::learn_mirror;
use crate::rpm::decompress::{Coding, Limited, coding, decompressed};
use crate::rpm::relations::candidate::PRIORITY;
use crate::rpm::{
    Candidate, Checksum, Comps, MetadataFile, Metalink, Modules, Repomd, Repository, RepositorySource, read_metalink,
    read_mirrorlist,
};
use crate::{DistroError, Download, Fetcher, Progress, verify_package};
use base::digest::Sha256;
use store::{Store, StoreError};

/// Kinds of metadata that are fetched where a repository has them; others (delta packages, databases, icons)
/// serve other purposes.
const KINDS: [&str; 11] = [
    "primary",
    "filelists",
    "group",
    "group_gz",
    "group_xz",
    "group_zst",
    "modules",
    "updateinfo",
    "susedata",
    "patterns",
    "products",
];

/// Largest metadata file, in bytes, packed and unpacked.
const METADATA_LIMIT: u64 = 4 << 30;

/// How many mirrors are tried for one file.
const MIRRORS: usize = 6;

/// Fetches and checks a repository's metadata and reads them.
/// Errors: [`DistroError`] for what cannot be had, is not what was announced, is not signed well, or cannot be understood.
pub fn fetch_repository(
    fetcher: &Fetcher,
    store: &Store,
    source: &RepositorySource,
    progress: &dyn Progress,
) -> Result<Repository, DistroError> {
    let Found { bases, metalink, without_list } = places(fetcher, source)?;
    let (bases, bytes, signature) = match fetch_repomd(fetcher, source, bases.clone(), metalink.as_ref()) {
        // Before SLES 15 media have no repomd.xml.
        Err(gone @ DistroError::NotThere { .. }) if source.base.len() == 1 && bases.len() == 1 => {
            return fetch_medium(fetcher, source, &bases[0]).map_err(|error| match error {
                DistroError::NotThere { .. } => products(fetcher, &bases[0]).unwrap_or(gone),
                other => other,
            });
        }
        other => other?,
    };
    let first = bases.first().cloned().unwrap_or_default();
    let repomd = Repomd::parse(&bytes)
        .map_err(|problem| DistroError::Format { file: format!("{first}/repodata/repomd.xml"), problem })?;
    let mut downloads = Vec::new();
    for Wanted { entry, checksum, .. } in wanted(&repomd, &first)? {
        let urls: Vec<String> = match &entry.base {
            Some(base) => {
                let file = format!("{first}/repodata/repomd.xml");
                let base = elsewhere(&first, base).map_err(|problem| DistroError::Format { file, problem })?;
                vec![below(base, &entry.location, Escapes::StandForOne)]
            }
            None => bases.iter().take(MIRRORS).map(|base| below(base, &entry.location, Escapes::StandForOne)).collect(),
        };
        let destination = kept_at(store, &checksum);
        match (checksum.sha256(), entry.size) {
            (Some(sha256), Some(size)) => downloads.push(Download { urls, size, sha256, destination }),
            _ => fetch_checked(fetcher, store, &urls, entry.size.unwrap_or(METADATA_LIMIT), &checksum, &destination)?,
        }
    }
    fetcher.fetch_all(&downloads, progress)?;
    let repository = read_repository(store, source, &bases, &bytes)?;
    Ok(Repository { signature, without_list, ..repository })
}

/// Looks whether a repository is there and signed as it has to be, and whether one of this machine has its metadata; keeps nothing.
/// Errors: As [`fetch_repository`].
pub fn look_at(fetcher: &Fetcher, source: &RepositorySource) -> Result<(), DistroError> {
    let Found { bases, metalink, .. } = places(fetcher, source)?;
    let (bases, bytes, _) = match fetch_repomd(fetcher, source, bases.clone(), metalink.as_ref()) {
        Err(gone @ DistroError::NotThere { .. }) if source.base.len() == 1 && bases.len() == 1 => {
            return fetch_medium(fetcher, source, &bases[0]).map(drop).map_err(|error| match error {
                DistroError::NotThere { .. } => products(fetcher, &bases[0]).unwrap_or(gone),
                other => other,
            });
        }
        other => other?,
    };
    let first = bases.first().cloned().unwrap_or_default();
    let repomd = Repomd::parse(&bytes)
        .map_err(|problem| DistroError::Format { file: format!("{first}/repodata/repomd.xml"), problem })?;
    for Wanted { entry, .. } in wanted(&repomd, &first)? {
        let Some(root) = first.strip_prefix("file:").filter(|_| entry.base.is_none()) else { continue };
        let path = PathBuf::from(format!("/{}", root.trim_start_matches('/'))).join(&entry.location);
        let found = path.metadata().map(|found| found.len());
        let answer = match (found, entry.size) {
            (Err(error), _) => error.to_string(),
            (Ok(found), Some(size)) if found != size => format!("it has {found} bytes, but repomd.xml lists {size}"),
            _ => continue,
        };
        return Err(DistroError::NotThere { file: entry.location.clone(), place: first, answer });
    }
    Ok(())
}

/// Largest list of a medium's products, in bytes.
const PRODUCTS_LIMIT: u64 = 1 << 20;

/// What is said of a medium with several products, each a repository of its own: SLE's since 15 ("Full" and "Packages"), and add-ons. Source:
/// libzypp, `media.1/products`: a directory and a name on each line.
fn products(fetcher: &Fetcher, base: &str) -> Option<DistroError> {
    let bytes = fetcher.read(&format!("{base}/media.1/products"), PRODUCTS_LIMIT).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    let folders = text.lines().filter_map(|line| Some(line.split_whitespace().next()?.trim_matches('/')));
    let folders: Vec<&str> = folders.filter(|folder| is_below(folder)).take(PRODUCTS_SHOWN + 1).collect();
    let first = folders.first()?;
    let more = if folders.len() > PRODUCTS_SHOWN { ", .." } else { "" };
    Some(DistroError::NoSource {
        problem: format!("`{base}` is a medium of several products, and no repository itself"),
        help: format!(
            "name those that are wanted, one ‹[[repo]]› each: ‹[[repo]] uri = \"{base}/{first}\"›; it has {}{more}",
            folders.iter().take(PRODUCTS_SHOWN).copied().collect::<Vec<_>>().join(", ")
        ),
    })
}

/// So many products are named.
const PRODUCTS_SHOWN: usize = 30;

/// Reads a repository whose repomd.xml is at hand and whose metadata files are in the store, without a network.
/// Errors: As [`fetch_repository`]; what is not in the store is [`DistroError::Format`].
pub fn read_repository(
    store: &Store,
    source: &RepositorySource,
    bases: &[String],
    repomd: &[u8],
) -> Result<Repository, DistroError> {
    let place = bases.first().map_or(source.id.as_str(), String::as_str);
    let parsed = Repomd::parse(repomd)
        .map_err(|problem| DistroError::Format { file: format!("{place}/repodata/repomd.xml"), problem })?;
    let mut repository = Repository {
        id: source.id.clone(),
        bases: bases.to_vec(),
        repomd: repomd.to_vec(),
        priority: source.priority.unwrap_or(PRIORITY),
        module_hotfixes: source.module_hotfixes,
        exclude: source.exclude.clone(),
        include: source.include.clone(),
        ..Repository::default()
    };
    for Wanted { kind, entry, checksum } in wanted(&parsed, place)? {
        let file = kept_at(store, &checksum);
        let wrong = |problem: String| DistroError::Format { file: format!("{place}/{}", entry.location), problem };
        let sha256 = match checksum.sha256() {
            Some(sha256) => sha256,
            None => {
                let any = Checksum::Sha256(Sha256([0; 32]));
                let found = File::open(&file).and_then(|file| any.of_same_kind(file));
                let found = found.map_err(|error| wrong(format!("is not in the store: {error}")))?;
                found.sha256().unwrap_or(Sha256([0; 32]))
            }
        };
        let metadata = MetadataFile {
            kind: kind.to_owned(),
            location: entry.location.clone(),
            sha256,
            size: entry.size.or_else(|| file.metadata().ok().map(|found| found.len())).unwrap_or(0),
            file,
            checksum,
            open_size: entry.open_size,
        };
        read_metadata(&mut repository, &metadata).map_err(wrong)?;
        repository.metadata.push(metadata);
    }
    Ok(repository)
}

/// The content of a metadata file, at most so many bytes of it.
fn content_of(metadata: &MetadataFile, limit: u64) -> Result<Limited<Box<dyn Read>>, String> {
    let file = File::open(&metadata.file).map_err(|error| format!("is not in the store: {error}"))?;
    let content = decompressed(file).map_err(|error| format!("cannot be unpacked: {error}"))?;
    Ok(Limited::new(content, metadata.open_size.unwrap_or(limit).min(limit)))
}

/// The ending of a metadata file's name by its content, as solvers know it.
/// Errors: Where it cannot be read.
pub fn ending(metadata: &MetadataFile) -> std::io::Result<&'static str> {
    let mut start = Vec::new();
    File::open(&metadata.file)?.take(8).read_to_end(&mut start)?;
    Ok(match coding(&start) {
        Coding::None => "",
        Coding::Gzip => ".gz",
        Coding::Xz => ".xz",
        Coding::Lzma => ".lzma",
        Coding::Zstd => ".zst",
        Coding::Bzip2 => ".bz2",
    })
}

fn read_metadata(repository: &mut Repository, metadata: &MetadataFile) -> Result<(), String> {
    let open = |limit: u64| Ok::<_, String>(BufReader::with_capacity(1 << 16, content_of(metadata, limit)?));
    match metadata.kind.as_str() {
        "primary" => repository.candidates = read_primary(open(METADATA_LIMIT)?)?,
        kind if kind.starts_with("group") && repository.comps.is_none() => {
            repository.comps = Some(Comps::parse(open(COMPS_LIMIT)?)?);
        }
        "modules" => {
            let mut text = String::new();
            open(MODULES_LIMIT)?.read_to_string(&mut text).map_err(|error| format!("cannot be unpacked: {error}"))?;
            repository.modules = Some(Modules::parse(&text)?);
        }
        _ => {}
    }
    Ok(())
}

struct Wanted<'r> {
    kind: &'static str,
    entry: &'r DataEntry,
    checksum: Checksum,
}

/// The entries that are fetched, each with its digest.
fn wanted<'r>(repomd: &'r Repomd, place: &str) -> Result<Vec<Wanted<'r>>, DistroError> {
    let wrong = |problem: String| DistroError::Format { file: format!("{place}/repodata/repomd.xml"), problem };
    // Those in zchunk (`primary_zck`) are copies that createrepo_c writes beside these.
    if repomd.entry("primary").is_none() {
        return Err(wrong("lists no `primary`, which describes the packages".to_owned()));
    }
    let mut found = Vec::new();
    for kind in KINDS {
        let Some(entry) = repomd.entry(kind) else { continue };
        if entry.size.is_some_and(|size| size > METADATA_LIMIT) {
            return Err(wrong(format!("announces more than {} GiB of `{kind}`", METADATA_LIMIT >> 30)));
        }
        match &entry.checksum {
            Ok(checksum) => found.push(Wanted { kind, entry, checksum: *checksum }),
            // What only informs may be missing.
            Err(_) if !matches!(kind, "primary" | "filelists" | "modules") && !kind.starts_with("group") => {}
            Err(problem) => return Err(wrong(format!("{problem} for `{kind}`"))),
        }
    }
    Ok(found)
}

fn kept_at(store: &Store, checksum: &Checksum) -> PathBuf {
    match checksum {
        Checksum::Sha256(digest) => store.index(digest),
        other => store.directory().join("indices").join(other.digits()),
    }
}

struct Found {
    bases: Vec<String>,
    metalink: Option<Metalink>,
    /// Why its list of mirrors was done without.
    without_list: Option<String>,
}

/// Where a repository's files are: its own addresses first, then the mirrors of its list. One that has addresses of its own is asked at
/// these where no one gives the list, as dnf asks it.
fn places(fetcher: &Fetcher, source: &RepositorySource) -> Result<Found, DistroError> {
    let mut bases: Vec<String> = source.base.iter().map(|base| base.trim_end_matches('/').to_owned()).collect();
    let (mut metalink, mut without_list) = (None, None);
    if let Some(url) = source.metalink.as_ref().or(source.mirrorlist.as_ref()) {
        let wrong = |problem: String| DistroError::Format { file: url.clone(), problem };
        match fetcher.read(url, MIRRORS_LIMIT) {
            Err(error) if error.is_unavailable() && !bases.is_empty() => without_list = Some(error.to_string()),
            Err(error) => return Err(error),
            // Some servers give a metalink under the name of a list.
            Ok(bytes) if source.metalink.is_some() || bytes.trim_ascii_start().starts_with(b"<") => {
                let read = read_metalink(&bytes).map_err(wrong)?;
                bases.extend(read.mirrors.iter().cloned());
                metalink = Some(read);
            }
            Ok(bytes) => bases.extend(read_mirrorlist(&String::from_utf8_lossy(&bytes)).map_err(wrong)?),
        }
    }
    for mirror in bases.iter().filter(|base| !source.base.contains(base)) {
        learn_mirror(mirror, &source.access);
    }
    if bases.is_empty() {
        return Err(DistroError::NoSource {
            problem: format!("the repository `{}` has no address", source.id),
            help: "give a base URL, a mirror list or a metalink".to_owned(),
        });
    }
    Ok(Found { bases, metalink, without_list })
}

/// What is left of the mirrors (the one that answered first), repomd.xml, and its signature where one is asked for.
type Fetched = (Vec<String>, Vec<u8>, Option<Vec<u8>>);

fn fetch_repomd(
    fetcher: &Fetcher,
    source: &RepositorySource,
    mut bases: Vec<String>,
    metalink: Option<&Metalink>,
) -> Result<Fetched, DistroError> {
    let mut last = None;
    for at in 0..bases.len().min(MIRRORS) {
        match try_repomd(fetcher, source, &bases[at], metalink) {
            Ok((bytes, signature)) => {
                bases[..=at].rotate_right(1);
                return Ok((bases, bytes, signature));
            }
            // Anyone who signs badly may do so at one mirror alone, but that is for a person to look at.
            Err(error @ DistroError::Signature { .. }) => return Err(error),
            // What a mirror has says more than that another does not answer.
            Err(error @ DistroError::Format { .. }) => last = Some(error),
            Err(error) => last = last.or(Some(error)),
        }
    }
    Err(last.unwrap_or_else(|| DistroError::NoSource {
        problem: format!("the repository `{}` has no mirror", source.id),
        help: "give a base URL".to_owned(),
    }))
}

fn try_repomd(
    fetcher: &Fetcher,
    source: &RepositorySource,
    base: &str,
    metalink: Option<&Metalink>,
) -> Result<(Vec<u8>, Option<Vec<u8>>), DistroError> {
    let url = format!("{base}/repodata/repomd.xml");
    let bytes = fetcher.read(&url, REPOMD_LIMIT)?;
    if metalink.is_some_and(|metalink| !metalink.accepts(&bytes)) {
        let problem = "matches no digest in the metalink: the mirror is out of date, or was altered";
        return Err(DistroError::Format { file: url, problem: problem.to_owned() });
    }
    if !source.repo_gpgcheck {
        return Ok((bytes, None));
    }
    let bad = |problem: String| {
        DistroError::Signature {
        file: "repomd.xml".to_owned(),
        place: base.to_owned(),
        problem,
        help: "name the keys that sign this repository: ‹[[repo]] signed-by = \"keys/RPM-GPG-KEY-...\"›; if only its packages are signed: ‹check-index = false›".to_owned(),
    }
    };
    let keys = source.keys.as_ref().ok_or_else(|| bad("no key is given for it".to_owned()))?;
    let signature = fetcher.read(&format!("{url}.asc"), REPOMD_LIMIT).map_err(|error| match error {
        DistroError::NotThere { .. } => bad("there is no repomd.xml.asc next to it".to_owned()),
        other => other,
    })?;
    verify_package(&bytes, &signature, keys).map_err(bad)?;
    Ok((bytes, Some(signature)))
}

/// Fetches a file whose digest [`Download`] does not know, from the first place that has it.
fn fetch_checked(
    fetcher: &Fetcher,
    store: &Store,
    urls: &[String],
    limit: u64,
    checksum: &Checksum,
    destination: &std::path::Path,
) -> Result<(), DistroError> {
    if destination.is_file() {
        return Ok(());
    }
    let mut last = None;
    for url in urls {
        let bytes = match fetcher.read(url, limit) {
            Ok(bytes) => bytes,
            Err(error) => {
                last = last.or(Some(error));
                continue;
            }
        };
        if !checksum.fits(&bytes) {
            let problem = format!("does not match the expected digest {checksum}");
            last = last.or(Some(DistroError::Format { file: url.clone(), problem }));
            continue;
        }
        let kept = |source: std::io::Error| StoreError::io("keep the download", destination, source);
        let mut file = store.half_written()?;
        std::io::Write::write_all(&mut file, &bytes).and_then(|()| file.as_file().sync_all()).map_err(kept)?;
        if let Some(parent) = destination.parent() {
            std::fs::create_dir_all(parent).map_err(kept)?;
        }
        file.persist(destination).map_err(|error| kept(error.error))?;
        return Ok(());
    }
    match last {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

impl Repository {
    /// How to download a package; none for one whose SHA-256 is unknown, see [`fetch_package`].
    pub fn download(&self, store: &Store, candidate: &Candidate) -> Option<Download> {
        let sha256 = candidate.checksum.sha256()?;
        let mut urls = self.urls(candidate);
        urls.truncate(MIRRORS);
        Some(Download { urls, size: candidate.size, sha256, destination: store.package(&sha256) })
    }
}

/// Fetches one package whatever its digest is of; gives the SHA-256 under which the store has it.
/// Errors: [`DistroError`] for a package that cannot be had, or is not what was announced.
pub fn fetch_package(
    fetcher: &Fetcher,
    store: &Store,
    repository: &Repository,
    candidate: &Candidate,
    progress: &dyn Progress,
) -> Result<Sha256, DistroError> {
    if let Some(download) = repository.download(store, candidate) {
        fetcher.fetch_all(std::slice::from_ref(&download), progress)?;
        return Ok(download.sha256);
    }
    let mut urls = repository.urls(candidate);
    urls.truncate(MIRRORS);
    let aside = kept_at(store, &candidate.checksum);
    fetch_checked(fetcher, store, &urls, candidate.size, &candidate.checksum, &aside)?;
    let kept = |source: std::io::Error| StoreError::io("keep the download", &aside, source);
    let any = Checksum::Sha256(Sha256([0; 32]));
    let found = File::open(&aside).and_then(|file| any.of_same_kind(file)).map_err(kept)?;
    let sha256 = found.sha256().unwrap_or(Sha256([0; 32]));
    let destination = store.package(&sha256);
    if let Some(parent) = destination.parent() {
        std::fs::create_dir_all(parent).map_err(kept)?;
    }
    std::fs::rename(&aside, &destination).map_err(kept)?;
    Ok(sha256)
}
