//! Reads the trees of a commit.

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gix::objs::tree::EntryKind;

use super::{COMMIT_LIMIT, Commit, ENTRIES_LIMIT, GitError, RECIPE_LIMIT, Repository, TREE_LIMIT};
use base::failure::contained;

/// How deep directories may lie in one another.
const DEPTH_LIMIT: usize = 64;

pub(super) struct Reading<'a> {
    repository: &'a Repository,
    commit: &'a Commit,
}

impl Repository {
    /// A panic of gix at an object that git would call corrupt is an error.
    pub(super) fn guarded<T>(
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

    /// Names in a directory of a commit; none where there is no such directory. `path` is relative to the root.
    /// Errors: [`GitError`] for objects that cannot be read.
    pub fn names(&self, commit: &Commit, path: &Path) -> Result<Vec<String>, GitError> {
        self.guarded(commit, path, || {
            let reading = Reading::new(self, commit);
            let Some(tree) = reading.directory_at(path)? else { return Ok(Vec::new()) };
            let decoded = tree.decode().map_err(|error| reading.unreadable(&path.display().to_string(), &error))?;
            let name = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Ok(decoded.entries.iter().map(|entry| name(entry.filename.as_ref())).collect())
        })
    }

    /// The content of a regular file of a commit; none where there is no such file. `path` is relative to the root.
    /// Errors: [`GitError`] for objects that cannot be read, and a file that is too large.
    pub fn file(&self, commit: &Commit, path: &Path) -> Result<Option<Vec<u8>>, GitError> {
        self.guarded(commit, path, || self.content_of(commit, path))
    }

    fn content_of(&self, commit: &Commit, path: &Path) -> Result<Option<Vec<u8>>, GitError> {
        let reading = Reading::new(self, commit);
        let shown = path.display().to_string();
        let Some((folder, name)) = path.parent().zip(path.file_name()) else { return Ok(None) };
        let Some(tree) = reading.directory_at(folder)? else { return Ok(None) };
        let found = tree.find_entry(name.as_bytes()).map(|entry| (entry.mode().kind(), entry.object_id()));
        let Some((EntryKind::Blob | EntryKind::BlobExecutable, id)) = found else { return Ok(None) };
        Ok(Some(reading.object(id, &shown, RECIPE_LIMIT)?.data.clone()))
    }

    /// Directories below one of a commit, itself too, in which a file has one of some names; sorted, relative to the root.
    /// Errors: [`GitError`] for objects that cannot be read, and for more directories than a checkout should have.
    pub fn directories_with(&self, commit: &Commit, below: &Path, names: &[&str]) -> Result<Vec<PathBuf>, GitError> {
        self.guarded(commit, below, || {
            let reading = Reading::new(self, commit);
            let Some(tree) = reading.directory_at(below)? else { return Ok(Vec::new()) };
            let mut search = Search { reading, names, without: HashSet::new(), found: Vec::new(), visited: 0 };
            search.through(&tree, below, 0)?;
            Ok(search.found)
        })
    }
}

/// A search through directories; a tree without what is searched for is gone through once, wherever it lies.
struct Search<'a> {
    reading: Reading<'a>,
    names: &'a [&'a str],
    without: HashSet<gix::ObjectId>,
    found: Vec<PathBuf>,
    visited: usize,
}

impl<'a> Search<'a> {
    /// Whether it is in a tree or below.
    fn through(&mut self, tree: &gix::Tree<'a>, path: &Path, depth: usize) -> Result<bool, GitError> {
        if self.without.contains(&tree.id) {
            return Ok(false);
        }
        self.visited += 1;
        if self.visited > ENTRIES_LIMIT {
            return Err(self.reading.too_large(format!("{ENTRIES_LIMIT} directories")));
        }
        let shown = path.display().to_string();
        if depth > DEPTH_LIMIT {
            return Err(self.reading.elsewhere(shown));
        }
        let folder = self.reading.folder(tree, &shown)?;
        let is_file = |kind: &EntryKind| matches!(kind, EntryKind::Blob | EntryKind::BlobExecutable);
        let mut has = self.names.iter().any(|name| folder.get(name.as_bytes()).is_some_and(|(kind, _)| is_file(kind)));
        if has {
            self.found.push(path.to_owned());
        }
        for (name, (_, id)) in folder.iter().filter(|(_, (kind, _))| *kind == EntryKind::Tree) {
            let below = path.join(OsStr::from_bytes(name));
            let inner = self.reading.tree(*id, &below.display().to_string())?;
            has |= self.through(&inner, &below, depth + 1)?;
        }
        if !has {
            self.without.insert(tree.id);
        }
        Ok(has)
    }
}

/// What a directory of a commit holds, by name.
pub(super) type Folder = BTreeMap<Vec<u8>, (EntryKind, gix::ObjectId)>;

impl<'a> Reading<'a> {
    pub(crate) fn new(repository: &'a Repository, commit: &'a Commit) -> Self {
        Self { repository, commit }
    }

    pub(crate) fn root(&self) -> Result<gix::Tree<'a>, GitError> {
        let id = gix::ObjectId::from_hex(self.commit.id.as_bytes()).map_err(|error| self.unreadable("", &error))?;
        let object = self.object(id, "", COMMIT_LIMIT)?;
        let root = object.try_into_commit().map_err(|error| self.unreadable("", &error))?;
        let root = root.tree_id().map_err(|error| self.unreadable("", &error))?.detach();
        let root = self.object(root, "", TREE_LIMIT)?;
        let root = root.peel_to_kind(gix::object::Kind::Tree).map_err(|error| self.unreadable("", &error))?;
        Ok(root.into_tree())
    }

    /// A tree. `shown` is its path for messages.
    pub(crate) fn tree(&self, id: gix::ObjectId, shown: &str) -> Result<gix::Tree<'a>, GitError> {
        let object = self.object(id, shown, TREE_LIMIT)?;
        object.try_into_tree().map_err(|error| self.unreadable(shown, &error))
    }

    /// The entries of a tree, each with a name that a checkout can have, and once.
    pub(crate) fn folder(&self, tree: &gix::Tree<'_>, shown: &str) -> Result<Folder, GitError> {
        let decoded = tree.decode().map_err(|error| self.unreadable(shown, &error))?;
        let mut folder = Folder::new();
        for entry in &decoded.entries {
            let name: &[u8] = entry.filename.as_ref();
            let path = Path::new(shown).join(OsStr::from_bytes(name)).display().to_string();
            let leads_elsewhere = name.is_empty()
                || name == b"."
                || name == b".."
                || name.eq_ignore_ascii_case(b".git")
                || name.iter().any(|byte| matches!(byte, b'/' | 0));
            if leads_elsewhere {
                return Err(self.elsewhere(path));
            }
            let is_twice = folder.insert(name.to_vec(), (entry.mode.kind(), entry.oid.to_owned())).is_some();
            if is_twice && !fault::planted("git-name-twice") {
                return Err(GitError::Twice { revision: self.commit.revision.clone(), path });
            }
        }
        Ok(folder)
    }

    /// A directory of a tree; none where there is no such directory. `shown` is its path for messages.
    fn inner(&self, tree: &gix::Tree<'a>, name: &OsStr, shown: &str) -> Result<Option<gix::Tree<'a>>, GitError> {
        let found = tree.find_entry(name.as_bytes()).map(|entry| (entry.mode().kind(), entry.object_id()));
        let Some((EntryKind::Tree, id)) = found else { return Ok(None) };
        self.tree(id, shown).map(Some)
    }

    /// An object, whose size is looked at before it is inflated. `shown` is its path for messages.
    pub(crate) fn object(&self, id: gix::ObjectId, shown: &str, limit: u64) -> Result<gix::Object<'a>, GitError> {
        let repository = &self.repository.inner;
        let said = |error: &(dyn std::error::Error + 'static)| {
            let reason = format!("the object {id}: {}", super::plainly(error));
            GitError::Object { revision: self.commit.revision.clone(), path: shown.to_owned(), reason }
        };
        let header = repository.find_header(id).map_err(|error| said(&error))?;
        if header.size() > limit && !fault::planted("git-size-not-asked") {
            let (revision, path) = (self.commit.revision.clone(), shown.to_owned());
            return Err(GitError::LargeObject { revision, path, id: id.to_string(), size: header.size(), limit });
        }
        repository.find_object(id).map_err(|error| said(&error))
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

    pub(crate) fn unreadable(&self, path: &str, error: &(dyn std::error::Error + 'static)) -> GitError {
        let reason = super::plainly(error);
        GitError::Object { revision: self.commit.revision.clone(), path: path.to_owned(), reason }
    }

    pub(crate) fn too_large(&self, limit: String) -> GitError {
        GitError::TooLarge { revision: self.commit.revision.clone(), limit }
    }

    fn elsewhere(&self, path: String) -> GitError {
        GitError::Entry { revision: self.commit.revision.clone(), path }
    }
}
