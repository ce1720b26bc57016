//! Files of the build host as actions use them: what their keys say, or nothing.
//!
//! A key is made minutes before its action runs. Whatever is read of the host then goes through here, once, and its digest and mode
//! are compared with the key's: a file that someone edits during a build ends the build, and no record names what it became.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::Bench;
use crate::digest::Digest;
use crate::plan::{Action, Input, counted_mode};
use crate::stage::StageError;
use crate::store::Store;

pub struct Taken {
    /// Path of the content, relative to the store's directory.
    pub blob: String,
    /// Permission bits that count.
    pub mode: u32,
}

/// Whether an action's key has a file with this content and mode.
fn is_in_key(action: &Action, name: &str, mode: u32, digest: &Digest) -> bool {
    let now = Input::file(name, mode, digest);
    action.inputs.iter().any(|input| (&input.name, &input.value) == (&now.name, &now.value))
}

fn changed(name: &str) -> StageError {
    StageError::Changed { file: name.to_owned() }
}

fn mode_of(file: &std::fs::File) -> std::io::Result<u32> {
    file.metadata().map(|found| counted_mode(found.mode()))
}

/// Mode and content of a file as an action's key has them.
fn in_key(action: &Action, name: &str) -> Option<(u32, Digest)> {
    let name = format!("file {name}");
    let input = action.inputs.iter().find(|input| input.name == name)?;
    let (mode, digest) = input.value.split_once(' ')?;
    Some((u32::from_str_radix(mode, 8).ok()?, Digest::parse(digest).ok()?))
}

/// Has in the store what an action's key names as `file NAME`. Where it is there already, the file itself is not looked at again: what
/// it became since then belongs to the next build. The one who uses the content compares it with its name.
/// Errors: As [`take`].
pub fn take_once(bench: &Bench<'_>, action: &Action, name: &str, path: &Path) -> Result<Taken, StageError> {
    match in_key(action, name).filter(|(_, digest)| bench.store.blob(digest).is_file()) {
        Some((mode, digest)) => Ok(Taken { blob: Store::blob_name(&digest), mode }),
        None => take(bench, action, name, path),
    }
}

/// Keeps a copy of a file that an action's key names as `file NAME`.
/// Errors: [`StageError::Changed`] where it is no longer what the key says, [`StageError::Input`] where it cannot be read.
pub fn take(bench: &Bench<'_>, action: &Action, name: &str, path: &Path) -> Result<Taken, StageError> {
    let said = |source| StageError::Input { file: name.to_owned(), source };
    let mode = std::fs::File::open(path).and_then(|file| mode_of(&file)).map_err(said)?;
    let digest = bench.store.ensure_blob_of(path)?.digest;
    if !is_in_key(action, name, mode, &digest) {
        return Err(changed(name));
    }
    Ok(Taken { blob: Store::blob_name(&digest), mode })
}

/// Reads a small file that an action's key names as `file NAME`; gives its mode, too.
/// Errors: As [`take`].
pub fn take_bytes(action: &Action, name: &str, path: &Path) -> Result<(Vec<u8>, u32), StageError> {
    let said = |source| StageError::Input { file: name.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(said)?;
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).map_err(said)?;
    let mode = mode_of(&file).map_err(said)?;
    if !is_in_key(action, name, mode, &Digest::of(&bytes)) {
        return Err(changed(name));
    }
    Ok((bytes, mode))
}

/// The same of a text.
/// Errors: As [`take`].
pub fn take_text(action: &Action, name: &str, path: &Path) -> Result<String, StageError> {
    let said = |source| StageError::Input { file: name.to_owned(), source };
    let (bytes, _) = take_bytes(action, name, path)?;
    String::from_utf8(bytes).map_err(|error| said(std::io::Error::new(std::io::ErrorKind::InvalidData, error)))
}
