//! Cobbler 3.3: distro, profile and systems by XML-RPC.
//!
//! `cobbler:URL?dir=DIRECTORY&files=URL`: the build's files go into DIRECTORY, which is the same on Cobbler's machine, and from which nodes
//! get the image by `files`. The distro has the build's name; when it is there the profile is led to it, and systems follow.

mod documents;
mod options;
mod session;
#[cfg(test)]
mod tests;
mod xmlrpc;

use std::path::Path;

use super::servers::{Act, Address, Owner, Published, Store, boots, tell_drift};
use crate::{Change, Consent, Error, Report, Request};
use documents::{Document, What, documents};
use session::Session;

/// `dir`: the directory of files; `files`: its address for nodes.
const OPTIONS: [&str; 2] = ["dir", "files"];
/// What Cobbler's web server has without more. Its sync removes directories that it does not know, but what is in `pub`. Source: cobbler
/// 3.3, config/apache/cobbler.conf; settings.yaml, `webdir_whitelist`; cobbler/actions/sync.py, `clean_trees`.
const DIRECTORY: &str = "/var/www/cobbler/pub/imgbuild";
const FILES: &str = "http://@@http_server@@/cobbler/pub/imgbuild";

/// What [`apply`] would change; asks the server, and changes nothing.
/// Errors: as [`apply`].
pub(crate) fn plan(request: &Request<'_>) -> Result<Report, Error> {
    work(request, Act::Ask)
}

/// Publishes: files, the distro, then what leads to it.
/// Errors: [`Error`]; each system boots what it booted before, or the new build.
pub(crate) fn apply(request: &Request<'_>) -> Result<Report, Error> {
    work(request, Act::Write)
}

fn work(request: &Request<'_>, act: Act) -> Result<Report, Error> {
    let address = Address::of(request.destination, &OPTIONS)?;
    let directory = address.path("dir")?;
    let files = match (address.server("files")?, directory) {
        (Some(files), _) => files,
        (None, None) => FILES,
        (None, Some(directory)) => {
            return Err(Error::Server {
                url: address.url.clone(),
                problem: format!("the address does not say how nodes get files of {directory}"),
                help: format!("write `cobbler:{}?dir={directory}&files=http://HOST/PATH`", address.url),
            });
        }
    };
    let directory = Path::new(directory.unwrap_or(DIRECTORY));
    let mut session = Session::open(&address.url)?;
    let boots = boots(request);
    let mut pins = Vec::new();
    for (_, pin) in &boots.pinned {
        let is_there = || session.item("distro", &documents::distro_name(request, pin)).map(|item| item.is_some());
        if !pins.iter().any(|known| known == pin) && is_there()? {
            pins.push((*pin).to_owned());
        }
    }
    let documents = documents(request, directory, files, &pins)?;
    let mut report = Report::default();
    // All is asked, and all refusals are found, before anything is written.
    let mut all = Vec::new();
    for document in documents {
        let old = session.item(document.what.name(), &document.name)?;
        let change = change_of(request, &session, &document, old.as_ref())?;
        all.push((document, change));
    }
    put_files(request, directory, act, &mut report)?;
    if act == Act::Write && all.iter().any(|(_, change)| *change != Change::Unchanged) {
        fault::point("publish.documents");
        session.log_in()?;
        for (document, change) in &all {
            if *change != Change::Unchanged {
                session.save(document.what.name(), &document.name, *change == Change::New, document.fields.clone())?;
            }
        }
        let systems = all.iter().filter(|(document, _)| document.what == What::System);
        let systems: Vec<xmlrpc::Value> = systems.map(|(document, _)| xmlrpc::Value::text(&document.name)).collect();
        if !systems.is_empty() {
            session.sync(systems)?;
        }
    }
    for (document, change) in all {
        report.add(format!("{} {} {}", address.url, document.what.name(), document.name), change);
    }
    for (node, build) in boots.pinned {
        let rest = match pins.iter().any(|pin| pin == build) {
            true => "",
            false => "; Cobbler has no such build, and the system is left as it is",
        };
        report.warnings.push(format!("{} stays with build {build}, which its file pins{rest}", node.name));
    }
    tell_drift(&mut report);
    Ok(report)
}

fn change_of(
    request: &Request<'_>,
    session: &Session<'_>,
    document: &Document,
    old: Option<&xmlrpc::Value>,
) -> Result<Change, Error> {
    let Some(old) = old else { return Ok(Change::New) };
    let owner = document.owner(old);
    if owner == Owner::Site && request.consent == Consent::KeepForeign {
        let (what, name) = (document.what.name(), &document.name);
        let help = format!(
            "rename it with `cobbler {what} rename --name={name} --newname=NAME`, or replace it with `--replace`"
        );
        return Err(session.error(format!("the {what} `{name}` was not written by imgbuild"), &help));
    }
    Ok(match (document.is_same(old), owner) {
        (true, Owner::Imgbuild) => Change::Unchanged,
        (_, Owner::ChangedByHand) => Change::Drift,
        (_, Owner::Imgbuild | Owner::Site) => Change::Changed,
    })
}

fn put_files(request: &Request<'_>, directory: &Path, act: Act, report: &mut Report) -> Result<(), Error> {
    let image = request.image;
    let named = |name: &str| if name == image.kernel.name { documents::KERNEL.to_owned() } else { name.to_owned() };
    let files: Vec<Published<'_>> =
        image.files().into_iter().map(|file| Published { name: named(&file.name), file }).collect();
    let (store, folder) = (Store::Directory(directory.to_owned()), documents::folder(request));
    match act {
        Act::Ask => store.compare(&folder, &files, report).map(drop),
        Act::Write => store.put(&folder, &files, report),
    }
}
