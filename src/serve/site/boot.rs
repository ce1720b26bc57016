//! Boot scripts, made when a node asks for one: `/-/boot/LOADER?mac=..&uuid=..&serial=..`, or `/-/boot/LOADER/NODE-OR-MAC`.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use hyper::{Response, StatusCode};

use crate::nodes::ReportState;
use crate::nodes::loaders::{Boot, Bootable, Loader, Templates};
use crate::nodes::state::Boots;
use crate::serve::files::decoded;
use crate::serve::reply::{Reply, line, text};
use crate::serve::site::desk::Desk;
use crate::serve::{Say, Server};
use crate::stage::BuildInfo;

/// A script, or why it is missing.
pub enum Script {
    Text(String),
    /// The node has none, and why.
    Missing(String),
    /// It cannot be made; the server has said why.
    Broken(String),
}

/// What a node boots, and the directory of its files.
pub type Chosen = Option<(Bootable, PathBuf)>;

/// Answers an address below `/-/`. `host` is how the client calls this server.
pub async fn script(
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
        fields.insert(if named.parse::<crate::nodes::Mac>().is_ok() { "mac" } else { "node" }.to_owned(), named);
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
    let Some(name) = desk.who(claims, client) else {
        let claimed: Vec<String> =
            claims.iter().map(|(name, value)| format!("{name}={}", value.escape_debug())).collect();
        (server.say)(&format!(
            "a client at {client} that nodes.toml does not have asks for a boot script: {}",
            claimed.join(" ")
        ));
        return Script::Missing("nodes.toml has no node with this address".to_owned());
    };
    let scheme = if server.tls.is_some() { "https" } else { "http" };
    let url = match host {
        Some(host) => format!("{scheme}://{host}"),
        None => return Script::Broken("the request names no host".to_owned()),
    };
    let (script, chosen) =
        of_node(desk, &server.tree.roots(), &server.say, (&name, loader, &url), claims.contains_key("uefi"));
    if matches!(script, Script::Text(_)) && chosen.is_some() {
        let _ = desk.keep(&name, ReportState::Booting, None);
    }
    script
}

/// The script of a node for a loader, with `url` as the address of this server, and what it boots.
pub fn of_node(
    desk: &Desk,
    roots: &[PathBuf],
    say: &Say,
    (name, loader, url): (&str, Loader, &str),
    is_uefi: bool,
) -> (Script, Chosen) {
    let (nodes, findings) = desk.nodes();
    if !findings.is_empty() {
        say("nodes.toml has errors (`imgbuild nodes` shows them): what it said before is used further");
    }
    let missing = |why: String| (Script::Missing(why), None);
    let Some(node) = nodes.get(name) else { return missing("nodes.toml has no such node".to_owned()) };
    let chosen = match desk.assigned().nodes.get(name).map(|one| one.boots.clone()) {
        Some(Boots::Nothing) => return missing(format!("{name} is offline: `imgbuild nodeset` gives it an image")),
        Some(Boots::Disk) => None,
        Some(Boots::Image { image, build, directory }) => match BuildInfo::read(&directory) {
            Some(info) => {
                let device_trees = info.device_trees();
                Some((Bootable { image, build, cmdline: info.cmdline, device_trees }, directory))
            }
            None => {
                say(&format!("{name} is to boot {image}@{build}, and `{}` is not there", directory.display()));
                return (Script::Broken("the build that this node boots is not there".to_owned()), None);
            }
        },
        // Without `nodeset`: what is published now.
        None => match node.image().map(|image| (image, published(roots, image))) {
            Some((_, Some(bootable))) => Some(bootable),
            Some((image, None)) => return missing(format!("the image {image} has not been built")),
            None => return missing(format!("nodes.toml names no image for {name}")),
        },
    };
    let report = format!("{url}/-/report/{name}/{}", desk.token(name));
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

fn published(roots: &[PathBuf], image: &str) -> Chosen {
    roots.iter().find_map(|root| {
        let build = std::fs::read_link(root.join(image)).ok()?.file_name()?.to_str()?.to_owned();
        let directory = root.join(".builds").join(image).join(&build);
        let info = BuildInfo::read(&directory)?;
        let device_trees = info.device_trees();
        Some((Bootable { image: image.to_owned(), build, cmdline: info.cmdline, device_trees }, directory))
    })
}
