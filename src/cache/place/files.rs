//! A directory, or an address that takes PUT: each file by its name.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::{ENTRY_LIMIT, Shelf, Wanted, action_name, missing_of, object_name};
use crate::cache::entry::Object;
use crate::cache::rate::Rate;
use crate::digest::{Digest, Sha256};
use crate::distro::{DistroError, Download, Fetcher, Progress};
use crate::fault;
use crate::files::{Aside, Durability};
use crate::store::StoreError;

/// Files below a root.
#[derive(Debug)]
pub(super) struct Files {
    root: Root,
    fetcher: Fetcher,
    rate: Rate,
}

#[derive(Debug)]
enum Root {
    Directory(PathBuf),
    /// Without a slash at its end.
    Address(String),
}

impl Files {
    pub fn directory(path: PathBuf, fetcher: Fetcher, rate: Rate) -> Self {
        Self { root: Root::Directory(path), fetcher, rate }
    }

    pub fn address(address: String, fetcher: Fetcher, rate: Rate) -> Self {
        Self { root: Root::Address(address), fetcher, rate }
    }

    fn url(&self, name: &str) -> String {
        match &self.root {
            Root::Directory(path) => format!("file:{}/{name}", path.display()),
            Root::Address(address) => format!("{address}/{name}"),
        }
    }

    fn has(&self, object: &Object) -> Result<bool, String> {
        let name = object_name(object);
        match &self.root {
            Root::Directory(path) => {
                Ok(std::fs::metadata(path.join(name)).is_ok_and(|found| found.len() == object.size))
            }
            Root::Address(_) => self.fetcher.has(&self.url(&name)).map_err(|error| error.to_string()),
        }
    }

    /// Brings a file there; it gets its name when it is whole.
    fn send(&self, name: &str, file: &Path) -> Result<(), String> {
        let directory = match &self.root {
            Root::Directory(path) => path,
            Root::Address(_) => return self.fetcher.put(&self.url(name), file, &|bytes| self.rate.spend(bytes)),
        };
        let to = directory.join(name);
        let copied = || -> std::io::Result<()> {
            let mode = std::fs::metadata(directory)?.permissions().mode() & 0o7777;
            make_folders(directory, name, mode)?;
            let mut aside = Aside::of(&to, 0o600)?;
            std::io::copy(&mut self.rate.reading(std::fs::File::open(file)?), &mut aside)?;
            aside.as_file().set_permissions(Permissions::from_mode(0o600 | mode & 0o666))?;
            aside.replace(Durability::PowerCut)
        };
        copied().map_err(|error| error.to_string())
    }
}

impl Shelf for Files {
    fn entry(&self, key: &Digest) -> Result<Option<Vec<u8>>, String> {
        match self.fetcher.read(&self.url(&action_name(key)), ENTRY_LIMIT) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(DistroError::NotThere { .. }) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn missing(&self, objects: &[&Object]) -> Result<Vec<Sha256>, String> {
        missing_of(objects, &|object| self.has(object))
    }

    fn bring(&self, wanted: &[Wanted], progress: &dyn Progress) -> Result<Option<String>, StoreError> {
        let downloads: Vec<Download> = wanted
            .iter()
            .map(|one| Download {
                urls: vec![self.url(&object_name(&one.object))],
                size: one.object.size,
                sha256: one.object.sha256,
                destination: one.destination.clone(),
            })
            .collect();
        let done = self.fetcher.fetch_all(&downloads, progress);
        let mut failed = done.err().map(|error| (error, &downloads[..]));
        while let Some((error, rest)) = failed.take() {
            match error {
                DistroError::Store(error) => return Err(error),
                DistroError::Download { .. } => return Ok(Some(error.to_string())),
                _ => {}
            }
            // Which of them it was is not known: from here on one after another.
            for (at, one) in rest.iter().enumerate() {
                if let Err(error) = self.fetcher.fetch_all(std::slice::from_ref(one), progress) {
                    failed = Some((error, &rest[at + 1..]));
                    break;
                }
            }
        }
        Ok(None)
    }

    fn put(&self, object: &Object, file: &Path) -> Result<bool, String> {
        if self.has(object)? {
            return Ok(false);
        }
        self.send(&object_name(object), file).map(|()| true)
    }

    fn put_entry(&self, key: &Digest, text: &Path, _: &[Object]) -> Result<(), String> {
        self.send(&action_name(key), text)
    }

    fn used(&self, key: &Digest) {
        if let Root::Directory(path) = &self.root {
            use rustix::fs::{Timespec, Timestamps, UTIME_NOW, futimens};
            let now = Timespec { tv_sec: 0, tv_nsec: UTIME_NOW };
            // Those who may only read leave it as it is. The file of another user takes this time, and no other.
            if let Ok(file) = std::fs::File::options().append(true).open(path.join(action_name(key))) {
                let _ = futimens(&file, &Timestamps { last_access: now, last_modification: now });
            }
        }
    }
}

/// Makes the folders of a file. They have the mode of the whole directory, and files have what of it files can have: who may use the
/// cache is decided there, and not by the umask of the first user.
fn make_folders(root: &Path, name: &str, mode: u32) -> std::io::Result<()> {
    let mut folder = root.to_owned();
    for part in Path::new(name).parent().into_iter().flat_map(Path::components) {
        folder.push(part);
        match std::fs::create_dir(&folder) {
            Ok(()) if fault::planted("cache-modes-of-umask") => {}
            Ok(()) => std::fs::set_permissions(&folder, Permissions::from_mode(mode))?,
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_have_the_mode_of_the_whole_and_files_what_files_can_have() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        let cache = root.path().join("cache");
        std::fs::create_dir(&cache).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        for (whole, of_file) in [(0o2775, 0o664), (0o700, 0o600), (0o755, 0o644)] {
            let text = format!("{whole:o}");
            std::fs::write(&file, &text).unwrap();
            std::fs::set_permissions(&cache, Permissions::from_mode(whole)).unwrap();
            let files = Files::directory(cache.clone(), Fetcher::new(), Rate::default());
            let object = Object { size: text.len() as u64, sha256: Sha256::of(text.as_bytes()) };
            let name = object_name(&object);
            assert_eq!(files.put(&object, &file), Ok(true));
            assert_eq!(files.put(&object, &file), Ok(false));
            assert_eq!((mode(cache.join(&name).parent().unwrap()), mode(&cache.join(&name))), (whole, of_file));
            assert_eq!(files.missing(&[&object]), Ok(Vec::new()));
            let longer = Object { size: 99, ..object };
            assert_eq!(files.missing(&[&longer]), Ok(vec![longer.sha256]));
            std::fs::remove_dir_all(cache.join("v1")).unwrap();
        }
    }
}
