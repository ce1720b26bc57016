//! Where a cache lies: a directory, an address that takes PUT, a repository of a registry, or a server of Bazel's remote cache.

mod coming;
mod directory;
mod files;
mod registry;
mod remote;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::entry::Object;
use super::rate::Rate;
use super::{BELIEVED, CacheError, Damage, Mended, PATIENCE};
use ::files::shared::{Writers, writers};
use base::digest::{Digest, Sha256};
pub(super) use coming::CONNECTIONS;
use coming::{Problems, TRIES};
use directory::Directory;
pub(crate) use directory::is_lost;
use files::Files;
use packages::{Fetcher, Progress, pause, side_by_side};
use store::StoreError;

const VERSION: &str = "v1";
const ACTIONS: &str = "v1/actions";
/// So many actions that are refused one after another are no longer single ones.
const MOST_REFUSED: usize = 4;
pub(crate) const ENTRY_LIMIT: u64 = 64 << 20;
pub(crate) const SIGNATURE_LIMIT: u64 = 4 << 10;

#[derive(Debug, Clone)]
pub struct Wanted {
    pub object: Object,
    pub destination: PathBuf,
    /// How long it may take: what takes longer is sooner made here.
    pub within: Duration,
}

/// What a cache has under a name.
#[derive(Debug, PartialEq, Eq)]
pub enum Kept {
    Nothing,
    Text(Vec<u8>),
    /// Something that cannot be used; why.
    Odd(String),
}

/// Why something was not taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unsent {
    pub problem: String,
    /// It is of this one alone: others may be taken.
    pub is_of_one: bool,
}

impl From<String> for Unsent {
    fn from(problem: String) -> Self {
        Self { problem, is_of_one: false }
    }
}

/// Keeps entries by keys, and files by digests.
trait Shelf: std::fmt::Debug + Send + Sync {
    /// An entry's text, where it has one. An error is why it could not be asked.
    fn entry(&self, key: &Digest) -> Result<Kept, String>;

    /// Those of the files that it has not. An error is why it could not be asked.
    fn missing(&self, objects: &[&Object]) -> Result<Vec<Sha256>, String>;

    /// Puts files where they are wanted, whole and compared with their digests. One that is missing or damaged is left out.
    fn bring(&self, wanted: &[Wanted], progress: &dyn Progress) -> Result<Problems, StoreError>;

    /// Takes a file, unless it has it whole; nothing half written has its name. Gives whether it took it.
    fn put(&self, object: &Object, file: &Path, is_damaged: bool) -> Result<bool, Unsent>;

    /// Takes the file with an entry's text, after all files that it names.
    fn put_entry(&self, key: &Digest, text: &Path, objects: &[Object]) -> Result<(), Unsent>;

    /// A signature that is kept beside an entry, by its key's id.
    fn signature(&self, key: &Digest, id: &str) -> Result<Kept, String> {
        self.entry(&signature_key(key, id))
    }

    /// Takes the file with one. Each key has its own: none is rewritten by another's holder.
    fn put_signature(&self, key: &Digest, id: &str, text: &Path) -> Result<(), Unsent> {
        self.put_entry(&signature_key(key, id), text, &[])
    }

    /// The keys of all entries; nothing where it has no list of them. A directory is read as such.
    fn keys(&self) -> Result<Option<Vec<Digest>>, String> {
        Ok(None)
    }

    /// Removes what is damaged. An error is why it stays.
    fn mend(&self, damage: &Damage) -> Result<Mended, Unsent>;

    /// Hears that an entry was used, where it does not know that itself.
    fn used(&self, _: &Digest) {}
}

#[derive(Debug)]
pub struct Place {
    /// As it was given, for messages; a password is not in it.
    pub shown: String,
    /// The directory, if it is one.
    directory: Option<PathBuf>,
    shelf: Box<dyn Shelf>,
    /// It failed to answer: it is not asked again.
    is_off: AtomicBool,
    /// It had an entry that is not believed: that is said once.
    is_doubted: AtomicBool,
    /// It took nothing: nothing more is brought to it.
    is_full: AtomicBool,
    /// How many it refused in a row of what it was to take.
    refused: AtomicUsize,
    /// It answered before: once more it may do so.
    has_answered: AtomicBool,
    /// Files and entries that it has and that cannot be used: they are replaced by who writes there.
    damaged: Mutex<BTreeSet<Sha256>>,
    odd: Mutex<BTreeSet<Digest>>,
    /// What it has is believed, and nothing is brought to it.
    pub is_given: bool,
    /// Whether this user and root alone decide what is in it.
    pub is_closed: bool,
}

/// Those of the files that are not there, asked for several at a time.
fn missing_of(
    objects: &[&Object],
    has: &(dyn Fn(&Object) -> Result<bool, String> + Sync),
) -> Result<Vec<Sha256>, String> {
    let missing = Mutex::new(Vec::new());
    side_by_side(objects, CONNECTIONS, &|object, _| {
        if !has(object)?
            && let Ok(mut missing) = missing.lock()
        {
            missing.push(object.sha256);
        }
        Ok::<(), String>(())
    })?;
    Ok(missing.into_inner().unwrap_or_default())
}

pub(crate) fn action_name(key: &Digest) -> String {
    let key = key.to_string();
    format!("{ACTIONS}/{}/{key}.json", &key[..2])
}

/// Where a signature beside an entry is kept.
fn signature_name(key: &Digest, id: &str) -> String {
    let key = key.to_string();
    format!("{VERSION}/signatures/{}/{key}.{id}", &key[..2])
}

/// The key under which it is kept by what knows nothing but entries.
fn signature_key(key: &Digest, id: &str) -> Digest {
    Digest::of(format!("imgbuild cache signature\n{key} {id}\n").as_bytes())
}

/// The key in the name of an action's file.
fn key_of(name: &str) -> Option<Digest> {
    Digest::parse(name.strip_suffix(".json")?).ok()
}

pub fn object_name(object: &Object) -> String {
    let name = object.sha256.to_string();
    format!("{VERSION}/objects/{}/{name}", &name[..2])
}

impl Place {
    /// A directory by its path, or `http://..`, `https://..`, `s3://BUCKET/PREFIX`, `oci://REGISTRY/NAME`, `grpc://HOST:PORT/INSTANCE`,
    /// `grpcs://..`, `file:..`. `writes` says whether anything is to be brought there, `rate` how fast.
    /// Errors: [`CacheError::Address`] for another scheme, [`CacheError::Server`] for one of which too little is known,
    /// [`CacheError::Directory`] for what is no directory and cannot become one.
    pub fn of(text: &str, writes: bool, rate: Rate) -> Result<Self, CacheError> {
        // Passwords are known for what lies below an address without a slash at its end.
        let text = if text.contains("://") { text.trim_end_matches('/') } else { text };
        let shown = packages::without_password(text);
        // What is asked again is so below.
        let fetcher = || Fetcher::with_patience(PATIENCE).trying_once();
        let server = |help| {
            let address = shown.clone();
            move |problem| CacheError::Server { address, problem, help }
        };
        let shelf: Box<dyn Shelf> = match text.split_once("://") {
            Some(("http" | "https", rest)) if !rest.is_empty() => Box::new(Files::of(shown.clone(), fetcher(), rate)),
            Some(("s3", _)) => {
                let at = packages::s3_address(text);
                Box::new(Files::of(at.map_err(server(BUCKET))?, fetcher(), rate))
            }
            Some(("oci", rest)) => Box::new(registry::Repository::of(rest, writes, rate).map_err(server(REPOSITORY))?),
            Some(("grpc" | "grpcs", _)) => Box::new(remote::Remote::of(text, rate).map_err(server(REMOTE))?),
            Some((scheme, _)) if scheme != "file" && !scheme.contains('/') => {
                return Err(CacheError::Address { address: shown });
            }
            _ => {
                let path = text.strip_prefix("file:").map_or(text, |path| path.strip_prefix("//").unwrap_or(path));
                return directory(path).map(|path| Self::at(path, shown, rate));
            }
        };
        Ok(Self::with(shelf, None, shown))
    }

    /// A directory with what a machine built that was asked to: it is believed, and nothing more is brought there.
    pub fn given(path: &Path) -> Self {
        Self { is_given: true, ..Self::at(path.to_owned(), path.display().to_string(), Rate::default()) }
    }

    fn at(path: PathBuf, shown: String, rate: Rate) -> Self {
        Self::with(Box::new(Directory::of(&path, rate)), Some(path), shown)
    }

    fn with(shelf: Box<dyn Shelf>, directory: Option<PathBuf>, shown: String) -> Self {
        let is_own = |path: &PathBuf| writers(path, &BELIEVED).is_ok_and(|writers| writers == Writers::Own);
        Self {
            is_closed: directory.as_ref().is_some_and(is_own),
            shown,
            directory,
            shelf,
            is_off: AtomicBool::new(false),
            is_doubted: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            refused: AtomicUsize::new(0),
            has_answered: AtomicBool::new(false),
            damaged: Mutex::default(),
            odd: Mutex::default(),
            is_given: false,
        }
    }

    /// Whether its entries need a signature to be believed: who can write to a server is not known.
    pub fn needs_keys(&self) -> bool {
        self.directory.is_none()
    }

    pub fn directory(&self) -> Option<&Path> {
        self.directory.as_deref()
    }

    pub fn is_on(&self) -> bool {
        !self.is_off.load(Ordering::Relaxed)
    }

    /// Whether things are brought to it: a directory that this user may only read is not written to.
    pub fn takes(&self) -> bool {
        let may_write = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
        self.is_on()
            && !self.is_given
            && !self.is_full.load(Ordering::Relaxed)
            && self.directory().is_none_or(may_write)
    }

    pub fn turn_off(&self) -> bool {
        !self.is_off.swap(true, Ordering::Relaxed)
    }

    /// It had an entry that is not believed; whether that is new.
    pub fn doubt(&self) -> bool {
        !self.is_doubted.swap(true, Ordering::Relaxed)
    }

    /// It did not take something: whether nothing more is brought to it. One that is refused costs one; several in a row are all.
    pub fn is_to_rest(&self, unsent: &Unsent) -> bool {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        !unsent.is_of_one || refused >= MOST_REFUSED || fault::planted("cache-one-refusal-is-all")
    }

    /// Nothing more is brought to it; whether that is new.
    pub fn stop_filling(&self) -> bool {
        !self.is_full.swap(true, Ordering::Relaxed)
    }

    /// Asks again what may be answered then: a server that says nothing, or that is not there, only where it answered before.
    fn asked<T, E>(&self, ask: impl Fn() -> Result<T, E>) -> Result<T, E> {
        let mut attempt = 1;
        loop {
            let began = Instant::now();
            match ask() {
                Ok(answer) => {
                    self.has_answered.store(true, Ordering::Relaxed);
                    return Ok(answer);
                }
                Err(problem) => {
                    let is_silent = began.elapsed() >= PATIENCE && !self.has_answered.load(Ordering::Relaxed);
                    if attempt >= TRIES || is_silent || !self.is_on() {
                        return Err(problem);
                    }
                }
            }
            pause(attempt);
            attempt += 1;
        }
    }

    pub fn entry(&self, key: &Digest) -> Result<Kept, String> {
        let kept = self.asked(|| self.shelf.entry(key))?;
        if matches!(kept, Kept::Odd(_)) {
            self.is_odd(key);
        }
        Ok(kept)
    }

    /// The signature that is kept beside an entry by a key of this id, where there is one that can be read.
    pub fn signature(&self, key: &Digest, id: &str) -> Option<Vec<u8>> {
        match self.asked(|| self.shelf.signature(key, id)) {
            Ok(Kept::Text(text)) if text.len() as u64 <= SIGNATURE_LIMIT => Some(text),
            _ => None,
        }
    }

    pub fn put_signature(&self, key: &Digest, id: &str, text: &Path) -> Result<(), Unsent> {
        self.asked(|| self.shelf.put_signature(key, id, text))
    }

    pub fn has_all(&self, objects: &[&Object]) -> Result<bool, String> {
        Ok(self.missing(objects)?.is_empty())
    }

    /// Whether it has nothing of these that is known to be damaged.
    pub fn is_sound(&self, key: &Digest, objects: &[Object]) -> bool {
        let damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        !objects.iter().any(|object| damaged.contains(&object.sha256))
            && !self.odd.lock().unwrap_or_else(PoisonError::into_inner).contains(key)
    }

    /// An entry cannot be used: it is replaced by who writes.
    pub fn is_odd(&self, key: &Digest) {
        self.odd.lock().unwrap_or_else(PoisonError::into_inner).insert(*key);
    }

    /// Puts files where they are wanted. One that is missing or damaged is left out.
    /// Errors: [`StoreError`] where this machine cannot keep them.
    pub fn bring(&self, wanted: &[Wanted], progress: &dyn Progress) -> Result<Problems, StoreError> {
        if wanted.is_empty() {
            return Ok(Problems::default());
        }
        let problems = self.shelf.bring(wanted, progress)?;
        let mut damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner);
        // What was slow, or not answered for, is there still.
        match fault::planted("cache-slow-is-damaged") {
            true => damaged.extend(problems.of.keys().chain(problems.unread.keys())),
            false => damaged.extend(problems.of.keys()),
        }
        drop(damaged);
        Ok(problems)
    }

    pub fn missing(&self, objects: &[&Object]) -> Result<Vec<Sha256>, String> {
        self.asked(|| self.shelf.missing(objects))
    }

    /// Brings a file there, unless it has it; it gets its name when it is whole. Gives whether it was brought.
    pub fn put(&self, object: &Object, file: &Path) -> Result<bool, Unsent> {
        let is_damaged = self.damaged.lock().unwrap_or_else(PoisonError::into_inner).contains(&object.sha256);
        let put = self.asked(|| self.shelf.put(object, file, is_damaged))?;
        self.damaged.lock().unwrap_or_else(PoisonError::into_inner).remove(&object.sha256);
        Ok(put)
    }

    /// The keys of all entries; nothing where the protocol has no list of them.
    /// Errors: Why it cannot be asked, in words.
    pub fn keys(&self) -> Result<Option<Vec<Digest>>, String> {
        self.asked(|| self.shelf.keys())
    }

    /// Removes something damaged, as far as the protocol has a way to do so.
    /// Errors: Why it stays, in words.
    pub fn mend(&self, damage: &Damage) -> Result<Mended, String> {
        self.shelf.mend(damage).map_err(|unsent| unsent.problem)
    }

    /// Brings an entry there, after all files that it names.
    pub fn put_entry(&self, key: &Digest, text: &Path, objects: &[Object]) -> Result<(), Unsent> {
        self.asked(|| self.shelf.put_entry(key, text, objects))?;
        self.refused.store(0, Ordering::Relaxed);
        self.odd.lock().unwrap_or_else(PoisonError::into_inner).remove(key);
        Ok(())
    }

    /// Notes that an entry was used: what was used longest ago is removed first.
    pub fn used(&self, key: &Digest) {
        self.shelf.used(key);
    }
}

const BUCKET: &str = "s3://BUCKET/PREFIX is asked with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or with a profile of ~/.aws (AWS_PROFILE); AWS_ENDPOINT_URL names a server that is not Amazon's (docs/cache.md)";
const REPOSITORY: &str =
    "name a repository without a tag: --cache oci://REGISTRY/NAME; `podman login REGISTRY` opens it (docs/cache.md)";
const REMOTE: &str = "name the server, and its instance where it has several: --cache grpc://HOST:PORT/INSTANCE, or grpcs:// with TLS (docs/cache.md)";

fn directory(text: &str) -> Result<PathBuf, CacheError> {
    let path = std::path::absolute(text).unwrap_or_else(|_| PathBuf::from(text));
    match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => Ok(path),
        Ok(_) => Err(CacheError::Directory { path, problem: "it is not a directory".to_owned() }),
        Err(error) => Err(CacheError::Directory { path, problem: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_cache_is_refused_and_passwords_are_not_shown() {
        let of = |text: &str| Place::of(text, false, Rate::default()).unwrap_err().to_string();
        assert!(of("ftp://x/y").contains("neither a directory"));
        assert!(of("/nowhere/at/all").contains("cannot be used"));
        assert!(of("oci://r.test/site/cache:tag").contains("has a tag"));
        assert!(of("grpc://:80").contains("no host"));
        assert!(Place::of("https://u:secret@cache.test/x/", false, Rate::default()).unwrap().needs_keys());
        assert!(!Place::of("https://u:secret@cache.test/x/", false, Rate::default()).unwrap().shown.contains("secret"));
        assert!(Place::of("oci://r.test/site/cache", false, Rate::default()).unwrap().needs_keys());
        assert!(Place::of("grpc://r.test:8980/main", false, Rate::default()).unwrap().needs_keys());
    }
}
