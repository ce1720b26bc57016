//! Documents of BSS: a node's kernel, initrd and command line.
//!
//! Source: OpenCHAMI/bss, cmd/boot-script-service/default_api.go and boot_data.go: POST makes a new document and refuses one that is there
//! (`StoreNew`), PATCH changes the fields that it has and keeps `cloud-init`, which PUT would remove; only the first of hosts, macs, nids
//! counts; GET without anything lists all, where etcd has the key of a document as its host, a MAC address among them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::json;

use super::layout::Layout;
use super::smd::Names;
use super::{Changes, Work, foreign};
use crate::kinds::servers::{Method, Owner, marked, owner};
use crate::{Change, Consent, Error, Node};

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Parameters {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    hosts: Vec<String>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    macs: Vec<String>,
    #[serde(default)]
    params: String,
    #[serde(default)]
    kernel: String,
    #[serde(default)]
    initrd: String,
}

/// The service's root, which may be given with its path.
pub(super) fn root(url: &str) -> &str {
    url.strip_suffix("/boot/v1").unwrap_or(url)
}

/// A document for an administrator to fill in.
pub(super) fn example(layout: &Layout<'_>) -> String {
    let line = marked(&layout.words, &[&layout.kernel, &layout.initrd]);
    json!({"macs": ["MAC"], "kernel": layout.kernel, "initrd": layout.initrd, "params": line}).to_string()
}

/// By what a document is asked for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Key {
    Hosts,
    Macs,
}

/// Errors: [`Error`], and that documents are the site's.
pub(super) fn changes(work: &Work<'_>, url: &str, names: &Names) -> Result<Changes, Error> {
    let url = format!("{}/boot/v1/bootparameters", root(url));
    if work.boots.current.is_empty() {
        return Ok(Changes::default());
    }
    let there: Option<Vec<Parameters>> = work.client.ask(&Method::GET, &url, None)?.document()?;
    let there = there.unwrap_or_default();
    // Nodes with the same line share a request.
    let mut groups: BTreeMap<(String, Key, bool), Vec<String>> = BTreeMap::new();
    let mut changes = Changes::default();
    for node in &work.boots.current {
        let line = marked(&work.layout.line(work.request, node)?, &[&work.layout.kernel, &work.layout.initrd]);
        let (known, key, keys) = found(&there, node, names, work)?;
        let change = match known {
            None => Change::New,
            Some(old) => match owner(&old.params, &[&old.kernel, &old.initrd]) {
                Owner::Site if work.request.consent == Consent::KeepForeign && !is_empty(old) => {
                    return Err(foreign(&url, "the boot parameters", &node.name));
                }
                _ if (&old.params, &old.kernel, &old.initrd) == (&line, &work.layout.kernel, &work.layout.initrd) => {
                    Change::Unchanged
                }
                Owner::ChangedByHand => Change::Drift,
                Owner::Imgbuild | Owner::Site => Change::Changed,
            },
        };
        changes.items.push((format!("{url} {}", node.name), change));
        if change != Change::Unchanged {
            groups.entry((line, key, known.is_some())).or_default().extend(keys);
        }
    }
    for ((line, key, is_known), keys) in groups {
        let mut body = Parameters {
            params: line,
            kernel: work.layout.kernel.clone(),
            initrd: work.layout.initrd.clone(),
            ..Parameters::default()
        };
        match key {
            Key::Hosts => body.hosts = keys,
            Key::Macs => body.macs = keys,
        }
        let method = if is_known { Method::PATCH } else { Method::POST };
        changes.requests.push((method, url.clone(), json!(body)));
    }
    Ok(changes)
}

/// A document that says nothing belongs to no one.
fn is_empty(document: &Parameters) -> bool {
    document.params.is_empty() && document.kernel.is_empty() && document.initrd.is_empty()
}

/// A node's document, and by what it is asked for.
fn found<'a>(
    there: &'a [Parameters],
    node: &Node,
    names: &Names,
    work: &Work<'_>,
) -> Result<(Option<&'a Parameters>, Key, Vec<String>), Error> {
    if node.macs.is_empty() {
        return Err(Error::Unfit {
            destination: work.request.destination.to_string(),
            problem: format!("{} has no MAC address, by which the boot script service knows it", node.name),
            help: "write its `mac` into nodes.toml".to_owned(),
        });
    }
    let name = node.macs.iter().find_map(|mac| names.of(mac));
    let by_host = |key: &str| there.iter().find(|one| one.hosts.iter().any(|host| host.eq_ignore_ascii_case(key)));
    if let Some(name) = name
        && let Some(document) = by_host(name)
    {
        return Ok((Some(document), Key::Hosts, vec![name.to_owned()]));
    }
    for mac in &node.macs {
        // etcd keeps what SMD does not know under its MAC address.
        if let Some(document) = by_host(mac) {
            return Ok((Some(document), Key::Hosts, vec![mac.clone()]));
        }
        if let Some(document) = there.iter().find(|one| one.macs.iter().any(|other| other.eq_ignore_ascii_case(mac))) {
            return Ok((Some(document), Key::Macs, vec![mac.clone()]));
        }
    }
    Ok(match name {
        Some(name) => (None, Key::Hosts, vec![name.to_owned()]),
        None => (None, Key::Macs, node.macs.clone()),
    })
}
