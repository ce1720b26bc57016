//! A server that runs, and its clients.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::Space;

/// A server that runs, and is ended with the test.
pub struct Running {
    pub child: Child,
    pub address: SocketAddr,
    /// What it said when it was ready.
    pub line: String,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `imgbuild serve` with some words.
pub fn command(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_imgbuild"));
    command.arg("serve").args(words).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Starts it, and waits until it listens.
pub fn started(mut command: Command) -> Running {
    let mut child = command.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    if line.is_empty() {
        let mut said = String::new();
        child.stderr.as_mut().unwrap().read_to_string(&mut said).unwrap();
        panic!("{said}");
    }
    let address = line.trim().trim_end_matches('/').rsplit_once('/').unwrap().1.parse().unwrap();
    Running { child, address, line }
}

/// A server of a directory on a free port.
pub fn serving(root: &Path, more: &[&str]) -> Running {
    let root = root.to_str().unwrap();
    started(command(&[&["--listen", "127.0.0.1:0", "--root", root], more].concat()))
}

impl Running {
    pub fn signal(&self, name: &str) {
        assert!(Command::new("kill").args(["-s", name, &self.child.id().to_string()]).status().unwrap().success());
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream
    }

    /// Sends a request as it is written; the head, and the rest.
    pub fn ask(&self, request: &str) -> (String, Vec<u8>) {
        let mut stream = self.connect();
        // A connection that the server does not want is gone before.
        let _ = stream.write_all(request.as_bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        split(bytes)
    }

    /// The same for a path, with more headers.
    pub fn get(&self, path: &str, headers: &str) -> (String, Vec<u8>) {
        self.ask(&format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n"))
    }

    /// Bytes of memory that it has.
    pub fn memory(&self) -> u64 {
        let text = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() << 10
    }

    pub fn status(&self) -> String {
        std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap()
    }
}

/// Head, in lower case, and body of an answer.
pub fn split(bytes: Vec<u8>) -> (String, Vec<u8>) {
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(bytes.len(), |at| at + 4);
    (String::from_utf8_lossy(&bytes[..end]).to_lowercase(), bytes[end..].to_vec())
}

pub fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).map(str::trim)
}

/// A directory as builds leave it: a named build, and the image's link to it. The build's name, and the kernel's digest.
pub fn published(space: &Space) -> (&'static str, String) {
    use sha2::Digest;
    let name = "0123456789ab";
    let kernel = b"a kernel of some bytes";
    let digest = sha2::Sha256::digest(kernel).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    space.write(&format!("out/.builds/compute/{name}/kernel"), std::str::from_utf8(kernel).unwrap());
    space.write(
        &format!("out/.builds/compute/{name}/build.json"),
        &format!(
            r#"{{"format_version": "1.0", "name": "compute", "target": "debian bookworm x86_64", "epoch": 1, "kernel_release": "6.1",
                "cmdline": [], "memory": 1, "layers": [], "not_reproducible": [],
                "artefacts": [{{"name": "kernel", "size": {}, "sha256": "{digest}"}}]}}"#,
            kernel.len()
        ),
    );
    symlink(format!(".builds/compute/{name}"), space.path().join("out/compute")).unwrap();
    (name, digest)
}

/// A site of two nodes and an image.
pub fn site(space: &Space) {
    published(space);
    space.write("imgbuild.toml", "out = \"out\"\nimages = []\n");
    space.write(
        "nodes.toml",
        "[group.compute]\nnodes = \"cn[1-2]\"\nimage = \"compute\"\n\n\
         [node.cn1]\nmac = \"52:54:00:00:00:01\"\nip = \"10.9.0.11\"\n\n[node.cn2]\nmac = \"52:54:00:00:00:02\"\nip = \"10.9.0.12\"\n",
    );
}
