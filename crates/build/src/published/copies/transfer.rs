//! Transfers image files: reuses local frames, downloads the rest.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use rayon::prelude::*;

use super::error::{FetchError, keeping, planted};
use super::origin::{Frame, Index, digest_at};
use crate::published::artefacts::Artefact;
use base::digest::Sha256;
use base::failure::start;
use files::beside::Beside;
use packages::{Download, Fetcher, Progress};
use store::sha256_of;

/// Bytes that one request asks for.
const PART: u64 = 8 << 20;

const CONNECTIONS: usize = 4;

#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Brought {
    /// Bytes that came from the server.
    pub moved: u64,
    /// Bytes of all artefacts.
    pub size: u64,
    /// Frames that came from the server.
    pub frames_moved: usize,
    pub frames: usize,
    /// Whether the directory had all of it.
    pub unchanged: bool,
    /// What came besides and is about the image: bills, the statement of provenance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<String>,
    /// Files of others in the directory, which are there as before.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub left_alone: Vec<String>,
    /// What there is to know of these, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

pub(crate) struct Known {
    pub file: PathBuf,
    /// Its first byte there.
    pub offset: u64,
}

pub(crate) struct Transfer<'a> {
    pub url: &'a str,
    pub fetcher: &'a Fetcher,
    pub progress: &'a dyn Progress,
    pub here: &'a Path,
    /// Where the new one is made.
    pub aside: &'a Beside,
    /// Bytes that came from the server.
    pub moved: AtomicU64,
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
        let is_it = |file: std::io::Result<File>| {
            let Ok(file) = file else { return false };
            let as_large = file.metadata().is_ok_and(|found| found.is_file() && found.len() == artefact.size);
            as_large && sha256_of(file).is_ok_and(|digest| digest == artefact.sha256)
        };
        if is_it(self.aside.read(&artefact.name)) {
            return true;
        }
        let from = self.here.join(&artefact.name);
        if !is_it(File::open(&from)) {
            return false;
        }
        // Compared once more by its new name: the old directory may belong to another user.
        let linked = self.aside.remove(&artefact.name).and_then(|()| self.aside.link(&from, &artefact.name));
        linked.is_ok() && is_it(self.aside.read(&artefact.name))
    }

    /// Brings a file without frames, part by part.
    pub(crate) fn plain(&self, artefact: &Artefact) -> Result<(), FetchError> {
        if self.has(artefact) {
            return Ok(());
        }
        let file = self.own(artefact)?;
        if !self.parts(artefact, &file, &[(0, artefact.size)])? {
            return self.whole(artefact);
        }
        self.compare(artefact)
    }

    /// Compares a file that came with what was announced.
    fn compare(&self, artefact: &Artefact) -> Result<(), FetchError> {
        let read = self.aside.read(&artefact.name).and_then(sha256_of);
        let found = read.map_err(planted("read", &self.aside.join(&artefact.name)))?;
        match found == artefact.sha256 || fault::planted("fetch-unchecked") {
            true => Ok(()),
            false => Err(self.refused(&artefact.name, self.wrong(&artefact.name, artefact.sha256, found))),
        }
    }

    /// Takes away what must not be taken for a part of an image by the next run.
    fn refused(&self, name: &str, error: FetchError) -> FetchError {
        let _ = self.aside.remove(name);
        error
    }

    /// Brings a packed image: the frames that are here are taken from here.
    pub(crate) fn image(
        &self,
        artefact: &Artefact,
        index: &Artefact,
        known: &HashMap<Sha256, Known>,
        brought: &mut Brought,
    ) -> Result<(), FetchError> {
        self.plain(index)?;
        let mut text = Vec::new();
        let read = self.aside.read(&index.name).and_then(|mut file| file.read_to_end(&mut text));
        read.map_err(planted("read", &self.aside.join(&index.name)))?;
        let refused = |problem| FetchError::NotAnImage { url: self.address(&index.name), problem };
        let index = Index::of(&text, artefact).map_err(refused)?;
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
        self.compare(artefact)
    }

    /// The new file, as large as it will be; what an earlier run brought of it is there.
    fn own(&self, artefact: &Artefact) -> Result<File, FetchError> {
        let to = self.aside.join(&artefact.name);
        // Never through a name that an earlier run gave to a file of the old image.
        let file = self.aside.file(&artefact.name).map_err(planted("write", &to))?;
        file.set_len(artefact.size).map_err(keeping("write", &to))?;
        Ok(file)
    }

    /// Brings a file from a server that gives whole files only.
    fn whole(&self, artefact: &Artefact) -> Result<(), FetchError> {
        let destination = self.aside.join(&artefact.name);
        self.aside.remove(&artefact.name).map_err(keeping("replace", &destination))?;
        let urls = vec![self.address(&artefact.name)];
        let download = Download { urls, size: artefact.size, sha256: artefact.sha256, destination };
        self.fetcher.fetch_all(&[download], self.progress)?;
        self.moved.fetch_add(artefact.size, Ordering::Relaxed);
        Ok(())
    }

    /// Brings ranges of a file, several at a time, to where they belong; no where the server gives whole files only.
    fn parts(&self, artefact: &Artefact, file: &File, ranges: &[(u64, u64)]) -> Result<bool, FetchError> {
        let to = self.aside.join(&artefact.name);
        // Made one by one: how many there are is the server's word.
        let pieces = ranges.iter().flat_map(|&(from, until)| {
            let count = (until - from).div_ceil(PART);
            (0..count).map(move |piece| (from + piece * PART, (from + (piece + 1) * PART).min(until)))
        });
        let count = ranges.iter().map(|(from, until)| (until - from).div_ceil(PART)).fold(0, u64::saturating_add);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let all: u64 = ranges.iter().map(|(from, until)| until - from).sum();
        let pieces = Mutex::new(pieces);
        let url = self.address(&artefact.name);
        let done = Mutex::new((0, 0));
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
                self.progress.downloaded(done.0, count, done.1, all);
            }
            Ok(())
        };
        let work = || {
            while !stop.load(Ordering::Relaxed) {
                let next = pieces.lock().ok().and_then(|mut pieces| pieces.next());
                let Some((from, until)) = next else { break };
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
            for _ in 1..CONNECTIONS.min(count) {
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

/// Whether an earlier run brought a frame.
pub(crate) fn is_there(file: &File, frame: &Frame) -> bool {
    // A hole is nothing that came: asked first, as most of a new file is one.
    let is_hole = rustix::fs::seek(file, rustix::fs::SeekFrom::Data(frame.offset))
        .map_or(true, |data| data >= frame.offset + frame.size);
    !is_hole && digest_at(file, frame).is_ok_and(|found| found == frame.sha256)
}

/// Takes a frame from what is here, where it is what it should be.
pub(crate) fn take(file: &File, frame: &Frame, known: &HashMap<Sha256, Known>) -> bool {
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
