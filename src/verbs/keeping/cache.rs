//! `imgbuild cache`: a cache that machines share, and the key of those who fill it.

mod verify;

use std::collections::BTreeSet;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use ed25519_dalek::SigningKey;

use super::gc::parse_bytes;
use crate::Exit;
use crate::output::render;
use cache::{Cache, CacheError, Contents, Settings, public, secret};
use files::{self, Durability};
use recipe::Workspace;

/// Which caches a build asks and fills.
#[derive(Debug, Clone, clap::Args)]
pub struct CacheArguments {
    /// Use a shared cache before running anything, and fill it: a directory, or an http, s3, oci or grpc address; repeatable
    #[arg(long = "cache", value_name = "URL", env = "IMGBUILD_CACHE", value_delimiter = ',')]
    pub cache: Vec<String>,
    /// Sign what is written to caches with this key, from `imgbuild cache key`
    #[arg(long, value_name = "FILE", env = "IMGBUILD_CACHE_KEY")]
    pub cache_key: Option<PathBuf>,
    /// Use only results signed by this public key, or `outputs-only` to build and compare a share of the others, or `unsigned` to believe
    /// all who can write there; repeatable
    #[arg(long, value_name = "KEY", env = "IMGBUILD_CACHE_TRUST", value_delimiter = ',')]
    pub cache_trust: Vec<String>,
    /// Set the share that `outputs-only` builds and compares [default: 5%]
    #[arg(long, value_name = "SHARE", env = "IMGBUILD_CACHE_SAMPLE")]
    pub cache_sample: Option<String>,
    /// Limit writing to caches to this many bytes per second, for instance 20M
    #[arg(long, value_name = "BYTES", env = "IMGBUILD_CACHE_RATE", value_parser = parse_bytes)]
    pub cache_rate: Option<u64>,
}

impl CacheArguments {
    /// The caches, where any are named: by the command or the environment, or else by the workspace of a directory.
    pub fn open(&self, directory: &Path) -> Result<Option<Cache>, Exit> {
        let mut named: Vec<String> = self.cache.iter().filter(|text| !text.is_empty()).cloned().collect();
        let mut settings = Settings {
            key: self.cache_key.clone(),
            trust: self.cache_trust.clone(),
            sample: self.cache_sample.clone(),
            rate: self.cache_rate,
        };
        // What is wrong with its file was said before.
        if let Ok(Some(workspace)) = Workspace::above(directory) {
            let own = workspace.model.cache;
            settings.trust.extend(own.trust);
            settings.sample = settings.sample.or(own.sample);
            if let (None, Some(text)) = (settings.rate, own.rate) {
                let problem = |expected| CacheError::Setting {
                    problem: format!("`{text}` is not a rate: expected {expected}"),
                    help: "set bytes per second in `[cache]` of imgbuild.toml: rate = \"20M\"",
                };
                settings.rate = Some(parse_bytes(&text).map_err(|expected| refuse(problem(expected)))?);
            }
            if named.is_empty() {
                let from_here = |url: String| match url.contains("://") {
                    true => url,
                    false => workspace.root.join(url).display().to_string(),
                };
                named = own.urls.into_iter().map(from_here).collect();
            }
        }
        if named.is_empty() {
            return Ok(None);
        }
        let cache = Cache::of(&named, &settings).map_err(refuse)?;
        // Each time, and once in a command.
        static SAID: Mutex<BTreeSet<String>> = Mutex::new(BTreeSet::new());
        for note in &cache.notes {
            if SAID.lock().is_ok_and(|mut said| said.insert(note.clone())) {
                render::say(&format!("note: {note}"));
            }
        }
        Ok(Some(cache))
    }
}

impl CacheArguments {
    pub fn named(&self) -> impl Iterator<Item = &String> {
        self.cache.iter().filter(|text| !text.is_empty())
    }

    /// Whether any cache is named, here or by the workspace of a directory.
    pub fn is_any(&self, directory: &Path) -> bool {
        let of_workspace =
            || Workspace::above(directory).ok().flatten().is_some_and(|one| !one.model.cache.urls.is_empty());
        self.named().next().is_some() || of_workspace()
    }
}

fn refuse(error: CacheError) -> Exit {
    render::refused(Exit::Input, error)
}

/// Arguments of `cache`.
#[derive(Debug, clap::Args)]
pub struct Arguments {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What can be done with a cache.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a key for those who fill the cache, and print its public half
    Key {
        /// The file to write; it must not exist
        file: PathBuf,
    },
    /// Show how much is in a cache
    Stats {
        /// The directory
        directory: PathBuf,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Read everything in a cache and verify it
    Verify {
        /// The directory, or the address of a server
        #[arg(value_name = "CACHE")]
        cache: String,
        /// Remove what is damaged, as far as the server permits; the next build that needs it writes it again
        #[arg(long)]
        repair: bool,
    },
    /// Remove what was used longest ago, until a cache is no larger than a size
    Gc {
        /// The directory
        directory: PathBuf,
        /// The size to stay within, for instance 100G
        #[arg(long, value_name = "SIZE", value_parser = parse_bytes)]
        size: u64,
    },
}

pub(crate) fn run(arguments: &crate::Arguments, own: &Arguments) -> Exit {
    let done = match &own.command {
        Command::Key { file } => key(file),
        Command::Stats { directory, json } => stats(directory, *json),
        Command::Verify { cache, repair } => verify::verify(arguments, cache, *repair),
        Command::Gc { directory, size } => shrink(directory, *size),
    };
    done.unwrap_or_else(|exit| exit)
}

fn key(file: &Path) -> Result<Exit, Exit> {
    let mut bytes = [0; 32];
    let failed = |problem: &dyn std::fmt::Display| {
        render::say(&format!("error: the key `{}` cannot be written: {problem}", file.display()));
        Exit::Machine
    };
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|error| failed(&error))?;
    let key = SigningKey::from_bytes(&bytes);
    // A key that is there is worth more than a new one.
    files::create(file, secret(&key).as_bytes(), 0o600, Durability::PowerCut).map_err(|error| failed(&error))?;
    render::print(&format!("{}\n", public(&key.verifying_key())));
    Ok(Exit::Done)
}

fn contents(directory: &Path) -> Result<Contents, Exit> {
    if directory.join("v1").symlink_metadata().is_err() {
        return Err(refuse(CacheError::Directory {
            path: directory.to_owned(),
            problem: "there is no `v1` in it: no build wrote to it as a cache".to_owned(),
        }));
    }
    let contents = Contents::of(directory).map_err(|error| unread(directory, &error))?;
    let foreign = contents.foreign();
    if let Some(first) = foreign.first() {
        let more = foreign.len() - 1;
        let more = if more == 0 { String::new() } else { format!(" and {more} more") };
        render::say(&format!("note: `{first}`{more} in the cache is not imgbuild's: it is left alone"));
    }
    Ok(contents)
}

fn unread(directory: &Path, error: &std::io::Error) -> Exit {
    render::say(&format!("error: the cache `{}`: {error}", directory.display()));
    Exit::Machine
}

fn stats(directory: &Path, json: bool) -> Result<Exit, Exit> {
    let stats = contents(directory)?.stats();
    if json {
        render::print(&format!("{}\n", serde_json::to_string_pretty(&stats).unwrap_or_default()));
    } else {
        render::print(&format!(
            "{} actions, {} files, {}; {} of it is named by no action\n",
            stats.actions,
            stats.objects,
            render::bytes(stats.bytes),
            render::bytes(stats.unnamed_bytes)
        ));
    }
    Ok(Exit::Done)
}

fn shrink(directory: &Path, size: u64) -> Result<Exit, Exit> {
    let freed = contents(directory)?.shrink(size, SystemTime::now()).map_err(|error| unread(directory, &error))?;
    render::say(&format!("removed {}", render::bytes(freed)));
    Ok(Exit::Done)
}
