//! What each node of a range is to have, by nodes.toml, its image's recipe and lock.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use super::Arguments;
use crate::Exit;
use crate::output::render;
use crate::setup::{chosen_to_look, print_findings, store_directory};
use crate::verbs::nodes::{Site, failed, open, root_of};
use base::source::{Finding, Severity};
use build::{LockState, lock_state};
use nodes::{Boots, NodeSet};
use recipe::{PinnedPackage, Recipe};
use store::Store;
use sync::{Job, Packages, orders, wanted};

/// What nodes are to get.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parts {
    pub files: bool,
    pub packages: bool,
    /// Scripts: named ones, or those of the lists.
    pub scripts: Option<Option<Vec<String>>>,
}

pub(super) fn jobs(arguments: &crate::Arguments, own: &Arguments) -> Result<Vec<Job>, Exit> {
    let site = open(arguments, &own.state)?;
    if let Some(problem) = site.other_server() {
        render::say(&format!("error: {problem}"));
        return Err(Exit::Input);
    }
    let set = site.select(Some(&own.range), arguments.verbose)?;
    let parts = Parts { files: own.wants_files(), packages: own.packages, scripts: own.named() };
    jobs_of(arguments, &site, &images(&site, &set)?, &parts)
}

/// What nodes are to get of the images that stand beside their names, in the order of the names.
/// Errors: The exit code, after what is wrong with recipes or lists was printed.
pub(crate) fn jobs_of(
    arguments: &crate::Arguments,
    site: &Site,
    images: &BTreeMap<String, String>,
    parts: &Parts,
) -> Result<Vec<Job>, Exit> {
    let names: BTreeSet<String> = images.values().cloned().collect();
    let names: Vec<String> = names.into_iter().collect();
    let recipes = chosen_to_look(arguments, &names)?;
    let reported = |findings: Vec<Finding>| {
        print_findings(&findings, arguments.verbose);
        Exit::Input
    };
    let mut jobs: Vec<Job> = images.iter().map(|(node, image)| Job::of(node, image)).collect();
    if parts.files {
        let (found, findings) = wanted(&site.nodes, images, &recipes).map_err(reported)?;
        print_findings(&findings, arguments.verbose);
        jobs = found;
    }
    if parts.packages {
        let packages = packages(arguments, &recipes)?;
        jobs.iter_mut().for_each(|job| job.packages = packages.get(&job.image).map(Arc::clone));
    }
    if let Some(named) = &parts.scripts {
        let root = root_of(&arguments.directory);
        let orders = orders(&site.nodes, &root, images, &recipes, named.as_deref()).map_err(reported)?;
        jobs.iter_mut().for_each(|job| job.order = orders.get(&job.node).map(Arc::clone));
    }
    for job in &mut jobs {
        job.address = site.nodes.get(&job.node).and_then(|node| node.ip());
        job.host_keys = site.state.host_keys(&job.node);
    }
    let set = NodeSet::of(images.keys().map(String::as_str));
    let order: BTreeMap<&str, usize> = set.iter().enumerate().map(|(index, name)| (name, index)).collect();
    jobs.sort_by_key(|job| order.get(job.node.as_str()).copied());
    Ok(jobs)
}

/// The image of each node: what `nodeset` gave it, or what the file says.
fn images(site: &Site, set: &NodeSet) -> Result<BTreeMap<String, String>, Exit> {
    let assigned = site.state.assignments().map_err(failed)?;
    let (mut images, mut without) = (BTreeMap::new(), NodeSet::default());
    for name in set.iter() {
        let given = match assigned.nodes.get(name).map(|assigned| &assigned.boots) {
            Some(Boots::Image { image, .. }) => Some(image.clone()),
            _ => site.nodes.get(name).and_then(|node| node.image().map(str::to_owned)),
        };
        match given {
            Some(image) => drop(images.insert(name.to_owned(), image)),
            None => drop(without.insert(name)),
        }
    }
    if without.is_empty() {
        return Ok(images);
    }
    let file = &site.nodes.file.name;
    render::say(&format!(
        "error: nodes without an image: {without}\n  help: the image says what a node gets: give them ‹image = \"...\"› in {file}, or leave them out: {}!{without}",
        own_range(set)
    ));
    Err(Exit::Input)
}

fn own_range(set: &NodeSet) -> String {
    set.folded()
}

/// The packages of each image's lock, which has to answer its recipe.
fn packages(arguments: &crate::Arguments, recipes: &[Recipe]) -> Result<BTreeMap<String, Arc<Packages>>, Exit> {
    let store = Store::existing(&store_directory(arguments)?);
    let (mut all, mut is_good) = (BTreeMap::new(), true);
    for recipe in recipes {
        let (name, shown) = (&recipe.model.image.name, recipe.lock_shown());
        let lock = match recipe.lock() {
            Ok(lock) => lock,
            Err(error) => {
                print_findings(&[error.finding(&shown, &recipe.lock_path)], arguments.verbose);
                is_good = false;
                continue;
            }
        };
        let why = match (&lock, lock_state(recipe, lock.as_ref())) {
            (_, LockState::Fresh) => None,
            (None, _) => Some(format!("`{name}` has no {shown}: no one knows its packages' versions")),
            (_, LockState::Stale(_)) => Some(format!("{shown} does not answer the recipe of `{name}`")),
            (_, LockState::FilesChanged(_)) => {
                Some(format!("{shown} was made from other package files than those of `{name}` now"))
            }
        };
        let (Some(lock), None) = (lock, &why) else {
            let why = why.unwrap_or_default();
            let help = format!(
                "`imgbuild build {name}` updates it, and fetches what nodes then get; `imgbuild plan {name}` says why"
            );
            let finding = Finding::nowhere(Severity::Error, "sync::lock", why).help(help);
            print_findings(&[finding], arguments.verbose);
            is_good = false;
            continue;
        };
        // A site's own packages are in its directories, too.
        let file = |package: &PinnedPackage| {
            let in_store = store.package(&package.sha256);
            let of_site = |directory: &Option<PathBuf>| directory.as_ref().map(|one| one.join(&package.file));
            let own = of_site(&recipe.otherpkgs_directory).filter(|_| package.origin.starts_with("otherpkgs/"));
            if in_store.is_file() { in_store } else { own.unwrap_or(in_store) }
        };
        let family = recipe.model.image.distro.family();
        let packages = Packages::of(family, (&lock, &shown), &file);
        all.insert(name.clone(), Arc::new(packages));
    }
    if is_good { Ok(all) } else { Err(Exit::Input) }
}
