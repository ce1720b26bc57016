//! One side of a comparison: what is known of it, and where that was read.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use miette::Diagnostic;
use serde::Deserialize;
use thiserror::Error;

use super::tree::Tree;
use crate::bench::ids;
use crate::lock::packages::Packages;
use crate::published::artefacts::{BuildInfo, SUMS, sha256_of};
use archive::{Container, START, container, limited, open_tar, plain};
use base::digest::Digest;
use base::source::{SourceFile, Span};
use files::sweep::Swept;
use packages::installed;
use recipe::{Lock, LockError};
use store::{ActionRecord, Merged, Store};
use xcat::{ExcludeList, Pattern};

#[derive(Debug, Error, Diagnostic)]
pub enum SideError {
    #[error("cannot read `{}`: {source}", path.display())]
    #[diagnostic(code(diff::read))]
    Read { path: PathBuf, source: std::io::Error },
    /// A directory of artefacts without a packed image, or an archive of something else.
    #[error("`{}` {problem}", path.display())]
    #[diagnostic(
        code(diff::unknown),
        help(
            "compare builds (`NAME`, `NAME@previous`, `NAME@3`), directories with artefacts, packed images, locks, or directories"
        )
    )]
    Unknown { path: PathBuf, problem: String },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Lock(#[from] LockError),
}

#[derive(Debug, Default)]
pub struct Side {
    pub name: String,
    /// `build`, `bundle`, `archive`, `lock` or `directory`.
    pub kind: &'static str,
    pub files_from: Option<&'static str>,
    pub packages: Option<Packages>,
    /// Why they are not, where there is a database.
    pub damaged: Option<String>,
    pub tree: Option<Tree>,
    /// The tree with what is left out of the packed image, where that is known.
    pub all_files: Option<Tree>,
    pub initrd: Option<Tree>,
    pub release: Option<String>,
    /// Words for the kernel's command line, but for those that name the image's own files.
    pub cmdline: Option<Vec<String>>,
    /// Files of the artefacts: size and SHA-256.
    pub artefacts: Option<BTreeMap<String, (u64, String)>>,
}

/// Packed images, the one that counts first. Source: imgbuild's names and those of xCAT's packimage.
const ROOTIMGS: [&str; 13] = [
    "rootimg.cpio.zst",
    "rootimg.cpio.gz",
    "rootimg.cpio.xz",
    "rootimg.cpio.lz4",
    "rootimg.cpio",
    "rootimg.tar.zst",
    "rootimg.tar.gz",
    "rootimg.tar.xz",
    "rootimg.tar.lz4",
    "rootimg.tar",
    "rootimg.sfs",
    "rootimg.erofs",
    "rootimg.gz",
];
const INITRDS: [&str; 2] = ["initrd-stateless", "initrd-stateless.gz"];

#[derive(Debug, Clone)]
pub struct BuildPlace {
    pub name: String,
    pub directory: PathBuf,
    /// Keys of its actions, where the history has them.
    pub keys: BTreeMap<String, Digest>,
}

/// Layers of a build that the store still has, and what its packed image leaves out.
struct Layers {
    merged: Merged,
    excluded: BTreeSet<String>,
}

fn read(path: &Path) -> impl FnOnce(std::io::Error) -> SideError + use<> {
    let path = path.to_owned();
    move |source| SideError::Read { path, source }
}

fn info_of(directory: &Path) -> Result<BuildInfo, SideError> {
    let path = directory.join("build.json");
    let bytes = std::fs::read(&path).map_err(read(&path))?;
    let wrong =
        |error: serde_json::Error| SideError::Unknown { path, problem: format!("is not a build record: {error}") };
    serde_json::from_slice(&bytes).map_err(wrong)
}

impl BuildPlace {
    fn record(&self, store: &Store, action: &str) -> Option<ActionRecord> {
        store.record(self.keys.get(action)?)
    }

    /// The layers, where all of them and the record of packing are in the store.
    fn layers(&self, store: &Store, info: &BuildInfo) -> Option<Layers> {
        let pack = self.record(store, ids::PACK)?;
        let layers = info.layers.iter().map(|(_, digest)| Digest::parse(digest).ok()).collect::<Option<Vec<_>>>()?;
        let merged = store.merged(&layers).ok()?;
        let nowhere = SourceFile::new("", "", "");
        let patterns = |kind: &str| -> Vec<Pattern> {
            let texts = pack.inputs.iter().filter_map(|input| input.name.strip_prefix(kind));
            texts.map(|text| Pattern { text: text.to_owned(), span: Span::new(&nowhere, 0..0) }).collect()
        };
        let list =
            ExcludeList { exclude: patterns("exclude "), include: patterns("include "), ..ExcludeList::default() };
        let paths = merged.0.iter().map(|(path, found)| (path.clone(), found.entry.is_directory())).collect();
        let excluded = list.apply(&paths).excluded;
        Some(Layers { merged, excluded })
    }

    fn packages(&self, store: &Store, info: &BuildInfo) -> Option<Packages> {
        let mut inputs = Vec::new();
        for (action, _) in info.layers.iter().filter(|(action, _)| action.starts_with("rootfs/")) {
            inputs.extend(self.record(store, action)?.inputs);
        }
        Some(Packages::of_inputs(&info.target, inputs.iter().map(|input| (input.name.as_str(), input.value.as_str()))))
    }
}

/// Reads two builds alike: by their layers where the store has those of both, else by their packed images.
pub fn matched(a: &BuildPlace, b: &BuildPlace, store: &Store) -> Result<(Side, Side), SideError> {
    let (info_a, info_b) = (info_of(&a.directory)?, info_of(&b.directory)?);
    let layers = a.layers(store, &info_a).zip(b.layers(store, &info_b));
    let (layers_a, layers_b) = layers.map_or((None, None), |(a, b)| (Some(a), Some(b)));
    Ok((of_build(a, store, &info_a, layers_a)?, of_build(b, store, &info_b, layers_b)?))
}

/// The tree of a build as its sync lists left it, before anything later; none where the store no longer has its layers.
/// Errors: Its record cannot be read.
pub fn as_synced(place: &BuildPlace, store: &Store) -> Result<Option<Tree>, SideError> {
    let layers = info_of(&place.directory)?.layers;
    let Some(last) = layers.iter().position(|(name, _)| name == ids::SYNC) else { return Ok(None) };
    let layers: Option<Vec<Digest>> = layers[..=last].iter().map(|(_, digest)| Digest::parse(digest).ok()).collect();
    let merged = layers.and_then(|layers| store.merged(&layers).ok());
    Ok(merged.map(|merged| Tree::of_layers(&merged, &BTreeSet::new())))
}

fn of_build(place: &BuildPlace, store: &Store, info: &BuildInfo, layers: Option<Layers>) -> Result<Side, SideError> {
    let mut side = match layers {
        Some(Layers { merged, excluded }) => Side {
            files_from: Some("layers"),
            tree: Some(Tree::of_layers(&merged, &excluded)),
            all_files: Some(Tree::of_layers(&merged, &BTreeSet::new())),
            initrd: initrd_of(&place.directory),
            ..Side::default()
        },
        None => packed(&place.directory)?,
    };
    let listed = info.artefacts.iter().map(|one| (one.name.clone(), (one.size, one.sha256.to_string())));
    side.artefacts = Some(listed.collect());
    side.packages = place.packages(store, info).or(side.packages);
    side.release = Some(info.kernel_release.clone());
    let own = |word: &&String| !word.starts_with("imgurl=") && !word.starts_with("imgdigest=");
    side.cmdline = Some(info.cmdline.iter().filter(own).cloned().collect());
    Ok(Side { name: place.name.clone(), kind: "build", ..side })
}

fn initrd_of(directory: &Path) -> Option<Tree> {
    let file = INITRDS.iter().map(|name| directory.join(name)).find(|path| path.is_file())?;
    Tree::of_archive(&file, None).ok()
}

fn packed(directory: &Path) -> Result<Side, SideError> {
    let file = ROOTIMGS.iter().map(|name| directory.join(name)).find(|path| path.is_file());
    let Some(file) = file else {
        let problem = "has no packed image of a known format".to_owned();
        return Err(SideError::Unknown { path: directory.to_owned(), problem });
    };
    let tree = archive(&file)?;
    let (packages, damaged) = packages_of(&tree);
    Ok(Side {
        files_from: Some("archive"),
        packages,
        damaged,
        tree: Some(tree),
        initrd: initrd_of(directory),
        ..Side::default()
    })
}

fn archive(file: &Path) -> Result<Tree, SideError> {
    #[derive(Deserialize)]
    struct Index {
        xattrs: Vec<(String, String, String)>,
    }
    let mut index = file.as_os_str().to_owned();
    index.push(".index");
    let index = std::fs::read(index).ok().and_then(|bytes| serde_json::from_slice::<Index>(&bytes).ok());
    Tree::of_archive(file, index.as_ref().map(|index| index.xattrs.as_slice())).map_err(read(file))
}

/// What the package database of a tree says, or what is wrong with it.
fn packages_of(tree: &Tree) -> (Option<Packages>, Option<String>) {
    match installed::read(&tree.databases) {
        Ok(found) => (found.map(|found| Packages::of_installed(&found)), None),
        Err(problem) => (None, Some(problem)),
    }
}

/// Artefacts of a directory: its plain files, but for what only describes the others.
fn listed(directory: &Path) -> Result<BTreeMap<String, (u64, String)>, SideError> {
    let mut all = BTreeMap::new();
    for entry in std::fs::read_dir(directory).map_err(read(directory))? {
        let entry = entry.map_err(read(directory))?;
        let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
        let describes = name.starts_with('.') || name == "build.json" || name == SUMS || name.ends_with(".sha256");
        if describes || !path.is_file() {
            continue;
        }
        let size = std::fs::metadata(&path).map_err(read(&path))?.len();
        all.insert(name, (size, sha256_of(&path).map_err(read(&path))?.to_string()));
    }
    Ok(all)
}

/// Whether a directory has artefacts, of imgbuild or of xCAT.
fn is_bundle(directory: &Path) -> bool {
    ROOTIMGS.iter().any(|name| directory.join(name).is_file())
}

impl Side {
    /// A lock.
    /// Errors: [`SideError::Lock`] for text that is not a lock.
    pub fn of_lock(name: &str, text: Vec<u8>) -> Result<Self, SideError> {
        let lock = Lock::parse_bytes(name, text)?;
        Ok(Self { name: name.to_owned(), kind: "lock", packages: Some(Packages::of_lock(&lock)), ..Self::default() })
    }

    /// Whatever is at a path: artefacts, a packed image, an archive of artefacts, a lock, a recipe (its lock), or a tree.
    pub fn of_path(name: &str, path: &Path) -> Result<Self, SideError> {
        let mut side = if path.is_dir() { Self::of_directory(name, path)? } else { Self::of_file(name, path)? };
        side.name = name.to_owned();
        Ok(side)
    }

    fn of_directory(name: &str, path: &Path) -> Result<Self, SideError> {
        if is_bundle(path) {
            let release = info_of(path).ok().map(|info| info.kernel_release);
            return Ok(Self { kind: "bundle", artefacts: Some(listed(path)?), release, ..packed(path)? });
        }
        let lock = path.join(recipe::LOCK_FILE);
        if lock.is_file() {
            return Self::of_lock(name, std::fs::read(&lock).map_err(read(&lock))?);
        }
        let tree = Tree::of_directory(path).map_err(read(path))?;
        let (packages, damaged) = packages_of(&tree);
        Ok(Self {
            kind: "directory",
            files_from: Some("directory"),
            packages,
            damaged,
            tree: Some(tree),
            ..Self::default()
        })
    }

    fn of_file(name: &str, path: &Path) -> Result<Self, SideError> {
        use std::io::Read;
        let file = std::fs::File::open(path).map_err(read(path))?;
        let mut start = Vec::new();
        plain(file).and_then(|stream| stream.take(START as u64).read_to_end(&mut start)).map_err(read(path))?;
        match container(&start) {
            Some(Container::Cpio | Container::Squashfs | Container::Erofs) => {}
            Some(Container::Tar) => {
                if let Some(side) = Self::of_packed_artefacts(name, path)? {
                    return Ok(side);
                }
            }
            _ if path.file_name().is_some_and(|file| file == recipe::LOCK_FILE)
                || start.starts_with(b"# Written by imgbuild") =>
            {
                return Self::of_lock(name, std::fs::read(path).map_err(read(path))?);
            }
            _ => {
                let problem = "is neither an archive in cpio, tar, squashfs or erofs nor a lock".to_owned();
                return Err(SideError::Unknown { path: path.to_owned(), problem });
            }
        }
        let tree = archive(path)?;
        let (packages, damaged) = packages_of(&tree);
        Ok(Self {
            kind: "archive",
            files_from: Some("archive"),
            packages,
            damaged,
            tree: Some(tree),
            ..Self::default()
        })
    }

    /// A tar archive with artefacts in one of its directories; none where it has no packed image.
    fn of_packed_artefacts(name: &str, path: &Path) -> Result<Option<Self>, SideError> {
        let open = || -> std::io::Result<_> {
            let file = std::fs::File::open(path)?;
            let size = file.metadata()?.len();
            Ok(open_tar(limited(plain(file)?, size)))
        };
        let mut archive = open().map_err(read(path))?;
        let mut has_image = false;
        for entry in archive.entries().map_err(read(path))? {
            let entry = entry.map_err(read(path))?;
            let file = entry.path().map_err(read(path))?.file_name().map(|name| name.to_string_lossy().into_owned());
            has_image |= file.is_some_and(|file| ROOTIMGS.contains(&file.as_str()));
        }
        if !has_image {
            return Ok(None);
        }
        let directory = Swept::below(&std::env::temp_dir(), "imgbuild-diff-").map_err(read(path))?;
        open().map_err(read(path))?.unpack(directory.path()).map_err(read(path))?;
        let found = walkdir::WalkDir::new(directory.path()).into_iter().flatten();
        let found = found.filter(|entry| entry.file_type().is_dir()).find(|entry| is_bundle(entry.path()));
        found.map(|entry| Self::of_directory(name, entry.path())).transpose()
    }
}
