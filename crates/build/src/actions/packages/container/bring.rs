//! Container images on their way: found in a registry or a directory, kept beside the packages in the store, vendored with them.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::Work;
use crate::StageError;
use base::digest::Sha256;
use oci::{
    Access, Containers, Content, Descriptor, Destination, IMAGE_CONFIG, Layout, LayoutContainers, MANIFEST, Reference,
    Registry, container,
};
use recipe::{BASE_IMAGE_FORMS, BaseImage, LockedBase, LockedDocument, LockedLayer};
use store::{Store, StoreError};

/// Where vendored packages have the container image, in OCI's layout.
const VENDORED: &str = "container";
const VENDORED_TAG: &str = "base";

/// What a layer is called where the name of its kind is no longer known: decompressing goes by the content.
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// Where the image comes from. Nothing is asked yet.
fn source(work: &Work<'_>) -> Result<Box<dyn Containers>, StageError> {
    if let Some(vendored) = &work.places.vendor {
        return Ok(Box::new(LayoutContainers::new(&vendored.join(VENDORED), &format!(":{VENDORED_TAG}"))?));
    }
    let from = work.recipe.model.image.from.as_deref().unwrap_or_default();
    let refused = |problem: &str| {
        let problem = format!("`{}` is not a container image: {problem}", from.escape_debug());
        work.refused(problem, BASE_IMAGE_FORMS)
    };
    match from.parse::<BaseImage>().map_err(refused)? {
        BaseImage::Layout(directory, version) => {
            Ok(Box::new(LayoutContainers::new(&work.recipe.directory.join(directory), &version)?))
        }
        BaseImage::Registry(text) => {
            let reference: Reference = text.parse().map_err(|problem: String| refused(&problem))?;
            let access = Access { patience: work.places.patience, ..Access::default() };
            Ok(Box::new(Registry::new(&reference, access)?))
        }
    }
}

fn keep(store: &Store, digest: &Sha256, bytes: &[u8]) -> Result<(), StoreError> {
    let path = store.package(digest);
    files::replace(&path, bytes, 0o644, files::Durability::Kill)
        .map_err(|source| StoreError::io("keep the file", &path, source))
}

/// Finds the image of the recipe's platform: the tag is asked for now.
/// Errors: [`StageError::Oci`] with what there is instead.
pub(crate) fn find(work: &Work<'_>) -> Result<LockedBase, StageError> {
    let from = work.recipe.model.image.from.as_deref().unwrap_or_default();
    work.report.progress(&format!("looking up {from}"));
    let found = container(source(work)?.as_ref(), work.recipe.model.image.arch.machine())?;
    for (document, bytes) in [&found.manifest, &found.config] {
        keep(work.store, &document.digest, bytes)?;
    }
    let document = |one: &Descriptor| LockedDocument { sha256: one.digest, size: one.size };
    let layer = |(one, diff): &(Descriptor, Sha256)| LockedLayer { sha256: one.digest, size: one.size, diff: *diff };
    Ok(LockedBase {
        manifest: document(&found.manifest.0),
        config: document(&found.config.0),
        layers: found.layers.iter().map(layer).collect(),
        packages: Vec::new(),
    })
}

fn is_there(store: &Store, digest: &Sha256, size: u64) -> bool {
    std::fs::metadata(store.package(digest)).is_ok_and(|found| found.is_file() && found.len() == size)
}

/// Brings the layers that the store lacks, each compared with its digest.
/// Errors: [`StageError::Oci`].
pub(crate) fn bring(work: &Work<'_>, layers: &[LockedLayer]) -> Result<(), StageError> {
    let store = work.store;
    let lacking: Vec<&LockedLayer> =
        layers.iter().filter(|layer| !is_there(store, &layer.sha256, layer.size)).collect();
    if lacking.is_empty() {
        return Ok(());
    }
    let source = source(work)?;
    let aside = store.aside_directory()?;
    let all: u64 = lacking.iter().map(|layer| layer.size).sum();
    for (index, layer) in lacking.iter().enumerate() {
        work.report.progress(&format!(
            "downloading layer {} of {} of the container image, {:.1} MB in all",
            index + 1,
            lacking.len(),
            all as f64 / 1e6
        ));
        let path = aside.join(format!("container-{}", layer.sha256));
        let keeping = |source: std::io::Error| StoreError::io("keep the layer", &path, source);
        let file = File::create(&path).map_err(keeping)?;
        let what = format!("layer sha256:{}", layer.sha256);
        source.write(&Descriptor::new(LAYER, layer.sha256, layer.size), &what, &file, 0)?;
        file.sync_data().map_err(keeping)?;
        fault::point("container.fetched");
        let to = store.package(&layer.sha256);
        let moved = to.parent().map_or(Ok(()), std::fs::create_dir_all);
        moved.and_then(|()| std::fs::rename(&path, &to)).map_err(keeping)?;
    }
    Ok(())
}

/// The manifest and its configuration, from the store or again from where they are.
fn documents(work: &Work<'_>, base: &LockedBase) -> Result<[Vec<u8>; 2], StageError> {
    let read = |one: &LockedDocument, kind: &str| -> Result<Vec<u8>, StageError> {
        if is_there(work.store, &one.sha256, one.size) {
            work.store.check_package(&one.sha256)?;
            let path = work.store.package(&one.sha256);
            return Ok(std::fs::read(&path).map_err(|source| StoreError::io("read", &path, source))?);
        }
        let (source, of) = (source(work)?, Descriptor::new(kind, one.sha256, one.size));
        let bytes = if kind == MANIFEST { source.document(&of)? } else { source.read(&of, "the configuration")? };
        keep(work.store, &one.sha256, &bytes)?;
        Ok(bytes)
    };
    Ok([read(&base.manifest, MANIFEST)?, read(&base.config, IMAGE_CONFIG)?])
}

/// Writes the container image into a directory of vendored packages, in OCI's layout; what the directory has of another one goes.
pub(crate) fn vendor(work: &Work<'_>, base: Option<&LockedBase>, directory: &Path) -> Result<(), StageError> {
    let to: PathBuf = directory.join(VENDORED);
    let manifest = |base: &LockedBase| to.join("blobs/sha256").join(base.manifest.sha256.to_string());
    if std::fs::symlink_metadata(&to).is_ok() && !base.is_some_and(|base| manifest(base).is_file()) {
        std::fs::remove_dir_all(&to).map_err(StageError::publishing("remove", &to))?;
    }
    let Some(base) = base else { return Ok(()) };
    bring(work, &base.layers)?;
    let [manifest, config] = documents(work, base)?;
    let layout = Layout::make(&to, Some(VENDORED_TAG))?;
    let config_of = Descriptor::new(IMAGE_CONFIG, base.config.sha256, base.config.size);
    layout.take(&config_of, &Content::Bytes(config), &|_| {})?;
    for layer in &base.layers {
        work.store.check_package(&layer.sha256)?;
        let content = Content::Part(work.store.package(&layer.sha256), 0);
        layout.take(&Descriptor::new(LAYER, layer.sha256, layer.size), &content, &|_| {})?;
    }
    layout.finish(&manifest, base.manifest.sha256)?;
    Ok(())
}
