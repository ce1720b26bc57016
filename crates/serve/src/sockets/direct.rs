//! Files without a way through this program: what asks for one over a connection without TLS gets it by sendfile(2), from the page
//! cache to the socket. hyper has no place for that, so the heads of such requests are read here; any other request, and all that
//! follow it, are hyper's.

use std::fmt::Write;
use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::ops::Range;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::{Buf, BytesMut};
use hyper::header::{
    CONNECTION, CONTENT_LENGTH, EXPECT, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING, UPGRADE,
};
use hyper::{Response, StatusCode};
use rustix::io::Errno;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};

use crate::reply::Reply;
use crate::{HEADER_BYTES, HEADERS_WITHIN, MOST_HEADERS, PATIENCE, Server, routes};

/// Bytes of a call of sendfile: then it is another client's turn.
const PIECE: u64 = 512 << 10;

pub(crate) enum Rest {
    Ended,
    /// What was read of it and not answered, for hyper.
    For(TcpStream, BytesMut),
}

#[derive(Debug, PartialEq)]
struct Asked {
    path: String,
    headers: HeaderMap,
    /// Bytes of the head.
    length: usize,
    /// Whether the connection goes on behind the answer.
    keeps: bool,
}

#[derive(Debug, PartialEq)]
enum Head {
    Incomplete,
    /// hyper's.
    Other,
    File(Asked),
}

fn read_head(bytes: &[u8]) -> Head {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < HEADER_BYTES => return Head::Incomplete,
        _ => return Head::Other,
    };
    // A target with a host in front, an asterisk, a query or a fragment are what servers and scripts send, and not loaders.
    let path = request.path.filter(|path| path.starts_with('/') && !path.contains(['?', '#']));
    let (Some("GET"), Some(1), Some(path)) = (request.method, request.version, path) else { return Head::Other };
    if !routes::is_a_file(path) {
        return Head::Other;
    }
    let mut found = HeaderMap::new();
    for header in request.headers.iter() {
        let (Ok(name), Ok(value)) = (HeaderName::try_from(header.name), HeaderValue::from_bytes(header.value)) else {
            return Head::Other;
        };
        // The first one counts, as it does for hyper's callers.
        found.entry(name).or_insert(value);
    }
    if [CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT, UPGRADE].iter().any(|name| found.contains_key(name))
        && !fault::planted("direct-with-body")
    {
        return Head::Other;
    }
    let keeps = match found.get(CONNECTION).map(HeaderValue::as_bytes) {
        None => true,
        Some(word) if word.eq_ignore_ascii_case(b"keep-alive") => true,
        Some(word) if word.eq_ignore_ascii_case(b"close") => false,
        Some(_) => return Head::Other,
    };
    Head::File(Asked { path: path.to_owned(), headers: found, length, keeps })
}

/// Answers requests for files until there is another one.
pub(crate) async fn speak(
    server: &Arc<Server>,
    mut stream: TcpStream,
    client: IpAddr,
    ended: &mut watch::Receiver<bool>,
) -> Rest {
    let mut bytes = BytesMut::new();
    loop {
        let until = tokio::time::Instant::now() + HEADERS_WITHIN;
        let asked = loop {
            match read_head(&bytes) {
                Head::File(asked) => break asked,
                Head::Other => return Rest::For(stream, bytes),
                Head::Incomplete => {}
            }
            tokio::select! {
                read = timeout_at(until, stream.read_buf(&mut bytes)) => match read {
                    Ok(Ok(1..)) => {}
                    _ => return Rest::Ended,
                },
                // Between two requests, or in the middle of one that needs no answer now.
                _ = ended.changed() => return Rest::Ended,
            }
        };
        bytes.advance(asked.length);
        let response = routes::file(server, &asked.path, &asked.headers);
        routes::answered(server, client, "GET", &asked.path, response.status());
        let keeps = asked.keeps && !*ended.borrow();
        match answer(server, &mut stream, response, keeps).await {
            Ok(()) if keeps => {}
            // What a client does to its own connection concerns no one else.
            _ => return Rest::Ended,
        }
    }
}

/// The head of an answer, in the spelling that GRUB 2.06 knows.
fn head(response: &Response<Reply>, length: u64, keeps: bool) -> Vec<u8> {
    let status = response.status();
    let mut text = format!("HTTP/1.1 {} {}\r\n", status.as_u16(), status.canonical_reason().unwrap_or_default());
    for (name, value) in response.headers() {
        let Ok(value) = value.to_str() else { continue };
        let mut starts = true;
        for letter in name.as_str().chars() {
            text.push(if starts { letter.to_ascii_uppercase() } else { letter });
            starts = letter == '-';
        }
        let _ = write!(text, ": {value}\r\n");
    }
    // Source: RFC 9110, section 8.6: not of an answer that says that nothing has changed.
    if status != StatusCode::NOT_MODIFIED {
        let _ = write!(text, "Content-Length: {length}\r\n");
    }
    if !keeps {
        text.push_str("Connection: close\r\n");
    }
    let _ = write!(text, "Date: {}\r\n\r\n", httpdate::fmt_http_date(SystemTime::now()));
    text.into_bytes()
}

async fn answer(server: &Server, stream: &mut TcpStream, response: Response<Reply>, keeps: bool) -> io::Result<()> {
    let length = http_body::Body::size_hint(response.body()).exact().unwrap_or(0);
    let mut bytes = head(&response, length, keeps);
    let reply = response.into_body();
    if let Reply::Text(text) = reply {
        use http_body_util::BodyExt;
        bytes.extend(text.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default());
        return patiently(server, stream.write_all(&bytes)).await;
    }
    patiently(server, stream.write_all(&bytes)).await?;
    let Reply::File(body) = reply else { return Ok(()) };
    let (file, part, _transfer) = body.into_parts();
    send(server, stream, &file, part).await
}

/// Fails when a client takes nothing for too long.
async fn patiently<T>(server: &Server, work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    timeout(PATIENCE, work).await.unwrap_or_else(|_| {
        server.metrics.stalled();
        Err(io::ErrorKind::TimedOut.into())
    })
}

async fn send(server: &Server, stream: &TcpStream, file: &Arc<File>, part: Range<u64>) -> io::Result<()> {
    let mut at = part.start;
    while at < part.end {
        patiently(server, stream.writable()).await?;
        let length = (part.end - at).min(PIECE);
        if !is_in_memory(file, at, length) {
            // A disk that has to be waited for must not hold up other clients.
            let file = Arc::clone(file);
            tokio::task::spawn_blocking(move || bring(&file, at, length)).await.map_err(io::Error::other)??;
        }
        let sent = stream.try_io(Interest::WRITABLE, || {
            let mut offset = at;
            let sent = rustix::fs::sendfile(stream, file, Some(&mut offset), length as usize)?;
            Ok(sent as u64)
        });
        match sent {
            Ok(0) => {
                let problem = "the file became shorter while it was sent";
                return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
            }
            Ok(sent) => {
                at += sent;
                server.metrics.sent(sent);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        // A fast client's socket is always ready.
        tokio::task::consume_budget().await;
    }
    Ok(())
}

/// Whether the page cache has both ends of a part, so that its middle is there or on its way.
fn is_in_memory(file: &File, at: u64, length: u64) -> bool {
    [at, at + length - 1].iter().all(|&place| {
        let mut byte = [0];
        let read =
            rustix::io::preadv2(file, &mut [io::IoSliceMut::new(&mut byte)], place, rustix::io::ReadWriteFlags::NOWAIT);
        // A file system that cannot tell is taken at its word.
        !matches!(read, Err(Errno::AGAIN))
    })
}

/// Reads a part, so that the page cache has it.
fn bring(file: &File, at: u64, length: u64) -> io::Result<()> {
    let mut bytes = vec![0; length as usize];
    std::os::unix::fs::FileExt::read_at(file, &mut bytes, at).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_requests_for_files_are_answered_here() {
        let of = |text: &str| read_head(text.replace('\n', "\r\n").as_bytes());
        let Head::File(asked) = of("GET /compute/kernel HTTP/1.1\nHost: a\nRange: bytes=1-2\n\nGET") else { panic!() };
        assert_eq!((asked.path.as_str(), asked.keeps, asked.headers.len()), ("/compute/kernel", true, 2));
        assert_eq!(asked.length, "GET /compute/kernel HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2\r\n\r\n".len());
        let Head::File(asked) = of("GET /k HTTP/1.1\nConnection: Close\n\n") else { panic!() };
        assert!(!asked.keeps);
        for other in [
            "HEAD /k HTTP/1.1\n\n",
            "POST /k HTTP/1.1\n\n",
            "GET /k HTTP/1.0\n\n",
            "GET /k?a=b HTTP/1.1\n\n",
            "GET http://h/k HTTP/1.1\n\n",
            "GET * HTTP/1.1\n\n",
            "GET / HTTP/1.1\n\n",
            "GET /metrics HTTP/1.1\n\n",
            "GET /-/boot/ipxe HTTP/1.1\n\n",
            "GET /pxelinux.cfg/01-52-54 HTTP/1.1\n\n",
            "GET /k HTTP/1.1\nContent-Length: 1\n\nx",
            "GET /k HTTP/1.1\nTransfer-Encoding: chunked\n\n",
            "GET /k HTTP/1.1\nExpect: 100-continue\n\n",
            "GET /k HTTP/1.1\nUpgrade: x\n\n",
            "GET /k HTTP/1.1\nConnection: keep-alive, Upgrade\n\n",
            "GET /k HTTP/2.0\n\n",
            "\u{16}\u{3}\u{1}\n\n",
        ] {
            assert_eq!(of(other), Head::Other, "{other}");
        }
        assert_eq!(of("GET /k HTTP/1.1\nHos"), Head::Incomplete);
        assert_eq!(of(&format!("GET /{} HTTP/1.1\n", "k".repeat(HEADER_BYTES))), Head::Other);
        assert_eq!(of(&format!("GET /k HTTP/1.1\n{}\n", "A: b\n".repeat(MOST_HEADERS + 1))), Head::Other);
    }
}
