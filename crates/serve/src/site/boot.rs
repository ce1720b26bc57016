//! Boot scripts, made when a node asks for one: `/-/boot/LOADER?mac=..&uuid=..&serial=..`, or `/-/boot/LOADER/NODE-OR-MAC`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::{Response, StatusCode};
use serde_json::json;

use crate::files::decoded;
use crate::reply::{Reply, line, text};
use crate::site::desk::{Desk, Stranger};
use crate::{Say, Server};
use build::BuildInfo;
use nodes::Effective;
use nodes::loaders::{Boot, Bootable, Loader, Templates};
use nodes::state::Boots;

/// A script, or why it is missing.
pub(crate) enum Script {
    Text(String),
    /// The node has none, and why.
    Missing(String),
    /// It cannot be made; the server has said why.
    Broken(String),
}

/// What a node boots, and the directory of its files.
pub(crate) type Chosen = Option<(Bootable, PathBuf)>;

/// Answers an address below `/-/`. `host` is how the client calls this server.
pub(crate) async fn script(
    server: &Arc<Server>,
    path: &str,
    fields: BTreeMap<String, String>,
    client: IpAddr,
    host: Option<String>,
) -> Response<Reply> {
    let mut parts = path.split('/');
    let loader = match (parts.next(), parts.next().and_then(Loader::named)) {
        (Some("boot"), Some(loader)) => loader,
        _ => return line(StatusCode::NOT_FOUND, "there is no such page"),
    };
    let Some(desk) = server.desk.clone() else { return line(StatusCode::NOT_FOUND, "this server has no nodes.toml") };
    let mut fields = fields;
    if let Some(named) = parts.next().and_then(decoded).filter(|named| !named.is_empty()) {
        let named = named.trim_end_matches(".ipxe").to_owned();
        fields.insert(if named.parse::<nodes::Mac>().is_ok() { "mac" } else { "node" }.to_owned(), named);
    }
    let own = Arc::clone(server);
    let made = tokio::task::spawn_blocking(move || make(&own, &desk, loader, &fields, client, host)).await;
    match made {
        Ok(Script::Text(script)) => {
            server.metrics.script();
            text(StatusCode::OK, "text/plain; charset=utf-8", script)
        }
        Ok(Script::Missing(why)) => line(StatusCode::NOT_FOUND, &why),
        Ok(Script::Broken(why)) => line(StatusCode::INTERNAL_SERVER_ERROR, &why),
        Err(_) => line(StatusCode::INTERNAL_SERVER_ERROR, "the script cannot be made"),
    }
}

fn make(
    server: &Server,
    desk: &Desk,
    loader: Loader,
    claims: &BTreeMap<String, String>,
    client: IpAddr,
    host: Option<String>,
) -> Script {
    let name = match desk.who(claims, client) {
        Ok(name) => name,
        Err(stranger) => {
            server.metrics.stranger();
            let claimed: Vec<String> =
                claims.iter().map(|(name, value)| format!("{name}={}", value.escape_debug())).collect();
            let (problem, answer) = match stranger {
                Stranger::Unknown => {
                    ("that nodes.toml does not have".to_owned(), "nodes.toml has no node with this address")
                }
                Stranger::Several(which) => {
                    (format!("that is several nodes ({which})"), "this client is several nodes of nodes.toml")
                }
            };
            (server.say)(&format!("a client at {client} {problem} asks for a boot script: {}", claimed.join(" ")));
            return Script::Missing(answer.to_owned());
        }
    };
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    let url = match host {
        Some(host) => format!("{scheme}://{host}"),
        None => return Script::Broken("the request names no host".to_owned()),
    };
    let (script, chosen) =
        of_node(desk, &server.tree.roots(), &server.say, (&name, loader, &url), claims.contains_key("uefi"));
    if matches!(script, Script::Text(_)) && chosen.is_some() {
        desk.note_asked(&name, client);
    }
    script
}

/// The script of a node for a loader, with `url` as the address of this server, and what it boots.
pub(crate) fn of_node(
    desk: &Desk,
    roots: &[PathBuf],
    say: &Say,
    (name, loader, url): (&str, Loader, &str),
    is_uefi: bool,
) -> (Script, Chosen) {
    let nodes = desk.nodes();
    desk.say_errors(say);
    let missing = |why: String| (Script::Missing(why), None);
    let Some(node) = nodes.get(name) else { return missing("nodes.toml has no such node".to_owned()) };
    let chosen = match chosen(desk, roots, say, &node) {
        Ok(chosen) => chosen,
        Err(script) => return (script, None),
    };
    let boots = chosen.as_ref().map(|(bootable, _)| (bootable.image.as_str(), bootable.build.as_str()));
    let report = format!("{url}/-/report/{name}/{}", desk.token(name, boots));
    let broken = |why: &str| {
        say(&format!("no boot script for {name}: {why}"));
        (Script::Broken("the template of the boot script cannot be used".to_owned()), None)
    };
    let templates = match Templates::read(desk.root(), [loader]) {
        Ok(templates) => templates,
        Err(finding) => return broken(&finding.message),
    };
    let (bootable, servers) = (chosen.as_ref().map(|(bootable, _)| bootable), &nodes.servers);
    let boot = Boot { node: &node, loader, bootable, url, servers, report: Some(&report) };
    match boot.files(&templates) {
        Ok(files) => (Script::Text(files.uefi.filter(|_| is_uefi).unwrap_or(files.plain)), chosen),
        Err(finding) => broken(&finding.message),
    }
}

/// `/-/token/NODE/TOKEN`: what a node is to boot now, the address for its reports once it runs that, and the words of the kernel's command
/// line that a loader would give it. For a node that goes over to another build without a loader: it gives the token of the build that it
/// leaves.
pub(crate) async fn next(server: &Arc<Server>, path: &str, host: Option<String>) -> Response<Reply> {
    let Some(desk) = server.desk.clone() else { return line(StatusCode::NOT_FOUND, "this server has no nodes.toml") };
    let Some((name, token)) = path.split_once('/').map(|(name, token)| (name.to_owned(), token.to_owned())) else {
        return line(StatusCode::NOT_FOUND, "the next token of a node is at /-/token/NODE/TOKEN");
    };
    let own = Arc::clone(server);
    let made = tokio::task::spawn_blocking(move || {
        let nodes = desk.nodes();
        desk.say_errors(&own.say);
        let (Some(_), Some(node)) = (desk.spoken(&name, &token), nodes.get(&name)) else {
            own.metrics.bad_token();
            return line(StatusCode::FORBIDDEN, "no node has this name and this token");
        };
        let Some(host) = host else { return line(StatusCode::BAD_REQUEST, "the request names no host") };
        match chosen(&desk, &own.tree.roots(), &own.say, &node) {
            Ok(Some((bootable, _))) => {
                let Bootable { image, build, .. } = &bootable;
                let scheme = if own.tls.is_some() { "https" } else { "http" };
                let url = format!("{scheme}://{host}");
                let report = format!("{url}/-/report/{name}/{}", desk.token(&name, Some((image, build))));
                // Which loader it is plays no part in the words.
                let (loader, servers, report) = (Loader::Ipxe, &nodes.servers, Some(report.as_str()));
                let words = Boot { node: &node, loader, bootable: Some(&bootable), url: &url, servers, report }.words();
                let answer = json!({
                    "format_version": "1.0", "image": image, "build": build, "report": report, "words": words,
                });
                text(StatusCode::OK, "application/json", format!("{answer}\n"))
            }
            Ok(None) => line(StatusCode::CONFLICT, "this node boots its disk"),
            Err(Script::Missing(why) | Script::Broken(why) | Script::Text(why)) => line(StatusCode::CONFLICT, &why),
        }
    });
    made.await.unwrap_or_else(|_| line(StatusCode::INTERNAL_SERVER_ERROR, "the token cannot be made"))
}

/// What a node is to boot now.
/// Errors: Why it has nothing.
fn chosen(desk: &Desk, roots: &[PathBuf], say: &Say, node: &Effective) -> Result<Chosen, Script> {
    let name = &node.name;
    let missing = |why: String| Err(Script::Missing(why));
    match desk.assigned().nodes.get(name).map(|one| one.boots.clone()) {
        Some(Boots::Nothing) => missing(format!("{name} is offline: `imgbuild nodeset` gives it an image")),
        Some(Boots::Disk) => Ok(None),
        Some(Boots::Image { image, build, directory }) => match BuildInfo::read(&directory) {
            Some(info) => {
                let device_trees = info.device_trees();
                Ok(Some((Bootable { image, build, cmdline: info.cmdline, device_trees }, directory)))
            }
            None => {
                say(&format!("{name} is to boot {image}@{build}, and `{}` is not there", directory.display()));
                Err(Script::Broken("the build that this node boots is not there".to_owned()))
            }
        },
        // Without `nodeset`: what is published now.
        None => match node.image().map(|image| (image, published(roots, image))) {
            Some((_, Some(bootable))) => Ok(Some(bootable)),
            Some((image, None)) => missing(format!("the image {image} has not been built")),
            None => missing(format!("nodes.toml names no image for {name}")),
        },
    }
}

fn published(roots: &[PathBuf], image: &str) -> Chosen {
    roots.iter().find_map(|root| {
        let build = std::fs::read_link(root.join(image)).ok()?.file_name()?.to_str()?.to_owned();
        let directory = root.join(".builds").join(image).join(&build);
        let info = BuildInfo::read(&directory)?;
        let device_trees = info.device_trees();
        Some((Bootable { image: image.to_owned(), build, cmdline: info.cmdline, device_trees }, directory))
    })
}
