//! Grendel: images in a file that `grendel image import` reads, or by its API.
//!
//! `grendel:FILE` writes FILE and the build's files beside it, in `NAME/BUILD/`. `grendel:URL?dir=DIRECTORY` writes the files into DIRECTORY,
//! which is the same on Grendel's machine, and the images by the API. Hosts are the site's: of one that has the tag `imgbuild` the
//! image is set, and nothing else.

mod api;
mod images;
#[cfg(test)]
mod tests;

use std::io::{ErrorKind, Write};
use std::path::Path;

use serde_json::Value;

use files::shared::Shared;

use super::servers::{Act, Address, Client, Published, Store, boots, first_form, tell_drift};
use crate::lay::make_directory;
use crate::{Change, Consent, Error, Report, Request};
use images::{Documents, documents};

/// `dir`: the directory of files; `files`: its address for nodes, if it is not below `provision.repo_dir`.
const OPTIONS: [&str; 2] = ["dir", "files"];
/// Grendel's own files, as its templates name them. Source: ubccr/grendel, internal/provision/endpoints.go, `RepoURL`.
const REPOSITORY: &str = "{{$.endpoints.RepoURL}}";
/// Whose turn it is to change a file of images.
const LOCK: &str = ".imgbuild-publish.lock";
/// Bytes of a file of images.
const FILE_LIMIT: u64 = 16 << 20;

/// What [`apply`] would change; asks the server, and changes nothing.
/// Errors: as [`apply`].
pub(crate) fn plan(request: &Request<'_>) -> Result<Report, Error> {
    work(request, Act::Ask)
}

/// Publishes: files, images below the build's name, then what leads to them.
/// Errors: [`Error`]; each node boots what it booted before, or the new build.
pub(crate) fn apply(request: &Request<'_>) -> Result<Report, Error> {
    work(request, Act::Write)
}

fn work(request: &Request<'_>, act: Act) -> Result<Report, Error> {
    let mut report = match request.destination.path() {
        Some(path) => to_file(request, path, act)?,
        None => to_server(request, act)?,
    };
    tell_drift(&mut report);
    Ok(report)
}

fn to_file(request: &Request<'_>, path: &Path, act: Act) -> Result<Report, Error> {
    let folder = path.parent().unwrap_or(Path::new("/"));
    let documents = documents(request, folder, REPOSITORY)?;
    let io = |intent, at: &Path| {
        let path = at.to_owned();
        move |source| Error::Io { intent, path, source }
    };
    if act == Act::Write {
        make_directory(folder)?;
    }
    let shared = match Shared::for_service(folder) {
        Ok(shared) => Some(shared),
        Err(problem) if problem.kind() == ErrorKind::NotFound => None,
        Err(problem) => return Err(io("open", folder)(problem)),
    };
    // Images of others are in the same file: who comes second reads what the first one wrote.
    let held = match &shared {
        Some(shared) if act == Act::Write => Some(shared.lock_file(LOCK).map_err(io("open", &folder.join(LOCK)))?),
        _ => None,
    };
    held.iter().try_for_each(|held| held.lock()).map_err(io("lock", &folder.join(LOCK)))?;
    let there = read(shared.as_ref(), path)?;
    let mut report = Report::default();
    let all = documents.merged(request, &path.display().to_string(), &there, &mut report)?;
    let differs = report.changes();
    put_files(request, folder, act, &mut report)?;
    if let Some(shared) = shared.filter(|_| act == Act::Write && differs) {
        let text = format!("{:#}\n", Value::Array(all));
        let mut fill = |file: &mut std::fs::File| file.write_all(text.as_bytes());
        let done = shared.write(name_of(path), (0o755, 0o644), files::Durability::PowerCut, &mut fill);
        done.map_err(io("write", path))?;
    }
    report.next.push(format!("grendel image import {}", path.display()));
    for (image, nodes) in documents.nodes_of_images() {
        report.next.push(format!("grendel node image {} {image}", nodes.join(",")));
    }
    tell(request, &documents, &mut report);
    if documents.images.iter().any(|one| one.cmdline.contains(REPOSITORY)) {
        let at = folder.display();
        report
            .warnings
            .push(format!("nodes get the image from Grendel's `/repo`: `provision.repo_dir` has to be {at}"));
    }
    Ok(report)
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The images of a file; none where it is not there.
fn read(shared: Option<&Shared>, path: &Path) -> Result<Vec<Value>, Error> {
    let Some(shared) = shared else { return Ok(Vec::new()) };
    let text = shared.read(name_of(path), FILE_LIMIT);
    let text = text.map_err(|source| Error::Io { intent: "read", path: path.to_owned(), source })?;
    let Some(text) = text else { return Ok(Vec::new()) };
    serde_json::from_slice(&text).map_err(|problem| Error::Foreign {
        path: path.to_owned(),
        problem: format!("it is not a list in JSON: {problem}"),
        help: "move it away, or write it as `grendel image import` reads it: a list of images".to_owned(),
    })
}

fn to_server(request: &Request<'_>, act: Act) -> Result<Report, Error> {
    let address = Address::of(request.destination, &OPTIONS)?;
    let Some(directory) = address.path("dir")? else {
        return Err(Error::Server {
            url: address.url.clone(),
            problem: "Grendel reads kernels from its own machine, and the address names no directory there".to_owned(),
            help: format!("write `grendel:{}?dir=/srv/grendel`, a directory of Grendel's machine", address.url),
        });
    };
    let directory = Path::new(directory);
    let documents = documents(request, directory, address.server("files")?.unwrap_or(REPOSITORY))?;
    let client = Client::default();
    let api = api::Api { url: &address.url, client: &client };
    let mut report = Report::default();
    // All is asked, and all refusals are found, before anything is written.
    let there = api.images()?;
    let mut images = Report::default();
    let wanted = documents.wanted(request, &address.url, &there, &mut images)?;
    let mut hosts = Report::default();
    let moves = api.moves(request, &documents, &there, &mut hosts)?;
    put_files(request, directory, act, &mut report)?;
    report.items.extend(images.items);
    report.items.extend(hosts.items);
    report.warnings.extend(hosts.warnings);
    if act == Act::Write {
        fault::point("publish.documents");
        // Those with the build's name first: what leads to them comes last in the list.
        for image in wanted {
            api.store(&image)?;
            fault::point("publish.document");
        }
        for (image, nodes) in moves {
            api.set_image(&image, &nodes)?;
            fault::point("publish.document");
        }
    }
    tell(request, &documents, &mut report);
    Ok(report)
}

fn tell(request: &Request<'_>, documents: &Documents, report: &mut Report) {
    for (node, build) in &boots(request).pinned {
        let image = documents.pinned(build);
        report.warnings.push(format!("{} stays with build {build}, which its file pins (image {image})", node.name));
    }
}

fn put_files(request: &Request<'_>, directory: &Path, act: Act, report: &mut Report) -> Result<(), Error> {
    first_form(request)?;
    let files = request.image.files().into_iter().map(|file| Published { name: file.name.clone(), file });
    let files: Vec<Published<'_>> = files.collect();
    let (store, folder) = (Store::Directory(directory.to_owned()), images::folder(request));
    match act {
        Act::Ask => store.compare(&folder, &files, report).map(drop),
        Act::Write => store.put(&folder, &files, report),
    }
}

/// What is said of an image or a host that is the site's.
fn foreign(place: &str, what: &str, help: &str) -> Error {
    Error::Server {
        url: place.to_owned(),
        problem: format!("{what} was not written by imgbuild"),
        help: help.to_owned(),
    }
}

fn may_replace(request: &Request<'_>) -> bool {
    request.consent == Consent::ReplaceForeign
}

/// How much a document differs.
fn change_of(is_same: bool, is_by_hand: bool) -> Change {
    match (is_same, is_by_hand) {
        (true, _) => Change::Unchanged,
        (false, true) => Change::Drift,
        (false, false) => Change::Changed,
    }
}
