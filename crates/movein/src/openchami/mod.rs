//! OpenCHAMI's two builders: image-builder's layers (`options`, `packages`, `cmds`), and image-thrillhouse's configurations (`meta`, `layer`)
//! and manifests (`layers`). Sources: `image_config.py`, `layer.py` and `installer.py` of image-builder; `config.go`, `manifest.go` and
//! docs/configuration.md of image-thrillhouse.

mod builder;
mod manifest;
mod template;
mod thrillhouse;

use std::collections::BTreeMap;

use crate::input::roots::Roots;
use crate::input::yaml::{self, Entry, Node};
use crate::plan::{Key, Plan, of_docker};
use crate::{MoveError, MoveRequest};

/// A file as it is read.
pub(super) struct Layer<'a> {
    pub(super) roots: &'a Roots,
    /// The folder of the file, below the root.
    pub(super) folder: String,
    /// The file, as reports name it.
    pub(super) file: String,
    /// What its manifest has that is not translated, and what is to be done.
    pub(super) notes: Vec<(Key, String)>,
    /// What its manifest has that is followed.
    pub(super) followed: Vec<Key>,
}

impl Layer<'_> {
    pub(super) fn key(&self, line: usize, name: impl Into<String>, value: impl Into<String>) -> Key {
        Key::new(&self.file, line, name, value)
    }

    pub(super) fn entry(&self, prefix: &str, entry: &Entry) -> Key {
        let name = if prefix.is_empty() { entry.key.clone() } else { format!("{prefix}.{}", entry.key) };
        self.key(entry.line, name, entry.node.shown())
    }

    /// Texts of a list, each with its key.
    pub(super) fn texts(&self, plan: &mut Plan, name: &str, node: &Node) -> Vec<(Key, String)> {
        let mut found = Vec::new();
        for (at, item) in node.items().into_iter().enumerate() {
            let key = self.key(item.line, format!("{name}[{at}]"), item.shown());
            match item.text() {
                Some(text) => found.push((key, text.trim().to_owned())),
                None => plan.decide(&key, "not a text"),
            }
        }
        found
    }
}

/// The items of an entry, each with its number.
pub(super) fn items(entry: &Entry) -> impl Iterator<Item = (usize, &Node)> {
    entry.node.items().into_iter().enumerate()
}

/// Names of images that other files of this input may have as their parent.
pub(super) type Parents = BTreeMap<String, String>;

/// The recipe or the container image that a layer begins with.
pub(super) fn parent(plan: &mut Plan, key: &Key, parent: &str, parents: &Parents) {
    let reference = parent.split_once("://").map_or(parent, |(_, rest)| rest);
    let name = reference.rsplit('/').next().unwrap_or(reference).split([':', '@']).next().unwrap_or(reference);
    if let Some(image) = parents.get(name).filter(|image| **image != plan.name) {
        plan.extends.push(image.clone());
        return plan.exact(key, "extends", "");
    }
    let is_fine = !reference.is_empty() && reference.chars().all(|c| c.is_ascii_alphanumeric() || "._-:/@".contains(c));
    if !is_fine {
        return plan.decide(key, "not the name of a container image");
    }
    let host = reference.split('/').next().unwrap_or_default();
    let is_of_registry = reference.contains('/') && (host.contains(['.', ':']) || host == "localhost");
    if !is_of_registry && parent.starts_with("docker://") {
        plan.from = Some(format!("oci:{}", of_docker(reference)));
        return plan.exact(key, "image.from", "");
    }
    let is_local = host == "localhost" || !is_of_registry;
    if is_of_registry {
        plan.from = Some(format!("oci:{reference}"));
    }
    match is_local {
        true => plan.decide(key, "a container image of this host, or of no registry: import the file that makes it in the same command, or push it to a registry and name that in [image] from"),
        false => plan.exact(key, "image.from", ""),
    }
}

pub(super) fn plans(request: &MoveRequest) -> Result<Vec<Plan>, MoveError> {
    let mut read = Vec::new();
    for (path, shown) in request.paths.iter().zip(&request.shown) {
        let (roots, name) = request.roots(path)?;
        if name.is_empty() {
            return Err(MoveError::input(shown, "it is a directory", "name the YAML files: those of parents first"));
        }
        let text = request.text(&roots.own, &name)?;
        read.push((roots, shown.clone(), text));
    }
    // Which images there are, before any names its parent.
    let mut sources = Vec::new();
    for (roots, shown, text) in &read {
        let wrong = |(line, problem): (usize, String)| {
            MoveError::input(
                format!("{shown}:{line}"),
                problem,
                "correct the file; for a template with more than variables import what `image-thrillhouse render` prints",
            )
        };
        let layer =
            Layer { roots, folder: String::new(), file: shown.clone(), notes: Vec::new(), followed: Vec::new() };
        let filled = template::filled(text, &BTreeMap::new());
        let document = yaml::document(filled.as_deref().unwrap_or(text)).map_err(wrong)?;
        let document = document.ok_or_else(|| {
            MoveError::input(shown, "it is empty", "name a file of image-builder or image-thrillhouse")
        })?;
        if document.get("layers").is_some() {
            sources.extend(manifest::layers(request, &layer, &document)?);
        } else {
            // image-builder has no templates.
            let document = match filled.is_some() || document.get("options").is_some() {
                true => document,
                false => {
                    let names = template::variables(text).join(", ");
                    let help = "import the manifest that sets them, or what `image-thrillhouse render` prints";
                    return Err(MoveError::input(
                        shown,
                        format!("a template with variables or instructions that are not known: {names}"),
                        help,
                    ));
                }
            };
            sources.push((layer, document));
        }
    }
    let name_of = |document: &Node| {
        let name = document
            .get("options")
            .and_then(|options| options.get("name"))
            .or_else(|| document.get("meta").and_then(|meta| meta.get("name")));
        name.and_then(Node::text).map(str::to_owned)
    };
    let many = sources.len() > 1;
    if many && request.name.is_some() {
        return Err(MoveError::input(
            &request.shown[0],
            "--name is for one image",
            "import one file at a time, or leave it out",
        ));
    }
    let parents: Parents = sources
        .iter()
        .filter_map(|(_, document)| name_of(document))
        .map(|name| (name.clone(), crate::plan::image_name(&name)))
        .collect();
    let mut plans: Vec<Plan> = Vec::new();
    for (layer, document) in &sources {
        // A child is of its parent's release.
        let of_parent = |reference: &str| {
            let name = reference.rsplit('/').next().unwrap_or(reference).split([':', '@']).next().unwrap_or(reference);
            let image = parents.get(name)?;
            plans
                .iter()
                .find(|plan| plan.name == *image)
                .map(|plan| site::osimage::Release { distro: plan.distro, release: plan.release.clone() })
        };
        let plan = match (document.get("options"), document.get("meta")) {
            (Some(_), None) => builder::plan(request, layer, document, &parents, &of_parent)?,
            (_, Some(_)) => thrillhouse::plan(request, layer, document, &parents, &of_parent)?,
            (None, None) => {
                let help =
                    "name a file of image-builder (options, packages), or of image-thrillhouse (meta, layer; layers)";
                return Err(MoveError::input(&layer.file, "it has neither `options` nor `meta`", help));
            }
        };
        plans.push(plan);
    }
    Ok(plans)
}
