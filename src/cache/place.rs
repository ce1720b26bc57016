//! Where a cache lies: a directory, or an address that takes PUT.

use std::fs::Permissions;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use super::CacheError;
use super::entry::Object;
use crate::digest::Digest;
use crate::distro::{DistroError, Fetcher};

/// Version of the layout.
const VERSION: &str = "v1";
/// Largest entry that is read, in bytes.
const ENTRY_LIMIT: u64 = 64 << 20;

/// One cache.
#[derive(Debug)]
pub struct Place {
    /// As it was given, for messages; a password is not in it.
    pub shown: String,
    /// The directory, or the address without a slash at its end.
    kind: Kind,
    /// It failed to answer: it is not asked again.
    is_off: AtomicBool,
    /// It had an entry that is not believed: that is said once.
    is_doubted: AtomicBool,
    /// It took nothing: nothing more is brought to it.
    is_full: AtomicBool,
    /// What it has is believed, and nothing is brought to it.
    pub is_given: bool,
}

#[derive(Debug)]
enum Kind {
    Directory(PathBuf),
    Address(String),
}

/// A place in a cache, below its version.
pub fn action_name(key: &Digest) -> String {
    let key = key.to_string();
    format!("{VERSION}/actions/{}/{key}.json", &key[..2])
}

/// The same for a file.
pub fn object_name(object: &Object) -> String {
    let name = object.sha256.to_string();
    format!("{VERSION}/objects/{}/{name}", &name[..2])
}

impl Place {
    /// A directory by its path, or `http://..`, `https://..`, `s3://BUCKET/PREFIX`, `file:..`.
    ///
    /// # Errors
    /// [`CacheError::Address`] for another scheme, [`CacheError::Bucket`] for a bucket of which too little is known, [`CacheError::Directory`] for what is no directory and cannot become one.
    pub fn of(text: &str) -> Result<Self, CacheError> {
        // Passwords are known for what lies below an address without a slash at its end.
        let text = if text.contains("://") { text.trim_end_matches('/') } else { text };
        let kind = match text.split_once(':') {
            Some(("http" | "https", rest)) if rest.starts_with("//") && rest.len() > 2 => {
                Kind::Address(crate::distro::without_password(text))
            }
            Some(("s3", rest)) if rest.starts_with("//") => {
                let at = crate::distro::s3_address(text);
                Kind::Address(at.map_err(|problem| CacheError::Bucket { address: text.to_owned(), problem })?)
            }
            Some(("file", path)) => directory(path.strip_prefix("//").unwrap_or(path))?,
            Some((scheme, _)) if !scheme.contains('/') && text.contains("://") => {
                return Err(CacheError::Address { address: crate::distro::without_password(text) });
            }
            _ => directory(text)?,
        };
        let shown = crate::distro::without_password(text);
        Ok(Self {
            shown,
            kind,
            is_off: AtomicBool::new(false),
            is_doubted: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            is_given: false,
        })
    }

    /// A directory with what a machine built that was asked to: it is believed, and nothing more is brought there.
    pub fn given(path: &Path) -> Self {
        Self {
            shown: path.display().to_string(),
            kind: Kind::Directory(path.to_owned()),
            is_off: AtomicBool::new(false),
            is_doubted: AtomicBool::new(false),
            is_full: AtomicBool::new(false),
            is_given: true,
        }
    }

    /// Whether its entries need a signature to be believed: who can write to a server is not known.
    pub fn needs_keys(&self) -> bool {
        matches!(self.kind, Kind::Address(_))
    }

    /// The directory, if it is one.
    pub fn directory(&self) -> Option<&Path> {
        match &self.kind {
            Kind::Directory(path) => Some(path),
            Kind::Address(_) => None,
        }
    }

    /// Whether it is asked.
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

    /// It is not asked again; whether that is new.
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

    /// The address of what it has by a name.
    pub fn url(&self, name: &str) -> String {
        match &self.kind {
            Kind::Directory(path) => format!("file:{}/{name}", path.display()),
            Kind::Address(address) => format!("{address}/{name}"),
        }
    }

    /// An entry's text, where it has one.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub fn entry(&self, fetcher: &Fetcher, key: &Digest) -> Result<Option<Vec<u8>>, String> {
        match fetcher.read(&self.url(&action_name(key)), ENTRY_LIMIT) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(DistroError::NotThere { .. }) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    /// Notes that an entry was used: what was used longest ago is removed first.
    pub fn used(&self, key: &Digest) {
        if let Kind::Directory(path) = &self.kind {
            use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            // Those who may only read leave it as it is. The file of another user takes this time, and no other.
            if let Ok(file) = std::fs::File::options().append(true).open(path.join(action_name(key))) {
                let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
            }
        }
    }

    /// Whether it has something by a name.
    ///
    /// # Errors
    /// Why it could not be asked.
    pub fn has(&self, fetcher: &Fetcher, name: &str, size: u64) -> Result<bool, String> {
        match &self.kind {
            Kind::Directory(path) => Ok(std::fs::metadata(path.join(name)).is_ok_and(|found| found.len() == size)),
            Kind::Address(_) => fetcher.has(&self.url(name)).map_err(|error| error.to_string()),
        }
    }

    /// Brings a file there; it gets its name when it is whole.
    ///
    /// # Errors
    /// Why that could not be.
    pub fn put(&self, fetcher: &Fetcher, name: &str, file: &Path) -> Result<(), String> {
        let directory = match &self.kind {
            Kind::Directory(path) => path,
            Kind::Address(_) => return fetcher.put(&self.url(name), file),
        };
        let to = directory.join(name);
        let copied = || -> std::io::Result<()> {
            let mode = std::fs::metadata(directory)?.permissions().mode() & 0o7777;
            let parent = to.parent().unwrap_or(directory);
            make_folders(directory, name, mode)?;
            let mut aside = tempfile::Builder::new().prefix(".half-").tempfile_in(parent)?;
            std::io::copy(&mut std::fs::File::open(file)?, &mut aside)?;
            aside.flush()?;
            aside.as_file().set_permissions(Permissions::from_mode(0o600 | mode & 0o666))?;
            aside.as_file().sync_data()?;
            aside.persist(&to)?;
            Ok(())
        };
        copied().map_err(|error| error.to_string())
    }
}

/// Makes the folders of a file. They have the mode of the whole directory, and files have what of it files can have: who may use the
/// cache is decided there, and not by the umask of the first user.
fn make_folders(root: &Path, name: &str, mode: u32) -> std::io::Result<()> {
    let mut folder = root.to_owned();
    for part in Path::new(name).parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        match std::fs::create_dir(&folder) {
            Ok(()) => std::fs::set_permissions(&folder, Permissions::from_mode(mode))?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn directory(text: &str) -> Result<Kind, CacheError> {
    let path = std::path::absolute(text).unwrap_or_else(|_| PathBuf::from(text));
    match std::fs::metadata(&path) {
        Ok(found) if found.is_dir() => Ok(Kind::Directory(path)),
        Ok(_) => Err(CacheError::Directory { path, problem: "it is not a directory".to_owned() }),
        Err(error) => Err(CacheError::Directory { path, problem: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_have_the_mode_of_the_whole_and_files_what_files_can_have() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        std::fs::write(&file, "text").unwrap();
        let cache = root.path().join("cache");
        std::fs::create_dir(&cache).unwrap();
        let fetcher = Fetcher::new();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for (whole, of_file) in [(0o2775, 0o664), (0o700, 0o600), (0o755, 0o644)] {
            std::fs::set_permissions(&cache, Permissions::from_mode(whole)).unwrap();
            let place = Place::of(cache.to_str().unwrap()).unwrap();
            let name = format!("v1/objects/{whole:o}/x");
            place.put(&fetcher, &name, &file).unwrap();
            assert_eq!((mode(cache.join(&name).parent().unwrap()), mode(&cache.join(&name))), (whole, of_file));
            assert_eq!(place.has(&fetcher, &name, 4), Ok(true));
            assert_eq!(place.has(&fetcher, &name, 5), Ok(false));
        }
        assert!(place_of("ftp://x/y").contains("neither a directory"));
        assert!(place_of("/nowhere/at/all").contains("cannot be used"));
        assert!(Place::of("https://u:secret@cache.test/x/").unwrap().needs_keys());
        assert!(!Place::of("https://u:secret@cache.test/x/").unwrap().shown.contains("secret"));
    }

    fn place_of(text: &str) -> String {
        Place::of(text).unwrap_err().to_string()
    }
}
