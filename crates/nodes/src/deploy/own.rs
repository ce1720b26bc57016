//! Files of the site in the places of names that nodes get: what nodes see there changes with the generation, for all nodes at once,
//! and a change that is given up or killed gives each its own file back.
//!
//! Both generations, the one that counts and the new one, get a place for the name: the first with the file of the site, the second
//! with the node's. The name becomes a link to that place, and then `current` is turned. The file itself stays as `NAME.ORIG`.

use std::fs::File;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::{CURRENT, HOME, INDEX, Index, Served, is_ours, kind, place, target, through_current};
use crate::state::{STATE_FORMAT, StateError};
use files::{self, Durability, put_back};

/// The folder of a generation for such names.
const OWN: &str = "own";
/// What a generation notes of them, before anything is touched.
const NOTE: &str = "own.json";

/// A file of the site that gives its place to a node's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Own {
    pub path: String,
    pub node: String,
    /// Its name from now on.
    kept: String,
}

impl Own {
    /// Finds a name under which it can stay.
    pub(super) fn of(out: &Path, path: &str, node: &str) -> Result<Self, StateError> {
        let names = std::iter::once(format!("{path}.ORIG")).chain((1..10_000).map(|n| format!("{path}.ORIG.{n}")));
        let mut free = names.into_iter().filter(|name| out.join(name).symlink_metadata().is_err());
        let kept = free.next().ok_or_else(|| {
            StateError::of("keep", &out.join(path))(std::io::Error::other("there are too many .ORIG files"))
        })?;
        Ok(Self { path: path.to_owned(), node: node.to_owned(), kept })
    }

    /// Gives the site its file back, whatever of the change was done.
    fn back(&self, out: &Path) -> std::io::Result<()> {
        let (link, kept) = (out.join(&self.path), out.join(&self.kept));
        let is_other = !std::fs::read_link(&link).is_ok_and(|to| is_ours(&to)) && link.symlink_metadata().is_ok();
        match kept.symlink_metadata() {
            // Someone put another file there meanwhile: both stay.
            Ok(_) if is_other && !is_same(&link, &kept) => Ok(()),
            Ok(_) => put_back(&link, &kept),
            Err(_) => Ok(()),
        }
    }
}

fn is_same(one: &Path, other: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let id = |path: &Path| path.symlink_metadata().ok().map(|found| (found.dev(), found.ino()));
    id(one) == id(other)
}

/// Has a name lead somewhere, at once; what is there until then is a file or a link.
pub(super) fn lead(out: &Path, link: &Path, to: &Path) -> Result<(), StateError> {
    let failed = StateError::of("create the link", link);
    match files::turn(to, link, &out.join(HOME).join("link.new")) {
        // Another file system is mounted there.
        Err(error) if error.kind() == std::io::ErrorKind::CrossesDevices => {
            let name = link.file_name().unwrap_or_default().to_string_lossy();
            files::turn(to, link, &link.with_file_name(format!("{}{name}", files::TEMPORARY))).map_err(failed)
        }
        done => done.map_err(failed),
    }
}

/// Takes the places of files of the site. `old` is the generation that counts, `new` the one that is to.
/// Errors: It cannot be done; [`give_back`] undoes what was.
pub(super) fn take(served: &Served, old: &str, new: &str, all: &[Own]) -> Result<(), StateError> {
    let home = served.out.join(HOME);
    let (old, new) = (home.join(old), home.join(new));
    let path = new.join(NOTE);
    let note = serde_json::to_vec(all).unwrap_or_default();
    files::replace(&path, &note, 0o644, Durability::PowerCut).map_err(StateError::of("write", &path))?;
    for folder in [old.join(OWN), new.join(OWN)] {
        std::fs::create_dir_all(&folder).map_err(StateError::of("make", &folder))?;
    }
    let mut leads = Vec::new();
    for (number, own) in all.iter().enumerate() {
        let link = served.out.join(&own.path);
        let name = Path::new(OWN).join(number.to_string());
        // A folder, or a link that leads nowhere, was no file for a node.
        let is_file = link.metadata().is_ok_and(|found| found.is_file());
        if is_file {
            let here = old.join(&name);
            let is_link = link.is_symlink();
            let linked = if is_link { None } else { std::fs::hard_link(&link, &here).ok() };
            if linked.is_none() {
                std::fs::copy(&link, &here).map_err(StateError::of("write", &here))?;
            }
            let there = new.join(&name);
            let text = new.join(place(&own.node, kind(&own.path)));
            std::fs::hard_link(&text, &there).map_err(StateError::of("write", &there))?;
        }
        leads.push((own, link, is_file.then_some(name)));
    }
    sync(&served.out)?;
    for (own, link, name) in leads {
        let kept = served.out.join(&own.kept);
        let both = std::fs::hard_link(&link, &kept).or_else(|_| std::fs::rename(&link, &kept));
        both.map_err(StateError::of("keep", &link))?;
        let to = name.map_or_else(|| target(&own.path, &own.node), |name| through_current(&own.path, &name));
        lead(&served.out, &link, &to)?;
        fault::point("nodeset.taking");
    }
    Ok(())
}

fn sync(out: &Path) -> Result<(), StateError> {
    let file = File::open(out).map_err(StateError::of("open", out))?;
    rustix::fs::syncfs(&file).map_err(|error| StateError::of("sync", out)(error.into()))
}

/// Gives back what a generation that does not count has taken.
pub(super) fn give_back(out: &Path, generation: &Path) {
    for own in noted(generation) {
        let _ = own.back(out);
    }
}

fn noted(generation: &Path) -> Vec<Own> {
    std::fs::read(generation.join(NOTE)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default()
}

/// Leads names of the generation that counts where all names lead; its places for files of the site go.
/// Errors: A link cannot be turned; it leads to the same text as before then.
pub(super) fn settle(out: &Path, generation: &Path) -> Result<(), StateError> {
    for own in noted(generation) {
        let (link, to) = (out.join(&own.path), target(&own.path, &own.node));
        if std::fs::read_link(&link).is_ok_and(|is| is != to && is_ours(&is)) {
            lead(out, &link, &to)?;
        }
    }
    let _ = std::fs::remove_file(generation.join(NOTE));
    let _ = std::fs::remove_dir_all(generation.join(OWN));
    Ok(())
}

/// The generation that counts; where there was none, one of no nodes is made.
pub(super) fn base(served: &Served) -> Result<String, StateError> {
    if let Some(name) = &served.current {
        return Ok(name.clone());
    }
    let (home, name) = (served.out.join(HOME), "0".to_owned());
    let path: PathBuf = home.join(&name).join(INDEX);
    let index = Index { format_version: STATE_FORMAT.to_string(), ..Index::default() };
    let text = serde_json::to_vec(&index).unwrap_or_default();
    files::replace(&path, &text, 0o644, Durability::PowerCut).map_err(StateError::of("write", &path))?;
    lead(&served.out, &home.join(CURRENT), Path::new(&name))?;
    Ok(name)
}
