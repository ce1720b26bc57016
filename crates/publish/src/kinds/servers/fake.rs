//! A server for tests: HTTP on loopback, whose answers a function gives; and an image and nodes to publish.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::sync::{Arc, Mutex};

use base::digest::Sha256;

use crate::{Arch, Consent, Destination, File, Form, Image, Node, Request, RootKind};

#[derive(Debug, Clone)]
pub(in crate::kinds) struct Asked {
    pub method: String,
    /// With what follows `?`.
    pub path: String,
    pub body: Vec<u8>,
}

impl Asked {
    pub(in crate::kinds) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// Status, and the body with further headers before it where it begins with `:`.
pub(in crate::kinds) type Said = (u16, String);

pub(in crate::kinds) struct Server {
    pub url: String,
    pub requests: Arc<Mutex<Vec<Asked>>>,
}

impl Server {
    pub(in crate::kinds) fn start(answer: impl Fn(&Asked) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let requests: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (noted, answer) = (Arc::clone(&requests), Arc::new(answer));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { continue };
                let (noted, answer) = (Arc::clone(&noted), Arc::clone(&answer));
                std::thread::spawn(move || {
                    let mut reader = BufReader::new(stream.try_clone().unwrap());
                    let (mut line, mut length) = (String::new(), 0);
                    reader.read_line(&mut line).unwrap();
                    loop {
                        let mut header = String::new();
                        if reader.read_line(&mut header).unwrap() == 0 || header.trim().is_empty() {
                            break;
                        }
                        if let Some(value) = header.to_lowercase().strip_prefix("content-length:") {
                            length = value.trim().parse().unwrap();
                        }
                    }
                    let mut body = vec![0; length];
                    reader.read_exact(&mut body).unwrap();
                    let mut words = line.split(' ').map(str::to_owned);
                    let asked = Asked { method: words.next().unwrap(), path: words.next().unwrap_or_default(), body };
                    let (status, text) = answer(&asked);
                    noted.lock().unwrap().push(asked);
                    let (headers, text) = match text.strip_prefix(':') {
                        Some(headers) => (format!("{headers}\r\n"), String::new()),
                        None => (String::new(), text),
                    };
                    let head = format!(
                        "HTTP/1.1 {status} x\r\ncontent-length: {}\r\nconnection: close\r\n{headers}\r\n",
                        text.len()
                    );
                    let _ = stream.write_all(format!("{head}{text}").as_bytes());
                });
            }
        });
        Self { url, requests }
    }

    /// What changed something, in order: method and path.
    pub(in crate::kinds) fn writes(&self) -> Vec<String> {
        let all = self.requests.lock().unwrap();
        all.iter()
            .filter(|one| one.method != "GET" && one.method != "MKCOL")
            .map(|one| format!("{} {}", one.method, one.path))
            .collect()
    }
}

fn file(directory: &Path, name: &str) -> File {
    let path = directory.join(name);
    std::fs::write(&path, name).unwrap();
    File { name: name.to_owned(), path, size: name.len() as u64, sha256: Sha256::of(name.as_bytes()) }
}

/// A build of `compute` in a directory.
pub(in crate::kinds) fn image(directory: &Path, build: &str) -> Image {
    std::fs::create_dir_all(directory).unwrap();
    let words = ["imgurl={url}/rootimg.sfs", "imgdigest=sha256:ab", "console=tty0", "quiet"];
    Image {
        name: "compute".to_owned(),
        build: build.to_owned(),
        directory: directory.to_owned(),
        arch: Arch::X86_64,
        target: "debian 12 amd64".to_owned(),
        kernel_release: "6.1.0-31-amd64".to_owned(),
        kernel: file(directory, "kernel"),
        initrd: file(directory, "initrd-stateless"),
        forms: vec![Form {
            kind: RootKind::Squashfs,
            rootimg: file(directory, "rootimg.sfs"),
            index: file(directory, "rootimg.sfs.index"),
            words: words.map(str::to_owned).into(),
        }],
        others: Vec::new(),
    }
}

pub(in crate::kinds) fn node(name: &str, mac: &str, own: &[&str], build: Option<&str>) -> Node {
    Node {
        name: name.to_owned(),
        macs: vec![mac.to_owned()],
        ip: "10.0.0.11".parse().ok(),
        arch: None,
        kernel_args: own.iter().map(|word| (*word).to_owned()).collect(),
        build: build.map(str::to_owned),
        groups: Vec::new(),
    }
}

pub(in crate::kinds) fn request<'a>(image: &'a Image, nodes: &'a [Node], destination: &'a Destination) -> Request<'a> {
    Request { image, nodes, destination, consent: Consent::KeepForeign }
}

#[cfg(test)]
mod tests {
    use super::super::{Client, Method};
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[test]
    fn a_busy_server_is_asked_again_and_one_that_refuses_is_not() {
        let count = AtomicUsize::new(0);
        let server = Server::start(move |asked| match (asked.path.as_str(), count.fetch_add(1, Ordering::SeqCst)) {
            ("/busy", 0) => (503, ":retry-after: 0".to_owned()),
            ("/busy", _) => (200, "[]".to_owned()),
            ("/away", _) => (302, ":location: /busy".to_owned()),
            ("/file", _) => (302, ":location: file:///etc/shadow".to_owned()),
            _ => (500, "no \u{7} data".to_owned()),
        });
        let client = Client::default();
        let url = |path: &str| format!("{}{path}", server.url);
        assert_eq!(client.ask(&Method::GET, &url("/busy"), None).unwrap().status, 200);
        assert_eq!(client.ask(&Method::GET, &url("/away"), None).unwrap().status, 200);
        let problem = client.ask(&Method::POST, &url("/away"), Some(("a/b", b""))).unwrap_err().to_string();
        assert!(problem.contains("redirects to") && problem.contains("publish there"), "{problem}");
        let problem = client.ask(&Method::GET, &url("/file"), None).unwrap_err().to_string();
        assert!(problem.contains("neither http nor https"), "{problem}");
        let problem = client.ask(&Method::GET, &url("/x"), None).unwrap().good().unwrap_err().to_string();
        assert!(problem.contains("answers 500: no   data"), "{problem}");
        assert_eq!(server.requests.lock().unwrap().iter().filter(|one| one.path == "/x").count(), 1);
    }
}
