//! Requests to the servers: the client that packages come by, answers bounded, again where that helps.

use std::io::Read;
use std::time::Duration;

use packages::{Fetcher, PATIENCE, Paced, pause, redirected};
use serde::de::DeserializeOwned;
pub(in crate::kinds) use ureq::http::Method;
use ureq::http::Request;

use crate::Error;

/// How often something is asked; waits of 0.5, 1 and 2 seconds lie between, or what the server says.
const TRIES: u32 = 4;
const REDIRECTS: u32 = 5;
/// How long a server may take to answer what changes something: Cobbler writes boot files of all nodes before it does.
const ANSWERS_WITHIN: Duration = Duration::from_secs(300);
/// The longest wait that a server may ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// Bytes of an answer: some servers have only lists of everything.
const ANSWER_LIMIT: u64 = 64 << 20;
/// Characters of an answer that stand in a message.
const SHOWN: usize = 300;

/// What a server answered; the status may be any.
#[derive(Debug)]
pub(in crate::kinds) struct Answer {
    url: String,
    pub status: u16,
    pub body: Vec<u8>,
}

#[derive(Debug, Default)]
pub(in crate::kinds) struct Client {
    fetcher: Fetcher,
}

/// Why one try failed.
enum Failure {
    /// It may not have arrived; asked again where that changes nothing twice.
    Unanswered(String),
    /// The server asks to come back.
    Busy(u16, Option<Duration>),
    Last(String),
}

fn error(url: &str, problem: impl Into<String>, help: &str) -> Error {
    Error::Server { url: url.to_owned(), problem: problem.into(), help: help.to_owned() }
}

const UNREACHED: &str =
    "check the address, and that the server runs; nodes boot what they booted before. Then repeat the command";

impl Client {
    /// What this host's credentials say to a server: the value of an `Authorization` header.
    /// Errors: [`Error::Server`] where they cannot be used.
    pub(in crate::kinds) fn authorization(&self, url: &str) -> Result<Option<String>, Error> {
        let known = self.fetcher.agent_for(url).map_err(|problem| error(url, problem, CREDENTIALS))?;
        Ok(known.1)
    }

    /// Asks, with a document where there is one.
    /// Errors: [`Error::Server`] where there is no answer, or it is too large.
    pub(in crate::kinds) fn ask(
        &self,
        method: &Method,
        url: &str,
        document: Option<(&str, &[u8])>,
    ) -> Result<Answer, Error> {
        // What is asked twice is done twice by POST alone.
        let may_repeat = *method != Method::POST;
        let mut waited = false;
        for attempt in 0..TRIES {
            if !std::mem::take(&mut waited) {
                pause(attempt);
            }
            let is_last = attempt + 1 == TRIES;
            match self.once(method, url, document) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Busy(_, wait)) if !is_last => {
                    waited = wait.is_some();
                    std::thread::sleep(wait.unwrap_or_default());
                }
                Err(Failure::Unanswered(_)) if may_repeat && !is_last => {}
                Err(Failure::Busy(status, _)) => {
                    return Err(error(url, format!("the server is busy (it answers {status})"), UNREACHED));
                }
                Err(Failure::Unanswered(problem) | Failure::Last(problem)) => {
                    return Err(error(url, problem, UNREACHED));
                }
            }
        }
        Err(error(url, "the server does not answer", UNREACHED))
    }

    fn once(&self, method: &Method, url: &str, document: Option<(&str, &[u8])>) -> Result<Answer, Failure> {
        let mut url = url.to_owned();
        for _ in 0..=REDIRECTS {
            let (agent, authorization) = self.fetcher.agent_for(&url).map_err(Failure::Last)?;
            let mut request =
                Request::builder().method(method.clone()).uri(&url).header("accept", "application/json, text/xml");
            if let Some(authorization) = authorization {
                request = request.header("authorization", authorization);
            }
            if let Some((form, _)) = document {
                request = request.header("content-type", form);
            }
            let bytes = document.map_or_else(Vec::new, |(_, bytes)| bytes.to_vec());
            let built = |problem: ureq::http::Error| Failure::Last(problem.to_string());
            let response = if document.is_some() {
                let request = request.body(bytes).map_err(built)?;
                agent.run(agent.configure_request(request).timeout_recv_response(Some(ANSWERS_WITHIN)).build())
            } else {
                let request = request.body(()).map_err(built)?;
                agent.run(agent.configure_request(request).build())
            };
            let response = response.map_err(|problem| match problem {
                ureq::Error::BadUri(_) | ureq::Error::Tls(_) => Failure::Last(problem.to_string()),
                _ => Failure::Unanswered(problem.to_string()),
            })?;
            let status = response.status().as_u16();
            let header = |name: &str| {
                response.headers().get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
            };
            if matches!(status, 301 | 302 | 303 | 307 | 308) {
                let to = redirected(&url, &header("location").unwrap_or_default()).map_err(Failure::Last)?;
                if url.starts_with("https://") && !to.to_ascii_lowercase().starts_with("https://") {
                    return Err(Failure::Last(format!(
                        "the server redirects to `{}`, which is not encrypted",
                        to.escape_debug()
                    )));
                }
                // What changes something goes to the address that the administrator wrote, and to no other.
                if *method != Method::GET {
                    return Err(Failure::Last(format!(
                        "the server redirects to `{}`; publish there",
                        to.escape_debug()
                    )));
                }
                url = to;
                continue;
            }
            let wait = header("retry-after").and_then(|text| text.trim().parse().ok()).map(Duration::from_secs);
            if matches!(status, 429 | 503) || status >= 500 && wait.is_some() {
                return Err(Failure::Busy(status, wait.map(|wait| wait.min(LONGEST_WAIT))));
            }
            let mut body = Vec::new();
            let read =
                Paced::new(response.into_body().into_reader(), PATIENCE).take(ANSWER_LIMIT + 1).read_to_end(&mut body);
            read.map_err(|problem| Failure::Unanswered(problem.to_string()))?;
            if body.len() as u64 > ANSWER_LIMIT {
                return Err(Failure::Last(format!("its answer is larger than {ANSWER_LIMIT} bytes")));
            }
            return Ok(Answer { url, status, body });
        }
        Err(Failure::Last("too many redirects".to_owned()))
    }

    /// Sends a document in JSON.
    /// Errors: [`Error::Server`].
    pub(in crate::kinds) fn send(
        &self,
        method: &Method,
        url: &str,
        document: &serde_json::Value,
    ) -> Result<Answer, Error> {
        self.ask(method, url, Some(("application/json", document.to_string().as_bytes())))
    }
}

const CREDENTIALS: &str = "write a token or a password for this address into ~/.config/imgbuild/credentials.toml or ~/.netrc (docs/security.md, Credentials)";

impl Answer {
    /// The document of an answer that says yes.
    /// Errors: [`Error::Server`] with what the server says instead.
    pub(in crate::kinds) fn document<T: DeserializeOwned>(self) -> Result<T, Error> {
        let answer = self.good()?;
        serde_json::from_slice(&answer.body).map_err(|problem| {
            let problem = format!("its answer is not the JSON that is expected: {problem}");
            error(&answer.url, problem, "check that the address is the one of this service")
        })
    }

    /// The answer, if it says yes.
    /// Errors: [`Error::Server`] with what the server says instead.
    pub(in crate::kinds) fn good(self) -> Result<Self, Error> {
        let help = match self.status {
            200..300 => return Ok(self),
            401 | 403 => CREDENTIALS,
            404 | 405 => "check that the address is the one of this service",
            _ => "nodes boot what they booted before; repeat the command once that is mended",
        };
        let text: String = String::from_utf8_lossy(&self.body).chars().take(SHOWN).collect();
        let text: String = text.trim().chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        let text = if text.is_empty() { String::new() } else { format!(": {text}") };
        Err(error(&self.url, format!("the server answers {}{text}", self.status), help))
    }
}
