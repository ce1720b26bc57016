//! A registry in memory that fails as it is told.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use base::digest::Sha256;

/// What it does wrong.
#[derive(Clone, PartialEq)]
pub enum Fault {
    /// Requests that begin so are answered with a status, so many times.
    Status(&'static str, u16, usize),
    /// So many uploads end half way.
    CutUpload(usize),
    /// So many downloads of blobs end half way.
    CutDownload(usize),
    /// Blobs come with a byte changed, or one byte more.
    OtherBytes,
    Longer,
    /// The manifest comes with a space behind it, which its digest does not have.
    OtherManifest,
    UploadsTo(String),
    BlobsAt(String),
}

/// How it lets others in.
#[derive(Clone, PartialEq)]
pub enum Door {
    Open,
    Basic(String),
    /// By tokens that count so many times, which this header gets; none: all get them.
    Bearer(Option<String>, usize),
}

pub struct State {
    pub blobs: BTreeMap<String, Vec<u8>>,
    pub manifests: BTreeMap<String, Vec<u8>>,
    pub faults: Vec<Fault>,
    pub door: Door,
    /// Method and path of each request.
    pub log: Vec<String>,
    /// The token that counts, how often it does, and how many were given.
    token: (String, usize, usize),
    sessions: usize,
    /// Repositories besides that have all blobs.
    pub mountable: Option<String>,
    /// Whether it removes what it is asked to.
    pub removes: bool,
    /// Whether it knows referrers.
    pub referrers: bool,
}

pub struct Registry {
    pub address: String,
    pub state: Arc<Mutex<State>>,
}

impl Registry {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = State {
            blobs: BTreeMap::new(),
            manifests: BTreeMap::new(),
            faults: Vec::new(),
            door: Door::Open,
            log: Vec::new(),
            token: (String::new(), 0, 0),
            sessions: 0,
            mountable: None,
            removes: false,
            referrers: false,
        };
        let state = Arc::new(Mutex::new(state));
        let (shared, own) = (Arc::clone(&state), address.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (state, own) = (Arc::clone(&shared), own.clone());
                std::thread::spawn(move || answer(stream, &state, &own));
            }
        });
        Self { address, state }
    }

    pub fn url(&self, name: &str) -> String {
        format!("oci://{}/{name}", self.address)
    }

    pub fn fail(&self, faults: &[Fault]) {
        self.state.lock().unwrap().faults = faults.to_vec();
    }

    pub fn door(&self, door: Door) {
        self.state.lock().unwrap().door = door;
    }

    /// Requests since the last question that begin so.
    pub fn asked(&self, begin: &str) -> usize {
        let log = std::mem::take(&mut self.state.lock().unwrap().log);
        log.iter().filter(|line| line.starts_with(begin)).count()
    }

    /// Keeps a blob; gives its digest.
    pub fn keep(&self, bytes: &[u8]) -> String {
        let digest = format!("sha256:{}", Sha256::of(bytes));
        self.state.lock().unwrap().blobs.insert(digest.clone(), bytes.to_vec());
        digest
    }
}

impl State {
    fn fault(&mut self, wanted: impl Fn(&mut Fault) -> Option<usize>) -> Option<Fault> {
        for at in 0..self.faults.len() {
            let mut fault = self.faults[at].clone();
            if let Some(left) = wanted(&mut fault) {
                if left == 0 {
                    self.faults.remove(at);
                } else {
                    self.faults[at] = fault.clone();
                }
                return Some(fault);
            }
        }
        None
    }
}

fn counted(count: &mut usize) -> Option<usize> {
    *count = count.saturating_sub(1);
    Some(*count)
}

struct Asked {
    method: String,
    path: String,
    query: String,
    authorization: Option<String>,
    range: usize,
    length: usize,
}

fn reply(stream: &mut TcpStream, status: u16, headers: &str, body: &[u8]) {
    let _ =
        write!(stream, "HTTP/1.1 {status} X\r\n{headers}Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    let _ = stream.write_all(body);
}

fn answer(stream: TcpStream, state: &Mutex<State>, own: &str) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    let mut first = String::new();
    if reader.read_line(&mut first).is_err() || first.is_empty() {
        return;
    }
    let mut words = first.split(' ');
    let (method, target) = (words.next().unwrap().to_owned(), words.next().unwrap_or_default().to_owned());
    let (path, query) = target.split_once('?').map_or((target.clone(), String::new()), |(a, b)| (a.into(), b.into()));
    let mut asked = Asked { method, path, query, authorization: None, range: 0, length: 0 };
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).is_err() || line.trim().is_empty() {
            break;
        }
        let (name, value) = line.trim().split_once(": ").unwrap_or(("", ""));
        match name.to_ascii_lowercase().as_str() {
            "authorization" => asked.authorization = Some(value.to_owned()),
            "content-length" => asked.length = value.parse().unwrap(),
            "range" => asked.range = value.trim_start_matches("bytes=").trim_end_matches('-').parse().unwrap(),
            "transfer-encoding" => panic!("bodies have a length: registries refuse others"),
            _ => {}
        }
    }
    let mut held = state.lock().unwrap();
    held.log.push(format!("{} {}", asked.method, asked.path));
    if asked.method == "PUT"
        && asked.path.contains("/uploads/")
        && held.fault(|fault| if let Fault::CutUpload(count) = fault { counted(count) } else { None }).is_some()
    {
        drop(held);
        let mut half = vec![0; asked.length / 2];
        let _ = reader.read_exact(&mut half);
        return;
    }
    drop(held);
    let mut body = vec![0; asked.length];
    if reader.read_exact(&mut body).is_err() {
        return;
    }
    let mut held = state.lock().unwrap();
    let line = format!("{} {}", asked.method, asked.path);
    let status = held.fault(|fault| match fault {
        Fault::Status(begin, _, count) if line.starts_with(*begin) => counted(count),
        _ => None,
    });
    if let Some(Fault::Status(_, status, _)) = status {
        let text = r#"{"errors":[{"code":"UNKNOWN","message":"told to\u001b[31m fail"}]}"#;
        return reply(&mut stream, status, "", text.as_bytes());
    }
    if asked.path == "/token" {
        let Door::Bearer(wanted, uses) = held.door.clone() else { return reply(&mut stream, 404, "", b"") };
        if wanted.is_some() && wanted != asked.authorization {
            return reply(&mut stream, 401, "", b"");
        }
        let number = held.token.2 + 1;
        held.token = (format!("Bearer token-{number}"), uses, number);
        let text = format!(r#"{{"token":"token-{number}","scope":"{}"}}"#, asked.query);
        held.log.push(format!("SCOPE {}", asked.query));
        return reply(&mut stream, 200, "", text.as_bytes());
    }
    let challenge = match held.door.clone() {
        Door::Open => None,
        Door::Basic(header) if asked.authorization.as_deref() == Some(&header) => None,
        Door::Basic(_) => Some("Basic realm=\"x\"".to_owned()),
        Door::Bearer(..) => match &mut held.token {
            (token, uses, _) if *uses > 0 && asked.authorization.as_ref() == Some(token) => {
                *uses -= 1;
                None
            }
            _ => Some(format!("Bearer realm=\"http://{own}/token\",service=\"s\",scope=\"repository:x:pull\"")),
        },
    };
    if let Some(challenge) = challenge {
        return reply(&mut stream, 401, &format!("WWW-Authenticate: {challenge}\r\n"), b"");
    }
    served(&mut stream, &asked, &body, &mut held);
}

/// What a manifest is about.
pub fn subject(manifest: &[u8]) -> Option<String> {
    let manifest: serde_json::Value = serde_json::from_slice(manifest).ok()?;
    manifest["subject"]["digest"].as_str().map(str::to_owned)
}

fn served(stream: &mut TcpStream, asked: &Asked, body: &[u8], state: &mut State) {
    let name = asked.path.rsplit('/').next().unwrap_or_default().to_owned();
    match (asked.method.as_str(), asked.path.as_str()) {
        (_, path) if path.ends_with("/tags/list") => {
            let tags: Vec<&String> = state.manifests.keys().collect();
            reply(stream, 200, "", serde_json::json!({"name": "x", "tags": tags}).to_string().as_bytes());
        }
        ("POST", _) => {
            let mount = asked.query.split('&').find_map(|pair| pair.strip_prefix("mount="));
            let from = asked.query.split('&').find_map(|pair| pair.strip_prefix("from="));
            if let Some(digest) = mount.filter(|_| from.is_some() && from == state.mountable.as_deref()) {
                state.blobs.insert(digest.to_owned(), Vec::new());
                return reply(stream, 201, "", b"");
            }
            state.sessions += 1;
            let mut to = format!("/v2/x/blobs/uploads/{}?_state=a", state.sessions);
            if let Some(Fault::UploadsTo(other)) = state.faults.iter().find(|one| matches!(one, Fault::UploadsTo(_))) {
                to.clone_from(other);
            }
            reply(stream, 202, &format!("Location: {to}\r\n"), b"");
        }
        ("PUT", path) if path.contains("/uploads/") => {
            let digest = asked.query.split('&').find_map(|pair| pair.strip_prefix("digest=")).unwrap();
            if digest != format!("sha256:{}", Sha256::of(body)) {
                return reply(stream, 400, "", br#"{"errors":[{"code":"DIGEST_INVALID","message":"no"}]}"#);
            }
            state.blobs.insert(digest.to_owned(), body.to_vec());
            reply(stream, 201, "", b"");
        }
        ("PUT", _) => {
            state.manifests.insert(name, body.to_vec());
            let digest = Sha256::of(body);
            state.manifests.insert(format!("sha256:{digest}"), body.to_vec());
            let subject = subject(body).filter(|_| state.referrers);
            let subject = subject.map(|subject| format!("OCI-Subject: {subject}\r\n")).unwrap_or_default();
            reply(stream, 201, &format!("Docker-Content-Digest: sha256:{digest}\r\n{subject}"), b"");
        }
        ("GET", path) if path.contains("/referrers/") => {
            if !state.referrers {
                return reply(stream, 404, "", b"");
            }
            let about = state.manifests.iter().filter(|(tag, bytes)| {
                tag.starts_with("sha256:") && subject(bytes).is_some_and(|subject| subject == name)
            });
            let entry = |(digest, bytes): (&String, &Vec<u8>)| {
                let manifest: serde_json::Value = serde_json::from_slice(bytes).unwrap();
                serde_json::json!({
                    "mediaType": manifest["mediaType"], "digest": digest, "size": bytes.len(),
                    "artifactType": manifest["artifactType"],
                })
            };
            let all: Vec<_> = about.map(entry).collect();
            let index = serde_json::json!({
                "schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": all,
            });
            reply(stream, 200, "", index.to_string().as_bytes());
        }
        ("HEAD" | "GET", path) => {
            let is_blob = path.contains("/blobs/");
            let found = if is_blob { state.blobs.get(&name) } else { state.manifests.get(&name) };
            let Some(mut bytes) = found.cloned() else { return reply(stream, 404, "", b"") };
            if asked.method == "HEAD" {
                let _ =
                    write!(stream, "HTTP/1.1 200 X\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", bytes.len());
                return;
            }
            let elsewhere = state.faults.iter().find(|one| matches!(one, Fault::BlobsAt(_)));
            if let (true, Some(Fault::BlobsAt(other))) = (is_blob, elsewhere) {
                return reply(stream, 307, &format!("Location: {other}/{name}\r\n"), b"");
            }
            if is_blob && state.faults.contains(&Fault::OtherBytes) {
                let last = bytes.len() - 1;
                bytes[last] ^= 1;
            }
            if is_blob && state.faults.contains(&Fault::Longer) {
                bytes.push(0);
            }
            let digest = Sha256::of(&bytes);
            if !is_blob && state.faults.contains(&Fault::OtherManifest) {
                bytes.push(b' ');
            }
            let cut = is_blob
                && state.fault(|one| if let Fault::CutDownload(count) = one { counted(count) } else { None }).is_some();
            let rest = &bytes[asked.range..];
            let (status, range) = match asked.range {
                0 => (200, String::new()),
                from => (206, format!("Content-Range: bytes {from}-{}/{}\r\n", bytes.len() - 1, bytes.len())),
            };
            let head = format!("Docker-Content-Digest: sha256:{digest}\r\n{range}");
            let _ = write!(
                stream,
                "HTTP/1.1 {status} X\r\n{head}Connection: close\r\nContent-Length: {}\r\n\r\n",
                rest.len()
            );
            let _ = stream.write_all(if cut { &rest[..rest.len() / 2] } else { rest });
        }
        ("DELETE", path) if state.removes => {
            let removed = match path.contains("/blobs/") {
                true => state.blobs.remove(&name).is_some(),
                // And all tags of it.
                false => state.manifests.remove(&name).is_some_and(|gone| {
                    state.manifests.retain(|_, bytes| *bytes != gone);
                    true
                }),
            };
            reply(stream, if removed { 202 } else { 404 }, "", b"");
        }
        _ => reply(stream, 405, "", b""),
    }
}
