//! What `nodeset` says.

use std::collections::BTreeMap;

use serde_json::json;

use super::{Arguments, Outcome};
use crate::output::render;
use crate::verbs::nodes::{Site, failed, table};
use base::source::counted_as;
use nodes::deploy::Changes;
use nodes::{Assigned, Boots, NodeSet};

/// What a node boots, as the first line of its file says it.
fn state(boots: &Boots) -> String {
    match boots {
        Boots::Image { image, build, .. } => format!("netboot {image}@{build}"),
        Boots::Disk => "boot".to_owned(),
        Boots::Nothing => "offline".to_owned(),
    }
}

/// A line for each node: what it boots.
pub(super) fn stat(site: &Site, set: &NodeSet, as_json: bool) -> Outcome<()> {
    let assigned = site.state.assignments().map_err(failed)?;
    if as_json {
        let nodes: BTreeMap<&str, Option<&Assigned>> =
            set.iter().map(|name| (name, assigned.nodes.get(name))).collect();
        let document = json!({"format_version": "1.0", "nodes": nodes});
        render::print_json(&format!("{document:#}\n"));
        return Ok(());
    }
    let line = |name: &str| {
        let state = assigned.nodes.get(name).map_or_else(|| "unset".to_owned(), |one| state(&one.boots));
        format!("{name}: {state}\n")
    };
    render::print(&set.iter().map(line).collect::<String>());
    Ok(())
}

pub(super) fn done(
    own: &Arguments,
    wanted: &BTreeMap<String, Assigned>,
    moved: &NodeSet,
    changes: &Changes,
    is_dry: bool,
) -> Outcome<()> {
    if own.is_quiet {
        return Ok(());
    }
    if own.json {
        let nodes: Vec<_> = wanted
            .iter()
            .map(|(name, one)| json!({"name": name, "moved": moved.contains(name), "assigned": one}))
            .collect();
        let written: Vec<&str> = changes.changed.iter().map(|one| one.path.as_str()).collect();
        let document = json!({
            "format_version": "1.0", "dry_run": is_dry, "nodes": nodes,
            "changed": written, "new": changes.new, "removed": changes.gone,
        });
        render::print_json(&format!("{document:#}\n"));
        return Ok(());
    }
    let mut groups: BTreeMap<String, NodeSet> = BTreeMap::new();
    for (name, one) in wanted {
        let what = table::boots(Some(one), None);
        let key = if moved.contains(name) { format!("{what} by {}", one.loader) } else { format!("{what} as before") };
        groups.entry(key).or_default().insert(name);
    }
    let would = if is_dry {
        "would boot"
    } else if wanted.len() == 1 {
        "boots"
    } else {
        "boot"
    };
    for (what, nodes) in groups {
        render::say(&format!("{nodes} {would} {what}"));
    }
    let would = if is_dry { "would be written" } else { "written" };
    let files = |count: usize| counted_as(count, "file", "files");
    render::say(&format!(
        "{} {would}, {} new, {} removed",
        files(changes.changed.len()),
        counted_as(changes.new.len(), "name", "names"),
        changes.gone.len()
    ));
    Ok(())
}
