//! An artefact becomes a published image: files are collected aside, compared, and put in place by one rename.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rayon::prelude::*;

use super::error::CarryError;
use super::{ABOUT, ARTIFACT, LOCK_NAME};
use crate::StageError;
use crate::published::artefacts::{Artefact, BuildInfo, SUMS, put_in_place, sha256_of, sums};
use crate::published::copies::beside::{BESIDE, about, is_about};
use crate::published::copies::error::FetchError;
use crate::published::copies::origin::{BUILD, Frame, Index, TEXT_LIMIT, build_info};
use crate::published::copies::transfer::{Known, is_there, take};
use base::digest::Sha256;
use files::beside::Beside;
use oci::{Descriptor, Manifest, OciError, Source, side_by_side};
use packages::Progress;
use recipe::is_image_name;
use store::FileLock;

#[derive(Debug, Default, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Pulled {
    pub image: String,
    /// Digest of the manifest, `sha256:..`: what names these bytes for ever.
    pub digest: String,
    /// Bytes that came from the registry, and bytes of all files.
    pub moved: u64,
    pub size: u64,
    pub blobs_moved: usize,
    pub blobs: usize,
    pub unchanged: bool,
    /// What came besides and is about the image: bills, the statement of provenance.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub statements: Vec<String>,
    /// Why some of it may be missing, a sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

/// A piece of a file: where it belongs, and the blob that it is.
struct Wanted {
    file: usize,
    frame: Frame,
    blob: Descriptor,
}

struct Artefacts {
    info: BuildInfo,
    text: Vec<u8>,
    lock: Option<Vec<u8>>,
    blobs: BTreeMap<Sha256, Descriptor>,
    digest: Sha256,
}

/// Pulls an image into a directory of images. Gives also the directory of its files.
/// Errors: [`CarryError`]; what is published there is unchanged then.
pub fn pull(source: &dyn Source, out: &Path, progress: &dyn Progress) -> Result<(PathBuf, Pulled), CarryError> {
    let found = read(source)?;
    let name = found.info.name.clone();
    let builds = out.join(".builds").join(&name);
    files::beside::check_owners(out, &builds.join(".lock")).map_err(StageError::publishing("publish in", &builds))?;
    std::fs::create_dir_all(&builds).map_err(StageError::publishing("create the directory", &builds))?;
    let _held = FileLock::take(&builds.join(".lock"))?;
    let size = found.info.artefacts.iter().fold(0, |sum: u64, one| sum.saturating_add(one.size));
    // A size that the whole file system could not hold is a lie, or does not belong here.
    if let Ok(system) = rustix::fs::statvfs(&builds)
        && size > system.f_blocks.saturating_mul(system.f_frsize)
    {
        let problem =
            format!("has files of {size} bytes, more than the file system of `{}` can hold", builds.display());
        return Err(OciError::NotAnImage { place: source.place(), problem }.into());
    }
    let build = Sha256::of(&found.text).short();
    let mut pulled = Pulled {
        image: name.clone(),
        digest: format!("sha256:{}", found.digest),
        size,
        blobs: found.blobs.len(),
        ..Pulled::default()
    };
    let place = builds.join(&build);
    if is_whole(&place, &found) {
        pulled.unchanged = std::fs::canonicalize(out.join(&name)).ok() == std::fs::canonicalize(&place).ok();
        if pulled.unchanged {
            statements(source, &found, &place, &mut pulled)?;
            return Ok((place, pulled));
        }
    }
    let aside = builds.join(format!(".pulling-{build}"));
    forget_halves(&builds, &aside);
    let planted = |intent: &'static str, path: &Path| OciError::keeping(intent, path);
    let aside = Beside::make(&aside).map_err(planted("create", &aside))?;
    let mut keep: BTreeSet<&str> = found.info.artefacts.iter().map(|one| one.name.as_str()).collect();
    keep.extend([SUMS, BUILD, LOCK_NAME]);
    for name in aside.names().map_err(planted("read", aside.path()))? {
        if !keep.contains(name.as_str()) {
            aside.remove(&name).map_err(planted("remove", &aside.join(&name)))?;
        }
    }
    let (moved, blobs_moved) = bring(source, &found, &aside, &known(&builds), progress)?;
    fault::point("pull.brought");
    let write = |name: &str, bytes: &[u8]| {
        let path = aside.join(name);
        aside.remove(name).and_then(|()| aside.file(name)?.write_all(bytes)).map_err(planted("write", &path))
    };
    write(SUMS, sums(&found.info.artefacts).as_bytes())?;
    write(BUILD, &found.text)?;
    match &found.lock {
        Some(lock) => write(LOCK_NAME, lock)?,
        None => aside.remove(LOCK_NAME).map_err(planted("remove", &aside.join(LOCK_NAME)))?,
    }
    if !aside.is_in_place() {
        let problem = "it was replaced while the image was pulled".to_owned();
        return Err(OciError::Modified { path: aside.path().to_owned(), problem }.into());
    }
    std::fs::set_permissions(aside.path(), std::fs::Permissions::from_mode(0o755))
        .map_err(planted("set the mode of", aside.path()))?;
    let directory = put_in_place(out, &name, aside.path(), &build)?;
    // The one of the same name, if there was one.
    let _ = std::fs::remove_dir_all(aside.path());
    let mut pulled = Pulled { moved, blobs_moved, ..pulled };
    statements(source, &found, &directory, &mut pulled)?;
    Ok((directory, pulled))
}

/// Puts what is about the image beside it. What is there and is about it stays, whatever the registry has; of several of one name the first
/// counts that is about it: the signed statement before one that is not, else by digest. A registry that does not list referrers, or not for
/// this user, changes nothing.
/// Errors: [`OciError::Keep`]; the image is published then.
fn statements(source: &dyn Source, found: &Artefacts, directory: &Path, to: &mut Pulled) -> Result<(), CarryError> {
    let build = Sha256::of(&found.text);
    let mut there: Vec<&str> = about(directory, &found.info, &build).into_iter().map(|(name, _)| name).collect();
    there.extend(found.info.artefacts.iter().map(|one| one.name.as_str()));
    let mut referrers = source.attached(&found.digest, &ABOUT).unwrap_or_else(|error| {
        to.notes.push(format!("bills and statements of the image were not looked for: {error}"));
        Vec::new()
    });
    referrers.sort_by_key(|one| ABOUT.iter().position(|kind| one.artifact_type.as_deref() == Some(kind)));
    for one in &referrers {
        let [blob] = &one.layers[..] else { continue };
        let Some(name) = BESIDE.into_iter().find(|name| blob.title() == Some(name)) else { continue };
        if there.contains(&name) || blob.size > TEXT_LIMIT {
            continue;
        }
        match source.read(blob, name) {
            Ok(text) if is_about(name, &text, &found.info, &build) => {
                let path = directory.join(name);
                files::replace(&path, &text, 0o644, files::Durability::PowerCut)
                    .map_err(OciError::keeping("write", &path))?;
                there.push(name);
                to.statements.push(name.to_owned());
            }
            Ok(_) => to.notes.push(format!("a {name} in the registry is about another build: it was not taken")),
            Err(error) => to.notes.push(format!("{name} was not pulled: {error}")),
        }
    }
    Ok(())
}

/// Reads the manifest and the small files, and compares what they say of one another.
fn read(source: &dyn Source) -> Result<Artefacts, CarryError> {
    let bytes = source.manifest()?;
    let refused = |problem: String| OciError::NotAnImage { place: source.place(), problem };
    let manifest = Manifest::parse(&bytes).map_err(refused)?;
    if manifest.artifact_type.as_deref() != Some(ARTIFACT) {
        let kind = manifest.artifact_type.unwrap_or(manifest.config.media_type);
        let kind: String = kind.chars().filter(|one| !one.is_control()).take(100).collect();
        return Err(refused(format!("is not an image of imgbuild but `{kind}`")).into());
    }
    let mut titles: BTreeMap<&str, &Descriptor> = BTreeMap::new();
    for layer in &manifest.layers {
        if let Some(title) = layer.title()
            && titles.insert(title, layer).is_some()
        {
            return Err(refused(format!("has two files of the name `{}`", title.escape_default())).into());
        }
    }
    let small = |name: &str| -> Result<Option<Vec<u8>>, CarryError> {
        let Some(blob) = titles.get(name) else { return Ok(None) };
        if blob.size > TEXT_LIMIT {
            return Err(refused(format!("has a {name} of more than {TEXT_LIMIT} bytes")).into());
        }
        Ok(Some(source.read(blob, name)?))
    };
    let text = small(BUILD)?.ok_or_else(|| refused(format!("has no {BUILD}")))?;
    let info = build_info(&source.place(), &text).map_err(|error| match error {
        FetchError::NotAnImage { problem, .. } => refused(problem),
        other => refused(other.to_string()),
    })?;
    if !is_image_name(&info.name) {
        return Err(refused(format!("has the invalid name `{}`", info.name.escape_default())).into());
    }
    if info.artefacts.iter().any(|one| one.name == LOCK_NAME) {
        return Err(refused(format!("names the unknown artefact `{LOCK_NAME}`")).into());
    }
    let is_known = |title: &str| {
        [BUILD, LOCK_NAME].contains(&title) || info.artefacts.iter().any(|artefact| artefact.name == title)
    };
    if let Some(title) = titles.keys().find(|title| !is_known(title)) {
        return Err(
            refused(format!("has the file `{}`, which its {BUILD} does not name", title.escape_default())).into()
        );
    }
    let lock = small(LOCK_NAME)?;
    let blobs = manifest.layers.iter().map(|layer| (layer.digest, layer.clone())).collect();
    Ok(Artefacts { info, text, lock, blobs, digest: Sha256::of(&bytes) })
}

/// Brings all files into the new directory: what is here is taken from here. Gives bytes and blobs that came.
fn bring(
    source: &dyn Source,
    found: &Artefacts,
    aside: &Beside,
    known: &HashMap<Sha256, Known>,
    progress: &dyn Progress,
) -> Result<(u64, usize), CarryError> {
    let refused = |problem: String| OciError::NotAnImage { place: source.place(), problem };
    let blob = |what: &str, digest: &Sha256, size: u64| {
        let blob = found.blobs.get(digest).filter(|blob| blob.size == size).cloned();
        blob.ok_or_else(|| refused(format!("lacks a blob of `{}`: sha256:{digest}", what.escape_default())))
    };
    let artefacts = &found.info.artefacts;
    let index_of = |image: &Artefact| artefacts.iter().find(|one| one.name.strip_suffix(".index") == Some(&image.name));
    let mut files = Vec::new();
    let mut wanted = Vec::new();
    for (number, artefact) in artefacts.iter().enumerate() {
        let path = aside.join(&artefact.name);
        let file = aside.file(&artefact.name).map_err(OciError::keeping("write", &path))?;
        file.set_len(artefact.size).map_err(OciError::keeping("write", &path))?;
        files.push((path, file));
        match index_of(artefact) {
            Some(index) => {
                if index.size > TEXT_LIMIT {
                    return Err(refused(format!("has an index of more than {TEXT_LIMIT} bytes")).into());
                }
                let text = source.read(&blob(&index.name, &index.sha256, index.size)?, &index.name)?;
                let index =
                    Index::of(&text, artefact).map_err(|problem| refused(format!("has an index that {problem}")))?;
                for frame in index.frames.into_iter().filter(|frame| frame.size > 0) {
                    let blob = blob(&artefact.name, &frame.sha256, frame.size)?;
                    wanted.push(Wanted { file: number, frame, blob });
                }
            }
            None if artefact.size == 0 => {}
            None => {
                let Artefact { size, sha256, .. } = *artefact;
                let blob = blob(&artefact.name, &sha256, size)?;
                wanted.push(Wanted { file: number, frame: Frame { offset: 0, size, sha256 }, blob });
            }
        }
    }
    let file_of = |one: &Wanted| files.get(one.file).map(|(_, file)| file);
    let is_here =
        |one: &Wanted| file_of(one).is_some_and(|file| is_there(file, &one.frame) || take(file, &one.frame, known));
    let missing: Vec<&Wanted> = wanted.par_iter().filter(|one| !is_here(one)).collect();
    let all: u64 = missing.iter().map(|one| one.frame.size).sum();
    let done = Mutex::new((0, 0));
    progress.downloaded(0, missing.len(), 0, all);
    side_by_side(&missing, &|one| {
        let Some(file) = file_of(one) else { return Ok(()) };
        let name = artefacts.get(one.file).map_or("", |artefact| artefact.name.as_str());
        source.write(&one.blob, name, file, one.frame.offset)?;
        if let Ok(mut done) = done.lock() {
            *done = (done.0 + 1, done.1 + one.frame.size);
            progress.downloaded(done.0, missing.len(), done.1, all);
        }
        Ok(())
    })?;
    // The pieces are right; so is the whole, unless build.json and the index contradict each other.
    let wrong = artefacts.par_iter().zip(&files).find_map_any(|(artefact, (path, _))| match sha256_of(path) {
        Ok(found) if found == artefact.sha256 => None,
        Ok(found) => {
            let what = artefact.name.clone();
            Some(OciError::Digest { what, place: source.place(), expected: artefact.sha256, found })
        }
        Err(error) => Some(OciError::keeping("read", path)(error)),
    });
    match wrong {
        Some(error) => Err(error.into()),
        None => Ok((all, missing.len())),
    }
}

fn is_whole(place: &Path, found: &Artefacts) -> bool {
    let has = |name: &str, bytes: &[u8]| std::fs::read(place.join(name)).is_ok_and(|there| there == bytes);
    has(BUILD, &found.text)
        && has(SUMS, sums(&found.info.artefacts).as_bytes())
        && found.lock.as_ref().is_none_or(|lock| has(LOCK_NAME, lock))
        && found
            .info
            .artefacts
            .iter()
            .all(|artefact| sha256_of(&place.join(&artefact.name)).is_ok_and(|digest| digest == artefact.sha256))
}

/// Halves of other images, which an interrupted run left.
fn forget_halves(builds: &Path, own: &Path) {
    for entry in std::fs::read_dir(builds).into_iter().flatten().flatten() {
        if entry.file_name().to_string_lossy().starts_with(".pulling-") && entry.path() != own {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// Where frames and files lie in the builds that are here.
fn known(builds: &Path) -> HashMap<Sha256, Known> {
    let mut known = HashMap::new();
    for entry in std::fs::read_dir(builds).into_iter().flatten().flatten() {
        let directory = entry.path();
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        let Ok(text) = std::fs::read(directory.join(BUILD)) else { continue };
        let Ok(info) = build_info("", &text) else { continue };
        for artefact in &info.artefacts {
            let file = directory.join(&artefact.name);
            known.insert(artefact.sha256, Known { file: file.clone(), offset: 0 });
            let index = std::fs::read(directory.join(format!("{}.index", artefact.name))).unwrap_or_default();
            for frame in Index::read(&index).map(|index| index.frames).unwrap_or_default() {
                known.insert(frame.sha256, Known { file: file.clone(), offset: frame.offset });
            }
        }
    }
    known
}
