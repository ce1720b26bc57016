//! What would move if a directory with one image got another.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::error::FetchError;
use super::origin::{BUILD, Index, TEXT_LIMIT, build_info};
use crate::published::artefacts::BuildInfo;
use base::digest::Sha256;
use packages::Fetcher;

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Moved {
    pub name: String,
    /// Bytes of it.
    pub size: u64,
    /// Bytes that would come from the server.
    pub moved: u64,
    /// Frames of it; 0 for what has none.
    pub frames: usize,
    /// Frames that would come from the server.
    pub frames_moved: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Delta {
    pub files: Vec<Moved>,
    /// Bytes of all of them.
    pub size: u64,
    /// Bytes that would come from the server.
    pub moved: u64,
}

struct Described {
    info: BuildInfo,
    /// By the name of the packed image.
    indices: BTreeMap<String, Index>,
}

fn described(url: &str, fetcher: &Fetcher) -> Result<Described, FetchError> {
    let url = url.trim_end_matches('/');
    let url = url.strip_suffix(&format!("/{BUILD}")).unwrap_or(url);
    let info = build_info(url, &fetcher.read(&format!("{url}/{BUILD}"), TEXT_LIMIT)?)?;
    let mut indices = BTreeMap::new();
    for artefact in &info.artefacts {
        let Some(image) = artefact.name.strip_suffix(".index") else { continue };
        let place = format!("{url}/{}", artefact.name);
        let text = fetcher.read(&place, TEXT_LIMIT)?;
        let found = Sha256::of(&text);
        if found != artefact.sha256 {
            let (file, url) = (artefact.name.clone(), url.to_owned());
            return Err(FetchError::Digest { file, url, expected: artefact.sha256, found });
        }
        let own = info.artefacts.iter().find(|other| other.name == image);
        let index = own.map_or_else(|| Index::read(&text), |own| Index::of(&text, own));
        let index = index.map_err(|problem| FetchError::NotAnImage { url: place, problem })?;
        indices.insert(image.to_owned(), index);
    }
    Ok(Described { info, indices })
}

/// Says what [`super::fetch::fetch`] would move of the image at one URL into a directory that has the one at another.
pub fn delta(old: &str, new: &str, fetcher: &Fetcher) -> Result<Delta, FetchError> {
    let (old, new) = (described(old, fetcher)?, described(new, fetcher)?);
    let frames: BTreeSet<Sha256> =
        old.indices.values().flat_map(|index| index.frames.iter().map(|frame| frame.sha256)).collect();
    let files: Vec<Moved> = new
        .info
        .artefacts
        .iter()
        .map(|artefact| {
            let is_there = old.info.artefacts.contains(artefact);
            let index = new.indices.get(&artefact.name);
            let missing: Vec<u64> = index
                .filter(|_| !is_there)
                .into_iter()
                .flat_map(|index| index.frames.iter().filter(|frame| !frames.contains(&frame.sha256)))
                .map(|frame| frame.size)
                .collect();
            let moved = match index {
                _ if is_there => 0,
                Some(_) => missing.iter().sum(),
                None => artefact.size,
            };
            Moved {
                name: artefact.name.clone(),
                size: artefact.size,
                moved,
                frames: index.map_or(0, |index| index.frames.len()),
                frames_moved: missing.len(),
            }
        })
        .collect();
    let sum = |value: fn(&Moved) -> u64| files.iter().map(value).fold(0, u64::saturating_add);
    Ok(Delta { size: sum(|file| file.size), moved: sum(|file| file.moved), files })
}
