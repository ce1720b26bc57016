//! A directory: each file by its name.

use std::fs::File;
use std::io::{Error, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use rustix::io::Errno;

use super::coming::{Coming, OTHER_LENGTH, Problems, Trouble, bring_alone};
use super::{ENTRY_LIMIT, Kept, Shelf, Unsent, Wanted, action_name};
use super::{missing_of, object_name, signature_name};
use crate::entry::Object;
use crate::rate::Rate;
use crate::{Damage, Mended};
use base::digest::{Digest, Sha256};
use files::Durability;
use files::shared::Shared;
use packages::Progress;
use store::{StoreError, sha256_of};

#[derive(Debug)]
pub(super) struct Directory {
    /// Or why it cannot be opened.
    root: Result<Shared, String>,
    rate: Rate,
}

/// Whether it is the whole file system that does not answer, and not a file that cannot be used.
pub(crate) fn is_lost(error: &Error) -> bool {
    let lost = [Errno::STALE, Errno::NOTCONN, Errno::TIMEDOUT, Errno::HOSTDOWN, Errno::HOSTUNREACH, Errno::SHUTDOWN];
    lost.iter().any(|one| error.raw_os_error() == Some(one.raw_os_error()))
}

impl Directory {
    pub(super) fn of(path: &Path, rate: Rate) -> Self {
        Self { root: Shared::open(path).map_err(|error| error.to_string()), rate }
    }

    fn root(&self) -> Result<&Shared, String> {
        self.root.as_ref().map_err(Clone::clone)
    }

    fn kept(&self, name: &str) -> Result<Kept, String> {
        match self.root()?.read(name, ENTRY_LIMIT) {
            Ok(Some(text)) => Ok(Kept::Text(text)),
            Ok(None) => Ok(Kept::Nothing),
            Err(error) if is_lost(&error) => Err(error.to_string()),
            Err(error) => Ok(Kept::Odd(error.to_string())),
        }
    }

    /// Opens a file that is as long as it should be.
    fn file(&self, object: &Object) -> Result<Option<File>, Error> {
        let root = self.root().map_err(Error::other)?;
        let Some(file) = root.file(&object_name(object))? else { return Ok(None) };
        Ok((file.metadata()?.len() == object.size).then_some(file))
    }

    fn has(&self, object: &Object) -> Result<bool, String> {
        match self.file(object) {
            Err(error) if is_lost(&error) => Err(error.to_string()),
            found => Ok(found.is_ok_and(|file| file.is_some())),
        }
    }

    fn one(&self, one: &Wanted) -> Result<(), Trouble> {
        let left = |error: Error| match is_lost(&error) {
            true => Trouble::Lost(error.to_string()),
            false => Trouble::Left(error.to_string()),
        };
        let Some(mut file) = self.file(&one.object).map_err(left)? else {
            return Err(Trouble::Left(OTHER_LENGTH.to_owned()));
        };
        let mut coming = Coming::of(one)?;
        let mut buffer = vec![0; 1 << 18];
        loop {
            match file.read(&mut buffer).map_err(left)? {
                0 => return coming.end(),
                read => coming.take(&buffer[..read])?,
            }
        }
    }

    /// Brings a file there; it gets its name when it is whole. Folders have the mode of the whole directory, and files what of it files
    /// can have: who may use the cache is decided there, and not by the umask of the first user. What all may write to has folders
    /// from which only its owner removes a file, and files that only their owner changes.
    fn send(&self, name: &str, file: &Path) -> Result<(), String> {
        let root = self.root()?;
        let sent = || -> std::io::Result<()> {
            let mode = root.metadata()?.permissions().mode() & 0o7777;
            let of_folders = if mode & 0o002 == 0 { mode } else { mode | 0o1000 };
            root.write(name, (of_folders, 0o600 | mode & 0o664), Durability::PowerCut, &mut |to| {
                std::io::copy(&mut self.rate.reading(File::open(file)?), to).map(drop)
            })
        };
        sent().map_err(|error| error.to_string())
    }
}

impl Shelf for Directory {
    fn entry(&self, key: &Digest) -> Result<Kept, String> {
        self.kept(&action_name(key))
    }

    fn missing(&self, objects: &[&Object]) -> Result<Vec<Sha256>, String> {
        missing_of(objects, &|object| self.has(object))
    }

    fn bring(&self, wanted: &[Wanted], progress: &dyn Progress) -> Result<Problems, StoreError> {
        bring_alone(wanted, progress, &|one| self.one(one))
    }

    fn put(&self, object: &Object, file: &Path, is_damaged: bool) -> Result<bool, Unsent> {
        // Its length alone does not tell that it is whole.
        let same = |found: File| sha256_of(found).is_ok_and(|found| found == object.sha256);
        if !is_damaged && self.file(object).ok().flatten().is_some_and(same) {
            return Ok(false);
        }
        self.send(&object_name(object), file)?;
        Ok(true)
    }

    fn put_entry(&self, key: &Digest, text: &Path, _: &[Object]) -> Result<(), Unsent> {
        Ok(self.send(&action_name(key), text)?)
    }

    fn signature(&self, key: &Digest, id: &str) -> Result<Kept, String> {
        self.kept(&signature_name(key, id))
    }

    fn put_signature(&self, key: &Digest, id: &str, text: &Path) -> Result<(), Unsent> {
        Ok(self.send(&signature_name(key, id), text)?)
    }

    fn mend(&self, damage: &Damage) -> Result<Mended, Unsent> {
        let name = match damage {
            Damage::Entry(key, _) => action_name(key),
            Damage::File(object) => object_name(object),
        };
        self.root()?.remove(&name).map_err(|error| error.to_string())?;
        Ok(Mended::Removed)
    }

    fn used(&self, key: &Digest) {
        // Those who may only read leave it as it is.
        if let Ok(root) = &self.root {
            root.touch(&action_name(key));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::time::Duration;

    use super::*;

    struct Quiet;

    impl Progress for Quiet {
        fn downloaded(&self, _: usize, _: usize, _: u64, _: u64) {}
    }

    #[test]
    fn folders_have_the_mode_of_the_whole_and_files_what_files_can_have() {
        let root = tempfile::tempdir().unwrap();
        let file = root.path().join("file");
        let cache = root.path().join("cache");
        std::fs::create_dir(&cache).unwrap();
        let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        let modes = [(0o2775, 0o2775, 0o664), (0o700, 0o700, 0o600), (0o755, 0o755, 0o644), (0o777, 0o1777, 0o664)];
        for (whole, of_folder, of_file) in modes {
            let text = format!("{whole:o}");
            std::fs::write(&file, &text).unwrap();
            std::fs::set_permissions(&cache, Permissions::from_mode(whole)).unwrap();
            let files = Directory::of(&cache, Rate::default());
            let object = Object { size: text.len() as u64, sha256: Sha256::of(text.as_bytes()) };
            let name = object_name(&object);
            assert_eq!(files.put(&object, &file, false), Ok(true));
            assert_eq!(files.put(&object, &file, false), Ok(false));
            let found = (mode(cache.join(&name).parent().unwrap()), mode(&cache.join(&name)));
            assert_eq!(found, (of_folder, of_file));
            assert_eq!(files.missing(&[&object]), Ok(Vec::new()));
            let longer = Object { size: 99, ..object.clone() };
            assert_eq!(files.missing(&[&longer]), Ok(vec![longer.sha256]));
            // One of the same length with other bytes is replaced by who writes.
            std::fs::write(cache.join(&name), "x".repeat(text.len())).unwrap();
            assert_eq!(files.put(&object, &file, false), Ok(true));
            assert_eq!(std::fs::read_to_string(cache.join(&name)).unwrap(), text);
            std::fs::remove_dir_all(cache.join("v1")).unwrap();
        }
    }

    #[test]
    fn a_file_that_cannot_be_used_is_left_out_and_all_others_come() {
        let root = tempfile::tempdir().unwrap();
        let (cache, here) = (root.path().join("cache"), root.path().join("here"));
        std::fs::create_dir(&cache).unwrap();
        std::fs::create_dir(&here).unwrap();
        let files = Directory::of(&cache, Rate::default());
        let put = |text: &str| {
            std::fs::write(root.path().join("file"), text).unwrap();
            let object = Object { size: text.len() as u64, sha256: Sha256::of(text.as_bytes()) };
            files.put(&object, &root.path().join("file"), false).unwrap();
            let destination = here.join(object.sha256.to_string());
            Wanted { object, destination, within: Duration::from_secs(60) }
        };
        let wanted: Vec<Wanted> = ["truncated", "longer", "other", "pipe", "link", "a folder", "good"].map(put).into();
        let at = |which: usize| cache.join(object_name(&wanted[which].object));
        std::fs::write(at(0), "trunc").unwrap();
        std::fs::write(at(1), "longer and longer").unwrap();
        std::fs::write(at(2), "OTHER").unwrap();
        for which in [3, 4, 5] {
            std::fs::remove_file(at(which)).unwrap();
        }
        let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
        rustix::fs::mknodat(rustix::fs::CWD, at(3), kind, mode, 0).unwrap();
        std::os::unix::fs::symlink(at(6), at(4)).unwrap();
        std::fs::create_dir(at(5)).unwrap();
        let problems = files.bring(&wanted, &Quiet).unwrap();
        assert_eq!((problems.lost, problems.of.len()), (None, 6), "{:?}", problems.of);
        let came: Vec<usize> = (0..7).filter(|which| wanted[*which].destination.is_file()).collect();
        assert_eq!(came, [6]);
        // The same for entries: each by itself.
        let key = Digest::of(b"key");
        let name = cache.join(action_name(&key));
        std::fs::create_dir_all(name.parent().unwrap()).unwrap();
        assert!(matches!(files.entry(&key), Ok(Kept::Nothing)));
        rustix::fs::mknodat(rustix::fs::CWD, &name, kind, mode, 0).unwrap();
        assert!(matches!(files.entry(&key), Ok(Kept::Odd(_))));
        std::fs::remove_file(&name).unwrap();
        File::create(&name).unwrap().set_len(20 << 30).unwrap();
        assert!(matches!(files.entry(&key), Ok(Kept::Odd(_))));
    }
}
