//! Unpacks archives into a root without ever leaving it.
//!
//! Each path is resolved by the kernel with the tree as its root (`RESOLVE_IN_ROOT`), so that `..` and absolute
//! links stay inside, as they would after chroot. A directory entry never replaces a link to a directory: merged
//! /usr depends on it.

mod layers;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags};
use rustix::io::Errno;

use base::digest::Digest;
use node_words::name::{bytes_of, shown, text_of};
use store::Holes;

pub use layers::{LayerLook, LayerSize, look_at_layer, plain_layer};

#[derive(Debug)]
pub struct Extractor {
    root: OwnedFd,
    /// The directory that the last entry was made in.
    last_parent: Option<(String, OwnedFd)>,
    /// Times of directories, set at the end.
    directory_times: Vec<(String, i64)>,
    /// Digests of files that are known since they were made.
    known: BTreeMap<String, Digest>,
}

struct Hashing<'a> {
    inner: &'a mut dyn Read,
    hasher: blake3::Hasher,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.hasher.update(&buffer[..read]);
        Ok(read)
    }
}

/// Times before 1970 or too late for the file system are cut.
fn times(seconds: i64) -> Timestamps {
    let time = Timespec { tv_sec: seconds.max(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Strips `./` and `/` and refuses what cannot be a path of an image.
fn clean(path: &[u8]) -> Result<String, String> {
    let text = text_of(path);
    let mut parts = Vec::new();
    for part in text.split('/') {
        match part {
            "" | "." => {}
            ".." => return Err(format!("`{text}` escapes the archive")),
            part => parts.push(part),
        }
    }
    Ok(parts.join("/"))
}

impl Extractor {
    /// Unpacks below a directory, given relative to the working directory.
    /// Errors: A text with the path when it cannot be opened.
    pub fn new(root: &str) -> Result<Self, String> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let root = rustix::fs::open(root, flags, Mode::empty()).map_err(|error| format!("{root}: {error}"))?;
        Ok(Self { root, last_parent: None, directory_times: Vec::new(), known: BTreeMap::new() })
    }

    fn open_directory(&self, path: &str) -> Result<OwnedFd, Errno> {
        let path = if path.is_empty() { "." } else { path };
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        loop {
            match rustix::fs::openat2(&self.root, &*bytes_of(path), flags, Mode::empty(), resolve) {
                Err(Errno::AGAIN) => continue,
                other => return other,
            }
        }
    }

    /// The directory that holds `path`, made where it is missing, and the last part of the name.
    fn parent<'p>(&mut self, path: &'p str) -> Result<(OwnedFd, Cow<'p, [u8]>), Errno> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        let name = bytes_of(name);
        if let Some((known, handle)) = &self.last_parent
            && known == parent
        {
            return Ok((handle.try_clone().map_err(|_| Errno::MFILE)?, name));
        }
        let handle = match self.open_directory(parent) {
            Err(Errno::NOENT) => {
                let (above, last) = self.parent(parent)?;
                match rustix::fs::mkdirat(&above, &*last, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(Errno::EXIST) => {}
                    Err(error) => return Err(error),
                }
                self.open_directory(parent)?
            }
            other => other?,
        };
        let copy = handle.try_clone().map_err(|_| Errno::MFILE)?;
        self.last_parent = Some((parent.to_owned(), copy));
        Ok((handle, name))
    }

    /// Makes a directory, or gives an existing one (or the one a link leads to) the owner and mode.
    pub fn directory(&mut self, path: &[u8], meta: &Meta) -> Result<(), String> {
        let path = clean(path)?;
        let said = |error: Errno| format!("cannot create the directory `{path}`: {error}", path = shown(&path));
        if !path.is_empty() {
            let (parent, name) = self.parent(&path).map_err(said)?;
            match rustix::fs::mkdirat(&parent, &*name, Mode::from_raw_mode(0o755)) {
                Ok(()) => {}
                Err(Errno::EXIST) => {
                    let stat = rustix::fs::statat(&parent, &*name, AtFlags::SYMLINK_NOFOLLOW).map_err(said)?;
                    match FileType::from_raw_mode(stat.st_mode) {
                        FileType::Directory => {}
                        FileType::Symlink if self.open_directory(&path).is_ok() => return Ok(()),
                        _ => {
                            rustix::fs::unlinkat(&parent, &*name, AtFlags::empty()).map_err(said)?;
                            rustix::fs::mkdirat(&parent, &*name, Mode::from_raw_mode(0o755)).map_err(said)?;
                        }
                    }
                }
                Err(error) => return Err(said(error)),
            }
        }
        let handle = self.open_directory(&path).map_err(said)?;
        rustix::fs::fchown(&handle, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid))).map_err(said)?;
        rustix::fs::fchmod(&handle, Mode::from_raw_mode(meta.mode)).map_err(said)?;
        self.directory_times.push((path, meta.mtime));
        Ok(())
    }

    fn clear(&self, parent: &OwnedFd, name: &[u8]) -> Result<(), Errno> {
        match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(error),
        }
    }

    pub fn file(&mut self, path: &[u8], meta: &Meta, content: &mut dyn Read) -> Result<(), String> {
        let path = clean(path)?;
        let said = |error: std::io::Error| format!("cannot write `{path}`: {error}", path = shown(&path));
        let (parent, name) = self.parent(&path).map_err(|error| said(error.into()))?;
        self.clear(&parent, &name).map_err(|error| said(error.into()))?;
        self.known.remove(&path);
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = rustix::fs::openat(&parent, &*name, flags, Mode::from_raw_mode(0o600))
            .map_err(|error| said(error.into()))?;
        let mut file = std::fs::File::from(handle);
        let mut holes = Holes::new(&mut file);
        std::io::copy(content, &mut holes).and_then(|_| holes.finish()).map_err(said)?;
        finish(&file, meta).map_err(|error| said(error.into()))
    }

    /// Makes a regular file, and gives the digest of what was written.
    pub fn hashed_file(&mut self, path: &[u8], meta: &Meta, content: &mut dyn Read) -> Result<Digest, String> {
        let mut hashing = Hashing { inner: content, hasher: blake3::Hasher::new() };
        self.file(path, meta, &mut hashing)?;
        let digest = Digest(*hashing.hasher.finalize().as_bytes());
        self.known.insert(clean(path)?, digest);
        Ok(digest)
    }

    /// Gives a file of another tree, which nothing changes again, a further name here; it has this content, and its owner, mode and
    /// time stay. Gives whether that can be: the other tree may be on another file system.
    pub fn further_name(&mut self, path: &[u8], other: (&OwnedFd, &[u8]), digest: Digest) -> Result<bool, String> {
        let path = clean(path)?;
        let said = |error: Errno| format!("cannot write `{path}`: {error}", path = shown(&path));
        let (parent, name) = self.parent(&path).map_err(said)?;
        self.clear(&parent, &name).map_err(said)?;
        self.known.remove(&path);
        let is_made = rustix::fs::linkat(other.0, other.1, &parent, &*name, AtFlags::empty()).is_ok();
        if is_made {
            self.known.insert(path, digest);
        }
        Ok(is_made)
    }

    /// Digests of files that are known since they were made, by their paths.
    pub fn known(&self) -> &BTreeMap<String, Digest> {
        &self.known
    }

    pub fn symlink(&mut self, path: &[u8], target: &[u8], meta: &Meta) -> Result<(), String> {
        let path = clean(path)?;
        let said = |error: Errno| format!("cannot create the link `{path}`: {error}", path = shown(&path));
        let (parent, name) = self.parent(&path).map_err(said)?;
        if let Ok(stat) = rustix::fs::statat(&parent, &*name, AtFlags::SYMLINK_NOFOLLOW)
            && FileType::from_raw_mode(stat.st_mode) == FileType::Directory
        {
            // A directory with content stays; an empty one gives way.
            if rustix::fs::unlinkat(&parent, &*name, AtFlags::REMOVEDIR).is_err() {
                return Ok(());
            }
        }
        self.clear(&parent, &name).map_err(said)?;
        self.known.remove(&path);
        rustix::fs::symlinkat(target, &parent, &*name).map_err(said)?;
        let owner = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
        rustix::fs::chownat(&parent, &*name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(said)?;
        rustix::fs::utimensat(&parent, &*name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(said)
    }

    /// Gives an existing file another name.
    pub fn hard_link(&mut self, path: &[u8], to: &[u8]) -> Result<(), String> {
        let (path, to) = (clean(path)?, clean(to)?);
        let said = |error: Errno| format!("cannot link `{path}` to `{to}`: {error}", path = shown(&path));
        let (from_parent, from_name) = self.parent(&to).map_err(said)?;
        let (parent, name) = self.parent(&path).map_err(said)?;
        self.clear(&parent, &name).map_err(said)?;
        self.known.remove(&path);
        rustix::fs::linkat(&from_parent, &*from_name, &parent, &*name, AtFlags::empty()).map_err(said)
    }

    /// Sets the times of the directories; call it last.
    pub fn finish(&mut self) -> Result<(), String> {
        for (path, mtime) in std::mem::take(&mut self.directory_times).into_iter().rev() {
            let said = |error: Errno| format!("cannot set the time of `{path}`: {error}", path = shown(&path));
            let handle = self.open_directory(&path).map_err(said)?;
            rustix::fs::futimens(&handle, &times(mtime)).map_err(said)?;
        }
        Ok(())
    }
}

fn finish(file: impl AsFd, meta: &Meta) -> Result<(), Errno> {
    rustix::fs::fchown(&file, Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)))?;
    rustix::fs::fchmod(&file, Mode::from_raw_mode(meta.mode))?;
    for (name, value) in &meta.xattrs {
        rustix::fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty())?;
    }
    rustix::fs::futimens(&file, &times(meta.mtime))
}

#[derive(Debug, Clone, Default)]
pub struct Meta {
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Seconds since 1970.
    pub mtime: i64,
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// Unpacks a tar stream; `wanted` may leave entries out by their cleaned path.
/// Errors: A text with the entry for anything that cannot be read or made; device nodes are refused.
pub fn extract_tar(
    extractor: &mut Extractor,
    stream: &mut dyn Read,
    wanted: &dyn Fn(&str) -> bool,
) -> Result<(), String> {
    let mut archive = super::open_tar(stream);
    for entry in archive.entries().map_err(|error| error.to_string())? {
        let mut entry = entry.map_err(|error| format!("the archive is damaged: {error}"))?;
        let path = entry.path_bytes().into_owned();
        if !wanted(&clean(&path)?) {
            continue;
        }
        // overlayfs would obey its own, and the manifest does not know them.
        let own = |name: &str| !name.starts_with("user.overlay.") && !name.starts_with("trusted.");
        let meta = meta_of(&mut entry, &String::from_utf8_lossy(&path), own)?;
        let link = entry.link_name_bytes().map(|name| name.into_owned());
        let missing = || format!("the link `{}` has no target", String::from_utf8_lossy(&path));
        use tar::EntryType;
        match entry.header().entry_type() {
            EntryType::Directory => extractor.directory(&path, &meta)?,
            EntryType::Regular | EntryType::Continuous => {
                extractor.file(&path, &meta, &mut entry)?;
            }
            EntryType::Symlink => extractor.symlink(&path, &link.ok_or_else(missing)?, &meta)?,
            EntryType::Link => extractor.hard_link(&path, &link.ok_or_else(missing)?)?,
            EntryType::XGlobalHeader => {}
            other => {
                // Sparse files too, which dpkg does not know: a kilobyte of archive could fill any disk.
                return Err(format!(
                    "`{}` is a special file ({other:?}); packages must not contain one",
                    String::from_utf8_lossy(&path)
                ));
            }
        }
    }
    Ok(())
}

/// What an entry says of itself, with those of its attributes that are `wanted`.
fn meta_of<R: Read>(entry: &mut tar::Entry<'_, R>, name: &str, wanted: impl Fn(&str) -> bool) -> Result<Meta, String> {
    let number = |field: std::io::Result<u64>| {
        let value = field.ok().and_then(|value| u32::try_from(value).ok());
        value.ok_or_else(|| format!("`{}` has a bad owner", node_words::name::shown(name)))
    };
    let mut meta = Meta {
        mode: entry.header().mode().map_err(|error| error.to_string())? & 0o7777,
        uid: number(entry.header().uid())?,
        gid: number(entry.header().gid())?,
        mtime: entry.header().mtime().map_or(0, |time| time as i64),
        xattrs: Vec::new(),
    };
    for (key, value) in records(entry, name)? {
        if let Some(attribute) = key.strip_prefix("SCHILY.xattr.").filter(|attribute| wanted(attribute)) {
            meta.xattrs.push((attribute.to_owned(), value));
        }
    }
    Ok(meta)
}

/// Records of an entry's extended header, those with names that are text.
/// Errors: A text, where one cannot be read: with a line feed in its value, which the reader of archives takes for its end. What stands in
/// it or after it, a capability or the owner, would be lost.
fn records<R: Read>(entry: &mut tar::Entry<'_, R>, name: &str) -> Result<Vec<(String, Vec<u8>)>, String> {
    let Ok(Some(extensions)) = entry.pax_extensions() else { return Ok(Vec::new()) };
    let mut records = Vec::new();
    for extension in extensions {
        if extension.is_err() && fault::planted("lost-record") {
            continue;
        }
        let extension = extension.map_err(|_| {
            format!(
                "`{}` has an extended header that cannot be read: a value in it, of a file capability or another attribute, has a line feed",
                node_words::name::shown(name)
            )
        })?;
        if let Ok(key) = extension.key() {
            records.push((key.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meta(mode: u32) -> Meta {
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        Meta { mode, uid, gid, mtime: 1_000_000, xattrs: Vec::new() }
    }

    #[test]
    fn links_and_dots_never_lead_out_of_the_root() {
        let outside = tempfile::tempdir().unwrap();
        let root = outside.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let mut extractor = Extractor::new(root.to_str().unwrap()).unwrap();
        assert!(extractor.file(b"../evil", &meta(0o644), &mut &b"x"[..]).is_err());
        extractor.symlink(b"up", b"../..", &meta(0o777)).unwrap();
        extractor.symlink(b"abs", outside.path().to_str().unwrap().as_bytes(), &meta(0o777)).unwrap();
        let _ = extractor.file(b"up/evil", &meta(0o644), &mut &b"x"[..]);
        let _ = extractor.file(b"abs/evil", &meta(0o644), &mut &b"x"[..]);
        assert!(!outside.path().join("evil").exists());
    }

    /// One entry of a hostile archive: kind, path and target as raw bytes, content.
    fn entry(kind: tar::EntryType, path: &str, target: &str, content: &[u8]) -> Vec<u8> {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(0o6777);
        header.set_uid(u64::from(rustix::process::getuid().as_raw()));
        header.set_gid(u64::from(rustix::process::getgid().as_raw()));
        header.set_size(content.len() as u64);
        let fields = header.as_gnu_mut().unwrap();
        if kind == tar::EntryType::GNUSparse {
            // One hole of 8 GiB.
            fields.set_real_size(0o77777777777);
            fields.sparse[0].offset.copy_from_slice(b"77777777777\0");
            fields.sparse[0].numbytes.copy_from_slice(b"00000000000\0");
        }
        fields.name[..path.len()].copy_from_slice(path.as_bytes());
        fields.linkname[..target.len()].copy_from_slice(target.as_bytes());
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes
    }

    #[test]
    fn no_entry_of_a_hostile_archive_touches_what_lies_outside() {
        use std::os::unix::fs::{MetadataExt, PermissionsExt};
        use tar::EntryType as Kind;
        let place = tempfile::tempdir().unwrap();
        let own_mode = std::fs::metadata(place.path()).unwrap().mode();
        let canary = place.path().join("canary");
        let outside = place.path().to_str().unwrap();
        let within = outside.trim_start_matches('/');
        let link = |path: &str, target: &str| entry(Kind::Symlink, path, target, b"");
        let file = |path: &str| entry(Kind::Regular, path, "", b"evil");
        let hard = |path: &str, target: &str| entry(Kind::Link, path, target, b"");
        let directory = |path: &str| entry(Kind::Directory, path, "", b"");
        let canary_path = format!("{outside}/canary");
        let cases: Vec<(&str, Vec<Vec<u8>>)> = vec![
            ("absolute path", vec![file(&canary_path)]),
            ("parent", vec![file("../canary")]),
            ("parent later", vec![file("a/../../canary")]),
            ("parent directory", vec![directory("..")]),
            ("through an absolute link", vec![link("out", outside), file("out/canary")]),
            ("through a relative link", vec![link("out", "../"), file("out/canary")]),
            ("through a chain", vec![link("a", "b"), link("b", outside), file("a/canary"), directory("a/made")]),
            ("over a link", vec![link("x", &canary_path), file("x")]),
            ("directory over a link", vec![link("x", outside), directory("x"), file("x/canary")]),
            (
                "link to the canary's directory, made within",
                vec![directory(within), link("o", outside), file("o/canary")],
            ),
            ("hard link", vec![hard("x", &canary_path), file("x")]),
            ("hard link by dots", vec![hard("x", "../canary"), file("x")]),
            ("hard link through a link", vec![link("out", outside), hard("x", "out/canary"), file("x")]),
            ("hard link to a link", vec![link("l", &canary_path), hard("x", "l"), file("x/y"), file("l")]),
            ("a file for a directory", vec![file("d"), file("d/x")]),
            ("setuid", vec![file("s")]),
        ];
        for (name, entries) in cases {
            let root = place.path().join("root");
            std::fs::create_dir(&root).unwrap();
            std::fs::write(&canary, "canary").unwrap();
            std::fs::set_permissions(&canary, std::fs::Permissions::from_mode(0o640)).unwrap();
            let before = std::fs::metadata(&canary).unwrap();
            let mut extractor = Extractor::new(root.to_str().unwrap()).unwrap();
            let stream = entries.concat();
            let _ = extract_tar(&mut extractor, &mut &stream[..], &|_| true).and_then(|()| extractor.finish());
            let after = std::fs::metadata(&canary).unwrap();
            assert_eq!(std::fs::read(&canary).unwrap(), b"canary", "{name}");
            assert_eq!((before.mode(), before.ino(), after.nlink()), (after.mode(), after.ino(), 1), "{name}");
            assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2, "{name}");
            assert_eq!(std::fs::metadata(place.path()).unwrap().mode(), own_mode, "{name}");
            std::fs::remove_dir_all(&root).unwrap();
        }
    }

    #[test]
    fn devices_and_sparse_files_are_refused_before_a_byte_is_written() {
        use tar::EntryType as Kind;
        for kind in [Kind::Block, Kind::Char, Kind::Fifo, Kind::GNUSparse] {
            let root = tempfile::tempdir().unwrap();
            let mut extractor = Extractor::new(root.path().to_str().unwrap()).unwrap();
            let stream = entry(kind, "x", "", b"");
            let said = extract_tar(&mut extractor, &mut &stream[..], &|_| true).unwrap_err();
            assert!(said.contains("`x` is a special file"), "{said}");
            assert_eq!(std::fs::read_dir(root.path()).unwrap().count(), 0);
        }
    }

    #[test]
    fn a_directory_does_not_replace_a_link_to_a_directory() {
        let root = tempfile::tempdir().unwrap();
        let mut extractor = Extractor::new(root.path().to_str().unwrap()).unwrap();
        extractor.directory(b"./usr/bin", &meta(0o755)).unwrap();
        extractor.symlink(b"bin", b"usr/bin", &meta(0o777)).unwrap();
        extractor.directory(b"./bin/", &meta(0o755)).unwrap();
        extractor.file(b"bin/sh", &meta(0o755), &mut &b"x"[..]).unwrap();
        extractor.finish().unwrap();
        assert!(root.path().join("usr/bin/sh").exists());
        assert!(root.path().join("bin").is_symlink());
    }
}
