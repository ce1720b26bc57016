//! Documents of boot-service: a configuration for all nodes with the same command line.
//!
//! Source: OpenCHAMI/boot-service, cmd/server/bootconfiguration_handlers_generated.go: GET lists all, POST makes one and gives it a uid, PUT
//! by the uid replaces the whole `spec`; apis/boot.openchami.io/v1/bootconfiguration_types.go: a configuration that names no node is for
//! all, so that none is ever left without one.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Changes, Work, foreign};
use crate::kinds::servers::{Method, Owner, digest_of, marked, owner};
use crate::{Change, Consent, Error, Node};

const VERSION: &str = "boot.openchami.io/v1";
/// Digits that tell configurations of an image apart whose nodes have other words.
const DIGITS: usize = 8;

#[derive(Debug, Deserialize)]
struct Configuration {
    metadata: Metadata,
    #[serde(default)]
    spec: Map<String, Value>,
}

#[derive(Debug, Deserialize)]
struct Metadata {
    #[serde(default)]
    name: String,
    #[serde(default)]
    uid: String,
}

impl Configuration {
    fn text(&self, field: &str) -> &str {
        self.spec.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    fn macs(&self) -> BTreeSet<String> {
        let all = self.spec.get("macs").and_then(Value::as_array).into_iter().flatten();
        all.filter_map(Value::as_str).map(str::to_ascii_lowercase).collect()
    }

    fn owner(&self) -> Owner {
        owner(self.text("params"), &[self.text("kernel"), self.text("initrd")])
    }
}

/// The configuration of nodes with these words of their own.
fn name_of(image: &str, own: &[String]) -> String {
    if own.is_empty() {
        return image.to_owned();
    }
    let digest = digest_of(own.iter().map(String::as_str));
    format!("{image}-{}", &digest[..DIGITS.min(digest.len())])
}

/// Errors: [`Error`], and that a configuration of the same name is the site's.
pub(super) fn changes(work: &Work<'_>, service: &str) -> Result<Changes, Error> {
    let url = format!("{service}/bootconfigurations");
    let mut changes = Changes::default();
    if work.boots.current.is_empty() {
        return Ok(changes);
    }
    let there: Option<Vec<Configuration>> = work.client.ask(&Method::GET, &url, None)?.document()?;
    let there = there.unwrap_or_default();
    let mut groups: BTreeMap<String, Vec<&Node>> = BTreeMap::new();
    for node in &work.boots.current {
        if node.macs.is_empty() {
            return Err(Error::Unfit {
                destination: work.request.destination.to_string(),
                problem: format!("{} has no MAC address, by which the boot service knows it", node.name),
                help: "write its `mac` into nodes.toml".to_owned(),
            });
        }
        groups.entry(name_of(&work.request.image.name, &node.kernel_args)).or_default().push(node);
    }
    keep_pinned(work, &there, &groups, &url, &mut changes);
    for (name, nodes) in &groups {
        one(work, &there, (name, nodes), &url, &mut changes)?;
    }
    leave(work, &there, &groups, &url, &mut changes);
    Ok(changes)
}

/// Nodes that stay with another build get a configuration of their own, before the one that they are in is replaced.
fn keep_pinned(
    work: &Work<'_>,
    there: &[Configuration],
    groups: &BTreeMap<String, Vec<&Node>>,
    url: &str,
    changes: &mut Changes,
) {
    let mut kept: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (node, _) in &work.boots.pinned {
        let macs: BTreeSet<String> = node.macs.iter().map(|mac| mac.to_ascii_lowercase()).collect();
        let holds = |one: &&Configuration| !one.macs().is_disjoint(&macs);
        if let Some(one) = there.iter().filter(holds).find(|one| groups.contains_key(&one.metadata.name)) {
            kept.entry(&one.metadata.name).or_default().extend(macs);
        }
    }
    for (name, macs) in kept {
        let Some(old) = there.iter().find(|one| one.metadata.name == name) else { continue };
        let mut spec = old.spec.clone();
        spec.insert("macs".to_owned(), json!(macs));
        let digest = digest_of([old.text("kernel"), old.text("params")]);
        let name = format!("{name}-pinned-{}", &digest[..DIGITS.min(digest.len())]);
        match there.iter().find(|one| one.metadata.name == name) {
            Some(known) => {
                spec.insert("macs".to_owned(), json!(known.macs().union(&macs).collect::<Vec<_>>()));
                changes.requests.push((Method::PUT, format!("{url}/{}", known.metadata.uid), document(&name, spec)));
                changes.items.push((format!("{url} {name}"), Change::Changed));
            }
            None => {
                changes.requests.push((Method::POST, url.to_owned(), document(&name, spec)));
                changes.items.push((format!("{url} {name}"), Change::New));
            }
        }
    }
}

fn document(name: &str, spec: Map<String, Value>) -> Value {
    json!({"apiVersion": VERSION, "kind": "BootConfiguration", "metadata": {"name": name}, "spec": spec})
}

fn one(
    work: &Work<'_>,
    there: &[Configuration],
    (name, nodes): (&str, &[&Node]),
    url: &str,
    changes: &mut Changes,
) -> Result<(), Error> {
    let Some(first) = nodes.first() else { return Ok(()) };
    let layout = work.layout;
    // All nodes of a group have the same words.
    let line = marked(&layout.line(work.request, first)?, &[&layout.kernel, &layout.initrd]);
    let macs: BTreeSet<String> = nodes.iter().flat_map(|node| &node.macs).map(|mac| mac.to_ascii_lowercase()).collect();
    let known: Vec<&Configuration> = there.iter().filter(|one| one.metadata.name == name).collect();
    let ([] | [_]) = known[..] else {
        return Err(Error::Server {
            url: url.to_owned(),
            problem: format!("there are {} configurations `{name}`", known.len()),
            help: "remove all but one".to_owned(),
        });
    };
    let old = known.first();
    let change = match old {
        None => Change::New,
        Some(old) if old.owner() == Owner::Site && work.request.consent == Consent::KeepForeign => {
            return Err(foreign(url, &format!("the configuration `{name}`"), "the site"));
        }
        Some(old)
            if (old.text("params"), old.text("kernel"), old.text("initrd"))
                == (&*line, &*layout.kernel, &*layout.initrd)
                && old.macs() == macs =>
        {
            Change::Unchanged
        }
        Some(old) if old.owner() == Owner::ChangedByHand => Change::Drift,
        Some(_) => Change::Changed,
    };
    changes.items.push((format!("{url} {name}"), change));
    if change == Change::Unchanged {
        return Ok(());
    }
    // What the site added, such as a profile or a priority, stays.
    let mut spec = old.map(|old| old.spec.clone()).unwrap_or_default();
    spec.insert("macs".to_owned(), json!(macs));
    spec.insert("kernel".to_owned(), json!(layout.kernel));
    spec.insert("initrd".to_owned(), json!(layout.initrd));
    spec.insert("params".to_owned(), json!(line));
    changes.requests.push(match old {
        Some(old) => (Method::PUT, format!("{url}/{}", old.metadata.uid), document(name, spec)),
        None => (Method::POST, url.to_owned(), document(name, spec)),
    });
    Ok(())
}

/// Configurations of this image that nodes have left: without them these nodes would be in two. The last node's configuration is removed.
fn leave(
    work: &Work<'_>,
    there: &[Configuration],
    groups: &BTreeMap<String, Vec<&Node>>,
    url: &str,
    changes: &mut Changes,
) {
    let moved: BTreeSet<String> =
        groups.values().flatten().flat_map(|node| &node.macs).map(|mac| mac.to_ascii_lowercase()).collect();
    let (start, folder) = (format!("{}-", work.request.image.name), format!("/{}/", work.request.image.name));
    let is_ours = |one: &&Configuration| {
        let name = &one.metadata.name;
        (name.starts_with(&start) || *name == work.request.image.name)
            && !groups.contains_key(name)
            && one.text("kernel").contains(&folder)
            && one.owner() == Owner::Imgbuild
    };
    for old in there.iter().filter(is_ours) {
        let macs = old.macs();
        if macs.is_disjoint(&moved) {
            continue;
        }
        let name = &old.metadata.name;
        let (at, rest) = (format!("{url}/{}", old.metadata.uid), macs.difference(&moved).collect::<Vec<_>>());
        if rest.is_empty() {
            changes.items.push((format!("{url} {name}"), Change::Removed));
            changes.requests.push((Method::DELETE, at, Value::Null));
        } else {
            let mut spec = old.spec.clone();
            spec.insert("macs".to_owned(), json!(rest));
            changes.items.push((format!("{url} {name}"), Change::Changed));
            changes.requests.push((Method::PUT, at, document(name, spec)));
        }
    }
}
