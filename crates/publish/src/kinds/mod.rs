//! A folder for each provisioner.

mod cobbler;
mod confluent;
mod grendel;
mod openchami;
mod servers;
mod systemd;
#[cfg(test)]
mod tests;
mod tree;
mod warewulf;

use std::path::Path;

use self::servers::boots;
use crate::lay::{Content, Layout, OldNames, Planned};
use crate::{Destination, Error, File, Form, Image, Kind, Node, Report};

/// Whether what the site has under the same name may be replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Consent {
    /// Such a thing is an error.
    KeepForeign,
    /// `--replace` was given.
    ReplaceForeign,
}

/// What is published, for which nodes, and where.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub image: &'a Image,
    /// Nodes that are to boot it; empty where the workspace has no nodes.toml.
    pub nodes: &'a [Node],
    pub destination: &'a Destination,
    pub consent: Consent,
}

/// What [`apply`] would change; changes nothing.
/// Errors: as [`apply`].
pub fn plan(request: &Request<'_>) -> Result<Report, Error> {
    match request.destination.kind {
        Kind::Warewulf => warewulf::plan(request),
        Kind::Confluent => confluent::plan(request),
        Kind::Tree => tree::plan(request),
        Kind::Systemd => systemd::plan(request),
        Kind::Openchami => openchami::plan(request),
        Kind::Grendel => grendel::plan(request),
        Kind::Cobbler => cobbler::plan(request),
        Kind::Xcat => Err(elsewhere(request)),
    }
}

/// Publishes: all of it, or nothing.
/// Errors: [`Error`]; what was published before is still there then.
pub fn apply(request: &Request<'_>) -> Result<Report, Error> {
    match request.destination.kind {
        Kind::Warewulf => warewulf::apply(request),
        Kind::Confluent => confluent::apply(request),
        Kind::Tree => tree::apply(request),
        Kind::Systemd => systemd::apply(request),
        Kind::Openchami => openchami::apply(request),
        Kind::Grendel => grendel::apply(request),
        Kind::Cobbler => cobbler::apply(request),
        Kind::Xcat => Err(elsewhere(request)),
    }
}

/// The directory of a kind that takes one.
fn path_of<'a>(request: &Request<'a>) -> Result<&'a Path, Error> {
    request.destination.path().ok_or_else(|| unfit(request, "it is not a directory", "write KIND:/DIRECTORY"))
}

fn unfit(request: &Request<'_>, problem: impl Into<String>, help: impl Into<String>) -> Error {
    Error::Unfit { destination: request.destination.to_string(), problem: problem.into(), help: help.into() }
}

/// xCAT's layout is written by the build itself.
fn elsewhere(request: &Request<'_>) -> Error {
    unfit(request, "xcat:DIR is published by the build itself", "run `imgbuild build --publish xcat:DIR`")
}

fn no_form(request: &Request<'_>) -> Error {
    unfit(request, "build.json names no packed image", "run `imgbuild build` again")
}

/// Files of a build below `builds/BUILD/`.
fn files_of_build<'a>(image: &'a Image, files: &[&'a File]) -> Vec<Planned<'a>> {
    let planned = |file: &&'a File| Planned {
        path: format!("builds/{}/{}", image.build, file.name),
        mode: 0o644,
        content: Content::Copy(file),
    };
    files.iter().map(planned).collect()
}

/// A publication of the image in that form into a directory.
fn layout_of<'a>(
    request: &Request<'a>,
    directory: &'a Path,
    form: &Form,
    (files, old_names): (Vec<Planned<'a>>, OldNames),
) -> Layout<'a> {
    let image = request.image;
    Layout {
        directory,
        name: &image.name,
        build: &image.build,
        source: image.directory.parent().map(|builds| builds.display().to_string()),
        image: form.digest(),
        files,
        old_names,
        pinned: Vec::new(),
        consent: request.consent,
    }
}

/// Names the nodes that their file pins to another build, where nothing that is written keeps them there.
fn tell_pins(request: &Request<'_>, leads: &str, warnings: &mut Vec<String>) {
    let pinned = boots(request).pinned;
    let Some((first, build)) = pinned.first() else { return };
    let more =
        if pinned.len() > 1 { format!(", and {} more nodes to theirs", pinned.len() - 1) } else { String::new() };
    warnings.push(format!(
        "{} is pinned to build {build} in the nodes' file{more}, but {leads}: such nodes boot the newest build",
        first.name
    ));
}
