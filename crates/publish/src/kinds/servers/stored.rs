//! The files of a build, in a directory or on a server of files: below `NAME/BUILD/`, so that no file is ever another one, and before any
//! document that names them.

use std::fs::File as OpenFile;
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use base::digest::Sha256;
use files::Durability;
use files::shared::Shared;
use packages::{DistroError, Fetcher, pause};
use rustix::fs::OFlags;
use serde_json::json;
use sha2::Digest as _;

use crate::lay::make_directory;
use crate::{Change, Error, File, Report};

/// Written last: files without it are the rest of a publication that was killed.
const SEAL: &str = "imgbuild.json";
const SEAL_LIMIT: u64 = 1 << 20;
const TRIES: u32 = 4;
const PIECE: usize = 1 << 20;

/// Where files go.
#[derive(Debug)]
pub(in crate::kinds) enum Store {
    /// It may belong to a server's account: nothing in it is reached through links, and only regular files are read.
    Directory(PathBuf),
    /// An address that takes PUT, and how it may stand in a message.
    Server { url: String, fetcher: Box<Fetcher> },
}

/// A file of the build and its name there.
#[derive(Debug)]
pub(in crate::kinds) struct Published<'a> {
    pub name: String,
    pub file: &'a File,
}

impl Store {
    pub(in crate::kinds) fn server(url: &str) -> Self {
        Self::Server { url: url.to_owned(), fetcher: Box::default() }
    }

    fn place(&self, folder: &str, name: &str) -> String {
        match self {
            Self::Directory(directory) => directory.join(folder).join(name).display().to_string(),
            Self::Server { url, .. } => format!("{url}/{folder}/{name}"),
        }
    }

    /// What putting files into a folder would change.
    /// Errors: [`Error`].
    pub(in crate::kinds) fn compare(
        &self,
        folder: &str,
        files: &[Published<'_>],
        report: &mut Report,
    ) -> Result<Vec<bool>, Error> {
        let is_sealed =
            self.seal(folder)?.is_some_and(|text| text == seal_of(files)) || fault::planted("publish-unsealed");
        let shared = match self {
            Self::Directory(directory) => open(directory)?,
            Self::Server { .. } => None,
        };
        let mut missing = Vec::new();
        for one in files {
            let change = match self {
                Self::Directory(_) => match &shared {
                    Some(shared) => compare_file(shared, &format!("{folder}/{}", one.name), one.file)?,
                    None => Change::New,
                },
                Self::Server { url, fetcher } => {
                    let url = format!("{url}/{folder}/{}", one.name);
                    let has = fetcher.has(&url).map_err(|problem| not_said(&url, problem.to_string()))?;
                    if has && is_sealed { Change::Unchanged } else { Change::New }
                }
            };
            report.add(self.place(folder, &one.name), change);
            missing.push(change != Change::Unchanged);
        }
        Ok(missing)
    }

    /// Puts the files into a folder that are not there; those that are there stay.
    /// Errors: [`Error`]; no document names the files then.
    pub(in crate::kinds) fn put(
        &self,
        folder: &str,
        files: &[Published<'_>],
        report: &mut Report,
    ) -> Result<(), Error> {
        if let Self::Directory(directory) = self {
            make_directory(directory)?;
        }
        let missing = self.compare(folder, files, report)?;
        let shared = match self {
            Self::Directory(directory) => open(directory)?,
            Self::Server { .. } => None,
        };
        for (one, is_missing) in files.iter().zip(missing) {
            if !is_missing {
                continue;
            }
            match self {
                Self::Directory(directory) => {
                    let shared = shared.as_ref().ok_or_else(|| io("open", directory, ErrorKind::NotFound.into()))?;
                    copy(one.file, shared, &format!("{folder}/{}", one.name))?;
                }
                Self::Server { url, fetcher } => {
                    check(one.file)?;
                    send(fetcher, &format!("{url}/{folder}/{}", one.name), &one.file.path)?;
                }
            }
        }
        fault::point("publish.files");
        let text = seal_of(files);
        match self {
            Self::Directory(directory) => {
                let shared = shared.as_ref().ok_or_else(|| io("open", directory, ErrorKind::NotFound.into()))?;
                let name = format!("{folder}/{SEAL}");
                write(shared, &name, &mut |file| file.write_all(text.as_bytes()))
                    .map_err(|source| io("write", &shared.path().join(&name), source))
            }
            Self::Server { url, fetcher } => {
                let mut aside =
                    tempfile::NamedTempFile::new().map_err(|source| io("write", &std::env::temp_dir(), source))?;
                aside.write_all(text.as_bytes()).map_err(|source| io("write", aside.path(), source))?;
                send(fetcher, &format!("{url}/{folder}/{SEAL}"), aside.path())
            }
        }
    }

    fn seal(&self, folder: &str) -> Result<Option<String>, Error> {
        let Self::Server { url, fetcher } = self else { return Ok(None) };
        let url = format!("{url}/{folder}/{SEAL}");
        match fetcher.read(&url, SEAL_LIMIT) {
            Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
            Err(DistroError::NotThere { .. }) => Ok(None),
            Err(problem) => Err(not_said(&url, problem.to_string())),
        }
    }
}

fn not_said(url: &str, problem: String) -> Error {
    let help = "check the address and the credentials (docs/cache.md has the variables of buckets)".to_owned();
    Error::Server { url: url.to_owned(), problem, help }
}

fn io(intent: &'static str, path: &Path, source: std::io::Error) -> Error {
    Error::Io { intent, path: path.to_owned(), source }
}

/// Names, sizes and digests.
fn seal_of(files: &[Published<'_>]) -> String {
    let all: Vec<_> = files
        .iter()
        .map(|one| json!({"name": one.name, "size": one.file.size, "sha256": one.file.sha256.to_string()}))
        .collect();
    format!("{:#}\n", json!({"format": 1, "files": all}))
}

/// A directory of a server's account, if it is there.
fn open(directory: &Path) -> Result<Option<Shared>, Error> {
    match Shared::for_service(directory) {
        Ok(shared) => Ok(Some(shared)),
        Err(problem) if problem.kind() == ErrorKind::NotFound => Ok(None),
        Err(source) => Err(io("open", directory, source)),
    }
}

fn write(
    shared: &Shared,
    name: &str,
    fill: &mut dyn FnMut(&mut OpenFile) -> std::io::Result<()>,
) -> std::io::Result<()> {
    shared.write(name, (0o755, 0o644), Durability::PowerCut, fill)
}

/// Reads a file of the build whole; gives its digest and how many bytes it has.
fn read(path: &Path, sink: impl FnMut(&[u8]) -> std::io::Result<()>) -> std::io::Result<(Sha256, u64)> {
    let file = OpenFile::options().read(true).custom_flags(OFlags::NONBLOCK.bits().cast_signed()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is not a file"));
    }
    read_opened(file, sink)
}

fn read_opened(
    mut file: impl Read,
    mut sink: impl FnMut(&[u8]) -> std::io::Result<()>,
) -> std::io::Result<(Sha256, u64)> {
    let (mut hash, mut size, mut piece) = (sha2::Sha256::new(), 0, vec![0; PIECE]);
    loop {
        let count = file.read(&mut piece)?;
        if count == 0 {
            return Ok((Sha256(hash.finalize().into()), size));
        }
        hash.update(&piece[..count]);
        size += count as u64;
        sink(&piece[..count])?;
    }
}

fn damaged(file: &File) -> Error {
    Error::Damaged {
        path: file.path.parent().unwrap_or(&file.path).to_owned(),
        file: file.name.clone(),
        problem: "has other bytes than build.json says".to_owned(),
    }
}

/// Whether a file of the build is as build.json says.
fn check(file: &File) -> Result<(), Error> {
    let (sha256, size) = read(&file.path, |_| Ok(())).map_err(|source| io("read", &file.path, source))?;
    if (sha256, size) == (file.sha256, file.size) { Ok(()) } else { Err(damaged(file)) }
}

fn compare_file(shared: &Shared, name: &str, file: &File) -> Result<Change, Error> {
    let path = || shared.path().join(name);
    let Some(there) = shared.file(name).map_err(|source| io("read", &path(), source))? else { return Ok(Change::New) };
    // A larger one is another one, however large it is.
    let read = read_opened(there.take(file.size.saturating_add(1)), |_| Ok(()));
    let (sha256, _) = read.map_err(|source| io("read", &path(), source))?;
    Ok(if sha256 == file.sha256 { Change::Unchanged } else { Change::Drift })
}

fn copy(file: &File, shared: &Shared, name: &str) -> Result<(), Error> {
    let mut is_damaged = false;
    let done = write(shared, name, &mut |to| {
        let (sha256, size) = read(&file.path, |bytes| to.write_all(bytes))?;
        is_damaged = (sha256, size) != (file.sha256, file.size);
        if is_damaged { Err(ErrorKind::InvalidData.into()) } else { Ok(()) }
    });
    match done {
        Err(_) if is_damaged => Err(damaged(file)),
        done => done.map_err(|source| io("write", &shared.path().join(name), source)),
    }
}

/// A file to a server, again where it breaks off or is busy.
fn send(fetcher: &Fetcher, url: &str, path: &Path) -> Result<(), Error> {
    let mut last = String::new();
    for attempt in 0..TRIES {
        pause(attempt);
        match fetcher.put(url, path, &|_| ()) {
            Ok(()) => return Ok(()),
            Err(not_put) => {
                last = not_put.problem;
                if not_put.is_refused {
                    break;
                }
            }
        }
    }
    Err(not_said(url, last))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_directory_of_another_account_leads_nowhere_and_holds_no_one_up() {
        let place = tempfile::tempdir().unwrap();
        let at = |name: &str| place.path().join(name);
        std::fs::write(at("kernel"), "a kernel").unwrap();
        let bytes = b"a kernel";
        let file =
            File { name: "kernel".to_owned(), path: at("kernel"), size: bytes.len() as u64, sha256: Sha256::of(bytes) };
        let files = [Published { name: "vmlinuz".to_owned(), file: &file }];
        let store = Store::Directory(at("repo"));
        let put = |report: &mut Report| store.put("compute/b1", &files, report);
        put(&mut Report::default()).unwrap();
        assert_eq!(std::fs::read(at("repo/compute/b1/vmlinuz")).unwrap(), bytes);
        // What the account could plant.
        std::fs::create_dir(at("outside")).unwrap();
        for plant in 0..3 {
            std::fs::remove_dir_all(at("repo")).unwrap();
            std::fs::create_dir_all(at("repo/compute/b1")).unwrap();
            match plant {
                0 => {
                    std::fs::remove_dir_all(at("repo/compute")).unwrap();
                    symlink(at("outside"), at("repo/compute")).unwrap();
                }
                1 => symlink(at("kernel"), at("repo/compute/b1/vmlinuz")).unwrap(),
                _ => {
                    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
                    rustix::fs::mknodat(rustix::fs::CWD, at("repo/compute/b1/vmlinuz"), kind, mode, 0).unwrap();
                }
            }
            assert!(store.compare("compute/b1", &files, &mut Report::default()).is_err(), "{plant}");
            assert!(put(&mut Report::default()).is_err(), "{plant}");
        }
        assert_eq!(std::fs::read_dir(at("outside")).unwrap().count(), 0);
        std::fs::remove_dir_all(at("repo")).unwrap();
        std::fs::write(at("kernel"), "a kerneL").unwrap();
        assert!(matches!(put(&mut Report::default()), Err(Error::Damaged { .. })));
        assert!(!at("repo/compute/b1/vmlinuz").exists());
    }
}
