//! Where things are, and opening the store.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::{FileLock, StoreError};
use base::digest::{Digest, Sha256};
use base::format::Version;

/// Directories that belong to root inside the namespace.
pub const TREE_DIRECTORIES: [&str; 8] =
    ["trees", "manifests", "frames", "scratch", "logs", "handover", "solving", "decompressed"];

/// Directories that belong to the user.
const OWN_DIRECTORIES: [&str; 9] =
    ["packages", "indices", "blobs", "actions", "roots", "history", "locks", "links", "aside"];

/// Version of the form of what is below `v1`. A later minor version has files and fields more, which are left alone.
const STORE_FORMAT: Version = Version::new(1, 0);

#[derive(Debug, Clone)]
pub struct Store {
    directory: PathBuf,
    /// Holds the directory for half-written files; made when it is needed.
    aside: Arc<OnceLock<(PathBuf, FileLock)>>,
}

/// Whether one id map has all ids of another at the same places: then what was made with the other one is as it was. Both are
/// texts as [`Store::open`] takes them: `uid INSIDE:OUTSIDE:COUNT ..  gid ..`.
fn is_part_of(part: &str, whole: &str) -> bool {
    type Line = (bool, [u64; 3]);
    fn lines(text: &str) -> Option<Vec<Line>> {
        let mut is_of_groups = false;
        let mut all = Vec::new();
        for word in text.split_whitespace() {
            match word {
                "uid" => is_of_groups = false,
                "gid" => is_of_groups = true,
                numbers => {
                    let numbers: Option<Vec<u64>> = numbers.split(':').map(|number| number.parse().ok()).collect();
                    all.push((is_of_groups, numbers?.try_into().ok()?));
                }
            }
        }
        Some(all)
    }
    let (Some(part_lines), Some(whole_lines)) = (lines(part), lines(whole)) else { return part == whole };
    part_lines.iter().all(|(kind, [inside, outside, count])| {
        whole_lines.iter().any(|(other, [from, to, most])| {
            kind == other
                && from <= inside
                && inside - from == outside.wrapping_sub(*to)
                && inside + count <= from + most
        })
    })
}

/// The lock of anyone who waits to have the store alone.
const TURN: &str = "locks/turn";

impl Store {
    /// Where the store is when no one says: `$XDG_CACHE_HOME/imgbuild` or `~/.cache/imgbuild`.
    /// Errors: [`StoreError::NoHome`] when neither variable is set.
    pub fn default_directory() -> Result<PathBuf, StoreError> {
        let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        absolute("XDG_CACHE_HOME")
            .or_else(|| absolute("HOME").map(|home| home.join(".cache")))
            .map(|cache| cache.join("imgbuild"))
            .ok_or(StoreError::NoHome)
    }

    /// Refuses a store whose form a later imgbuild changed; nothing of it is read, and gc must not touch it.
    /// Errors: [`StoreError::Newer`].
    pub fn refuse_newer(directory: &Path) -> Result<(), StoreError> {
        let Ok(text) = std::fs::read_to_string(directory.join("v1/format")) else { return Ok(()) };
        let mut words = text.split_whitespace();
        let Some(found) = words.next().and_then(Version::parse) else { return Ok(()) };
        let what = format!("the store `{}`", directory.display());
        Ok(STORE_FORMAT.reads(&what, found, words.next())?)
    }

    /// Opens a store for reading only, without making anything; for `plan`.
    pub fn existing(directory: &Path) -> Self {
        Self { directory: directory.join("v1"), aside: Arc::default() }
    }

    /// Opens or makes a store. `id_map` is the map's text, `tree_owner` the host ids of root inside.
    /// Errors: Any [`StoreError`]; nothing is changed when the store belongs to another user or map.
    pub fn open(directory: &Path, id_map: &str, tree_owner: (u32, u32)) -> Result<Self, StoreError> {
        let make = |path: &Path, mode: u32| -> Result<(), StoreError> {
            if path.is_dir() {
                return Ok(());
            }
            std::fs::create_dir_all(path).map_err(|source| StoreError::io("create the directory", path, source))?;
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
                .map_err(|source| StoreError::io("set the mode of", path, source))
        };
        let user = rustix::process::getuid().as_raw();
        let inner = directory.join("v1");
        if !inner.is_dir() && std::fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
            return Err(StoreError::NotAStore { path: directory.to_owned() });
        }
        let has_map = Self::refuse_foreign(directory, id_map, tree_owner)?;
        make(directory, 0o700)?;
        if !inner.is_dir() {
            // Content of scripts and keys will lie there: an empty directory that someone made before is closed, too.
            std::fs::set_permissions(directory, std::fs::Permissions::from_mode(0o700))
                .map_err(|source| StoreError::io("set the mode of", directory, source))?;
        }
        make(&inner, 0o755)?;
        for name in OWN_DIRECTORIES {
            make(&inner.join(name), 0o755)?;
        }
        for name in TREE_DIRECTORIES {
            let path = inner.join(name);
            if path.is_dir() {
                continue;
            }
            make(&path, 0o755)?;
            if user == 0 {
                std::os::unix::fs::chown(&path, Some(tree_owner.0), Some(tree_owner.1))
                    .map_err(|source| StoreError::io("change the owner of", &path, source))?;
            }
        }
        let store = Self { directory: inner, aside: Arc::default() };
        if store.note("format").is_none() {
            store.set_note("format", &STORE_FORMAT.to_string())?;
        }
        if !has_map || store.note("id-map").is_some_and(|was| was != id_map) {
            store.write_file(&store.directory.join("id-map"), format!("{id_map}\n").as_bytes())?;
        }
        Ok(store)
    }

    /// Refuses a store of another user, of another id map, or of a later form; whether it says which map it has.
    /// Errors: [`StoreError::Owner`], [`StoreError::IdMapChanged`], [`StoreError::Newer`].
    pub fn refuse_foreign(directory: &Path, id_map: &str, tree_owner: (u32, u32)) -> Result<bool, StoreError> {
        let user = rustix::process::getuid().as_raw();
        if let Ok(metadata) = std::fs::metadata(directory)
            && metadata.uid() != user
        {
            return Err(StoreError::Owner { path: directory.to_owned(), owner: metadata.uid(), user });
        }
        // What is in it is believed: an empty one is closed when it is made a store.
        let inner = directory.join("v1");
        let is_open =
            |path: &Path| path.symlink_metadata().is_ok_and(|found| found.mode() & 0o002 != 0 && found.is_dir());
        if let Some(open) = [directory, &inner].into_iter().find(|path| inner.is_dir() && is_open(path)) {
            return Err(StoreError::Open { path: open.to_owned() });
        }
        Self::refuse_newer(directory)?;
        let inner = directory.join("v1");
        let was = std::fs::read_to_string(inner.join("id-map")).unwrap_or_default();
        // A spoilt note says nothing, and is rewritten where the trees have the owner that they should have.
        let is_map = was.starts_with("uid ") && was.contains(" gid ") && was.ends_with('\n');
        let other_owner = std::fs::metadata(inner.join("trees"))
            .is_ok_and(|trees| !is_map && (trees.uid(), trees.gid()) != tree_owner);
        if (is_map && !is_part_of(was.trim(), id_map)) || other_owner {
            return Err(StoreError::IdMapChanged {
                path: directory.to_owned(),
                was: was.trim().to_owned(),
                now: id_map.to_owned(),
            });
        }
        Ok(is_map)
    }

    /// The directory with everything in it; operations in the namespace start here.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    pub fn note(&self, name: &str) -> Option<String> {
        std::fs::read_to_string(self.directory.join(name)).ok().map(|text| text.trim().to_owned())
    }

    pub fn set_note(&self, name: &str, text: &str) -> Result<(), StoreError> {
        self.write_file(&self.directory.join(name), format!("{text}\n").as_bytes())
    }

    /// The lock that builds share and gc takes alone.
    pub fn use_lock(&self) -> PathBuf {
        self.directory.join("locks/use")
    }

    /// Takes part in using the store, after anyone who waits to have it alone.
    /// Errors: As [`FileLock::share`].
    pub fn share_use(&self) -> Result<FileLock, StoreError> {
        let turn = FileLock::share(&self.directory.join(TURN))?;
        let held = FileLock::share(&self.use_lock());
        drop(turn);
        held
    }

    /// Takes the store alone when those who use it are done. Those who come later wait meanwhile: without that there would be
    /// no moment where one build follows the other. None where it takes longer than patience lasts.
    /// Errors: As [`FileLock::try_take`].
    pub fn take_use(&self, patience: Duration) -> Result<Option<FileLock>, StoreError> {
        let began = Instant::now();
        let _turn = FileLock::take(&self.directory.join(TURN))?;
        loop {
            let held = FileLock::try_take(&self.use_lock())?;
            if held.is_some() || began.elapsed() >= patience {
                return Ok(held);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn package(&self, digest: &Sha256) -> PathBuf {
        self.directory.join(Self::package_name(digest))
    }

    /// The same, relative to the store's directory.
    pub fn package_name(digest: &Sha256) -> String {
        let hex = digest.to_string();
        format!("packages/{}/{hex}", &hex[..2])
    }

    pub fn index(&self, digest: &Sha256) -> PathBuf {
        self.directory.join("indices").join(digest.to_string())
    }

    pub fn blob(&self, digest: &Digest) -> PathBuf {
        self.directory.join(Self::blob_name(digest))
    }

    /// The same, relative to the store's directory.
    pub fn blob_name(digest: &Digest) -> String {
        let hex = digest.to_string();
        format!("blobs/{}/{hex}", &hex[..2])
    }

    /// A layer's directory, relative to the store's directory.
    pub fn tree_name(digest: &Digest) -> String {
        format!("trees/{digest}")
    }

    /// A layer's manifest, relative to the store's directory.
    pub fn manifest_name(digest: &Digest) -> String {
        format!("manifests/{digest}")
    }

    /// A compressed frame, relative to the store's directory.
    pub fn frame_name(digest: &Digest) -> String {
        let hex = digest.to_string();
        format!("frames/{}/{hex}", &hex[..2])
    }

    /// What a package manager made of indices to resolve with, relative to the store's directory; `digest` is of all that it
    /// is made of.
    pub fn solving_name(digest: &Digest) -> String {
        format!("solving/{digest}")
    }

    /// A package without its slow compression, relative to the store's directory; `digest` is the package's own.
    pub fn decompressed_name(digest: &Sha256) -> String {
        let hex = digest.to_string();
        format!("decompressed/{}/{hex}", &hex[..2])
    }

    pub fn has_layer(&self, digest: &Digest) -> bool {
        witness::is_file(&self.directory.join(Self::manifest_name(digest)))
            && witness::is_dir(&self.directory.join(Self::tree_name(digest)))
    }

    pub(crate) fn write_file(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        use std::io::Write;
        let parent = path.parent().unwrap_or(&self.directory);
        std::fs::create_dir_all(parent).map_err(|source| StoreError::io("create the directory", parent, source))?;
        let said = |source: std::io::Error| StoreError::io("write", path, source);
        let mut file = self.half_written()?;
        file.write_all(bytes).and_then(|()| file.as_file().sync_all()).map_err(said)?;
        fault::point("store.before-rename");
        self.clear_place(path)?;
        file.persist(path).map_err(|error| said(error.error))?;
        std::fs::File::open(parent).and_then(|directory| directory.sync_all()).map_err(said)
    }

    /// A new file that is not yet what it will be; it is renamed to its place when it is. What a killed process leaves of
    /// them goes with its directory.
    pub fn half_written(&self) -> Result<tempfile::NamedTempFile, StoreError> {
        let directory = self.aside_directory()?;
        tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o644))
            .tempfile_in(&directory)
            .map_err(|source| StoreError::io("create a file in", directory, source))
    }

    /// The directory of this process's half-written files.
    pub fn aside_directory(&self) -> Result<PathBuf, StoreError> {
        Ok(match self.aside.get() {
            Some((directory, _)) => directory.clone(),
            None => {
                static NEXT: AtomicU32 = AtomicU32::new(0);
                let number = NEXT.fetch_add(1, Ordering::Relaxed);
                let name = format!("{}-{}-{number}", std::process::id(), start_time());
                let lock = FileLock::take(&self.directory.join("locks").join(format!("aside-{name}")))?;
                let directory = self.directory.join("aside").join(name);
                std::fs::create_dir_all(&directory)
                    .map_err(|source| StoreError::io("create the directory", &directory, source))?;
                self.aside.get_or_init(|| (directory, lock)).0.clone()
            }
        })
    }

    /// Makes a scratch directory for this process; it is removed, from inside, by anyone who made it or by gc.
    pub fn scratch(&self) -> Result<Scratch, StoreError> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{}-{number}", std::process::id(), start_time());
        let lock = FileLock::take(&self.directory.join("locks").join(format!("scratch-{name}")))?;
        let links = self.directory.join("links").join(&name);
        std::fs::create_dir_all(&links).map_err(|source| StoreError::io("create the directory", &links, source))?;
        Ok(Scratch { name: format!("scratch/{name}"), links_name: format!("links/{name}"), links, lock: Some(lock) })
    }
}

/// When this process started, in clock ticks since boot; tells a reused pid apart. Source: proc_pid_stat(5).
fn start_time() -> u64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = stat.rsplit(')').next().unwrap_or_default();
    after.split_whitespace().nth(19).and_then(|text| text.parse().ok()).unwrap_or(0)
}

impl Drop for Store {
    fn drop(&mut self) {
        // The last clone takes the directory away; it is empty unless something failed.
        if let Some((directory, lock)) = Arc::get_mut(&mut self.aside).and_then(OnceLock::take) {
            let _ = std::fs::remove_dir_all(directory);
            lock.remove();
        }
    }
}

/// A scratch directory's name and the lock that says its process lives.
#[derive(Debug)]
pub struct Scratch {
    /// Path relative to the store's directory.
    pub name: String,
    /// Directory with other names for files of the store, relative to the store's directory.
    pub links_name: String,
    links: PathBuf,
    lock: Option<FileLock>,
}

impl Scratch {
    /// Path of something in it, relative to the store's directory.
    pub fn join(&self, name: &str) -> String {
        format!("{}/{name}", self.name)
    }

    /// Gives a file of the store another name that a sandbox can be shown.
    pub fn link(&self, file: &Path, name: &str) -> Result<(), StoreError> {
        let to = self.links.join(name);
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(|source| StoreError::io("create the directory", parent, source))?;
        }
        std::fs::hard_link(file, &to).map_err(|source| StoreError::io("link", file, source))
    }

    /// Writes a small file that a sandbox can be shown.
    pub fn write_link(&self, name: &str, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
        let to = self.links.join(name);
        let said = |source: std::io::Error| StoreError::io("write", &to, source);
        let plain = Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)));
        if !plain {
            return Err(said(std::io::ErrorKind::InvalidInput.into()));
        }
        if let Some(parent) = to.parent() {
            std::fs::create_dir_all(parent).map_err(said)?;
        }
        std::fs::write(&to, bytes).map_err(said)?;
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode)).map_err(said)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.links);
        if let Some(lock) = self.lock.take() {
            lock.remove();
        }
    }
}
