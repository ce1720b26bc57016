//! What the fetcher does with servers that break, lie or move.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;

use super::downloads::*;
use super::fetcher::*;
use crate::DistroError;
use base::digest::Sha256;

struct Silent;

impl Progress for Silent {
    fn downloaded(&self, _: usize, _: usize, _: u64, _: u64) {}
}

/// What a server does with the n-th request: the status line and headers, and the bytes of the body that it sends.
type Answer = fn(usize, Option<u64>) -> (String, Vec<u8>);

const BODY: &[u8] = b"0123456789";

#[test]
fn redirects_lead_to_http_and_https_only() {
    let from = "http://m:81/debian/dists/x";
    for (to, leads) in [
        ("https://n/a", "https://n/a"),
        ("//n/a", "http://n/a"),
        ("/a/b:c", "http://m:81/a/b:c"),
        ("a?b:c", "http://m:81/debian/dists/a?b:c"),
    ] {
        assert_eq!(redirected(from, to).as_deref(), Ok(leads));
    }
    for to in ["file:///etc/passwd", "FILE:/etc/passwd", "file:x", "ftp://n/a", "data:,x", ""] {
        assert!(redirected(from, to).unwrap_err().contains("neither http nor https"), "{to}");
    }
}

fn whole(bytes: &[u8]) -> (String, Vec<u8>) {
    (format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n", BODY.len()), bytes.to_vec())
}

fn serve(answer: Answer) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/pool/file", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            let mut from = None;
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                let line = line.unwrap().to_lowercase();
                if let Some(range) = line.strip_prefix("range: bytes=") {
                    from = range.trim_end_matches('-').parse().ok();
                }
                if line.is_empty() {
                    break;
                }
            }
            let (head, body) = answer(number, from);
            let _ = write!(stream, "{head}Connection: close\r\n\r\n").and_then(|()| stream.write_all(&body));
        }
    });
    url
}

fn fetch(urls: Vec<String>) -> Result<Vec<u8>, DistroError> {
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().join("file");
    let download = Download { urls, size: 10, sha256: Sha256::of(BODY), destination: destination.clone() };
    Fetcher::new().fetch_all(&[download], &Silent)?;
    // Nothing is left beside the file.
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
    Ok(std::fs::read(destination).unwrap())
}

#[test]
fn a_broken_download_is_resumed_where_it_broke() {
    let url = serve(|number, from| match (number, from) {
        (0, None) => whole(&BODY[..4]),
        (_, Some(4)) => (
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n".to_owned(),
            BODY[4..].to_vec(),
        ),
        other => panic!("{other:?}"),
    });
    assert_eq!(fetch(vec![url]).unwrap(), BODY);
}

#[test]
fn parts_of_two_versions_are_fetched_once_more_from_the_start() {
    let url = serve(|number, from| match (number, from) {
        (0, None) => whole(b"OLD!"),
        (1, Some(4)) => (
            "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes 4-9/10\r\nContent-Length: 6\r\n".to_owned(),
            BODY[4..].to_vec(),
        ),
        (_, None) => whole(BODY),
        other => panic!("{other:?}"),
    });
    assert_eq!(fetch(vec![url]).unwrap(), BODY);
    // The file became shorter, or the server sends another part than was asked for.
    let url = serve(|number, from| match (number, from) {
        (0, None) => whole(b"OLD!"),
        (1, Some(4)) => ("HTTP/1.1 416 No\r\nContent-Length: 0\r\n".to_owned(), Vec::new()),
        (2, None) => whole(&BODY[..2]),
        (3, Some(2)) => {
            ("HTTP/1.1 206 Part\r\nContent-Range: bytes 0-7/10\r\nContent-Length: 8\r\n".to_owned(), BODY[..8].to_vec())
        }
        (4, None) => whole(BODY),
        other => panic!("{other:?}"),
    });
    assert_eq!(fetch(vec![url]).unwrap(), BODY);
}

#[test]
fn a_server_without_ranges_is_asked_for_all_of_it_again() {
    let url = serve(|number, _| whole(if number == 0 { &BODY[..4] } else { BODY }));
    assert_eq!(fetch(vec![url]).unwrap(), BODY);
}

#[test]
fn a_busy_server_is_asked_again_and_a_plain_no_is_final() {
    let busy = serve(|number, _| match number {
        0 => ("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n".to_owned(), Vec::new()),
        _ => whole(BODY),
    });
    assert_eq!(fetch(vec![busy]).unwrap(), BODY);
    let no = serve(|number, _| {
        assert_eq!(number, 0, "asked again after 404");
        ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n".to_owned(), Vec::new())
    });
    let error = fetch(vec![no.clone()]).unwrap_err();
    assert!(matches!(&error, DistroError::NotThere { answer, .. } if answer.contains("404")), "{error}");
    let second = serve(|_, _| whole(BODY));
    let other = serve(|_, _| ("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n".to_owned(), Vec::new()));
    assert_eq!(fetch(vec![other, second]).unwrap(), BODY);
}

#[test]
fn other_content_than_announced_is_refused() {
    let url = serve(|_, _| whole(b"9876543210"));
    assert!(matches!(fetch(vec![url]).unwrap_err(), DistroError::Digest { .. }));
    let url = serve(|_, _| ("HTTP/1.1 200 OK\r\nContent-Length: 20\r\n".to_owned(), b"01234567890123456789".to_vec()));
    assert!(
        matches!(fetch(vec![url]).unwrap_err(), DistroError::Download { problem, .. } if problem.contains("larger"))
    );
}
