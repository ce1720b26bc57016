//! Reading, as the standard library does it, and noting what was read.

use std::ffi::OsString;
use std::fs::Metadata;
use std::io::{self, Read};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Component, Path, PathBuf};

use super::facts::need;
use super::kind::Kind;
use super::lazy_directories::{Need, bring};
use super::record::{
    is_recording, known, note_digest, note_error, note_in_directory, note_own, note_through, note_variable, tear,
};
use super::stamp::{Stamp, look_through, number_of};
use base::digest::{Digest, FieldHasher, Sha256};

/// Bytes of a file that is read into memory whole: others may have written any.
const LARGEST: u64 = 1 << 30;

fn noting<T>(path: &Path, outcome: io::Result<T>) -> io::Result<T> {
    if let Err(error) = &outcome
        && is_recording()
    {
        note_error(path, number_of(error));
    }
    outcome
}

pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    noting(path, read_whole(path))
}

fn read_whole(path: &Path) -> io::Result<Vec<u8>> {
    bring(path, Need::Content);
    let mut file = std::fs::File::open(path)?;
    let metadata = file.metadata()?;
    let too_large = || io::Error::new(io::ErrorKind::FileTooLarge, format!("it is larger than {} MiB", LARGEST >> 20));
    if metadata.len() > LARGEST {
        return Err(too_large());
    }
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
    // It may grow meanwhile.
    if file.by_ref().take(LARGEST + 1).read_to_end(&mut bytes)? as u64 > LARGEST {
        return Err(too_large());
    }
    if is_recording() {
        note_digest(path, need::CONTENT, Ok(Stamp::from_metadata(&metadata)), Some(Digest::of(&bytes)), None);
    }
    Ok(bytes)
}

/// [`std::fs::read`], unless the file has more bytes than `limit`: then none.
pub fn read_at_most(path: &Path, limit: u64) -> io::Result<Option<Vec<u8>>> {
    bring(path, Need::Content);
    if std::fs::metadata(path).is_ok_and(|metadata| metadata.len() > limit) {
        let _ = note_through(path, need::STAMP);
        return Ok(None);
    }
    read(path).map(Some)
}

pub fn read_to_string(path: &Path) -> io::Result<String> {
    let bytes = read(path)?;
    String::from_utf8(bytes)
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "stream did not contain valid UTF-8"))
}

/// Size, times and all of a file, links followed.
/// Errors: As [`std::fs::metadata`].
pub fn metadata(path: &Path) -> io::Result<Metadata> {
    bring(path, Need::Content);
    if is_recording() {
        let _ = note_through(path, need::STAMP);
    }
    let found = std::fs::metadata(path);
    if let Ok(found) = &found
        && is_recording()
        && note_through(path, need::STAMP) != Ok(Stamp::from_metadata(found))
    {
        tear();
    }
    found
}

/// Kind and permission bits of a file, links followed.
/// Errors: As [`std::fs::metadata`].
pub fn mode(path: &Path) -> io::Result<u32> {
    bring(path, Need::Name);
    if is_recording() {
        let _ = note_through(path, need::MODE);
    }
    let found = std::fs::metadata(path)?;
    Ok(found.mode())
}

/// Kind and permission bits, and the numbers of user and group, links followed.
/// Errors: As [`std::fs::metadata`].
pub fn owner(path: &Path) -> io::Result<(u32, u32, u32)> {
    bring(path, Need::Name);
    if is_recording() {
        let _ = note_through(path, need::MODE);
    }
    let found = std::fs::metadata(path)?;
    Ok((found.mode(), found.uid(), found.gid()))
}

/// The kind of what a path leads to; none where it leads nowhere.
fn kind_through(path: &Path) -> Option<Kind> {
    bring(path, Need::Name);
    let kind = || std::fs::metadata(path).ok().map(|metadata| Kind::of(metadata.file_type()));
    if !is_recording() {
        return kind();
    }
    let Ok(own) = note_in_directory(path, need::KIND) else { return None };
    if !own.is_link() {
        return Some(Kind::of_mode(own.mode));
    }
    note_through(path, need::KIND_THROUGH).ok().map(|stamp| Kind::of_mode(stamp.mode))
}

pub fn is_file(path: &Path) -> bool {
    kind_through(path) == Some(Kind::File)
}

pub fn is_dir(path: &Path) -> bool {
    kind_through(path) == Some(Kind::Directory)
}

pub fn exists(path: &Path) -> bool {
    kind_through(path).is_some()
}

/// The kind of what has a name itself, links not followed; none where there is no such name.
fn own_kind(path: &Path) -> Option<Kind> {
    bring(path, Need::Name);
    if !is_recording() {
        return path.symlink_metadata().ok().map(|metadata| Kind::of(metadata.file_type()));
    }
    note_in_directory(path, need::KIND).ok().map(|own| Kind::of_mode(own.mode))
}

/// Whether something has that name: also a link that leads nowhere.
pub fn is_there(path: &Path) -> bool {
    own_kind(path).is_some()
}

pub fn is_link(path: &Path) -> bool {
    own_kind(path) == Some(Kind::Link)
}

/// Why a path that is there cannot be read as a file, for after its name; none for a file, and where nothing is.
pub fn not_a_file(path: &Path) -> Option<&'static str> {
    match kind_through(path) {
        Some(Kind::File) => None,
        Some(Kind::Directory) => Some("is a directory, not a file"),
        Some(Kind::Link | Kind::Other) => {
            let kind = std::fs::metadata(path).ok()?.file_type();
            Some(match kind {
                _ if kind.is_fifo() => "is a FIFO, not a file",
                _ if kind.is_socket() => "is a socket, not a file",
                _ => "is a device, not a file",
            })
        }
        None if is_link(path) => {
            let error = std::fs::metadata(path).err()?;
            match rustix::io::Errno::from_io_error(&error)? {
                rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR => Some("is a dangling link"),
                rustix::io::Errno::LOOP => Some("is a symlink loop"),
                _ => None,
            }
        }
        None => None,
    }
}

/// Where a link leads, as it is written; none for what is no link. For messages about errors: it is not noted, since no error
/// is remembered.
pub fn link_target(path: &Path) -> Option<PathBuf> {
    if is_link(path) { std::fs::read_link(path).ok() } else { None }
}

pub fn read_link(path: &Path) -> io::Result<PathBuf> {
    bring(path, Need::Name);
    if is_recording() {
        let _ = note_own(path, need::KIND);
        let _ = note_own(path, need::LINK);
    }
    std::fs::read_link(path)
}

/// [`std::fs::canonicalize`]: each link on the way is noted, and for all else on the way that it is not a link.
pub fn canonicalize(path: &Path) -> io::Result<PathBuf> {
    bring(path, Need::Name);
    if !is_recording() {
        return path.canonicalize();
    }
    let traced = trace(path);
    let real = path.canonicalize();
    let agree = match (&traced, &real) {
        (Ok(traced), Ok(real)) => traced == real,
        (Err(traced), Err(real)) => number_of(traced) == number_of(real),
        _ => false,
    };
    if !agree {
        tear();
    }
    real
}

/// As many links as the kernel follows. Source: path_resolution(7).
const MOST_LINKS: usize = 40;

/// Follows a path part by part, and notes each.
fn trace(path: &Path) -> io::Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let mut ahead: Vec<OsString> = parts(&path);
    let mut here = PathBuf::from("/");
    let mut links = 0;
    while let Some(part) = ahead.pop() {
        if part == ".." {
            here.pop();
            continue;
        }
        here.push(&part);
        let seen = note_own(&here, need::KIND).map_err(io::Error::from_raw_os_error)?;
        if !seen.is_link() {
            if !ahead.is_empty() && Kind::of_mode(seen.mode) != Kind::Directory {
                return Err(rustix::io::Errno::NOTDIR.into());
            }
            continue;
        }
        links += 1;
        if links > MOST_LINKS {
            return Err(rustix::io::Errno::LOOP.into());
        }
        let _ = note_own(&here, need::LINK);
        let target = std::fs::read_link(&here)?;
        here.pop();
        if target.is_absolute() {
            here = PathBuf::from("/");
        }
        ahead.extend(parts(&target));
    }
    Ok(here)
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

/// The names in a directory and their kinds, sorted.
/// Errors: As [`std::fs::read_dir`].
pub fn list(path: &Path) -> io::Result<Vec<(OsString, Kind)>> {
    if !is_recording() {
        return list_now(path);
    }
    bring(path, Need::List);
    let before = note_through(path, need::KIND_THROUGH);
    let names = noting(path, list_now(path))?;
    note_digest(path, need::LIST, before, Some(digest_of_list(&names)), None);
    Ok(names)
}

fn list_now(path: &Path) -> io::Result<Vec<(OsString, Kind)>> {
    bring(path, Need::List);
    let mut names = Vec::new();
    for entry in std::fs::read_dir(path)? {
        let entry = entry?;
        names.push((entry.file_name(), Kind::of(entry.file_type()?)));
    }
    names.sort();
    Ok(names)
}

fn digest_of_list(names: &[(OsString, Kind)]) -> Digest {
    let mut hasher = FieldHasher::new("imgbuild witness list v1");
    for (name, kind) in names {
        hasher.field(name.as_bytes()).text(kind.letter());
    }
    hasher.finish()
}

/// The digest of a directory's list, noting nothing.
pub(crate) fn list_digest_now(path: &Path) -> io::Result<Digest> {
    list_now(path).map(|names| digest_of_list(&names))
}

/// The digest of a file's content, noting nothing.
pub(crate) fn digest_now(path: &Path) -> io::Result<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::fs::File::open(path)?)?;
    Ok(Digest(*hasher.finalize().as_bytes()))
}

/// Kind and permission bits of a file and the digest of its content. A file that an earlier recording read is not read
/// again as long as its stamp is the same.
pub fn digest(path: &Path) -> io::Result<(u32, Digest)> {
    noting(path, digest_of_file(path))
}

fn digest_of_file(path: &Path) -> io::Result<(u32, Digest)> {
    bring(path, Need::Content);
    let file = std::fs::File::open(path)?;
    let stamp = Stamp::from_metadata(&file.metadata()?);
    let digest = match known(path, &stamp).0 {
        Some(digest) => digest,
        None => {
            let mut hasher = blake3::Hasher::new();
            hasher.update_reader(file)?;
            Digest(*hasher.finalize().as_bytes())
        }
    };
    if is_recording() {
        note_digest(path, need::CONTENT, Ok(stamp), Some(digest), None);
    }
    Ok((stamp.mode, digest))
}

/// SHA-256 of a file's content, as [`digest`] reads it.
pub fn sha256(path: &Path) -> io::Result<Sha256> {
    noting(path, sha256_of_file(path))
}

fn sha256_of_file(path: &Path) -> io::Result<Sha256> {
    bring(path, Need::Content);
    let mut file = std::fs::File::open(path)?;
    let stamp = Stamp::from_metadata(&file.metadata()?);
    if let (Some(digest), Some(sha256)) = known(path, &stamp) {
        note_digest(path, need::CONTENT, Ok(stamp), Some(digest), Some(sha256));
        return Ok(sha256);
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    let sha256 = Sha256::of(&bytes);
    if is_recording() {
        note_digest(path, need::CONTENT, Ok(stamp), Some(Digest::of(&bytes)), Some(sha256));
    }
    Ok(sha256)
}

pub fn variable(name: &str) -> Option<String> {
    let value = std::env::var(name).ok();
    if is_recording() {
        note_variable(name, value.as_deref());
    }
    value
}

/// What a path leads to; only its kind, and which file it is, is taken for having been looked at.
/// Errors: As [`std::fs::metadata`].
pub(crate) fn metadata_of(path: &Path) -> io::Result<Stamp> {
    bring(path, Need::Name);
    if !is_recording() {
        return look_through(path).map_err(io::Error::from_raw_os_error);
    }
    note_through(path, need::KIND_THROUGH).map_err(io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_any_size_is_not_read_into_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a");
        std::fs::File::create(&path).unwrap().set_len(LARGEST + 1).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        assert_eq!(read_at_most(&path, 8).unwrap(), None);
    }
}
