//! A server for the files of one directory, on the loopback interface unless another address is named.
//!
//! As much HTTP/1.1 as boot loaders and imgbuild-init use: GET and HEAD, one range, one request a connection.

use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

#[derive(Debug)]
pub struct FileServer {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
}

impl FileServer {
    /// Serves the files of a directory, none below it, on a free port.
    /// Errors: When no port can be had.
    pub fn start(directory: &Path) -> std::io::Result<Self> {
        Self::start_on(Ipv4Addr::LOCALHOST, directory)
    }

    /// The same on an address of this machine, for instance one in a network namespace.
    /// Errors: When no port can be had.
    pub fn start_on(address: Ipv4Addr, directory: &Path) -> std::io::Result<Self> {
        let listener = TcpListener::bind((address, 0))?;
        let address = listener.local_addr()?;
        let stop = Arc::new(AtomicBool::new(false));
        let (directory, ended) = (directory.to_owned(), Arc::clone(&stop));
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(Ordering::Relaxed) {
                    break;
                }
                let directory = directory.clone();
                std::thread::spawn(move || {
                    let _ = answer(stream, &directory);
                });
            }
        });
        Ok(Self { address, stop })
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }
}

impl Drop for FileServer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        // Wakes the thread that waits for a connection.
        let _ = TcpStream::connect(self.address);
    }
}

/// A file name of the directory: no folders, nothing hidden.
fn file_of(target: &str, directory: &Path) -> Option<PathBuf> {
    let name = target.split(['?', '#']).next()?.trim_start_matches('/');
    let plain = !name.is_empty()
        && !name.starts_with('.')
        && (fault::planted("boot-folders-served")
            || name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
    plain.then(|| directory.join(name))
}

/// The first byte and one past the last of `bytes=a-b`.
fn range(value: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = value.trim().strip_prefix("bytes=")?.split_once('-')?;
    let from: u64 = from.parse().ok()?;
    let to = if to.is_empty() { size } else { to.parse::<u64>().ok()?.saturating_add(1).min(size) };
    (from < to).then_some((from, to))
}

fn answer(mut stream: TcpStream, directory: &Path) -> std::io::Result<()> {
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut input = BufReader::new(stream.try_clone()?.take(16 << 10));
    let mut line = String::new();
    input.read_line(&mut line)?;
    let mut words = line.split_whitespace();
    let (method, target) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut wanted = None;
    loop {
        line.clear();
        if input.read_line(&mut line)? == 0 || line.trim().is_empty() {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("range")
        {
            wanted = Some(value.to_owned());
        }
    }
    let refuse = |stream: &mut TcpStream, status: &str| {
        write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    };
    if method != "GET" && method != "HEAD" {
        return refuse(&mut stream, "405 Method Not Allowed");
    }
    let Some(mut file) = file_of(&target, directory).and_then(|path| std::fs::File::open(path).ok()) else {
        return refuse(&mut stream, "404 Not Found");
    };
    let size = file.metadata()?.len();
    let (status, from, to) = match wanted {
        None => ("200 OK", 0, size),
        Some(text) => match range(&text, size) {
            Some((from, to)) => ("206 Partial Content", from, to),
            None => return refuse(&mut stream, "416 Range Not Satisfiable"),
        },
    };
    let place = if from > 0 || to < size {
        format!("Content-Range: bytes {from}-{}/{size}\r\n", to - 1)
    } else {
        String::new()
    };
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Length: {}\r\nAccept-Ranges: bytes\r\n{place}Connection: close\r\n\r\n",
        to - from
    )?;
    if method == "GET" {
        file.seek(SeekFrom::Start(from))?;
        std::io::copy(&mut file.take(to - from), &mut stream)?;
    }
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn get(server: &FileServer, target: &str, more: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", server.port())).unwrap();
        write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n{more}\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    #[test]
    fn files_and_ranges_are_served_and_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), "0123456789").unwrap();
        std::fs::create_dir(directory.path().join("sub")).unwrap();
        std::fs::write(directory.path().join("sub/b"), "x").unwrap();
        let server = FileServer::start(directory.path()).unwrap();
        assert!(get(&server, "/a", "").ends_with("\r\n\r\n0123456789"));
        assert!(
            get(&server, "//a", "Range: bytes=4-\r\n")
                .ends_with("Content-Range: bytes 4-9/10\r\nConnection: close\r\n\r\n456789")
        );
        for target in ["/../etc/passwd", "/sub/b", "/.hidden", "/", "/%2e%2e"] {
            assert!(get(&server, target, "").starts_with("HTTP/1.1 404"), "{target}");
        }
        assert!(get(&server, "/a", "Range: bytes=20-\r\n").starts_with("HTTP/1.1 416"));
    }
}
