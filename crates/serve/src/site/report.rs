//! What a node says of itself: its state, and why it failed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::{Method, Request, Response, StatusCode};

use crate::Server;
use crate::reply::{Reply, line};
use crate::site::desk::{Desk, NotKept};
use nodes::{HostKey, ReportState, RootState};

/// Longest report, in bytes: with the node's host keys.
const LONGEST: usize = 48 << 10;
/// How long a node may take for it.
const WITHIN: Duration = Duration::from_secs(15);

/// `/-/report/NODE/TOKEN` with `state=..&reason=..&root=..&host_keys=..` as the query, as a form or as JSON; or `/-/report/NODE/TOKEN/STATE`.
pub(crate) async fn report(server: &Arc<Server>, request: Request<Incoming>) -> Response<Reply> {
    let path = request.uri().path().to_owned();
    let mut parts = path.split('/').skip(3);
    let (Some(node), Some(token)) = (parts.next(), parts.next()) else {
        return line(StatusCode::NOT_FOUND, "a report goes to /-/report/NODE/TOKEN");
    };
    let (node, token, named) = (node.to_owned(), token.to_owned(), parts.next().map(str::to_owned));
    let mut said = fields(request.uri().query().unwrap_or_default());
    if request.method() == Method::POST {
        let body = Limited::new(request.into_body(), LONGEST).collect();
        let Ok(Ok(body)) = tokio::time::timeout(WITHIN, body).await else {
            return line(StatusCode::PAYLOAD_TOO_LARGE, "a report has at most 48 KiB, and comes within 15 seconds");
        };
        let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
        match text.trim_start().starts_with('{') {
            true => said.extend(serde_json::from_str::<BTreeMap<String, String>>(&text).unwrap_or_default()),
            false => said.extend(fields(text.trim())),
        }
    }
    let word = named.as_ref().or(said.get("state")).map(String::as_str).unwrap_or_default();
    let root = said.get("root").and_then(|word| RootState::named(word));
    let state = ReportState::named(word);
    if state.is_none() && (root.is_none() || !word.is_empty()) {
        let known: Vec<&str> = ReportState::ALL.iter().map(|one| one.name()).collect();
        return line(StatusCode::BAD_REQUEST, &format!("state= is one of {}", known.join(", ")));
    }
    let Some(desk) = server.desk.clone() else { return line(StatusCode::NOT_FOUND, "this server has no nodes.toml") };
    let reason = said.get("reason").cloned();
    let (keys, refused) = said.get("host_keys").map(|text| HostKey::all_of(text)).unwrap_or_default();
    let kept = {
        let (node, reason, own) = (node.clone(), reason.clone(), Arc::clone(server));
        let keep = move || {
            desk.report((&node, &token), (state, root), reason.as_deref(), &keys)?;
            if root.is_some() {
                keep_roots(&own, &desk);
            }
            Ok(())
        };
        tokio::task::spawn_blocking(keep).await
    };
    match kept {
        Ok(Ok(())) => {
            server.metrics.reported();
            let reason = reason
                .map(|text| format!(": {}", text.chars().take(400).collect::<String>().escape_debug()))
                .unwrap_or_default();
            if state == Some(ReportState::Failed) || server.is_verbose {
                let root = root.map(RootState::name).map(|root| format!("root {root}"));
                let words: Vec<String> = state.map(|state| state.name().to_owned()).into_iter().chain(root).collect();
                (server.say)(&format!("{}: {}{reason}", node.escape_debug(), words.join(", ")));
            }
            if refused > 0 {
                let node = node.escape_debug();
                (server.say)(&format!(
                    "{node}: {refused} lines of its host keys are no keys, or too many, and are left out"
                ));
            }
            line(StatusCode::OK, "kept")
        }
        Ok(Err(NotKept::Unknown)) => {
            server.metrics.bad_token();
            line(StatusCode::FORBIDDEN, "no node has this name and this token")
        }
        Ok(Err(NotKept::Failed(error))) => {
            (server.say)(&format!("the report of {} is lost: {error}", node.escape_debug()));
            line(StatusCode::INTERNAL_SERVER_ERROR, "the report cannot be kept")
        }
        Err(_) => line(StatusCode::INTERNAL_SERVER_ERROR, "the report cannot be kept"),
    }
}

/// Notes beside what is published which builds nodes read their root from: without it a later build may remove one.
fn keep_roots(server: &Server, desk: &Desk) {
    let roots = desk.read_roots();
    for out in server.tree.roots().iter() {
        if let Err(error) = build::keep_roots(out, &roots) {
            (server.say)(&format!(
                "the builds that nodes read their root from cannot be noted in `{}`: {error}; `imgbuild nodeset` notes them too",
                out.display()
            ));
        }
    }
}

pub(crate) fn fields(text: &str) -> BTreeMap<String, String> {
    let read = |text: &str| crate::files::decoded(&text.replace('+', " ")).unwrap_or_default();
    text.split('&').filter_map(|field| field.split_once('=')).map(|(name, value)| (read(name), read(value))).collect()
}
