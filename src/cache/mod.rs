//! Caches: what one machine built, others need not build again.
//!
//! A cache is a directory that all can reach, or an address that takes GET and PUT (WebDAV, S3). Below `v1/` it has
//!
//! - `actions/ab/KEY.json`: an [`Entry`] for the key of an action, and the signature of who wrote it;
//! - `objects/ab/SHA256`: files that entries name: a layer as `store save` writes it, a frame of a packed image, a kernel.
//!
//! Files have the digest of their content in their name, and an entry names all of them: where the entry is believed, so are
//! they. A cache that does not answer, is full or lies is said once and costs nothing more: what it should have had is built.

mod bring;
mod entry;
mod fill;
mod keep;
mod place;

use std::path::PathBuf;
use std::time::Duration;

use ed25519_dalek::{SigningKey, VerifyingKey};

use crate::digest::Digest;
use crate::distro::Fetcher;
use crate::store::{ActionRecord, Store};

pub use bring::{Brought, Loader};
pub use entry::{Entry, Object, parse_public, public, secret};
pub use fill::{Filled, Saver};
pub use keep::{Contents, Stats, Wrong};
pub use place::{Place, action_name, object_name};

/// How long a cache may be silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is wrong with how a cache was named. A cache that fails is no error.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CacheError {
    /// Another scheme.
    #[error("`{address}` is no cache: it is neither a directory nor an http, https or s3 address")]
    #[diagnostic(
        code(cache::address),
        help(
            "name a directory that all machines can reach, or the address of a WebDAV server: --cache https://HOST/PATH"
        )
    )]
    Address { address: String },
    /// No directory.
    #[error("the cache `{}` cannot be used: {problem}", path.display())]
    #[diagnostic(code(cache::directory), help("create it first, for all who are to use it: mkdir -p {}", path.display()))]
    Directory { path: PathBuf, problem: String },
    /// A bucket cannot be asked.
    #[error("the cache `{address}` cannot be used: {problem}")]
    #[diagnostic(
        code(cache::bucket),
        help(
            "s3://BUCKET/PREFIX is asked with AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION, or with a profile of ~/.aws (AWS_PROFILE); AWS_ENDPOINT_URL names a server that is not Amazon's (docs/cache.md)"
        )
    )]
    Bucket { address: String, problem: String },
    /// A server, and no key is trusted.
    #[error("the cache `{address}` needs a trusted key: anyone who can write to it could decide what is in images")]
    #[diagnostic(
        code(cache::no_key),
        help(
            "`imgbuild cache key FILE` makes a key for those who fill the cache (--cache-key FILE); all others name its public half: --cache-trust ed25519:.."
        )
    )]
    NoKey { address: String },
    /// What was given is not a key.
    #[error("{problem}")]
    #[diagnostic(code(cache::key), help("`imgbuild cache key FILE` makes a key and prints its public half"))]
    Key { problem: String },
}

/// What is said of a cache that fails.
pub type Say<'a> = &'a (dyn Fn(String) + Sync);

/// All caches of a build, in the order in which they are asked.
#[derive(Debug)]
pub struct Cache {
    places: Vec<Place>,
    /// Whose entries are believed; none: those of all who can write there.
    trusted: Vec<VerifyingKey>,
    /// Who signs what is brought there.
    key: Option<SigningKey>,
    fetcher: Fetcher,
}

/// An entry that a cache has.
#[derive(Debug)]
pub struct Found {
    /// Which of the caches.
    place: usize,
    /// What it says.
    pub entry: Entry,
    /// The record in it.
    pub record: ActionRecord,
}

impl Cache {
    /// Caches by their addresses, with the file of the secret key and the public keys that are trusted.
    ///
    /// # Errors
    /// [`CacheError`].
    pub fn of(addresses: &[String], key: Option<&std::path::Path>, trusted: &[String]) -> Result<Self, CacheError> {
        let places: Vec<Place> = addresses.iter().map(|text| Place::of(text)).collect::<Result<_, _>>()?;
        let said = |problem: String| CacheError::Key { problem };
        let mut trusted: Vec<VerifyingKey> =
            trusted.iter().map(|text| parse_public(text).map_err(said)).collect::<Result<_, _>>()?;
        let key = key.map(|path| {
            let text = std::fs::read_to_string(path)
                .map_err(|error| said(format!("the cache's key `{}` cannot be read: {error}", path.display())))?;
            entry::parse_secret(&text)
                .ok_or_else(|| said(format!("`{}` is no key of `imgbuild cache key`", path.display())))
        });
        let key = key.transpose()?;
        // Who signs believes itself.
        trusted.extend(key.as_ref().map(SigningKey::verifying_key));
        if let Some(place) = places.iter().find(|place| place.needs_keys() && trusted.is_empty()) {
            return Err(CacheError::NoKey { address: place.shown.clone() });
        }
        Ok(Self { places, trusted, key, fetcher: Fetcher::with_patience(PATIENCE).trying_once() })
    }

    /// A cache of none.
    pub fn none() -> Self {
        let fetcher = Fetcher::with_patience(PATIENCE).trying_once();
        Self { places: Vec::new(), trusted: Vec::new(), key: None, fetcher }
    }

    /// The same, and before it a directory with what another machine built for this one: it is believed.
    #[must_use]
    pub fn with_results(mut self, directory: &std::path::Path) -> Self {
        self.places.insert(0, Place::given(directory));
        self
    }

    /// Whether anything is to be brought to any of them. Who has no key brings nothing where only what is signed counts.
    pub fn takes(&self) -> bool {
        (self.key.is_some() || self.trusted.is_empty()) && self.places.iter().any(Place::takes)
    }

    /// The first cache's entry for a key that can be believed.
    pub fn find(&self, key: &Digest, say: Say<'_>) -> Option<Found> {
        self.find_among(key, &|_| true, say)
    }

    fn find_among(&self, key: &Digest, among: &dyn Fn(&Place) -> bool, say: Say<'_>) -> Option<Found> {
        self.places.iter().enumerate().filter(|(_, place)| place.is_on() && among(place)).find_map(|(at, place)| {
            let text = match place.entry(&self.fetcher, key) {
                Ok(text) => text?,
                Err(problem) => {
                    self.lose(place, &problem, say);
                    return None;
                }
            };
            match Entry::parse(&text, key, if place.is_given { &[] } else { &self.trusted }) {
                Ok((entry, record)) => Some(Found { place: at, entry, record }),
                Err(problem) => {
                    // As a rule it is all of them.
                    if place.doubt() {
                        say(format!(
                            "the cache {} has entries that are not used, the first is {:.12}..: {problem}",
                            place.shown,
                            key.to_string()
                        ));
                    }
                    None
                }
            }
        })
    }

    /// The same of directories alone.
    pub fn find_here(&self, key: &Digest, say: Say<'_>) -> Option<Found> {
        self.find_among(key, &|place| place.directory().is_some(), say)
    }

    /// Whether all files of an entry are there, as far as their sizes tell.
    pub fn is_whole(&self, found: &Found) -> bool {
        let Some(place) = self.places.get(found.place) else { return false };
        found.entry.objects().all(|one| place.has(&self.fetcher, &object_name(one), one.size) == Ok(true))
    }

    /// The directory or address that an entry is from, for messages.
    pub fn place_of(&self, found: &Found) -> &str {
        self.places.get(found.place).map_or("", |place| place.shown.as_str())
    }

    /// Bytes that a store lacks of an entry.
    pub fn bytes_to_move(&self, store: &Store, found: &Found) -> u64 {
        bring::lacking(store, found).iter().map(|object| object.size).sum()
    }

    /// A cache failed: it is said, and it is not asked again.
    fn lose(&self, place: &Place, problem: &str, say: Say<'_>) {
        if place.turn_off() {
            say(format!("the cache {} is not used: {problem}", place.shown));
        }
    }
}
