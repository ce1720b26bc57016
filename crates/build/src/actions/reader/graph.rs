//! A recipe and its lock, as actions.

use super::{Reader, gzip_initrd, pack_action, xcat_pack};
use std::collections::BTreeMap;

use crate::StageError;
use crate::actions::packages::requests::{package_requests_in, target};
use crate::actions::{
    Described, gate, initrd, node_support, pack, packages, postinstall, services, statelite, sync, system,
};
use crate::bench::ids;
use ::packages::manager;
use base::digest::Digest;
use plan::{ActionGraph, Origin, Place, Removals, Taken};
use recipe::{Lock, Recipe};

/// The actions of a recipe, and what they take besides their keys.
#[derive(Debug)]
pub struct StageGraph {
    pub graph: ActionGraph,
    /// Ids of the actions that make the image's layers, lowest first.
    pub layers: Vec<String>,
    /// What the work of actions is asked with, by action.
    pub described: BTreeMap<String, Described>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Forms {
    /// Those that the recipe names.
    #[default]
    Own,
    /// Gzip as well, where the recipe names something else: layouts whose file names end in `.gz`.
    AndGzip,
}

/// Makes the graph of a recipe whose lock is fresh.
/// Errors: [`StageError::Input`] for a file that vanished since the recipe was read.
pub fn graph_of(recipe: &Recipe, lock: &Lock, init: &Digest, forms: Forms) -> Result<StageGraph, StageError> {
    let mut reader = Reader {
        recipe,
        lock,
        manager: manager(recipe),
        platform: target(recipe),
        actions: Vec::new(),
        layers: Vec::new(),
        described: BTreeMap::new(),
    };
    let package_requests = package_requests_in(recipe, lock);
    for package_request in &package_requests {
        packages::inputs::add(&mut reader, package_request)?;
    }
    system::inputs::add(&mut reader)?;
    postinstall::roles::inputs::add(&mut reader)?;
    postinstall::inputs::add(&mut reader)?;
    services::inputs::add(&mut reader);
    gate::inputs::add(&mut reader);
    node_support::inputs::add(&mut reader)?;
    node_support::postscripts::inputs::add(&mut reader, init)?;
    sync::inputs::add(&mut reader)?;
    initrd::inputs::add(&mut reader, init, ids::INITRD)?;
    if let Some(own) = &recipe.statelite {
        initrd::inputs::add(&mut reader, init, ids::INITRD_STATELITE)?;
        statelite::inputs::add(&mut reader, own);
    }
    if recipe.model.kdump.is_some() {
        initrd::inputs::add(&mut reader, init, ids::INITRD_KDUMP)?;
    }
    for form in recipe.model.pack.forms() {
        pack::inputs::add(&mut reader, &pack_action(&form));
    }
    if forms == Forms::AndGzip {
        if gzip_initrd(recipe) != ids::INITRD {
            initrd::inputs::add(&mut reader, init, ids::INITRD_GZIP)?;
        }
        if xcat_pack(recipe) == ids::PACK_GZIP {
            pack::inputs::add(&mut reader, ids::PACK_GZIP);
        }
    }
    let release = recipe.spans.get("image.release").map(Place::from);
    let inputs = reader.actions.iter_mut().flat_map(|action| &mut action.inputs);
    inputs.filter(|input| input.name == "parameter platform").for_each(|input| input.place.clone_from(&release));
    let install = package_requests.iter().flat_map(|package_request| &package_request.pass.install);
    let asked = install.map(|name| name.split('=').next().unwrap_or(name).to_owned()).collect();
    let actions = std::mem::take(&mut reader.actions);
    let graph = ActionGraph::new(actions)?.taking(Removals::of(recipe, taken(recipe), asked));
    let Reader { layers, described, .. } = reader;
    Ok(StageGraph { graph, layers, described })
}

/// Default drivers that the recipe takes away by `-name`.
fn taken(recipe: &Recipe) -> BTreeMap<String, Taken> {
    let list = "kernel.drivers";
    let items = recipe.model.kernel.drivers.iter().enumerate().filter(|(_, item)| item.starts_with('-'));
    let entry = |(index, item): (usize, &String)| {
        let name = format!("driver {}", item.trim_start_matches('-'));
        let place = recipe.spans.get(&format!("{list}[{index}]")).map(Place::from);
        (name, (format!("driver {item}"), place, Origin::Item(list.to_owned())))
    };
    items.map(entry).collect()
}
