//! Files that a description names, beneath the directory that it lies in, or beneath one that the administrator gives.

use std::fs::File;
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

use super::TEXT_LIMIT;

/// Most entries of a tree.
const ENTRY_LIMIT: usize = 100_000;

/// How deep a tree may be.
const DEPTH_LIMIT: usize = 64;

/// An opened directory; nothing outside it is reached through it.
#[derive(Debug)]
pub(crate) struct Root {
    directory: File,
    pub(crate) path: PathBuf,
}

/// What a tree has at a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    Folder,
    Link(String),
    /// A device, a socket, a pipe.
    Special,
}

/// An entry of a tree; its path has no slash in front.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Root {
    /// Errors: Those of the operating system.
    pub(crate) fn open(path: &Path) -> Result<Arc<Self>> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = File::from(rustix::fs::open(path, flags, Mode::empty())?);
        Ok(Arc::new(Self { directory, path: path.to_owned() }))
    }

    fn at(&self, path: &str, flags: OFlags) -> Result<File> {
        let mut way = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        if fault::planted("movein-leads-out") {
            way = ResolveFlags::empty();
        }
        let flags = flags | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let path = if path.is_empty() { "." } else { path };
        match openat2(&self.directory, path, flags, Mode::empty(), way) {
            Ok(file) => Ok(File::from(file)),
            Err(rustix::io::Errno::XDEV) => Err(Error::new(ErrorKind::InvalidInput, "it escapes its directory")),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a regular file.
    /// Errors: Those of the operating system; `InvalidInput` for anything else, and for what lies outside.
    pub(crate) fn file(&self, path: &str) -> Result<File> {
        let file = self.at(path, OFlags::RDONLY)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(Error::new(ErrorKind::InvalidInput, "it is not a regular file")),
        }
    }

    pub(crate) fn is_folder(&self, path: &str) -> bool {
        self.at(path, OFlags::RDONLY | OFlags::DIRECTORY).is_ok()
    }

    pub(crate) fn is_file(&self, path: &str) -> bool {
        self.file(path).is_ok()
    }

    /// Reads a text; bytes that are not UTF-8 are replaced.
    /// Errors: As [`Root::file`]; `InvalidInput` for one that is too large.
    pub(crate) fn text(&self, path: &str) -> Result<String> {
        let mut bytes = Vec::new();
        self.file(path)?.take(TEXT_LIMIT + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > TEXT_LIMIT {
            return Err(Error::new(ErrorKind::InvalidInput, format!("it is larger than {TEXT_LIMIT} bytes")));
        }
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Names in a folder, sorted; those that are not UTF-8 with replaced bytes.
    /// Errors: Those of the operating system.
    pub(crate) fn names(&self, path: &str) -> Result<Vec<String>> {
        let folder = self.at(path, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&folder)? {
            let name = String::from_utf8_lossy(entry?.file_name().to_bytes()).into_owned();
            if name != "." && name != ".." {
                names.push(name);
            }
            if names.len() > ENTRY_LIMIT {
                return Err(Error::new(ErrorKind::InvalidInput, format!("more than {ENTRY_LIMIT} files")));
            }
        }
        names.sort();
        Ok(names)
    }

    /// The entry at a path, links not followed.
    /// Errors: Those of the operating system; names that are not UTF-8.
    pub(crate) fn entry(&self, path: &str) -> Result<Entry> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let folder = self.at(parent, OFlags::RDONLY | OFlags::DIRECTORY)?;
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let opened = File::from(rustix::fs::openat(&folder, name, flags, Mode::empty())?);
        let found = opened.metadata()?;
        let kind = match found.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_symlink() => {
                let target = rustix::fs::readlinkat(&folder, name, Vec::new())?;
                let target = target.into_string();
                Kind::Link(
                    target.map_err(|_| Error::new(ErrorKind::InvalidInput, "the target of a link is not UTF-8"))?,
                )
            }
            _ => Kind::Special,
        };
        Ok(Entry { path: path.to_owned(), kind, mode: found.mode() & 0o7777, uid: found.uid(), gid: found.gid() })
    }

    /// All that lies below a folder, parents first, links not followed.
    /// Errors: Those of the operating system; a tree that is too large or too deep, a name that is not UTF-8.
    pub(crate) fn tree(&self, below: &str) -> Result<Vec<Entry>> {
        let odd = |problem: String| Error::new(ErrorKind::InvalidInput, problem);
        let mut found = Vec::new();
        let mut open = vec![below.trim_end_matches('/').to_owned()];
        while let Some(folder) = open.pop() {
            if folder.matches('/').count() > DEPTH_LIMIT {
                return Err(odd(format!("`{folder}` is nested too deeply")));
            }
            for name in self.names(&folder)? {
                let path = if folder.is_empty() { name.clone() } else { format!("{folder}/{name}") };
                if name.contains(['\u{fffd}', '\n', '\r', '\0']) {
                    return Err(odd(format!(
                        "the name of `{}` is not UTF-8, or contains a line end",
                        path.escape_debug()
                    )));
                }
                let entry = self.entry(&path)?;
                if entry.kind == Kind::Folder {
                    open.push(path);
                }
                found.push(entry);
                if found.len() > ENTRY_LIMIT {
                    return Err(odd(format!("more than {ENTRY_LIMIT} files")));
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }
}

/// A path without `.` and `..`, if it does not lead above where it begins; without a slash in front.
pub(crate) fn inside(path: &str) -> Option<String> {
    let mut parts: Vec<&str> = Vec::new();
    for part in Path::new(path).components() {
        match part {
            Component::Normal(name) => parts.push(std::str::from_utf8(name.as_bytes()).ok()?),
            Component::ParentDir => drop(parts.pop()?),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Some(parts.join("/"))
}

/// Where the files of a description are found.
#[derive(Debug, Clone)]
pub(crate) struct Roots {
    /// The description's own directory.
    pub(crate) own: Arc<Root>,
    /// Where absolute paths are found, if that was given.
    pub(crate) files: Option<Arc<Root>>,
}

impl Roots {
    /// The root and the path beneath it of a path in a description that lies in the folder `folder` of the own root.
    /// Errors: Why it is not read, and what helps.
    pub(crate) fn find(&self, folder: &str, path: &str) -> std::result::Result<(Arc<Root>, String), String> {
        if path.is_empty() {
            return Err("no path is named".to_owned());
        }
        if !path.starts_with('/') {
            return match inside(&format!("{folder}/{path}")) {
                Some(path) => Ok((self.own.clone(), path)),
                None => self.above(folder, path),
            };
        }
        let files = self.files.as_ref().ok_or_else(|| {
            format!(
                "`{path}` is a path of another host: pass --files DIR with its copy below DIR, or copy the file by hand"
            )
        })?;
        let path = Path::new(path).strip_prefix(&files.path).ok().and_then(Path::to_str).unwrap_or(path);
        let below = inside(path).ok_or_else(|| format!("`{path}` escapes its directory"))?;
        Ok((files.clone(), below))
    }

    fn above(&self, folder: &str, path: &str) -> std::result::Result<(Arc<Root>, String), String> {
        let outside = || {
            format!("`{path}` is outside the directory of the description: pass --files DIR, a directory above both")
        };
        let files = self.files.as_ref().ok_or_else(outside)?;
        let own = self.own.path.strip_prefix(&files.path).ok().and_then(Path::to_str).ok_or_else(outside)?;
        Ok((files.clone(), inside(&format!("{own}/{folder}/{path}")).ok_or_else(outside)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_outside_a_directory_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let below = |name: &str| folder.path().join(name);
        std::fs::create_dir_all(below("in/sub")).unwrap();
        std::fs::write(below("secret"), "s").unwrap();
        std::fs::write(below("in/sub/a"), "a").unwrap();
        std::os::unix::fs::symlink("../secret", below("in/out")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", below("in/absolute")).unwrap();
        std::os::unix::fs::symlink("sub/a", below("in/within")).unwrap();
        let root = Root::open(&below("in")).unwrap();
        assert_eq!(root.text("within").unwrap(), "a");
        for bad in ["out", "absolute", "../secret", "sub/../../secret", "sub"] {
            assert!(root.text(bad).is_err(), "{bad}");
        }
        let roots = Roots { own: root.clone(), files: None };
        assert!(roots.find("", "../secret").is_err() && roots.find("", "/etc/passwd").is_err());
        assert_eq!(roots.find("sub", "../sub/./a").unwrap().1, "sub/a");
        let files = Roots { own: root.clone(), files: Some(Root::open(folder.path()).unwrap()) };
        let (found, path) = files.find("sub", "../../secret").unwrap();
        assert_eq!(found.text(&path).unwrap(), "s");
        assert_eq!(files.find("", "/in/sub/a").unwrap().1, "in/sub/a");
        let kinds: Vec<_> = root.tree("").unwrap().into_iter().map(|entry| (entry.path, entry.kind)).collect();
        assert_eq!(kinds[2], ("sub".to_owned(), Kind::Folder));
        assert_eq!(kinds[0].1, Kind::Link("/etc/passwd".to_owned()));
    }

    #[test]
    fn texts_are_bounded_and_their_bytes_need_no_form() {
        let folder = tempfile::tempdir().unwrap();
        let below = |name: &str| folder.path().join(name);
        // 100 MB that take no room on the disk.
        std::fs::File::create(below("large")).unwrap().set_len(100 << 20).unwrap();
        std::fs::write(below("odd"), b"a: \xff\xfe\n").unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, below("pipe"), rustix::fs::FileType::Fifo, Mode::RUSR, 0).unwrap();
        let root = Root::open(folder.path()).unwrap();
        assert!(root.text("large").unwrap_err().to_string().contains("larger than"));
        assert_eq!(root.text("odd").unwrap(), "a: \u{fffd}\u{fffd}\n");
        assert!(root.text("pipe").unwrap_err().to_string().contains("not a regular file"));
        use std::os::unix::ffi::OsStrExt;
        std::fs::write(folder.path().join(std::ffi::OsStr::from_bytes(b"\xff")), "x").unwrap();
        assert!(root.tree("").unwrap_err().to_string().contains("UTF-8"));
        let deep = (0..DEPTH_LIMIT + 2).map(|_| "d").collect::<Vec<_>>().join("/");
        std::fs::create_dir_all(below("t").join(deep)).unwrap();
        assert!(root.tree("t").unwrap_err().to_string().contains("nested too deeply"));
    }
}
