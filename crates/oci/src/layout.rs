//! A directory in OCI's layout, and the same as one file: what skopeo calls `oci:` and `oci-archive:`.
//! Source: image-spec, "OCI Image Layout Specification".

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::document::{ARTIFACT_LIMIT, Descriptor, INDEX, Index, MANIFEST, Manifest, Named};
use super::error::OciError;
use super::referrers::{about, chosen};
use super::send::{At, Content, Counted, Destination, Kept, Moved, Source};
use base::digest::Sha256;
use files::sweep::Swept;
use files::{self, Aside, Durability, Folders};

pub(super) const REF_NAME: &str = "org.opencontainers.image.ref.name";
const VERSION_FILE: &str = "oci-layout";
const INDEX_FILE: &str = "index.json";
const BLOBS: &str = "blobs/sha256/";
/// Bytes of index.json at most.
const LIMIT: u64 = 16 << 20;

/// What a blob is called in a layout.
fn blob_name(digest: &Sha256) -> String {
    format!("{BLOBS}{digest}")
}

pub struct Layout {
    /// The directory, or the file that is one.
    directory: PathBuf,
    tag: String,
    packed: Option<Packed>,
}

/// A layout as one file: where in it each of its files begins, and its length.
struct Packed {
    file: File,
    places: BTreeMap<String, (u64, u64)>,
}

impl Layout {
    /// Names a directory that is there; nothing of it is read yet.
    pub fn new(directory: &Path, tag: Option<&str>) -> Self {
        Self { directory: directory.to_owned(), tag: tag.unwrap_or("latest").to_owned(), packed: None }
    }

    /// Opens a file in the form of [`Archive`], and finds its files; it is not unpacked.
    /// Errors: [`OciError::Keep`] for a file that is no tar archive, [`OciError::Layout`] for one with something else.
    pub fn packed(path: &Path, tag: Option<&str>) -> Result<Self, OciError> {
        let reading = || OciError::keeping("read as a tar archive", path);
        let file = File::open(path).map_err(reading())?;
        let mut archive = tar::Archive::new(&file);
        let mut places = BTreeMap::new();
        for entry in archive.entries_with_seek().map_err(reading())? {
            let entry = entry.map_err(reading())?;
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            if entry.header().entry_type() == tar::EntryType::Regular
                && (name == INDEX_FILE || name == VERSION_FILE || name.starts_with(BLOBS))
            {
                places.insert(name, (entry.raw_file_position(), entry.size()));
            }
        }
        if !places.contains_key(INDEX_FILE) {
            let problem = format!("has no {INDEX_FILE}: it is not a layout of OCI's in a tar archive");
            return Err(OciError::Layout { path: path.to_owned(), problem });
        }
        Ok(Self { packed: Some(Packed { file, places }), ..Self::new(path, tag) })
    }

    /// Opens a file of it; gives its length, too. None if there is nothing of that name.
    fn file(&self, name: &str) -> std::io::Result<Option<(Box<dyn Read>, u64)>> {
        let Some(Packed { file, places }) = &self.packed else {
            let file = match File::open(self.directory.join(name)) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
                other => other?,
            };
            let found = file.metadata()?;
            return Ok(found.is_file().then(|| (Box::new(file) as Box<dyn Read>, found.len())));
        };
        let Some((from, size)) = places.get(name).copied() else { return Ok(None) };
        Ok(Some((Box::new(At { file: file.try_clone()?, at: from }.take(size)), size)))
    }

    /// Makes a directory, or takes one that is in this form already.
    /// Errors: [`OciError::Layout`] for a directory with anything else.
    pub fn make(directory: &Path, tag: Option<&str>) -> Result<Self, OciError> {
        let layout = Self::new(directory, tag);
        let refused = |problem: &str| OciError::Layout { path: directory.to_owned(), problem: problem.to_owned() };
        if directory.exists() && !directory.is_dir() {
            return Err(refused("is not a directory"));
        }
        let made = Folders::make(&directory.join(BLOBS)).map_err(OciError::keeping("create", directory))?;
        let version = directory.join(VERSION_FILE);
        if !version.exists() {
            // What a killed one was writing; or what another is writing now.
            files::sweep::remove_dead_files(directory, files::TEMPORARY);
            let names = std::fs::read_dir(directory).map_err(OciError::keeping("read", directory))?.flatten();
            let is_new = |name: &OsStr| name.as_bytes().starts_with(files::TEMPORARY.as_bytes());
            if names.map(|entry| entry.file_name()).any(|name| name != "blobs" && !is_new(&name)) {
                return Err(refused("has other files than those of OCI's layout"));
            }
            layout.put(VERSION_FILE, b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
        }
        layout.index()?;
        made.keep();
        Ok(layout)
    }

    pub(super) fn directory(&self) -> &Path {
        &self.directory
    }

    /// Bytes of a blob that is there.
    pub(super) fn size_of(&self, digest: &Sha256) -> Result<u64, OciError> {
        let found = self.file(&blob_name(digest)).map_err(OciError::keeping("read", &self.blob(digest)))?;
        found.map(|(_, size)| size).ok_or_else(|| self.lacks(digest))
    }

    fn lacks(&self, digest: &Sha256) -> OciError {
        OciError::keeping("read", &self.blob(digest))(std::io::ErrorKind::NotFound.into())
    }

    fn blob(&self, digest: &Sha256) -> PathBuf {
        self.directory.join(blob_name(digest))
    }

    pub(super) fn index(&self) -> Result<Index, OciError> {
        let path = self.directory.join(INDEX_FILE);
        let mut bytes = Vec::new();
        let Some((file, _)) = self.file(INDEX_FILE).map_err(OciError::keeping("read", &path))? else {
            return Ok(Index { schema_version: 2, ..Index::default() });
        };
        file.take(LIMIT).read_to_end(&mut bytes).map_err(OciError::keeping("read", &path))?;
        let problem = |error: serde_json::Error| format!("is not an index of OCI's layout: {error}");
        serde_json::from_slice(&bytes).map_err(|error| OciError::Layout { path, problem: problem(error) })
    }

    /// Writes a file aside and gives it its name.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), OciError> {
        let path = self.directory.join(name);
        files::replace(&path, bytes, 0o644, Durability::PowerCut).map_err(OciError::keeping("write", &path))
    }

    /// Takes the index for this process alone.
    fn hold(&self) -> Result<File, OciError> {
        let held = File::open(&self.directory).map_err(OciError::keeping("open", &self.directory))?;
        rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive)
            .map_err(|error| OciError::keeping("lock", &self.directory)(error.into()))?;
        Ok(held)
    }

    fn open(&self, blob: &Descriptor) -> Result<Box<dyn Read>, OciError> {
        let path = self.blob(&blob.digest);
        match self.file(&blob_name(&blob.digest)).map_err(OciError::keeping("read", &path))? {
            Some((file, size)) if size == blob.size => Ok(file),
            Some(_) => Err(OciError::Layout { path, problem: format!("is not a file of {} bytes", blob.size) }),
            None => Err(self.lacks(&blob.digest)),
        }
    }

    fn copied(
        &self,
        blob: &Descriptor,
        what: &str,
        take: &mut dyn FnMut(&[u8], u64) -> std::io::Result<()>,
    ) -> Result<(), OciError> {
        let mut file = self.open(blob)?;
        let mut hasher: sha2::Sha256 = sha2::Digest::new();
        let mut buffer = vec![0; 1 << 18];
        let mut at = 0;
        loop {
            let read = file.read(&mut buffer).map_err(OciError::keeping("read", &self.blob(&blob.digest)))?;
            if read == 0 {
                break;
            }
            sha2::Digest::update(&mut hasher, &buffer[..read]);
            take(&buffer[..read], at).map_err(OciError::keeping("write", Path::new(what)))?;
            at += read as u64;
        }
        let found = Sha256(sha2::Digest::finalize(hasher).into());
        match found == blob.digest {
            true => Ok(()),
            false => {
                let (what, place) = (what.to_owned(), Source::place(self));
                Err(OciError::Digest { what, place, expected: blob.digest, found })
            }
        }
    }
}

impl Destination for Layout {
    fn take(&self, blob: &Descriptor, content: &Content, moved: Moved<'_>) -> Result<Kept, OciError> {
        if self.open(blob).is_ok() {
            return Ok(Kept::There);
        }
        content.check(blob)?;
        let path = self.blob(&blob.digest);
        let written = || -> std::io::Result<()> {
            let mut aside = Aside::of(&path, 0o644)?;
            std::io::copy(&mut Counted { reader: content.open(blob.size)?, moved }, &mut aside)?;
            aside.replace(Durability::Kill)
        };
        written().map_err(OciError::keeping("write", &path))?;
        Ok(Kept::Sent)
    }

    /// Names a referrer in the index without a tag, as its `artifactType` and digest. Source: image-spec, "Image Layout", index.json.
    fn attach(&self, about: &Manifest) -> Result<(), OciError> {
        let bytes = about.bytes();
        let digest = Sha256::of(&bytes);
        self.put(&blob_name(&digest), &bytes)?;
        let _held = self.hold()?;
        let mut index = self.index()?;
        index.manifests.retain(|one| one.digest != digest);
        index.manifests.push(Named::referrer(about, digest, bytes.len() as u64));
        self.put(INDEX_FILE, &serde_json::to_vec(&index).unwrap_or_default())
    }

    fn finish(&self, manifest: &[u8], digest: Sha256) -> Result<(), OciError> {
        self.put(&blob_name(&digest), manifest)?;
        let _held = self.hold()?;
        let mut index = self.index()?;
        index.manifests.retain(|one| one.annotations.get(REF_NAME) != Some(&self.tag));
        let annotations = [(REF_NAME.to_owned(), self.tag.clone())].into();
        let size = manifest.len() as u64;
        let media_type = MANIFEST.to_owned();
        index.manifests.push(Named { media_type, digest, size, annotations, rest: serde_json::Map::new() });
        index.manifests.sort_by(|a, b| a.annotations.get(REF_NAME).cmp(&b.annotations.get(REF_NAME)));
        index.rest.entry("mediaType").or_insert_with(|| INDEX.into());
        self.put(INDEX_FILE, &serde_json::to_vec(&index).unwrap_or_default())
    }
}

impl Source for Layout {
    fn place(&self) -> String {
        let kind = if self.packed.is_some() { "oci-archive" } else { "oci-layout" };
        format!("{kind}:{}:{}", self.directory.display(), self.tag)
    }

    fn manifest(&self) -> Result<Vec<u8>, OciError> {
        let index = self.index()?;
        let found = index.manifests.iter().find(|one| one.annotations.get(REF_NAME) == Some(&self.tag));
        let Some(found) = found else {
            let names: Vec<&str> =
                index.manifests.iter().filter_map(|one| one.annotations.get(REF_NAME)).map(String::as_str).collect();
            let help = match names.is_empty() {
                true => {
                    "name a directory or a file that `imgbuild push` wrote: oci-layout:DIR:TAG, oci-archive:FILE:TAG"
                        .to_owned()
                }
                false => format!("name one of its tags: {}", names.join(", ")),
            };
            return Err(OciError::NotThere {
                place: Source::place(self),
                answer: "it has no such tag".to_owned(),
                help,
            });
        };
        if found.size > ARTIFACT_LIMIT {
            let problem = format!("has a manifest of more than {ARTIFACT_LIMIT} bytes");
            return Err(OciError::NotAnImage { place: Source::place(self), problem });
        }
        let blob = Descriptor::new(MANIFEST, found.digest, found.size);
        self.read(&blob, "the manifest")
    }

    fn attached(&self, subject: &Sha256, kinds: &[&str]) -> Result<Vec<Manifest>, OciError> {
        let index = self.index()?;
        chosen(&index, kinds)
            .into_iter()
            .filter_map(|one| {
                let read = self.read(&one, "a referrer's manifest");
                read.map(|bytes| about(&bytes, subject, kinds)).transpose()
            })
            .collect()
    }

    fn read(&self, blob: &Descriptor, what: &str) -> Result<Vec<u8>, OciError> {
        let mut all = Vec::new();
        self.copied(blob, what, &mut |bytes, _| {
            all.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(all)
    }

    fn write(&self, blob: &Descriptor, what: &str, to: &File, from: u64) -> Result<(), OciError> {
        self.copied(blob, what, &mut |bytes, at| to.write_all_at(bytes, from + at))
    }
}

pub struct Archive {
    layout: Layout,
    aside: Swept,
    file: PathBuf,
}

impl Archive {
    /// Makes one; it has its name once it is whole.
    /// Errors: [`OciError::Keep`].
    pub fn make(file: &Path, tag: Option<&str>) -> Result<Self, OciError> {
        let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let aside = Swept::below(folder, ".imgbuild-oci-");
        let aside = aside.map_err(OciError::keeping("create a directory in", folder))?;
        let layout = Layout::make(&aside.path().join("layout"), tag)?;
        Ok(Self { layout, aside, file: file.to_owned() })
    }

    fn pack(&self) -> std::io::Result<()> {
        let mut names: Vec<PathBuf> = walkdir::WalkDir::new(&self.layout.directory)
            .into_iter()
            .map(|entry| entry.map(walkdir::DirEntry::into_path))
            .collect::<Result<_, _>>()?;
        names.sort();
        let path = self.aside.path().join("whole");
        let mut out = tar::Builder::new(std::io::BufWriter::new(File::create(&path)?));
        for name in names.iter().filter(|name| name.is_file()) {
            let file = File::open(name)?;
            let mut header = tar::Header::new_ustar();
            header.set_size(file.metadata()?.len());
            header.set_mode(0o644);
            header.set_mtime(0);
            header.set_cksum();
            let below = name.strip_prefix(&self.layout.directory).unwrap_or(name);
            out.append_data(&mut header, below, file)?;
        }
        let file = out.into_inner()?.into_inner().map_err(std::io::IntoInnerError::into_error)?;
        file.sync_data()?;
        std::fs::rename(&path, &self.file)
    }
}

impl Destination for Archive {
    fn attach(&self, about: &Manifest) -> Result<(), OciError> {
        self.layout.attach(about)
    }

    fn take(&self, blob: &Descriptor, content: &Content, moved: Moved<'_>) -> Result<Kept, OciError> {
        self.layout.take(blob, content, moved)
    }

    fn finish(&self, manifest: &[u8], digest: Sha256) -> Result<(), OciError> {
        self.layout.finish(manifest, digest)?;
        self.pack().map_err(OciError::keeping("write", &self.file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_killed_or_another_push_was_writing_is_no_other_file() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().join("layout");
        std::fs::create_dir_all(directory.join("blobs")).unwrap();
        let name = |end: &str| directory.join(format!("{}{end}", files::TEMPORARY));
        std::fs::write(name("dead"), "half").unwrap();
        let held = File::create(name("held")).unwrap();
        held.lock().unwrap();
        Layout::make(&directory, None).map(drop).unwrap();
        assert!(!name("dead").exists() && name("held").exists());
        std::fs::remove_file(directory.join(VERSION_FILE)).unwrap();
        std::fs::write(directory.join("notes"), "").unwrap();
        assert!(matches!(Layout::make(&directory, None), Err(OciError::Layout { .. })));
    }
}
