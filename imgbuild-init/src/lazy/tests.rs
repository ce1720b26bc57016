//! The server's half: requests of the kernel over a socket, and servers of an image that do something wrong.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::frames::Frames;
use super::nbd::{self, Kind, Request, reply};
use super::source::{self, Source};
use crate::cmdline::Parameters;
use crate::image::fetch::Client;
use crate::image::index::{Frame, sha256};
use crate::image::servers::Servers;

const IMAGE: &[u8] = b"the first frame, the second one, and the third";
const CUTS: [usize; 4] = [0, 16, 32, IMAGE.len()];
/// What the device shows of it.
const SIZE: u64 = 512;

fn frames() -> Vec<Frame> {
    let of = |cut: &[usize]| Frame {
        offset: cut[0] as u64,
        size: (cut[1] - cut[0]) as u64,
        sha256: sha256(&IMAGE[cut[0]..cut[1]]),
    };
    CUTS.windows(2).map(of).collect()
}

fn right(frame: &Frame) -> Vec<u8> {
    IMAGE[frame.offset as usize..(frame.offset + frame.size) as usize].to_vec()
}

fn servers() -> Servers {
    Servers::of(&Parameters::parse("imgurl=http://a/x,http://b/x"))
}

fn source(
    keep: Option<u64>,
    ask: impl Fn(&str, &Frame) -> Result<Vec<u8>, String> + Send + Sync + 'static,
) -> Arc<Source> {
    Arc::new(Source::new(Frames::new(frames(), keep), None, servers(), Box::new(ask), 0.001))
}

fn request(kind: u16, cookie: u64, offset: u64, length: u32) -> [u8; 28] {
    let mut bytes = [0; 28];
    bytes[..4].copy_from_slice(&0x2560_9513_u32.to_be_bytes());
    bytes[6..8].copy_from_slice(&kind.to_be_bytes());
    bytes[8..16].copy_from_slice(&cookie.to_be_bytes());
    bytes[16..24].copy_from_slice(&offset.to_be_bytes());
    bytes[24..].copy_from_slice(&length.to_be_bytes());
    bytes
}

/// A client at the other end of the socket, as the kernel is one.
struct Client512 {
    stream: UnixStream,
    server: std::thread::JoinHandle<std::io::Result<()>>,
    cookie: u64,
}

impl Client512 {
    fn of(source: &Arc<Source>) -> Self {
        let (stream, other) = UnixStream::pair().unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let source = Arc::clone(source);
        let server = std::thread::spawn(move || nbd::serve(&other, &source, SIZE));
        Self { stream, server, cookie: 0 }
    }

    /// Sends a request, with bytes behind it; gives the error's number and the bytes of the reply.
    fn ask(&mut self, kind: u16, offset: u64, length: u32, behind: &[u8]) -> (u32, Vec<u8>) {
        self.cookie += 1;
        self.stream.write_all(&request(kind, self.cookie, offset, length)).unwrap();
        self.stream.write_all(behind).unwrap();
        let mut head = [0; 16];
        self.stream.read_exact(&mut head).unwrap();
        assert_eq!(head[..4], 0x6744_6698_u32.to_be_bytes());
        assert_eq!(head[8..], self.cookie.to_be_bytes());
        let error = u32::from_be_bytes(head[4..8].try_into().unwrap());
        let mut bytes = vec![0; if error == 0 && kind == 0 { length as usize } else { 0 }];
        self.stream.read_exact(&mut bytes).unwrap();
        (error, bytes)
    }

    fn end(mut self) {
        self.stream.write_all(&request(2, 0, 0, 0)).unwrap();
        self.server.join().unwrap().unwrap();
    }
}

fn expected(offset: usize, length: usize) -> Vec<u8> {
    let mut image = IMAGE.to_vec();
    image.resize(SIZE as usize, 0);
    image[offset..offset + length].to_vec()
}

#[test]
fn requests_are_read_and_answered_as_the_protocol_says() {
    for (kind, expected) in [
        (0, Kind::Read),
        (1, Kind::Change(9)),
        (2, Kind::Disconnect),
        (3, Kind::Flush),
        (4, Kind::Change(0)),
        (6, Kind::Change(0)),
    ] {
        let found = Request::parse(&request(kind, 7, 5, 9)).unwrap();
        assert_eq!(found, Request { kind: expected, cookie: 7_u64.to_be_bytes(), offset: 5, length: 9 });
    }
    assert_eq!(Request::parse(&[0; 28]), None);
    for (kind, offset, length, refusal) in [
        (0, 0, 512, 0),
        (0, 511, 1, 0),
        (0, 512, 1, 22),
        (0, u64::MAX, 1, 22),
        (0, 0, u32::MAX, 22),
        (1, 0, 1, 1),
        (3, 0, 0, 0),
        (4, 0, 512, 1),
    ] {
        let request = Request::parse(&request(kind, 0, offset, length)).unwrap();
        assert_eq!(request.refusal(SIZE), refusal, "{kind} {offset} {length}");
    }
    assert_eq!(reply([1, 2, 3, 4, 5, 6, 7, 8], 22), [0x67, 0x44, 0x66, 0x98, 0, 0, 0, 22, 1, 2, 3, 4, 5, 6, 7, 8]);
}

#[test]
fn a_client_reads_all_of_the_image_and_changes_nothing() {
    let source = source(None, |_, frame| Ok(right(frame)));
    let mut client = Client512::of(&source);
    for (offset, length) in [(0, 16), (10, 10), (0, 512), (40, 100), (500, 12), (3, 0)] {
        let found = client.ask(0, offset as u64, length as u32, &[]);
        assert_eq!(found, (0, expected(offset, length)), "{offset} {length}");
    }
    assert_eq!(client.ask(1, 0, 5, b"wrote").0, 1);
    assert_eq!((client.ask(4, 0, 512, &[]).0, client.ask(3, 0, 0, &[]).0), (1, 0));
    assert_eq!(client.ask(0, 0, 513, &[]).0, 22);
    assert_eq!(client.ask(0, 0, 512, &[]), (0, expected(0, 512)));
    client.end();
}

#[test]
fn what_is_no_request_ends_it() {
    let (mut stream, other) = UnixStream::pair().unwrap();
    let source = source(None, |_, frame| Ok(right(frame)));
    stream.write_all(&[7; 28]).unwrap();
    assert!(nbd::serve(&other, &source, SIZE).is_err() && source.is_closed());
}

#[test]
fn a_wrong_frame_is_never_given_out() {
    for wrong in [&b"the first frame?"[..], b"", b"the first frame", b"the first frame, more"] {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&asked);
        let source = source(None, move |url, frame| {
            seen.lock().unwrap().push(url.to_owned());
            Ok(if url.contains("//a/") && frame.offset == 0 { wrong.to_vec() } else { right(frame) })
        });
        let mut client = Client512::of(&source);
        assert_eq!(client.ask(0, 0, 512, &[]), (0, expected(0, 512)), "{wrong:?}");
        client.end();
        assert_eq!(asked.lock().unwrap()[..2], ["http://a/x", "http://b/x"]);
    }
}

#[test]
fn reads_wait_for_servers_once_the_node_lives_from_them() {
    let tries = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&tries);
    let source = source(None, move |url, frame| match count.fetch_add(1, Ordering::SeqCst) {
        0..200 => Err(format!("{url}: connection refused")),
        _ => Ok(right(frame)),
    });
    source.is_root_now();
    let mut client = Client512::of(&source);
    assert_eq!(client.ask(0, 20, 4, &[]), (0, expected(20, 4)));
    assert!(tries.load(Ordering::SeqCst) > 200);
    client.end();
}

#[test]
fn before_that_the_attempt_ends() {
    let source = source(None, |url, _| Err(format!("{url}: connection refused")));
    assert!(!source.begin() && source.is_closed());
    assert_eq!(source.read(0, 1), None);
    assert!(!source.hydrate(Duration::ZERO, Duration::ZERO));
}

#[test]
fn all_frames_come_in_the_background_and_each_once() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let is_gone = Arc::new(AtomicUsize::new(0));
    let gone = Arc::clone(&is_gone);
    let source = source(None, move |_, frame| {
        assert_eq!(gone.load(Ordering::SeqCst), 0, "the servers are no longer needed");
        seen.lock().unwrap().push(frame.offset);
        Ok(right(frame))
    });
    let mut client = Client512::of(&source);
    assert_eq!(client.ask(0, 40, 2, &[]).0, 0);
    assert!(source.hydrate(Duration::ZERO, Duration::ZERO));
    is_gone.store(1, Ordering::SeqCst);
    assert_eq!(client.ask(0, 0, 512, &[]), (0, expected(0, 512)));
    client.end();
    assert_eq!(*asked.lock().unwrap(), [32, 0, 16]);
    assert_eq!(source.figures(), (3, IMAGE.len() as u64, IMAGE.len() as u64));
}

#[test]
fn a_node_that_keeps_less_fetches_again() {
    let count = Arc::new(AtomicUsize::new(0));
    let asked = Arc::clone(&count);
    let source = source(Some(33), move |_, frame| {
        asked.fetch_add(1, Ordering::SeqCst);
        Ok(right(frame))
    });
    assert!(!source.hydrate(Duration::ZERO, Duration::ZERO));
    assert_eq!((count.load(Ordering::SeqCst), source.figures().1), (2, 32));
    let mut client = Client512::of(&source);
    for _ in 0..3 {
        assert_eq!(client.ask(0, 0, 512, &[]), (0, expected(0, 512)));
    }
    client.end();
    assert!(count.load(Ordering::SeqCst) > 6 && source.figures().1 <= 33);
}

/// Answers one request, with what it is given.
fn answers(answer: Vec<u8>) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/x", listener.local_addr().unwrap());
    let answered = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut text = Vec::new();
        while !text.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            text.extend(byte);
        }
        stream.write_all(&answer).unwrap();
        String::from_utf8(text).unwrap().to_lowercase()
    });
    (url, answered)
}

#[test]
fn a_server_is_asked_for_a_frame_and_what_it_does_wrong_is_said() {
    let second = &frames()[1];
    let of = |status: &str, length: usize, body: &[u8]| {
        let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
        let (url, answered) = answers([head.as_bytes(), body].concat());
        let outcome = source::ask(&Client::new(), &url, second);
        (outcome, answered.join().unwrap())
    };
    let (outcome, asked) = of("206 Partial Content", 16, &right(second));
    assert_eq!(outcome, Ok(right(second)));
    assert!(asked.contains("range: bytes=16-31\r\n"), "{asked}");
    for (status, length, body, problem) in [
        ("206 Partial Content", 16, &b"short"[..], "5 of 16 bytes came from 16 on"),
        ("200 OK", IMAGE.len(), IMAGE, "only whole"),
        ("404 Not Found", 0, b"", "removed there?"),
        ("503 Service Unavailable", 0, b"", "answers 503"),
    ] {
        let found = of(status, length, body).0.unwrap_err();
        assert!(found.contains(problem), "{found}");
    }
}
