//! OpenCHAMI: files in S3 or by HTTP in image-thrillhouse's layout, documents of BSS or of boot-service, nodes' names from SMD.
//!
//! `openchami:s3://BUCKET/PREFIX?bss=URL`: files go first, below names with the build's digest; then the documents of nodes, each of which
//! leads to the files of one build. Without nodes.toml no document is touched.

mod boot_service;
mod bss;
mod layout;
mod smd;
#[cfg(test)]
mod tests;

use super::servers::{Act, Address, Boots, Client, Method, Store, boots, tell_drift};
use crate::{Change, Error, Report, Request};
use layout::Layout;

/// `files`: where nodes get the files, if not where they are put; `bss`, `boot-service`, `smd`: services.
const OPTIONS: [&str; 4] = ["files", "bss", "boot-service", "smd"];

/// What both services need to know.
struct Work<'a> {
    request: &'a Request<'a>,
    boots: &'a Boots<'a>,
    layout: &'a Layout<'a>,
    client: &'a Client,
}

/// What [`apply`] would change; asks the servers, and changes nothing.
/// Errors: as [`apply`].
pub(crate) fn plan(request: &Request<'_>) -> Result<Report, Error> {
    work(request, Act::Ask)
}

/// Publishes: files, then documents.
/// Errors: [`Error`]; each node boots what it booted before, or the new build.
pub(crate) fn apply(request: &Request<'_>) -> Result<Report, Error> {
    work(request, Act::Write)
}

fn work(request: &Request<'_>, act: Act) -> Result<Report, Error> {
    let address = Address::of(request.destination, &OPTIONS)?;
    let at = match address.url.starts_with("s3://") {
        true => packages::s3_address(&address.url).map_err(|problem| Error::Server {
            url: address.url.clone(),
            problem,
            help: "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION open a bucket, AWS_ENDPOINT_URL names its server (docs/cache.md)".to_owned(),
        })?,
        false => address.url.clone(),
    };
    let files = address.server("files")?.unwrap_or(&at);
    let layout = Layout::of(request, files)?;
    let store = Store::server(&at);
    let (client, boots) = (Client::default(), boots(request));
    let (bss, service) = (address.server("bss")?, address.server("boot-service")?);
    let smd = address.server("smd")?;
    let mut report = Report::default();
    let work = Work { request, boots: &boots, layout: &layout, client: &client };
    // All is asked, and all refusals are found, before anything is written.
    let names = match (bss, smd) {
        (_, Some(smd)) => smd::names(&client, smd)?,
        (Some(bss), None) => smd::names(&client, &format!("{}/hsm/v2", bss::root(bss))).unwrap_or_else(|_| {
            report
                .warnings
                .push("SMD does not answer: documents are written by MAC address (`smd=URL` names it)".to_owned());
            smd::Names::default()
        }),
        (None, None) => smd::Names::default(),
    };
    let parameters = bss.map(|url| bss::changes(&work, url, &names)).transpose()?;
    let configurations = service.map(|url| boot_service::changes(&work, url)).transpose()?;
    match act {
        Act::Ask => drop(store.compare(&layout.folder, &layout.files, &mut report)?),
        Act::Write => store.put(&layout.folder, &layout.files, &mut report)?,
    }
    fault::point("publish.documents");
    for changes in parameters.into_iter().chain(configurations) {
        changes.carry_out(&client, act, &mut report)?;
    }
    for (node, build) in &boots.pinned {
        report.warnings.push(format!("{} stays with build {build}, which its file pins", node.name));
    }
    if request.nodes.is_empty() || bss.is_none() && service.is_none() {
        report.next.push(format!("ochami bss boot params set -d '{}'", bss::example(&layout)));
    }
    if bss.is_some() {
        let unknown = boots.current.iter().filter(|node| !node.macs.iter().any(|mac| names.of(mac).is_some()));
        report.warnings.extend(unknown.map(|node| {
            format!(
                "SMD does not know {}: it gets the script of unknown nodes until `ochami smd iface add` adds it",
                node.name
            )
        }));
    }
    tell_drift(&mut report);
    Ok(report)
}

/// What becomes of documents, and the requests that do it, in their order.
#[derive(Debug, Default)]
struct Changes {
    items: Vec<(String, Change)>,
    requests: Vec<(Method, String, serde_json::Value)>,
}

impl Changes {
    fn carry_out(self, client: &Client, act: Act, report: &mut Report) -> Result<(), Error> {
        for (method, url, body) in self.requests.iter().filter(|_| act == Act::Write) {
            match body {
                // What is removed has no document.
                serde_json::Value::Null => client.ask(method, url, None)?.good()?,
                body => client.send(method, url, body)?.good()?,
            };
            fault::point("publish.document");
        }
        self.items.into_iter().for_each(|(name, change)| report.add(name, change));
        Ok(())
    }
}

/// What is said of a document that is the site's.
fn foreign(url: &str, document: &str, who: &str) -> Error {
    Error::Server {
        url: url.to_owned(),
        problem: format!("{document} of {who} was not written by imgbuild"),
        help: "remove it there, or replace it with `--replace`".to_owned(),
    }
}
