//! Reading an image.lock: where it is, what may be wrong with it, and at which place.

use std::io::ErrorKind;
use std::path::Path;

use miette::Diagnostic;
use serde::Deserialize;
use thiserror::Error;

use super::file::{LOCK_FORMAT, LOCK_MINOR, Lock, SAYS_BESIDE};
use super::installed::is_kernel_name;
use super::places::{LockItem, LockPlaces};
use crate::Family;
use crate::front::schema::{schema_value_of, without_unknown};
use base::format::{Newer, Version};
use base::source::{Finding, Severity, SourceFile, Span};

/// Last second of the year 9999, since 1970: later times have no date in four digits.
const LAST_EPOCH: i64 = 253_402_300_799;

#[derive(Debug, Error, Diagnostic)]
pub enum LockError {
    #[error("{lock} cannot be read: {problem}")]
    #[diagnostic(
        code(lock::format),
        help(
            "it is written by imgbuild and not meant for editing: restore it from git, or delete it to resolve all packages again"
        )
    )]
    Format {
        /// Name of the file, with line and column where they are known.
        lock: String,
        problem: String,
        /// Byte of the text where it is wrong.
        at: Option<usize>,
    },
    #[error("{lock} has both sides of a git conflict")]
    #[diagnostic(
        code(lock::conflict),
        help(
            "keep one side entirely, the one whose users and groups are in use on nodes: `git checkout --ours {lock}`, or --theirs; then `imgbuild build` adds what else the recipe needs, and the numbers stay the same"
        )
    )]
    Conflict {
        lock: String,
        /// Byte of the text where it begins.
        at: usize,
    },
    #[error(transparent)]
    #[diagnostic(transparent)]
    Newer(#[from] Newer),
}

impl LockError {
    fn format(name: &str, text: &str, at: Option<usize>, problem: impl Into<String>) -> Self {
        let place = at.map(|at| {
            let (line, column) = SourceFile::new(name, name, text).position(at);
            format!(":{line}:{column}")
        });
        Self::Format { lock: format!("{name}{}", place.unwrap_or_default()), problem: problem.into(), at }
    }

    /// The same as a finding in the lock at a path, which messages call by its name.
    pub fn finding(&self, name: &str, path: &Path) -> Finding {
        let help = self.help().map(|help| help.to_string()).unwrap_or_default();
        let finding = match self {
            Self::Format { problem, at: Some(at), .. } => {
                let bytes = witness::read(path).unwrap_or_default();
                let file = SourceFile::new(name, path, String::from_utf8_lossy(&bytes));
                Finding::error(
                    "lock::format",
                    &Span::new(&file, *at..*at),
                    format!("the lock cannot be read: {problem}"),
                )
            }
            Self::Conflict { at, .. } => {
                let bytes = witness::read(path).unwrap_or_default();
                let file = SourceFile::new(name, path, String::from_utf8_lossy(&bytes));
                Finding::error(
                    "lock::conflict",
                    &Span::new(&file, *at..*at),
                    "the lock has both sides of a git conflict",
                )
            }
            Self::Format { .. } => Finding::nowhere(Severity::Error, "lock::format", self.to_string()),
            Self::Newer(_) => Finding::nowhere(Severity::Error, "format::newer", self.to_string()),
        };
        finding.help(help)
    }
}

impl Lock {
    /// Reads the lock at a path, which messages call by its name; none where there is no such file.
    /// Errors: [`LockError`]: something else is there, it cannot be read, or its text is not one that [`Lock::to_text`] writes.
    pub fn read(path: &Path, name: &str) -> Result<Option<Self>, LockError> {
        if let Some(problem) = witness::not_a_file(path) {
            return Err(LockError::format(name, "", None, format!("it {problem}")));
        }
        match witness::read(path) {
            Ok(bytes) => Self::parse_bytes(name, bytes).map(Some),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(LockError::format(name, "", None, error.to_string())),
        }
    }

    /// Reads a lock's bytes; messages call the file by its name.
    /// Errors: As [`Lock::parse`].
    pub fn parse_bytes(name: &str, bytes: Vec<u8>) -> Result<Self, LockError> {
        match String::from_utf8(bytes) {
            Ok(text) => Self::parse_as(name, &text),
            Err(error) => {
                let at = error.utf8_error().valid_up_to();
                let before = String::from_utf8_lossy(error.as_bytes().get(..at).unwrap_or_default());
                Err(LockError::format(name, &before, Some(at), "this byte is not UTF-8"))
            }
        }
    }

    /// Reads a lock's text.
    /// Errors: [`LockError`] for anything that [`Lock::to_text`] does not write.
    pub fn parse(text: &str) -> Result<Self, LockError> {
        Self::parse_as(crate::LOCK_FILE, text)
    }

    /// The same; messages call the file by its name.
    /// Errors: As [`Lock::parse`].
    pub fn parse_as(name: &str, text: &str) -> Result<Self, LockError> {
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            #[serde(default)]
            minor: u32,
            needs_imgbuild: Option<String>,
        }
        let said = |at: Option<usize>, problem: String| LockError::format(name, text, at, problem);
        // No line of a lock begins like that.
        if let Some(at) = text.starts_with("<<<<<<< ").then_some(0).or_else(|| text.find("\n<<<<<<< ").map(|at| at + 1))
        {
            return Err(LockError::Conflict { lock: name.to_owned(), at });
        }
        let no_lock = |error: ::toml::de::Error| said(error.span().map(|span| span.start), error.message().to_owned());
        let head: Head = ::toml::from_str(text).map_err(no_lock)?;
        let found = Version::new(head.format, head.minor);
        Version::new(LOCK_FORMAT, LOCK_MINOR).reads(name, found, head.needs_imgbuild.as_deref())?;
        let mut lock: Self = if head.format == LOCK_FORMAT && head.minor > LOCK_MINOR {
            let mut document: serde_json::Value = ::toml::from_str(text).map_err(no_lock)?;
            without_unknown(&mut document, &schema_value_of::<Self>());
            // What is left is of the form that is known, and is written as such.
            document["minor"] = LOCK_MINOR.into();
            serde_json::from_value(document).map_err(|error| said(None, error.to_string()))?
        } else {
            ::toml::from_str(text).map_err(no_lock)?
        };
        if !(0..=LAST_EPOCH).contains(&lock.epoch) {
            let at = LockPlaces::of(text).offset(LockItem::Epoch);
            let problem = format!("the epoch {} is not a time from 1970 to the end of the year 9999", lock.epoch);
            return Err(said(at, problem));
        }
        for (pass, package) in lock.pass.iter().flat_map(|pass| pass.packages.iter().map(move |one| (pass, one))) {
            let plain = |text: &str| !text.is_empty() && !text.contains(['\n', '\0']) && !text.contains("..");
            if !plain(&package.file)
                || package.file.starts_with('/')
                || package.file_name().contains('/')
                || !plain(&package.name)
            {
                let problem = format!("the package `{}` has a path that escapes its root", package.name);
                let item = LockItem::Package { pass: &pass.name, name: &package.name };
                return Err(said(LockPlaces::of(text).offset(item), problem));
            }
        }
        let mut releases = lock.pass.iter().flat_map(|pass| &pass.kernel_releases);
        if let Some(release) = releases.find(|one| !one.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'/')) {
            let problem = format!("`{}` is not a kernel release", release.escape_default());
            return Err(said(LockPlaces::of(text).offset(LockItem::Release(release)), problem));
        }
        if lock.minor < SAYS_BESIDE && lock.family() != Family::Debian {
            // As it was installed before the lock said it.
            for package in lock.pass.iter_mut().flat_map(|pass| &mut pass.packages) {
                package.beside = is_kernel_name(&package.name);
            }
        }
        Ok(lock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(bytes: &[u8]) -> String {
        Lock::parse_bytes("a/image.lock", bytes.to_vec()).unwrap_err().to_string()
    }

    #[test]
    fn what_is_wrong_has_line_and_column() {
        assert_eq!(
            said(b"format = 1\nepoch = \"x\"\n"),
            "a/image.lock:2:9 cannot be read: invalid type: string \"x\", expected i64"
        );
        assert_eq!(said("# é\nab é\n".as_bytes()).split(' ').next(), Some("a/image.lock:2:4"));
        assert_eq!(said(b"# a\n# \xc3\xa9\xff"), "a/image.lock:2:4 cannot be read: this byte is not UTF-8");
    }

    #[test]
    fn an_epoch_is_a_time_that_dates_can_say() {
        let lock = |epoch: i64| {
            Lock::parse(&format!("format = 1\nepoch = {epoch}\ntarget = \"debian\"\nsuite = []\npass = []\n"))
        };
        for epoch in [0, 1_700_000_000, LAST_EPOCH] {
            assert_eq!(lock(epoch).unwrap().epoch, epoch);
        }
        for epoch in [-1, LAST_EPOCH + 1, i64::MIN, i64::MAX] {
            let problem = lock(epoch).unwrap_err().to_string();
            assert!(problem.starts_with("image.lock:2:1 cannot be read: the epoch"), "{problem}");
        }
    }
}
