//! What a rebuild would change against the node that a recipe was captured from.

use std::collections::BTreeMap;

use crate::lock::packages::{MovedPackage, Package, Packages, compare as compare_packages};
use recipe::{Lock, Recipe};

const NAMED: usize = 6;

/// A note, where the recipe was captured; `lock` is what the image gets, where that is known.
pub(super) fn against_node(recipe: &Recipe, lock: Option<&Lock>) -> Option<String> {
    let captured = recipe.captured.as_ref()?;
    let Some(lock) = lock else {
        return Some(format!("differences from the captured node are shown once {} exists", recipe.lock_name()));
    };
    let now = Packages::of_lock(lock);
    let package = |[name, version, arch]: &[String; 3]| {
        let package = Package { name: name.clone(), arch: arch.clone(), version: version.clone() };
        (package, None)
    };
    let node = Packages { family: now.family, all: captured.iter().map(package).collect::<BTreeMap<_, _>>() };
    let found = compare_packages(&node, &now);
    let moved = |one: &MovedPackage| format!("{} {} -> {}", one.name, one.was, one.now);
    let whole = |one: &Package| format!("{} {}", one.name, one.version);
    let parts: Vec<String> = [
        ("newer", found.upgraded.iter().map(moved).collect::<Vec<_>>()),
        ("older", found.downgraded.iter().map(moved).collect()),
        ("only on the node", found.removed.iter().map(whole).collect()),
        ("only in the image", found.added.iter().map(whole).collect()),
    ]
    .into_iter()
    .filter(|(_, names)| !names.is_empty())
    .map(|(what, names)| {
        let more = if names.len() > NAMED { format!(", and {} more", names.len() - NAMED) } else { String::new() };
        format!("{} {what} ({}{more})", names.len(), names[..names.len().min(NAMED)].join(", "))
    })
    .collect();
    Some(match parts.is_empty() {
        true => format!("all {} packages match the captured node", captured.len()),
        false => format!("packages against the captured node: {}", parts.join("; ")),
    })
}
