//! Detects published files and layers modified outside imgbuild.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::artefacts::{SUMS, newer_build, published, sha256_of, sums};
use super::otherwise::published_elsewhere;
use crate::StageError;
use base::digest::{Digest, Sha256};
use sandbox::Namespace;
use store::{DamagedLayer, Root, Store};

/// Something that is not as a build left it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Drift {
    /// `published` for a file of the artefacts, `store` for a layer.
    pub place: String,
    /// The file, or the layer's action.
    pub name: String,
    /// What is wrong.
    pub problem: String,
}

/// What says of a file, without reading it, that no one touched it: size, times and inode.
fn stamp(path: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let found = witness::metadata(path).ok()?;
    let (time, change) = ((found.mtime(), found.mtime_nsec()), (found.ctime(), found.ctime_nsec()));
    Some(format!("{} {}.{:09} {}.{:09} {}", found.len(), time.0, time.1, change.0, change.1, found.ino()))
}

/// Stamps of all published files, to be kept with the build.
pub(crate) fn stamps(directory: &Path, names: impl IntoIterator<Item = String>) -> BTreeMap<String, String> {
    names.into_iter().filter_map(|name| Some((name.clone(), stamp(&directory.join(name))?))).collect()
}

/// Published files that are gone or changed; only those whose stamp is another one are read. Where the last build was
/// published elsewhere, nothing is missing.
pub fn drift_of_artefacts(out: &Path, name: &str, root: Option<&Root>) -> Vec<Drift> {
    let said = |name: &str, problem: &str| Drift {
        place: "published".to_owned(),
        name: name.to_owned(),
        problem: problem.to_owned(),
    };
    let Some((directory, info)) = published(out, name) else {
        let is_newer = newer_build(out, name).is_err();
        if !is_newer && root.is_some_and(|root| published_elsewhere(out, name, root).is_some()) {
            return Vec::new();
        }
        let problem = if is_newer { "was written by a later imgbuild" } else { "is missing" };
        return vec![said("build.json", problem)];
    };
    let mut found = Vec::new();
    // The directory is named after build.json.
    let text = witness::read(&directory.join("build.json")).unwrap_or_default();
    if directory.file_name().and_then(|name| name.to_str()) != Some(&Sha256::of(&text).short()) {
        found.push(said("build.json", "was modified"));
    }
    if witness::read_to_string(&directory.join(SUMS)).unwrap_or_default() != sums(&info.artefacts) {
        found.push(said(SUMS, "is missing or was modified"));
    }
    for artefact in &info.artefacts {
        let path = directory.join(&artefact.name);
        let known = root.filter(|root| root.published == directory).and_then(|root| root.stamps.get(&artefact.name));
        match stamp(&path) {
            None => found.push(said(&artefact.name, "is missing")),
            Some(now) if Some(&now) == known => {}
            Some(_) => {
                let size = witness::metadata(&path).map_or(0, |metadata| metadata.len());
                if size != artefact.size || !sha256_of(&path).is_ok_and(|digest| digest == artefact.sha256) {
                    found.push(said(&artefact.name, "was modified"));
                }
            }
        }
    }
    found
}

/// Layers of the last build whose directories are not what their manifests say; all their files are read.
/// Errors: [`StageError::Sandbox`] when there is no namespace to look from.
pub fn drift_of_layers(store: &Store, namespace: &Namespace, root: &Root) -> Result<Vec<(Digest, Drift)>, StageError> {
    let mut names: BTreeMap<Digest, String> = BTreeMap::new();
    for (action, key) in &root.actions {
        if let Some(layer) =
            store.record(key).and_then(|record| record.outputs.layer).filter(|one| store.has_layer(one))
        {
            names.entry(layer).or_insert_with(|| action.clone());
        }
    }
    let layers: Vec<Digest> = names.keys().copied().collect();
    let damaged: Vec<DamagedLayer> = namespace.call("check-layers", &layers, &mut |_| {})?;
    Ok(damaged
        .into_iter()
        .map(|damaged| {
            let name = names.get(&damaged.layer).cloned().unwrap_or_default();
            (damaged.layer, Drift { place: "store".to_owned(), name, problem: damaged.problem })
        })
        .collect())
}

/// Takes damaged layers out of the store, so that the next build makes them again. Gives what was wrong.
pub fn remove_damaged_layers(store: &Store, namespace: &Namespace, root: &Root) -> Result<Vec<Drift>, StageError> {
    let damaged = drift_of_layers(store, namespace, root)?;
    let layers: Vec<Digest> = damaged.iter().map(|(layer, _)| *layer).collect();
    crate::inside::removal::remove_layers(store, namespace, &layers)?;
    Ok(damaged.into_iter().map(|(_, drift)| drift).collect())
}
