//! Files of a directory that may come from elsewhere: nothing leads out of it, and none is read without end.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, Mode, OFlags, openat};

use crate::image::TEXT_LIMIT;

/// A directory, opened: its files are reached through it, and never through a link.
#[derive(Debug)]
pub struct Directory {
    inner: OwnedFd,
    path: PathBuf,
}

impl Directory {
    /// Opens a directory; a link on the way to it is followed.
    /// Errors: Those of the operating system.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { inner: openat(CWD, path, flags, Mode::empty())?, path: path.to_owned() })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens a file to read.
    /// Errors: Those of the operating system; `InvalidInput` for what is not a regular file.
    pub fn file(&self, name: &str) -> io::Result<File> {
        regular(&self.inner, name)
    }

    /// Reads a file of a bounded size.
    /// Errors: As [`Directory::file`]; `InvalidData` for a longer one.
    pub fn text(&self, name: &str) -> io::Result<Vec<u8>> {
        bounded(self.file(name)?)
    }

    /// Names of its files, sorted.
    /// Errors: Those of the operating system.
    pub fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in rustix::fs::Dir::read_from(&self.inner)? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
        names.retain(|name| name != "." && name != "..");
        names.sort();
        Ok(names)
    }
}

/// Opens a regular file, and nothing else: no link, no pipe, no device.
fn regular(at: impl AsFd, path: impl rustix::path::Arg) -> io::Result<File> {
    use rustix::io::Errno;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let odd = || io::Error::new(io::ErrorKind::InvalidInput, "it is not a regular file");
    let file = match openat(at, path, flags, Mode::empty()) {
        // A link; a socket, or a device that is not there.
        Err(Errno::LOOP | Errno::NXIO) => return Err(odd()),
        other => File::from(other?),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(odd()) }
}

fn bounded(file: File) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    file.take(TEXT_LIMIT + 1).read_to_end(&mut text)?;
    match text.len() as u64 > TEXT_LIMIT {
        true => Err(io::Error::new(io::ErrorKind::InvalidData, format!("the limit is {TEXT_LIMIT} bytes"))),
        false => Ok(text),
    }
}

/// Reads a file that somebody names, as [`Directory::text`] reads one of a directory.
/// Errors: Those of [`Directory::text`].
pub fn text_of(path: &Path) -> io::Result<Vec<u8>> {
    bounded(regular(CWD, path)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_file_that_is_named_a_regular_one_is_read_alone() {
        let directory = tempfile::tempdir().unwrap();
        let kernel = directory.path().join("kernel");
        std::fs::write(&kernel, "kernel").unwrap();
        assert_eq!(text_of(&kernel).unwrap(), b"kernel");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("kernel", &link).unwrap();
        let long = directory.path().join("long");
        File::create(&long).unwrap().set_len(TEXT_LIMIT + 1).unwrap();
        for (path, kind) in [
            (link.as_path(), io::ErrorKind::InvalidInput),
            (directory.path(), io::ErrorKind::InvalidInput),
            (Path::new("/dev/zero"), io::ErrorKind::InvalidInput),
            (long.as_path(), io::ErrorKind::InvalidData),
        ] {
            assert_eq!(text_of(path).unwrap_err().kind(), kind, "{path:?}");
        }
    }
}
