//! Brings an image from an HTTP server into a directory, which changes all at once.

use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::sync::atomic::AtomicU64;

use rayon::prelude::*;

use super::beside::{self, BESIDE};
use super::error::{FetchError, keeping, planted};
use super::origin::{BUILD, Index, TEXT_LIMIT, build_info};
use super::transfer::{Brought, Known, Transfer};
use crate::published::artefacts::{Artefact, BuildInfo, SUMS, sha256_of, sums};
use base::digest::Sha256;
use files::beside::Beside;
use packages::{DistroError, DownloadFault, Fetcher, Progress};
use store::FileLock;

/// Brings the image at a URL into a directory, which then has the same files as the origin; `digest` is what its
/// build.json has to have.
/// Errors: [`FetchError`]; the directory is unchanged then.
pub fn fetch(
    url: &str,
    here: &Path,
    digest: Option<Sha256>,
    fetcher: &Fetcher,
    progress: &dyn Progress,
) -> Result<Brought, FetchError> {
    let url = url.trim_end_matches('/');
    let url = url.strip_suffix(&format!("/{BUILD}")).unwrap_or(url);
    let text = fetcher.read(&format!("{url}/{BUILD}"), TEXT_LIMIT)?;
    let found = Sha256::of(&text);
    if let Some(expected) = digest.filter(|expected| *expected != found) {
        return Err(FetchError::Digest { file: BUILD.to_owned(), url: url.to_owned(), expected, found });
    }
    let info = build_info(url, &text)?;
    // A link to a directory stays one: what it leads to is replaced.
    let here = match std::fs::canonicalize(here) {
        Ok(there) => there,
        Err(_) => std::path::absolute(here).map_err(keeping("find", here))?,
    };
    let here = &here;
    let name = here.file_name().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
    let parent = here
        .parent()
        .filter(|_| !name.is_empty())
        .ok_or_else(|| FetchError::Foreign { directory: here.clone(), file: "..".to_owned() })?;
    std::fs::create_dir_all(parent).map_err(keeping("make", parent))?;
    let _held = FileLock::take(&parent.join(format!(".{name}.lock")))?;
    let (before, foreign) = files_here(here, &info)?;
    let size = info.artefacts.iter().fold(0, |sum: u64, artefact| sum.saturating_add(artefact.size));
    if std::fs::read(here.join(BUILD)).is_ok_and(|known| known == text) && is_whole(here, &info) {
        let mut brought = Brought { size, unchanged: true, left_alone: foreign, ..Brought::default() };
        for (name, text) in statements(url, here, &info, &found, fetcher, &mut brought)? {
            let path = here.join(name);
            files::replace(&path, &text, 0o644, files::Durability::Kill).map_err(keeping("write", &path))?;
        }
        return Ok(brought);
    }
    // A size that the whole file system could not hold is a lie, or does not belong here.
    if let Ok(found) = rustix::fs::statvfs(parent)
        && size > found.f_blocks.saturating_mul(found.f_frsize)
    {
        let problem =
            format!("has files of {size} bytes, more than the file system of `{}` can hold", parent.display());
        return Err(FetchError::NotAnImage { url: url.to_owned(), problem });
    }
    let aside = parent.join(format!(".{name}.fetching"));
    let aside = Beside::make(&aside).map_err(planted("make", &aside))?;
    // What an earlier run left, of another image perhaps: only names of this one stay.
    for name in aside.names().map_err(keeping("read", aside.path()))? {
        if !info.artefacts.iter().any(|artefact| name == artefact.name) {
            aside.remove(&name).map_err(keeping("remove", &aside.join(&name)))?;
        }
    }
    let copy = Transfer { url, fetcher, progress, here, aside: &aside, moved: AtomicU64::new(text.len() as u64) };
    let mut brought = Brought { size, left_alone: foreign, ..Brought::default() };
    let mut known = HashMap::new();
    for name in before.iter().filter(|name| name.ends_with(".index")) {
        let image = here.join(name.trim_end_matches(".index"));
        if let Ok(index) = Index::read(&std::fs::read(here.join(name)).unwrap_or_default()) {
            for frame in index.frames {
                known.insert(frame.sha256, Known { file: image.clone(), offset: frame.offset });
            }
        }
    }
    let indexed = |artefact: &Artefact| {
        let index = format!("{}.index", artefact.name);
        info.artefacts.iter().find(|other| other.name == index)
    };
    for artefact in &info.artefacts {
        match indexed(artefact) {
            Some(index) => copy.image(artefact, index, &known, &mut brought)?,
            None => copy.plain(artefact)?,
        }
    }
    let write = |name: &str, bytes: &[u8]| {
        let path = aside.join(name);
        aside.remove(name).and_then(|()| aside.file(name)?.write_all(bytes)).map_err(planted("write", &path))
    };
    write(SUMS, sums(&info.artefacts).as_bytes())?;
    write(BUILD, &text)?;
    let known = beside::about(here, &info, &found);
    for (name, text) in known.into_iter().chain(statements(url, here, &info, &found, fetcher, &mut brought)?) {
        write(name, &text)?;
    }
    for name in &brought.left_alone {
        let from = here.join(name);
        aside.remove(name).and_then(|()| aside.link(&from, name)).map_err(planted("keep", &from))?;
    }
    brought.moved = copy.moved.into_inner();
    swap(&aside, here)?;
    Ok(brought)
}

/// What is beside the image on the server and is about it, for names of which the directory has nothing that is. A server that does
/// not have them, or does not give them to this user, changes nothing here.
/// Errors: The server failed, as for any other file.
fn statements(
    url: &str,
    here: &Path,
    info: &BuildInfo,
    build: &Sha256,
    fetcher: &Fetcher,
    brought: &mut Brought,
) -> Result<Vec<(&'static str, Vec<u8>)>, FetchError> {
    let known: Vec<&str> = beside::about(here, info, build).into_iter().map(|(name, _)| name).collect();
    let is_artefact = |name: &str| info.artefacts.iter().any(|one| one.name == name);
    let mut found = Vec::new();
    for name in BESIDE.into_iter().filter(|name| !known.contains(name) && !is_artefact(name)) {
        let is_stale = std::fs::symlink_metadata(here.join(name)).is_ok();
        match fetcher.read(&format!("{url}/{name}"), TEXT_LIMIT) {
            Ok(text) if beside::is_about(name, &text, info, build) => {
                brought.statements.push(name.to_owned());
                found.push((name, text));
                continue;
            }
            Ok(_) => brought.notes.push(format!("the server's {name} is about another build: it was not taken")),
            Err(DistroError::NotThere { .. }) => {}
            // It does not let this user see whether there is one.
            Err(DistroError::Download { problem, fault: DownloadFault::Refused | DownloadFault::Larger, .. }) => {
                brought.notes.push(format!("{name} was not fetched: {problem}"));
            }
            Err(error) => return Err(error.into()),
        }
        if is_stale {
            brought.notes.push(match brought.unchanged {
                true => format!("{name} in the directory is not about this image"),
                false => format!("{name} in the directory was about the image before, and went with it"),
            });
        }
    }
    Ok(found)
}

/// Names of the files of a directory that an image may replace, and of those of others that stay beside it; none where it is not there.
/// Errors: [`FetchError::Foreign`] for a directory that is not an image's, and for what is no file.
fn files_here(here: &Path, new: &BuildInfo) -> Result<(Vec<String>, Vec<String>), FetchError> {
    let entries = match std::fs::read_dir(here) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok((Vec::new(), Vec::new())),
        Err(_) if here.is_file() => return Err(FetchError::AFile { path: here.to_owned() }),
        Err(error) => return Err(keeping("read", here)(error)),
    };
    let mut names: Vec<String> =
        entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    let info: Option<BuildInfo> =
        std::fs::read(here.join(BUILD)).ok().and_then(|text| serde_json::from_slice(&text).ok());
    let is_own = |name: &String| {
        [BUILD, SUMS].contains(&name.as_str())
            || info.as_ref().is_some_and(|info| info.artefacts.iter().any(|artefact| artefact.name == *name))
    };
    let is_beside = |name: &String| BESIDE.contains(&name.as_str());
    let (own, foreign): (Vec<String>, Vec<String>) =
        names.into_iter().partition(|name| is_own(name) || is_beside(name));
    // A name that the new image needs, or what cannot move with a directory, is in the way.
    let stays = |name: &String| {
        info.is_some()
            && !new.artefacts.iter().any(|one| one.name == *name)
            && std::fs::symlink_metadata(here.join(name)).is_ok_and(|found| found.is_file())
    };
    match foreign.iter().find(|name| !stays(name)) {
        Some(file) => Err(FetchError::Foreign { directory: here.to_owned(), file: file.clone() }),
        None => Ok((own, foreign)),
    }
}

fn is_whole(directory: &Path, info: &BuildInfo) -> bool {
    let sums_there = std::fs::read(directory.join(SUMS)).is_ok_and(|text| text == sums(&info.artefacts).as_bytes());
    sums_there
        && info
            .artefacts
            .par_iter()
            .all(|artefact| sha256_of(&directory.join(&artefact.name)).is_ok_and(|digest| digest == artefact.sha256))
}

/// Puts the new directory into the old one's place.
fn swap(aside: &Beside, here: &Path) -> Result<(), FetchError> {
    aside.sync().map_err(planted("sync", aside.path()))?;
    if !aside.is_in_place() {
        let problem = "it was replaced while the image was fetched".to_owned();
        return Err(FetchError::Planted { path: aside.path().to_owned(), problem });
    }
    let aside = aside.path();
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    if here.is_dir() {
        renameat_with(CWD, aside, CWD, here, RenameFlags::EXCHANGE)
            .map_err(|error| keeping("replace", here)(error.into()))?;
        // The old one, by its new name.
        let _ = std::fs::remove_dir_all(aside);
    } else {
        std::fs::rename(aside, here).map_err(keeping("make", here))?;
    }
    let parent = here.parent().unwrap_or(Path::new("."));
    File::open(parent).and_then(|directory| directory.sync_all()).map_err(keeping("sync", parent))
}
