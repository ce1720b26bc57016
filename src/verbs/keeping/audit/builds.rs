//! The builds that nodes boot and run, and what they are made of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::Arguments;
use super::files;
use super::subjects::{Audited, Known, component_of, of_lock, with_sources};
use crate::Exit;
use crate::output::render;
use crate::output::reporter::Reporter;
use crate::published::published_here;
use crate::setup::{read_selection, store_if_there};
use crate::verbs::nodes::{failed, open};
use advisories::source_of_deb;
use base::digest::{Digest, Sha256};
use bill::{BUILD, Contents, Directory, Image};
use build::diff::{Packages, Side};
use build::{BuildInfo, LOCK_NAME, Report};
use nodes::{Boots, NodeSet};
use recipe::{Lock, is_meant};
use store::Store;

/// A build, as it is found on its way: who boots it, who runs it.
#[derive(Default)]
struct Wanted {
    directory: Option<PathBuf>,
    boots: Vec<String>,
    runs: Vec<String>,
}

/// The builds that nodes of a range boot and run, and what is not known.
pub(super) fn of_nodes(
    arguments: &crate::Arguments,
    own: &Arguments,
    range: &str,
) -> Result<(Vec<Audited>, Vec<String>), Exit> {
    let site = open(arguments, &own.state)?;
    let set = site.select(Some(range), arguments.verbose)?;
    if let Some(problem) = site.other_server() {
        render::say(&format!("warning: {problem}"));
    }
    let assigned = site.state.assignments().map_err(failed)?;
    let reports = site.state.reports();
    let synced = site.state.synced();
    let mut builds: BTreeMap<(String, String), Wanted> = BTreeMap::new();
    let (mut unset, mut unsure, mut silent, mut changed) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for node in set.iter() {
        let boots = assigned.nodes.get(node).map(|one| &one.boots);
        match boots {
            Some(Boots::Image { image, build, directory }) => {
                let wanted = builds.entry((image.clone(), build.clone())).or_default();
                wanted.directory = Some(directory.clone());
                wanted.boots.push(node.to_owned());
            }
            Some(Boots::Disk | Boots::Nothing) => {}
            None => unset.push(node.to_owned()),
        }
        let Some(report) = reports.get(node) else {
            if boots.is_some_and(|boots| matches!(boots, Boots::Image { .. })) {
                silent.push(node.to_owned());
            }
            continue;
        };
        if synced.get(node).is_some_and(|synced| synced.counts(report)) {
            changed.push(node.to_owned());
        }
        match (&report.image, &report.build) {
            (Some(image), Some(build)) => {
                builds.entry((image.clone(), build.clone())).or_default().runs.push(node.to_owned());
            }
            _ if boots.is_some() => unsure.push(node.to_owned()),
            _ => {}
        }
    }
    if let Some(pattern) = own.images.iter().find(|one| !builds.keys().any(|(image, _)| is_meant(one, image))) {
        render::say(&format!(
            "error: no node of {range} boots or runs an image that `{}` means\n  help: `imgbuild nodes {range}` shows which images they have",
            pattern.escape_debug()
        ));
        return Err(Exit::Input);
    }
    if !own.images.is_empty() {
        builds.retain(|(image, _), _| own.images.iter().any(|one| is_meant(one, image)));
    }
    // Whether they run at all is not known: what they start next was looked at.
    if !silent.is_empty() {
        render::say(&format!("note: {} never reported: only what they boot next is compared", NodeSet::of(silent)));
    }
    if !changed.is_empty() {
        render::say(&format!(
            "note: {} got files or packages by `imgbuild sync` since the start: the builds are compared, not what was brought",
            NodeSet::of(changed)
        ));
    }
    let mut unknown = Vec::new();
    if !unset.is_empty() {
        let nodes = NodeSet::of(unset);
        unknown.push(format!("`imgbuild nodeset` has not given {nodes} a build yet: what they boot is unknown"));
    }
    if !unsure.is_empty() {
        unknown.push(format!("{} reported without saying which build they run", NodeSet::of(unsure)));
    }
    let store = store_if_there(arguments);
    let recipes = read_selection(arguments, &[]).map(|selected| selected.recipes).unwrap_or_default();
    let published = published_here(arguments, true);
    let mut all = Vec::new();
    let reporter = Reporter::new(arguments);
    let count = builds.len();
    for (at, ((image, build), wanted)) in builds.into_iter().enumerate() {
        reporter.of(None).progress(&format!("reading {image}@{build} ({} of {count} builds)", at + 1));
        let beside = || {
            let place = published.iter().find(|place| place.name == image)?;
            Some(place.out.join(".builds").join(&image).join(&build))
        };
        // What nodes say is a name in a directory of builds, and no path.
        let is_name = build.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let directory = wanted.directory.or_else(|| beside().filter(|_| is_name));
        let recipe = recipes.iter().find(|recipe| recipe.model.image.name == image);
        let nodes = |names: Vec<String>| (!names.is_empty()).then(|| NodeSet::of(names));
        let (boots, runs) = (nodes(wanted.boots), nodes(wanted.runs));
        let is_there = directory.as_ref().is_some_and(|directory| directory.join("build.json").is_file());
        let audited = directory.and_then(|directory| of_build(store.as_ref(), &image, &directory).transpose());
        let audited = audited.transpose().inspect_err(|_| reporter.end())?;
        let Some(audited) = audited else {
            unknown.push(gone(&image, &build, [boots.as_ref(), runs.as_ref()], is_there));
            continue;
        };
        let recipe = recipe.cloned();
        all.push(Audited { build: Some(build), boots, runs, recipe, ..audited });
    }
    reporter.end();
    Ok((all, unknown))
}

/// What is said of a build that was not looked at. Who only runs it has been given another one: a restart brings that.
fn gone(image: &str, build: &str, [boots, runs]: [Option<&NodeSet>; 2], is_there: bool) -> String {
    let problem = match is_there {
        true => "cannot be read: neither a lock, the store nor its packed image has its packages",
        false => "no longer exists",
    };
    let both: Vec<String> = boots.into_iter().chain(runs).flat_map(NodeSet::iter).map(str::to_owned).collect();
    let who = NodeSet::of(both);
    let remedy = match boots {
        Some(boots) => format!("`imgbuild nodeset {boots} {image}` gives them the published one"),
        None => format!("`imgbuild nodes {who} --needs` shows how to bring them to the build that they boot next"),
    };
    format!("the build {build} of `{image}`, which {who} has, {problem}; {remedy}")
}

/// What a build has: by the lock that was pulled with it, by the records of its layers, or by the package database of the packed
/// image; none where it is gone.
fn of_build(store: Option<&Store>, image: &str, directory: &Path) -> Result<Option<Audited>, Exit> {
    let Some(info) = BuildInfo::read(directory) else { return Ok(None) };
    let contents = contents_of(directory);
    let files = files::of_contents(contents.as_ref());
    let path = directory.join(LOCK_NAME);
    if let Ok(bytes) = std::fs::read(&path) {
        let lock = Lock::parse_bytes(&path.display().to_string(), bytes)
            .map_err(|error| render::refused(Exit::Input, error))?;
        let mut audited = of_lock(image, &lock, store, &info.own_drivers)?;
        audited.add_files(files);
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        return Ok(Some(Audited { lock: Some((path, text)), ..audited }));
    }
    let of_packages = |packages: Packages| -> Vec<Known> {
        let known = packages.all.into_iter().map(|(package, digest)| Known {
            component: component_of(None, &package.name, &package.version, &package.arch),
            sha256: digest.and_then(|digest| Sha256::parse(&digest).ok()),
            file: String::new(),
            source: None,
        });
        known.collect()
    };
    let of_side = || Side::of_path(image, directory).ok()?.packages.map(of_packages);
    let (known, from) = match store.and_then(|store| of_records(store, directory, &info)) {
        Some(packages) => (of_packages(packages), "records"),
        None => match of_database(contents.as_ref()).or_else(of_side) {
            Some(known) => (known, "image"),
            None => return Ok(None),
        },
    };
    let mut audited = with_sources(image, &info.target, known, store, &info.own_drivers)?;
    audited.add_files(files);
    Ok(Some(Audited { from, ..audited }))
}

/// What the packed image holds; none where it cannot be read.
fn contents_of(directory: &Path) -> Option<Contents> {
    let directory = Directory::open(directory).ok()?;
    let image = Image::read(&directory.text(BUILD).ok()?).ok()?;
    let (packed, _) = image.packed().into_iter().next()?;
    Contents::of_image(&directory.file(&packed.name).ok()?).ok()
}

/// Packages of the packed image by its package database, with the sources that dpkg's has.
fn of_database(contents: Option<&Contents>) -> Option<Vec<Known>> {
    Some(contents?.packages.as_ref()?.iter().map(known_of).collect())
}

/// A package of a package database.
fn known_of(package: &bill::Package) -> Known {
    let bill::Package { name, version, architecture, source, .. } = package;
    let source = source.as_ref().map(|source| match source.version.is_empty() || source.version == *version {
        true => source_of_deb(name, version, Some(&source.name)),
        false => source_of_deb(name, version, Some(&format!("{} ({})", source.name, source.version))),
    });
    Known { component: component_of(None, name, version, architecture), sha256: None, file: String::new(), source }
}

/// Packages by the records of a build's layers, where the store has all of them; none where a container image is among them, whose packages
/// no record names.
fn of_records(store: &Store, directory: &Path, info: &BuildInfo) -> Option<Packages> {
    let directory = directory.canonicalize().ok()?;
    let mut ends = store.builds_of_all().into_iter().flatten().filter_map(|build| build.end);
    let keys = ends.rfind(|end| end.published.as_deref() == Some(&directory))?.keys;
    let mut inputs = Vec::new();
    for (action, _) in info.layers.iter().filter(|(action, _)| action.starts_with("rootfs/")) {
        let key: &Digest = keys.get(action)?;
        inputs.extend(store.record(key)?.inputs);
    }
    if inputs.iter().any(|input| is_of_container(&input.name)) {
        return None;
    }
    let inputs = inputs.iter().map(|input| (input.name.as_str(), input.value.as_str()));
    Some(Packages::of_inputs(&info.target, inputs)).filter(|packages| !packages.all.is_empty())
}

/// Whether an input of a layer's record is a layer of a container image.
fn is_of_container(input: &str) -> bool {
    input.starts_with("container layer ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_image_has_packages_that_no_record_names() {
        assert!(is_of_container("container layer 2"));
        assert!(!is_of_container("container manifest") && !is_of_container("package container layer"));
    }

    #[test]
    fn who_runs_a_build_that_is_gone_is_not_given_the_one_that_it_has() {
        let set = |text: &str| NodeSet::of([text.to_owned()]);
        let (one, two) = (set("cn001"), set("cn002"));
        let both = gone("compute", "abc", [Some(&one), Some(&two)], false);
        assert!(both.contains("which cn[001-002] has, no longer exists; `imgbuild nodeset cn001 compute`"), "{both}");
        let runs = gone("compute", "abc", [None, Some(&two)], false);
        assert!(runs.contains("`imgbuild nodes cn002 --needs`") && !runs.contains("nodeset"), "{runs}");
    }
}
