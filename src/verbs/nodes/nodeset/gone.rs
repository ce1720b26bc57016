//! Nodes that nodes.toml no longer has: renamed or removed ones. Their files give way to those of nodes that are there, and
//! `nodeset --clear` removes what is left of them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use super::builds::{correct_pins, note_pins};
use super::{Arguments, Outcome, files, refused};
use crate::Exit;
use crate::output::render;
use crate::verbs::nodes::{Site, failed};
use base::source::counted_as;
use nodes::deploy::Served;
use nodes::loaders::NodeFiles;
use nodes::{Assignments, NodeSet, StateError};

/// Takes files from nodes that are no longer there, where others want them: which nodes, and for whom. Nodes that this state gave nothing
/// may be another workspace's: only with `force`.
pub(super) fn give_way(
    site: &Site,
    (served, old): (&Served, &Assignments),
    files: &mut BTreeMap<String, NodeFiles>,
    force: bool,
) -> BTreeMap<String, String> {
    let mut wanted: BTreeMap<&str, &str> = BTreeMap::new();
    for (node, of_node) in files.iter() {
        wanted.extend(of_node.paths.iter().map(|path| (path.as_str(), node.as_str())));
    }
    let is_ours = |node: &str| force || old.nodes.contains_key(node);
    let gone = served.files().filter(|(node, _)| site.nodes.span_of(node).is_none() && is_ours(node));
    let taken = gone.filter_map(|(node, paths)| {
        let by = paths.iter().find_map(|path| wanted.get(path.as_str()))?;
        Some((node.to_owned(), (*by).to_owned()))
    });
    let taken: BTreeMap<String, String> = taken.collect();
    files.extend(taken.keys().map(|node| (node.clone(), NodeFiles::default())));
    taken
}

/// Says of which nodes something is left.
pub(super) fn say_left(site: &Site, assigned: &Assignments) {
    let left = assigned.nodes.keys().filter(|node| site.nodes.span_of(node).is_none());
    let left = NodeSet::of(left.cloned());
    if !left.is_empty() {
        render::say(&format!(
            "note: {left} no longer in {}, but loader files or pinned builds are left: `imgbuild nodeset --clear` removes them",
            site.nodes.file.name
        ));
    }
}

/// Removes the files, the pins and the reports of nodes that nodes.toml no longer has.
pub(super) fn clear(arguments: &crate::Arguments, own: &Arguments, site: &Site) -> Outcome<()> {
    let _turn = match own.dry_run {
        true => None,
        false => Some(site.state.turn().map_err(failed)?),
    };
    if !own.dry_run {
        site.state.settle().map_err(failed)?;
    }
    let is_gone = |node: &str| site.nodes.span_of(node).is_none();
    let reports = site.state.reports();
    let reads = reports.iter().filter(|(node, report)| is_gone(node) && report.reads_root_from().is_some());
    let reads = NodeSet::of(reads.map(|(node, _)| node.clone()));
    if !reads.is_empty() && !own.force && !own.dry_run {
        return Err(refused(
            &format!(
                "{reads} read their root from a build over the network, as they reported last, and hang without it\n  help: shut them down first, or run this with --force"
            ),
            Exit::Input,
        ));
    }
    let mut assigned = site.state.assignments().map_err(failed)?;
    let mut outs: BTreeSet<PathBuf> = assigned.nodes.values().map(|one| one.out.clone()).collect();
    outs.extend(files::known_out(own, site));
    // Others may be another workspace's.
    let ours: BTreeSet<String> = assigned.nodes.keys().cloned().collect();
    let is_ours = |node: &str| is_gone(node) && (own.force || ours.contains(node));
    let mut cleared: BTreeSet<String> = site.state.kept_names().into_iter().filter(|node| is_gone(node)).collect();
    for out in outs {
        let served = Served::open(&out).map_err(failed)?;
        let gone: BTreeMap<String, NodeFiles> = served
            .files()
            .filter(|(node, _)| is_ours(node))
            .map(|(node, _)| (node.to_owned(), NodeFiles::default()))
            .collect();
        if gone.is_empty() {
            if !own.dry_run && !fault::planted("clear-leaves-links") {
                served.tidy();
            }
            continue;
        }
        let names = served.changes(&gone, false).gone.len();
        let nodes = NodeSet::of(gone.keys().cloned());
        let (shown, names) = (out.display(), counted_as(names, "name", "names"));
        cleared.extend(gone.keys().cloned());
        if own.dry_run {
            render::say(&format!("would remove from {shown}: {names} of {nodes}"));
            continue;
        }
        let old = assigned.clone();
        assigned.nodes.retain(|node, one| !(gone.contains_key(node) && one.out == out));
        let written: Result<(), StateError> = (|| {
            let mut pending = served.write(&gone)?;
            site.state.announce(&assigned, pending.turn())?;
            pending.link(false)?;
            pending.take()?;
            site.state.settle()
        })();
        if let Err(error) = written {
            let _ = site.state.settle();
            return Err(failed(error));
        }
        fault::point("clear.settled");
        note_pins(&site.state, &assigned, &old)?;
        render::say(&format!("removed from {shown}: {names} of {nodes}"));
    }
    let old = assigned.clone();
    assigned.nodes.retain(|node, _| !is_gone(node));
    cleared.extend(old.nodes.keys().filter(|node| is_gone(node)).cloned());
    let nodes = NodeSet::of(cleared.iter().cloned());
    let what = "what they boot, their reports and results of scripts";
    match (nodes.is_empty(), own.dry_run) {
        (true, _) => render::say(&format!("nothing is left of nodes that {} does not have", site.nodes.file.name)),
        (_, true) => render::say(&format!("would forget {nodes}: {what}")),
        _ => {}
    }
    if own.dry_run {
        return Ok(());
    }
    if assigned != old {
        site.state.set_assignments(&assigned).map_err(failed)?;
    }
    fault::point("clear.assigned");
    correct_pins(arguments, &site.state, &assigned, &old)?;
    fault::point("clear.pinned");
    cleared.iter().for_each(|node| site.state.forget_all(node));
    if !nodes.is_empty() {
        render::say(&format!("forgot {nodes}: {what}"));
    }
    Ok(())
}
