//! The page for people: rendered here, right without JavaScript, and kept up to date by server-sent events.

pub(crate) mod html;
mod images;
mod live;
mod nodes;

use std::collections::BTreeMap;
use std::sync::Arc;

use hyper::header::{CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};

pub(crate) use live::Live;

use super::Server;
use super::reply::{Reply, line, text};
use crate::site::desk::NodeLine;

/// Nothing from elsewhere, nothing inline but widths of bars.
const POLICY: &str = "default-src 'none'; style-src 'self' 'unsafe-inline'; script-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

fn html(content: String) -> Response<Reply> {
    let mut response = text(StatusCode::OK, "text/html; charset=utf-8", content);
    let headers = response.headers_mut();
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

pub(crate) fn css() -> Response<Reply> {
    text(StatusCode::OK, "text/css; charset=utf-8", include_str!("page.css"))
}

pub(crate) fn js() -> Response<Reply> {
    text(StatusCode::OK, "text/javascript; charset=utf-8", include_str!("page.js"))
}

fn lines(server: &Server) -> Arc<Vec<NodeLine>> {
    server.desk.as_ref().map(|desk| desk.lines()).unwrap_or_default()
}

/// The first page: nodes and images.
pub(crate) async fn first(server: &Arc<Server>, fields: BTreeMap<String, String>) -> Response<Reply> {
    let server = Arc::clone(server);
    let made = tokio::task::spawn_blocking(move || {
        let mut content = String::new();
        if server.desk.is_some() {
            let lines = lines(&server);
            content += "<p class=\"quiet\" role=\"status\">Updates: <span id=\"live\">when the page is loaded</span></p><div id=\"summary\">";
            content += &nodes::summary(&lines);
            content += "</div><div id=\"roll\">";
            content += &server.desk.as_ref().map(|desk| nodes::roll(desk.roll().as_ref().as_ref())).unwrap_or_default();
            content += "</div><h2>Nodes</h2>";
            content += &nodes::table(&lines, &nodes::Filter::of(&fields), ::nodes::state::now());
        } else {
            content += "<p>There is no <code>nodes.toml</code> beside these images.</p>";
        }
        content += "<h2>Images</h2>";
        content += &images::table(&server.tree.roots());
        html::page("Nodes and images", &content)
    });
    made.await.map_or_else(|_| line(StatusCode::INTERNAL_SERVER_ERROR, "the page cannot be made"), html)
}

pub(crate) async fn image(server: &Arc<Server>, name: String) -> Response<Reply> {
    let server = Arc::clone(server);
    let is_name = !name.is_empty() && !name.starts_with('.') && !name.contains('/');
    let made = tokio::task::spawn_blocking(move || {
        let roots = server.tree.roots();
        is_name.then(|| images::image_page(&roots, &name, &lines(&server))).flatten()
    });
    match made.await {
        Ok(Some(content)) => html(content),
        _ => line(StatusCode::NOT_FOUND, "there is no such image"),
    }
}

/// Changes as they come, for anyone who looks at the page.
pub(crate) fn events(server: &Arc<Server>) -> Response<Reply> {
    let Some(desk) = server.desk.clone() else { return line(StatusCode::NOT_FOUND, "this server has no nodes.toml") };
    let mut response = Response::new(Reply::Events(server.live.join(&desk)));
    response.headers_mut().insert(hyper::header::CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
    response.headers_mut().insert(hyper::header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
