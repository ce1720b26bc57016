//! What lies in a directory that is a cache: how much, whether it is whole, and what is removed from it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde::Serialize;

use super::entry::{Entry, Signed, signed};
use super::place::{ENTRY_LIMIT, SIGNATURE_LIMIT, is_lost};
use super::{Object, object_name};
use base::digest::{Digest, Sha256};
use files::TEMPORARY;
use files::shared::{Found, Shared};
use store::sha256_of;

/// What is younger may belong to an entry that is being written.
const YOUNG: Duration = Duration::from_secs(3600);

/// How much there is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, schemars::JsonSchema)]
#[schemars(title = "imgbuild cache stats")]
pub struct Stats {
    /// Actions.
    pub actions: usize,
    /// Files that they name, or did.
    pub objects: usize,
    /// Bytes of all.
    pub bytes: u64,
    /// Bytes of files that no entry names.
    pub unnamed_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wrong {
    /// Below the cache.
    pub name: String,
    pub problem: String,
    /// It could not be read now: it may be as it should be, and is not removed.
    pub is_unread: bool,
}

impl Wrong {
    pub fn damaged(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { name: name.into(), problem: problem.into(), is_unread: false }
    }

    pub fn unread(name: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { name: name.into(), problem: problem.into(), is_unread: true }
    }

    /// What an error of the operating system says of a file. A link or a pipe in its place is damage, and a disk that cannot read it.
    fn of(name: &str, error: &std::io::Error) -> Self {
        let is_unread = is_lost(error) || error.kind() == std::io::ErrorKind::PermissionDenied;
        Self { name: name.to_owned(), problem: error.to_string(), is_unread }
    }
}

/// Sizes are what the files' owners say: those of files with holes can be anything.
fn sum(sizes: impl Iterator<Item = u64>) -> u64 {
    sizes.fold(0, u64::saturating_add)
}

#[derive(Debug)]
struct Kept {
    /// Below the cache.
    name: String,
    size: u64,
    /// When it was used last, or written.
    used: SystemTime,
}

/// What is remembered of an entry: all of them are held at once.
#[derive(Debug)]
struct Named {
    objects: Vec<Object>,
    line: Digest,
    signed: Signed,
}

#[derive(Debug)]
pub struct Contents {
    root: Shared,
    entries: BTreeMap<Digest, (Kept, Result<Named, Wrong>)>,
    objects: BTreeMap<Sha256, Kept>,
    /// Signatures beside entries: of which, and what it says.
    signatures: Vec<(Digest, Kept, Signed)>,
    /// What a writer left that was killed, of this user.
    halves: Vec<Kept>,
    /// What is not imgbuild's: it is left alone.
    foreign: Vec<String>,
}

/// The files of a folder's folders, each named by the first two digits of the files in it.
struct Listed {
    files: Vec<(String, Kept)>,
    halves: Vec<Kept>,
    foreign: Vec<String>,
}

fn files(root: &Shared, above: &str) -> std::io::Result<Listed> {
    let mut listed = Listed { files: Vec::new(), halves: Vec::new(), foreign: Vec::new() };
    for folder in root.list(above)? {
        let name = format!("{above}/{}", folder.name);
        let is_ours = folder.name.len() == 2 && folder.name.bytes().all(|one| one.is_ascii_hexdigit());
        if folder.metadata != Found::Folder || !is_ours {
            listed.foreign.push(name);
            continue;
        }
        for file in root.list(&name)? {
            let path = format!("{name}/{}", file.name);
            let Found::File { size, modified: used, .. } = file.metadata else {
                listed.foreign.push(path);
                continue;
            };
            let kept = Kept { name: path.clone(), size, used };
            match file.name.starts_with(TEMPORARY) {
                true if file.is_own() => listed.halves.push(kept),
                // It is another user's, who may be writing it.
                true => {}
                false if file.name.starts_with(&folder.name) => listed.files.push((file.name, kept)),
                false => listed.foreign.push(path),
            }
        }
    }
    Ok(listed)
}

impl Contents {
    /// Reads all entries of a directory.
    /// Errors: What cannot be read; `InvalidInput` where a link, or anything else that is no folder, is in the way.
    pub fn of(path: &Path) -> std::io::Result<Self> {
        let root = Shared::open(path)?;
        let of = |name: &str| {
            let name = format!("v1/{name}");
            let named = |error: std::io::Error| std::io::Error::new(error.kind(), format!("`{name}`: {error}"));
            files(&root, &name).map_err(named)
        };
        let (actions, objects, signatures) = (of("actions")?, of("objects")?, of("signatures")?);
        let mut all = Self {
            root,
            entries: BTreeMap::new(),
            objects: BTreeMap::new(),
            signatures: Vec::new(),
            halves: Vec::new(),
            foreign: Vec::new(),
        };
        for listed in [&actions, &objects, &signatures] {
            all.foreign.extend(listed.foreign.iter().cloned());
        }
        for (name, kept) in actions.files {
            match name.strip_suffix(".json").and_then(|key| Digest::parse(key).ok()) {
                Some(key) => {
                    let named = all.entry(&key, &kept.name);
                    all.entries.insert(key, (kept, named));
                }
                None => all.foreign.push(kept.name),
            }
        }
        for (name, kept) in objects.files {
            match Sha256::parse(&name) {
                Ok(digest) => drop(all.objects.insert(digest, kept)),
                Err(_) => all.foreign.push(kept.name),
            }
        }
        for (name, kept) in signatures.files {
            let Some(key) = name.split_once('.').and_then(|(key, _)| Digest::parse(key).ok()) else {
                all.foreign.push(kept.name);
                continue;
            };
            let text = all.root.read(&kept.name, SIGNATURE_LIMIT).ok().flatten().unwrap_or_default();
            let signed = all.entries.get(&key).and_then(|(_, entry)| entry.as_ref().ok()).map(|entry| {
                let line = all.root.read(&all.entries[&key].0.name, ENTRY_LIMIT).ok().flatten().unwrap_or_default();
                let line = line.split(|byte| *byte == b'\n').next().unwrap_or_default();
                if Digest::of(line) == entry.line { signed(line, &text) } else { Signed::Wrong }
            });
            all.signatures.push((key, kept, signed.unwrap_or(Signed::Not)));
        }
        all.halves.extend(actions.halves.into_iter().chain(objects.halves).chain(signatures.halves));
        Ok(all)
    }

    fn entry(&self, key: &Digest, name: &str) -> Result<Named, Wrong> {
        let text = self.root.read(name, ENTRY_LIMIT).map_err(|error| Wrong::of(name, &error))?;
        let text = text.ok_or_else(|| Wrong::unread(name, "it is gone"))?;
        let (entry, _) = Entry::parse(&text, key, &[]).map_err(|problem| Wrong::damaged(name, problem))?;
        let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
        let signature = text.get(line.len() + 1..).unwrap_or_default();
        let signed = signed(line, signature);
        Ok(Named { objects: entry.objects().cloned().collect(), line: Digest::of(line), signed })
    }

    /// What is not imgbuild's and was left alone.
    pub fn foreign(&self) -> &[String] {
        &self.foreign
    }

    /// How many entries each key has signed, and how many no one has.
    pub fn signers(&self) -> (BTreeMap<String, usize>, usize) {
        let mut signers: BTreeMap<String, usize> = BTreeMap::new();
        let mut unsigned: BTreeSet<Digest> = BTreeSet::new();
        for (key, (_, entry)) in &self.entries {
            match entry.as_ref().map(|entry| &entry.signed) {
                Ok(Signed::By(name)) => *signers.entry(name.clone()).or_default() += 1,
                Ok(_) => drop(unsigned.insert(*key)),
                Err(_) => {}
            }
        }
        for (key, _, signed) in &self.signatures {
            if let Signed::By(name) = signed {
                unsigned.remove(key);
                *signers.entry(name.clone()).or_default() += 1;
            }
        }
        (signers, unsigned.len())
    }

    fn named(&self) -> BTreeSet<Sha256> {
        let entries = self.entries.values().filter_map(|(_, entry)| entry.as_ref().ok());
        entries.flat_map(|entry| &entry.objects).map(|object| object.sha256).collect()
    }

    pub fn stats(&self) -> Stats {
        let named = self.named();
        let sum = |kept: &mut dyn Iterator<Item = &Kept>| sum(kept.map(|one| one.size));
        let unnamed = self.objects.iter().filter(|(digest, _)| !named.contains(digest)).map(|(_, kept)| kept);
        let unnamed_bytes = sum(&mut unnamed.chain(&self.halves));
        let entries = self.entries.values().map(|(kept, _)| kept);
        let signatures = self.signatures.iter().map(|(_, kept, _)| kept);
        Stats {
            actions: self.entries.len(),
            objects: self.objects.len(),
            bytes: sum(&mut entries.chain(self.objects.values()).chain(signatures).chain(&self.halves)),
            unnamed_bytes,
        }
    }

    /// Reads all files that entries name, and gives what is not as its name says: `progress` takes the bytes that were read.
    /// Errors: None: what cannot be read is wrong, or unread.
    pub fn wrong(&self, progress: &dyn Fn(u64)) -> Vec<Wrong> {
        let mut all = Vec::new();
        let (mut broken, mut unread) = (BTreeSet::new(), BTreeSet::new());
        let mut read: u64 = 0;
        let mut longest: BTreeMap<Sha256, u64> = BTreeMap::new();
        for object in self.entries.values().filter_map(|(_, entry)| entry.as_ref().ok()).flat_map(|one| &one.objects) {
            let size = longest.entry(object.sha256).or_default();
            *size = object.size.max(*size);
        }
        // What no entry names is used by no one, and `gc` removes it.
        for (digest, size) in longest {
            let Some(kept) = self.objects.get(&digest) else { continue };
            // One with a hole of terabytes is not read.
            let is_longer = size < kept.size;
            let same = self.root.file(&kept.name).and_then(|file| match file.filter(|_| !is_longer) {
                Some(file) => sha256_of(file).map(Some),
                None => Ok(None),
            });
            let wrong = match same {
                Ok(Some(same)) if same == digest => None,
                Ok(_) => Some(Wrong::damaged(&kept.name, "it does not match the digest in its name")),
                Err(error) => Some(Wrong::of(&kept.name, &error)),
            };
            if let Some(wrong) = &wrong {
                if wrong.is_unread { &mut unread } else { &mut broken }.insert(digest);
            }
            all.extend(wrong);
            read = read.saturating_add(kept.size.min(size));
            progress(read);
        }
        for (kept, entry) in self.entries.values() {
            let lacks =
                |object: &&Object| !self.objects.contains_key(&object.sha256) || broken.contains(&object.sha256);
            all.extend(match entry {
                Ok(entry) if entry.signed == Signed::Wrong => {
                    Some(Wrong::damaged(&kept.name, "its signature is not valid"))
                }
                Ok(entry) => entry.objects.iter().find(lacks).map(|object| {
                    let problem = format!("it names {}, which is missing or damaged", object_name(object));
                    Wrong::damaged(&kept.name, problem)
                }),
                Err(wrong) => Some(wrong.clone()),
            });
        }
        let wrong = self.signatures.iter().filter(|(key, _, signed)| {
            let is_unread = |entry: &(Kept, Result<Named, Wrong>)| entry.1.as_ref().is_err_and(|one| one.is_unread);
            !matches!(signed, Signed::By(_)) && !self.entries.get(key).is_some_and(is_unread)
        });
        let problem = "it is not a signature of an entry that is there";
        all.extend(wrong.map(|(_, kept, _)| Wrong::damaged(&kept.name, problem)));
        all
    }

    /// Removes something that [`Contents::wrong`] named.
    /// Errors: Those of the operating system.
    pub fn remove(&self, wrong: &Wrong) -> std::io::Result<()> {
        self.root.remove(&wrong.name).map(drop)
    }

    /// Removes what was used longest ago until the rest is no larger than `size` bytes, and what no entry names. Gives the bytes
    /// that are free then.
    /// Errors: What cannot be removed.
    pub fn shrink(mut self, size: u64, now: SystemTime) -> std::io::Result<u64> {
        let is_young = |kept: &Kept| now.duration_since(kept.used).is_ok_and(|age| age < YOUNG) || kept.used > now;
        let mut by_use: Vec<(SystemTime, Digest)> =
            self.entries.iter().map(|(key, (kept, _))| (kept.used, *key)).collect();
        by_use.sort();
        let mut freed: u64 = 0;
        let mut uses: BTreeMap<Sha256, usize> = BTreeMap::new();
        for entry in self.entries.values().filter_map(|(_, entry)| entry.as_ref().ok()) {
            for object in &entry.objects {
                *uses.entry(object.sha256).or_default() += 1;
            }
        }
        let mut left = self.stats().bytes;
        let objects = std::mem::take(&mut self.objects);
        let remove = |kept: &Kept| self.root.remove(&kept.name).map(|_| kept.size);
        let drop_object = |digest: &Sha256| match objects.get(digest).filter(|kept| !is_young(kept)) {
            Some(kept) => remove(kept),
            None => Ok(0),
        };
        let is_damaged = |entry: &Result<Named, Wrong>| entry.as_ref().is_err_and(|wrong| !wrong.is_unread);
        // What an entry names that cannot be read now is not known.
        let is_known = self.entries.values().all(|(_, entry)| entry.is_ok() || is_damaged(entry));
        let is_unnamed = |digest: &&Sha256| is_known && !uses.contains_key(digest);
        let unnamed: Vec<Sha256> = objects.keys().filter(is_unnamed).copied().collect();
        for digest in unnamed {
            freed = freed.saturating_add(drop_object(&digest)?);
        }
        for half in self.halves.iter().filter(|half| !is_young(half)) {
            freed = freed.saturating_add(remove(half)?);
        }
        left = left.saturating_sub(freed);
        let mut gone = BTreeSet::new();
        for (_, key) in by_use {
            let Some((kept, entry)) = self.entries.get(&key).filter(|(_, entry)| left > size || is_damaged(entry))
            else {
                continue;
            };
            // The entry goes first: what it names is never missing from one that is there.
            let mut here = remove(kept)?;
            gone.insert(key);
            for object in entry.iter().flat_map(|entry| &entry.objects) {
                let count = uses.entry(object.sha256).or_default();
                *count = count.saturating_sub(1);
                if *count == 0 {
                    here = here.saturating_add(drop_object(&object.sha256)?);
                }
            }
            left = left.saturating_sub(here);
            freed = freed.saturating_add(here);
        }
        let is_left = |key: &Digest| self.entries.contains_key(key) && !gone.contains(key);
        for (key, kept, _) in &self.signatures {
            if !is_left(key) && !is_young(kept) {
                freed = freed.saturating_add(remove(kept)?);
            }
        }
        Ok(freed)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn nothing_of_others_is_removed_and_no_link_is_followed() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        let old = SystemTime::now() - 2 * YOUNG;
        let write = |name: &str| {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "precious").unwrap();
            std::fs::File::options().append(true).open(at(name)).unwrap().set_modified(old).unwrap();
        };
        let names: Vec<String> = ["a", "b"].map(|text| Sha256::of(text.as_bytes()).to_string()).into();
        let own = |which: usize| format!("cache/v1/objects/{}/{}", &names[which][..2], names[which]);
        write(&format!("root/{}", names[0]));
        let theirs = ["notes", "objects/aa/notes.txt", "objects/readme", "objects/deep/x/y"];
        theirs.iter().for_each(|name| write(&format!("cache/v1/{name}")));
        let half = format!("cache/v1/objects/aa/{TEMPORARY}x");
        write(&half);
        write(&own(1));
        symlink(at("root"), at(&format!("cache/v1/objects/{}", &names[0][..2]))).unwrap();
        let contents = Contents::of(&at("cache")).unwrap();
        assert_eq!((contents.foreign().len(), contents.stats().objects), (4, 1), "{:?}", contents.foreign());
        contents.shrink(0, SystemTime::now()).unwrap();
        assert!(!at(&own(1)).exists() && !at(&half).exists());
        assert!(theirs.iter().all(|name| at(&format!("cache/v1/{name}")).exists()));
        assert!(at(&format!("root/{}", names[0])).exists());
        // Where a whole folder is a link, nothing is done.
        std::fs::rename(at("cache/v1/objects"), at("objects")).unwrap();
        for above in ["cache/v1/objects", "cache/v1/actions", "cache/v1/signatures"] {
            symlink(at("root"), at(above)).unwrap();
            let error = Contents::of(&at("cache")).unwrap_err();
            assert!(error.to_string().contains(&above[6..]), "{error}");
            std::fs::remove_file(at(above)).unwrap();
        }
        std::fs::remove_dir_all(at("cache/v1")).unwrap();
        symlink(at("root"), at("cache/v1")).unwrap();
        assert!(Contents::of(&at("cache")).is_err());
        assert!(at(&format!("root/{}", names[0])).exists());
    }

    #[test]
    fn what_cannot_be_read_now_is_not_damaged_and_what_no_entry_names_is_not_read() {
        let errno = std::io::Error::from_raw_os_error;
        let of = |error: &std::io::Error| Wrong::of("v1/objects/aa/x", error).is_unread;
        // ESTALE, ETIMEDOUT, EACCES; EIO and ELOOP.
        assert_eq!([116, 110, 13].map(|number| of(&errno(number))), [true; 3]);
        assert_eq!([5, 40].map(|number| of(&errno(number))), [false; 2]);
        assert!(!of(&std::io::Error::from(std::io::ErrorKind::InvalidInput)));
        assert_eq!(sum([u64::MAX, 7, u64::MAX].into_iter()), u64::MAX);
        let place = tempfile::tempdir().unwrap();
        let name = Sha256::of(b"x").to_string();
        let objects = place.path().join(format!("v1/objects/{}", &name[..2]));
        std::fs::create_dir_all(&objects).unwrap();
        let old = SystemTime::now() - 2 * YOUNG;
        let hole = std::fs::File::create(objects.join(&name)).unwrap();
        hole.set_len(1 << 42).unwrap();
        hole.set_modified(old).unwrap();
        let mut contents = Contents::of(place.path()).unwrap();
        let began = std::time::Instant::now();
        assert!(contents.wrong(&|_| {}).is_empty());
        assert!(began.elapsed() < Duration::from_secs(60));
        // It may be what an entry names that cannot be read now: neither goes.
        let kept = Kept { name: "v1/actions/aa/x.json".to_owned(), size: 1, used: old };
        let unread = Wrong::unread(&kept.name, "stale");
        contents.entries.insert(Digest::of(b"entry"), (kept, Err(unread.clone())));
        assert_eq!(contents.wrong(&|_| {}), [unread]);
        contents.shrink(u64::MAX, SystemTime::now()).unwrap();
        assert!(objects.join(&name).exists());
        Contents::of(place.path()).unwrap().shrink(u64::MAX, SystemTime::now()).unwrap();
        assert!(!objects.join(&name).exists());
    }
}
