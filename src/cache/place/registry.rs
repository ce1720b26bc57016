//! A repository of a registry. An action is a tag, its key; the manifest behind it names the entry first, and then all files: what
//! a tag names stays until that goes.

use std::fs::File;
use std::path::Path;
use std::time::Instant;

use super::coming::{News, Problems, Trouble, aside_of, bring_each, keep, too_slow};
use super::{Kept, Shelf, Wanted, missing_of};
use crate::cache::PATIENCE;
use crate::cache::entry::Object;
use crate::cache::rate::Rate;
use crate::digest::{Digest, Sha256};
use crate::distro::Progress;
use crate::oci::{
    Access, Content, Descriptor, Destination, EMPTY, EMPTY_CONFIG, Kept as Has, Manifest, OciError, Reference,
    Registry, Source,
};
use crate::store::StoreError;

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
    pub fn of(text: &str, writes: bool, rate: Rate) -> Result<Self, String> {
        let reference: Reference = text.parse()?;
        if reference.tag.is_some() || reference.digest.is_some() {
            return Err("it has a tag; each action is one, so name the repository alone".to_owned());
        }
        let access = Access { writes, patience: Some(PATIENCE), ..Access::default() };
        Registry::new(&reference, access).map(|registry| Self(registry, rate)).map_err(|error| error.to_string())
    }

    fn one(&self, one: &Wanted) -> Result<(), Trouble> {
        let aside = aside_of(one).map_err(Trouble::Store)?;
        let own = |error: std::io::Error| Trouble::Store(StoreError::io("keep the file", &one.destination, error));
        let file = File::create(&aside).map_err(own)?;
        let blob = Descriptor::new(FILE, one.object.sha256, one.object.size);
        let began = Instant::now();
        match self.0.write_within(&blob, "a file of the cache", &file, one.within) {
            Ok(()) => keep(aside.path(), one).map_err(Trouble::Store),
            // What is missing or damaged is left out.
            Err(error @ (OciError::NotThere { .. } | OciError::Digest { .. })) => Err(Trouble::Left(error.to_string())),
            Err(OciError::Keep { source, .. }) => Err(own(source)),
            Err(_) if began.elapsed() > one.within => Err(too_slow(one)),
            Err(error) => Err(Trouble::Lost(error.to_string())),
        }
    }
}

impl Shelf for Repository {
    fn entry(&self, key: &Digest) -> Result<Kept, String> {
        let said = |error: OciError| error.to_string();
        let Some(bytes) = self.0.named(&key.to_string()).map_err(said)? else { return Ok(Kept::Nothing) };
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
        let news = News::of(wanted, progress);
        bring_each(wanted, &|one| {
            self.one(one)?;
            news.done(one);
            Ok(())
        })
    }

    fn put(&self, object: &Object, file: &Path, _: bool) -> Result<bool, String> {
        let blob = Descriptor::new(FILE, object.sha256, object.size);
        let content = Content::Part(file.to_owned(), 0);
        self.0
            .take(&blob, &content, &|bytes| self.1.spend(bytes))
            .map(|kept| kept != Has::There)
            .map_err(|error| error.to_string())
    }

    fn put_entry(&self, key: &Digest, text: &Path, objects: &[Object]) -> Result<(), String> {
        let text = std::fs::read(text).map_err(|error| error.to_string())?;
        let entry = Descriptor::of(ENTRY, &text);
        let config = Descriptor::of(EMPTY_CONFIG, EMPTY);
        let files = objects.iter().map(|object| Descriptor::new(FILE, object.sha256, object.size));
        let layers = std::iter::once(entry.clone()).chain(files).collect();
        let manifest = Manifest::new(Some(ARTIFACT), config.clone(), layers).bytes();
        let said = |error: OciError| error.to_string();
        self.0.take(&config, &Content::Bytes(EMPTY.to_vec()), &|_| {}).map_err(said)?;
        self.0.take(&entry, &Content::Bytes(text), &|_| {}).map_err(said)?;
        self.0.name(&manifest, Sha256::of(&manifest), &key.to_string()).map_err(said)
    }
}
