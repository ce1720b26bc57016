//! A repository of a registry. An action is a tag, its key; the manifest behind it names the entry first, and then all files: what
//! a tag names stays until that goes.

use std::path::Path;

use super::coming::{Coming, Problems, Trouble, bring_alone, own, too_slow};
use super::{Kept, Shelf, Unsent, Wanted, missing_of};
use crate::entry::Object;
use crate::rate::Rate;
use crate::{Damage, Mended, PATIENCE};
use base::digest::{Digest, Sha256};
use oci::{
    Access, Content, Descriptor, Destination, EMPTY, EMPTY_CONFIG, Kept as Has, Manifest, OciError, Reference,
    Registry, Source,
};
use packages::Progress;
use store::StoreError;

const ARTIFACT: &str = "application/vnd.imgbuild.action.v1";
const ENTRY: &str = "application/vnd.imgbuild.action.entry.v1+json";
/// What all else is.
const FILE: &str = "application/octet-stream";

pub(super) struct Repository(Registry, Rate);

impl std::fmt::Debug for Repository {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Repository({})", self.0.place())
    }
}

impl Repository {
    /// By what follows `oci://`; `writes` says whether anything is brought there.
    pub(super) fn of(text: &str, writes: bool, rate: Rate) -> Result<Self, String> {
        let reference: Reference = text.parse()?;
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err("it has a tag; each action is one, so name the repository alone".to_owned());
        }
        let access = Access { writes, patience: Some(PATIENCE), ..Access::default() };
        Registry::new(&reference, access).map(|registry| Self(registry, rate)).map_err(|error| error.to_string())
    }

    fn one(&self, one: &Wanted) -> Result<(), Trouble> {
        let coming = Coming::of(one)?;
        let blob = Descriptor::new(FILE, one.object.sha256, one.object.size);
        match self.0.write_within(&blob, "a file of the cache", coming.file(), one.within) {
            Ok(()) => coming.keep(),
            // What is missing or damaged is left out.
            Err(error @ (OciError::NotThere { .. } | OciError::Digest { .. })) => Err(Trouble::Left(error.to_string())),
            Err(OciError::Keep { source, .. }) => Err(own(one, source)),
            Err(_) if coming.is_late() => Err(too_slow(one)),
            Err(error) => Err(Trouble::Lost(error.to_string())),
        }
    }
}

impl From<OciError> for Unsent {
    fn from(error: OciError) -> Self {
        // It says no to this one, and is there.
        let is_large = matches!(&error, OciError::Refused { status: 413, .. });
        let is_of_one = is_large || matches!(error, OciError::Usage { .. } | OciError::Digest { .. });
        Self { problem: error.to_string(), is_of_one }
    }
}

impl Shelf for Repository {
    fn entry(&self, key: &Digest) -> Result<Kept, String> {
        let said = |error: OciError| error.to_string();
        let bytes = match self.0.named(&key.to_string()) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return Ok(Kept::Nothing),
            // One that is damaged is one, and not all.
            Err(error @ (OciError::Digest { .. } | OciError::NotAnImage { .. })) => return Ok(Kept::Odd(said(error))),
            Err(error) => return Err(said(error)),
        };
        let manifest = match Manifest::parse(&bytes) {
            Ok(manifest) => manifest,
            Err(problem) => return Ok(Kept::Odd(problem)),
        };
        // Another program's: it is not believed, and so replaced.
        let own = manifest.layers.first().filter(|blob| blob.media_type == ENTRY && blob.size <= super::ENTRY_LIMIT);
        let Some(blob) = own else { return Ok(Kept::Odd("the tag is not an action".to_owned())) };
        match self.0.read(blob, "the entry of an action") {
            Ok(text) => Ok(Kept::Text(text)),
            Err(error @ (OciError::NotThere { .. } | OciError::Digest { .. })) => Ok(Kept::Odd(said(error))),
            Err(error) => Err(said(error)),
        }
    }

    fn missing(&self, objects: &[&Object]) -> Result<Vec<Sha256>, String> {
        missing_of(objects, &|object| {
            let there = self.0.has(&Descriptor::new(FILE, object.sha256, object.size));
            there.map_err(|error| error.to_string())
        })
    }

    fn bring(&self, wanted: &[Wanted], progress: &dyn Progress) -> Result<Problems, StoreError> {
        bring_alone(wanted, progress, &|one| self.one(one))
    }

    fn put(&self, object: &Object, file: &Path, _: bool) -> Result<bool, Unsent> {
        let blob = Descriptor::new(FILE, object.sha256, object.size);
        let content = Content::Part(file.to_owned(), 0);
        Ok(self.0.take(&blob, &content, &|bytes| self.1.spend(bytes))? != Has::There)
    }

    fn put_entry(&self, key: &Digest, text: &Path, objects: &[Object]) -> Result<(), Unsent> {
        let text = std::fs::read(text).map_err(|error| error.to_string())?;
        let entry = Descriptor::of(ENTRY, &text);
        let config = Descriptor::of(EMPTY_CONFIG, EMPTY);
        let files = objects.iter().map(|object| Descriptor::new(FILE, object.sha256, object.size));
        let layers = std::iter::once(entry.clone()).chain(files).collect();
        let manifest = Manifest::new(Some(ARTIFACT), config.clone(), layers).bytes();
        self.0.take(&config, &Content::Bytes(EMPTY.to_vec()), &|_| {})?;
        self.0.take(&entry, &Content::Bytes(text), &|_| {})?;
        Ok(self.0.name(&manifest, Sha256::of(&manifest), &key.to_string())?)
    }

    fn keys(&self) -> Result<Option<Vec<Digest>>, String> {
        let tags = self.0.tags().map_err(|error| error.to_string())?;
        Ok(Some(tags.iter().filter_map(|tag| Digest::parse(tag).ok()).collect()))
    }

    fn mend(&self, damage: &Damage) -> Result<Mended, Unsent> {
        let removed = match damage {
            Damage::Entry(key, _) => self.0.remove_named(&key.to_string()),
            Damage::File(object) => self.0.remove_blob(&object.sha256),
        };
        match removed {
            Ok(()) => Ok(Mended::Unlinked),
            Err(OciError::Refused { problem, .. }) => Err(format!(
                "the registry removes nothing ({problem}); its settings may allow it: storage.delete.enabled"
            )
            .into()),
            Err(error) => Err(error.into()),
        }
    }
}
