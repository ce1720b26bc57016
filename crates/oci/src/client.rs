//! Requests to a registry: who asks, again where that helps, redirects.

use std::io::Read;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use ureq::http::{Method, Request, Response};
use ureq::{Body, SendBody};

use super::challenge::{Challenge, challenges};
use super::error::OciError;
use super::login::Login;
use super::reference::{Reference, is_loopback};
use packages::{self, Fetcher, PATIENCE, Paced, Proxy, Tls, of_directory, redirected};

/// How often something is tried; waits of 0.5, 1 and 2 seconds lie between.
const TRIES: u32 = 4;

/// How many redirects of one request are followed.
const REDIRECTS: u32 = 5;

/// How long a registry may take to keep what it was sent: some copy it to where it stays before they answer.
const ANSWERS_WITHIN: Duration = Duration::from_secs(300);

/// The same where it can be done without.
const QUICKLY: Duration = Duration::from_secs(30);

/// Bytes that a registry takes in each second at least, and the time that it has besides.
const FLOOR: u64 = 64 << 10;
const BESIDES: u64 = 60;

/// How often one request gets a new token: other threads may use up what it got.
const RENEWALS: u32 = 3;

/// Bytes of an answer that says what is wrong, and of a token.
const TEXT_LIMIT: u64 = 1 << 20;

#[derive(Debug, Clone, Default)]
pub struct Access {
    /// What its certificate is checked with, instead of the host's own.
    pub ca: Option<PathBuf>,
    /// Whether it is asked without TLS; this machine's own are always, unless there is a certificate.
    pub plain_http: bool,
    /// Whether it is asked to take anything.
    pub writes: bool,
    /// Repositories of the registry that may have blobs already.
    pub mounts: Vec<String>,
    /// How long it may say nothing, where it can be done without: nothing is tried twice then.
    pub patience: Option<Duration>,
}

/// What is known of how this one is let in.
#[derive(Clone, PartialEq)]
enum Pass {
    /// Nothing: it may let everyone in.
    Nothing,
    Header(String),
}

pub(super) enum Trouble {
    /// Another try may help.
    Again(String),
    /// It will not.
    Last(OciError),
}

impl From<OciError> for Trouble {
    fn from(error: OciError) -> Self {
        Self::Last(error)
    }
}

/// What is sent with a request; it is opened again for each try.
#[derive(Clone, Copy)]
pub(super) enum Payload<'a> {
    None,
    Bytes(&'a [u8]),
    /// So many bytes of a reader.
    Reader(u64, &'a dyn Fn() -> std::io::Result<Box<dyn Read + 'a>>),
}

#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    pub method: &'a Method,
    pub url: &'a str,
    pub headers: &'a [(&'a str, &'a str)],
    pub payload: Payload<'a>,
    /// What it is for: `send a blob`.
    pub doing: &'a str,
}

pub(super) struct Client {
    pub reference: Reference,
    pub access: Access,
    fetcher: Fetcher,
    login: Option<Login>,
    pass: Mutex<Pass>,
}

#[derive(Deserialize)]
struct Problems {
    errors: Vec<Problem>,
}

#[derive(Deserialize)]
struct Problem {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

#[derive(Deserialize)]
struct Token {
    token: Option<String>,
    access_token: Option<String>,
}

impl Client {
    pub(crate) fn new(reference: &Reference, access: Access) -> Result<Self, OciError> {
        let fetcher = access.patience.map_or_else(Fetcher::new, Fetcher::with_patience);
        let mut client = Self {
            reference: reference.clone(),
            access,
            fetcher,
            login: Login::of_host(reference)?,
            pass: Mutex::new(Pass::Nothing),
        };
        if client.login.is_none() {
            let (_, header) = client.agent(&client.base())?;
            client.login = header.map(Login::Basic);
        }
        Ok(client)
    }

    fn scheme(&self) -> &'static str {
        let is_plain = self.access.plain_http || (self.reference.is_loopback() && self.access.ca.is_none());
        if is_plain { "http" } else { "https" }
    }

    pub(crate) fn tries(&self) -> u32 {
        if self.access.patience.is_some() { 1 } else { TRIES }
    }

    pub(crate) fn patience(&self) -> Duration {
        self.access.patience.unwrap_or(PATIENCE)
    }

    /// Scheme and host.
    fn root(&self) -> String {
        format!("{}://{}", self.scheme(), self.reference.host())
    }

    /// Address of the repository.
    pub(crate) fn base(&self) -> String {
        format!("{}/v2/{}", self.root(), self.reference.name)
    }

    pub(crate) fn place(&self) -> String {
        self.reference.to_string()
    }

    fn agent(&self, url: &str) -> Result<(ureq::Agent, Option<String>), OciError> {
        let authority = url.split('/').take(3).collect::<Vec<_>>().join("/");
        let tls = Tls { ca: self.access.ca.clone(), ..Tls::default() };
        // No proxy leads to this machine.
        let is_here = self::authority(url).is_some_and(|(_, host, _)| is_loopback(&host));
        let proxy = if is_here { Proxy::Nothing } else { Proxy::Environment };
        if is_here || tls.ca.is_some() {
            of_directory(&authority, &packages::Access { tls, proxy, ..packages::Access::default() });
        }
        let registry = || self.reference.registry.clone();
        self.fetcher.agent_for(url).map_err(|problem| OciError::Credentials { registry: registry(), problem })
    }

    fn pass(&self) -> Pass {
        self.pass.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks, again where that helps; answers that say no are errors, but for those in `also`.
    pub(crate) fn ask(&self, ask: Ask<'_>, also: &[u16]) -> Result<Response<Body>, OciError> {
        let mut last = String::new();
        for attempt in 0..self.tries() {
            packages::pause(attempt);
            match self.once(ask, also) {
                Ok(response) => return Ok(response),
                Err(Trouble::Last(error)) => return Err(error),
                Err(Trouble::Again(problem)) => last = problem,
            }
        }
        Err(self.unreached(ask.doing, last))
    }

    pub(crate) fn unreached(&self, doing: &str, problem: String) -> OciError {
        OciError::Unreached { doing: doing.to_owned(), place: self.place(), problem }
    }

    /// Asks once; a registry that does not know this one yet gets what it asks for.
    pub(crate) fn once(&self, ask: Ask<'_>, also: &[u16]) -> Result<Response<Body>, Trouble> {
        let mut passed = 0;
        loop {
            let pass = self.pass();
            let response = self.exchange(ask, &pass)?;
            let status = response.status().as_u16();
            match status {
                401 if passed < RENEWALS => {
                    passed += 1;
                    self.renew(&response, &pass, ask.doing)?;
                }
                200..300 => return Ok(response),
                status if also.contains(&status) => return Ok(response),
                _ => return Err(self.no(response, ask.doing)),
            }
        }
    }

    /// One request, by redirects where they lead.
    fn exchange(&self, ask: Ask<'_>, pass: &Pass) -> Result<Response<Body>, Trouble> {
        let mut url = ask.url.to_owned();
        for _ in 0..=REDIRECTS {
            let (agent, _) = self.agent(&url)?;
            let mut request = Request::builder().method(ask.method.clone()).uri(&url);
            for (name, value) in ask.headers {
                request = request.header(*name, *value);
            }
            // Another host has no business with what opens this one: addresses that storage gives are signed.
            if let (Pass::Header(header), true) = (pass, self.is_own(&url)) {
                request = request.header("authorization", header);
            }
            let response = self.send(&agent, request, ask.payload)?;
            if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308)
                || !matches!(*ask.method, Method::GET | Method::HEAD)
            {
                return Ok(response);
            }
            let to = response.headers().get("location").map(|to| String::from_utf8_lossy(to.as_bytes()).into_owned());
            let address = to.unwrap_or_default();
            let to =
                redirected(&url, &address).map_err(|_| self.astray(&address, "which is neither http nor https"))?;
            if url.starts_with("https://") && !to.to_ascii_lowercase().starts_with("https://") {
                return Err(self.astray(&to, "which is not encrypted").into());
            }
            url = to;
        }
        Err(Trouble::Again("too many redirects".to_owned()))
    }

    fn send(
        &self,
        agent: &ureq::Agent,
        request: ureq::http::request::Builder,
        payload: Payload<'_>,
    ) -> Result<Response<Body>, Trouble> {
        let size = match payload {
            Payload::None => 0,
            Payload::Bytes(bytes) => bytes.len() as u64,
            Payload::Reader(size, _) => size,
        };
        let within = Duration::from_secs(BESIDES + size / FLOOR);
        let answers_within = self.access.patience.map_or(ANSWERS_WITHIN, |patience| patience.max(QUICKLY));
        let again = |error: ureq::Error| match error {
            ureq::Error::BadUri(_) => Trouble::Again("an address that is not one".to_owned()),
            error => Trouble::Again(explained(error.to_string())),
        };
        let built = |error: ureq::http::Error| Trouble::Again(error.to_string());
        match payload {
            Payload::None => {
                let request = request.body(()).map_err(built)?;
                agent.run(request).map_err(again)
            }
            Payload::Bytes(_) | Payload::Reader(..) => {
                let mut reader: Box<dyn Read + '_> = match payload {
                    Payload::Reader(_, open) => open().map_err(|error| Trouble::Again(error.to_string()))?,
                    Payload::Bytes(bytes) => Box::new(std::io::Cursor::new(bytes.to_vec())),
                    Payload::None => Box::new(std::io::empty()),
                };
                let request = request.header("content-length", size.to_string());
                let request = request.body(SendBody::from_reader(&mut reader)).map_err(built)?;
                let request = agent
                    .configure_request(request)
                    .timeout_send_body(Some(within))
                    .timeout_recv_response(Some(answers_within))
                    .build();
                agent.run(request).map_err(again)
            }
        }
    }

    pub(crate) fn is_own(&self, url: &str) -> bool {
        authority(url) == authority(&self.root())
    }

    pub(crate) fn astray(&self, address: &str, problem: &'static str) -> OciError {
        let address = address.chars().take(200).map(|one| if one.is_control() { '?' } else { one }).collect();
        OciError::Address { registry: self.reference.registry.clone(), address, problem }
    }

    fn denied(&self, problem: String) -> OciError {
        OciError::Denied {
            registry: self.reference.registry.clone(),
            name: self.reference.name.clone(),
            doing: if self.access.writes { "push to" } else { "pull" },
            problem,
        }
    }

    /// Does what the registry asks for to be let in.
    fn renew(&self, response: &Response<Body>, used: &Pass, doing: &str) -> Result<(), Trouble> {
        let mut pass = self.pass.lock().unwrap_or_else(PoisonError::into_inner);
        // Another thread did it meanwhile.
        if *pass != *used {
            return Ok(());
        }
        let headers = response.headers().get_all("www-authenticate").iter();
        let ways: Vec<Challenge> =
            headers.flat_map(|header| challenges(&String::from_utf8_lossy(header.as_bytes()))).collect();
        let bearer = ways.iter().find(|way| matches!(way, Challenge::Bearer { .. }));
        *pass = match bearer.or_else(|| ways.first()) {
            Some(Challenge::Bearer { realm, service, scope }) => {
                let token = self.token(realm, service.as_deref(), scope.as_deref(), doing)?;
                Pass::Header(format!("Bearer {token}"))
            }
            Some(Challenge::Basic) => match &self.login {
                Some(Login::Basic(header)) if *used != Pass::Header(header.clone()) => Pass::Header(header.clone()),
                Some(Login::Basic(_)) => {
                    return Err(self.denied("it does not accept the user or the password".to_owned()).into());
                }
                Some(Login::Identity(_)) => {
                    return Err(self
                        .denied("it wants a user and a password, and only a token is known".to_owned())
                        .into());
                }
                None => return Err(self.denied("it wants a user and a password, and none is known".to_owned()).into()),
            },
            None => {
                let known = if self.login.is_some() { "" } else { ", and no user is known" };
                return Err(self.denied(format!("it answers 401{known}")).into());
            }
        };
        Ok(())
    }

    /// Gets a token. Source: distribution, "Token Authentication Specification" and "Oauth2 Token Authentication".
    fn token(&self, realm: &str, service: Option<&str>, scope: Option<&str>, doing: &str) -> Result<String, Trouble> {
        let may_be_plain = self.scheme() == "http" && realm.starts_with("http://");
        if !realm.starts_with("https://") && !may_be_plain {
            return Err(self.astray(realm, "for passwords, which is not https").into());
        }
        let rights = if self.access.writes { "pull,push" } else { "pull" };
        let own = format!("repository:{}:{rights}", self.reference.name);
        let mut scopes = vec![own];
        scopes.extend(self.access.mounts.iter().map(|name| format!("repository:{name}:pull")));
        scopes.extend(scope.map(str::to_owned).filter(|scope| !scopes.contains(scope)));
        let (agent, _) = self.agent(realm)?;
        let failed = |error: ureq::Error| Trouble::Again(format!("no token from {realm}: {error}"));
        let response = match &self.login {
            Some(Login::Identity(token)) => {
                let scope = scopes.join(" ");
                let form = [
                    ("grant_type", "refresh_token"),
                    ("refresh_token", token),
                    ("client_id", "imgbuild"),
                    ("service", service.unwrap_or_default()),
                    ("scope", &scope),
                ];
                agent.post(realm).send_form(form).map_err(failed)?
            }
            login => {
                let mut request = agent.get(realm);
                for (name, value) in service
                    .map(|service| ("service", service))
                    .into_iter()
                    .chain(scopes.iter().map(|one| ("scope", &one[..])))
                {
                    request = request.query(name, value);
                }
                if let Some(Login::Basic(header)) = login {
                    request = request.header("authorization", header);
                }
                request.call().map_err(failed)?
            }
        };
        match response.status().as_u16() {
            200..300 => {}
            400 | 401 | 403 => {
                let known = match &self.login {
                    Some(_) => "its server of tokens does not accept the user or the password",
                    None => "its server of tokens wants a user and a password, and none is known",
                };
                return Err(self.denied(known.to_owned()).into());
            }
            status @ (429 | 500..) => return Err(Trouble::Again(format!("{realm} answers {status}"))),
            status => {
                let problem = format!("its server of tokens answers {status} ({doing})");
                return Err(self.denied(problem).into());
            }
        }
        let mut bytes = Vec::new();
        let mut body = Paced::new(response.into_body().into_reader(), self.patience()).take(TEXT_LIMIT);
        body.read_to_end(&mut bytes).map_err(|error| Trouble::Again(format!("no token from {realm}: {error}")))?;
        let token: Option<Token> = serde_json::from_slice(&bytes).ok();
        let token = token.and_then(|token| token.token.or(token.access_token));
        let is_header = |token: &String| !token.is_empty() && token.bytes().all(|byte| (0x20..0x7f).contains(&byte));
        token.filter(is_header).ok_or_else(|| self.denied("its server of tokens gave none".to_owned()).into())
    }

    /// What an answer means that says no.
    fn no(&self, response: Response<Body>, doing: &str) -> Trouble {
        let status = response.status();
        let mut text = Vec::new();
        let _ = response.into_body().into_reader().take(TEXT_LIMIT).read_to_end(&mut text);
        let said: Option<Problem> =
            serde_json::from_slice::<Problems>(&text).ok().and_then(|all| all.errors.into_iter().next());
        let said = said.map(|one| format!(" ({}: {})", one.code, one.message)).unwrap_or_default();
        let said: String = said.chars().take(300).map(|one| if one.is_control() { ' ' } else { one }).collect();
        let problem = format!("the registry answers {status}{said}");
        match status.as_u16() {
            401 | 403 => self.denied(problem).into(),
            408 | 425 | 429 | 500.. => Trouble::Again(problem),
            code => {
                let help = match code {
                    404 | 405 if self.access.writes => {
                        "create the repository or project in the registry first, if it wants that, and check that the address is that of a registry"
                    }
                    400 if self.scheme() == "http" => {
                        "if the registry has TLS, give the certificates to check its own with: --ca FILE"
                    }
                    413 => {
                        "raise the limit for bodies of requests in the proxy before the registry (nginx: client_max_body_size 0)"
                    }
                    _ => "the registry's log has the reason; nothing was tagged",
                };
                let (doing, place, status) = (doing.to_owned(), self.place(), status.as_u16());
                OciError::Refused { doing, place, status, problem, help }.into()
            }
        }
    }
}

/// What went wrong, with a word more where people know it by another name.
fn explained(problem: String) -> String {
    match problem.contains("CaUsedAsEndEntity") {
        true => format!(
            "{problem}: it shows an authority's certificate as its own; have that sign one for the server (CA:FALSE)"
        ),
        false => problem,
    }
}

/// Scheme, host and port of an address, with the port that is usual.
pub(super) fn authority(url: &str) -> Option<(String, String, u16)> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    // One with a user is no one's own.
    if authority.contains('@') {
        return None;
    }
    let usual = if scheme == "https" { 443 } else { 80 };
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (authority, usual),
    };
    Some((scheme, host.to_ascii_lowercase(), port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_has_its_usual_port() {
        let of = |url: &str| authority(url).map(|(scheme, host, port)| format!("{scheme} {host} {port}"));
        assert_eq!(of("https://R.test/v2/").as_deref(), Some("https r.test 443"));
        assert_eq!(of("HTTP://r.test:5000?x").as_deref(), Some("http r.test 5000"));
        assert_eq!(of("http://[::1]/x").as_deref(), Some("http [::1] 80"));
        assert_eq!(of("http://[::1]:5/x").as_deref(), Some("http [::1] 5"));
        assert_eq!(of("https://u@r.test/x"), None);
        assert_eq!(of("https://r.test:x/"), None);
        assert_eq!(of("/v2/x"), None);
    }
}
