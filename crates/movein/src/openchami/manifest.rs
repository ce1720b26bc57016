//! image-thrillhouse's manifests: layers, each with its configuration and the values of its variables.

use std::collections::BTreeMap;

use recipe::Arch;

use super::thrillhouse::TOOL;
use super::{Layer, template};
use crate::input::yaml::{self, Node};
use crate::plan::{Key, leaves};
use crate::{MoveError, MoveRequest};

/// The layers of a manifest for one CPU, each with its rendered configuration; parents first, as the manifest has them.
/// Errors: [`MoveError`].
pub(super) fn layers<'a>(
    request: &MoveRequest,
    manifest: &Layer<'a>,
    document: &Node,
) -> Result<Vec<(Layer<'a>, Node)>, MoveError> {
    let arch = request.arch.unwrap_or_default();
    let wrong =
        |line: usize, problem: String, help: &str| MoveError::input(format!("{}:{line}", manifest.file), problem, help);
    let mut followed: Vec<Key> = Vec::new();
    let mut shared = BTreeMap::from([("arch".to_owned(), arch.machine().to_owned())]);
    let architectures = document.get("architectures").map(Node::items).unwrap_or_default();
    if !architectures.is_empty() {
        let own =
            architectures.iter().find(|one| one.get("name").and_then(Node::text).and_then(Arch::named) == Some(arch));
        let names =
            architectures.iter().filter_map(|one| one.get("name").and_then(Node::text)).collect::<Vec<_>>().join(", ");
        let own = own.ok_or_else(|| {
            wrong(document.line, format!("has no {}", arch.machine()), &format!("pass --arch with one of: {names}"))
        })?;
        variables(request, manifest, own.get("var_files"), &mut shared, &mut followed)?;
    }
    let unknown = |key: Key| (key, format!("unknown: {TOOL} does not read it either"));
    let others = document.entries().iter().filter(|entry| !["architectures", "layers"].contains(&entry.key.as_str()));
    let mut notes: Vec<(Key, String)> = others.map(|entry| unknown(manifest.entry("", entry))).collect();
    for one in &architectures {
        let others = one.entries().iter().filter(|entry| !["name", "var_files"].contains(&entry.key.as_str()));
        notes.extend(others.map(|entry| unknown(manifest.entry("architectures", entry))));
    }
    let mut found: Vec<(Layer<'a>, Node)> = Vec::new();
    for layer in document.get("layers").map(Node::items).unwrap_or_default() {
        let text = |key: &str| layer.get(key).and_then(Node::text).unwrap_or_default();
        let is_of = layer
            .get("arches")
            .is_none_or(|arches| arches.items().iter().any(|one| one.text().and_then(Arch::named) == Some(arch)));
        let key = manifest.key(layer.line, "layers", text("name"));
        if !is_of {
            notes.push((key, format!("not for {}: pass --arch to import it", arch.machine())));
            continue;
        }
        let known = ["name", "config", "var_files", "depends_on", "arches"];
        let others = layer.entries().iter().filter(|entry| !known.contains(&entry.key.as_str()));
        notes.extend(others.map(|entry| unknown(manifest.entry("layers", entry))));
        let mut values = shared.clone();
        variables(request, manifest, layer.get("var_files"), &mut values, &mut followed)?;
        values.insert("tag".to_owned(), "imported".to_owned());
        values.insert("parent_tag".to_owned(), "imported".to_owned());
        for parent in layer.get("depends_on").map(Node::items).unwrap_or_default() {
            values
                .insert(format!("{}_tag", parent.text().unwrap_or_default().replace('-', "_")), "imported".to_owned());
        }
        let config = text("config");
        let (root, path) = manifest
            .roots
            .find(&manifest.folder, config)
            .map_err(|problem| wrong(layer.line, problem, "name the layer's file in `config`"))?;
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder).to_owned();
        let above = manifest.file.rsplit_once('/').map_or(String::new(), |(above, _)| format!("{above}/"));
        let file = format!("{above}{config}");
        let text = request.text(&root, &path)?;
        let Some(filled) = template::filled(&text, &values) else {
            let names = template::variables(&text).join(", ");
            return Err(MoveError::input(
                file,
                format!("a template with variables or instructions that are not known: {names}"),
                "import what `image-thrillhouse render` prints",
            ));
        };
        let node = yaml::document(&filled)
            .map_err(|(line, problem)| MoveError::input(format!("{file}:{line}"), problem, "correct the file"))?;
        let node = node.ok_or_else(|| MoveError::input(&file, "it is empty", "correct the file"))?;
        let folder = if std::sync::Arc::ptr_eq(&root, &manifest.roots.own) { folder } else { manifest.folder.clone() };
        let (notes, followed) = (std::mem::take(&mut notes), std::mem::take(&mut followed));
        found.push((Layer { roots: manifest.roots, folder, file, notes, followed }, node));
    }
    if let Some((last, _)) = found.last_mut() {
        last.notes.append(&mut notes);
    }
    // What the manifest itself says, with the first of its layers.
    if let Some((first, _)) = found.first_mut() {
        let all = leaves(&manifest.file, document).into_iter().map(|leaf| leaf.key);
        first.followed.extend(all.filter(|key| is_known(&key.key)));
    }
    Ok(found)
}

/// Values of files of variables; later ones count.
fn variables(
    request: &MoveRequest,
    manifest: &Layer<'_>,
    files: Option<&Node>,
    values: &mut BTreeMap<String, String>,
    followed: &mut Vec<Key>,
) -> Result<(), MoveError> {
    for file in files.map(Node::items).unwrap_or_default() {
        let name = file.text().unwrap_or_default();
        let place = || format!("{}:{}", manifest.file, file.line);
        let (root, path) = manifest
            .roots
            .find(&manifest.folder, name)
            .map_err(|problem| MoveError::input(place(), problem, "name the file in `var_files`"))?;
        let text = request.text(&root, &path)?;
        let node = yaml::document(&text)
            .map_err(|(line, problem)| MoveError::input(format!("{name}:{line}"), problem, "correct the file"))?;
        for entry in node.iter().flat_map(Node::entries) {
            followed.push(Key::new(name, entry.line, &entry.key, entry.node.shown()));
            if let Some(text) = entry.node.text() {
                values.insert(entry.key.clone(), text.to_owned());
            }
        }
    }
    Ok(())
}

/// Whether a key of a manifest is one that image-thrillhouse has.
fn is_known(key: &str) -> bool {
    let name = key.split_once("].").map_or("", |(_, name)| name.split(['[', '.']).next().unwrap_or(name));
    ["name", "config", "var_files", "depends_on", "arches"].contains(&name)
}
