//! A published image brought from an HTTP server: only the frames that the copy here lacks are moved, and the directory
//! changes all at once. For service nodes and mirrors.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use miette::Diagnostic;
use rayon::prelude::*;
use serde::Deserialize;
use thiserror::Error;

use super::artefacts::{Artefact, BuildInfo, SUMS, sha256_of, sums};
use crate::digest::Sha256;
use crate::distro::{DistroError, Download, Fetcher, Progress};
use crate::failure::start;
use crate::format::Version;
use crate::store::FileLock;

/// Bytes of build.json, or of an index, at most: an index has about 300 bytes for each 4 MB of an image.
const TEXT_LIMIT: u64 = 64 << 20;

/// Bytes that one request asks for.
const PART: u64 = 8 << 20;

/// Requests at a time.
const CONNECTIONS: usize = 4;

/// Name of the file that tells what was built.
const BUILD: &str = "build.json";

/// What can go wrong with a copy of an image.
#[derive(Debug, Error, Diagnostic)]
pub enum FetchError {
    /// The server, or what lies between.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Server(#[from] DistroError),
    /// There is something at the address, and no image.
    #[error("{url} {problem}")]
    #[diagnostic(
        code(fetch::not_an_image),
        help("give the address of a directory that `imgbuild build` published: that of its build.json")
    )]
    NotAnImage { url: String, problem: String },
    /// What came is not what was announced.
    #[error("`{file}` of {url} has the SHA-256 {found}, but {expected} was expected")]
    #[diagnostic(
        code(fetch::digest),
        help(
            "the image may have been published anew meanwhile: run the command again; if it stays, the copy at the server is damaged. The directory here is as it was"
        )
    )]
    Digest { file: String, url: String, expected: Sha256, found: Sha256 },
    /// The directory has files that no image has.
    #[error("`{}` has `{file}`, which does not belong to an image that imgbuild brought", directory.display())]
    #[diagnostic(
        code(fetch::foreign),
        help("give a directory of its own for the image, empty or not there yet; nothing was changed")
    )]
    Foreign { directory: PathBuf, file: String },
    /// This machine could not keep what came.
    #[error("cannot {intent} `{}`: {source}", path.display())]
    #[diagnostic(
        code(fetch::keep),
        help("the directory is as it was; what was brought already is kept for the next run")
    )]
    Keep { intent: &'static str, path: PathBuf, source: std::io::Error },
    /// Another command works on the same directory.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] crate::store::StoreError),
}

fn keeping(intent: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> FetchError + use<> {
    let path = path.to_owned();
    move |source| FetchError::Keep { intent, path, source }
}

/// What is read of an index.
#[derive(Debug, Deserialize)]
struct Index {
    size: u64,
    frames: Vec<Frame>,
}

/// A frame of it.
#[derive(Debug, Clone, Deserialize)]
struct Frame {
    offset: u64,
    size: u64,
    sha256: Sha256,
}

impl Index {
    /// Reads an index whose frames follow one another without gaps.
    fn read(text: &[u8]) -> Result<Self, String> {
        let index: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let mut end = 0u64;
        for frame in &index.frames {
            if frame.offset != end {
                return Err(format!("has a gap before byte {}", frame.offset));
            }
            end = end.checked_add(frame.size).ok_or_else(|| "has sizes that no file has".to_owned())?;
        }
        if end != index.size {
            return Err(format!("has frames of {end} bytes for an image of {}", index.size));
        }
        Ok(index)
    }
}

/// What was brought.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Brought {
    /// Bytes that came from the server.
    pub moved: u64,
    /// Bytes of all artefacts.
    pub size: u64,
    /// Frames that came from the server.
    pub frames_moved: usize,
    /// Frames of all images.
    pub frames: usize,
    /// Whether the directory had all of it.
    pub unchanged: bool,
}

/// Where a frame lies here.
struct Known {
    file: PathBuf,
    offset: u64,
}

/// A copy in the making.
struct Transfer<'a> {
    url: &'a str,
    fetcher: &'a Fetcher,
    progress: &'a dyn Progress,
    /// The directory as it is.
    here: &'a Path,
    /// Where the new one is made.
    aside: PathBuf,
    moved: AtomicU64,
}

/// Brings the image at a URL into a directory, which then has the same files as the origin; `digest` is what its
/// build.json has to have.
///
/// # Errors
/// [`FetchError`]; the directory is as it was then.
pub fn fetch(
    url: &str,
    here: &Path,
    digest: Option<Sha256>,
    fetcher: &Fetcher,
    progress: &dyn Progress,
) -> Result<Brought, FetchError> {
    let url = url.trim_end_matches('/');
    let url = url.strip_suffix(&format!("/{BUILD}")).unwrap_or(url);
    let text = fetcher.read(&format!("{url}/{BUILD}"), TEXT_LIMIT)?;
    let found = Sha256::of(&text);
    if let Some(expected) = digest.filter(|expected| *expected != found) {
        return Err(FetchError::Digest { file: BUILD.to_owned(), url: url.to_owned(), expected, found });
    }
    let info = build_info(url, &text)?;
    let here = &std::path::absolute(here).map_err(keeping("find", here))?;
    let name = here.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let parent = here
        .parent()
        .filter(|_| !name.is_empty())
        .ok_or_else(|| FetchError::Foreign { directory: here.clone(), file: "..".to_owned() })?;
    std::fs::create_dir_all(parent).map_err(keeping("make", parent))?;
    let _held = FileLock::take(&parent.join(format!(".{name}.lock")))?;
    let before = files_here(here)?;
    let size = info.artefacts.iter().map(|artefact| artefact.size).sum();
    if std::fs::read(here.join(BUILD)).is_ok_and(|known| known == text) && is_whole(here, &info) {
        return Ok(Brought { size, unchanged: true, ..Brought::default() });
    }
    let aside = parent.join(format!(".{name}.fetching"));
    std::fs::create_dir_all(&aside).map_err(keeping("make", &aside))?;
    // What an earlier run left, of another image perhaps: only names of this one stay.
    for entry in std::fs::read_dir(&aside).map_err(keeping("read", &aside))?.flatten() {
        if !info.artefacts.iter().any(|artefact| entry.file_name() == *artefact.name) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
    let copy =
        Transfer { url, fetcher, progress, here, aside: aside.clone(), moved: AtomicU64::new(text.len() as u64) };
    let mut brought = Brought { size, ..Brought::default() };
    let mut known = HashMap::new();
    for name in before.iter().filter(|name| name.ends_with(".index")) {
        let image = here.join(name.trim_end_matches(".index"));
        if let Ok(index) = Index::read(&std::fs::read(here.join(name)).unwrap_or_default()) {
            for frame in index.frames {
                known.insert(frame.sha256, Known { file: image.clone(), offset: frame.offset });
            }
        }
    }
    let indexed = |artefact: &Artefact| {
        let index = format!("{}.index", artefact.name);
        info.artefacts.iter().find(|other| other.name == index)
    };
    for artefact in &info.artefacts {
        match indexed(artefact) {
            Some(index) => copy.image(artefact, index, &known, &mut brought)?,
            None => copy.plain(artefact)?,
        }
    }
    let write = |name: &str, bytes: &[u8]| {
        let path = aside.join(name);
        std::fs::write(&path, bytes).map_err(keeping("write", &path))
    };
    write(SUMS, sums(&info.artefacts).as_bytes())?;
    write(BUILD, &text)?;
    swap(&aside, here)?;
    brought.moved = copy.moved.into_inner();
    Ok(brought)
}

/// Reads build.json, whose names must stay in the directory.
fn build_info(url: &str, text: &[u8]) -> Result<BuildInfo, FetchError> {
    let refused = |problem: String| FetchError::NotAnImage { url: url.to_owned(), problem };
    let info: BuildInfo =
        serde_json::from_slice(text).map_err(|error| refused(format!("has a {BUILD} that cannot be read: {error}")))?;
    let version = Version::parse(&info.format_version);
    if version.is_none_or(|version| super::artefacts::BUILD_FORMAT.reads(BUILD, version, None).is_err()) {
        return Err(refused(format!(
            "has a {BUILD} of the form {}, which this imgbuild does not know",
            info.format_version
        )));
    }
    let mut seen = std::collections::BTreeSet::new();
    for Artefact { name, .. } in &info.artefacts {
        let is_plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\0']);
        if !is_plain || [BUILD, SUMS].contains(&name.as_str()) || !seen.insert(name) {
            return Err(refused(format!("names an artefact `{}`, which no image has", name.escape_default())));
        }
    }
    Ok(info)
}

/// Names of the files of a directory that an image may replace; none where it is not there.
fn files_here(here: &Path) -> Result<Vec<String>, FetchError> {
    let entries = match std::fs::read_dir(here) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(keeping("read", here)(error)),
    };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let info: Option<BuildInfo> =
        std::fs::read(here.join(BUILD)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let is_own = |name: &String| {
        [BUILD, SUMS].contains(&name.as_str())
            || info.as_ref().is_some_and(|info| info.artefacts.iter().any(|artefact| artefact.name == *name))
    };
    match names.iter().find(|name| !is_own(name)) {
        Some(file) => Err(FetchError::Foreign { directory: here.to_owned(), file: file.clone() }),
        None => Ok(names),
    }
}

/// Whether a directory has all files of an image.
fn is_whole(directory: &Path, info: &BuildInfo) -> bool {
    let sums_there = std::fs::read(directory.join(SUMS)).is_ok_and(|text| text == sums(&info.artefacts).as_bytes());
    sums_there
        && info
            .artefacts
            .par_iter()
            .all(|artefact| sha256_of(&directory.join(&artefact.name)).is_ok_and(|digest| digest == artefact.sha256))
}

impl Transfer<'_> {
    fn address(&self, name: &str) -> String {
        format!("{}/{name}", self.url)
    }

    fn wrong(&self, file: &str, expected: Sha256, found: Sha256) -> FetchError {
        FetchError::Digest { file: file.to_owned(), url: self.url.to_owned(), expected, found }
    }

    /// Whether the new directory has a file, made now from the old one perhaps.
    fn has(&self, artefact: &Artefact) -> bool {
        let to = self.aside.join(&artefact.name);
        let is_it = |path: &Path| {
            let as_large = std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() == artefact.size);
            as_large && sha256_of(path).is_ok_and(|digest| digest == artefact.sha256)
        };
        if is_it(&to) {
            return true;
        }
        let from = self.here.join(&artefact.name);
        if !is_it(&from) {
            return false;
        }
        let _ = std::fs::remove_file(&to);
        std::fs::hard_link(&from, &to).is_ok()
    }

    /// Brings a file without frames, part by part.
    fn plain(&self, artefact: &Artefact) -> Result<(), FetchError> {
        if self.has(artefact) {
            return Ok(());
        }
        let file = self.own(artefact)?;
        if !self.parts(artefact, &file, &[(0, artefact.size)])? {
            return self.whole(artefact);
        }
        let to = self.aside.join(&artefact.name);
        let found = sha256_of(&to).map_err(keeping("read", &to))?;
        match found == artefact.sha256 {
            true => Ok(()),
            false => Err(self.refused(&to, self.wrong(&artefact.name, artefact.sha256, found))),
        }
    }

    /// Takes away what must not be taken for a part of an image by the next run.
    fn refused(&self, to: &Path, error: FetchError) -> FetchError {
        let _ = std::fs::remove_file(to);
        error
    }

    /// Brings a packed image: the frames that are here are taken from here.
    fn image(
        &self,
        artefact: &Artefact,
        index: &Artefact,
        known: &HashMap<Sha256, Known>,
        brought: &mut Brought,
    ) -> Result<(), FetchError> {
        self.plain(index)?;
        let text = self.aside.join(&index.name);
        let text = std::fs::read(&text).map_err(keeping("read", &text))?;
        let refused = |problem| FetchError::NotAnImage { url: self.address(&index.name), problem };
        let index = Index::read(&text).map_err(refused)?;
        brought.frames += index.frames.len();
        if self.has(artefact) {
            return Ok(());
        }
        let to = self.aside.join(&artefact.name);
        let file = self.own(artefact)?;
        let missing: Vec<&Frame> =
            index.frames.par_iter().filter(|frame| !is_there(&file, frame) && !take(&file, frame, known)).collect();
        brought.frames_moved += missing.len();
        let mut runs: Vec<(u64, u64)> = Vec::new();
        for frame in &missing {
            match runs.last_mut() {
                Some((_, end)) if *end == frame.offset => *end += frame.size,
                _ => runs.push((frame.offset, frame.offset + frame.size)),
            }
        }
        if !self.parts(artefact, &file, &runs)? {
            return self.whole(artefact);
        }
        let wrong = missing.par_iter().find_map_any(|frame| match digest_at(&file, frame) {
            Ok(found) if found == frame.sha256 => None,
            Ok(found) => Some(self.wrong(&artefact.name, frame.sha256, found)),
            Err(error) => Some(keeping("read", &to)(error)),
        });
        if let Some(error) = wrong {
            return Err(error);
        }
        let found = sha256_of(&to).map_err(keeping("read", &to))?;
        match found == artefact.sha256 {
            true => Ok(()),
            false => Err(self.refused(&to, self.wrong(&artefact.name, artefact.sha256, found))),
        }
    }

    /// The new file, as large as it will be; what an earlier run brought of it is there.
    fn own(&self, artefact: &Artefact) -> Result<File, FetchError> {
        let to = self.aside.join(&artefact.name);
        // Not through a name that an earlier run gave to a file of the old image.
        if std::fs::symlink_metadata(&to).is_ok_and(|found| std::os::unix::fs::MetadataExt::nlink(&found) > 1) {
            std::fs::remove_file(&to).map_err(keeping("replace", &to))?;
        }
        let file = File::options().read(true).write(true).create(true).truncate(false).open(&to);
        let file = file.map_err(keeping("write", &to))?;
        file.set_len(artefact.size).map_err(keeping("write", &to))?;
        Ok(file)
    }

    /// Brings a file from a server that gives whole files only.
    fn whole(&self, artefact: &Artefact) -> Result<(), FetchError> {
        let destination = self.aside.join(&artefact.name);
        std::fs::remove_file(&destination).map_err(keeping("replace", &destination))?;
        let urls = vec![self.address(&artefact.name)];
        let download = Download { urls, size: artefact.size, sha256: artefact.sha256, destination };
        self.fetcher.fetch_all(&[download], self.progress)?;
        self.moved.fetch_add(artefact.size, Ordering::Relaxed);
        Ok(())
    }

    /// Brings ranges of a file, several at a time, to where they belong; no where the server gives whole files only.
    fn parts(&self, artefact: &Artefact, file: &File, ranges: &[(u64, u64)]) -> Result<bool, FetchError> {
        let to = self.aside.join(&artefact.name);
        let pieces: Vec<(u64, u64)> = ranges
            .iter()
            .flat_map(|&(from, until)| {
                let count = (until - from).div_ceil(PART);
                (0..count).map(move |piece| (from + piece * PART, (from + (piece + 1) * PART).min(until)))
            })
            .collect();
        let all: u64 = pieces.iter().map(|(from, until)| until - from).sum();
        let url = self.address(&artefact.name);
        let done = Mutex::new((0, 0));
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let failed: Mutex<Option<FetchError>> = Mutex::new(None);
        let without_ranges = AtomicBool::new(false);
        let bring = |from: u64, until: u64| -> Result<(), FetchError> {
            let Some(bytes) = self.fetcher.part(&url, from, until - from)? else {
                without_ranges.store(true, Ordering::Relaxed);
                stop.store(true, Ordering::Relaxed);
                return Ok(());
            };
            self.moved.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            file.write_all_at(&bytes, from).map_err(keeping("write", &to))?;
            if let Ok(mut done) = done.lock() {
                *done = (done.0 + 1, done.1 + (until - from));
                self.progress.downloaded(done.0, pieces.len(), done.1, all);
            }
            Ok(())
        };
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let Some(&(from, until)) = pieces.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                if let Err(error) = bring(from, until) {
                    stop.store(true, Ordering::Relaxed);
                    if let Ok(mut slot) = failed.lock() {
                        slot.get_or_insert(error);
                    }
                }
            }
        };
        std::thread::scope(|scope| {
            // This thread is one of them: where no other can be had, there are fewer connections.
            for _ in 1..CONNECTIONS.min(pieces.len()) {
                if start(scope, work).is_err() {
                    break;
                }
            }
            work();
        });
        match failed.into_inner().ok().flatten() {
            Some(error) => Err(error),
            None => Ok(!without_ranges.into_inner()),
        }
    }
}

/// SHA-256 of what lies where a frame belongs.
fn digest_at(file: &File, frame: &Frame) -> std::io::Result<Sha256> {
    let mut hasher: sha2::Sha256 = sha2::Digest::new();
    let mut buffer = vec![0; usize::try_from(frame.size.min(1 << 20)).unwrap_or_default()];
    let mut at = 0;
    while at < frame.size {
        let wanted = usize::try_from((frame.size - at).min(buffer.len() as u64)).unwrap_or_default();
        let piece = &mut buffer[..wanted];
        file.read_exact_at(piece, frame.offset + at)?;
        sha2::Digest::update(&mut hasher, &*piece);
        at += wanted as u64;
    }
    Ok(Sha256(sha2::Digest::finalize(hasher).into()))
}

/// Whether an earlier run brought a frame.
fn is_there(file: &File, frame: &Frame) -> bool {
    // A hole is nothing that came: asked first, as most of a new file is one.
    let is_hole = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(frame.offset))
        .map_or(true, |data| data >= frame.offset + frame.size);
    !is_hole && digest_at(file, frame).is_ok_and(|found| found == frame.sha256)
}

/// Takes a frame from what is here, where it is what it should be.
fn take(file: &File, frame: &Frame, known: &HashMap<Sha256, Known>) -> bool {
    let Some(Known { file: from, offset }) = known.get(&frame.sha256) else { return false };
    let Ok(from) = File::open(from) else { return false };
    let old = Frame { offset: *offset, ..frame.clone() };
    if !digest_at(&from, &old).is_ok_and(|found| found == frame.sha256) {
        return false;
    }
    let (mut at, mut to, mut left) = (*offset, frame.offset, frame.size);
    while left > 0 {
        let wanted = usize::try_from(left).unwrap_or(usize::MAX);
        match rustix::fs::copy_file_range(&from, Some(&mut at), file, Some(&mut to), wanted) {
            Ok(moved) if moved > 0 => left -= moved as u64,
            _ => return false,
        }
    }
    true
}

/// Puts the new directory into the old one's place.
fn swap(aside: &Path, here: &Path) -> Result<(), FetchError> {
    for entry in std::fs::read_dir(aside).map_err(keeping("read", aside))?.flatten() {
        File::open(entry.path()).and_then(|file| file.sync_all()).map_err(keeping("sync", &entry.path()))?;
    }
    File::open(aside).and_then(|directory| directory.sync_all()).map_err(keeping("sync", aside))?;
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    if here.is_dir() {
        renameat_with(CWD, aside, CWD, here, RenameFlags::EXCHANGE)
            .map_err(|error| keeping("replace", here)(error.into()))?;
        // The old one, by its new name.
        let _ = std::fs::remove_dir_all(aside);
    } else {
        std::fs::rename(aside, here).map_err(keeping("make", here))?;
    }
    let parent = here.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(keeping("sync", parent))
}
