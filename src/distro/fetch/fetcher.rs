//! Downloads: parallel over kept connections, resumed, retried, checked before use.

use std::collections::HashMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sha2::Digest as _;

use super::credentials::{self, Credentials};
use super::pace::{PATIENCE, Paced};
use crate::digest::Sha256;
use crate::distro::DistroError;
use crate::failure::start;
use crate::store::StoreError;

/// Connections to a mirror; Debian's own guidelines ask clients to stay below ten.
const CONNECTIONS: usize = 8;

/// How often a download is tried; waits of 0.5, 1, 2 and 4 seconds lie between.
const TRIES: u32 = 5;

/// How many redirects of one request are followed.
const REDIRECTS: u32 = 5;

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
    credentials: &'static Credentials,
    /// Clients of servers that want certificates of their own, by host and port.
    own: Arc<Mutex<HashMap<String, ureq::Agent>>>,
    /// Where halves of downloads are; none: beside their destination.
    aside: Option<PathBuf>,
    patience: Duration,
}

/// Why one try failed, and whether another may help.
struct Failure {
    problem: String,
    next: Next,
}

/// What helps after a failed try.
#[derive(Debug)]
enum Next {
    /// Another try, from where this one ended.
    Again,
    /// Another try, from the start.
    Anew,
    /// Nothing.
    Nothing,
    /// Nothing: the server does not have the file.
    NotThere,
    /// Nothing here: this machine could not keep what came.
    Own(std::io::Error),
}

impl Failure {
    fn last(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), next: Next::Nothing }
    }

    /// What is said in the end of a file at a place.
    fn told(self, file: &str, place: &str, destination: &Path) -> DistroError {
        let (file, place) = (file.to_owned(), place.to_owned());
        match self.next {
            Next::NotThere => DistroError::NotThere { file, place, answer: self.problem },
            Next::Own(source) => StoreError::io("keep the download", destination, source).into(),
            _ => DistroError::Download { file, place, problem: self.problem },
        }
    }
}

/// A client; `tls` where an address wants certificates of its own.
fn agent(patience: Duration, tls: Option<ureq::tls::TlsConfig>) -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .timeout_connect(Some(patience.min(Duration::from_secs(15))))
        .timeout_recv_response(Some(patience))
        .timeout_per_read(Some(patience))
        // Followed here: see `redirected`.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections_per_host(CONNECTIONS)
        .http_status_as_error(false)
        .user_agent(concat!("imgbuild/", env!("CARGO_PKG_VERSION")));
    match tls {
        Some(tls) => config.tls_config(tls).build().new_agent(),
        None => config.build().new_agent(),
    }
}

impl Default for Fetcher {
    fn default() -> Self {
        Self::new()
    }
}

impl Fetcher {
    /// Makes a client that keeps its connections, with the usual patience.
    pub fn new() -> Self {
        Self::with_patience(PATIENCE)
    }

    /// Makes a client that waits so long for a server that says nothing.
    pub fn with_patience(patience: Duration) -> Self {
        let credentials = Credentials::of_host();
        Self { agent: agent(patience, None), credentials, own: Arc::default(), aside: None, patience }
    }

    /// The same with halves of downloads in a directory on the destinations' file system.
    pub fn keeping_halves_in(self, directory: PathBuf) -> Self {
        Self { aside: Some(directory), ..self }
    }

    /// Reads a small file whole; `limit` bytes at most.
    ///
    /// # Errors
    /// [`DistroError::Download`] after the last try, [`DistroError::NotThere`] where the server does not have it.
    pub fn read(&self, url: &str, limit: u64) -> Result<Vec<u8>, DistroError> {
        let mut last = Failure::last("");
        for attempt in 0..TRIES {
            pause(attempt);
            match self.open(url, 0).and_then(|(mut body, _)| {
                let mut bytes = Vec::new();
                body.by_ref().take(limit + 1).read_to_end(&mut bytes).map_err(again)?;
                if bytes.len() as u64 > limit {
                    return Err(Failure::last(format!("it is larger than {limit} bytes")));
                }
                Ok(bytes)
            }) {
                Ok(bytes) => return Ok(bytes),
                Err(failure) => {
                    let done = !matches!(failure.next, Next::Again | Next::Anew);
                    last = failure;
                    if done {
                        break;
                    }
                }
            }
        }
        let (place, file) = url.rsplit_once('/').unwrap_or(("", url));
        Err(last.told(file, place, Path::new(file)))
    }

    /// What asks for an address, and with which header.
    fn client(&self, url: &str) -> Result<(ureq::Agent, Option<String>), String> {
        let authorization = self.credentials.authorization(url)?;
        let authority = url.split('/').nth(2).unwrap_or_default();
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = own.get(authority) {
            return Ok((agent.clone(), authorization));
        }
        let Some(tls) = self.credentials.tls(url)? else { return Ok((self.agent.clone(), authorization)) };
        let agent = agent(self.patience, Some(tls));
        own.insert(authority.to_owned(), agent.clone());
        Ok((agent, authorization))
    }

    /// Gives a body from byte `from` on, and whether the server honoured that.
    fn open(&self, url: &str, from: u64) -> Result<(Box<dyn Read>, bool), Failure> {
        if let Some(path) = url.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let file = File::open(path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Failure { problem: "no such file".to_owned(), next: Next::NotThere },
                _ => Failure::last(format!("{path}: {error}")),
            })?;
            return Ok((Box::new(file), false));
        }
        let mut url = credentials::split_user(url).0;
        let mut redirects = 0;
        let response = loop {
            // Of each place anew: what opens one server is not for the one that it redirects to.
            let (agent, authorization) = self.client(&url).map_err(Failure::last)?;
            let mut request = agent.get(&url);
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            if from > 0 {
                request = request.header("range", format!("bytes={from}-"));
            }
            let response = request.call().map_err(|error| Failure {
                problem: error.to_string(),
                next: match error {
                    ureq::Error::BadUri(_) | ureq::Error::Tls(_) => Next::Nothing,
                    _ => Next::Again,
                },
            })?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                break response;
            }
            redirects += 1;
            if redirects > REDIRECTS {
                return Err(Failure::last("too many redirects"));
            }
            let to = response.headers().get("location").and_then(|to| to.to_str().ok()).unwrap_or_default();
            url = credentials::split_user(&redirected(&url, to).map_err(Failure::last)?).0;
        };
        let status = response.status();
        let honoured = match status.as_u16() {
            200 => false,
            206 if from > 0 => {
                let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
                if range.is_some_and(|range| !range.starts_with(&format!("bytes {from}-"))) {
                    let problem = "the server sends another part of the file than was asked for".to_owned();
                    return Err(Failure { problem, next: Next::Anew });
                }
                true
            }
            code => {
                let next = match code {
                    404 | 410 => Next::NotThere,
                    416 => Next::Anew,
                    408 | 429 => Next::Again,
                    400..500 => Next::Nothing,
                    _ => Next::Again,
                };
                let hint = match code {
                    401 | 403 => format!("; {}", self.credentials.hint(&url)),
                    _ => String::new(),
                };
                return Err(Failure { problem: format!("the server answers {status}{hint}"), next });
            }
        };
        Ok((Box::new(Paced::new(response.into_body().into_reader(), self.patience)), honoured))
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
        let work = || {
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
        };
        std::thread::scope(|scope| {
            // This thread is one of them: where no other can be had, there are fewer connections.
            for _ in 1..CONNECTIONS.min(missing.len()) {
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
        let place = url.rsplit_once('/').map_or("", |(place, _)| place);
        let kept = |source: std::io::Error| StoreError::io("keep the download", &download.destination, source);
        let parent = download.destination.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(parent).map_err(kept)?;
        let partial = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644))
            .tempfile_in(self.aside.as_deref().unwrap_or(parent))
            .map_err(kept)?;
        let mut last = Failure::last("");
        let mut have = 0;
        let mut mismatches = 0;
        for attempt in 0..TRIES {
            if stop.load(Ordering::Relaxed) {
                last = given_up();
                break;
            }
            pause(attempt);
            let began_at = have;
            match self.append(url, download, &partial, &mut have, stop, progress) {
                Ok(()) => {
                    let found = digest_of(partial.path()).map_err(kept)?;
                    if found == download.sha256 {
                        // Its name promises its content for ever.
                        partial.as_file().sync_all().map_err(kept)?;
                        crate::fault::point("download.before-rename");
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
                    if began_at == 0 && mismatches > 1 || attempt + 1 == TRIES {
                        return Err(wrong);
                    }
                    have = 0;
                }
                Err(failure) => {
                    let done = !matches!(failure.next, Next::Again | Next::Anew);
                    if matches!(failure.next, Next::Anew) {
                        have = 0;
                    }
                    last = failure;
                    if done {
                        break;
                    }
                }
            }
        }
        Err(last.told(download.name(), place, &download.destination))
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
        loop {
            if stop.load(Ordering::Relaxed) {
                return Err(given_up());
            }
            let read = body.read(&mut buffer).map_err(again)?;
            if read == 0 {
                break;
            }
            // Not a byte more than was announced goes to the disk.
            if *have + read as u64 > download.size {
                return Err(Failure::last(format!("it is larger than the {} bytes announced", download.size)));
            }
            file.write_all(&buffer[..read]).map_err(own)?;
            *have += read as u64;
            progress(read as u64);
        }
        if *have < download.size {
            let problem = format!("it ended after {have} of {} bytes", download.size);
            return Err(Failure { problem, next: Next::Again });
        }
        Ok(())
    }
}

fn given_up() -> Failure {
    Failure::last("given up because another download failed")
}

/// Where a redirect leads: to http and https only, never to a file of this machine. Source: RFC 9110, 10.2.2.
fn redirected(from: &str, to: &str) -> Result<String, String> {
    let refused = || format!("the server redirects to `{}`, which is neither http nor https", to.escape_default());
    let lower = to.to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        return Ok(to.to_owned());
    }
    let (scheme, rest) = from.split_once("://").ok_or_else(refused)?;
    let host = rest.split('/').next().unwrap_or(rest);
    let before_path = to.split(['/', '?', '#']).next().unwrap_or_default();
    if before_path.contains(':') || to.is_empty() {
        return Err(refused());
    }
    Ok(match to.strip_prefix("//") {
        Some(other) => format!("{scheme}://{other}"),
        None if to.starts_with('/') => format!("{scheme}://{host}{to}"),
        None => format!("{}/{to}", from.rsplit_once('/').map_or(from, |(folder, _)| folder)),
    })
}

fn again(error: std::io::Error) -> Failure {
    Failure { problem: error.to_string(), next: Next::Again }
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

    #[test]
    fn redirects_lead_to_http_and_https_only() {
        let from = "http://m:81/debian/dists/x";
        for (to, leads) in [
            ("https://n/a", "https://n/a"),
            ("//n/a", "http://n/a"),
            ("/a/b:c", "http://m:81/a/b:c"),
            ("a?b:c", "http://m:81/debian/dists/a?b:c"),
        ] {
            assert_eq!(redirected(from, to).as_deref(), Ok(leads));
        }
        for to in ["file:///etc/passwd", "FILE:/etc/passwd", "file:x", "ftp://n/a", "data:,x", ""] {
            assert!(redirected(from, to).unwrap_err().contains("neither http nor https"), "{to}");
        }
    }

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
    fn parts_of_two_versions_are_fetched_once_more_from_the_start() {
        let url = serve(|number, from| match (number, from) {
            (0, None) => whole(b"OLD!"),
            (1, Some(4)) => (
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n".to_owned(),
                BODY[4..].to_vec(),
            ),
            (_, None) => whole(BODY),
            other => panic!("{other:?}"),
        });
        assert_eq!(fetch(vec![url]).unwrap(), BODY);
        // The file became shorter, or the server sends another part than was asked for.
        let url = serve(|number, from| match (number, from) {
            (0, None) => whole(b"OLD!"),
            (1, Some(4)) => ("HTTP/1.1 416 No\r\nContent-Length: 0\r\n".to_owned(), Vec::new()),
            (2, None) => whole(&BODY[..2]),
            (3, Some(2)) => (
                "HTTP/1.1 206 Part\r\nContent-Range: bytes 0-7/10\r\nContent-Length: 8\r\n".to_owned(),
                BODY[..8].to_vec(),
            ),
            (4, None) => whole(BODY),
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
        assert!(matches!(&error, DistroError::NotThere { answer, .. } if answer.contains("404")), "{error}");
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
