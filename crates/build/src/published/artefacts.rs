//! The artefacts: written aside, published together by one rename, or not at all (D17).

use std::io::Read;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::assemble::assemble;
use super::earlier::forget_old;
use super::forms::{PackedImage, PublishedForm};
use crate::StageError;
use base::digest::Sha256;
use base::failure::start;
use base::format::{Newer, Version, version_of};
use files::{Durability, create};
use node_words::kdump;
use recipe::{Kdump, Recipe, Statelite};
use store::{BlobRef, Store, StoreError};

pub(crate) const BUILD_FORMAT: Version = Version::new(1, 0);

/// One published file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Artefact {
    /// File name.
    pub name: String,
    /// Bytes.
    pub size: u64,
    /// Content.
    #[schemars(with = "String")]
    pub sha256: Sha256,
}

/// build.json: what was built, without time, host, user, path or number of jobs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct BuildInfo {
    /// Version of this form.
    pub format_version: String,
    /// The image.
    pub name: String,
    /// Distribution, release and architecture.
    pub target: String,
    /// No time in the image is later, in seconds since 1970.
    pub epoch: i64,
    /// What `uname -r` prints on the node.
    pub kernel_release: String,
    /// Words for the kernel's command line; `{url}` stands for the directory of these files on the server.
    pub cmdline: Vec<String>,
    /// Memory that the unpacked image takes, in bytes.
    pub memory: u64,
    /// The files beside this one.
    pub artefacts: Vec<Artefact>,
    /// The image's layers, lowest first: name and digest.
    pub layers: Vec<(String, String)>,
    /// Actions whose results differed between runs (D8).
    pub not_reproducible: Vec<String>,
    /// Repositories of which signatures count that can be forged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub weak_signatures: Vec<String>,
    /// Drivers that the recipe brings itself, by where they come from. A kernel that insists on signatures loads those alone that its vendor signed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub own_drivers: Vec<String>,
    /// More forms of the image.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<PublishedForm>,
}

impl BuildInfo {
    /// What is written of the build in a directory; none where it cannot be read.
    pub fn read(directory: &Path) -> Option<Self> {
        serde_json::from_slice(&std::fs::read(directory.join("build.json")).ok()?).ok()
    }

    /// Words for the kernel's command line, and the memory in bytes, of a form by the name of its file.
    pub fn form(&self, rootimg: &str) -> Option<(&[String], u64)> {
        let first = format!("imgurl={{url}}/{rootimg}");
        if self.cmdline.contains(&first) {
            return Some((&self.cmdline, self.memory));
        }
        self.also.iter().find(|form| form.rootimg == rootimg).map(|form| (&form.cmdline[..], form.memory))
    }

    /// Device trees beside the kernel: names of their files.
    pub fn device_trees(&self) -> Vec<String> {
        self.artefacts.iter().map(|one| &one.name).filter(|name| name.ends_with(".dtb")).cloned().collect()
    }

    /// Names of the packed images, the one first that nodes boot.
    pub fn forms(&self) -> Vec<&str> {
        let first = self.cmdline.iter().find_map(|word| word.strip_prefix("imgurl={url}/"));
        first.into_iter().chain(self.also.iter().map(|form| form.rootimg.as_str())).collect()
    }
}

pub(crate) struct Publication<'a> {
    pub recipe: &'a Recipe,
    pub store: &'a Store,
    /// Directory that gets the artefacts: `out` next to the recipe, or `--out`.
    pub out: &'a Path,
    pub kernel: BlobRef,
    pub kernel_release: String,
    /// Device trees that go beside it, by their file names.
    pub device_trees: Vec<(String, BlobRef)>,
    pub initrd: BlobRef,
    /// What nodes with paths of their own get besides: the initrd and the list.
    pub statelite: Option<(BlobRef, BlobRef)>,
    pub kdump: Option<BlobRef>,
    /// The forms of the image: the one that nodes boot, and others beside it.
    pub images: Vec<PackedImage>,
    pub layers: Vec<(String, String)>,
    pub target: String,
    pub epoch: i64,
    /// Actions whose results differed.
    pub not_reproducible: Vec<String>,
}

fn manifest(kernel: &Sha256, initrd: &Sha256, table: &Kdump) -> Vec<u8> {
    let manifest = kdump::Manifest {
        format: kdump::FORMAT,
        kernel: kernel.to_string(),
        initrd: initrd.to_string(),
        cmdline: table.cmdline.clone(),
    };
    let mut text = serde_json::to_vec_pretty(&manifest).unwrap_or_default();
    text.push(b'\n');
    text
}

pub(crate) fn sha256_of(path: &Path) -> std::io::Result<Sha256> {
    let mut file = std::fs::File::open(path)?;
    let mut hasher: sha2::Sha256 = sha2::Digest::new();
    let mut buffer = vec![0u8; 1 << 20];
    loop {
        let read = file.read(&mut buffer)?;
        if read == 0 {
            return Ok(Sha256(sha2::Digest::finalize(hasher).into()));
        }
        sha2::Digest::update(&mut hasher, &buffer[..read]);
    }
}

/// Name of the file with the digests of all others.
pub(crate) const SUMS: &str = "SHA256SUMS";

/// Its text, as sha256sum(1) reads it.
pub(crate) fn sums(artefacts: &[Artefact]) -> String {
    artefacts.iter().map(|artefact| format!("{}  {}\n", artefact.sha256, artefact.name)).collect()
}

pub fn published(out: &Path, name: &str) -> Option<(PathBuf, BuildInfo)> {
    let link = out.join(name);
    let directory = witness::canonicalize(&link).ok()?;
    let info: BuildInfo = serde_json::from_slice(&witness::read(&directory.join("build.json")).ok()?).ok()?;
    BUILD_FORMAT.reads("build.json", Version::parse(&info.format_version)?, None).ok()?;
    Some((directory, info))
}

/// Refuses a published image whose build.json has a later form.
/// Errors: [`Newer`].
pub fn newer_build(out: &Path, name: &str) -> Result<(), Newer> {
    let path = out.join(name).join("build.json");
    let document: serde_json::Value = match std::fs::read(&path).map(|bytes| serde_json::from_slice(&bytes)) {
        Ok(Ok(document)) => document,
        _ => return Ok(()),
    };
    match version_of(&document) {
        Some((found, needs)) => BUILD_FORMAT.reads(&format!("`{}`", path.display()), found, needs),
        None => Ok(()),
    }
}

impl Publication<'_> {
    /// Words for the kernel's command line of a form.
    fn cmdline(&self, rootimg: &str, index: &Sha256, list: Option<&Sha256>, kdump: Option<&Sha256>) -> Vec<String> {
        let mut words = vec![format!("imgurl={{url}}/{rootimg}"), format!("imgdigest=sha256:{index}")];
        words.extend(list.map(|list| format!("imgbuild.statelite=sha256:{list}")));
        words.extend(kdump.map(|manifest| format!("imgbuild.kdump=sha256:{manifest}")));
        let root = self.recipe.model.statelite.as_ref().and_then(Statelite::root_word);
        words.extend(root.map(|root| format!("root=nfs:{root}")));
        words.extend(self.recipe.model.kdump.as_ref().map(|table| format!("crashkernel={}", table.reserve)));
        // A form that is unpacked is no root that is read.
        let is_lazy =
            self.recipe.model.pack.forms().iter().any(|form| form.rootimg() == rootimg && form.archive.stays_packed());
        let fields =
            self.recipe.model.boot.fields().into_iter().filter(|(_, field, _)| is_lazy || *field != "boot.root");
        words.extend(fields.map(|(word, _, value)| format!("{word}{value}")));
        words.extend(self.recipe.model.boot.cmdline.iter().cloned());
        words
    }

    /// Writes the files aside and swaps them in; gives the directory and what was published.
    /// Errors: [`StageError::Publish`]; the previous artefacts are untouched then.
    pub(crate) fn publish(&self) -> Result<(PathBuf, BuildInfo), StageError> {
        let name = &self.recipe.model.image.name;
        let builds = self.out.join(".builds").join(name);
        files::beside::check_owners(self.out, &builds.join(".lock"))
            .map_err(StageError::publishing("publish in", &builds))?;
        std::fs::create_dir_all(&builds).map_err(StageError::publishing("create the directory", &builds))?;
        // One at a time for each image; what a killed one left goes.
        let _held = store::FileLock::take(&builds.join(".lock"))?;
        for entry in std::fs::read_dir(&builds).map_err(StageError::publishing("read", &builds))?.flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with(".new-")) {
                let _ = std::fs::remove_dir_all(entry.path());
            }
        }
        let aside = tempfile::Builder::new()
            .prefix(".new-")
            .permissions(std::os::unix::fs::PermissionsExt::from_mode(0o755))
            .tempdir_in(&builds)
            .map_err(StageError::publishing("create a directory in", &builds))?;
        // The images are no part of a repository, wherever they are put.
        let _ = create(&self.out.join(".builds/.gitignore"), b"*\n", 0o644, Durability::Kill);
        let before = published(self.out, name);
        fault::point("publish.made");
        let mut artefacts = Vec::new();
        let mut copy = |file: &str, blob: BlobRef| -> Result<Sha256, StageError> {
            let to = aside.path().join(file);
            let sha256 = self.store.copy_blob(&blob, &to).map_err(|error| match error {
                // Not the store's disk.
                StoreError::Full { intent, path } => {
                    StageError::PublishFull { intent, path: path.display().to_string() }
                }
                other => other.into(),
            })?;
            artefacts.push(Artefact { name: file.to_owned(), size: blob.size, sha256 });
            Ok(sha256)
        };
        let kernel = copy("kernel", self.kernel)?;
        for (name, blob) in &self.device_trees {
            copy(name, *blob)?;
        }
        copy("initrd-stateless", self.initrd)?;
        let list = match self.statelite {
            Some((initrd, list)) => {
                copy("initrd-statelite", initrd)?;
                Some(copy("statelite.json", list)?)
            }
            None => None,
        };
        let dump = match self.kdump {
            Some(initrd) => Some(copy(kdump::INITRD, initrd)?),
            None => None,
        };
        let manifest = match dump.zip(self.recipe.model.kdump.as_ref()) {
            Some((initrd, table)) => {
                let text = manifest(&kernel, &initrd, table);
                let blob = self.store.ensure_blob(&text)?;
                Some(copy(kdump::MANIFEST, blob)?)
            }
            None => None,
        };
        let mut made = Vec::new();
        for image in &self.images {
            let index = copy(&format!("{}.index", image.rootimg), image.index)?;
            made.push(PublishedForm {
                rootimg: image.rootimg.to_owned(),
                cmdline: self.cmdline(image.rootimg, &index, list.as_ref(), manifest.as_ref()),
                memory: image.memory,
            });
        }
        for image in &self.images {
            let index = artefacts.iter().find(|one| one.name.strip_suffix(".index") == Some(image.rootimg));
            let reused = index.zip(before.as_ref()).and_then(|(index, before)| reused(before, index, aside.path()));
            artefacts.push(match reused {
                Some(artefact) => artefact,
                None => {
                    let to = aside.path().join(image.rootimg);
                    let (size, sha256) = assemble(self.store, &image.index, &image.frames, &to)?;
                    Artefact { name: image.rootimg.to_owned(), size, sha256 }
                }
            });
        }
        let first = made.remove(0);
        fault::point("publish.assembled");
        artefacts.sort_by(|a, b| a.name.cmp(&b.name));
        let write = |name: &str, bytes: &[u8]| {
            let path = aside.path().join(name);
            std::fs::write(&path, bytes).map_err(StageError::publishing("write", &path))
        };
        write(SUMS, sums(&artefacts).as_bytes())?;
        let info = BuildInfo {
            format_version: BUILD_FORMAT.to_string(),
            name: name.clone(),
            target: self.target.clone(),
            epoch: self.epoch,
            kernel_release: self.kernel_release.clone(),
            cmdline: first.cmdline,
            memory: first.memory,
            artefacts,
            layers: self.layers.clone(),
            not_reproducible: self.not_reproducible.clone(),
            weak_signatures: self.recipe.weak_repositories(),
            own_drivers: self.recipe.model.kernel.own_drivers(),
            also: made,
        };
        let mut text = serde_json::to_vec_pretty(&info).unwrap_or_default();
        text.push(b'\n');
        write("build.json", &text)?;
        fault::point("publish.written");
        let digest = Sha256::of(&text).short();
        // The old one of the same name, or nothing, is removed with `aside`.
        put_in_place(self.out, name, aside.path(), &digest).map(|directory| (directory, info))
    }
}

/// Renames a directory with all files of an image, which lies among its builds, into place, and points the image's link at it. The caller
/// holds the lock of the builds. What has the directory's name afterwards may go.
/// Errors: [`StageError::Publish`]; the previous artefacts are untouched then.
pub(crate) fn put_in_place(out: &Path, name: &str, aside: &Path, digest: &str) -> Result<PathBuf, StageError> {
    let builds = out.join(".builds").join(name);
    let place = builds.join(digest);
    std::thread::scope(|scope| {
        // The disk has to be waited for meanwhile. Where no thread can be started, the next publication removes them.
        let _ = start(scope, || forget_old(&builds, digest, std::fs::read_link(out.join(name)).ok().as_deref()));
        wait_for_the_disk(aside)
    })?;
    if place.exists() {
        crate::published::copies::beside::carry_over(&place, aside);
        // The same build. The two are exchanged, so that a damaged one is mended and no one finds it missing.
        let (here, flags) = (rustix::fs::CWD, rustix::fs::RenameFlags::EXCHANGE);
        rustix::fs::renameat_with(here, aside, here, &place, flags)
            .map_err(|error| StageError::publishing("replace", &place)(error.into()))?;
    } else {
        std::fs::rename(aside, &place).map_err(StageError::publishing("publish", &place))?;
    }
    // The link must not lead to a name that a power cut takes away.
    std::fs::File::open(&builds)
        .and_then(|directory| directory.sync_all())
        .map_err(StageError::publishing("sync", &builds))?;
    fault::point("publish.renamed");
    let link = out.join(name);
    let new_link = out.join(format!(".{name}.new"));
    if fault::planted("publish-in-place") {
        let _ = std::fs::remove_file(&link);
    }
    let _ = std::fs::remove_file(&new_link);
    std::os::unix::fs::symlink(format!(".builds/{name}/{digest}"), &new_link)
        .map_err(StageError::publishing("create the link", &new_link))?;
    fault::point("publish.link-made");
    if link.is_dir() && !link.is_symlink() {
        let error = std::io::Error::other("there is a directory that imgbuild did not make");
        return Err(StageError::publishing("replace", &link)(error));
    }
    std::fs::rename(&new_link, &link).map_err(StageError::publishing("publish", &link))?;
    std::fs::File::open(out).and_then(|directory| directory.sync_all()).map_err(StageError::publishing("sync", out))?;
    fault::point("publish.linked");
    Ok(place)
}

/// Waits until all files of a directory are on the disk.
fn wait_for_the_disk(directory: &Path) -> Result<(), StageError> {
    for entry in std::fs::read_dir(directory).map_err(StageError::publishing("read", directory))?.flatten() {
        std::fs::File::open(entry.path())
            .and_then(|file| file.sync_all())
            .map_err(StageError::publishing("sync", &entry.path()))?;
    }
    Ok(())
}

/// Takes the packed image of what is published already by one more link, where its index is the same and its bytes are those.
fn reused((directory, info): &(PathBuf, BuildInfo), index: &Artefact, into: &Path) -> Option<Artefact> {
    let rootimg = index.name.strip_suffix(".index")?;
    let same_index = info.artefacts.iter().any(|one| one.name == index.name && one.sha256 == index.sha256);
    let artefact = info.artefacts.iter().find(|artefact| artefact.name == rootimg)?;
    let (from, to) = (directory.join(rootimg), into.join(rootimg));
    let whole = std::fs::metadata(&from).is_ok_and(|metadata| metadata.len() == artefact.size);
    if same_index && whole && std::fs::hard_link(&from, &to).is_ok() {
        if sha256_of(&to).is_ok_and(|digest| digest == artefact.sha256) {
            return Some(artefact.clone());
        }
        let _ = std::fs::remove_file(&to);
    }
    None
}
