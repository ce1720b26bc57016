//! What each address answers.

use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::header::{
    ACCEPT_RANGES, ALLOW, CACHE_CONTROL, CONTENT_LENGTH, CONTENT_RANGE, CONTENT_TYPE, ETAG, HOST, HeaderMap,
    HeaderName, HeaderValue, IF_NONE_MATCH, IF_RANGE, RANGE, RETRY_AFTER,
};
use hyper::{Method, Request, Response, StatusCode};

use nodes::TOKEN_DIGITS;

use super::files::{FileBody, Found, Part, Refusal, decoded, part, place};
use super::reply::{Reply, line, text};
use super::site::{boot, report, scripts};
use super::{Server, pages};

/// Files of so many bytes count as streams: packed images, and no kernels or indices.
const STREAM: u64 = 16 << 20;

/// What PXELINUX asks for by itself, with this server as its prefix: a card's address follows.
const PXELINUX: &str = "/pxelinux.cfg/01-";

pub(crate) async fn answer(server: &Arc<Server>, request: Request<Incoming>, client: IpAddr) -> Response<Reply> {
    let (method, path) = (request.method().clone(), request.uri().path().to_owned());
    let mut response = routed(server, request, client).await;
    if method == Method::HEAD {
        // The headers of the whole answer, its length included.
        let length = http_body::Body::size_hint(response.body()).exact();
        *response.body_mut() = Reply::Text(http_body_util::Full::default());
        if let Some(length) = length {
            response.headers_mut().entry(CONTENT_LENGTH).or_insert_with(|| length.into());
        }
    }
    answered(server, client, method.as_str(), &path, response.status());
    response
}

pub(crate) fn answered(server: &Server, client: IpAddr, method: &str, path: &str, status: StatusCode) {
    server.metrics.answered(status.as_u16());
    if server.is_verbose {
        (server.say)(&format!("{client} {method} {} {}", without_tokens(path).escape_debug(), status.as_u16()));
    }
}

/// A path for the log: who reads a token there could report with it.
fn without_tokens(path: &str) -> String {
    let is_token = |part: &str| {
        let digits = part.rsplit('.').next().unwrap_or_default();
        digits.len() == TOKEN_DIGITS && digits.bytes().all(|digit| digit.is_ascii_hexdigit())
    };
    let shown = |part| if is_token(part) { "TOKEN" } else { part };
    path.split('/').map(shown).collect::<Vec<_>>().join("/")
}

/// Whether a path is that of a file, and not of what the server itself has to say.
pub(crate) fn is_a_file(path: &str) -> bool {
    !matches!(path, "/" | "/healthz" | "/metrics") && !path.starts_with("/-/") && !path.starts_with(PXELINUX)
}

async fn routed(server: &Arc<Server>, request: Request<Incoming>, client: IpAddr) -> Response<Reply> {
    let path = request.uri().path().to_owned();
    if path.starts_with("/-/report/") && matches!(*request.method(), Method::GET | Method::POST) {
        return report::report(server, request).await;
    }
    if path.starts_with("/-/scripts/") && matches!(*request.method(), Method::GET | Method::POST) {
        return scripts::scripts(server, request).await;
    }
    if let Some(own) = path.strip_prefix("/-/token/").filter(|_| *request.method() == Method::GET) {
        return boot::next(server, own, host(&request)).await;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = line(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD are answered here");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let fields = report::fields(request.uri().query().unwrap_or_default());
    match path.as_str() {
        "/healthz" => line(StatusCode::OK, "ok"),
        "/metrics" => {
            let desk = server.desk.clone();
            let counted = tokio::task::spawn_blocking(move || desk.map(|desk| desk.counts()).unwrap_or_default());
            let nodes = counted.await.unwrap_or_default();
            text(StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", server.metrics.text(&nodes))
        }
        "/" => pages::first(server, fields).await,
        "/-/events" => pages::events(server),
        "/-/page.css" => pages::css(),
        "/-/page.js" => pages::js(),
        _ => match path.strip_prefix("/-/") {
            None => match path.strip_prefix(PXELINUX).filter(|_| server.gives_loaders) {
                Some(mac) => {
                    boot::script(server, &format!("boot/pxelinux/{mac}"), fields, client, host(&request)).await
                }
                None => file(server, &path, request.headers()),
            },
            Some(own) => match own.strip_prefix("images/").and_then(decoded) {
                Some(name) => pages::image(server, name).await,
                None => boot::script(server, own, fields, client, host(&request)).await,
            },
        },
    }
}

tokio::task_local! {
    /// The address to which a connection came.
    pub static OURS: Option<SocketAddr>;
}

/// How the client calls this server; a client of HTTP/1.0 may say nothing, and then it is the address to which it came.
fn host(request: &Request<Incoming>) -> Option<String> {
    let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
    let ours = || OURS.try_with(|ours| *ours).ok().flatten();
    match host {
        Some(host) => is_host(host).then(|| host.to_owned()),
        None => ours().map(|ours| SocketAddr::new(ours.ip().to_canonical(), ours.port()).to_string()),
    }
}

pub(crate) fn file(server: &Server, path: &str, headers: &HeaderMap) -> Response<Reply> {
    let found = place(path).ok_or(Refusal::Missing).and_then(|place| server.tree.open(&place));
    let found = match found {
        Ok(found) => found,
        Err(Refusal::Missing) => return line(StatusCode::NOT_FOUND, "there is no such file"),
        Err(Refusal::Unreadable) => {
            (server.say)(&format!("`{}` cannot be read by the server's user", path.escape_debug()));
            return line(StatusCode::FORBIDDEN, "the server may not read this file");
        }
    };
    let says = |name: &HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    if says(&IF_NONE_MATCH).is_some_and(|tags| names_tag(tags, &found.tag)) {
        let mut response = Response::new(Reply::Text(http_body_util::Full::default()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        describe(&mut response, &found, path);
        return response;
    }
    // The rest of another file is worth nothing.
    let same = says(&IF_RANGE).is_none_or(|tag| tag == found.tag);
    let wanted = says(&RANGE).filter(|_| same).map_or(Part::Whole, |range| part(range, found.size));
    let (status, bytes) = match wanted {
        Part::Whole => (StatusCode::OK, 0..found.size),
        Part::Bytes(bytes) => (StatusCode::PARTIAL_CONTENT, bytes),
        Part::Unsatisfiable => {
            let mut response = line(StatusCode::RANGE_NOT_SATISFIABLE, "the file ends before");
            insert(&mut response, CONTENT_RANGE, &format!("bytes */{}", found.size));
            return response;
        }
    };
    let transfer = server.metrics.transfer();
    if bytes.end - bytes.start >= STREAM && server.most_streams.is_some_and(|most| server.metrics.transfers() > most) {
        server.metrics.told_to_wait();
        let mut response = line(StatusCode::SERVICE_UNAVAILABLE, "too many images are on their way: come again later");
        // Not all at the same time.
        let seconds = 2 + RandomState::new().hash_one(path) % 9;
        response.headers_mut().insert(RETRY_AFTER, seconds.into());
        return response;
    }
    let body = FileBody::new(Arc::clone(&found.file), bytes.clone(), &server.metrics, transfer);
    let mut response = Response::new(Reply::File(body));
    *response.status_mut() = status;
    describe(&mut response, &found, path);
    if status == StatusCode::PARTIAL_CONTENT {
        insert(&mut response, CONTENT_RANGE, &format!("bytes {}-{}/{}", bytes.start, bytes.end - 1, found.size));
    }
    response
}

/// Whether a text can be a host with a port: it goes into scripts.
fn is_host(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte))
}

/// Whether a list of entity tags has one. Source: RFC 9110, section 13.1.2: compared weakly.
fn names_tag(list: &str, tag: &str) -> bool {
    list.trim() == "*" || list.split(',').any(|one| one.trim().trim_start_matches("W/") == tag)
}

fn describe(response: &mut Response<Reply>, found: &Found, path: &str) {
    insert(response, ETAG, &found.tag);
    let cache = if found.immutable { "public, max-age=31536000, immutable" } else { "no-cache" };
    insert(response, CACHE_CONTROL, cache);
    insert(response, ACCEPT_RANGES, "bytes");
    let kind = match path.rsplit_once('.').map_or("", |(_, end)| end) {
        "json" => "application/json",
        "ipxe" | "cfg" | "txt" | "lock" => "text/plain; charset=utf-8",
        _ => "application/octet-stream",
    };
    insert(response, CONTENT_TYPE, kind);
}

fn insert(response: &mut Response<Reply>, name: HeaderName, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        response.headers_mut().insert(name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_is_in_the_log() {
        let token = "0123456789abcdef0123456789abcdef01234567";
        for (path, shown) in [
            (format!("/-/report/cn1/{token}/up"), "/-/report/cn1/TOKEN/up"),
            (format!("/-/report/cn1/com.pute.0123456789ab.{token}"), "/-/report/cn1/TOKEN"),
            (format!("//-/scripts/cn1/{token}/x"), "//-/scripts/cn1/TOKEN/x"),
            ("/.builds/compute/0123456789ab/kernel".to_owned(), "/.builds/compute/0123456789ab/kernel"),
        ] {
            assert_eq!(without_tokens(&path), shown);
        }
    }
}
