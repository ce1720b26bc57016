//! What is sent to another machine, by digest, and how it is put in place there.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Permissions;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use base::digest::Digest;
use files::shared::open_to_others;
use files::{Aside, Durability};

pub const VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Item {
    /// Where it goes: below `ws/` or `abs/`.
    pub place: PathBuf,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum What {
    /// A directory, with its permission bits.
    Folder(u32),
    File {
        mode: u32,
        /// Its size in bytes.
        size: u64,
        /// BLAKE3 of its content.
        digest: Digest,
    },
    /// A symbolic link and where it leads.
    Link(PathBuf),
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    pub version: u32,
    pub root: PathBuf,
    /// The directory in which the command runs, below the workspace's.
    pub start: PathBuf,
    /// What follows the program's name.
    pub words: Vec<String>,
    /// BLAKE3 of imgbuild-init of the image's CPU, and the variable that names it.
    pub init: (String, Digest),
    pub locks: Vec<PathBuf>,
    /// Keys whose results are here.
    pub had: BTreeSet<Digest>,
    pub needed: BTreeSet<Digest>,
    /// Ids of the actions that are asked for, by image; all of an image that is not in it.
    pub wanted: BTreeMap<String, BTreeSet<String>>,
    pub items: Vec<Item>,
    /// User, group and mode of what has others here than the files that are made there, by place.
    #[serde(default)]
    pub owners: BTreeMap<PathBuf, (u32, u32, u32)>,
    /// Seconds after which a build that no one follows is ended.
    pub patience: u64,
}

impl Manifest {
    /// What tells one from another.
    /// Errors: A path that no JSON can hold.
    pub fn text(&self) -> Result<String, String> {
        serde_json::to_string(self).map_err(|error| format!("a name cannot be sent: {error}"))
    }

    pub fn contents(&self) -> BTreeSet<Digest> {
        let of = |item: &Item| match item.what {
            What::File { digest, .. } => Some(digest),
            _ => None,
        };
        self.items.iter().filter_map(of).chain([self.init.1]).collect()
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// It is at it already, or done: nothing is to be sent.
    pub is_running: bool,
    pub is_busy: bool,
    pub contents: BTreeSet<Digest>,
    pub keys: BTreeSet<Digest>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Line {
    /// A line, and where in the log the next one starts.
    Said(u64, String),
    /// How it ended: the exit code.
    Ended(u8),
    /// It goes on, and nothing is said: a connection that is gone without a word is noticed by it.
    Still,
    /// It is not there: nothing was sent, or it was removed.
    Gone,
}

/// Name of the directory with contents.
pub const FILES: &str = "files";

/// What is made in a directory there.
const NAMES: [&str; 13] =
    ["ws", "abs", "in", "out", FILES, "store", "manifest", "log", "status", "status.new", "stop", "asked", "receiving"];

/// The directory's real path. One in which others could put something else in a name's place is not used, nor one where a link is in
/// the place of what is made there.
/// Errors: What is wrong with it.
pub fn own_directory(directory: &Path) -> Result<PathBuf, String> {
    let directory = directory.canonicalize().map_err(said)?;
    if let Some(open) = open_to_others(&directory).map_err(said)?.filter(|_| !fault::planted("away-in-the-open")) {
        return Err(format!("{} is not used: others can replace what is in {}", directory.display(), open.display()));
    }
    let is_plain = |path: &Path| path.symlink_metadata().map_or(true, |found| found.is_file() || found.is_dir());
    match NAMES.iter().map(|name| directory.join(name)).find(|path| !is_plain(path)) {
        Some(path) => Err(format!("{} is neither a file nor a directory: remove it", path.display())),
        None => Ok(directory),
    }
}

/// Takes a stream of contents and results; each is compared with its name.
/// Errors: Why it cannot be kept.
pub fn take(directory: &Path, stream: impl Read) -> Result<(), String> {
    let mut archive = tar::Archive::new(stream);
    for entry in archive.entries().map_err(said)? {
        let mut entry = entry.map_err(said)?;
        let name = entry.path().map_err(said)?.into_owned();
        let to = directory.join(plain(&name).ok_or("a name leads out of the directory")?);
        put(&to, &mut entry)?;
        if let Ok(rest) = name.strip_prefix(FILES) {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(std::fs::File::open(&to).map_err(said)?).map_err(said)?;
            let found = Digest(*hasher.finalize().as_bytes()).to_string();
            if found != rest.display().to_string() && !fault::planted("away-content-unchecked") {
                let _ = std::fs::remove_file(&to);
                return Err("a file changed while it was sent; build again".to_owned());
            }
        }
    }
    Ok(())
}

fn said(error: impl std::fmt::Display) -> String {
    error.to_string()
}

/// A path of names alone.
fn plain(path: &Path) -> Option<&Path> {
    path.components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
}

/// Writes a file aside and gives it its name.
fn put(to: &Path, from: &mut impl Read) -> Result<u64, String> {
    let mut aside = Aside::of(to, 0o600).map_err(said)?;
    let size = std::io::copy(from, &mut aside).map_err(said)?;
    aside.replace(Durability::Kill).map_err(said)?;
    Ok(size)
}

/// What the owners of a parcel are on this machine, by path.
pub fn owners_in(directory: &Path, owners: BTreeMap<PathBuf, (u32, u32, u32)>) -> BTreeMap<PathBuf, (u32, u32, u32)> {
    let directory = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    owners.into_iter().map(|(place, owner)| (directory.join(place), owner)).collect()
}

/// Makes the workspace of what was sent.
/// Errors: What is missing, or cannot be made.
pub fn place(directory: &Path, manifest: &Manifest) -> Result<(), String> {
    for name in ["ws", "abs"] {
        remove(&directory.join(name)).map_err(said)?;
    }
    std::fs::create_dir(directory.join("ws")).map_err(said)?;
    let mut folders = Vec::new();
    for item in &manifest.items {
        let to = directory.join(plain(&item.place).ok_or("a name leads out of the directory")?);
        let at = |error: std::io::Error| format!("{}: {error}", to.display());
        if let Some(above) = to.parent() {
            std::fs::create_dir_all(above).map_err(at)?;
        }
        match &item.what {
            What::Folder(mode) => {
                std::fs::create_dir_all(&to).map_err(at)?;
                folders.push((to, *mode));
            }
            What::Link(target) => std::os::unix::fs::symlink(target, &to).map_err(at)?,
            What::File { mode, digest, .. } => {
                let from = directory.join(FILES).join(digest.to_string());
                std::fs::copy(&from, &to).map_err(at)?;
                // It is to be read here; what it has in the image is in `owners`.
                std::fs::set_permissions(&to, Permissions::from_mode(mode & 0o777 | 0o400)).map_err(at)?;
            }
        }
    }
    // Directories that may not be written to are last.
    for (folder, mode) in folders.iter().rev() {
        std::fs::set_permissions(folder, Permissions::from_mode(mode & 0o777 | 0o500)).map_err(said)?;
    }
    Ok(())
}

/// Removes a tree, whatever the modes of its directories.
/// Errors: What stays.
pub fn remove(tree: &Path) -> std::io::Result<()> {
    match std::fs::remove_dir_all(tree) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {
            for folder in walkdir::WalkDir::new(tree)
                .follow_root_links(false)
                .into_iter()
                .flatten()
                .filter(|one| one.file_type().is_dir())
            {
                let _ = std::fs::set_permissions(folder.path(), Permissions::from_mode(0o700));
            }
            std::fs::remove_dir_all(tree)
        }
        other => other,
    }
}

/// Adds a file to a stream.
/// Errors: It cannot be read, or the other side is gone.
pub fn add(stream: &mut tar::Builder<impl Write>, name: &Path, from: &Path) -> std::io::Result<()> {
    let mut file = std::fs::File::open(from)?;
    let mut header = tar::Header::new_gnu();
    header.set_size(file.metadata()?.len());
    header.set_mode(0o600);
    stream.append_data(&mut header, name, &mut file)
}

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Took {
    /// Bytes of results.
    pub bytes: u64,
    pub locks: Vec<(usize, String)>,
    pub logs: Vec<(String, Vec<u8>)>,
}

/// Largest lock or log that is taken.
const TEXT_LIMIT: u64 = 64 << 20;

/// Takes what the other machine made: results into a directory that is a cache, locks and logs. Nothing else is taken.
/// Errors: The stream ended early, or has what it should not have.
pub fn take_back(cache: &Path, stream: impl Read) -> Result<Took, String> {
    let mut took = Took::default();
    let mut archive = tar::Archive::new(stream);
    let mut is_whole = false;
    for entry in archive.entries().map_err(said)? {
        let mut entry = entry.map_err(said)?;
        let name = entry.path().map_err(said)?.into_owned();
        let text = name.to_str().filter(|_| entry.header().entry_type().is_file()).unwrap_or_default().to_owned();
        let parts: Vec<&str> = text.split('/').collect();
        let is_hex = |text: &str| !text.is_empty() && text.bytes().all(|one| one.is_ascii_hexdigit());
        let small = |entry: &mut dyn Read| {
            let mut bytes = Vec::new();
            entry.take(TEXT_LIMIT).read_to_end(&mut bytes).map(|_| bytes).map_err(said)
        };
        match parts.as_slice() {
            ["v1", "objects" | "actions", folder, file]
                if is_hex(folder) && is_hex(file.strip_suffix(".json").unwrap_or(file)) =>
            {
                took.bytes += put(&cache.join(&name), &mut entry)?;
            }
            ["locks", number] => {
                let number = number.parse().map_err(said)?;
                took.locks.push((number, String::from_utf8(small(&mut entry)?).map_err(said)?));
            }
            ["logs", file] if !file.starts_with('.') => took.logs.push(((*file).to_owned(), small(&mut entry)?)),
            ["end"] => is_whole = true,
            _ => return Err(format!("it sent `{}`, which is not a result", text.escape_debug())),
        }
    }
    if is_whole || fault::planted("away-half-taken") { Ok(took) } else { Err("what it sent is not whole".to_owned()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tar_of(files: &[(&str, &[u8])]) -> Vec<u8> {
        let mut stream = tar::Builder::new(Vec::new());
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
            header.set_cksum();
            stream.append(&header, *bytes).unwrap();
        }
        stream.into_inner().unwrap()
    }

    #[test]
    fn a_workspace_is_made_again_as_it_was() {
        let there = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"text");
        take(there.path(), tar_of(&[(&format!("files/{digest}"), b"text")]).as_slice()).unwrap();
        let item = |place: &str, what| Item { place: place.into(), what };
        let manifest = Manifest {
            version: VERSION,
            root: "/site".into(),
            start: "".into(),
            words: Vec::new(),
            init: (String::new(), digest),
            locks: Vec::new(),
            had: BTreeSet::new(),
            needed: BTreeSet::new(),
            wanted: BTreeMap::new(),
            items: vec![
                item("ws/closed", What::Folder(0o555)),
                item("ws/closed/file", What::File { mode: 0o640, size: 4, digest }),
                item("ws/link", What::Link("closed/file".into())),
                item("abs/etc/motd", What::File { mode: 0o644, size: 4, digest }),
            ],
            owners: BTreeMap::new(),
            patience: 1,
        };
        for _ in 0..2 {
            place(there.path(), &manifest).unwrap();
            let mode = |name: &str| there.path().join(name).metadata().unwrap().permissions().mode() & 0o7777;
            assert_eq!((mode("ws/closed"), mode("ws/closed/file")), (0o555, 0o640));
            assert_eq!(std::fs::read_to_string(there.path().join("ws/link")).unwrap(), "text");
            assert_eq!(std::fs::read_to_string(there.path().join("abs/etc/motd")).unwrap(), "text");
        }
        assert_eq!(serde_json::from_str::<Manifest>(&manifest.text().unwrap()).unwrap(), manifest);
    }

    #[test]
    fn a_directory_of_all_and_one_with_links_in_it_are_not_used() {
        let place = tempfile::tempdir().unwrap();
        let directory = place.path().canonicalize().unwrap().join("on");
        std::fs::create_dir(&directory).unwrap();
        let set = |mode| std::fs::set_permissions(&directory, Permissions::from_mode(mode)).unwrap();
        set(0o700);
        assert_eq!(own_directory(&directory), Ok(directory.clone()));
        set(0o777);
        assert!(own_directory(&directory).unwrap_err().contains("others can replace"));
        set(0o755);
        std::fs::create_dir(place.path().join("precious")).unwrap();
        for name in ["ws", "out", "manifest"] {
            std::os::unix::fs::symlink(place.path().join("precious"), directory.join(name)).unwrap();
            assert!(own_directory(&directory).unwrap_err().contains("neither a file nor"), "{name}");
            std::fs::remove_file(directory.join(name)).unwrap();
        }
    }

    #[test]
    fn a_content_that_is_another_is_refused() {
        let there = tempfile::tempdir().unwrap();
        let digest = Digest::of(b"text");
        let problem = take(there.path(), tar_of(&[(&format!("files/{digest}"), b"other")]).as_slice()).unwrap_err();
        assert!(problem.contains("changed while it was sent"), "{problem}");
        assert!(!there.path().join("files").join(digest.to_string()).exists());
    }

    #[test]
    fn only_results_are_taken_back() {
        let here = tempfile::tempdir().unwrap();
        let take = |files: &[(&str, &[u8])]| take_back(here.path(), tar_of(files).as_slice());
        let took = take(&[("v1/objects/ab/abcd", b"x"), ("locks/0", b"lock"), ("logs/a.log", b"log"), ("end", b"")]);
        let took = took.unwrap();
        assert_eq!((took.bytes, took.locks, took.logs.len()), (1, vec![(0, "lock".to_owned())], 1));
        assert!(take(&[("v1/objects/ab/abcd", b"x")]).unwrap_err().contains("not whole"));
        for name in ["../x", "/etc/passwd", "v1/objects/../../x", "v1/objects/ab/../x", "logs/../x", "v1/x", "logs/.x"]
        {
            assert!(take(&[(name, b"x"), ("end", b"")]).is_err(), "{name}");
        }
        assert_eq!(std::fs::read_dir(here.path()).unwrap().count(), 1);
    }
}
