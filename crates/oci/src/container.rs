//! Container images that others made: which manifest is for a platform, and what it names. All of it may be hostile: sizes and
//! digests are checked, and nothing but SHA-256 is taken.

use std::path::Path;

use serde::Deserialize;

use super::document::{ARTIFACT_LIMIT, Descriptor, IMAGE_CONFIG, INDEX, MANIFEST};
use super::error::OciError;
use super::layout::{Layout, REF_NAME};
use super::registry::Registry;
use super::send::Source;
use base::digest::Sha256;

/// Docker's own names of the same documents. Source: distribution/distribution, "Image Manifest Version 2, Schema 2".
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";

/// What layers are called, with a compressor behind it.
const LAYERS: [&str; 2] = ["application/vnd.oci.image.layer.v1.tar", "application/vnd.docker.image.rootfs.diff.tar"];

pub(super) const KINDS: [&str; 4] = [MANIFEST, INDEX, DOCKER_MANIFEST, DOCKER_INDEX];

/// Layers at most: overlayfs, on which engines stand, has fewer.
const MOST_LAYERS: usize = 500;
/// Bytes of a layer at most, as it is transferred.
const LARGEST_LAYER: u64 = 32 << 30;
/// How many indices may lie in one another.
const DEPTH: usize = 4;
/// How many platforms or tags a message names.
const SHOWN: usize = 16;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The manifest, and its bytes.
    pub manifest: (Descriptor, Vec<u8>),
    /// The configuration, and its bytes.
    pub config: (Descriptor, Vec<u8>),
    /// The layers, lowest first, each with the digest of its archive once it is decompressed.
    pub layers: Vec<(Descriptor, Sha256)>,
}

pub trait Containers: Source {
    /// The document with the name that was asked for: a manifest or an index.
    fn top(&self) -> Result<Vec<u8>, OciError>;

    fn document(&self, of: &Descriptor) -> Result<Vec<u8>, OciError>;
}

impl Containers for Registry {
    fn top(&self) -> Result<Vec<u8>, OciError> {
        self.named_in(&self.version(), &KINDS)?.ok_or_else(|| self.no_such_tag())
    }

    fn document(&self, of: &Descriptor) -> Result<Vec<u8>, OciError> {
        self.named_in(&format!("sha256:{}", of.digest), &KINDS)?.ok_or_else(|| {
            let answer = format!("the registry lacks the manifest sha256:{} (404)", of.digest);
            let help = "name another tag, or push the image again: the registry lost a part of it".to_owned();
            OciError::NotThere { place: self.place(), answer, help }
        })
    }
}

pub struct LayoutContainers {
    layout: Layout,
    tag: Option<String>,
    digest: Option<Sha256>,
}

impl LayoutContainers {
    /// Names a directory, and what of it is meant: `[:TAG][@sha256:DIGEST]`. Without either it has to have one image alone.
    /// Errors: [`OciError::NotABase`] for a version that is neither.
    pub fn new(directory: &Path, version: &str) -> Result<Self, OciError> {
        let (tag, digest) = match version.split_once('@') {
            Some((tag, digest)) => (tag, Some(digest)),
            None => (version, None),
        };
        let tag = tag.strip_prefix(':').filter(|tag| !tag.is_empty());
        let digest = digest.map(|text| Sha256::parse(text.strip_prefix("sha256:").unwrap_or(text)));
        let digest = digest.transpose().map_err(|_| OciError::NotABase {
            place: format!("oci:{}{version}", directory.display()),
            problem: "is not named by a SHA-256".to_owned(),
            help: "write @sha256: and 64 hexadecimal digits".to_owned(),
        })?;
        Ok(Self { layout: Layout::new(directory, tag), tag: tag.map(str::to_owned), digest })
    }
}

impl Source for LayoutContainers {
    fn place(&self) -> String {
        let tag = self.tag.as_ref().map(|tag| format!(":{tag}")).unwrap_or_default();
        let digest = self.digest.as_ref().map(|digest| format!("@sha256:{digest}")).unwrap_or_default();
        format!("oci:{}{tag}{digest}", self.layout.directory().display())
    }

    fn manifest(&self) -> Result<Vec<u8>, OciError> {
        self.top()
    }

    fn read(&self, blob: &Descriptor, what: &str) -> Result<Vec<u8>, OciError> {
        self.layout.read(blob, what)
    }

    fn write(&self, blob: &Descriptor, what: &str, to: &std::fs::File, from: u64) -> Result<(), OciError> {
        self.layout.write(blob, what, to, from)
    }
}

impl Containers for LayoutContainers {
    fn top(&self) -> Result<Vec<u8>, OciError> {
        if let Some(digest) = self.digest {
            let size = self.layout.size_of(&digest)?;
            return self.document(&Descriptor::new(MANIFEST, digest, size));
        }
        let index = self.layout.index()?;
        let name = |one: &super::document::Named| one.annotations.get(REF_NAME).cloned();
        let found = match &self.tag {
            Some(_) => index.manifests.iter().find(|one| name(one) == self.tag),
            None if index.manifests.len() == 1 => index.manifests.first(),
            None => None,
        };
        match found {
            Some(one) => self.document(&Descriptor::new(&one.media_type, one.digest, one.size)),
            None => {
                let mut names: Vec<String> = index.manifests.iter().filter_map(name).collect();
                names.truncate(SHOWN);
                let (place, count) = (self.place(), index.manifests.len());
                let answer = match (&self.tag, count) {
                    (_, 0) => "it is not a directory in OCI's layout with an image".to_owned(),
                    (Some(_), _) => "it has no such tag".to_owned(),
                    (None, _) => format!("it has {count} images"),
                };
                let help = match names.is_empty() {
                    true => "write one with `skopeo copy docker://REGISTRY/NAME:TAG oci:DIRECTORY:TAG`".to_owned(),
                    false => format!("name one of its tags: {}", names.join(", ")),
                };
                Err(OciError::NotThere { place, answer, help })
            }
        }
    }

    fn document(&self, of: &Descriptor) -> Result<Vec<u8>, OciError> {
        if of.size > ARTIFACT_LIMIT {
            return Err(not_a_base(self, format!("has a manifest of more than {ARTIFACT_LIMIT} bytes")));
        }
        self.layout.read(of, "a manifest")
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    #[serde(default)]
    manifests: Option<Vec<serde_json::Value>>,
    #[serde(default)]
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Default, Deserialize)]
struct Offered {
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
    #[serde(default)]
    variant: String,
}

impl std::fmt::Display for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let safe = |text: &str| text.escape_default().to_string();
        write!(f, "{}/{}", safe(&self.os), safe(&self.architecture))?;
        if self.variant.is_empty() { Ok(()) } else { write!(f, "/{}", safe(&self.variant)) }
    }
}

impl Platform {
    fn is(&self, architecture: &str) -> bool {
        self.os == "linux" && self.architecture == architecture
    }
}

#[derive(Deserialize)]
struct Config {
    #[serde(flatten)]
    platform: Platform,
    rootfs: RootFs,
}

#[derive(Deserialize)]
struct RootFs {
    diff_ids: Vec<String>,
}

/// What an architecture is called by containers. Source: image-spec, "Image Index", after Go's `GOARCH`.
pub fn container_architecture(machine: &str) -> &str {
    match machine {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn not_a_base(source: &dyn Containers, problem: String) -> OciError {
    let help = "name a container image: what `podman pull`, `docker pull` and `skopeo copy` take; an image of nodes is pushed as one with `imgbuild push --as-container`";
    OciError::NotABase { place: source.place(), problem, help: help.to_owned() }
}

/// Refuses what is not offered for a platform, with what is.
fn not_offered(source: &dyn Containers, machine: &str, mut offered: Vec<String>) -> OciError {
    offered.sort();
    offered.dedup();
    let more = if offered.len() > SHOWN { ", .." } else { "" };
    offered.truncate(SHOWN);
    let wanted = container_architecture(machine);
    let problem = match offered.is_empty() {
        true => format!("has no image for linux/{wanted}, nor for any other platform"),
        false => format!("has no image for linux/{wanted}; it has {}{more}", offered.join(", ")),
    };
    let help = format!("name an image that has it, or another `arch` than {machine} in [image]");
    OciError::NotABase { place: source.place(), problem, help }
}

/// Finds the image of a platform; its layers are not read.
/// Errors: [`OciError::NotABase`] with what there is, and what the source says.
pub fn container(source: &dyn Containers, machine: &str) -> Result<Container, OciError> {
    let wanted = container_architecture(machine);
    let mut bytes = source.top()?;
    for _ in 0..DEPTH {
        let invalid = |error: serde_json::Error| not_a_base(source, format!("has an invalid manifest: {error}"));
        let document: Document = serde_json::from_slice(&bytes).map_err(invalid)?;
        let kind = document.media_type.as_str();
        let is_known = kind.is_empty() || KINDS.contains(&kind);
        if !is_known || document.schema_version != 2 {
            let kind = if kind.is_empty() { "schema 1 of Docker" } else { kind };
            return Err(not_a_base(source, format!("has a manifest of the kind `{}`", kind.escape_default())));
        }
        let Some(manifests) = document.manifests else { return of_manifest(source, machine, bytes, document) };
        // An entry for another platform may be of a kind that is not known here.
        let read = |one: &serde_json::Value| Offered::deserialize(one).unwrap_or_default();
        let offered: Vec<Offered> = manifests.iter().map(read).collect();
        // What only says how an image was made has no platform, or an unknown one.
        let is_image = |one: &&Offered| one.platform.as_ref().is_some_and(|platform| platform.os != "unknown");
        let alone = (offered.len() == 1 && offered[0].platform.is_none()).then_some(0);
        let of_platform = |is_wanted: &dyn Fn(&Platform) -> bool| {
            offered.iter().position(|one| one.platform.as_ref().is_some_and(|one| one.is(wanted) && is_wanted(one)))
        };
        // One for newer CPUs alone is taken where there is no other.
        let found =
            of_platform(&|one| ["", "v1", "v8"].contains(&one.variant.as_str())).or_else(|| of_platform(&|_| true));
        let Some(found) = found.or(alone) else {
            let names = offered.iter().filter(is_image).filter_map(|one| Some(one.platform.as_ref()?.to_string()));
            return Err(not_offered(source, machine, names.collect()));
        };
        bytes = source.document(&Descriptor::deserialize(&manifests[found]).map_err(invalid)?)?;
    }
    Err(not_a_base(source, "has indices in one another without end".to_owned()))
}

fn of_manifest(
    source: &dyn Containers,
    machine: &str,
    bytes: Vec<u8>,
    document: Document,
) -> Result<Container, OciError> {
    let config = document.config.filter(|one| [IMAGE_CONFIG, DOCKER_CONFIG].contains(&one.media_type.as_str()));
    let Some(config) = config else { return Err(not_a_base(source, "is not a container image".to_owned())) };
    if config.size > ARTIFACT_LIMIT {
        return Err(not_a_base(source, format!("has a configuration of more than {ARTIFACT_LIMIT} bytes")));
    }
    let text = source.read(&config, "the configuration")?;
    let invalid = |error: serde_json::Error| not_a_base(source, format!("has an invalid configuration: {error}"));
    let read: Config = serde_json::from_slice(&text).map_err(invalid)?;
    if !read.platform.is(container_architecture(machine)) {
        return Err(not_offered(source, machine, vec![read.platform.to_string()]));
    }
    if document.layers.is_empty() || document.layers.len() > MOST_LAYERS {
        let count = document.layers.len();
        return Err(not_a_base(source, format!("has {count} layers; 1 to {MOST_LAYERS} are supported")));
    }
    if read.rootfs.diff_ids.len() != document.layers.len() {
        let (layers, diffs) = (document.layers.len(), read.rootfs.diff_ids.len());
        return Err(not_a_base(source, format!("has {layers} layers, but its configuration has {diffs} diff_ids")));
    }
    let mut layers = Vec::new();
    for (layer, diff) in document.layers.into_iter().zip(read.rootfs.diff_ids) {
        let ending = LAYERS.iter().find_map(|start| layer.media_type.strip_prefix(start));
        if !ending.is_some_and(|ending| ["", "+gzip", "+zstd", ".gzip", ".zstd"].contains(&ending)) {
            let kind = layer.media_type.escape_default().to_string();
            return Err(not_a_base(source, format!("has a layer of the kind `{kind}`, which is not supported")));
        }
        if layer.size > LARGEST_LAYER {
            return Err(not_a_base(source, format!("has a layer of more than {LARGEST_LAYER} bytes")));
        }
        let diff = diff.strip_prefix("sha256:").and_then(|hex| Sha256::parse(hex).ok());
        let diff = diff.ok_or_else(|| not_a_base(source, "has a diff_id that is not a SHA-256".to_owned()))?;
        layers.push((layer, diff));
    }
    let manifest = Descriptor::of(MANIFEST, &bytes);
    Ok(Container { manifest: (manifest, bytes), config: (config, text), layers })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::fs::File;

    use super::*;

    struct Shelf(Vec<u8>, BTreeMap<Sha256, Vec<u8>>);

    impl Shelf {
        fn put(&mut self, kind: &str, bytes: Vec<u8>) -> Descriptor {
            let descriptor = Descriptor::of(kind, &bytes);
            self.1.insert(descriptor.digest, bytes);
            descriptor
        }
    }

    impl Source for Shelf {
        fn place(&self) -> String {
            "oci:r.test/x".to_owned()
        }

        fn manifest(&self) -> Result<Vec<u8>, OciError> {
            self.top()
        }

        fn read(&self, blob: &Descriptor, _: &str) -> Result<Vec<u8>, OciError> {
            Ok(self.1[&blob.digest].clone())
        }

        fn write(&self, _: &Descriptor, _: &str, _: &File, _: u64) -> Result<(), OciError> {
            Ok(())
        }
    }

    impl Containers for Shelf {
        fn top(&self) -> Result<Vec<u8>, OciError> {
            Ok(self.0.clone())
        }

        fn document(&self, of: &Descriptor) -> Result<Vec<u8>, OciError> {
            Ok(self.1[&of.digest].clone())
        }
    }

    fn config(architecture: &str, diffs: usize) -> Vec<u8> {
        let diffs: Vec<String> = (0..diffs).map(|_| format!("sha256:{}", Sha256::of(b"diff"))).collect();
        serde_json::to_vec(&serde_json::json!({
            "architecture": architecture, "os": "linux", "rootfs": { "type": "layers", "diff_ids": diffs }
        }))
        .unwrap()
    }

    fn manifest(shelf: &mut Shelf, kind: &str, config: (&str, Vec<u8>), layers: &[(&str, u64)]) -> Vec<u8> {
        let config = shelf.put(config.0, config.1);
        let layer = |(kind, size): &(&str, u64)| Descriptor::new(kind, Sha256::of(b"layer"), *size);
        let layers: Vec<Descriptor> = layers.iter().map(layer).collect();
        serde_json::to_vec(
            &serde_json::json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers }),
        )
        .unwrap()
    }

    fn problem(shelf: &Shelf, machine: &str) -> String {
        container(shelf, machine).unwrap_err().to_string()
    }

    #[test]
    fn an_index_gives_the_image_of_the_platform_or_says_what_it_has() {
        let mut shelf = Shelf(Vec::new(), BTreeMap::new());
        let mut offered = Vec::new();
        for (size, (architecture, variant)) in (9..).zip([("amd64", "v3"), ("amd64", ""), ("arm64", "v8")]) {
            let layers = [("application/vnd.docker.image.rootfs.diff.tar.gzip", size)];
            let one = manifest(&mut shelf, DOCKER_MANIFEST, (DOCKER_CONFIG, config(architecture, 1)), &layers);
            let mut one = serde_json::to_value(shelf.put(DOCKER_MANIFEST, one)).unwrap();
            one["platform"] = serde_json::json!({ "architecture": architecture, "os": "linux", "variant": variant });
            offered.push(one);
        }
        let mut attested = serde_json::to_value(Descriptor::of(MANIFEST, b"about")).unwrap();
        attested["platform"] = serde_json::json!({ "architecture": "unknown", "os": "unknown" });
        // Its kind of digest is not taken, but no one asks for it.
        let mut strange = attested.clone();
        strange["platform"] = serde_json::json!({ "architecture": "s390x", "os": "linux" });
        strange["digest"] = serde_json::json!("sha512:00");
        offered.push(strange);
        offered.push(attested);
        let index = serde_json::json!({ "schemaVersion": 2, "mediaType": DOCKER_INDEX, "manifests": offered });
        shelf.0 = serde_json::to_vec(&index).unwrap();
        let found = container(&shelf, "aarch64").unwrap();
        assert_eq!((found.layers.len(), found.layers[0].1), (1, Sha256::of(b"diff")));
        assert_eq!(found.manifest.0.digest, Sha256::of(&found.manifest.1));
        // Not the one that needs a newer CPU, though it stands first.
        assert_eq!(container(&shelf, "x86_64").unwrap().layers[0].0.size, 10);
        let said = problem(&shelf, "ppc64le");
        assert!(
            said.contains(
                "no image for linux/ppc64le; it has linux/amd64, linux/amd64/v3, linux/arm64/v8, linux/s390x"
            ),
            "{said}"
        );
        assert!(!said.contains("unknown"), "{said}");
        // An index of itself ends.
        let own = Sha256::of(b"self");
        let index = serde_json::json!({ "schemaVersion": 2, "manifests": [{
            "mediaType": INDEX, "digest": format!("sha256:{own}"), "size": 1,
            "platform": { "architecture": "amd64", "os": "linux" } }] });
        shelf.0 = serde_json::to_vec(&index).unwrap();
        shelf.1.insert(own, shelf.0.clone());
        assert!(problem(&shelf, "x86_64").contains("without end"));
    }

    #[test]
    fn what_is_no_container_image_is_refused() {
        const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
        let good = || (IMAGE_CONFIG, config("amd64", 1));
        for (kind, config, layers, said) in [
            (MANIFEST, ("application/vnd.oci.empty.v1+json", b"{}".to_vec()), vec![(LAYER, 1)], "not a container"),
            (MANIFEST, (IMAGE_CONFIG, config("arm64", 1)), vec![(LAYER, 1)], "it has linux/arm64"),
            (MANIFEST, (IMAGE_CONFIG, config("amd64", 2)), vec![(LAYER, 1)], "2 diff_ids"),
            (MANIFEST, (IMAGE_CONFIG, b"{}".to_vec()), vec![(LAYER, 1)], "invalid configuration"),
            (MANIFEST, good(), vec![], "0 layers"),
            (MANIFEST, good(), vec![("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", 1)], "not supported"),
            (MANIFEST, good(), vec![("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", 1)], "not supported"),
            (MANIFEST, good(), vec![(LAYER, u64::MAX)], "more than"),
            ("application/vnd.other", good(), vec![(LAYER, 1)], "manifest of the kind"),
        ] {
            let mut shelf = Shelf(Vec::new(), BTreeMap::new());
            shelf.0 = manifest(&mut shelf, kind, config, &layers);
            let problem = problem(&shelf, "x86_64");
            assert!(problem.contains(said), "{said}: {problem}");
        }
        let shelf = Shelf(b"{\"schemaVersion\":1}".to_vec(), BTreeMap::new());
        assert!(problem(&shelf, "x86_64").contains("schema 1"));
        assert!(problem(&Shelf(b"<html>".to_vec(), BTreeMap::new()), "x86_64").contains("invalid manifest"));
    }
}
