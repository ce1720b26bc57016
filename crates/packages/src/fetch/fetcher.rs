//! Asks servers: over kept connections, again where that may help, and by redirects where they lead.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::address::legal;
use super::credentials::Credentials;
use super::credentials::access::{Proxy, Tls, access_of, usual};
use super::credentials::address::split_user;
use super::credentials::s3::{self, Verb};
use super::pace::{PATIENCE, Paced};
use super::proxy::{self, apt, through};
use crate::{DistroError, DownloadFault};
use store::StoreError;

/// Connections to a mirror; Debian's own guidelines ask clients to stay below ten.
pub(super) const CONNECTIONS: usize = 8;

/// How often a download is tried; waits of 0.5, 1, 2 and 4 seconds lie between.
pub(super) const TRIES: u32 = 5;

/// How many redirects of one request are followed.
const REDIRECTS: u32 = 5;

/// Scheme, host and port, and how they are reached: by which certificates and which proxy.
type Connection = (String, Tls, Option<String>);

pub(super) struct Client {
    pub agent: ureq::Agent,
    pub authorization: Option<String>,
    /// By way of what, as it may stand in a message.
    proxy: Option<String>,
}

#[derive(Debug, Clone)]
pub struct Fetcher {
    agent: ureq::Agent,
    credentials: &'static Credentials,
    /// Clients of servers that want certificates of their own or a proxy.
    own: Arc<Mutex<HashMap<Connection, ureq::Agent>>>,
    /// apt's archives are asked: its own settings count too.
    is_apts: bool,
    /// Where halves of downloads are; none: beside their destination.
    pub(super) aside: Option<PathBuf>,
    patience: Duration,
    /// How often something is tried.
    pub(super) tries: u32,
    /// Folders of servers that were made, or were there.
    pub(super) folders: Arc<Mutex<BTreeSet<String>>>,
    /// How long one file may take.
    pub(super) within: Option<Duration>,
}

/// Why one try failed, and whether another may help.
pub(super) struct Failure {
    pub problem: String,
    pub next: Next,
}

#[derive(Debug)]
pub(super) enum Next {
    /// Another try, from where this one ended.
    Again,
    /// The same; it ended before all of it had come.
    CutOff,
    /// Another try, from the start.
    Restart,
    Nothing,
    /// Nothing: the server does not give it to this user.
    Refused,
    /// Nothing: there is more of it than may be.
    Larger,
    /// Nothing: the server does not have the file.
    NotThere,
    /// Nothing here: this machine could not keep what came.
    Own(std::io::Error),
}

impl Next {
    /// Whether another try may help.
    pub(super) fn is_another(&self) -> bool {
        matches!(self, Self::Again | Self::CutOff | Self::Restart)
    }
}

impl Failure {
    pub(super) fn last(problem: impl Into<String>) -> Self {
        Self { problem: problem.into(), next: Next::Nothing }
    }

    /// What is said in the end of a file at a place.
    pub(super) fn into_error(self, file: &str, place: &str, destination: &Path) -> DistroError {
        let (file, place) = (file.to_owned(), place.to_owned());
        match self.next {
            Next::NotThere => DistroError::NotThere { file, place, answer: self.problem },
            Next::Own(source) => StoreError::io("keep the download", destination, source).into(),
            next => {
                let fault = match next {
                    Next::Larger => DownloadFault::Larger,
                    Next::CutOff => DownloadFault::CutOff,
                    Next::Refused => DownloadFault::Refused,
                    _ => DownloadFault::Other,
                };
                DistroError::Download { file, place, problem: self.problem, fault }
            }
        }
    }
}

/// A client; `tls` where an address wants certificates of its own; `url` is one that it is for.
fn agent(
    patience: Duration,
    tls: Option<ureq::tls::TlsConfig>,
    (proxy, url): (Option<ureq::Proxy>, &str),
) -> ureq::Agent {
    let mut config = ureq::Agent::config_builder()
        .timeout_connect(Some(patience.min(Duration::from_secs(15))))
        .timeout_recv_response(Some(patience))
        .timeout_per_read(Some(patience))
        // Followed here: see `redirected`.
        .max_redirects(0)
        .max_redirects_will_error(false)
        .max_idle_connections_per_host(CONNECTIONS)
        .http_status_as_error(false)
        .user_agent(concat!("imgbuild/", env!("CARGO_PKG_VERSION")));
    if url.starts_with("https:") || tls.is_some() {
        config = config.tls_config(tls.unwrap_or_else(usual));
    }
    match proxy {
        Some(proxy) if through::is_for(url, &proxy) => through::agent(config.proxy(None).build(), &proxy),
        proxy => config.proxy(proxy).build().new_agent(),
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
        let agent = agent(patience, None, (None, ""));
        Self {
            agent,
            credentials,
            own: Arc::default(),
            is_apts: false,
            aside: None,
            patience,
            tries: TRIES,
            folders: Arc::default(),
            within: None,
        }
    }

    /// The same for apt's archives: what apt's own settings on this host say of proxies goes before the environment.
    pub fn as_apt(self) -> Self {
        Self { is_apts: true, ..self }
    }

    /// The same for what can be done without: nothing is tried twice.
    pub fn trying_once(self) -> Self {
        Self { tries: 1, ..self }
    }

    /// The same for files each of which is given up after so long.
    pub fn within(self, within: Duration) -> Self {
        Self { within: Some(within), ..self }
    }

    /// The same with halves of downloads in a directory on the destinations' file system.
    pub fn keeping_halves_in(self, directory: PathBuf) -> Self {
        Self { aside: Some(directory), ..self }
    }

    /// Reads a small file whole; `limit` bytes at most.
    /// Errors: [`DistroError::Download`] after the last try, [`DistroError::NotThere`] where the server does not have it.
    pub fn read(&self, url: &str, limit: u64) -> Result<Vec<u8>, DistroError> {
        self.trying(url, || {
            let (body, _) = self.open(url, 0)?;
            let mut bytes = Vec::new();
            body.take(limit + 1).read_to_end(&mut bytes).map_err(again)?;
            if bytes.len() as u64 > limit {
                return Err(Failure { problem: format!("it is larger than {limit} bytes"), next: Next::Larger });
            }
            Ok(bytes)
        })
    }

    /// Reads a part of a file: `size` bytes from byte `from` on. Nothing where the server gives whole files only.
    /// Errors: [`DistroError::Download`] after the last try, [`DistroError::NotThere`] where the server does not have it.
    pub fn part(&self, url: &str, from: u64, size: u64) -> Result<Option<Vec<u8>>, DistroError> {
        self.trying(url, || {
            let (body, honoured) = self.open_until(url, from, Some(from + size))?;
            if !honoured {
                return Ok(None);
            }
            let mut bytes = Vec::new();
            body.take(size).read_to_end(&mut bytes).map_err(again)?;
            if (bytes.len() as u64) < size {
                let problem = format!("it ended after {} of {size} bytes", bytes.len());
                return Err(Failure { problem, next: Next::CutOff });
            }
            Ok(Some(bytes))
        })
    }

    fn trying<T>(&self, url: &str, once: impl Fn() -> Result<T, Failure>) -> Result<T, DistroError> {
        let mut last = Failure::last("");
        for attempt in 0..self.tries {
            pause(attempt);
            match once() {
                Ok(found) => return Ok(found),
                Err(failure) => last = failure,
            }
            if !last.next.is_another() {
                break;
            }
        }
        let (place, file) = url.rsplit_once('/').unwrap_or(("", url));
        Err(last.into_error(file, place, Path::new(file)))
    }

    pub(super) fn patience(&self) -> Duration {
        self.patience
    }

    fn proxy_of(&self, url: &str) -> Option<String> {
        let said = access_of(url).map(|access| access.proxy).filter(|proxy| *proxy != Proxy::Environment);
        // The host's settings are read where a server is asked, not before: a build from files opens none of them.
        match said.or_else(|| self.is_apts.then(|| apt::of_host().proxy_of(url)).flatten()) {
            Some(Proxy::At(address)) => Some(address),
            Some(Proxy::Nothing) => None,
            Some(Proxy::Environment) | None => proxy::of_environment(url),
        }
    }

    pub(super) fn client(&self, url: &str) -> Result<Client, String> {
        let authorization = self.credentials.authorization(url)?;
        let tls = self.credentials.tls(url);
        let address = self.proxy_of(url);
        let proxy = address.as_deref().map(proxy::shown);
        // One for all that are asked without certificates: no file of the host is opened for it.
        if tls == Tls::default() && address.is_none() && !url.starts_with("https:") {
            return Ok(Client { agent: self.agent.clone(), authorization, proxy });
        }
        let authority = url.split('/').nth(2).unwrap_or_default();
        let whose = url.split_once(authority).map_or(url, |(scheme, _)| &url[..scheme.len() + authority.len()]);
        let place = (whose.to_owned(), tls, address);
        let mut own = self.own.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(agent) = own.get(&place) {
            return Ok(Client { agent: agent.clone(), authorization, proxy });
        }
        let through = match (&place.2, &proxy) {
            (Some(address), Some(shown)) => {
                Some(ureq::Proxy::new(address).map_err(|error| format!("the proxy `{shown}`: {error}"))?)
            }
            _ => None,
        };
        let agent = agent(self.patience, place.1.config(whose)?, (through, url));
        own.insert(place, agent.clone());
        Ok(Client { agent, authorization, proxy })
    }

    /// What asks an address that speaks another protocol than files by GET, and the header of this host's credentials for it. Redirects
    /// and errors are the caller's.
    /// Errors: What is wrong with the settings, without secrets.
    pub fn agent_for(&self, url: &str) -> Result<(ureq::Agent, Option<String>), String> {
        self.client(url).map(|client| (client.agent, client.authorization))
    }

    /// Gives a body from byte `from` on, and whether the server honoured that.
    pub(super) fn open(&self, url: &str, from: u64) -> Result<(Box<dyn Read>, bool), Failure> {
        self.open_until(url, from, None)
    }

    /// The same, up to and without byte `until`.
    fn open_until(&self, url: &str, from: u64, until: Option<u64>) -> Result<(Box<dyn Read>, bool), Failure> {
        if let Some(path) = url.strip_prefix("file:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let mut file = File::open(path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Failure { problem: "no such file".to_owned(), next: Next::NotThere },
                _ => Failure::last(format!("{path}: {error}")),
            })?;
            if until.is_none() {
                return Ok((Box::new(file), false));
            }
            let begun = file.seek(SeekFrom::Start(from)).map_err(|error| Failure::last(format!("{path}: {error}")))?;
            return Ok((Box::new(file), begun == from));
        }
        let mut url = legal(&split_user(url).0);
        let mut redirects = 0;
        let (response, way) = loop {
            // For each address again: what opens one server is not for the one that it redirects to.
            let Client { agent, authorization, proxy } = self.client(&url).map_err(Failure::last)?;
            // A token goes with what is asked for, and stands in no message.
            let query = access_of(&url).and_then(|access| access.query);
            let mut request = match (s3::signed(Verb::Get, &url), query) {
                (Some(signed), _) => agent.get(signed),
                (None, Some(query)) if !url.contains('?') => agent.get(format!("{url}?{query}")),
                _ => agent.get(&url),
            };
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            if from > 0 || until.is_some() {
                let last = until.map(|until| until.saturating_sub(1).to_string()).unwrap_or_default();
                request = request.header("range", format!("bytes={from}-{last}"));
            }
            let way = || proxy.as_ref().map(|proxy| format!(" (through the proxy {proxy})")).unwrap_or_default();
            let response = request.call().map_err(|error| Failure {
                problem: format!("{error}{}", way()),
                next: match error {
                    ureq::Error::BadUri(_) | ureq::Error::Tls(_) => Next::Nothing,
                    _ => Next::Again,
                },
            })?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
                break (response, way());
            }
            redirects += 1;
            if redirects > REDIRECTS {
                return Err(Failure::last("too many redirects"));
            }
            let to = response.headers().get("location").map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
            let to = to.unwrap_or_default();
            // A signature is for one host.
            if let Some(hint) = s3::hint(&url, response.status().as_u16()) {
                return Err(Failure::last(format!("the server answers {}{hint}", response.status())));
            }
            url = legal(&split_user(&redirected(&url, &to).map_err(Failure::last)?).0);
        };
        let status = response.status();
        let honoured = match status.as_u16() {
            200 => false,
            206 if from > 0 || until.is_some() => {
                let range = response.headers().get("content-range").and_then(|range| range.to_str().ok());
                if range.is_some_and(|range| !range.starts_with(&format!("bytes {from}-"))) {
                    let problem = "the server sent a different range than requested".to_owned();
                    return Err(Failure { problem, next: Next::Restart });
                }
                true
            }
            code => {
                let next = match code {
                    404 | 410 => Next::NotThere,
                    416 => Next::Restart,
                    408 | 429 => Next::Again,
                    400..500 => Next::Refused,
                    _ => Next::Again,
                };
                let hint = match code {
                    400 | 401 | 403 if let Some(hint) = s3::hint(&url, code) => hint.to_owned(),
                    401 | 403 => format!("; {}", self.credentials.hint(&url)),
                    407 => "; the proxy requires a password: http://USER:PASSWORD@HOST:PORT".to_owned(),
                    _ => String::new(),
                };
                return Err(Failure { problem: format!("the server answers {status}{way}{hint}"), next });
            }
        };
        Ok((Box::new(Paced::new(response.into_body().into_reader(), self.patience)), honoured))
    }
}

/// Where a redirect leads: to http and https only, never to a file of this machine. Source: RFC 9110, 10.2.2.
/// Errors: A text about an address that is neither.
pub fn redirected(from: &str, to: &str) -> Result<String, String> {
    let refused = || format!("the server redirects to `{}`, which is neither http nor https", to.escape_default());
    let lower = to.to_ascii_lowercase();
    if lower.starts_with("http://") || lower.starts_with("https://") {
        return Ok(to.to_owned());
    }
    let (scheme, rest) = from.split_once("://").ok_or_else(refused)?;
    let host = rest.split('/').next().unwrap_or(rest);
    let before_path = to.split(['/', '?', '#']).next().unwrap_or_default();
    if before_path.contains(':') && !fault::planted("redirect-anywhere") || to.is_empty() {
        return Err(refused());
    }
    Ok(match to.strip_prefix("//") {
        Some(other) => format!("{scheme}://{other}"),
        None if to.starts_with('/') => format!("{scheme}://{host}{to}"),
        None => format!("{}/{to}", from.rsplit_once('/').map_or(from, |(folder, _)| folder)),
    })
}

pub(super) fn again(error: std::io::Error) -> Failure {
    Failure { problem: error.to_string(), next: Next::Again }
}

/// Waits before a try; not before the first.
pub fn pause(attempt: u32) {
    if attempt > 0 {
        std::thread::sleep(Duration::from_millis(250 << attempt.min(4)));
    }
}
