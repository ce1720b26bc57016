//! Statelite: what of the node is not the image's. The list comes from the server, beside the index, by its digest; where its files
//! lie is mounted before the image is fetched, and all of it is put over the image last.
//!
//! Nothing of it is made up: a server or a disk that is not there is said, and tried again, and the node does not start without it.

mod apply;
mod copy;
pub(crate) mod inside;
mod mounts;

use std::path::Path;

use crate::cmdline::Parameters;
use crate::image::fetch::Client;
use crate::image::index::sha256;
use crate::image::root;
use crate::image::servers::Servers;
use crate::modules::Modules;
use crate::network::lease::Lease;
use crate::statelite::{Entry, FORMAT, List, NodeFacts, Source, resolve};
use crate::{say, sys};

pub(crate) use mounts::{disk as mount_disk, mount_nfs, mount_root_over_nfs};

/// All that is mounted for it, at the same place here and in the image.
pub(crate) const BASE: &str = "/.statelite";
/// What lies in memory.
const MEMORY: &str = "/.statelite/tmpfs";
/// The node's state.
const STATE: &str = "/.statelite/persistent";
/// Trees.
const TREES: &str = "/.statelite/mnt";
/// The image, as it came.
const IMAGE: &str = "/.statelite/image";
/// The node's disk, where xCAT's scripts look for it.
pub(crate) const DISK: &str = "/.sllocal/localmnt";
/// The list in a tree that is mounted over NFS.
const LIST_IN_TREE: &str = ".statelite/statelite.json";

/// Largest list that is read.
const LIST_LIMIT: u64 = 4 << 20;

/// A node's list, and what is mounted for it.
pub(crate) struct Statelite {
    entries: Vec<Entry>,
    /// Directories of the trees, the first one first; trees without one are directories of the image.
    trees: Vec<(Option<String>, String)>,
    /// Whether a server has something of it.
    on_a_server: bool,
}

/// Whether the node's command line asks for it.
fn is_asked(parameters: &Parameters) -> bool {
    parameters.statelite.is_some() || parameters.state.is_some()
}

/// Reads the list, and mounts what it needs. None where the command line asks for none.
///
/// # Errors
/// A text: what is not there, or what is wrong with the list.
pub(crate) fn prepare(
    client: &Client,
    servers: &Servers,
    parameters: &Parameters,
    lease: &Lease,
    modules: &Modules,
) -> Result<Option<Statelite>, String> {
    if !is_asked(parameters) {
        return Ok(None);
    }
    let list = read(client, parameters, servers)?;
    let facts = facts(parameters, lease);
    let places = list.places(&facts).map_err(|problems| {
        let texts: Vec<String> = problems.iter().map(ToString::to_string).collect();
        format!("statelite: {}", texts.join("; "))
    })?;
    let said = |what: &str, source: &Source, problem: String| format!("statelite: {what} {source}: {problem}");
    sys::unmount(BASE);
    sys::mount_root(BASE, "50%", None).map_err(|error| format!("statelite: no memory for {BASE}: {error}"))?;
    for folder in [MEMORY, STATE, TREES, IMAGE] {
        std::fs::create_dir_all(folder).map_err(|error| format!("{folder}: {error}"))?;
    }
    // What the node keeps comes first: without it nothing else is of use.
    if let Some(source) = &places.state {
        mounts::state(source, &facts.name, lease, modules)
            .or_else(|problem| if fault::planted("node-state-made-up") { Ok(()) } else { Err(problem) })
            .map_err(|problem| said("the state of this node,", source, problem))?;
        say!("statelite: what persists is kept in {source}/{}", facts.name);
    }
    if let Some(source) = &places.local_disk {
        mounts::disk(source, DISK, modules).map_err(|problem| said("the disk of this node,", source, problem))?;
        say!("statelite: what is localdisk is kept on {source}");
    }
    let mut trees = Vec::new();
    for source in &places.trees {
        let made = mounts::tree(source, lease, modules);
        trees.push(made.map_err(|problem| said("the tree", source, problem))?);
    }
    let is_server = |source: &Source| matches!(source, Source::Server { .. });
    let on_a_server = places.state.iter().chain(&places.trees).any(is_server);
    Ok(Some(Statelite { entries: list.entries, trees, on_a_server }))
}

/// Servers of NFS know a client of version 4 by its host name: nodes without one would be one client to them, and take each other's
/// locks away. Source: Linux, fs/nfs/nfs4proc.c, `nfs4_init_uniform_client_string`.
pub(crate) fn name_this_node(parameters: &Parameters, lease: &Lease) {
    if is_asked(parameters) || parameters.nfs_root.is_some() {
        sys::set_host_name(&name_of(parameters, lease));
    }
}

/// The node's name: as the command line or the DHCP server has it, else by its card, as the image gets it.
pub(crate) fn name_of(parameters: &Parameters, lease: &Lease) -> String {
    let name = parameters.node.clone().or_else(|| lease.hostname.clone());
    let is_name = |name: &String| crate::cmdline::is_host_name(name);
    name.filter(is_name).unwrap_or_else(|| format!("node-{}", lease.interface.mac.replace(':', "")))
}

/// The list: beside the image, or in the tree that is the root.
fn read(client: &Client, parameters: &Parameters, servers: &Servers) -> Result<List, String> {
    let digest = parameters.statelite.as_deref().unwrap_or_default();
    let checked = |bytes: Vec<u8>, name: String| {
        let found = sha256(&bytes);
        if digest.is_empty() {
            say!("the command line has no imgbuild.statelite=: {name} is not checked");
        } else if digest != found {
            return Err(format!(
                "wrong digest: {name} has the SHA-256 {found}, but the command line asks for {digest}; was it replaced after this node's boot entry was written?"
            ));
        }
        Ok((bytes, name))
    };
    let (bytes, name) = match &parameters.url {
        Some(_) => servers.ask(|url| {
            let folder = url.split(['?', '#']).next().unwrap_or_default();
            let url = format!("{}/statelite.json", folder.rsplit_once('/').map_or(folder, |(folder, _)| folder));
            checked(client.read(&url, LIST_LIMIT)?, url)
        })?,
        None => {
            let path = Path::new(root()).join(LIST_IN_TREE);
            let bytes = std::fs::read(&path).map_err(|error| {
                format!("the root over NFS has no list, {LIST_IN_TREE}: {error}; was it written by `imgbuild publish nfs:DIR`?")
            })?;
            checked(bytes, format!("{LIST_IN_TREE} of the root over NFS"))?
        }
    };
    let list: List = serde_json::from_slice(&bytes).map_err(|error| format!("{name} is no statelite list: {error}"))?;
    match list.format == FORMAT {
        true => Ok(list),
        false => Err(format!("{name} has format {}: build image and initrd with the same imgbuild", list.format)),
    }
}

fn facts(parameters: &Parameters, lease: &Lease) -> NodeFacts {
    let options = parameters.state_options.clone().unwrap_or_default();
    NodeFacts {
        name: name_of(parameters, lease),
        state: parameters.state.clone().filter(|state| !state.is_empty()).map(|state| (state, options)),
        local_disk: parameters.local_disk.clone(),
        variables: parameters.variables.clone(),
    }
}

impl Statelite {
    /// Puts it over the image.
    ///
    /// # Errors
    /// A text: what cannot be.
    pub(crate) fn apply(&self, modules: &Modules) -> Result<(), String> {
        if self.entries.iter().any(|entry| entry.way.is_overlay()) {
            modules.load("overlay");
        }
        sys::bind(root(), IMAGE, false)
            .map_err(|error| format!("statelite: the image cannot be shown twice: {error}"))?;
        let areas = apply::Areas::of(&self.trees);
        let actions = resolve(&self.entries, self.trees.len(), &areas);
        for action in &actions {
            areas.run(action).map_err(|problem| format!("statelite: {problem}"))?;
        }
        // What was copied to a disk is whole there, whatever happens next.
        sys::write_out();
        let kept = self.entries.len();
        sys::show_tree(BASE, &format!("{}{BASE}", root()))
            .map_err(|error| format!("statelite: {BASE} cannot be moved into the image: {error}"))?;
        if Path::new(DISK).exists() {
            let _ = sys::show_tree(DISK, &format!("{}{DISK}", root()));
        }
        say!("statelite: {kept} paths are this node's own");
        Ok(())
    }

    /// Whether a server has something of it: the network has to stay.
    pub(crate) fn is_on_a_server(&self) -> bool {
        self.on_a_server
    }

    /// Whether the whole root takes what is written.
    pub(crate) fn writes_anywhere(&self) -> bool {
        self.entries.iter().any(|entry| entry.path == "/")
    }
}

/// Takes away what an attempt left.
pub(crate) fn unmount_all() {
    sys::unmount(BASE);
    sys::unmount(DISK);
}
