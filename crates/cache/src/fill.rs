//! Brings to caches what they lack.

use std::io::Write;
use std::path::{Path, PathBuf};

use super::entry::{Entry, Frame, Object, Signed, id_of, sign, signed};
use super::place::{Kept, Place, Unsent};
use super::{Cache, Say, bring, shown_name};
use base::digest::Digest;
use store::{ActionRecord, Store, StoreError, sha256_of};

/// Writes a layer to a file as `store save` does; gives the path. It goes when [`Saver::done`] is called.
pub trait Saver {
    /// Saves a layer.
    /// Errors: What cannot be read, in words.
    fn save(&self, layer: &Digest) -> Result<PathBuf, String>;
    /// Packages that an action was made of, and where this store has them.
    fn packages(&self, action: &str) -> Vec<(Object, PathBuf)>;
    fn done(&self, file: &Path);
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filled {
    pub actions: usize,
    /// Bytes.
    pub bytes: u64,
}

impl Cache {
    /// Brings the records of actions, and before them all that they name, to each cache that has them not and takes them; with each
    /// goes whether it ran now. `turn` is called with each that is brought, and says whether to go on.
    pub fn fill(
        &self,
        store: &Store,
        records: &[(ActionRecord, bool)],
        saver: &dyn Saver,
        turn: &dyn Fn(&ActionRecord) -> bool,
        say: Say<'_>,
    ) -> Result<Filled, StoreError> {
        let mut filled = Filled::default();
        // What was only believed is no one's to give.
        let is_sure =
            |record: &ActionRecord| self.is_own || record.believed.is_none() || fault::planted("cache-gives-believed");
        for (record, has_run) in records.iter().filter(|(record, _)| is_sure(record)) {
            for place in self.places.iter().filter(|place| place.takes()) {
                // One that is there and cannot be believed is replaced.
                let there = place.entry(&record.key);
                let is_odd = match &there {
                    Ok(Kept::Text(text)) => !place.is_sound(&record.key, &objects_of(text, &record.key)),
                    Ok(Kept::Odd(_)) => true,
                    _ => false,
                };
                match &there {
                    Ok(Kept::Text(text)) if !is_odd && self.has_whole(place, text, &record.key, *has_run) => {
                        if self.believed(place, text, &record.key).is_ok()
                            && let Err(unsent) = self.sign_beside(store, place, text, record, say)?
                        {
                            say_unsent(place, record, &unsent, say);
                        }
                        continue;
                    }
                    Ok(_) if !turn(record) => return Ok(filled),
                    Ok(_) => {}
                    Err(problem) => {
                        self.lose(place, problem, say);
                        continue;
                    }
                }
                let theirs = match &there {
                    Ok(Kept::Text(text)) if !is_odd => Some(&text[..]),
                    _ => None,
                };
                match self.fill_one(store, record, (place, theirs), saver, say) {
                    Ok(bytes) => {
                        filled.actions += 1;
                        filled.bytes += bytes;
                    }
                    Err(Unfilled::Store(error)) => return Err(error),
                    // Another user's, as a rule: it costs what is damaged, and nothing else.
                    Err(Unfilled::Place(unsent)) if is_odd => say(format!(
                        "what is damaged of {} in the cache {} cannot be replaced: {}",
                        record.action, place.shown, unsent.problem
                    )),
                    Err(Unfilled::Place(unsent)) => say_unsent(place, record, &unsent, say),
                }
            }
        }
        Ok(filled)
    }

    /// Whether an entry is one that is believed, and all that it names is there. A server is asked for that only where it had not
    /// what it should have, so that the action ran: there are many files, and it may be far away.
    fn has_whole(&self, place: &Place, text: &[u8], key: &Digest, has_run: bool) -> bool {
        let is_far = place.directory().is_none() && !has_run;
        // With `outputs-only` an entry counts without a trusted signature.
        let trusted = if self.sampled.is_some() { &[][..] } else { &self.trusted };
        Entry::parse_with(text, key, trusted, &|one| place.signature(key, &id_of(one)))
            .is_ok_and(|(entry, _)| is_far || place.has_all(&entry.objects().collect::<Vec<_>>()) == Ok(true))
    }

    /// Signs an entry that another wrote, in a file beside it, unless this key has signed it. Those who trust this key alone use it then:
    /// it says what this store has, or it is not signed.
    fn sign_beside(
        &self,
        store: &Store,
        place: &Place,
        text: &[u8],
        record: &ActionRecord,
        say: Say<'_>,
    ) -> Result<Result<(), Unsent>, StoreError> {
        let Some(own) = &self.key else { return Ok(Ok(())) };
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let (key, public, id) = (&record.key, own.verifying_key(), id_of(&own.verifying_key()));
        let is_own = |signature: &[u8]| signed(line, signature) == Signed::By(super::public(&public));
        let inside = text.get(line.len() + 1..).unwrap_or_default();
        if is_own(inside) || place.signature(key, &id).is_some_and(|signature| is_own(&signature)) {
            return Ok(Ok(()));
        }
        if !says_the_same(store, text, record) && !fault::planted("cache-signs-what-is-anothers") {
            say(format!(
                "the cache {} has another result of {} than this store: this key does not sign it",
                place.shown,
                shown_name(&record.action)
            ));
            return Ok(Ok(()));
        }
        let file = written(store, sign(line, own).as_bytes())?;
        Ok(place.put_signature(key, &id, file.path()))
    }

    fn fill_one(
        &self,
        store: &Store,
        record: &ActionRecord,
        (place, theirs): (&Place, Option<&[u8]>),
        saver: &dyn Saver,
        say: Say<'_>,
    ) -> Result<u64, Unfilled> {
        let mut entry =
            Entry::of(record).ok_or_else(|| Unfilled::Place("a record cannot be written".to_owned().into()))?;
        let mut bytes = 0;
        let mut put = |path: &Path| -> Result<Object, Unfilled> {
            let read = |source| StoreError::io("read", path, source);
            let file = std::fs::File::open(path).map_err(read)?;
            let size = file.metadata().map_err(read)?.len();
            let object = Object { size, sha256: sha256_of(file).map_err(read)? };
            if place.put(&object, path).map_err(Unfilled::Place)? {
                bytes += size;
                fault::point("cache.object");
            }
            Ok(object)
        };
        // What is damaged here is not given to others.
        for blob in record.outputs.blobs.values() {
            store.read_blob(&blob.digest)?;
            entry.blobs.insert(blob.digest, put(&store.blob(&blob.digest))?);
        }
        for digest in &record.outputs.frames {
            let path = store.directory().join(Store::frame_name(digest));
            let info = described(store, digest)?;
            let frame = Frame { object: put(&path)?, info };
            if !bring::is_described(&frame) {
                let problem = "does not match the text that describes it".to_owned();
                return Err(StoreError::Damaged { path, problem }.into());
            }
            entry.frames.insert(*digest, frame);
        }
        if let Some(layer) = &record.outputs.layer {
            let file = saver.save(layer).map_err(|problem| Unfilled::Place(problem.into()))?;
            let object = put(&file);
            saver.done(&file);
            entry.layer = Some(object?);
        }
        for (object, path) in saver.packages(&record.action) {
            let found = put(&path)?;
            // One that is damaged is seen, and fetched again, by who uses it here.
            if found == object {
                entry.packages.push(object);
            }
        }
        fault::point("cache.before-entry");
        // What another signed and what was made here are the same: both sign one entry.
        let is_signed = |theirs: &&[u8]| {
            let line = theirs.split(|byte| *byte == b'\n').next().unwrap_or_default();
            matches!(signed(line, theirs.get(line.len() + 1..).unwrap_or_default()), Signed::By(_))
        };
        let theirs = theirs.filter(is_signed).filter(|_| self.key.is_some());
        if let Some(theirs) = theirs.filter(|theirs| entry.is_same(theirs, record)) {
            self.sign_beside(store, place, theirs, record, say)?.map_err(Unfilled::Place)?;
            return Ok(bytes);
        }
        let text = entry.to_text(self.key.as_ref()).map_err(|error| Unfilled::Place(error.to_string().into()))?;
        let file = written(store, text.as_bytes())?;
        let objects: Vec<Object> = entry.objects().cloned().collect();
        place.put_entry(&record.key, file.path(), &objects).map_err(Unfilled::Place)?;
        Ok(bytes + text.len() as u64)
    }
}

/// Says what a cache did not take, and whether it is asked to take anything more.
fn say_unsent(place: &Place, record: &ActionRecord, unsent: &Unsent, say: Say<'_>) {
    let (cache, problem) = (&place.shown, &unsent.problem);
    match place.is_to_rest(unsent) {
        true if place.stop_filling() => say(format!("nothing more is written to the cache {cache}: {problem}")),
        true => {}
        false => say(format!("{} is not written to the cache {cache}: {problem}", shown_name(&record.action))),
    }
}

fn written(store: &Store, text: &[u8]) -> Result<tempfile::NamedTempFile, StoreError> {
    let mut file = store.half_written()?;
    let path = file.path().to_owned();
    file.write_all(text).map_err(|source| StoreError::io("write", &path, source))?;
    Ok(file)
}

/// Whether an entry says of a record's results what this store has. A frame's name is not that of its content, which its description has.
fn says_the_same(store: &Store, theirs: &[u8], record: &ActionRecord) -> bool {
    let has = |(digest, frame): (&Digest, &Frame)| described(store, digest).is_ok_and(|info| info == frame.info);
    Entry::parse(theirs, &record.key, &[])
        .is_ok_and(|(entry, of)| of.outputs == record.outputs && of.differing.is_none() && entry.frames.iter().all(has))
}

/// The text beside a frame in the store.
fn described(store: &Store, frame: &Digest) -> Result<String, StoreError> {
    let beside = store.directory().join(format!("{}.info", Store::frame_name(frame)));
    std::fs::read_to_string(&beside).map_err(|source| StoreError::io("read", &beside, source))
}

/// The files that an entry names, signed or not.
fn objects_of(text: &[u8], key: &Digest) -> Vec<Object> {
    Entry::parse(text, key, &[]).map_or(Vec::new(), |(entry, _)| entry.objects().cloned().collect())
}

enum Unfilled {
    Store(StoreError),
    Place(Unsent),
}

impl From<StoreError> for Unfilled {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
