//! Scripts that a node runs: `/-/scripts/NODE/TOKEN` is its list, `/-/scripts/NODE/TOKEN/SHA256` one of them, and what is posted to
//! the list's address is what became of them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};
use serde::{Deserialize, Serialize};

use crate::Server;
use crate::reply::{Reply, line, text};
use crate::site::desk::{Desk, NotKept};
use nodes::{Attr, ScriptFault, ScriptResult, Spoken, script_name, script_of};

/// Longest answer of a node, in bytes.
const LONGEST: usize = 1 << 20;
/// Scripts that failed of which the server's log has a line, and characters of a name or a reason there.
const MOST_SAID: usize = 20;
const LONGEST_SAID: usize = 200;
/// How long a node may take for it.
const WITHIN: Duration = Duration::from_secs(15);

#[derive(Serialize)]
struct Plan {
    format_version: &'static str,
    defaults: Lists,
    own: Lists,
    files: BTreeMap<String, File>,
    environment: BTreeMap<String, String>,
}

#[derive(Serialize)]
struct Lists {
    postscripts: Vec<String>,
    postbootscripts: Vec<String>,
}

#[derive(Serialize)]
struct File {
    sha256: String,
    size: usize,
}

#[derive(Deserialize)]
struct Said {
    phase: String,
    #[serde(default)]
    fails: bool,
    results: Vec<ScriptResult>,
}

/// Answers an address below `/-/scripts/`.
pub(crate) async fn scripts(server: &Arc<Server>, request: Request<Incoming>) -> Response<Reply> {
    let path = request.uri().path().to_owned();
    let mut parts = path.split('/').skip(3).map(str::to_owned);
    let (Some(node), Some(token), digest, None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return line(StatusCode::NOT_FOUND, "the scripts of a node are at /-/scripts/NODE/TOKEN");
    };
    let Some(desk) = server.desk.clone() else { return line(StatusCode::NOT_FOUND, "this server has no nodes.toml") };
    let Some(spoken) = desk.spoken(&node, &token) else {
        server.metrics.bad_token();
        return line(StatusCode::FORBIDDEN, "no node has this name and this token");
    };
    if request.method() == Method::POST {
        let body = Limited::new(request.into_body(), LONGEST).collect();
        let Ok(Ok(body)) = tokio::time::timeout(WITHIN, body).await else {
            return line(StatusCode::PAYLOAD_TOO_LARGE, "it has at most 1 MiB, and comes within 15 seconds");
        };
        let bytes = body.to_bytes();
        let said: Said = match serde_json::from_slice(&bytes) {
            Ok(said) => said,
            Err(error) => return line(StatusCode::BAD_REQUEST, &format!("this is not what nodes say: {error}")),
        };
        let own = Arc::clone(server);
        let kept = tokio::task::spawn_blocking(move || keep(&own, &desk, (&node, &spoken), said)).await;
        return kept.unwrap_or_else(|_| line(StatusCode::INTERNAL_SERVER_ERROR, "it cannot be kept"));
    }
    let own = Arc::clone(server);
    let given = tokio::task::spawn_blocking(move || give(&own, &desk, &node, digest.as_deref())).await;
    given.unwrap_or_else(|_| line(StatusCode::INTERNAL_SERVER_ERROR, "the scripts cannot be read"))
}

/// The list of a node, or one of its scripts: no other is given to it.
fn give(server: &Server, desk: &Desk, name: &str, digest: Option<&str>) -> Response<Reply> {
    let nodes = desk.nodes();
    let Some(node) = nodes.get(name) else { return line(StatusCode::NOT_FOUND, "nodes.toml has no such node") };
    let lists = [Attr::Postscripts, Attr::Postbootscripts].map(|attr| nodes.scripts_of(&node, attr));
    let all = lists.iter().flat_map(|list| list.defaults.iter().chain(&list.own));
    let directory = nodes.scripts_directory(desk.root());
    let mut files = BTreeMap::new();
    for script in all.map(|item| script_name(item)) {
        if files.contains_key(script) {
            continue;
        }
        match script_of(&directory, script) {
            Ok(bytes) => {
                let sha256 = digest_of(&bytes);
                if digest == Some(sha256.as_str()) {
                    return text(StatusCode::OK, "application/octet-stream", bytes);
                }
                files.insert(script.to_owned(), File { sha256, size: bytes.len() });
            }
            // The image may have it.
            Err(ScriptFault::Missing) => {}
            Err(ScriptFault::Unusable(problem)) => {
                (server.say)(&format!("{name} is not given its script {script}: {problem}"));
            }
        }
    }
    if digest.is_some() {
        return line(StatusCode::NOT_FOUND, "this node has no such script; the list says which it has");
    }
    let [first, second] = lists;
    let plan = Plan {
        format_version: "1.0",
        defaults: Lists { postscripts: first.defaults, postbootscripts: second.defaults },
        own: Lists { postscripts: first.own, postbootscripts: second.own },
        files,
        environment: node.script_environment(),
    };
    text(StatusCode::OK, "application/json", serde_json::to_vec(&plan).unwrap_or_default())
}

/// SHA-256 in hexadecimal digits.
fn digest_of(bytes: &[u8]) -> String {
    use sha2::Digest;
    HEXLOWER.encode(&sha2::Sha256::digest(bytes))
}

fn keep(server: &Server, desk: &Desk, (node, spoken): (&str, &Spoken), said: Said) -> Response<Reply> {
    if !["postscripts", "postbootscripts"].contains(&said.phase.as_str()) {
        return line(StatusCode::BAD_REQUEST, "phase is postscripts or postbootscripts");
    }
    let shown = node.escape_debug().to_string();
    let short = |text: &str| text.chars().take(LONGEST_SAID).collect::<String>().escape_debug().to_string();
    let all_bad = || said.results.iter().filter(|one| one.is_bad());
    let bad: Vec<String> = all_bad()
        .take(MOST_SAID)
        .map(|one| format!("{}: {}: {}", said.phase, short(&one.name), short(&one.reason)))
        .collect();
    for text in &bad {
        (server.say)(&format!("{shown}: {text}"));
    }
    let more = all_bad().count().saturating_sub(MOST_SAID);
    if more > 0 {
        (server.say)(&format!("{shown}: {}: {more} more scripts failed", said.phase));
    }
    let reason = bad.first().filter(|_| said.fails).cloned();
    match desk.keep_scripts((node, spoken), &said.phase, said.results, reason.as_deref()) {
        Ok(()) => {
            server.metrics.reported();
            line(StatusCode::OK, "kept")
        }
        Err(NotKept::Unknown) => line(StatusCode::FORBIDDEN, "no node has this name and this token"),
        Err(NotKept::Failed(error)) => {
            (server.say)(&format!("what became of the scripts of {shown} is lost: {error}"));
            line(StatusCode::INTERNAL_SERVER_ERROR, "it cannot be kept")
        }
    }
}
