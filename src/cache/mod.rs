//! Caches: what one machine built, others need not build again.
//!
//! A cache is a directory that all can reach, an address that takes GET and PUT (WebDAV, S3), a repository of a registry, or a server
//! of Bazel's remote cache ([`place`]). The first two have below `v1/`
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
mod rate;

use std::path::PathBuf;
use std::time::Duration;

use ed25519_dalek::{SigningKey, VerifyingKey};

use crate::digest::Digest;
use crate::store::{ActionRecord, Store};

pub use bring::{Brought, Loader};
pub use entry::{Entry, Frame, Object, parse_public, public, secret};
pub use fill::{Filled, Saver};
pub use keep::{Contents, Stats, Wrong};
pub use place::{Place, Wanted, object_name};
use rate::Rate;

/// How long a cache may be silent.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is wrong with how a cache was named. A cache that fails is no error.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum CacheError {
    #[error("`{address}` is not a cache: it is neither a directory nor an http, https, s3, oci, grpc or grpcs address")]
    #[diagnostic(
        code(cache::address),
        help(
            "name a directory that all machines can reach, or the address of a server: --cache https://HOST/PATH (docs/cache.md)"
        )
    )]
    Address { address: String },
    #[error("the cache `{}` cannot be used: {problem}", path.display())]
    #[diagnostic(code(cache::directory), help("create it first, for all who are to use it: mkdir -p {}", path.display()))]
    Directory { path: PathBuf, problem: String },
    #[error("the cache `{address}` cannot be used: {problem}")]
    #[diagnostic(code(cache::server), help("{help}"))]
    Server { address: String, problem: String, help: &'static str },
    #[error("the cache `{address}` needs a trusted key: anyone who can write to it could decide what is in images")]
    #[diagnostic(
        code(cache::no_key),
        help(
            "`imgbuild cache key FILE` makes a key for those who fill the cache (--cache-key FILE); all others name its public half: --cache-trust ed25519:.."
        )
    )]
    NoKey { address: String },
    #[error("{problem}")]
    #[diagnostic(code(cache::setting), help("{help}"))]
    Setting { problem: String, help: &'static str },
    #[error("{problem}")]
    #[diagnostic(code(cache::key), help("`imgbuild cache key FILE` makes a key and prints its public half"))]
    Key { problem: String },
}

pub type Say<'a> = &'a (dyn Fn(String) + Sync);

/// All caches of a build, in the order in which they are asked.
#[derive(Debug)]
pub struct Cache {
    places: Vec<Place>,
    /// Whose entries are believed; none: those of all who can write there.
    trusted: Vec<VerifyingKey>,
    key: Option<SigningKey>,
    /// With `outputs-only`: the share of unsigned results that is built here and compared.
    sampled: Option<f64>,
}

#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub key: Option<PathBuf>,
    /// Public keys, and `outputs-only`.
    pub trust: Vec<String>,
    /// The share of what is believed by `outputs-only` that is built and compared: `5%`.
    pub sample: Option<String>,
    /// How many bytes are brought there in each second at most.
    pub rate: Option<u64>,
}

/// Instead of a key: unsigned results are used, and a share of them is built here and compared.
const OUTPUTS_ONLY: &str = "outputs-only";

/// That share, unless another is named.
const SAMPLE: f64 = 0.05;

/// Reads a share, as `5%`.
fn parse_share(text: &str) -> Option<f64> {
    let number: f64 = text.trim().strip_suffix('%')?.trim().parse().ok()?;
    (0.0..=100.0).contains(&number).then_some(number / 100.0)
}

#[derive(Debug)]
pub struct Found {
    place: usize,
    pub entry: Entry,
    pub record: ActionRecord,
    /// Whether it is used only because of `outputs-only`.
    pub is_doubtful: bool,
}

impl Cache {
    pub fn of(addresses: &[String], settings: &Settings) -> Result<Self, CacheError> {
        let (key, rate) = (&settings.key, Rate::of(settings.rate));
        let place = |text: &String| Place::of(text, key.is_some(), rate.clone());
        let places: Vec<Place> = addresses.iter().map(place).collect::<Result<_, _>>()?;
        let said = |problem: String| CacheError::Key { problem };
        let is_any = settings.trust.iter().any(|text| text == OUTPUTS_ONLY);
        let sample = match &settings.sample {
            Some(text) => parse_share(text).ok_or_else(|| CacheError::Setting {
                problem: format!("`{text}` is not a share"),
                help: "use a share in per cent for `sample` or --cache-sample: 5%",
            })?,
            None => SAMPLE,
        };
        let keys = settings.trust.iter().filter(|text| *text != OUTPUTS_ONLY);
        let mut trusted: Vec<VerifyingKey> =
            keys.map(|text| parse_public(text).map_err(said)).collect::<Result<_, _>>()?;
        let key = key.as_ref().map(|path| {
            let text = std::fs::read_to_string(path)
                .map_err(|error| said(format!("the cache's key `{}` cannot be read: {error}", path.display())))?;
            entry::parse_secret(&text)
                .ok_or_else(|| said(format!("`{}` is no key of `imgbuild cache key`", path.display())))
        });
        let key = key.transpose()?;
        // Who signs believes itself.
        trusted.extend(key.as_ref().map(SigningKey::verifying_key));
        if let Some(place) = places.iter().find(|place| place.needs_keys() && trusted.is_empty() && !is_any) {
            return Err(CacheError::NoKey { address: place.shown.clone() });
        }
        Ok(Self { places, trusted, key, sampled: is_any.then_some(sample) })
    }

    /// A directory that is believed.
    /// Errors: [`CacheError::Directory`].
    pub fn of_directory(directory: &std::path::Path) -> Result<Self, CacheError> {
        Self::of(&[directory.display().to_string()], &Settings::default())
    }

    /// A cache of none.
    pub fn none() -> Self {
        Self { places: Vec::new(), trusted: Vec::new(), key: None, sampled: None }
    }

    /// The same, and before it a directory with what another machine built for this one: it is believed.
    #[must_use]
    pub fn with_results(mut self, directory: &std::path::Path) -> Self {
        self.places.insert(0, Place::given(directory));
        self
    }

    /// Whether anything is to be brought to any of them. Who has no key brings nothing where only
    /// what is signed counts.
    pub fn takes(&self) -> bool {
        (self.key.is_some() || self.trusted.is_empty() || self.sampled.is_some())
            && self.places.iter().any(Place::takes)
    }

    pub fn find(&self, key: &Digest, say: Say<'_>) -> Option<Found> {
        self.find_among(key, &|_| true, say)
    }

    fn find_among(&self, key: &Digest, among: &dyn Fn(&Place) -> bool, say: Say<'_>) -> Option<Found> {
        self.places.iter().enumerate().filter(|(_, place)| place.is_on() && among(place)).find_map(|(at, place)| {
            let text = match place.entry(key) {
                Ok(text) => text?,
                Err(problem) => {
                    self.lose(place, &problem, say);
                    return None;
                }
            };
            let believed = match Entry::parse(&text, key, if place.is_given { &[] } else { &self.trusted }) {
                // Signed, or a place where that is not asked for.
                Ok(found) => {
                    let is_sure = place.is_given || !self.trusted.is_empty() || self.sampled.is_none();
                    Ok((found, !is_sure))
                }
                Err(_) if self.sampled.is_some() => Entry::parse(&text, key, &[]).map(|found| (found, true)),
                Err(problem) => Err(problem),
            };
            match believed {
                Ok(((entry, record), is_doubtful)) => Some(Found { place: at, entry, record, is_doubtful }),
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

    /// Whether all results of an entry are there, as far as their sizes tell.
    pub fn is_whole(&self, found: &Found) -> bool {
        let Some(place) = self.places.get(found.place) else { return false };
        place.has_all(&found.entry.results().collect::<Vec<_>>()) == Ok(true)
    }

    /// Whether an action is to be built although a cache has it, to compare the results.
    pub fn is_sampled(&self, found: &Found) -> bool {
        let chance = || -> std::io::Result<f64> {
            let mut bytes = [0; 4];
            std::io::Read::read_exact(&mut std::fs::File::open("/dev/urandom")?, &mut bytes)?;
            Ok(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX))
        };
        match self.sampled.filter(|_| found.is_doubtful) {
            Some(share) => chance().is_ok_and(|chance| chance <= share && share > 0.0),
            None => false,
        }
    }

    /// The directory or address that an entry is from, for messages.
    pub fn place_of(&self, found: &Found) -> &str {
        self.places.get(found.place).map_or("", |place| place.shown.as_str())
    }

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
