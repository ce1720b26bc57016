//! Where the bytes of any tree are: a directory, or an archive from any source. Its own package database says what brought them.

use std::collections::{BTreeMap, HashSet};
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use super::{HEAD, SizedFile, owners};
use archive::{Budget, Listed, Unlisted, list_directory, list_packed, over};
use packages::installed;

#[derive(Debug, Default)]
pub struct SizedTree {
    pub files: Vec<SizedFile>,
    pub owners: BTreeMap<String, String>,
    pub has_packages: bool,
    /// Whether it is packed; of a directory the compressed bytes are those that its files take one by one.
    pub is_packed: bool,
}

#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TreeError {
    #[error("cannot read `{}`: {source}", path.display())]
    #[diagnostic(code(size::read))]
    Read { path: PathBuf, source: io::Error },
    #[error("`{}` is neither a directory nor an archive in cpio, tar or squashfs", path.display())]
    #[diagnostic(code(size::unknown), help("{help}"))]
    Unknown { path: PathBuf, help: String },
    #[error("`{}`: {problem}", path.display())]
    #[diagnostic(code(size::database), help("`--by directory` needs no database"))]
    Database { path: PathBuf, problem: String },
}

/// Longest target of a link, in bytes. Source: PATH_MAX, with room.
const LONGEST_LINK: u64 = 1 << 16;

struct Counted(u64);

impl Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[derive(Default)]
struct Reading {
    files: Vec<(SizedFile, f64)>,
    links: BTreeMap<String, String>,
    databases: BTreeMap<String, Vec<u8>>,
    database_bytes: u64,
    /// Most bytes of them, of a file that others wrote.
    most_bytes: Option<u64>,
    /// Files of which another name was read.
    seen: HashSet<(u64, u64)>,
}

impl Reading {
    fn take(&mut self, listed: &Listed, content: &mut dyn Read) -> io::Result<()> {
        if listed.path.is_empty() {
            return Ok(());
        }
        let is_link = listed.mode & 0o170_000 == 0o120_000;
        let mut packer = zstd::stream::Encoder::new(Counted(0), 1)?;
        let mut raw = 0;
        let bytes = self.database_bytes.saturating_add(listed.size);
        let is_database = installed::is_database_file(&listed.path) && !is_link;
        if let Some(most) = self.most_bytes.filter(|most| is_database && bytes > *most) {
            return Err(over(most, "bytes of package databases"));
        }
        let has_room = bytes <= installed::LONGEST_DATABASE;
        if is_database && has_room {
            let mut bytes = Vec::new();
            content.take(listed.size).read_to_end(&mut bytes)?;
            self.database_bytes += listed.size;
            raw = bytes.len() as u64;
            packer.write_all(&bytes)?;
            self.databases.insert(listed.path.clone(), bytes);
        } else if is_link {
            let mut target = listed.target.clone().unwrap_or_default();
            content.take(LONGEST_LINK).read_to_string(&mut target).unwrap_or_default();
            raw = target.len() as u64;
            if !listed.path.contains('/') {
                self.links.insert(listed.path.clone(), target.trim_start_matches('/').to_owned());
            }
        } else if listed.mode & 0o170_000 == 0o100_000 {
            raw = io::copy(content, &mut packer)?;
        }
        let alone = if raw == 0 { 0.0 } else { packer.finish()?.0 as f64 };
        let file = SizedFile { path: listed.path.clone(), raw, packed: 0.0 };
        self.files.push((file, HEAD + alone));
        Ok(())
    }
}

/// Reads a directory or an archive; what is mounted in a directory is not of it.
pub fn sized_tree(path: &Path) -> Result<SizedTree, TreeError> {
    let said = |source: io::Error| TreeError::Read { path: path.to_owned(), source };
    let mut reading = Reading::default();
    let found = std::fs::metadata(path).map_err(said)?;
    let mut whole = None;
    if found.is_dir() {
        of_directory(path, &mut reading).map_err(said)?;
    } else {
        whole = Some(found.len());
        of_archive(path, &mut reading)?;
    }
    let database = installed::read(&reading.databases)
        .map_err(|problem| TreeError::Database { path: path.to_owned(), problem })?;
    let packages = database.iter().flat_map(|found| &found.packages);
    let files = packages.flat_map(|one| one.files.iter().map(move |file| (one.name.as_str(), file.path.as_str())));
    let owners = owners(files, &reading.links);
    let sum: f64 = reading.files.iter().map(|(_, weight)| weight).sum();
    // The shares of an archive add up to its bytes.
    let scale = whole.map_or(1.0, |whole| whole as f64 / sum.max(1.0));
    let mut files: Vec<SizedFile> =
        reading.files.into_iter().map(|(file, weight)| SizedFile { packed: weight * scale, ..file }).collect();
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(SizedTree { files, owners, has_packages: database.is_some(), is_packed: whole.is_some() })
}

fn of_archive(path: &Path, reading: &mut Reading) -> Result<(), TreeError> {
    let said = |source: io::Error| TreeError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(said)?;
    reading.most_bytes = Some(Budget::of_file(&file).map_err(said)?.texts());
    let unknown = |help: String| TreeError::Unknown { path: path.to_owned(), help };
    match list_packed(&file, &mut |listed, content| reading.take(listed, content)) {
        Ok(_) => Ok(()),
        Err(Unlisted::Io(error)) => Err(said(error)),
        Err(Unlisted::FileSystem(kind)) => {
            Err(unknown(format!("mount the {kind} (mount -o loop,ro FILE DIR) and name the directory")))
        }
        Err(Unlisted::Unknown) => {
            Err(unknown("name a directory, or an archive: rootimg.cpio.gz, rootimg.tar.xz".to_owned()))
        }
    }
}

fn of_directory(path: &Path, reading: &mut Reading) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let device = std::fs::metadata(path)?.dev();
    let mut keep = |entry: &walkdir::DirEntry| {
        !entry.file_type().is_dir() || entry.metadata().is_ok_and(|found| found.dev() == device)
    };
    list_directory(path, &mut keep, &mut |listed, content| {
        let found = std::fs::symlink_metadata(path.join(&listed.path));
        if let Ok(found) = found.as_ref()
            && found.is_file()
            && found.nlink() > 1
            && !reading.seen.insert((found.dev(), found.ino()))
        {
            // One more name costs no more than its head.
            return reading.take(&Listed { size: 0, ..listed.clone() }, &mut io::empty());
        }
        reading.take(listed, content)
    })
}
