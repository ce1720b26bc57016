//! A small archive of packages, signed by a key of the test, on a server that misbehaves when it is told to.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use base::digest::Sha256;
use recipe::Lock;

pub use super::built_copy as copy;
use super::{shared, store, tiny};
use crate::support::Space;

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Deed {
    Serve,
    /// Sends other bytes in its place.
    Give(Vec<u8>),
    /// Answers with this status and nothing else.
    Status(u16),
    /// Sends the client elsewhere.
    Redirect(String),
    /// Sends the headers and then nothing.
    Stall,
    /// Sends the headers and then a byte each tenth of a second.
    Drip,
    /// Announces all of it and closes after so many bytes.
    Cut(usize),
    /// Announces no length and never ends.
    Endless,
    /// Closes the connection without a word.
    Close,
}

#[derive(Debug, Clone)]
pub struct Request {
    /// Path without the slash in front.
    pub path: String,
    /// First byte that is wanted.
    pub from: usize,
    /// Who the client says that it is.
    pub authorization: Option<String>,
}

type Rule = dyn Fn(&Request, usize) -> Deed + Send + Sync;

struct Shared {
    files: Mutex<BTreeMap<String, Arc<Vec<u8>>>>,
    rule: Mutex<Arc<Rule>>,
    seen: Mutex<Vec<Request>>,
}

/// A server of files in memory, with ranges.
pub struct Mirror {
    shared: Arc<Shared>,
    /// Its address, without a slash at the end.
    pub url: String,
}

impl Mirror {
    pub fn start() -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            files: Mutex::default(),
            rule: Mutex::new(Arc::new(|_, _| Deed::Serve)),
            seen: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let own = Arc::clone(&own);
                std::thread::spawn(move || drop(serve(stream, &own)));
            }
        });
        Self { shared, url }
    }

    pub fn put(&self, path: &str, bytes: Vec<u8>) {
        self.shared.files.lock().unwrap().insert(path.to_owned(), Arc::new(bytes));
    }

    pub fn save(&self, directory: &Path) {
        for (path, bytes) in self.shared.files.lock().unwrap().iter() {
            let path = directory.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes.as_slice()).unwrap();
        }
    }

    /// What it does from now on, by request and by how many came for the same path before; forgets what it saw.
    pub fn rule(&self, rule: impl Fn(&Request, usize) -> Deed + Send + Sync + 'static) {
        *self.shared.rule.lock().unwrap() = Arc::new(rule);
        self.shared.seen.lock().unwrap().clear();
    }

    pub fn misbehave(&self, ending: &str, deed: Deed) {
        let ending = ending.to_owned();
        self.rule(move |request, _| if request.path.ends_with(&ending) { deed.clone() } else { Deed::Serve });
    }

    /// Requests since the last rule.
    pub fn seen(&self) -> Vec<Request> {
        self.shared.seen.lock().unwrap().clone()
    }

    pub fn publish(&self, archive: &Archive) {
        *self.shared.files.lock().unwrap() = archive.files();
        self.rule(|_, _| Deed::Serve);
    }
}

/// A path of a request as the name of a file: RFC 3986, section 2.1.
fn unescaped(path: &str) -> String {
    let mut parts = path.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        bytes.push(u8::from_str_radix(&part[..2], 16).unwrap());
        bytes.extend(part[2..].bytes());
    }
    String::from_utf8(bytes).unwrap()
}

fn serve(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let mut input = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    input.read_line(&mut line)?;
    let path = unescaped(line.split_whitespace().nth(1).unwrap_or_default().trim_start_matches('/'));
    let mut request = Request { path, from: 0, authorization: None };
    while line.trim() != "" {
        line.clear();
        input.read_line(&mut line)?;
        if let Some(value) = line.strip_prefix("authorization: ") {
            request.authorization = Some(value.trim().to_owned());
        }
        if let Some(range) = line.to_lowercase().strip_prefix("range: bytes=") {
            request.from = range.trim().trim_end_matches('-').parse().unwrap_or(0);
        }
    }
    let before = {
        let mut seen = shared.seen.lock().unwrap();
        seen.push(request.clone());
        seen.iter().filter(|other| other.path == request.path).count() - 1
    };
    let rule = Arc::clone(&shared.rule.lock().unwrap());
    let deed = rule(&request, before);
    let there = shared.files.lock().unwrap().get(&request.path).cloned();
    let mut head =
        |status: &str, headers: &str| write!(stream, "HTTP/1.1 {status}\r\n{headers}Connection: close\r\n\r\n");
    let bytes = match (&deed, there) {
        (Deed::Give(bytes), _) => Arc::new(bytes.clone()),
        (Deed::Status(code), _) => return head(&format!("{code} As Told"), "Content-Length: 0\r\n"),
        (Deed::Redirect(to), _) => return head("302 Found", &format!("Location: {to}\r\nContent-Length: 0\r\n")),
        (Deed::Close, _) => return Ok(()),
        (_, Some(bytes)) => bytes,
        (_, None) => return head("404 Not Found", "Content-Length: 0\r\n"),
    };
    let whole = bytes.len();
    let from = request.from.min(whole);
    let wide = format!("Content-Range: bytes {from}-{}/{whole}\r\n", whole.saturating_sub(1));
    let (status, range) = if from > 0 { ("206 Partial Content", wide.as_str()) } else { ("200 OK", "") };
    let length =
        if matches!(deed, Deed::Endless) { String::new() } else { format!("Content-Length: {}\r\n", whole - from) };
    head(status, &format!("{range}{length}"))?;
    match deed {
        Deed::Stall => {
            // Until the client has had enough.
            let mut rest = [0u8; 1];
            stream.read(&mut rest).map(drop)
        }
        Deed::Drip => {
            for byte in bytes[from..].iter() {
                stream.write_all(&[*byte])?;
                std::thread::sleep(Duration::from_millis(100));
            }
            Ok(())
        }
        Deed::Cut(after) => stream.write_all(&bytes[from..(from + after).min(whole)]),
        Deed::Endless => loop {
            stream.write_all(&[b'x'; 1 << 16])?;
        },
        _ => stream.write_all(&bytes[from..]),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signer {
    /// The key that the recipe names.
    Known,
    Stranger,
    Nobody,
}

/// An archive: packages of the tiny image and those that a test adds.
#[derive(Clone)]
pub struct Archive {
    /// Index stanzas, with an empty line after each.
    pub stanzas: String,
    packages: BTreeMap<String, Arc<Vec<u8>>>,
    /// The suite's name in the Release file.
    pub codename: String,
    /// Its folder below dists.
    pub suite: String,
    /// Whether the Release file also lists the index in plain form, as archives do.
    pub plain: bool,
    /// More lines of the Release file.
    pub fields: String,
    pub signer: Signer,
    /// The index in place of the compressed stanzas, if it is to be another.
    pub index: Option<Vec<u8>>,
}

/// The index as the Release file lists it.
const INDEX: &str = "main/binary-amd64/Packages.xz";

/// Stanza of a package file at a path of the pool.
pub fn stanza(path: &str, bytes: &[u8]) -> String {
    let control = archive::control_stanza(bytes).unwrap();
    format!("{control}\nFilename: {path}\nSize: {}\nSHA256: {}\n\n", bytes.len(), Sha256::of(bytes))
}

impl Archive {
    /// One with the packages that the tiny image and its tools are made of.
    pub fn of_tiny() -> Self {
        static TINY: OnceLock<Archive> = OnceLock::new();
        let made = TINY.get_or_init(|| {
            let text = std::fs::read_to_string(tiny().space.path().join("image.lock")).unwrap();
            let lock = Lock::parse(&text).unwrap();
            let mut archive = Self {
                stanzas: String::new(),
                packages: BTreeMap::new(),
                codename: "bookworm".to_owned(),
                suite: "bookworm".to_owned(),
                plain: true,
                fields: String::new(),
                signer: Signer::Known,
                index: None,
            };
            let all: BTreeMap<_, _> =
                lock.pass.iter().flat_map(|pass| &pass.packages).map(|package| (package.sha256, package)).collect();
            for (digest, package) in all {
                let hex = digest.to_string();
                let bytes = std::fs::read(store().join(format!("v1/packages/{}/{hex}", &hex[..2]))).unwrap();
                archive.put(&package.file, bytes);
            }
            archive
        });
        made.clone()
    }

    pub fn empty() -> Self {
        Self { stanzas: String::new(), packages: BTreeMap::new(), ..Self::of_tiny() }
    }

    /// Adds a package file at a path of the pool.
    pub fn put(&mut self, path: &str, bytes: Vec<u8>) {
        self.stanzas.push_str(&stanza(path, &bytes));
        self.packages.insert(path.to_owned(), Arc::new(bytes));
    }

    /// Adds a package that a test made.
    pub fn add(&mut self, deb: &Deb) {
        self.put(&deb.pool_path(), deb.build());
    }

    fn release(&self, index: &[u8]) -> String {
        let listed = |bytes: &[u8], name: &str| format!(" {} {} {name}\n", Sha256::of(bytes), bytes.len());
        let plain =
            if self.plain { listed(self.stanzas.as_bytes(), INDEX.trim_end_matches(".xz")) } else { String::new() };
        format!(
            "Origin: test\nCodename: {}\nArchitectures: amd64\nComponents: main\n{}SHA256:\n{}{}",
            self.codename,
            self.fields,
            plain,
            listed(index, INDEX),
        )
    }

    /// As a flat archive in a folder: packages beside their index.
    pub fn publish_flat(&self, mirror: &Mirror, folder: &str, form: Flat) {
        let text: String = self.stanzas.replace("Filename: pool/main/", "Filename: ./");
        let (name_of_index, index) = match form {
            Flat::Bzip2 | Flat::Weak => ("Packages.bz2", bzip2(text.as_bytes())),
            Flat::Lzma => ("Packages.lzma", lzma(text.as_bytes())),
            _ => ("Packages.gz", gz(text.as_bytes())),
        };
        let field = match form {
            Flat::Lzma => "SHA512",
            Flat::Weak => "MD5Sum",
            _ => "SHA256",
        };
        let by_hash = if form == Flat::Lzma { "Acquire-By-Hash: yes\n" } else { "" };
        let mut release = format!("Origin: test\n{by_hash}{field}:\n");
        for (name, bytes) in [("Packages", text.as_bytes()), (name_of_index, &index)] {
            let digest = match form {
                Flat::Lzma => digest_by("sha512sum", bytes),
                Flat::Weak => digest_by("md5sum", bytes),
                _ => Sha256::of(bytes).to_string(),
            };
            release.push_str(&format!(" {digest} {} ./{name}\n", bytes.len()));
        }
        let mut files: BTreeMap<String, Arc<Vec<u8>>> = BTreeMap::new();
        let mut put = |name: &str, bytes: Vec<u8>| files.insert(format!("{folder}/{name}"), Arc::new(bytes));
        match form {
            Flat::Lzma => put(&format!("by-hash/SHA512/{}", digest_by("sha512sum", &index)), index),
            _ => put(name_of_index, index),
        };
        for (path, bytes) in &self.packages {
            put(path.rsplit('/').next().unwrap(), bytes.to_vec());
        }
        match form {
            Flat::InRelease | Flat::Bzip2 | Flat::Lzma | Flat::Weak => {
                drop(put("InRelease", keys().sign("known@example.invalid", &release)))
            }
            Flat::Apart => {
                put("Release.gpg", keys().sign_apart("known@example.invalid", &release));
                put("Release", release.into_bytes());
            }
            Flat::Unsigned => drop(put("Release", release.into_bytes())),
            Flat::Bare => {}
        }
        let mut all = mirror.shared.files.lock().unwrap();
        all.retain(|path, _| !path.starts_with(&format!("{folder}/")));
        all.extend(files);
    }

    fn files(&self) -> BTreeMap<String, Arc<Vec<u8>>> {
        let index = self.index.clone().unwrap_or_else(|| xz(self.stanzas.as_bytes()));
        let release = self.release(&index);
        let signed = match self.signer {
            Signer::Nobody => release.into_bytes(),
            Signer::Known => keys().sign("known@example.invalid", &release),
            Signer::Stranger => keys().sign("stranger@example.invalid", &release),
        };
        let mut files = self.packages.clone();
        files.insert(format!("dists/{}/InRelease", self.suite), Arc::new(signed));
        files.insert(format!("dists/{}/{INDEX}", self.suite), Arc::new(index));
        files
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flat {
    InRelease,
    /// The same, with an index in bzip2 alone.
    Bzip2,
    /// The same, with one in LZMA alone, under its SHA-512 alone.
    Lzma,
    /// The same with MD5 alone.
    Weak,
    /// A file and its signature.
    Apart,
    /// A file that nobody signed.
    Unsigned,
    Bare,
}

fn bzip2(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn lzma(bytes: &[u8]) -> Vec<u8> {
    let options = liblzma::stream::LzmaOptions::new_preset(6).unwrap();
    let stream = liblzma::stream::Stream::new_lzma_encoder(&options).unwrap();
    let mut encoder = liblzma::write::XzEncoder::new_stream(Vec::new(), stream);
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A digest as a program of coreutils gives it.
fn digest_by(program: &str, bytes: &[u8]) -> String {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), bytes).unwrap();
    let output = Command::new(program).stdin(file.reopen().unwrap()).output().unwrap();
    String::from_utf8(output.stdout).unwrap().split_whitespace().next().unwrap().to_owned()
}

/// A text, clear-signed by the key that recipes of tests name.
pub fn clear_signed(text: &str) -> Vec<u8> {
    keys().sign("known@example.invalid", text)
}

pub fn armored_key(name: &str) -> String {
    String::from_utf8(keys().gpg(&["--armor", "--export", name], b"")).unwrap()
}

/// Compresses as small archives do.
fn gz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    liblzma::read::XzEncoder::new(bytes, 1).read_to_end(&mut out).unwrap();
    out
}

struct Keys {
    home: PathBuf,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let home = shared::once("gnupg", |home| {
            std::fs::set_permissions(home, std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
            let keys = Keys { home: home.to_owned() };
            for name in ["known@example.invalid", "stranger@example.invalid"] {
                keys.gpg(&["--quick-generate-key", name, "ed25519", "sign", "never"], b"");
            }
        });
        Keys { home }
    })
}

impl Keys {
    fn gpg(&self, arguments: &[&str], input: &[u8]) -> Vec<u8> {
        let mut command = Command::new("gpg");
        command.args(["--batch", "--pinentry-mode", "loopback", "--passphrase", "", "--homedir"]).arg(&self.home);
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), input).unwrap();
        let output = command.args(arguments).stdin(file.reopen().unwrap()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        output.stdout
    }

    /// A signature apart from the text.
    fn sign_apart(&self, name: &str, text: &str) -> Vec<u8> {
        self.gpg(&["--local-user", name, "--armor", "--detach-sign", "--output", "-"], text.as_bytes())
    }

    fn sign(&self, name: &str, text: &str) -> Vec<u8> {
        self.gpg(&["--local-user", name, "--clearsign"], text.as_bytes())
    }
}

/// A package that a test makes.
#[derive(Debug, Clone, Default)]
pub struct Deb {
    pub name: String,
    /// Version; empty: 1.0.
    pub version: &'static str,
    /// More lines of its control file.
    pub fields: String,
    /// Scripts by name, without their first line.
    pub scripts: Vec<(&'static str, String)>,
    /// More files of the control archive, executable: scripts find them beside themselves.
    pub control_files: Vec<(String, Vec<u8>)>,
    pub files: Vec<(String, Vec<u8>)>,
    /// Symbolic links: path and target.
    pub links: Vec<(String, String)>,
}

impl Deb {
    /// One with a file below /opt.
    pub fn new(name: &str) -> Self {
        let file = (format!("opt/{name}"), format!("{name}\n").into_bytes());
        Self { name: name.to_owned(), files: vec![file], ..Self::default() }
    }

    pub fn script(mut self, name: &'static str, text: &str) -> Self {
        self.scripts.push((name, text.to_owned()));
        self
    }

    /// Of another version than 1.0.
    pub fn of_version(self, version: &'static str) -> Self {
        Self { version, ..self }
    }

    fn version(&self) -> &str {
        if self.version.is_empty() { "1.0" } else { self.version }
    }

    /// With more lines in its control file.
    pub fn fields(mut self, lines: &str) -> Self {
        self.fields.push_str(lines);
        self
    }

    /// Where an archive has it.
    pub fn pool_path(&self) -> String {
        // Of one, a name that needs escapes: an epoch as some archives write it, and what object stores mistake.
        let version = if self.name == "site-escaped" { "0%3a1.0+x~y" } else { self.version() };
        format!("pool/main/{}_{version}_all.deb", self.name)
    }

    /// The file's bytes.
    pub fn build(&self) -> Vec<u8> {
        let root = tempfile::tempdir().unwrap();
        let debian = root.path().join("DEBIAN");
        std::fs::create_dir_all(&debian).unwrap();
        let control = format!(
            "Package: {}\nVersion: {}\nArchitecture: all\nMaintainer: nobody <n@example.invalid>\n{}Description: x\n",
            self.name,
            self.version(),
            self.fields
        );
        std::fs::write(debian.join("control"), control).unwrap();
        let put = |path: PathBuf, bytes: &[u8]| {
            use std::os::unix::fs::PermissionsExt;
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, bytes).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        };
        for (name, text) in &self.scripts {
            put(debian.join(name), format!("#!/bin/sh\n{text}\n").as_bytes());
        }
        self.control_files.iter().for_each(|(name, bytes)| put(debian.join(name), bytes));
        self.files.iter().for_each(|(name, bytes)| put(root.path().join(name), bytes));
        for (name, target) in &self.links {
            std::os::unix::fs::symlink(target, root.path().join(name)).unwrap();
        }
        let made = tempfile::tempdir().unwrap();
        let file = made.path().join("made.deb");
        let output = Command::new("dpkg-deb")
            .args(["--root-owner-group", "-Zgzip", "--build"])
            .arg(root.path())
            .arg(&file)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(file).unwrap()
    }

    pub fn write(&self, directory: &Path) {
        std::fs::create_dir_all(directory).unwrap();
        std::fs::write(directory.join(format!("{}_1.0_all.deb", self.name)), self.build()).unwrap();
    }
}

/// The same with its packages from a mirror of the test, and with more of them wanted.
pub fn copy_from(mirror: &Mirror, wanted: &[&str]) -> Space {
    let space = copy();
    std::fs::write(space.path().join("known.gpg"), keys().gpg(&["--export", "known@example.invalid"], b"")).unwrap();
    let list: Vec<String> = wanted.iter().map(|name| format!("\"{name}\"")).collect();
    let repo = format!(
        "[[repo]]\nuri = \"{}\"\nsuites = [\"bookworm\"]\ncomponents = [\"main\"]\nsigned-by = \"known.gpg\"\n\n[packages]",
        mirror.url
    );
    space.edit("image.toml", "[packages]", &repo);
    space.edit("image.toml", "base = \"essential\"", &format!("base = \"essential\"\ninstall = [{}]", list.join(", ")));
    space
}

/// What builds must not leave in a store: half-written files, scratch directories.
fn temporary(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let names = |directory: PathBuf| std::fs::read_dir(directory).into_iter().flatten().flatten();
    for directory in ["packages", "indices", "blobs"] {
        let directory = store.join("v1").join(directory);
        let folders = names(directory.clone()).filter(|entry| entry.path().is_dir()).map(|entry| entry.path());
        for folder in folders.chain([directory.clone()]) {
            found.extend(
                names(folder)
                    .filter(|entry| entry.file_name().to_string_lossy().starts_with(".new-"))
                    .map(|entry| entry.path()),
            );
        }
    }
    for directory in ["scratch", "links", "handover"] {
        found.extend(names(store.join("v1").join(directory)).map(|entry| entry.path()));
    }
    found
}

/// Fails when something temporary stays in the store; what other tests are using goes away by itself, when their builds
/// end: the longest takes minutes.
#[track_caller]
pub fn nothing_is_left(store: &Path) {
    let mut left = temporary(store);
    for _ in 0..6_000 {
        if left.is_empty() {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
        left.retain(|path| path.symlink_metadata().is_ok());
    }
    panic!("left in the store: {left:?}");
}

/// Runs a build that must fail; checks that what was published, the lock and the store stay as they were.
#[track_caller]
pub fn fails_with(space: &Space, arguments: &[&str], code: i32, words: &[&str]) -> String {
    let lock = std::fs::read(space.path().join("image.lock")).unwrap();
    let said = fails_keeping_artefacts(space, arguments, code, words);
    assert_eq!(
        lock,
        std::fs::read(space.path().join("image.lock")).unwrap(),
        "a failed build changed the lock: {said}"
    );
    said
}

/// The same where the lock may be renewed: its packages are all there, and only later a stage fails.
#[track_caller]
pub fn fails_keeping_artefacts(space: &Space, arguments: &[&str], code: i32, words: &[&str]) -> String {
    let sums = || std::fs::read(space.artefact("tiny", "SHA256SUMS")).unwrap();
    let before = (sums(), std::fs::read_link(space.path().join("out/tiny")).unwrap());
    let mut all = vec!["build", "--progress", "plain"];
    all.extend(arguments);
    let ran = space.run(&all);
    // Words may be torn apart where lines are folded.
    let flat = |text: &str| text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert_eq!(ran.code, code, "{}", ran.err);
    for word in words {
        assert!(flat(&ran.err).contains(&flat(word)), "`{word}` is not in:\n{}", ran.err);
    }
    assert_eq!(before, (sums(), std::fs::read_link(space.path().join("out/tiny")).unwrap()));
    let checked = Command::new("sha256sum")
        .args(["--check", "--quiet", "SHA256SUMS"])
        .current_dir(space.path().join("out/tiny"))
        .output()
        .unwrap();
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
    nothing_is_left(&space.store());
    ran.err
}
