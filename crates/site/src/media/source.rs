//! Reading a medium without mounting it.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use archive::{Member, MemberKind, read_iso};

use super::identify::LOOKED_AT;

/// Largest file that says what a medium is, in bytes.
const TEXT_LIMIT: u64 = 1 << 20;

pub(super) enum Source {
    /// An image, in a file or on a device.
    Image(PathBuf),
    Directory(PathBuf),
}

pub(super) enum Found<'a> {
    /// A file: its path here where it has one, its bytes, its content.
    File(Option<&'a Path>, u64, &'a mut dyn Read),
    Link(String),
}

pub(super) type Take<'t> = dyn FnMut(&str, Found<'_>) -> Result<(), String> + 't;

impl Source {
    pub(super) fn open(path: &Path) -> std::io::Result<Self> {
        let metadata = std::fs::metadata(path)?;
        Ok(if metadata.is_dir() { Self::Directory(path.to_owned()) } else { Self::Image(path.to_owned()) })
    }

    /// Visits all that is on it.
    /// Errors: A text for a damaged medium, or what `take` says.
    pub(super) fn walk(&self, take: &mut Take<'_>) -> Result<(), String> {
        match self {
            Self::Image(path) => {
                let mut file = File::open(path).map_err(|error| error.to_string())?;
                read_iso(&mut file, &mut |member: Member<'_>| match member.kind {
                    MemberKind::File(content) => {
                        take(&member.path, Found::File(None, member.size.unwrap_or_default(), content))
                    }
                    MemberKind::Symlink(target) => take(&member.path, Found::Link(target)),
                })
            }
            Self::Directory(root) => {
                for entry in walkdir::WalkDir::new(root).sort_by_file_name() {
                    let entry = entry.map_err(|error| error.to_string())?;
                    let below = entry.path().strip_prefix(root).unwrap_or(entry.path());
                    let Some(name) = below.to_str() else { continue };
                    if entry.file_type().is_symlink() {
                        let target = std::fs::read_link(entry.path()).map_err(|error| error.to_string())?;
                        take(name, Found::Link(target.to_string_lossy().into_owned()))?;
                    } else if entry.file_type().is_file() {
                        let said = |error: std::io::Error| format!("`{name}` cannot be read: {error}");
                        let mut file = File::open(entry.path()).map_err(said)?;
                        let size = file.metadata().map_err(said)?.len();
                        take(name, Found::File(Some(entry.path()), size, &mut file))?;
                    }
                }
                Ok(())
            }
        }
    }

    /// The texts that say what it is, and the bytes of all its files.
    pub(super) fn look(&self) -> Result<(BTreeMap<String, String>, u64), String> {
        let mut texts = BTreeMap::new();
        let mut bytes = 0;
        self.walk(&mut |path, found| {
            let Found::File(_, size, content) = found else { return Ok(()) };
            bytes += size;
            if LOOKED_AT.contains(&path) && size <= TEXT_LIMIT {
                let mut text = Vec::new();
                content.take(TEXT_LIMIT).read_to_end(&mut text).map_err(|error| format!("`{path}`: {error}"))?;
                texts.insert(path.to_owned(), String::from_utf8_lossy(&text).into_owned());
            }
            Ok(())
        })?;
        Ok((texts, bytes))
    }
}
