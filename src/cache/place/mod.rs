//! Where a cache lies: a directory, an address that takes PUT, a repository of a registry, or a server of Bazel's remote cache.

mod files;
mod registry;
mod remote;

use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};

use super::entry::Object;
use super::rate::Rate;
use super::{CacheError, PATIENCE};
use crate::digest::{Digest, Sha256};
use crate::distro::{Fetcher, Progress, side_by_side};
use crate::store::StoreError;
use crate::sweep;
use files::Files;

const VERSION: &str = "v1";
const ENTRY_LIMIT: u64 = 64 << 20;

#[derive(Debug, Clone)]
pub struct Wanted {
    pub object: Object,
    pub destination: PathBuf,
}

/// Keeps entries by keys, and files by digests.
trait Shelf: std::fmt::Debug + Send + Sync {
    /// An entry's text, where it has one. An error is why it could not be asked.
    fn entry(&self, key: &Digest) -> Result<Option<Vec<u8>>, String>;

    /// Those of the files that it has not. An error is why it could not be asked.
    fn missing(&self, objects: &[&Object]) -> Result<Vec<Sha256>, String>;

    /// Puts files where they are wanted, whole and compared with their digests. One that is missing or damaged is left out; where
    /// the cache does not answer, that is why.
    fn bring(&self, wanted: &[Wanted], progress: &dyn Progress) -> Result<Option<String>, StoreError>;

    /// Takes a file, unless it has it; nothing half written has its name. Gives whether it took it.
    fn put(&self, object: &Object, file: &Path) -> Result<bool, String>;

    /// Takes the file with an entry's text, after all files that it names.
    fn put_entry(&self, key: &Digest, text: &Path, objects: &[Object]) -> Result<(), String>;

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
    /// What it has is believed, and nothing is brought to it.
    pub is_given: bool,
}

fn keep(aside: &Path, wanted: &Wanted) -> Result<(), StoreError> {
    use std::os::unix::fs::PermissionsExt;
    let kept = || -> std::io::Result<()> {
        let file = std::fs::File::open(aside)?;
        file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        // Its name promises its content for ever.
        file.sync_all()?;
        std::fs::rename(aside, &wanted.destination)
    };
    kept().map_err(|error| StoreError::io("keep the file", &wanted.destination, error))
}

/// A name beside a destination, which is not taken.
fn aside_of(wanted: &Wanted) -> Result<tempfile::NamedTempFile, StoreError> {
    let parent = wanted.destination.parent().unwrap_or(Path::new("."));
    let made = std::fs::create_dir_all(parent).and_then(|()| sweep::file_in(parent, ".new-", 0o600));
    made.map_err(|error| StoreError::io("keep the file", &wanted.destination, error))
}

enum Trouble {
    Lost(String),
    Store(StoreError),
}

const CONNECTIONS: usize = 8;

/// Brings all, several at a time; where the cache does not answer, that is why.
fn bring_each<T: Sync>(
    all: &[T],
    one: &(dyn Fn(&T) -> Result<(), Trouble> + Sync),
) -> Result<Option<String>, StoreError> {
    match side_by_side(all, CONNECTIONS, &|item, _| one(item)) {
        Ok(()) => Ok(None),
        Err(Trouble::Lost(problem)) => Ok(Some(problem)),
        Err(Trouble::Store(error)) => Err(error),
    }
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

/// Says how much of what is wanted came.
struct News<'a> {
    progress: &'a dyn Progress,
    files: usize,
    bytes: u64,
    done: Mutex<(usize, u64)>,
}

impl<'a> News<'a> {
    fn of(wanted: &[Wanted], progress: &'a dyn Progress) -> Self {
        let bytes = wanted.iter().map(|one| one.object.size).sum();
        Self { progress, files: wanted.len(), bytes, done: Mutex::default() }
    }

    fn done(&self, one: &Wanted) {
        if let Ok(mut done) = self.done.lock() {
            *done = (done.0 + 1, done.1 + one.object.size);
            self.progress.downloaded(done.0, self.files, done.1, self.bytes);
        }
    }
}

pub fn action_name(key: &Digest) -> String {
    let key = key.to_string();
    format!("{VERSION}/actions/{}/{key}.json", &key[..2])
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
    pub(super) fn of(text: &str, writes: bool, rate: Rate) -> Result<Self, CacheError> {
        // Passwords are known for what lies below an address without a slash at its end.
        let text = if text.contains("://") { text.trim_end_matches('/') } else { text };
        let shown = crate::distro::without_password(text);
        let fetcher = || Fetcher::with_patience(PATIENCE).trying_once();
        let server = |help| {
            let address = shown.clone();
            move |problem| CacheError::Server { address, problem, help }
        };
        let shelf: Box<dyn Shelf> = match text.split_once("://") {
            Some(("http" | "https", rest)) if !rest.is_empty() => {
                Box::new(Files::address(shown.clone(), fetcher(), rate))
            }
            Some(("s3", _)) => {
                let at = crate::distro::s3_address(text);
                Box::new(Files::address(at.map_err(server(BUCKET))?, fetcher(), rate))
            }
            Some(("oci", rest)) => Box::new(registry::Repository::of(rest, writes, rate).map_err(server(REPOSITORY))?),
            Some(("grpc" | "grpcs", _)) => Box::new(remote::Remote::of(text, rate).map_err(server(REMOTE))?),
            Some((scheme, _)) if scheme != "file" && !scheme.contains('/') => {
                return Err(CacheError::Address { address: shown });
            }
            _ => {
                let path = text.strip_prefix("file:").map_or(text, |path| path.strip_prefix("//").unwrap_or(path));
                return directory(path).map(|path| Self::at(path, shown, fetcher(), rate));
            }
        };
        Ok(Self::with(shelf, None, shown))
    }

    /// A directory with what a machine built that was asked to: it is believed, and nothing more is brought there.
    pub fn given(path: &Path) -> Self {
        let fetcher = Fetcher::with_patience(PATIENCE).trying_once();
        Self { is_given: true, ..Self::at(path.to_owned(), path.display().to_string(), fetcher, Rate::default()) }
    }

    fn at(path: PathBuf, shown: String, fetcher: Fetcher, rate: Rate) -> Self {
        Self::with(Box::new(Files::directory(path.clone(), fetcher, rate)), Some(path), shown)
    }

    fn with(shelf: Box<dyn Shelf>, directory: Option<PathBuf>, shown: String) -> Self {
        Self {
            shown,
            directory,
            shelf,
            is_off: AtomicBool::new(false),
            is_doubted: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
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

    /// Nothing more is brought to it; whether that is new.
    pub fn stop_filling(&self) -> bool {
        !self.is_full.swap(true, Ordering::Relaxed)
    }

    pub fn entry(&self, key: &Digest) -> Result<Option<Vec<u8>>, String> {
        self.shelf.entry(key)
    }

    pub fn has_all(&self, objects: &[&Object]) -> Result<bool, String> {
        Ok(self.shelf.missing(objects)?.is_empty())
    }

    /// Puts files where they are wanted. One that is missing or damaged is left out; where the cache does not answer, that is why.
    /// Errors: [`StoreError`] where this machine cannot keep them.
    pub fn bring(&self, wanted: &[Wanted], progress: &dyn Progress) -> Result<Option<String>, StoreError> {
        if wanted.is_empty() { Ok(None) } else { self.shelf.bring(wanted, progress) }
    }

    pub fn missing(&self, objects: &[&Object]) -> Result<Vec<Sha256>, String> {
        self.shelf.missing(objects)
    }

    /// Brings a file there, unless it has it; it gets its name when it is whole. Gives whether it was brought.
    pub fn put(&self, object: &Object, file: &Path) -> Result<bool, String> {
        self.shelf.put(object, file)
    }

    /// Brings an entry there, after all files that it names.
    pub fn put_entry(&self, key: &Digest, text: &Path, objects: &[Object]) -> Result<(), String> {
        self.shelf.put_entry(key, text, objects)
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
