//! Writes the files of a commit into a directory of their own.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};
use std::ffi::OsStr;
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use gix::objs::tree::EntryKind;

use super::checkout::{ATTRIBUTES_LIMIT, Checkout, Unlike};
use super::{BYTES_LIMIT, COMMIT_LIMIT, Commit, GitError, OBJECT_LIMIT, RECIPE_LIMIT, Repository, TREE_LIMIT};
use crate::failure::contained;

/// Most files, links and directories.
const ENTRIES_LIMIT: usize = 200_000;
/// How deep directories may lie in one another.
const DEPTH_LIMIT: usize = 64;

/// What was written so far.
struct Writing<'a> {
    repository: &'a Repository,
    commit: &'a Commit,
    bytes: u64,
    entries: usize,
    checkout: Checkout,
    unlike: Vec<(PathBuf, Unlike)>,
}

impl Repository {
    /// Writes the regular files and links of a commit below a directory of it (empty: all) to the same places below `to`,
    /// which is empty, as a checkout would have them. git keeps of a mode only whether a file may be executed: where the work
    /// tree has the file with the same answer, its mode is taken. Gives what a checkout would have otherwise, by its path from
    /// the repository's root.
    ///
    /// # Errors
    /// [`GitError`] for objects that cannot be read, names that lead elsewhere, and too much of it.
    pub fn write_tree(&self, commit: &Commit, below: &Path, to: &Path) -> Result<Vec<(PathBuf, Unlike)>, GitError> {
        self.guarded(commit, below, || self.write(commit, below, to))
    }

    /// A panic of gix at an object that git would call corrupt is an error.
    fn guarded<T>(
        &self,
        commit: &Commit,
        path: &Path,
        work: impl FnOnce() -> Result<T, GitError>,
    ) -> Result<T, GitError> {
        contained(work).unwrap_or_else(|panic| {
            let (revision, path) = (commit.revision.clone(), path.display().to_string());
            Err(GitError::Object { revision, path, reason: format!("it is corrupt ({panic})") })
        })
    }

    fn write(&self, commit: &Commit, below: &Path, to: &Path) -> Result<Vec<(PathBuf, Unlike)>, GitError> {
        let mut writing = Writing::new(self, commit);
        let mut tree = writing.root()?;
        let mut place = to.to_owned();
        let mut path = String::new();
        // Counted before anything is written: the same tree may lie in ten places on each of twenty levels.
        if let Some(tree) = writing.directory_at(below)? {
            let shown = format!("{}/", below.display());
            let entries = writing.count(&tree, shown.trim_start_matches('/'), 0, &mut HashMap::new())?;
            if entries > ENTRIES_LIMIT as u64 {
                return Err(writing.too_large(format!("{ENTRIES_LIMIT} files")));
            }
        }
        for part in below.components() {
            let name = part.as_os_str();
            writing.enter(&tree, &path);
            path.push_str(&name.to_string_lossy());
            path.push('/');
            // The revision does not have the directory: there is nothing to write.
            let Some(inner) = writing.inner(&tree, name, &path)? else { return Ok(Vec::new()) };
            place.push(name);
            writing.directory(&place)?;
            tree = inner;
        }
        writing.tree(&tree, &path, &place, 0)?;
        Ok(writing.unlike)
    }

    /// Names in a directory of a commit; none where there is no such directory. `path` is relative to the root.
    ///
    /// # Errors
    /// [`GitError`] for objects that cannot be read.
    pub fn names(&self, commit: &Commit, path: &Path) -> Result<Vec<String>, GitError> {
        self.guarded(commit, path, || {
            let writing = Writing::new(self, commit);
            let Some(tree) = writing.directory_at(path)? else { return Ok(Vec::new()) };
            let decoded = tree.decode().map_err(|error| writing.unreadable(&path.display().to_string(), &error))?;
            let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok(decoded.entries.iter().map(|entry| name(entry.filename.as_ref())).collect())
        })
    }

    /// The content of a regular file of a commit; none where there is no such file. `path` is relative to the root.
    ///
    /// # Errors
    /// [`GitError`] for objects that cannot be read, and a file that is too large.
    pub fn file(&self, commit: &Commit, path: &Path) -> Result<Option<Vec<u8>>, GitError> {
        self.guarded(commit, path, || self.content_of(commit, path))
    }

    fn content_of(&self, commit: &Commit, path: &Path) -> Result<Option<Vec<u8>>, GitError> {
        let writing = Writing::new(self, commit);
        let shown = path.display().to_string();
        let Some((folder, name)) = path.parent().zip(path.file_name()) else { return Ok(None) };
        let Some(tree) = writing.directory_at(folder)? else { return Ok(None) };
        let found = tree.find_entry(name.as_bytes()).map(|entry| (entry.mode().kind(), entry.object_id()));
        let Some((EntryKind::Blob | EntryKind::BlobExecutable, id)) = found else { return Ok(None) };
        Ok(Some(writing.object(id, &shown, RECIPE_LIMIT)?.data.clone()))
    }
}

impl<'a> Writing<'a> {
    /// The whole tree of the commit.
    fn root(&self) -> Result<gix::Tree<'a>, GitError> {
        let id = gix::ObjectId::from_hex(self.commit.id.as_bytes()).map_err(|error| self.unreadable("", &error))?;
        let object = self.object(id, "", COMMIT_LIMIT)?;
        let root = object.try_into_commit().map_err(|error| self.unreadable("", &error))?;
        let root = root.tree_id().map_err(|error| self.unreadable("", &error))?.detach();
        let root = self.object(root, "", TREE_LIMIT)?;
        let root = root.peel_to_kind(gix::object::Kind::Tree).map_err(|error| self.unreadable("", &error))?;
        Ok(root.into_tree())
    }

    /// A directory of a tree; none where there is no such directory. `shown` is its path for messages.
    fn inner(&self, tree: &gix::Tree<'a>, name: &OsStr, shown: &str) -> Result<Option<gix::Tree<'a>>, GitError> {
        let found = tree.find_entry(name.as_bytes()).map(|entry| (entry.mode().kind(), entry.object_id()));
        let Some((EntryKind::Tree, id)) = found else { return Ok(None) };
        let object = self.object(id, shown, TREE_LIMIT)?;
        object.try_into_tree().map(Some).map_err(|error| self.unreadable(shown, &error))
    }

    /// An object, whose size is looked at before it is inflated. `shown` is its path for messages.
    fn object(&self, id: gix::ObjectId, shown: &str, limit: u64) -> Result<gix::Object<'a>, GitError> {
        let repository = &self.repository.inner;
        let said = |error: &(dyn std::error::Error + 'static)| {
            let reason = format!("the object {id}: {}", super::plainly(error));
            GitError::Object { revision: self.commit.revision.clone(), path: shown.to_owned(), reason }
        };
        let header = repository.find_header(id).map_err(|error| said(&error))?;
        if header.size() > limit {
            let (revision, path) = (self.commit.revision.clone(), shown.to_owned());
            return Err(GitError::LargeObject { revision, path, id: id.to_string(), size: header.size(), limit });
        }
        repository.find_object(id).map_err(|error| said(&error))
    }

    /// How many entries a tree has with all below it; each tree is read once, wherever it lies.
    fn count(
        &self,
        tree: &gix::Tree<'a>,
        path: &str,
        depth: usize,
        known: &mut HashMap<gix::ObjectId, u64>,
    ) -> Result<u64, GitError> {
        if let Some(count) = known.get(&tree.id) {
            return Ok(*count);
        }
        let too_deep = || GitError::Entry { revision: self.commit.revision.clone(), path: path.to_owned() };
        if depth > DEPTH_LIMIT {
            return Err(too_deep());
        }
        let decoded = tree.decode().map_err(|error| self.unreadable(path, &error))?;
        let mut count = decoded.entries.len() as u64;
        for entry in decoded.entries.iter().filter(|entry| entry.mode.kind() == EntryKind::Tree) {
            let shown = format!("{path}{}/", String::from_utf8_lossy(entry.filename.as_ref()));
            let inner = self.object(entry.oid.to_owned(), &shown, TREE_LIMIT)?;
            let inner = inner.try_into_tree().map_err(|error| self.unreadable(&shown, &error))?;
            count = count.saturating_add(self.count(&inner, &shown, depth + 1, known)?);
            if count > ENTRIES_LIMIT as u64 {
                break;
            }
        }
        known.insert(tree.id, count);
        Ok(count)
    }

    /// The directory at a path from the root.
    fn directory_at(&self, path: &Path) -> Result<Option<gix::Tree<'a>>, GitError> {
        let mut tree = self.root()?;
        for part in path.components() {
            match self.inner(&tree, part.as_os_str(), &path.display().to_string())? {
                Some(inner) => tree = inner,
                None => return Ok(None),
            }
        }
        Ok(Some(tree))
    }

    fn new(repository: &'a Repository, commit: &'a Commit) -> Self {
        let checkout = Checkout::of(&repository.inner);
        Self { repository, commit, bytes: 0, entries: 0, checkout, unlike: Vec::new() }
    }

    /// Reads the attributes of a directory; git takes none from a link.
    fn enter(&mut self, tree: &gix::Tree<'_>, path: &str) {
        let find = |tree: &gix::Tree<'_>| {
            let entry = tree.find_entry(".gitattributes")?;
            let is_file = matches!(entry.mode().kind(), EntryKind::Blob | EntryKind::BlobExecutable);
            let small = is_file && entry.id().header().is_ok_and(|header| header.size() <= ATTRIBUTES_LIMIT);
            if small { entry.object().ok().map(|object| object.data.clone()) } else { None }
        };
        self.checkout.enter(path.trim_end_matches('/'), &find(tree).unwrap_or_default());
    }

    /// What a checkout has of a blob.
    fn content<'b>(&mut self, path: &str, blob: &'b [u8]) -> Result<Cow<'b, [u8]>, GitError> {
        let (kept, unlike) = self.checkout.filtered(path, blob, &self.repository.root.join(path));
        self.unlike.extend(unlike.map(|unlike| (PathBuf::from(path), unlike)));
        let content = match kept {
            Some(content) => Cow::Owned(content),
            None => self.checkout.content(path, blob).map_err(|error| self.unreadable(path, error.as_ref()))?,
        };
        self.bytes += (content.len() as u64).saturating_sub(blob.len() as u64);
        if self.bytes > BYTES_LIMIT {
            return Err(self.too_large(format!("{} GiB", BYTES_LIMIT >> 30)));
        }
        Ok(content)
    }

    fn unreadable(&self, path: &str, error: &(dyn std::error::Error + 'static)) -> GitError {
        let reason = super::plainly(error);
        GitError::Object { revision: self.commit.revision.clone(), path: path.to_owned(), reason }
    }

    fn too_large(&self, limit: String) -> GitError {
        GitError::TooLarge { revision: self.commit.revision.clone(), limit }
    }

    fn directory(&self, path: &Path) -> Result<(), GitError> {
        // Fails where something is there: a tree with one name twice leads nowhere else.
        std::fs::create_dir(path).map_err(|source| GitError::Write { path: path.to_owned(), source })
    }

    fn tree(&mut self, tree: &gix::Tree<'_>, path: &str, to: &Path, depth: usize) -> Result<(), GitError> {
        let decoded = tree.decode().map_err(|error| self.unreadable(path, &error))?;
        let mut seen = BTreeSet::new();
        self.enter(tree, path);
        for entry in &decoded.entries {
            let name: &[u8] = entry.filename.as_ref();
            let shown = format!("{path}{}", String::from_utf8_lossy(name));
            let leads_elsewhere = name.is_empty()
                || name == b"."
                || name == b".."
                || name.eq_ignore_ascii_case(b".git")
                || name.iter().any(|byte| matches!(byte, b'/' | 0));
            if !seen.insert(name) {
                return Err(GitError::Twice { revision: self.commit.revision.clone(), path: shown });
            }
            if leads_elsewhere || depth > DEPTH_LIMIT {
                return Err(GitError::Entry { revision: self.commit.revision.clone(), path: shown });
            }
            self.entries += 1;
            if self.entries > ENTRIES_LIMIT {
                return Err(self.too_large(format!("{ENTRIES_LIMIT} files")));
            }
            let place = to.join(OsStr::from_bytes(name));
            let repository = &self.repository.inner;
            match entry.mode.kind() {
                EntryKind::Tree => {
                    self.directory(&place)?;
                    let object = self.object(entry.oid.to_owned(), &shown, TREE_LIMIT)?;
                    let inner = object.try_into_tree().map_err(|error| self.unreadable(&shown, &error))?;
                    self.tree(&inner, &format!("{shown}/"), &place, depth + 1)?;
                }
                // A repository in the repository is not part of the revision; a checkout has an empty directory there.
                EntryKind::Commit => {
                    self.directory(&place)?;
                    self.unlike.push((PathBuf::from(&shown), Unlike::Submodule));
                }
                kind => {
                    let header = repository.find_header(entry.oid).map_err(|error| self.unreadable(&shown, &error))?;
                    self.bytes += header.size();
                    if self.bytes > BYTES_LIMIT {
                        return Err(self.too_large(format!("{} GiB", BYTES_LIMIT >> 30)));
                    }
                    let is_of_recipe =
                        [b"image.toml", &b"image.kdl"[..], b"imgbuild.toml", b"image.lock"].contains(&name);
                    let limit = if is_of_recipe { RECIPE_LIMIT } else { OBJECT_LIMIT };
                    let object = self.object(entry.oid.to_owned(), &shown, limit)?;
                    let written = if kind == EntryKind::Link {
                        std::os::unix::fs::symlink(OsStr::from_bytes(&object.data), &place)
                    } else {
                        let mode = self.mode(&shown, kind == EntryKind::BlobExecutable);
                        write(&place, &self.content(&shown, &object.data)?, mode)
                    };
                    written.map_err(|source| GitError::Write { path: place.clone(), source })?;
                }
            }
        }
        self.checkout.leave();
        Ok(())
    }

    /// The mode of the work tree's file, where it says the same as git's.
    fn mode(&self, path: &str, executable: bool) -> u32 {
        let here = std::fs::symlink_metadata(self.repository.root.join(path)).ok().filter(std::fs::Metadata::is_file);
        let mode = here.map(|found| found.permissions().mode() & 0o7777);
        let plain = if executable { 0o755 } else { 0o644 };
        mode.filter(|mode| (mode & 0o100 != 0) == executable).unwrap_or(plain)
    }
}

fn write(path: &Path, data: &[u8], mode: u32) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(data)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}
