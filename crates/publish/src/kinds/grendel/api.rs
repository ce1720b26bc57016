//! Grendel's API. Source: ubccr/grendel, internal/api/handler.go, bootimg.go and node.go; internal/store/sqlstore/sqlstore.go: an image is
//! replaced by its id, a second one of the same name without it is refused; PATCH sets the image of nodes and leaves all else as it is.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use super::images::Documents;
use crate::kinds::servers::{Client, Method, boots};
use crate::{Change, Error, Report, Request};

/// The tag that says of a host: imgbuild may set its image.
const TAG: &str = "imgbuild";
/// Nodes that one request names, so that its address stays short.
const AT_ONCE: usize = 100;

pub(super) struct Api<'a> {
    pub url: &'a str,
    pub client: &'a Client,
}

#[derive(Debug, Deserialize)]
struct Host {
    #[serde(default)]
    name: String,
    #[serde(default)]
    boot_image: Option<String>,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    provision: bool,
}

impl Api<'_> {
    pub(super) fn images(&self) -> Result<Vec<Value>, Error> {
        let all: Option<Vec<Value>> =
            self.client.ask(&Method::GET, &format!("{}/v1/images", self.url), None)?.document()?;
        Ok(all.unwrap_or_default())
    }

    pub(super) fn store(&self, image: &Value) -> Result<(), Error> {
        let url = format!("{}/v1/images", self.url);
        self.client.send(&Method::POST, &url, &json!({"boot_images": [image]}))?.good().map(drop)
    }

    pub(super) fn set_image(&self, image: &str, nodes: &[String]) -> Result<(), Error> {
        for some in nodes.chunks(AT_ONCE) {
            // Names of nodes have letters, digits, `-` and `.` alone: nodes.toml takes no others.
            let url = format!("{}/v1/nodes/image?nodeset={}", self.url, some.join(","));
            self.client.send(&Method::PATCH, &url, &json!({"image": image}))?.good()?;
        }
        Ok(())
    }

    /// Which nodes get which image, and what hosts there stand in the way.
    /// Errors: [`Error::Server`] where a host is the site's alone.
    pub(super) fn moves(
        &self,
        request: &Request<'_>,
        documents: &Documents,
        images: &[Value],
        report: &mut Report,
    ) -> Result<BTreeMap<String, Vec<String>>, Error> {
        let mut moves: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let boots = boots(request);
        if documents.nodes.is_empty() && boots.pinned.is_empty() {
            return Ok(moves);
        }
        let hosts: Option<Vec<Host>> =
            self.client.ask(&Method::GET, &format!("{}/v1/nodes", self.url), None)?.document()?;
        let hosts = hosts.unwrap_or_default();
        let has_image = |name: &str| images.iter().any(|one| one.get("name").and_then(Value::as_str) == Some(name));
        let pinned = boots.pinned.iter().map(|(node, build)| (node.name.clone(), documents.pinned(build)));
        // A pinned build is left alone where its image is not there, or has other words.
        let pinned = pinned.filter(|(_, image)| has_image(image));
        let current = documents.nodes.iter().map(|(node, image)| (node.clone(), image.clone()));
        for (node, image) in current.chain(pinned) {
            let Some(host) = hosts.iter().find(|host| host.name == node) else {
                report.warnings.push(format!(
                    "Grendel has no host {node}: add it with `grendel node import`, tag it `{TAG}`, and publish again"
                ));
                continue;
            };
            let old = host.boot_image.as_deref().unwrap_or_default();
            if old == image || boots.pinned.iter().any(|(other, _)| other.name == node) && old.starts_with(&image) {
                report.add(format!("{} host {node}", self.url), Change::Unchanged);
                continue;
            }
            if !host.tags.iter().flatten().any(|tag| tag == TAG) && !super::may_replace(request) {
                let help =
                    format!("let imgbuild set its image with `grendel node tag {node} {TAG}`, or with `--replace`");
                return Err(super::foreign(self.url, &format!("the host `{node}`"), &help));
            }
            if !host.provision {
                report.warnings.push(format!("{node} boots its disk until `grendel node provision {node}` is run"));
            }
            report.add(format!("{} host {node}", self.url), Change::Changed);
            moves.entry(image).or_default().push(node);
        }
        Ok(moves)
    }
}
