//! The files of a commit, written when someone looks at them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use gix::objs::tree::EntryKind;

use super::checkout::{ATTRIBUTES_LIMIT, Checkout, Unlike};
use super::tree::{Folder, Reading};
use super::{BYTES_LIMIT, Commit, ENTRIES_LIMIT, GitError, OBJECT_LIMIT, RECIPE_LIMIT, Repository};
use witness::Need;

/// A directory that was read: its entries, and the text of its attributes.
type Known = Arc<(Folder, Vec<u8>)>;

/// As many links as the kernel follows. Source: path_resolution(7).
const MOST_LINKS: usize = 40;

/// The files of a commit in a directory that is empty at first. What is asked for is written to its place there, as a
/// checkout would have it: regular files and links. git keeps of a mode only whether a file may be executed, and that is all
/// that counts of what it tracks.
pub struct Files {
    repository: Repository,
    commit: Commit,
    /// The only directory of the commit that is shown; empty: all.
    below: PathBuf,
    to: PathBuf,
    /// Directories by their paths from the root, with the text of their attributes.
    folders: HashMap<PathBuf, Option<Known>>,
    /// What was written, and whether with its content.
    made: HashMap<PathBuf, bool>,
    bytes: u64,
    checkout: Checkout,
    unlike: Vec<(PathBuf, Unlike)>,
    trouble: Option<GitError>,
}

impl Files {
    /// Those of a commit below a directory of it (empty: all), in the same places below `to`, which is empty.
    pub fn new(repository: &Repository, commit: &Commit, below: &Path, to: &Path) -> Self {
        super::index::whole(to);
        Self {
            repository: repository.clone(),
            commit: commit.clone(),
            below: below.to_owned(),
            to: to.to_owned(),
            folders: HashMap::new(),
            made: HashMap::new(),
            bytes: 0,
            checkout: Checkout::of(&repository.inner),
            unlike: Vec::new(),
            trouble: None,
        }
    }

    /// Writes what stands at a path from the root, as far as it is needed, and what links on the way lead to. After an error
    /// nothing more is written.
    pub fn bring(&mut self, path: &Path, need: Need) {
        if self.trouble.is_none() {
            let (repository, commit) = (self.repository.clone(), self.commit.clone());
            self.trouble = repository.guarded(&commit, path, || self.walk(path, need)).err();
        }
    }

    /// What went wrong, once: objects that cannot be read, names that lead elsewhere, too much of it.
    pub fn trouble(&mut self) -> Option<GitError> {
        self.trouble.take()
    }

    /// What a checkout would have otherwise of all that was looked at, by its path from the root.
    pub fn unlike(&self) -> &[(PathBuf, Unlike)] {
        &self.unlike
    }

    fn is_shown(&self, path: &Path) -> bool {
        path.starts_with(&self.below) || self.below.starts_with(path) || fault::planted("git-all-shown")
    }

    fn walk(&mut self, path: &Path, need: Need) -> Result<(), GitError> {
        let mut ahead: Vec<OsString> = parts(path);
        let mut here = PathBuf::new();
        let mut links = 0;
        while let Some(part) = ahead.pop() {
            if part == ".." {
                if !here.pop() {
                    return Ok(());
                }
                continue;
            }
            let Some(folder) = self.folder(&here)? else { return Ok(()) };
            here.push(&part);
            let Some((kind, id)) = folder.0.get(part.as_bytes()).copied() else { return Ok(()) };
            if !self.is_shown(&here) {
                return Ok(());
            }
            match kind {
                EntryKind::Tree | EntryKind::Commit => self.directory(&here)?,
                EntryKind::Link => {
                    let target = self.link(&here, id)?;
                    links += 1;
                    here.pop();
                    // What lies outside is no part of the revision.
                    if links > MOST_LINKS || target.is_absolute() {
                        return Ok(());
                    }
                    ahead.extend(parts(&target));
                }
                _ if !ahead.is_empty() => return Ok(()),
                EntryKind::Blob | EntryKind::BlobExecutable => {
                    return self.file(&here, kind, id, need == Need::Content);
                }
            }
        }
        if need == Need::List
            && let Some(folder) = self.folder(&here)?
        {
            for (name, (kind, id)) in &folder.0 {
                let below = here.join(OsStr::from_bytes(name));
                match kind {
                    _ if !self.is_shown(&below) => {}
                    EntryKind::Tree | EntryKind::Commit => self.directory(&below)?,
                    EntryKind::Link => drop(self.link(&below, *id)?),
                    _ => self.file(&below, *kind, *id, false)?,
                }
            }
        }
        Ok(())
    }

    /// What a directory of the commit contains, if it exists. `path` has no links in it.
    fn folder(&mut self, path: &Path) -> Result<Option<Known>, GitError> {
        if let Some(known) = self.folders.get(path) {
            return Ok(known.clone());
        }
        let within = match (path.parent(), path.file_name()) {
            (Some(parent), Some(name)) => {
                let entry = self.folder(parent)?.and_then(|parent| parent.0.get(name.as_bytes()).copied());
                Some(entry)
            }
            _ => None,
        };
        let reading = Reading::new(&self.repository, &self.commit);
        let shown = path.display().to_string();
        let tree = match within {
            None => Some(reading.root()?),
            Some(Some((EntryKind::Tree, id))) => Some(reading.tree(id, &shown)?),
            Some(_) => None,
        };
        let folder = match tree {
            None => None,
            Some(tree) => {
                let folder = reading.folder(&tree, &shown)?;
                // git takes none from a link. What is too large git does not read either.
                let attributes = match folder.get(&b".gitattributes"[..]) {
                    Some((EntryKind::Blob | EntryKind::BlobExecutable, id)) => {
                        reading.object(*id, &shown, ATTRIBUTES_LIMIT).map(|object| object.data.clone())
                    }
                    _ => Ok(Vec::new()),
                };
                let modules = folder.iter().filter(|(_, (kind, _))| *kind == EntryKind::Commit);
                self.unlike.extend(modules.map(|(name, _)| (path.join(OsStr::from_bytes(name)), Unlike::Submodule)));
                Some(Arc::new((folder, attributes.unwrap_or_default())))
            }
        };
        self.folders.insert(path.to_owned(), folder.clone());
        Ok(folder)
    }

    /// Notes that something is made; whether it has to be.
    fn begin(&mut self, path: &Path, whole: bool) -> Result<bool, GitError> {
        let made = self.made.insert(path.to_owned(), whole);
        if self.made.len() > ENTRIES_LIMIT {
            return Err(self.reading().too_large(format!("{ENTRIES_LIMIT} files")));
        }
        match made {
            Some(true) => {
                self.made.insert(path.to_owned(), true);
                Ok(false)
            }
            was => Ok(was != Some(whole)),
        }
    }

    fn reading(&self) -> Reading<'_> {
        Reading::new(&self.repository, &self.commit)
    }

    fn take(&mut self, bytes: u64) -> Result<(), GitError> {
        self.bytes = self.bytes.saturating_add(bytes);
        if self.bytes > BYTES_LIMIT {
            return Err(self.reading().too_large(format!("{} GiB", BYTES_LIMIT >> 30)));
        }
        Ok(())
    }

    /// A repository in the repository is not part of the revision; a checkout has an empty directory there.
    fn directory(&mut self, path: &Path) -> Result<(), GitError> {
        if !self.begin(path, true)? {
            return Ok(());
        }
        let place = self.to.join(path);
        std::fs::create_dir(&place).map_err(|source| GitError::Write { path: place.clone(), source })
    }

    fn link(&mut self, path: &Path, id: gix::ObjectId) -> Result<PathBuf, GitError> {
        let target = self.reading().object(id, &path.display().to_string(), RECIPE_LIMIT)?.data.clone();
        let target = PathBuf::from(OsString::from_vec(target));
        if self.begin(path, true)? {
            let place = self.to.join(path);
            std::os::unix::fs::symlink(&target, &place)
                .map_err(|source| GitError::Write { path: place.clone(), source })?;
        }
        Ok(target)
    }

    /// Without its content a file is empty until someone reads it.
    fn file(&mut self, path: &Path, kind: EntryKind, id: gix::ObjectId, whole: bool) -> Result<(), GitError> {
        if !self.begin(path, whole)? {
            return Ok(());
        }
        let place = self.to.join(path);
        let shown = path.display().to_string();
        let mode = if kind == EntryKind::BlobExecutable { 0o755 } else { 0o644 };
        let said = |source| GitError::Write { path: place.clone(), source };
        if !whole {
            return write(&place, b"", mode).map_err(said);
        }
        let is_of_recipe = ["image.toml", "image.kdl", "imgbuild.toml", "image.lock"].map(OsStr::new);
        let limit =
            if path.file_name().is_some_and(|name| is_of_recipe.contains(&name)) { RECIPE_LIMIT } else { OBJECT_LIMIT };
        let data = self.reading().object(id, &shown, limit)?.data.clone();
        self.take(data.len() as u64)?;
        let content = self.content(path, &data)?;
        write(&place, &content, mode).map_err(said)
    }

    /// What a checkout has of a blob.
    fn content<'b>(&mut self, path: &Path, blob: &'b [u8]) -> Result<Cow<'b, [u8]>, GitError> {
        let shown = path.to_string_lossy().into_owned();
        let folders: Vec<&Path> = path.ancestors().skip(1).collect();
        for folder in folders.iter().rev() {
            if let Some(found) = self.folder(folder)? {
                self.checkout.enter(&folder.to_string_lossy(), &found.1);
            } else {
                self.checkout.enter(&folder.to_string_lossy(), b"");
            }
        }
        let (kept, unlike) = self.checkout.filtered(&shown, blob, &self.repository.root.join(path));
        let content = match kept {
            Some(content) => Ok(Cow::Owned(content)),
            None => self.checkout.content(&shown, blob).map_err(|error| error.to_string()),
        };
        for _ in folders {
            self.checkout.leave();
        }
        self.unlike.extend(unlike.map(|unlike| (path.to_owned(), unlike)));
        let content = content.map_err(|error| self.reading().unreadable(&shown, &std::io::Error::other(error)))?;
        self.take((content.len() as u64).saturating_sub(blob.len() as u64))?;
        Ok(content)
    }
}

/// The names of a path, last first.
fn parts(path: &Path) -> Vec<OsString> {
    let part = |component: Component<'_>| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some("..".into()),
        _ => None,
    };
    path.components().rev().filter_map(part).collect()
}

/// Writes a file, over an empty one that holds its place.
fn write(path: &Path, data: &[u8], mode: u32) -> std::io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(data)?;
    file.set_permissions(std::fs::Permissions::from_mode(mode))
}
