//! Files that are wanted whole: several at a time, resumed, tried elsewhere, checked before they have their name.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Instant;

use sha2::Digest as _;

use super::fetcher::{CONNECTIONS, Failure, Fetcher, Next, again, pause};
use crate::DistroError;
use base::digest::Sha256;
use base::failure::start;
use files::sweep;
use store::StoreError;

#[derive(Debug, Clone)]
pub struct Download {
    /// Whole URLs, `http`, `https` or `file`, tried in turn.
    pub urls: Vec<String>,
    /// Expected size in bytes.
    pub size: u64,
    pub sha256: Sha256,
    pub destination: PathBuf,
}

impl Download {
    fn name(&self) -> &str {
        let url = self.urls.first().map_or("", String::as_str);
        url.rsplit('/').next().unwrap_or(url)
    }
}

/// Takes news of downloads: files done, files in all, bytes done, bytes in all.
pub trait Progress: Sync {
    /// Called after each finished file and about every megabyte.
    fn downloaded(&self, files: usize, all_files: usize, bytes: u64, all_bytes: u64);
}

/// Does something with all items, so many at a time. The first error ends it: the others see that it is time to stop.
pub fn side_by_side<T: Sync, E: Send>(
    all: &[T],
    most: usize,
    one: &(dyn Fn(&T, &AtomicBool) -> Result<(), E> + Sync),
) -> Result<(), E> {
    let next = AtomicUsize::new(0);
    let stop = AtomicBool::new(false);
    let failed: Mutex<Option<E>> = Mutex::new(None);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let Some(item) = all.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
            if let Err(error) = one(item, &stop) {
                stop.store(true, Ordering::Relaxed);
                if let Ok(mut slot) = failed.lock() {
                    slot.get_or_insert(error);
                }
            }
        }
    };
    std::thread::scope(|scope| {
        // This thread is one of them: where no other can be had, there are fewer.
        for _ in 1..most.min(all.len()) {
            if start(scope, work).is_err() {
                break;
            }
        }
        work();
    });
    match failed.into_inner().ok().flatten() {
        Some(error) => Err(error),
        None => Ok(()),
    }
}

impl Fetcher {
    /// Downloads all files that are not there yet, several at a time.
    /// Errors: The first [`DistroError`]; files that were finished stay.
    pub fn fetch_all(&self, downloads: &[Download], progress: &dyn Progress) -> Result<(), DistroError> {
        let missing: Vec<&Download> = downloads.iter().filter(|download| !download.destination.is_file()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let all_bytes = missing.iter().map(|download| download.size).sum();
        let bytes = Mutex::new((0usize, 0u64));
        let report = |files: usize, more: u64| {
            if let Ok(mut done) = bytes.lock() {
                done.0 += files;
                done.1 += more;
                progress.downloaded(done.0, missing.len(), done.1, all_bytes);
            }
        };
        side_by_side(&missing, CONNECTIONS, &|download, stop| {
            self.fetch(download, stop, &|more| report(0, more))?;
            report(1, 0);
            Ok(())
        })
    }

    /// Downloads one file.
    /// Errors: As [`Fetcher::fetch_all`].
    pub fn fetch_one(&self, download: &Download) -> Result<(), DistroError> {
        self.fetch(download, &AtomicBool::new(false), &|_| {})
    }

    fn fetch(&self, download: &Download, stop: &AtomicBool, progress: &dyn Fn(u64)) -> Result<(), DistroError> {
        let mut outcome = Ok(());
        for url in &download.urls {
            outcome = self.fetch_from(url, download, stop, progress);
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// Downloads one file aside, checks it, and renames it into place.
    fn fetch_from(
        &self,
        url: &str,
        download: &Download,
        stop: &AtomicBool,
        progress: &dyn Fn(u64),
    ) -> Result<(), DistroError> {
        let place = url.rsplit_once('/').map_or("", |(place, _)| place);
        let kept = |source: std::io::Error| StoreError::io("keep the download", &download.destination, source);
        let parent = download.destination.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(kept)?;
        let partial = sweep::file_in(self.aside.as_deref().unwrap_or(parent), ".new-", 0o644).map_err(kept)?;
        let mut last = Failure::last("");
        let mut have = 0;
        let mut mismatches = 0;
        for attempt in 0..self.tries {
            if stop.load(Ordering::Relaxed) {
                last = given_up();
                break;
            }
            pause(attempt);
            let began_at = have;
            match self.append(url, download, &partial, &mut have, stop, progress) {
                Ok(()) => {
                    let found = digest_of(partial.path()).map_err(kept)?;
                    if found == download.sha256 || fault::planted("package-unchecked") {
                        // Its name promises its content for ever.
                        partial.as_file().sync_all().map_err(kept)?;
                        fault::point("download.before-rename");
                        partial.persist(&download.destination).map_err(|error| kept(error.error))?;
                        return Ok(());
                    }
                    mismatches += 1;
                    let wrong = DistroError::Digest {
                        file: download.name().to_owned(),
                        place: place.to_owned(),
                        expected: download.sha256,
                        found,
                    };
                    // Perhaps parts of two versions, or a mirror in the middle of an update: once more from the start.
                    if began_at == 0 && mismatches > 1 || attempt + 1 == self.tries {
                        return Err(wrong);
                    }
                    have = 0;
                }
                Err(failure) => {
                    let done = !failure.next.is_another();
                    if matches!(failure.next, Next::Restart) {
                        have = 0;
                    }
                    last = failure;
                    if done {
                        break;
                    }
                }
            }
        }
        Err(last.into_error(download.name(), place, &download.destination))
    }

    fn append(
        &self,
        url: &str,
        download: &Download,
        partial: &tempfile::NamedTempFile,
        have: &mut u64,
        stop: &AtomicBool,
        progress: &dyn Fn(u64),
    ) -> Result<(), Failure> {
        use std::io::{Seek, SeekFrom};
        let (mut body, resumed) = self.open(url, *have)?;
        if !resumed {
            *have = 0;
        }
        let mut file = partial.as_file();
        let own = |error: std::io::Error| Failure { problem: error.to_string(), next: Next::Own(error) };
        file.set_len(*have).and_then(|()| file.seek(SeekFrom::Start(*have)).map(drop)).map_err(own)?;
        let mut buffer = vec![0u8; 1 << 18];
        let began = Instant::now();
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(given_up());
            }
            if self.within.is_some_and(|within| began.elapsed() > within) {
                return Err(Failure::last(format!("it sent {have} of {} bytes in that time", download.size)));
            }
            let read = body.read(&mut buffer).map_err(again)?;
            if read == 0 {
                break;
            }
            // Not a byte more than was announced goes to the disk.
            if *have + read as u64 > download.size {
                let problem = format!("it is larger than the {} bytes announced", download.size);
                return Err(Failure { problem, next: Next::Larger });
            }
            file.write_all(&buffer[..read]).map_err(own)?;
            *have += read as u64;
            progress(read as u64);
        }
        if *have < download.size {
            let problem = format!("it ended after {have} of {} bytes", download.size);
            return Err(Failure { problem, next: Next::CutOff });
        }
        Ok(())
    }
}

fn given_up() -> Failure {
    Failure::last("given up because another download failed")
}

fn digest_of(path: &Path) -> std::io::Result<Sha256> {
    let mut file = File::open(path)?;
    let mut hasher = sha2::Sha256::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Sha256(hasher.finalize().into()));
        }
        hasher.update(&buffer[..read]);
    }
}
