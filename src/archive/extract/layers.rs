//! Layers of container images over one another. Source: opencontainers/image-spec 1.1, "Image Layer Filesystem Changeset".
//!
//! A layer is read twice: once to its end, so that it is known to be what the configuration says before anything of it is made,
//! and what it takes away is known; then it is unpacked. What a layer takes away is of the layers below, wherever in the archive
//! that stands.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::os::fd::{AsFd, OwnedFd};

use rustix::fs::{AtFlags, Dir, FileType, Gid, Mode, OFlags, ResolveFlags, Uid, XattrFlags};
use rustix::io::Errno;
use tar::EntryType;

use super::{Extractor, Meta, clean, records, times};
use crate::archive::{open_tar, over};
use crate::digest::Sha256;
use crate::name::{bytes_of, shown};

/// Start of the names that take something away, and the name that takes away all that a directory had.
const WHITEOUT: &str = ".wh.";
const OPAQUE: &str = ".wh..wh..opq";
/// Names that aufs kept for itself.
const RESERVED: &str = ".wh..wh.";

/// Entries of a layer, and folders in one another, at most.
const MOST_ENTRIES: u64 = 5_000_000;
const DEEPEST: usize = 256;
/// Bytes of a path and of a name at most. Source: limits.h, PATH_MAX and NAME_MAX; what takes a name away has four more.
const LONGEST_PATH: usize = 4096;
const LONGEST_NAME: usize = 255 + WHITEOUT.len();

/// Attributes that are not an image's: those that overlayfs or the kernel would obey, and labels, which follow from the policy.
const NOT_TAKEN: [&str; 5] = ["user.overlay.", "trusted.", "security.selinux", "security.ima", "security.evm"];

/// What a layer has besides files.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LayerLook {
    /// Paths that it takes away.
    pub gone: BTreeSet<String>,
    /// Directories of which it takes all that was in them.
    pub emptied: BTreeSet<String>,
    /// Device nodes below /dev, which are left out.
    pub devices: BTreeSet<String>,
    /// Bytes of the archive.
    pub bytes: u64,
}

/// Hashes and counts what is read, up to a limit.
struct Hashed<R> {
    inner: R,
    hasher: sha2::Sha256,
    bytes: u64,
    most: u64,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.inner.read(buffer)?;
        sha2::Digest::update(&mut self.hasher, &buffer[..read]);
        self.bytes += read as u64;
        if self.bytes > self.most { Err(over(self.most, "unpacked bytes")) } else { Ok(read) }
    }
}

/// A layer without its compression, which its first bytes tell.
///
/// # Errors
/// Those of reading.
pub fn plain_layer<'a>(file: impl Read + 'a) -> std::io::Result<Box<dyn Read + 'a>> {
    let mut file = BufReader::with_capacity(1 << 17, file);
    let start = file.fill_buf()?;
    Ok(if start.starts_with(&[0x1f, 0x8b]) {
        Box::new(flate2::bufread::MultiGzDecoder::new(file))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) || is_skippable(start) {
        Box::new(zstd::Decoder::with_buffer(file)?)
    } else {
        Box::new(file)
    })
}

/// Whether it begins with what decoders of zstd skip: zstd:chunked does. Source: RFC 8878, 3.1.2.
fn is_skippable(start: &[u8]) -> bool {
    start.len() >= 4 && start[0] & 0xf0 == 0x50 && start[1..4] == [0x2a, 0x4d, 0x18]
}

/// What an entry is for a layer.
enum Part {
    Gone(String),
    Emptied(String),
    Reserved,
    Made(String),
}

fn part_of(path: &[u8]) -> Result<Part, String> {
    let path = clean(path)?;
    if path.len() > LONGEST_PATH || path.split('/').any(|part| part.len() > LONGEST_NAME) {
        let start: String = path.chars().take(60).collect();
        return Err(format!("`{}..` is longer than a path can be", shown(&start)));
    }
    if path.split('/').count() > DEEPEST {
        return Err(format!("`{}` is more than {DEEPEST} folders deep", shown(&path)));
    }
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", &path));
    if parent.split('/').any(|part| part.starts_with(WHITEOUT)) {
        return Err(format!("`{}` is below a name that takes something away", shown(&path)));
    }
    let below = |name: &str| if parent.is_empty() { name.to_owned() } else { format!("{parent}/{name}") };
    Ok(match name.strip_prefix(WHITEOUT) {
        None => Part::Made(path),
        Some(_) if name == OPAQUE => Part::Emptied(parent.to_owned()),
        Some(_) if name.starts_with(RESERVED) => Part::Reserved,
        Some("" | "." | "..") => return Err(format!("`{}` takes away what is not a name", shown(&path))),
        Some(name) => Part::Gone(below(name)),
    })
}

/// Reads a layer to its end, compares it with its digest, and says what it takes away. Nothing is made.
///
/// # Errors
/// A text that says what is wrong with it: its digest, an entry that no image can have, a limit of so many `most` bytes.
pub fn look_at_layer(stream: &mut dyn Read, expected: &Sha256, most: u64) -> Result<LayerLook, String> {
    let mut look = LayerLook::default();
    let mut hashed = Hashed { inner: stream, hasher: sha2::Digest::new(), bytes: 0, most };
    let mut count = 0;
    let mut archive = open_tar(&mut hashed);
    let damaged = |error: std::io::Error| format!("the archive is damaged: {error}");
    // Bytes that are not what they should be are said to be that, whatever they look like.
    let mut problem = None;
    for entry in archive.entries().map_err(damaged)? {
        let one = entry.map_err(damaged).and_then(|mut entry| {
            count += 1;
            if count > MOST_ENTRIES {
                return Err(over(MOST_ENTRIES, "entries").to_string());
            }
            look_at(&mut entry, &mut look)
        });
        if let Err(said) = one {
            problem = Some(said);
            break;
        }
    }
    drop(archive);
    let rest = std::io::copy(&mut hashed, &mut std::io::sink());
    let found = Sha256(sha2::Digest::finalize(hashed.hasher).into());
    if rest.is_ok() && found != *expected {
        return Err(format!("its content has the SHA-256 {found}, but the configuration says {expected} (diff_id)"));
    }
    match (problem, rest) {
        (Some(said), _) => Err(said),
        (None, Err(error)) => Err(damaged(error)),
        (None, Ok(_)) => {
            look.bytes = hashed.bytes;
            Ok(look)
        }
    }
}

fn look_at<R: Read>(entry: &mut tar::Entry<'_, R>, look: &mut LayerLook) -> Result<(), String> {
    let path = entry.path_bytes().into_owned();
    let kind = entry.header().entry_type();
    if kind == EntryType::XGlobalHeader {
        return Ok(());
    }
    let path = match part_of(&path)? {
        Part::Gone(path) => {
            look.gone.insert(path);
            return Ok(());
        }
        Part::Emptied(path) => {
            look.emptied.insert(path);
            return Ok(());
        }
        Part::Reserved => return Ok(()),
        Part::Made(path) => path,
    };
    // GNU tar's files with holes in PAX archives: a map stands before their data, under another name.
    if records(entry, &path)?.iter().any(|(key, _)| key.starts_with("GNU.sparse.")) {
        return Err(format!("`{}` is a file with holes (GNU.sparse), which is not supported", shown(&path)));
    }
    match kind {
        EntryType::Directory | EntryType::Regular | EntryType::Continuous | EntryType::Symlink | EntryType::Fifo => {}
        EntryType::Link => {
            let to = entry.link_name_bytes().ok_or_else(|| format!("the link `{}` has no target", shown(&path)))?;
            clean(&to)?;
        }
        // A node's kernel makes its own.
        EntryType::Char | EntryType::Block if path.starts_with("dev/") => {
            look.devices.insert(path);
        }
        other => {
            return Err(format!(
                "`{}` is a special file ({other:?}): device nodes are supported below /dev alone, where nodes make their own, and files with holes nowhere",
                shown(&path)
            ));
        }
    }
    Ok(())
}

impl Extractor {
    /// Takes away what a layer takes away, and unpacks it.
    ///
    /// # Errors
    /// A text with the entry that cannot be made.
    pub fn layer(&mut self, stream: &mut dyn Read, look: &LayerLook) -> Result<(), String> {
        for path in &look.gone {
            self.take_away(path)?;
        }
        for path in &look.emptied {
            self.empty(path)?;
        }
        let mut archive = open_tar(stream);
        for entry in archive.entries().map_err(|error| error.to_string())? {
            let mut entry = entry.map_err(|error| format!("the archive is damaged: {error}"))?;
            let path = entry.path_bytes().into_owned();
            let kind = entry.header().entry_type();
            if kind == EntryType::XGlobalHeader {
                continue;
            }
            let Part::Made(name) = part_of(&path)? else { continue };
            if matches!(kind, EntryType::Char | EntryType::Block) {
                continue;
            }
            self.make_way(&name, kind == EntryType::Directory)?;
            let meta = meta_of(&mut entry, &name)?;
            let target = entry.link_name_bytes().map(|target| target.into_owned());
            let target = || target.clone().ok_or_else(|| format!("the link `{}` has no target", shown(&name)));
            let made = match kind {
                EntryType::Directory => self.directory(&path, &meta).and_then(|()| self.attributes(&name, &meta)),
                EntryType::Regular | EntryType::Continuous => self.file(&path, &meta, &mut entry),
                EntryType::Symlink => self.symlink(&path, &target()?, &meta),
                EntryType::Link => self.hard_link(&path, &target()?),
                EntryType::Fifo => self.pipe(&name, &meta),
                other => Err(format!("`{}` is a special file ({other:?})", shown(&name))),
            };
            made.map_err(|said| explained(said, &meta))?;
        }
        // What is gone again has no time.
        let times = std::mem::take(&mut self.directory_times);
        self.directory_times = times.into_iter().filter(|(path, _)| self.open_directory(path).is_ok()).collect();
        self.finish()
    }

    /// The directory of a path, where it is there, and the last part of the name.
    fn place<'p>(&self, path: &'p str) -> Option<(OwnedFd, std::borrow::Cow<'p, [u8]>)> {
        let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
        Some((self.open_directory(parent).ok()?, bytes_of(name)))
    }

    fn take_away(&mut self, path: &str) -> Result<(), String> {
        self.last_parent = None;
        let Some((parent, name)) = self.place(path) else { return Ok(()) };
        remove(&parent, &name, 0).map_err(|error| format!("cannot remove `{}`: {error}", shown(path)))
    }

    fn empty(&mut self, path: &str) -> Result<(), String> {
        self.last_parent = None;
        let said = |error: Errno| format!("cannot empty `{}`: {error}", shown(path));
        // A link to a directory is itself replaced by a directory that the layer brings.
        let handle = match path {
            "" => self.open_directory("").map_err(said)?,
            path => {
                let Some((parent, name)) = self.place(path) else { return Ok(()) };
                match open_below(&parent, &name) {
                    Ok(handle) => handle,
                    Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(()),
                    Err(error) => return Err(said(error)),
                }
            }
        };
        empty(&handle, 0).map_err(said)
    }

    /// Takes away what stands where something of another kind is to be. A directory over a directory gives it another owner.
    fn make_way(&mut self, path: &str, is_directory: bool) -> Result<(), String> {
        if path.is_empty() {
            return Ok(());
        }
        let Some((parent, name)) = self.place(path) else { return Ok(()) };
        let Ok(stat) = rustix::fs::statat(&parent, &*name, AtFlags::SYMLINK_NOFOLLOW) else { return Ok(()) };
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory if is_directory => Ok(()),
            _ => self.take_away(path),
        }
    }

    fn attributes(&self, path: &str, meta: &Meta) -> Result<(), String> {
        if meta.xattrs.is_empty() {
            return Ok(());
        }
        let said = |error: Errno| format!("cannot set the attributes of `{}`: {error}", shown(path));
        let handle = self.open_directory(path).map_err(said)?;
        for (name, value) in &meta.xattrs {
            rustix::fs::fsetxattr(&handle, name.as_str(), value, XattrFlags::empty()).map_err(said)?;
        }
        Ok(())
    }

    fn pipe(&mut self, path: &str, meta: &Meta) -> Result<(), String> {
        let said = |error: Errno| format!("cannot create the pipe `{}`: {error}", shown(path));
        let (parent, name) = self.parent(path).map_err(said)?;
        rustix::fs::mknodat(&parent, &*name, FileType::Fifo, Mode::from_raw_mode(0o600), 0).map_err(said)?;
        let owner = (Some(Uid::from_raw(meta.uid)), Some(Gid::from_raw(meta.gid)));
        rustix::fs::chownat(&parent, &*name, owner.0, owner.1, AtFlags::SYMLINK_NOFOLLOW).map_err(said)?;
        rustix::fs::chmodat(&parent, &*name, Mode::from_raw_mode(meta.mode), AtFlags::empty()).map_err(said)?;
        rustix::fs::utimensat(&parent, &*name, &times(meta.mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(said)
    }

    /// The text of a file, at most so many bytes of it; links are followed within the tree.
    pub fn text(&self, path: &str, most: u64) -> Option<String> {
        let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&self.root, &*bytes_of(path), flags, Mode::empty(), resolve).ok()?;
        let file = std::fs::File::from(file);
        if !file.metadata().ok()?.is_file() {
            return None;
        }
        let mut bytes = Vec::new();
        file.take(most).read_to_end(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// Bytes of a file; links are followed within the tree.
    pub fn size(&self, path: &str) -> Option<u64> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let file = rustix::fs::openat2(&self.root, &*bytes_of(path), flags, Mode::empty(), resolve).ok()?;
        Some(u64::try_from(rustix::fs::fstat(&file).ok()?.st_size).unwrap_or(0))
    }

    /// Where a symbolic link leads.
    pub fn link(&self, path: &str) -> Option<String> {
        let (parent, name) = self.place(path)?;
        let target = rustix::fs::readlinkat(&parent, &*name, Vec::new()).ok()?;
        Some(String::from_utf8_lossy(target.as_bytes()).into_owned())
    }
}

/// Says what the kernel means where an owner is not to be had.
fn explained(said: String, meta: &Meta) -> String {
    const MOST: u32 = 65_535;
    match said.contains("Invalid argument") && (meta.uid > MOST || meta.gid > MOST) {
        true => format!(
            "{said}: it belongs to {}:{}, and this machine has not so many subordinate ids (/etc/subuid, /etc/subgid)",
            meta.uid, meta.gid
        ),
        false => said,
    }
}

fn meta_of<R: Read>(entry: &mut tar::Entry<'_, R>, name: &str) -> Result<Meta, String> {
    let number = |field: std::io::Result<u64>| {
        let value = field.ok().and_then(|value| u32::try_from(value).ok());
        value.ok_or_else(|| format!("`{}` has a bad owner", shown(name)))
    };
    let mut meta = Meta {
        mode: entry.header().mode().map_err(|error| error.to_string())? & 0o7777,
        uid: number(entry.header().uid())?,
        gid: number(entry.header().gid())?,
        mtime: entry.header().mtime().map_or(0, |time| time as i64),
        xattrs: Vec::new(),
    };
    for (key, value) in records(entry, name)? {
        let key = key.strip_prefix("SCHILY.xattr.");
        if let Some(key) = key.filter(|key| !NOT_TAKEN.iter().any(|start| key.starts_with(start))) {
            meta.xattrs.push((key.to_owned(), value));
        }
    }
    Ok(meta)
}

fn open_below(parent: &OwnedFd, name: &[u8]) -> Result<OwnedFd, Errno> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(parent, name, flags, Mode::empty())
}

fn remove(parent: &OwnedFd, name: &[u8], depth: usize) -> Result<(), Errno> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR | Errno::PERM) => {}
        Err(error) => return Err(error),
    }
    empty(&open_below(parent, name)?, depth)?;
    rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)
}

fn empty(directory: &OwnedFd, depth: usize) -> Result<(), Errno> {
    // Links may have made it deeper than a path says.
    if depth > 4 * DEEPEST {
        return Err(Errno::NAMETOOLONG);
    }
    let names: Vec<Vec<u8>> = Dir::read_from(directory.as_fd())?
        .map(|entry| entry.map(|entry| entry.file_name().to_bytes().to_vec()))
        .collect::<Result<_, _>>()?;
    names
        .iter()
        .filter(|name| !matches!(&name[..], b"." | b".."))
        .try_for_each(|name| remove(directory, name, depth + 1))
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    use super::*;

    /// A layer of entries: kind, path, target or content.
    fn layer(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (kind, path, text) in entries {
            let mut header = tar::Header::new_gnu();
            header.set_entry_type(*kind);
            header.set_mode(if *kind == EntryType::Directory { 0o755 } else { 0o644 });
            header.set_uid(u64::from(rustix::process::getuid().as_raw()));
            header.set_gid(u64::from(rustix::process::getgid().as_raw()));
            let content = if *kind == EntryType::Regular { text.as_bytes() } else { b"" };
            header.set_size(content.len() as u64);
            let fields = header.as_gnu_mut().unwrap();
            fields.name[..path.len()].copy_from_slice(path.as_bytes());
            if *kind != EntryType::Regular {
                fields.linkname[..text.len()].copy_from_slice(text.as_bytes());
            }
            header.set_cksum();
            bytes.extend_from_slice(header.as_bytes());
            bytes.extend_from_slice(content);
            bytes.resize(bytes.len().next_multiple_of(512), 0);
        }
        bytes.resize(bytes.len() + 1024, 0);
        bytes
    }

    fn unpack(root: &Path, layers: &[Vec<u8>]) -> Result<(), String> {
        let mut extractor = Extractor::new(root.to_str().unwrap()).unwrap();
        for bytes in layers {
            let look = look_at_layer(&mut &bytes[..], &Sha256::of(bytes), 1 << 20)?;
            extractor.layer(&mut &bytes[..], &look)?;
        }
        Ok(())
    }

    fn tree(root: &Path) -> Vec<String> {
        let entries = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name();
        entries
            .into_iter()
            .map(|entry| entry.unwrap().path().strip_prefix(root).unwrap().display().to_string())
            .collect()
    }

    const DIR: EntryType = EntryType::Directory;
    const FILE: EntryType = EntryType::Regular;
    const LINK: EntryType = EntryType::Symlink;
    const HARD: EntryType = EntryType::Link;

    /// A layer of one file with such an extended header.
    fn with_records(records: &[u8], path: &str) -> Vec<u8> {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(EntryType::XHeader);
        header.set_size(records.len() as u64);
        header.set_cksum();
        let mut bytes = header.as_bytes().to_vec();
        bytes.extend_from_slice(records);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
        bytes.extend(layer(&[(FILE, path, "x")]));
        bytes
    }

    #[test]
    fn what_an_extended_header_says_is_taken_or_refused_and_never_lost() {
        let refused = |bytes: Vec<u8>| {
            let root = tempfile::tempdir().unwrap();
            unpack(root.path(), &[bytes]).unwrap_err()
        };
        let root = tempfile::tempdir().unwrap();
        unpack(root.path(), &[with_records(b"18 path=very/long\n", "short")]).unwrap();
        assert_eq!(tree(root.path()), ["very", "very/long"]);
        // A capability of which a byte is a line feed; the path after it would not be seen.
        let said =
            refused(with_records(b"41 SCHILY.xattr.security.capability=\x01\n\x02\x03\n18 path=very/long\n", "short"));
        assert!(said.contains("has a line feed"), "{said}");
        let said = refused(with_records(b"22 GNU.sparse.major=1\n", "GNUSparseFile.1/lastlog"));
        assert!(said.contains("file with holes"), "{said}");
        // Names that no path can have are not kept.
        assert!(part_of(&b"a".repeat(255)).is_ok() && part_of(&b"a".repeat(300)).is_err());
        assert!(part_of(&b"a/".repeat(3000)).is_err());
    }

    #[test]
    fn what_a_layer_takes_away_is_of_the_layers_below_wherever_it_stands() {
        let root = tempfile::tempdir().unwrap();
        let lower = layer(&[
            (DIR, "a/", ""),
            (FILE, "a/old", "1"),
            (DIR, "a/deep/", ""),
            (FILE, "a/deep/file", "1"),
            (FILE, "b", "1"),
            (DIR, "c/", ""),
            (FILE, "c/x", "1"),
            (FILE, "kept", "1"),
            (HARD, "kept2", "kept"),
        ]);
        let upper = layer(&[
            (FILE, "a/new", "2"),
            // Behind what the same layer brings.
            (FILE, "a/.wh..wh..opq", ""),
            (FILE, ".wh.b", ""),
            (FILE, "b", "2"),
            (FILE, ".wh.never", ""),
            (FILE, "nowhere/.wh.x", ""),
            (FILE, ".wh..wh.plnk", ""),
            (FILE, "c/.wh.x", ""),
            (FILE, "kept", "2"),
        ]);
        unpack(root.path(), &[lower, upper]).unwrap();
        assert_eq!(tree(root.path()), ["a", "a/new", "b", "c", "kept", "kept2"]);
        let read = |name: &str| std::fs::read_to_string(root.path().join(name)).unwrap();
        assert_eq!((read("b"), read("kept"), read("kept2")), ("2".into(), "2".into(), "1".into()));
    }

    #[test]
    fn one_kind_takes_the_place_of_another_and_links_are_made_across_layers() {
        let root = tempfile::tempdir().unwrap();
        let lower = layer(&[
            (DIR, "usr/lib/", ""),
            (LINK, "lib", "usr/lib"),
            (FILE, "lib/below", "1"),
            (LINK, "was-link", "usr"),
            (DIR, "was-dir/", ""),
            (FILE, "was-dir/x", "1"),
            (FILE, "was-file", "1"),
        ]);
        let upper = layer(&[
            (FILE, "lib/more", "2"),
            (HARD, "hard", "usr/lib/below"),
            (DIR, "was-link/", ""),
            (LINK, "was-dir", "usr"),
            (DIR, "was-file/", ""),
            (EntryType::Fifo, "pipe", ""),
        ]);
        unpack(root.path(), &[lower, upper]).unwrap();
        let at = |name: &str| root.path().join(name);
        assert!(at("lib").is_symlink() && at("usr/lib/more").is_file() && at("usr/lib/below").is_file());
        assert_eq!(std::fs::metadata(at("hard")).unwrap().nlink(), 2);
        assert!(!at("was-link").is_symlink() && at("was-link").is_dir());
        assert_eq!(std::fs::read_link(at("was-dir")).unwrap(), Path::new("usr"));
        assert!(at("was-file").is_dir());
        let pipe = std::fs::symlink_metadata(at("pipe")).unwrap();
        assert_eq!((pipe.mode() & 0o170_000, pipe.permissions().mode() & 0o777), (0o010_000, 0o644));
    }

    #[test]
    fn no_layer_reaches_what_lies_outside() {
        let place = tempfile::tempdir().unwrap();
        let outside = place.path().to_str().unwrap();
        let canary = place.path().join("canary");
        std::fs::write(&canary, "canary").unwrap();
        let absolute = canary.to_str().unwrap();
        let through: &[(EntryType, &str, &str)] = &[(LINK, "out", outside), (FILE, "out/canary", "evil")];
        for (name, layers) in [
            ("parent", vec![layer(&[(FILE, "../canary", "evil")])]),
            ("parent later", vec![layer(&[(FILE, "a/../../canary", "evil")])]),
            ("absolute", vec![layer(&[(FILE, absolute, "evil")])]),
            ("through a link", vec![layer(through)]),
            ("through a link of another layer", vec![layer(&through[..1]), layer(&through[1..])]),
            ("whiteout through a link", vec![layer(&through[..1]), layer(&[(FILE, "out/.wh.canary", "")])]),
            ("opaque through a link", vec![layer(&through[..1]), layer(&[(FILE, "out/.wh..wh..opq", "")])]),
            ("whiteout of the parent", vec![layer(&[(FILE, "a/.wh...", "")])]),
            ("hard link", vec![layer(&[(HARD, "x", absolute), (FILE, "x", "evil")])]),
            ("hard link by dots", vec![layer(&[(HARD, "x", "../canary")])]),
            ("hard link through a link", vec![layer(&[(LINK, "out", outside), (HARD, "x", "out/canary")])]),
            ("over a link", vec![layer(&[(LINK, "x", absolute)]), layer(&[(FILE, "x", "evil")])]),
            ("a link to all", vec![layer(&[(LINK, "x", "/")]), layer(&[(FILE, ".wh.x", "")])]),
        ] {
            let root = place.path().join("root");
            std::fs::create_dir(&root).unwrap();
            let _ = unpack(&root, &layers);
            assert_eq!(std::fs::read(&canary).unwrap(), b"canary", "{name}");
            assert_eq!(std::fs::metadata(&canary).unwrap().nlink(), 1, "{name}");
            assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2, "{name}");
            std::fs::remove_dir_all(&root).unwrap();
        }
    }

    #[test]
    fn a_layer_that_is_not_as_it_should_be_is_refused_before_anything_is_made() {
        let good = layer(&[(FILE, "a", "1")]);
        let said =
            |bytes: &[u8], expected: &Sha256, most: u64| look_at_layer(&mut &bytes[..], expected, most).unwrap_err();
        assert!(said(&good, &Sha256::of(b"other"), 1 << 20).contains("diff_id"));
        assert!(said(&good, &Sha256::of(&good), 700).contains("limit of 700 unpacked bytes"));
        for (entries, problem) in [
            (vec![(FILE, "../x", "")], "escapes the archive"),
            (vec![(FILE, ".wh.", "")], "not a name"),
            (vec![(FILE, ".wh...", "")], "not a name"),
            (vec![(FILE, ".wh.a/b", "")], "below a name"),
            (vec![(EntryType::Char, "etc/null", "")], "special file"),
            (vec![(EntryType::Block, "sda", "")], "special file"),
            (vec![(HARD, "x", "../y")], "escapes the archive"),
        ] {
            let bytes = layer(&entries);
            let said = said(&bytes, &Sha256::of(&bytes), 1 << 20);
            assert!(said.contains(problem), "{said}");
        }
        let deep = "d/".repeat(48) + "x";
        let bytes = layer(&[(FILE, &deep, ""), (EntryType::Char, "dev/null", "")]);
        let look = look_at_layer(&mut &bytes[..], &Sha256::of(&bytes), 1 << 20).unwrap();
        assert_eq!(look.devices.into_iter().collect::<Vec<_>>(), ["dev/null"]);
        let garbage = vec![7; 4096];
        assert!(look_at_layer(&mut &garbage[..], &Sha256::of(&garbage), 1 << 20).is_err());
    }

    #[test]
    fn compressors_are_told_by_the_first_bytes() {
        let bytes = layer(&[(FILE, "a", "1")]);
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        gzip.write_all(&bytes).unwrap();
        let zstd = zstd::encode_all(&bytes[..], 3).unwrap();
        let chunked = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2][..], &zstd].concat();
        for packed in [bytes.clone(), gzip.finish().unwrap(), zstd, chunked] {
            let mut plain = Vec::new();
            plain_layer(&packed[..]).unwrap().read_to_end(&mut plain).unwrap();
            assert!(plain == bytes);
        }
    }
}
