//! The root file system of a published image as a container image, with the recipe's layers.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::error::CarryError;
use super::inside::{LayersAnswer, LayersRequest};
use super::push::Parcel;
use super::{CREATED, KERNEL, TARGET, time};
use crate::bench::ids;
use crate::inside::removal::remove_inside;
use crate::published::artefacts::BuildInfo;
use base::digest::Digest;
use oci::{Content, Descriptor, IMAGE_CONFIG, LAYER_GZIP, Manifest, TITLE};
use recipe::Recipe;
use sandbox::Namespace;
use store::Store;

/// How many layers engines take: overlayfs takes more, what starts containers does not.
const MOST_LAYERS: usize = 127;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The document that says how a container is made of layers. Source: image-spec, "OCI Image Configuration".
#[derive(Debug, Serialize)]
struct Config<'a> {
    created: &'a str,
    architecture: &'static str,
    os: &'static str,
    config: Run,
    rootfs: RootFs,
    history: Vec<Past<'a>>,
}

#[derive(Debug, Serialize)]
struct Run {
    #[serde(rename = "Env")]
    environment: Vec<&'static str>,
    #[serde(rename = "Cmd")]
    command: Vec<&'static str>,
    #[serde(rename = "Labels")]
    labels: BTreeMap<&'static str, String>,
}

#[derive(Debug, Serialize)]
struct RootFs {
    #[serde(rename = "type")]
    kind: &'static str,
    diff_ids: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Past<'a> {
    created: &'a str,
    created_by: String,
}

/// As Go names CPUs, and OCI with it.
fn architecture(target: &str) -> &'static str {
    match target.rsplit(' ').next().unwrap_or_default() {
        "aarch64" => "arm64",
        "ppc64le" => "ppc64le",
        _ => "amd64",
    }
}

/// Whether Warewulf finds a kernel among these paths. Source: warewulf, internal/pkg/kernel, 4.7.0: the patterns of its search.
fn has_kernel<'a>(paths: impl IntoIterator<Item = &'a String>) -> bool {
    let is_kernel = |path: &String| {
        let path = path.strip_prefix("usr/").filter(|rest| rest.starts_with("lib/")).unwrap_or(path);
        let parts: Vec<&str> = path.split('/').collect();
        match parts[..] {
            ["boot", name] => name.starts_with("vmlinuz-") || name.starts_with("Image-"),
            ["lib", "modules", _, name] => ["vmlinuz", "vmlinuz.gz"].contains(&name),
            _ => false,
        }
    };
    paths.into_iter().any(is_kernel)
}

/// Makes the container image of what is published, and does something with it; its layers are removed afterwards. `say` gets what was
/// left out.
pub fn with_container<T>(
    (store, namespace): (&Store, &Namespace),
    recipe: &Recipe,
    info: &BuildInfo,
    say: &dyn Fn(&str),
    carry: &mut dyn FnMut(&Parcel) -> Result<T, CarryError>,
) -> Result<T, CarryError> {
    let not_built = |problem: String| CarryError::NotBuilt { image: info.name.clone(), problem };
    let mut layers = Vec::new();
    for (action, digest) in &info.layers {
        let digest = Digest::parse(digest).map_err(|_| not_built(format!("build.json has no digest of `{action}`")))?;
        if !store.has_layer(&digest) {
            return Err(not_built(format!("the store does not have the layer of {action}")));
        }
        layers.push(digest);
    }
    if !is_of_this_list(store, recipe, info) {
        return Err(not_built("its exclude list was edited since it was built".to_owned()));
    }
    let paths = store.paths(&layers)?;
    let excluded = recipe.exclude.apply(&paths).excluded;
    if !has_kernel(paths.keys().filter(|path| !excluded.contains(*path))) {
        say(
            "the image has no kernel that `wwctl image import` finds, as /boot/vmlinuz-VERSION: the exclude list takes it out",
        );
    }
    let scratch = store.scratch()?;
    let to = format!("handover/{}-oci", scratch.name.replace('/', "-"));
    let names = (0..layers.len()).map(|number| format!("{to}-{number}")).collect();
    let request = LayersRequest { layers, excluded, to: to.clone(), epoch: info.epoch };
    let outcome = namespace
        .call::<_, LayersAnswer>("container-layers", &request, &mut |text| say(text))
        .map_err(|error| CarryError::Stage(error.into()))
        .and_then(|answer| {
            if answer.layers.len() > MOST_LAYERS {
                return Err(not_built(format!("it has {} layers; engines take {MOST_LAYERS}", answer.layers.len())));
            }
            if !answer.left_out.is_empty() {
                say(&format!("containers cannot have these, they are left out: {}", answer.left_out.join(", ")));
            }
            carry(&parcel(store, info, &answer, &to))
        });
    let removed = remove_inside(store, namespace, names);
    let carried = outcome?;
    removed?;
    Ok(carried)
}

/// Whether the image was packed with the recipe's exclude list as it is now.
fn is_of_this_list(store: &Store, recipe: &Recipe, info: &BuildInfo) -> bool {
    let Some(root) = store.root(&recipe.directory, &info.name) else { return false };
    let Some(record) = root.actions.get(ids::PACK).and_then(|key| store.record(key)) else { return false };
    let listed = |kind: &str, patterns: &mut dyn Iterator<Item = &str>| -> BTreeSet<String> {
        patterns.map(|pattern| format!("{kind} {pattern}")).collect()
    };
    let mut now = listed("exclude", &mut recipe.exclude.exclude.iter().map(|one| one.text.as_str()));
    now.extend(listed("include", &mut recipe.exclude.include.iter().map(|one| one.text.as_str())));
    let then: BTreeSet<String> = record
        .inputs
        .iter()
        .map(|input| input.name.clone())
        .filter(|name| name.starts_with("exclude ") || name.starts_with("include "))
        .collect();
    then == now
}

fn parcel(store: &Store, info: &BuildInfo, answer: &LayersAnswer, to: &str) -> Parcel {
    let created = time(info.epoch);
    let action = |layer: usize| info.layers.get(layer).map_or("", |(action, _)| action.as_str());
    let labels = BTreeMap::from([
        (TITLE, info.name.clone()),
        (KERNEL, info.kernel_release.clone()),
        (TARGET, info.target.clone()),
    ]);
    let config = Config {
        created: &created,
        architecture: architecture(&info.target),
        os: "linux",
        config: Run { environment: vec![PATH], command: vec!["/bin/sh"], labels },
        rootfs: RootFs {
            kind: "layers",
            diff_ids: answer.layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect(),
        },
        history: answer
            .layers
            .iter()
            .map(|layer| Past { created: &created, created_by: format!("imgbuild {}", action(layer.layer)) })
            .collect(),
    };
    let config = serde_json::to_vec(&config).unwrap_or_default();
    let mut blobs = vec![(Descriptor::of(IMAGE_CONFIG, &config), Content::Bytes(config))];
    for layer in &answer.layers {
        let path = store.directory().join(format!("{to}-{}", layer.layer));
        blobs.push((Descriptor::new(LAYER_GZIP, layer.digest, layer.size), Content::Part(path, 0)));
    }
    let listed = blobs.iter().skip(1).map(|(blob, _)| blob.clone()).collect();
    let mut manifest = Manifest::new(None, blobs[0].0.clone(), listed);
    manifest.annotations.insert(CREATED.to_owned(), created);
    manifest.annotations.insert(TITLE.to_owned(), info.name.clone());
    Parcel { manifest, blobs, attached: Vec::new(), left_here: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_are_found_where_warewulf_looks() {
        let has = |path: &str| has_kernel([&"etc/passwd".to_owned(), &path.to_owned()]);
        for path in [
            "boot/vmlinuz-6.1.0-31-amd64",
            "boot/Image-6.12.0",
            "usr/lib/modules/5.14.0/vmlinuz",
            "lib/modules/6/vmlinuz.gz",
        ] {
            assert!(has(path), "{path}");
        }
        for path in [
            "boot/vmlinuz",
            "boot/grub/vmlinuz-6",
            "usr/boot/vmlinuz-6",
            "usr/lib/modules/6/kernel/vmlinuz",
            "boot/vmlinux-6",
        ] {
            assert!(!has(path), "{path}");
        }
    }

    #[test]
    fn cpus_have_the_names_that_engines_know() {
        for (target, expected) in [
            ("debian bookworm x86_64", "amd64"),
            ("debian trixie aarch64", "arm64"),
            ("debian bookworm ppc64le", "ppc64le"),
        ] {
            assert_eq!(architecture(target), expected);
        }
    }
}
