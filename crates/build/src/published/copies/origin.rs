//! A published image as its build.json and its indices describe it.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::unix::fs::FileExt;

use serde::Deserialize;

use super::error::FetchError;
use crate::published::artefacts::{Artefact, BUILD_FORMAT, BuildInfo, SUMS};
use base::digest::Sha256;
use base::format::Version;
use node_words::name::shown;

/// Bytes of build.json, or of an index, at most: an index has about 300 bytes for each 4 MB of an image.
pub(crate) const TEXT_LIMIT: u64 = 64 << 20;

/// Name of the file that tells what was built.
pub(crate) const BUILD: &str = "build.json";

#[derive(Debug, Deserialize)]
pub(crate) struct Index {
    /// Bytes of the image.
    pub size: u64,
    /// Its frames, one after another.
    pub frames: Vec<Frame>,
}

#[derive(Debug, Clone, Deserialize)]
pub(crate) struct Frame {
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub size: u64,
    /// Digest of those bytes.
    pub sha256: Sha256,
}

impl Index {
    /// Reads the index of an image: its frames follow one another without gaps, and end where the image ends.
    pub(crate) fn of(text: &[u8], image: &Artefact) -> Result<Self, String> {
        let index = Self::read(text)?;
        match index.size == image.size {
            true => Ok(index),
            false => Err(format!(
                "describes {} bytes, but {BUILD} says that `{}` has {}",
                index.size,
                shown(&image.name),
                image.size
            )),
        }
    }

    /// The same of an image whose size is not known.
    pub(crate) fn read(text: &[u8]) -> Result<Self, String> {
        let index: Self = serde_json::from_slice(text).map_err(|error| error.to_string())?;
        let mut end = 0u64;
        for frame in &index.frames {
            if frame.offset != end {
                return Err(format!("has a gap before byte {}", frame.offset));
            }
            end = end.checked_add(frame.size).ok_or_else(|| "has invalid sizes".to_owned())?;
        }
        if end != index.size {
            return Err(format!("has frames of {end} bytes for an image of {}", index.size));
        }
        Ok(index)
    }
}

/// Reads build.json, whose names must stay in the directory.
/// Errors: [`FetchError::NotAnImage`].
pub(crate) fn build_info(url: &str, text: &[u8]) -> Result<BuildInfo, FetchError> {
    let refused = |problem: String| FetchError::NotAnImage { url: url.to_owned(), problem };
    let info: BuildInfo =
        serde_json::from_slice(text).map_err(|error| refused(format!("has a {BUILD} that cannot be read: {error}")))?;
    let version = Version::parse(&info.format_version);
    if version.is_none_or(|version| BUILD_FORMAT.reads(BUILD, version, None).is_err()) {
        return Err(refused(format!(
            "has a {BUILD} of format {}, which this imgbuild does not support",
            info.format_version
        )));
    }
    let mut seen = BTreeSet::new();
    for Artefact { name, .. } in &info.artefacts {
        // What a terminal obeys, or what turns a text around, is in no name that `build` gives.
        let is_odd = |character: char| {
            character.is_control() || matches!(character, '/' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
        };
        let is_plain = !name.is_empty() && name.len() <= 255 && !name.starts_with('.') && !name.contains(is_odd);
        if !is_plain || [BUILD, SUMS].contains(&name.as_str()) || !seen.insert(name) {
            return Err(refused(format!("names the unknown artefact `{}`", name.escape_default())));
        }
    }
    Ok(info)
}

/// SHA-256 of what lies where a frame belongs.
pub(crate) fn digest_at(file: &File, frame: &Frame) -> std::io::Result<Sha256> {
    let mut hasher: sha2::Sha256 = sha2::Digest::new();
    let mut buffer = vec![0; usize::try_from(frame.size.min(1 << 20)).unwrap_or_default()];
    let mut at = 0;
    while at < frame.size {
        let wanted = usize::try_from((frame.size - at).min(buffer.len() as u64)).unwrap_or_default();
        let piece = &mut buffer[..wanted];
        file.read_exact_at(piece, frame.offset + at)?;
        sha2::Digest::update(&mut hasher, &*piece);
        at += wanted as u64;
    }
    Ok(Sha256(sha2::Digest::finalize(hasher).into()))
}
