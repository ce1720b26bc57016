//! HTTP, with patience and a floor for speed instead of a total time-out.

use std::io::Read;
use std::time::{Duration, Instant};

/// Certificates that the recipe adds.
pub(crate) const EXTRA_CERTIFICATES: &str = "/etc/imgbuild/ca.pem";

/// The same in the image's /run.
const CERTIFICATES_IN_RUN: &str = "/run/imgbuild/ca.pem";

/// A stream that gives nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(30);

/// A download must bring so many bytes in each window; without a floor a dripping server would hold a node for ever.
const FLOOR_BYTES: usize = 64 << 10;
/// The window.
const FLOOR_WINDOW: Duration = Duration::from_secs(30);

/// Reads a stream; one below the floor for a whole window is as good as broken.
pub(crate) fn brisk<R: Read>(reader: R) -> Brisk<R> {
    Brisk { reader, began: Instant::now(), got: 0 }
}

/// What [`brisk`] gives.
pub(crate) struct Brisk<R> {
    reader: R,
    began: Instant,
    got: usize,
}

impl<R: Read> Read for Brisk<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.got = self.got.saturating_add(read);
        if self.began.elapsed() >= FLOOR_WINDOW {
            if self.got < FLOOR_BYTES {
                let text = format!("only {} bytes came in {} seconds", self.got, FLOOR_WINDOW.as_secs());
                return Err(std::io::Error::new(std::io::ErrorKind::TimedOut, text));
            }
            (self.began, self.got) = (Instant::now(), 0);
        }
        Ok(read)
    }
}

/// How long a report may take.
const TO_TAKE_A_REPORT: Duration = Duration::from_secs(5);

/// Talks to the image's server.
pub(crate) struct Client {
    agent: ureq::Agent,
}

/// A body, and the byte of the file at which it starts.
pub(crate) struct Body {
    /// Bytes as they come.
    pub reader: Box<dyn Read + Send>,
    /// Whether the server started where it was asked to.
    pub resumed: bool,
}

impl Client {
    /// Makes a client that keeps its connection.
    pub(crate) fn new() -> Self {
        let mut builder = ureq::Agent::config_builder()
            .timeout_connect(Some(Duration::from_secs(10)))
            .timeout_recv_response(Some(SILENCE))
            .timeout_per_read(Some(SILENCE))
            .http_status_as_error(false)
            .max_redirects(5)
            .user_agent(concat!("imgbuild-init/", env!("CARGO_PKG_VERSION")));
        if let Some(roots) = certificates() {
            builder = builder.tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build());
        }
        Self { agent: builder.build().new_agent() }
    }

    /// Opens a URL, from a byte on, and to the byte before another.
    pub(crate) fn open(&self, url: &str, from: u64, to: Option<u64>) -> Result<Body, String> {
        self.try_open(url, from, to)?.ok_or_else(|| format!("{url}: the server answers 404 Not Found"))
    }

    /// Opens a URL, from a byte on; none where the server says that there is no such file.
    fn try_open(&self, url: &str, from: u64, to: Option<u64>) -> Result<Option<Body>, String> {
        let mut request = self.agent.get(url);
        let is_part = from > 0 || to.is_some();
        if is_part {
            let last = to.map(|to| to.saturating_sub(1).to_string()).unwrap_or_default();
            request = request.header("range", format!("bytes={from}-{last}"));
        }
        let response = request.call().map_err(|error| format!("{url}: {error}"))?;
        match response.status().as_u16() {
            200 => Ok(Some(Body { reader: Box::new(response.into_body().into_reader()), resumed: false })),
            206 if is_part => Ok(Some(Body { reader: Box::new(response.into_body().into_reader()), resumed: true })),
            404 => Ok(None),
            _ => Err(format!("{url}: the server answers {}", response.status())),
        }
    }

    /// Reads a small file whole.
    pub(crate) fn read(&self, url: &str, limit: u64) -> Result<Vec<u8>, String> {
        whole(self.open(url, 0, None)?, url, limit)
    }

    /// Reads a small file whole; none where the server says that there is no such file.
    pub(crate) fn read_if_there(&self, url: &str, limit: u64) -> Result<Option<Vec<u8>>, String> {
        self.try_open(url, 0, None)?.map(|body| whole(body, url, limit)).transpose()
    }
}

fn whole(body: Body, url: &str, limit: u64) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    brisk(body.reader).take(limit + 1).read_to_end(&mut bytes).map_err(|error| format!("{url}: {error}"))?;
    if bytes.len() as u64 > limit {
        return Err(format!("{url}: it is larger than {limit} bytes"));
    }
    Ok(bytes)
}

/// Sends a form; a server has seconds to take it.
pub(crate) fn post(url: &str, form: &str) -> Result<(), String> {
    send(url, "application/x-www-form-urlencoded", form)
}

/// Sends JSON.
pub(crate) fn post_json(url: &str, text: &str) -> Result<(), String> {
    send(url, "application/json", text)
}

fn send(url: &str, kind: &str, text: &str) -> Result<(), String> {
    let mut builder = ureq::Agent::config_builder().timeout_global(Some(TO_TAKE_A_REPORT)).http_status_as_error(false);
    if let Some(roots) = certificates() {
        builder = builder.tls_config(ureq::tls::TlsConfig::builder().root_certs(roots).build());
    }
    let request = builder.build().new_agent().post(url).header("content-type", kind);
    // The address is a secret: it is in no message.
    let response = request.send(text).map_err(|error| error.to_string().replace(url, "imgbuild.report="))?;
    match response.status().as_u16() {
        200..=299 => Ok(()),
        status => Err(format!("the server answers {status}")),
    }
}

fn certificates() -> Option<ureq::tls::RootCerts> {
    let text = std::fs::read(EXTRA_CERTIFICATES).or_else(|_| std::fs::read(CERTIFICATES_IN_RUN)).ok()?;
    let own: Vec<ureq::tls::Certificate<'static>> = ureq::tls::parse_pem(&text)
        .flatten()
        .filter_map(|item| match item {
            ureq::tls::PemItem::Certificate(certificate) => Some(certificate),
            _ => None,
        })
        .collect();
    (!own.is_empty()).then(|| ureq::tls::RootCerts::new_with_certs(&own))
}
