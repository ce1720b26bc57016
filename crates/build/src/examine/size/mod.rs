//! Where the bytes of a packed image are.
//!
//! The frames of the last build are read back, so that what is counted is what a node gets. Bytes before compression are
//! counted exactly. Compressed bytes belong to a frame, not to a file: those of a frame are divided over its files by
//! what each takes when it is compressed alone with zstd's fastest level, its head included. So a file of zeros gets next to
//! nothing and a compressed one about its size; the shares of a frame add up to its bytes.

pub(crate) mod tree;

use std::collections::BTreeMap;
use std::io::Read;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::StageError;
use crate::bench::ids;
use archive::{Container, START, container, read_frame};
use base::digest::Digest;
use packages::rpm::Package;
use recipe::{Family, Recipe};
use sandbox::Namespace;
use sandbox::helper::News;
use store::{Kind, LayerReader, Root, Store, StoreError};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SizedFile {
    /// Path without a slash in front.
    pub path: String,
    /// Bytes before compression.
    pub raw: u64,
    /// Its share of the compressed bytes.
    pub packed: f64,
}

/// What a head with its name takes when it is compressed, in bytes; measured with 20,000 empty files, zstd -3.
const HEAD: f64 = 14.0;

/// All files of the last build's packed image. Directories have no bytes of their own but their heads.
/// Errors: [`StageError::Store`] when a frame is gone or damaged.
pub fn sizes(store: &Store, root: &Root) -> Result<Vec<SizedFile>, StageError> {
    let frames = frames_of_one_form(store, root)?;
    let mut files: Vec<SizedFile> = frames
        .par_iter()
        .map(|frame| of_frame(store, frame))
        .collect::<Result<Vec<_>, StageError>>()?
        .into_iter()
        .flatten()
        .collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    // Directories come twice.
    files.dedup_by(|b, a| {
        let same = a.path == b.path;
        if same {
            a.packed += b.packed;
            a.raw += b.raw;
        }
        same
    });
    Ok(files)
}

/// Whether frames of the last build say which files they hold: those of a file system do not.
pub fn lists_files(store: &Store, root: &Root) -> bool {
    frames_of_one_form(store, root).is_ok()
}

/// The frames of the first form whose frames hold files: those of a squashfs do not say where one ends.
fn frames_of_one_form(store: &Store, root: &Root) -> Result<Vec<Digest>, StageError> {
    let packed = root.actions.iter().filter(|(id, _)| ids::is_pack(id));
    let mut refused = None;
    for frames in packed.filter_map(|(_, key)| store.record(key).map(|record| record.outputs.frames)) {
        let Some(first) = frames.first() else { continue };
        let path = store.directory().join(Store::frame_name(first));
        let said = |source: std::io::Error| StageError::from(StoreError::io("read", &path, source));
        let mut start = Vec::new();
        std::fs::File::open(&path).and_then(|file| file.take(START as u64).read_to_end(&mut start)).map_err(said)?;
        match container(&start).and_then(Container::file_system) {
            None => return Ok(frames),
            Some(kind) => {
                let problem = format!(
                    "the image is a {kind}, whose frames do not list file sizes: name the published file, a rootimg.sfs, or add a cpio as a second format"
                );
                refused.get_or_insert_with(|| said(std::io::Error::new(std::io::ErrorKind::Unsupported, problem)));
            }
        }
    }
    match refused {
        Some(error) => Err(error),
        // Without records: what the last build packed.
        None => Ok(root.frames.clone()),
    }
}

fn of_frame(store: &Store, frame: &Digest) -> Result<Vec<SizedFile>, StageError> {
    let path = store.directory().join(Store::frame_name(frame));
    let said = |source: std::io::Error| StageError::from(StoreError::io("read", &path, source));
    let file = std::fs::File::open(&path).map_err(said)?;
    let whole = file.metadata().map_err(said)?.len();
    let entries = read_frame(std::io::BufReader::new(file)).map_err(said)?;
    let alone = |bytes: &[u8]| zstd::bulk::compress(bytes, 1).map_or(bytes.len(), |packed| packed.len());
    let weights: Vec<f64> = entries
        .iter()
        .map(|entry| HEAD + if entry.bytes.is_empty() { 0.0 } else { alone(&entry.bytes) as f64 })
        .collect();
    let sum: f64 = weights.iter().sum();
    let files = entries.into_iter().zip(weights).map(|(entry, weight)| SizedFile {
        raw: entry.bytes.len() as u64,
        path: entry.path,
        packed: whole as f64 * weight / sum,
    });
    Ok(files.collect())
}

/// Asks for the file lists of dpkg's database.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ListsRequest {
    /// Layers, lowest first.
    pub layers: Vec<Digest>,
}

/// Where dpkg keeps the list of each package's files. Source: dpkg-query(1), --control-path.
const LISTS: &str = "var/lib/dpkg/info";

/// Runs inside: the files of each package as dpkg's database has them.
pub(crate) fn lists_inside(request: ListsRequest, _: News<'_>) -> Result<BTreeMap<String, Vec<String>>, String> {
    let reader = LayerReader::open(&request.layers)?;
    let mut lists = BTreeMap::new();
    for name in reader.names_in(LISTS) {
        let Some(package) = name.strip_suffix(".list") else { continue };
        let text = reader.read(&format!("{LISTS}/{name}"))?.unwrap_or_default();
        let files = String::from_utf8_lossy(&text).lines().map(str::to_owned).collect();
        lists.insert(package.split(':').next().unwrap_or(package).to_owned(), files);
    }
    Ok(lists)
}

/// The package of each path of the image, by the package database; links at the top of the tree (`/bin`) are followed.
/// Errors: [`StageError`] when the layers or the package files cannot be read.
pub fn packages(
    recipe: &Recipe,
    store: &Store,
    namespace: &Namespace,
    root: &Root,
    layers: &[Digest],
) -> Result<BTreeMap<String, String>, StageError> {
    let lists: BTreeMap<String, Vec<String>> = if recipe.model.image.distro.family() == Family::Debian {
        namespace.call("package-lists", &ListsRequest { layers: layers.to_vec() }, &mut |_| {})?
    } else {
        // rpm's database is made of the headers of these very files.
        let headers = root.packages.par_iter().filter_map(|digest| Package::read(&store.package(digest)).ok());
        let lists: Vec<(String, Vec<String>)> = headers
            .map(|package| (package.candidate.name.clone(), package.files.into_iter().map(|file| file.path).collect()))
            .collect();
        lists.into_iter().collect()
    };
    let mut links: BTreeMap<String, String> = BTreeMap::new();
    for layer in layers {
        for (path, entry) in &store.manifest(layer)?.0 {
            if let (Kind::Symlink(target), false) = (&entry.kind, path.contains('/')) {
                links.insert(path.clone(), target.trim_start_matches('/').to_owned());
            }
        }
    }
    let lists = lists.iter().flat_map(|(package, files)| files.iter().map(|file| (package.as_str(), file.as_str())));
    Ok(owners(lists, &links))
}

/// The package of each path, from packages with paths and the links at the top of the tree.
fn owners<'a>(
    files: impl Iterator<Item = (&'a str, &'a str)>,
    links: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut owners = BTreeMap::new();
    for (package, file) in files {
        let path = file.trim_start_matches('/');
        let (first, rest) = path.split_once('/').unwrap_or((path, ""));
        let path = match links.get(first) {
            Some(target) if !rest.is_empty() => format!("{target}/{rest}"),
            _ => path.to_owned(),
        };
        owners.entry(path).or_insert_with(|| package.to_owned());
    }
    owners
}
