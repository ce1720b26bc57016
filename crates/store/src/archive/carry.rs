//! The file that carries a store: a tar archive of what the host process reads and writes, and [`super::save_layers`]'s
//! stream for what lies inside.
//!
//! Members: `about.json`, `blobs/..` and `packages/..` as the store has them, `layers.zst`, `actions/<key>.json`,
//! `roots/<id>.json`; in this order, so that a record gets its name after all that it names.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::blob::copy_and_hash;
use crate::{ActionRecord, Root, Store, StoreError, Written};
use base::digest::{Digest, Sha256};

const FORMAT: u32 = 1;

/// Largest record or root that is read, in bytes.
const TEXT_LIMIT: u64 = 64 << 20;

#[derive(Debug, Serialize, Deserialize)]
struct About {
    format: u32,
    imgbuild: String,
}

/// What the last builds of some images need.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Carried {
    pub roots: Vec<Root>,
    pub actions: BTreeSet<Digest>,
    pub layers: BTreeSet<Digest>,
    pub frames: BTreeSet<Digest>,
    pub blobs: BTreeSet<Digest>,
    pub packages: BTreeSet<Sha256>,
}

impl Carried {
    /// Gathers what some builds need, as far as the store has it; package files only where they are wanted.
    pub fn of(store: &Store, roots: Vec<Root>, with_packages: bool) -> Self {
        let mut all = Self::default();
        for root in &roots {
            for key in root.actions.values() {
                let Some(record) = store.record(key).filter(|record| store.has_outputs(&record.outputs)) else {
                    continue;
                };
                all.actions.insert(*key);
                all.layers.extend(record.outputs.layer);
                all.frames.extend(record.outputs.frames.iter().copied());
                all.blobs.extend(record.outputs.blobs.values().map(|blob| blob.digest));
            }
            if with_packages {
                all.packages.extend(root.packages.iter().filter(|digest| store.package(digest).is_file()));
            }
        }
        all.roots = roots;
        all
    }

    /// Writes the file; `layers` is what [`super::save_layers`] wrote.
    pub fn write(&self, store: &Store, layers: &Path, out: &mut dyn Write) -> Result<(), StoreError> {
        let said = |source: std::io::Error| StoreError::io("write", Path::new("the saved store"), source);
        let json = |value: Result<Vec<u8>, serde_json::Error>| value.map_err(|error| said(error.into()));
        let mut archive = tar::Builder::new(out);
        let about = About { format: FORMAT, imgbuild: env!("CARGO_PKG_VERSION").to_owned() };
        append(&mut archive, "about.json", &json(serde_json::to_vec(&about))?).map_err(said)?;
        for digest in &self.blobs {
            append_file(&mut archive, &Store::blob_name(digest), &store.blob(digest))?;
        }
        for digest in &self.packages {
            append_file(&mut archive, &Store::package_name(digest), &store.package(digest))?;
        }
        append_file(&mut archive, "layers.zst", layers)?;
        for key in &self.actions {
            let record = store.record(key).ok_or_else(|| said(std::io::ErrorKind::NotFound.into()))?;
            let text = json(record.to_text().map(String::into_bytes))?;
            append(&mut archive, &format!("actions/{key}.json"), &text).map_err(said)?;
        }
        for (index, root) in self.roots.iter().enumerate() {
            let text = json(serde_json::to_vec_pretty(root))?;
            append(&mut archive, &format!("roots/{index}.json"), &text).map_err(said)?;
        }
        archive.finish().map_err(said)
    }
}

fn header(size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_size(size);
    header.set_mode(0o644);
    header.set_mtime(0);
    header
}

fn append(archive: &mut tar::Builder<&mut dyn Write>, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    archive.append_data(&mut header(bytes.len() as u64), name, bytes)
}

fn append_file(archive: &mut tar::Builder<&mut dyn Write>, name: &str, path: &Path) -> Result<(), StoreError> {
    let said = |source| StoreError::io("save", path, source);
    let file = std::fs::File::open(path).map_err(said)?;
    let size = file.metadata().map_err(said)?.len();
    // A file that shrinks while it is read is an error of `append_data`'s caller: sizes are compared at loading.
    archive.append_data(&mut header(size), name, file.take(size)).map_err(said)
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Brought {
    pub packages: usize,
    pub blobs: usize,
    pub layers: usize,
    pub frames: usize,
    pub actions: usize,
    pub builds: usize,
}

impl Store {
    /// All last builds that the store knows.
    /// Errors: [`StoreError::Damaged`] when one cannot be read.
    pub fn roots(&self) -> Result<Vec<Root>, StoreError> {
        let mut roots = Vec::new();
        for name in self.names_in("roots").iter().filter(|name| name.ends_with(".json")) {
            let path = self.directory().join("roots").join(name);
            let bytes = std::fs::read(&path).map_err(StoreError::reading(&path))?;
            roots.push(
                serde_json::from_slice(&bytes)
                    .map_err(|error| StoreError::Damaged { path, problem: format!("is not a root: {error}") })?,
            );
        }
        Ok(roots)
    }

    /// Takes in what a saved store has and this one has not. Files are checked against their names; what a record says
    /// about its key is believed. `inside` reads the stream of layers from a file named relative to the store.
    /// Errors: [`StoreError`] for a file that is no saved store, or damaged; what came before that stays.
    pub fn load<E: From<StoreError>>(
        &self,
        name: &Path,
        file: impl Read,
        inside: &mut dyn FnMut(&str) -> Result<super::Loaded, E>,
    ) -> Result<Brought, E> {
        let wrong = |problem: &str| StoreError::NotSaved { path: name.to_owned(), problem: problem.to_owned() };
        let unreadable = |error: std::io::Error| wrong(&format!("cannot be read: {error}"));
        let mut archive = tar::Archive::new(file);
        let mut brought = Brought::default();
        // No member has a name that needs another one before it, which would be read into memory whatever its length.
        let mut entries = archive.entries().map_err(unreadable)?.raw(true);
        let mut first = entries.next().ok_or_else(|| wrong("is empty"))?.map_err(unreadable)?;
        if first.path_bytes().as_ref() != b"about.json" {
            return Err(wrong("was not written by `imgbuild store save`").into());
        }
        let about: About = serde_json::from_slice(&whole(&mut first).map_err(unreadable)?)
            .map_err(|error| wrong(&format!("does not say what it is: {error}")))?;
        if about.format != FORMAT {
            let (form, version) = (about.format, about.imgbuild);
            return Err(wrong(&format!(
                "has format {form}, written by imgbuild {version}; this one reads format {FORMAT}"
            ))
            .into());
        }
        for entry in entries {
            let mut entry = entry.map_err(unreadable)?;
            // A sparse member would claim more than the file has.
            if entry.header().entry_type() != tar::EntryType::Regular {
                return Err(wrong("has a member that is not a regular file").into());
            }
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let (kind, rest) = path.split_once('/').unwrap_or((&path, ""));
            let leaf = rest.rsplit('/').next().unwrap_or_default();
            let unknown = || wrong(&format!("has an unexpected member `{path}`"));
            match kind {
                "blobs" => {
                    let digest = Digest::parse(leaf).map_err(|_| unknown())?;
                    let (copy, blake, _) = self.copy_of(name, &mut entry)?;
                    if blake != digest {
                        return Err(
                            wrong(&format!("is damaged: `{path}` does not match the digest in its name")).into()
                        );
                    }
                    brought.blobs += usize::from(self.take_in(copy, &blake, &self.blob(&digest))?);
                }
                "packages" => {
                    let digest = Sha256::parse(leaf).map_err(|_| unknown())?;
                    let (copy, blake, sha) = self.copy_of(name, &mut entry)?;
                    if sha != digest {
                        return Err(
                            wrong(&format!("is damaged: `{path}` does not match the digest in its name")).into()
                        );
                    }
                    brought.packages += usize::from(self.take_in(copy, &blake, &self.package(&digest))?);
                }
                "layers.zst" => {
                    let (copy, _, _) = self.copy_of(name, &mut entry)?;
                    let relative = copy.path().strip_prefix(self.directory()).map_err(|_| unknown())?;
                    let loaded = inside(&relative.to_string_lossy())?;
                    (brought.layers, brought.frames) = (loaded.layers, loaded.frames);
                }
                "actions" => {
                    let record = match ActionRecord::parse(&whole(&mut entry).map_err(unreadable)?) {
                        // An imgbuild that wrote no digest into records wrote the file.
                        Written::Whole(record) | Written::Earlier(record) => record,
                        Written::Later => return Err(wrong(&format!("has `{path}` of a later imgbuild")).into()),
                        Written::Spoilt => {
                            return Err(wrong(&format!("is damaged: `{path}` is not a valid record")).into());
                        }
                    };
                    if self.record(&record.key).is_none() && self.has_outputs(&record.outputs) {
                        self.commit(record)?;
                        brought.actions += 1;
                    }
                }
                "roots" => {
                    let root: Root = serde_json::from_slice(&whole(&mut entry).map_err(unreadable)?)
                        .map_err(|error| wrong(&format!("is damaged: `{path}`: {error}")))?;
                    if self.root(&root.recipe, &root.image).is_none() {
                        self.set_root(&root)?;
                        brought.builds += 1;
                    }
                }
                _ => return Err(unknown().into()),
            }
        }
        Ok(brought)
    }

    /// A half-written copy of a member, and its digests. What fails while it is written is this store's, and not the file's.
    fn copy_of(
        &self,
        name: &Path,
        entry: &mut impl Read,
    ) -> Result<(tempfile::NamedTempFile, Digest, Sha256), StoreError> {
        let mut copy = self.half_written()?;
        let mut noted = Noted { inner: copy.as_file_mut(), failed: None };
        let copied = copy_and_hash(entry, &mut noted);
        if let Some(source) = noted.failed.take() {
            return Err(StoreError::io("keep what is loaded in", self.directory(), source));
        }
        let unread = |error: std::io::Error| format!("cannot be read: {error}");
        let (blake, sha, _) =
            copied.map_err(|error| StoreError::NotSaved { path: name.to_owned(), problem: unread(error) })?;
        Ok((copy, blake, sha))
    }

    /// Gives a checked copy its place; whether it was not there. What is there with other content is replaced.
    fn take_in(&self, copy: tempfile::NamedTempFile, digest: &Digest, place: &Path) -> Result<bool, StoreError> {
        let there = std::fs::File::open(place).and_then(|mut file| copy_and_hash(&mut file, &mut std::io::sink()));
        if there.is_ok_and(|(found, _, _)| found == *digest) {
            return Ok(false);
        }
        self.place(copy, place)?;
        fault::point("load.file");
        Ok(true)
    }
}

/// Notes an error of writing: reading and writing meet in one copy.
struct Noted<'a> {
    inner: &'a mut std::fs::File,
    failed: Option<std::io::Error>,
}

impl std::io::Write for Noted<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let kind = match self.inner.write(bytes) {
            Ok(written) => return Ok(written),
            Err(error) => {
                let kind = error.kind();
                if kind != std::io::ErrorKind::Interrupted {
                    self.failed = Some(error);
                }
                kind
            }
        };
        Err(kind.into())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.inner.flush()
    }
}

/// A small member's bytes.
fn whole(entry: &mut impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    entry.take(TEXT_LIMIT).read_to_end(&mut bytes)?;
    Ok(bytes)
}
