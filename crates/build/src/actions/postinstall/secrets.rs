//! Secrets and identities that scripts make by chance: those that nodes make for themselves are taken out, others are reported. Runs inside.

use std::path::Path;

use rustix::fs::{CWD, FileType, Mode};

use super::recipe_tree::{Shown, ShownAs};
use crate::actions::pack::secrets::{LARGEST, looks_secret};
use base::digest::Digest;
use packages::{Maker, SECRETS};
use recipe::owners::private::fits;
use store::{Kind, LayerReader, TreeEditor};

/// The machine's identity, which the system layer leaves empty, and dbus's name for it.
const MACHINE_ID: &str = "etc/machine-id";
const DBUS_MACHINE_ID: &str = "var/lib/dbus/machine-id";

/// A declared input that is searched for what a file says, in bytes.
const SEARCHED: u64 = 1 << 20;
/// Something shorter may be anywhere, in bytes.
const LEAST: usize = 8;

/// Paths of what scripts made.
#[derive(Debug, Default)]
pub(super) struct Settled {
    /// Taken out: nodes make their own.
    pub removed: Vec<String>,
    /// What looks like a secret, and stays.
    pub secret: Vec<String>,
}

/// What the scripts were given, where they saw it.
pub(super) struct Given<'a> {
    pub shown: &'a [Shown],
    /// The recipe's directory, and that of inputs with absolute paths.
    pub directories: (&'a str, &'a str),
    pub variables: &'a [(String, String)],
    /// Patterns of paths that the recipe keeps.
    pub keep: &'a [String],
}

impl Given<'_> {
    /// Whether content comes from a file, a script or a variable of the recipe: it is no chance then.
    fn has(&self, bytes: &[u8]) -> bool {
        let (recipe, elsewhere) = self.directories;
        let text = bytes.trim_ascii();
        let is_in = |whole: &[u8]| text.len() >= LEAST && whole.windows(text.len()).any(|part| part == text);
        let of_file = |shown: &Shown| {
            let ShownAs::File(..) = shown.what else { return false };
            let path = match shown.place.starts_with('/') {
                true => format!("{elsewhere}{}", shown.place),
                false => format!("{recipe}/{}", shown.place),
            };
            let size = std::fs::metadata(&path).map_or(u64::MAX, |found| found.len());
            let may_be = size == bytes.len() as u64 || size <= SEARCHED;
            may_be && std::fs::read(path).is_ok_and(|other| other == bytes || is_in(&other))
        };
        self.variables.iter().any(|(_, value)| is_in(value.as_bytes())) || self.shown.iter().any(of_file)
    }

    fn keeps(&self, path: &str) -> bool {
        self.keep.iter().any(|pattern| fits(pattern.trim_start_matches('/'), path))
    }
}

/// Takes identities out of the tree that scripts wrote over layers, and finds what looks like a secret. What the recipe gave or keeps, and
/// what the layers below have, stays. `is_whole` says that the tree has what is below, too.
/// Errors: A text with the path that could not be read or changed.
pub(super) fn settle(
    (tree, is_whole): (&str, bool),
    base: &LayerReader,
    given: &Given<'_>,
    editor: &TreeEditor,
) -> Result<Settled, String> {
    let mut settled = Settled::default();
    let walk = walkdir::WalkDir::new(tree).sort_by_file_name();
    for entry in walk.into_iter().flatten().filter(|entry| entry.file_type().is_file()) {
        let Some(path) = entry.path().strip_prefix(tree).ok().and_then(Path::to_str) else { continue };
        let Ok(metadata) = entry.metadata() else { continue };
        let mode = std::os::unix::fs::MetadataExt::mode(&metadata);
        let known = SECRETS.iter().find(|secret| fits(secret.pattern, path));
        let is_identity = path == MACHINE_ID;
        if (known.is_none() && !is_identity && mode & 0o004 != 0) || metadata.len() == 0 || path.contains('*') {
            continue;
        }
        if metadata.len() > LARGEST {
            continue;
        }
        let bytes = std::fs::read(entry.path()).map_err(|error| format!("cannot read /{path}: {error}"))?;
        let below = base.tree.0.get(path).map(|found| &found.entry.kind);
        let is_below = matches!(below, Some(Kind::File { digest, .. }) if *digest == Digest::of(&bytes));
        if is_below || given.has(&bytes) || given.keeps(path) {
            continue;
        }
        match known.map(|secret| secret.maker) {
            _ if is_identity => {
                editor.write(path, b"", 0o444)?;
                settled.removed.push(path.to_owned());
            }
            Some(Maker::Node) if !fault::planted("made-identity-stays") => {
                editor.remove(path)?;
                match below {
                    Some(Kind::Symlink(_)) if path == DBUS_MACHINE_ID => editor.symlink(path, "/etc/machine-id")?,
                    // A whiteout: what was below is not what the script meant, either.
                    Some(_) if !is_whole => {
                        let whiteout = rustix::fs::mknodat(
                            CWD,
                            format!("{tree}/{path}"),
                            FileType::CharacterDevice,
                            Mode::empty(),
                            0,
                        );
                        whiteout.map_err(|error| format!("cannot remove /{path}: {error}"))?;
                    }
                    _ => {}
                }
                settled.removed.push(path.to_owned());
            }
            Some(Maker::Site) => settled.secret.push(path.to_owned()),
            _ if mode & 0o004 == 0 && looks_secret(mode, &bytes) => settled.secret.push(path.to_owned()),
            _ => {}
        }
    }
    Ok(settled)
}
