//! Downloads: parallel over kept connections, resumed, retried, checked before use.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use sha2::Digest as _;

use super::DistroError;
use crate::digest::Sha256;

/// Connections to a mirror; Debian's own guidelines ask clients to stay below ten.
const CONNECTIONS: usize = 8;

/// How often a download is tried; waits of 0.5, 1, 2 and 4 seconds lie between.
const TRIES: u32 = 5;

/// A file to have.
#[derive(Debug, Clone)]
pub struct Download {
    /// Whole URLs, `http`, `https` or `file`, tried in turn.
    pub urls: Vec<String>,
    /// Expected size in bytes.
    pub size: u64,
    /// Expected content.
    pub sha256: Sha256,
    /// Where it goes.
    pub destination: PathBuf,
}

impl Download {
    /// The last part of the URL, for messages.
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

/// Talks to mirrors.
#[derive(Debug, Clone)]
pub struct Fetcher {
    agent: ureq::Agent,
    /// Where halves of downloads are; none: beside their destination.
    aside: Option<PathBuf>,
}

/// Why one try failed, and whether another may help.
struct Failure {
    problem: String,
    final_word: bool,
}

impl Default for Fetcher {
    fn default() -> Self {
        Self::new()
    }
}

impl Fetcher {
    /// Makes a client that keeps its connections.
    pub fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(15)))
            .timeout_recv_response(Some(Duration::from_secs(30)))
            .timeout_per_read(Some(Duration::from_secs(30)))
            .max_redirects(5)
            .max_idle_connections_per_host(CONNECTIONS)
            .http_status_as_error(false)
            .user_agent(concat!("imgbuild/", env!("CARGO_PKG_VERSION")))
            .build();
        Self { agent: config.new_agent(), aside: None }
    }

    /// The same with halves of downloads in a directory on the destinations' file system.
    pub fn keeping_halves_in(self, directory: PathBuf) -> Self {
        Self { aside: Some(directory), ..self }
    }

    /// Reads a small file whole; `limit` bytes at most.
    ///
    /// # Errors
    /// [`DistroError::Download`] after the last try.
    pub fn read(&self, url: &str, limit: u64) -> Result<Vec<u8>, DistroError> {
        let mut last = String::new();
        for attempt in 0..TRIES {
            pause(attempt);
            match self.open(url, 0).and_then(|(mut body, _)| {
                let mut bytes = Vec::new();
                body.by_ref().take(limit + 1).read_to_end(&mut bytes).map_err(again)?;
                if bytes.len() as u64 > limit {
                    return Err(Failure { problem: format!("it is larger than {limit} bytes"), final_word: true });
                }
                Ok(bytes)
            }) {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => {
                    last = failure.problem;
                    if failure.final_word {
                        break;
                    }
                }
            }
        }
        let (place, file) = url.rsplit_once('/').unwrap_or(("", url));
        Err(DistroError::Download { file: file.to_owned(), place: place.to_owned(), problem: last })
    }

    /// Gives a body from byte `from` on, and whether the server honoured that.
    fn open(&self, url: &str, from: u64) -> Result<(Box<dyn Read>, bool), Failure> {
        if let Some(path) = url.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let file =
                File::open(path).map_err(|error| Failure { problem: format!("{path}: {error}"), final_word: true })?;
            return Ok((Box::new(file), false));
        }
        let mut request = self.agent.get(url);
        if from > 0 {
            request = request.header("range", format!("bytes={from}-"));
        }
        let response = request.call().map_err(|error| Failure {
            problem: error.to_string(),
            final_word: matches!(error, ureq::Error::BadUri(_) | ureq::Error::TooManyRedirects),
        })?;
        let status = response.status();
        match status.as_u16() {
            200 => {}
            206 if from > 0 => return Ok((Box::new(response.into_body().into_reader()), true)),
            code => {
                return Err(Failure {
                    problem: format!("the server answers {status}"),
                    final_word: (400..500).contains(&code) && code != 408 && code != 416 && code != 429,
                });
            }
        }
        Ok((Box::new(response.into_body().into_reader()), false))
    }

    /// Downloads all files that are not there yet, several at a time.
    ///
    /// # Errors
    /// The first [`DistroError`]; files that were finished stay.
    pub fn fetch_all(&self, downloads: &[Download], progress: &dyn Progress) -> Result<(), DistroError> {
        let missing: Vec<&Download> = downloads.iter().filter(|download| !download.destination.is_file()).collect();
        if missing.is_empty() {
            return Ok(());
        }
        let all_bytes = missing.iter().map(|download| download.size).sum();
        let bytes = Mutex::new((0usize, 0u64));
        let next = AtomicUsize::new(0);
        let stop = AtomicBool::new(false);
        let failed: Mutex<Option<DistroError>> = Mutex::new(None);
        let report = |files: usize, more: u64| {
            if let Ok(mut done) = bytes.lock() {
                done.0 += files;
                done.1 += more;
                progress.downloaded(done.0, missing.len(), done.1, all_bytes);
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..CONNECTIONS.min(missing.len()) {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) {
                        let Some(download) = missing.get(next.fetch_add(1, Ordering::Relaxed)) else { break };
                        match self.fetch(download, &stop, &|more| report(0, more)) {
                            Ok(()) => report(1, 0),
                            Err(error) => {
                                stop.store(true, Ordering::Relaxed);
                                if let Ok(mut slot) = failed.lock() {
                                    slot.get_or_insert(error);
                                }
                            }
                        }
                    }
                });
            }
        });
        match failed.into_inner().ok().flatten() {
            Some(error) => Err(error),
            None => Ok(()),
        }
    }

    /// Downloads one file from the first place that has it.
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
        let place = url.rsplit_once('/').map_or("", |(place, _)| place).to_owned();
        let failed =
            |problem: String| DistroError::Download { file: download.name().to_owned(), place: place.clone(), problem };
        let parent = download.destination.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(|error| failed(error.to_string()))?;
        let partial = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(self.aside.as_deref().unwrap_or(parent))
            .map_err(|error| failed(error.to_string()))?;
        let mut last = String::new();
        let mut have = 0;
        for attempt in 0..TRIES {
            pause(attempt);
            match self.append(url, download, &partial, &mut have, stop, progress) {
                Ok(()) => {
                    let found = digest_of(partial.path()).map_err(|error| failed(error.to_string()))?;
                    if found == download.sha256 {
                        // Its name promises its content for ever.
                        partial.as_file().sync_all().map_err(|error| failed(error.to_string()))?;
                        crate::fault::point("download.before-rename");
                        partial.persist(&download.destination).map_err(|error| failed(error.to_string()))?;
                        return Ok(());
                    }
                    if attempt > 0 {
                        return Err(DistroError::Digest {
                            file: download.name().to_owned(),
                            place,
                            expected: download.sha256,
                            found,
                        });
                    }
                    // Perhaps a resumed part of another version: once more from the start.
                    have = 0;
                }
                Err(failure) => {
                    last = failure.problem;
                    if failure.final_word {
                        break;
                    }
                }
            }
        }
        Err(failed(last))
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
        let own = |error: std::io::Error| Failure { problem: error.to_string(), final_word: true };
        file.set_len(*have).and_then(|()| file.seek(SeekFrom::Start(*have)).map(drop)).map_err(own)?;
        let mut buffer = vec![0u8; 1 << 18];
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(Failure {
                    problem: "given up because another download failed".to_owned(),
                    final_word: true,
                });
            }
            let read = body.read(&mut buffer).map_err(again)?;
            if read == 0 {
                break;
            }
            file.write_all(&buffer[..read]).map_err(own)?;
            *have += read as u64;
            progress(read as u64);
            if *have > download.size {
                return Err(Failure {
                    problem: format!("it is larger than the {} bytes announced", download.size),
                    final_word: true,
                });
            }
        }
        if *have < download.size {
            return Err(Failure {
                problem: format!("it ended after {have} of {} bytes", download.size),
                final_word: false,
            });
        }
        Ok(())
    }
}

fn again(error: std::io::Error) -> Failure {
    Failure { problem: error.to_string(), final_word: false }
}

fn pause(attempt: u32) {
    if attempt > 0 {
        std::thread::sleep(Duration::from_millis(250 << attempt.min(4)));
    }
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

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;

    use super::*;

    struct Silent;

    impl Progress for Silent {
        fn downloaded(&self, _: usize, _: usize, _: u64, _: u64) {}
    }

    /// What a server does with the n-th request: the status line and headers, and the bytes of the body that it sends.
    type Answer = fn(usize, Option<u64>) -> (String, Vec<u8>);

    const BODY: &[u8] = b"0123456789";

    fn whole(bytes: &[u8]) -> (String, Vec<u8>) {
        (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", BODY.len()), bytes.to_vec())
    }

    fn serve(answer: Answer) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/pool/file", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let mut stream = stream.unwrap();
                let mut from = None;
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let line = line.unwrap().to_lowercase();
                    if let Some(range) = line.strip_prefix("range: bytes=") {
                        from = range.trim_end_matches('-').parse().ok();
                    }
                    if line.is_empty() {
                        break;
                    }
                }
                let (head, body) = answer(number, from);
                let _ = write!(stream, "{head}Connection: close\r\n\r\n").and_then(|()| stream.write_all(&body));
            }
        });
        url
    }

    fn fetch(urls: Vec<String>) -> Result<Vec<u8>, DistroError> {
        let directory = tempfile::tempdir().unwrap();
        let destination = directory.path().join("file");
        let download = Download { urls, size: 10, sha256: Sha256::of(BODY), destination: destination.clone() };
        Fetcher::new().fetch_all(&[download], &Silent)?;
        // Nothing is left beside the file.
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        Ok(std::fs::read(destination).unwrap())
    }

    #[test]
    fn a_broken_download_is_resumed_where_it_broke() {
        let url = serve(|number, from| match (number, from) {
            (0, None) => whole(&BODY[..4]),
            (_, Some(4)) => (
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n".to_owned(),
                BODY[4..].to_vec(),
            ),
            other => panic!("{other:?}"),
        });
        assert_eq!(fetch(vec![url]).unwrap(), BODY);
    }

    #[test]
    fn a_server_without_ranges_is_asked_for_all_of_it_again() {
        let url = serve(|number, _| whole(if number == 0 { &BODY[..4] } else { BODY }));
        assert_eq!(fetch(vec![url]).unwrap(), BODY);
    }

    #[test]
    fn a_busy_server_is_asked_again_and_a_plain_no_is_final() {
        let busy = serve(|number, _| match number {
            0 => ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n".to_owned(), Vec::new()),
            _ => whole(BODY),
        });
        assert_eq!(fetch(vec![busy]).unwrap(), BODY);
        let no = serve(|number, _| {
            assert_eq!(number, 0, "asked again after 404");
            ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n".to_owned(), Vec::new())
        });
        let error = fetch(vec![no.clone()]).unwrap_err();
        assert!(matches!(&error, DistroError::Download { problem, .. } if problem.contains("404")), "{error}");
        let second = serve(|_, _| whole(BODY));
        let other = serve(|_, _| ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n".to_owned(), Vec::new()));
        assert_eq!(fetch(vec![other, second]).unwrap(), BODY);
    }

    #[test]
    fn other_content_than_announced_is_refused() {
        let url = serve(|_, _| whole(b"9876543210"));
        assert!(matches!(fetch(vec![url]).unwrap_err(), DistroError::Digest { .. }));
        let url =
            serve(|_, _| ("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n".to_owned(), b"01234567890123456789".to_vec()));
        assert!(
            matches!(fetch(vec![url]).unwrap_err(), DistroError::Download { problem, .. } if problem.contains("larger"))
        );
    }
}
