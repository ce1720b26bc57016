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
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use ed25519_dalek::{SigningKey, VerifyingKey};

use base::digest::Digest;
use files::shared::{Writers, writers};
use store::{ActionRecord, Store};

use entry::id_of;

pub use bring::{Brought, Loader, shown_name, worth_of_size};
pub use entry::{Entry, Frame, Object, parse_public, public, secret};
pub use fill::{Filled, Saver};
pub use keep::{Contents, Stats, Wrong};
pub use place::{Kept, Place, Wanted, object_name};
pub use rate::Rate;
pub use verify::{Checked, Damage, Mended};

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
    #[error("the cache `{address}` cannot be used without signatures: anyone can decide what is in it, by `{}`", open.display())]
    #[diagnostic(
        code(cache::open),
        help(
            "chmod o-w {}, or give it to this user; or name the key of those who fill it: --cache-trust ed25519:..; `trust = [\"unsigned\"]` in [cache] of imgbuild.toml believes all who can write there", open.display()
        )
    )]
    Open { address: String, open: PathBuf },
    #[error("the cache `{address}` gives no list of what it has")]
    #[diagnostic(
        code(cache::unlisted),
        help("name the store of a machine that uses it, whose actions are looked for then: --store DIR")
    )]
    Unlisted { address: String },
    #[error("{problem}")]
    #[diagnostic(code(cache::setting), help("{help}"))]
    Setting { problem: String, help: &'static str },
    #[error("{problem}")]
    #[diagnostic(code(cache::key), help("`imgbuild cache key FILE` makes a key and prints its public half"))]
    Key { problem: String },
    #[error("the cache's key `{}` can be read by others", path.display())]
    #[diagnostic(
        code(cache::open_key),
        help("chmod 600 {}; if others may have read it, make a new one (`imgbuild cache key FILE`) and trust that instead", path.display())
    )]
    OpenKey { path: PathBuf },
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
    /// Who is believed without a signature, for messages.
    pub notes: Vec<String>,
    /// It is this program's own, between machines that work on one build: what was only believed goes along, as such.
    is_own: bool,
}

#[derive(Debug, Clone, Default)]
pub struct Settings {
    pub key: Option<PathBuf>,
    /// Public keys, `outputs-only`, `unsigned`.
    pub trust: Vec<String>,
    /// The share of what is believed by `outputs-only` that is built and compared: `5%`.
    pub sample: Option<String>,
    /// How many bytes are brought there in each second at most.
    pub rate: Option<u64>,
}

/// Instead of a key: unsigned results are used, and a share of them is built here and compared.
const OUTPUTS_ONLY: &str = "outputs-only";

/// Instead of a key: all who can write to a cache are believed.
const UNSIGNED: &str = "unsigned";

/// The folders of a directory whose writers decide what is believed.
const BELIEVED: [&str; 2] = ["v1", "v1/actions"];

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
    /// Whether it is used although no trusted key signed it and others can write there.
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
        let is_unsigned = settings.trust.iter().any(|text| text == UNSIGNED);
        let keys = settings.trust.iter().filter(|text| ![OUTPUTS_ONLY, UNSIGNED].contains(&text.as_str()));
        let mut trusted: Vec<VerifyingKey> =
            keys.map(|text| parse_public(text).map_err(said)).collect::<Result<_, _>>()?;
        let key = key.as_ref().map(|path| {
            let read =
                |error: std::io::Error| said(format!("the cache's key `{}` cannot be read: {error}", path.display()));
            let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(path).map_err(read)?);
            if mode & 0o077 != 0 && !fault::planted("cache-key-of-all") {
                return Err(CacheError::OpenKey { path: path.clone() });
            }
            let text = std::fs::read_to_string(path).map_err(read)?;
            entry::parse_secret(&text)
                .ok_or_else(|| said(format!("`{}` is no key of `imgbuild cache key`", path.display())))
        });
        let key = key.transpose()?;
        // Who signs believes itself.
        trusted.extend(key.as_ref().map(SigningKey::verifying_key));
        let mut notes = Vec::new();
        for place in places.iter().filter(|_| trusted.is_empty() && !is_unsigned) {
            if is_any {
                let place = &place.shown;
                notes.push(format!("results of the cache {place} that no one signed are used, {:.0} % of them are built here and compared", sample * 100.0));
                continue;
            }
            let Some(directory) = place.directory() else {
                return Err(CacheError::NoKey { address: place.shown.clone() });
            };
            let unread = |error: std::io::Error| CacheError::Directory {
                path: directory.to_owned(),
                problem: error.to_string(),
            };
            match writers(directory, &BELIEVED).map_err(unread)? {
                Writers::Own => {}
                Writers::Anyone(_) if fault::planted("cache-of-anyone") => {}
                Writers::Anyone(open) => return Err(CacheError::Open { address: place.shown.clone(), open }),
                Writers::Others(who) => notes.push(format!(
                    "the cache {} is believed without signatures: {who}, decides what is in images; `trust` in [cache] of imgbuild.toml names keys, or \"unsigned\" if that is intended",
                    place.shown
                )),
            }
        }
        Ok(Self { places, trusted, key, sampled: is_any.then_some(sample), notes, is_own: false })
    }

    /// A directory of this program's own, which is believed.
    /// Errors: [`CacheError::Directory`].
    pub fn of_directory(directory: &std::path::Path) -> Result<Self, CacheError> {
        let trust = vec![UNSIGNED.to_owned()];
        let own = Self::of(&[directory.display().to_string()], &Settings { trust, ..Settings::default() })?;
        Ok(Self { is_own: true, ..own })
    }

    /// A cache of none.
    pub fn none() -> Self {
        Self { places: Vec::new(), trusted: Vec::new(), key: None, sampled: None, notes: Vec::new(), is_own: false }
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
                Ok(Kept::Text(text)) => text,
                Ok(Kept::Nothing) => return None,
                Ok(Kept::Odd(problem)) => {
                    self.doubt(place, key, &problem, say);
                    return None;
                }
                Err(problem) => {
                    self.lose(place, &problem, say);
                    return None;
                }
            };
            let believed = match self.believed(place, &text, key) {
                // Signed, or a place where that is not asked for: only where no one else can write there, it is as good.
                Ok(found) => {
                    let is_closed = place.is_closed || fault::planted("cache-of-others-is-own");
                    let is_sure = place.is_given
                        || self.is_own
                        || !self.trusted.is_empty()
                        || self.sampled.is_none() && is_closed;
                    Ok((found, !is_sure))
                }
                Err(_) if self.sampled.is_some() => Entry::parse(&text, key, &[]).map(|found| (found, true)),
                Err(problem) => Err(problem),
            };
            match believed {
                Ok(((entry, record), is_doubtful)) => Some(Found { place: at, entry, record, is_doubtful }),
                Err(problem) => {
                    self.doubt(place, key, &problem, say);
                    None
                }
            }
        })
    }

    /// Reads an entry that a trusted key has signed, in it or beside it, where that is asked for.
    fn believed(&self, place: &Place, text: &[u8], key: &Digest) -> Result<(Entry, ActionRecord), String> {
        let trusted = if place.is_given { &[] } else { &self.trusted[..] };
        Entry::parse_with(text, key, trusted, &|one| place.signature(key, &id_of(one)))
    }

    /// An entry is not used. As a rule it is all of them, so that the first is said.
    fn doubt(&self, place: &Place, key: &Digest, problem: &str, say: Say<'_>) {
        if place.doubt() {
            let key = key.to_string();
            let place = &place.shown;
            say(format!("the cache {place} has entries that are not used, the first is {key:.12}..: {problem}"));
        }
    }

    /// The same of directories alone.
    pub fn find_here(&self, key: &Digest, say: Say<'_>) -> Option<Found> {
        self.find_among(key, &|place| place.directory().is_some(), say)
    }

    /// Those that are no directories, which a plan does not ask.
    pub fn servers(&self) -> impl Iterator<Item = &str> {
        self.places.iter().filter(|place| place.directory().is_none()).map(|place| place.shown.as_str())
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

    /// Whether all that no one signed is built and compared.
    pub fn compares_all(&self) -> bool {
        self.sampled.is_some_and(|share| share >= 1.0)
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

#[cfg(test)]
mod tests;
