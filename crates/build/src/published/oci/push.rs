//! A published image as an artefact: one blob a file, and of packed images one a frame, so that images that are nearly the same have
//! nearly all blobs in common.

use std::collections::BTreeSet;
use std::path::Path;

use super::{
    ARTIFACT, BUILD, CREATED, FILE, FRAME, INDEX, KERNEL, LOCK, LOCK_NAME, OF_CYCLONEDX, OF_ENVELOPE, OF_SPDX,
    OF_STATEMENT, TARGET, time,
};
use crate::published::artefacts::{Artefact, BuildInfo};
use crate::published::copies::beside::{BESIDE, CYCLONEDX, SPDX, about, is_signed};
use crate::published::copies::origin::{BUILD as BUILD_NAME, Frame, Index};
use base::digest::Sha256;
use oci::{Content, Descriptor, EMPTY, EMPTY_CONFIG, MANIFEST, Manifest, OciError, TITLE};

#[derive(Debug)]
pub struct Parcel {
    pub manifest: Manifest,
    pub blobs: Vec<(Descriptor, Content)>,
    /// Manifests of what is about it.
    pub attached: Vec<Manifest>,
    /// Files that have the name of what is about an image, but are about another build: they stay here.
    pub left_here: Vec<&'static str>,
}

/// Blobs in the order in which the manifest names them, each once.
#[derive(Default)]
struct Blobs {
    listed: Vec<(Descriptor, Content)>,
    seen: BTreeSet<Sha256>,
}

impl Blobs {
    fn add(&mut self, blob: Descriptor, content: Content) {
        // A file's name is needed even where a frame has the same bytes.
        if self.seen.insert(blob.digest) || blob.title().is_some() {
            self.listed.push((blob, content));
        }
    }
}

/// The artefact of a published image; `lock` is the text of the image.lock that it was built by.
/// Errors: [`OciError::Modified`] where files are not as they were published.
pub fn artefact(directory: &Path, info: &BuildInfo, lock: Option<Vec<u8>>) -> Result<Parcel, OciError> {
    let mut blobs = Blobs::default();
    let config = Descriptor::of(EMPTY_CONFIG, EMPTY);
    let build = directory.join(BUILD_NAME);
    let text = std::fs::read(&build).map_err(OciError::keeping("read", &build))?;
    let own = Sha256::of(&text);
    blobs.add(Descriptor::of(BUILD, &text).titled(BUILD_NAME), Content::Bytes(text));
    if let Some(lock) = lock {
        blobs.add(Descriptor::of(LOCK, &lock).titled(LOCK_NAME), Content::Bytes(lock));
    }
    for artefact in &info.artefacts {
        let path = directory.join(&artefact.name);
        let is_packed = |other: &Artefact| other.name.strip_suffix(".index") == Some(&artefact.name);
        match info.artefacts.iter().find(|other| is_packed(other)) {
            Some(index) => {
                for Frame { offset, size, sha256 } in frames(directory, index, artefact)? {
                    blobs.add(Descriptor::new(FRAME, sha256, size), Content::Part(path.clone(), offset));
                }
            }
            None => {
                let kind = if artefact.name.ends_with(".index") { INDEX } else { FILE };
                let blob = Descriptor::new(kind, artefact.sha256, artefact.size).titled(&artefact.name);
                blobs.add(blob, Content::Part(path, 0));
            }
        }
    }
    let layers = blobs.listed.iter().map(|(blob, _)| blob.clone()).collect();
    let mut manifest = Manifest::new(Some(ARTIFACT), config.clone(), layers);
    for (name, value) in [
        (TITLE, info.name.clone()),
        (CREATED, time(info.epoch)),
        (KERNEL, info.kernel_release.clone()),
        (TARGET, info.target.clone()),
    ] {
        manifest.annotations.insert(name.to_owned(), value);
    }
    let mut all = vec![(config.clone(), Content::Bytes(EMPTY.to_vec()))];
    all.extend(blobs.listed);
    let subject = Descriptor::of(MANIFEST, &manifest.bytes());
    let mut attached = Vec::new();
    for (name, text) in about(directory, info, &own) {
        let blob = Descriptor::of(kind(name, &text), &text).titled(name);
        attached.push(referrer(&subject, &config, blob.clone(), info.epoch));
        all.push((blob, Content::Bytes(text)));
    }
    let is_here = |name: &&str| std::fs::symlink_metadata(directory.join(name)).is_ok();
    let goes = |name: &&str| all.iter().any(|(blob, _)| blob.title() == Some(*name));
    let left_here = BESIDE.into_iter().filter(|name| is_here(name) && !goes(name)).collect();
    Ok(Parcel { manifest, blobs: all, attached, left_here })
}

fn kind(name: &str, text: &[u8]) -> &'static str {
    match name {
        SPDX => OF_SPDX,
        CYCLONEDX => OF_CYCLONEDX,
        _ if is_signed(text) => OF_ENVELOPE,
        _ => OF_STATEMENT,
    }
}

/// The manifest of one file that is about an image. Source: image-spec 1.1, "Guidelines for Artifact Usage".
fn referrer(subject: &Descriptor, config: &Descriptor, blob: Descriptor, epoch: i64) -> Manifest {
    let mut manifest = Manifest::new(Some(&blob.media_type), config.clone(), vec![blob.clone()]);
    manifest.subject = Some(subject.clone());
    manifest.annotations.insert(CREATED.to_owned(), time(epoch));
    manifest
}

/// The frames of a packed image, by its index.
fn frames(directory: &Path, index: &Artefact, image: &Artefact) -> Result<Vec<Frame>, OciError> {
    let path = directory.join(&index.name);
    let text = std::fs::read(&path).map_err(OciError::keeping("read", &path))?;
    let modified = |problem: String| OciError::Modified { path: path.clone(), problem };
    if Sha256::of(&text) != index.sha256 {
        return Err(modified("is not as it was published: its SHA-256 differs".to_owned()));
    }
    Index::of(&text, image).map(|index| index.frames).map_err(modified)
}
