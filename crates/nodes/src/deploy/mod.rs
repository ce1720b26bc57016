//! The directory that nodes are served from. The text of all nodes' files lies in a generation, a directory that is never
//! changed; names that loaders ask for are links that lead through one link, `current`, so that turning that moves a whole range
//! at once. What others put there is left alone.
//!
//! ```text
//! OUT/ipxe/mac/52-54-00-00-00-01.ipxe -> ../../.imgbuild-nodes/current/plain/cn001
//! OUT/.imgbuild-nodes/current -> 2
//! OUT/.imgbuild-nodes/2/{index.json,plain/cn001,..}
//! ```

mod apply;
mod own;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::loaders::NodeFiles;
use super::state::{STATE_FORMAT, StateError};

const HOME: &str = ".imgbuild-nodes";
const CURRENT: &str = "current";
/// What a generation holds: names by node.
const INDEX: &str = "index.json";

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Index {
    format_version: String,
    nodes: BTreeMap<String, Vec<String>>,
}

impl Index {
    fn paths(&self) -> BTreeSet<&str> {
        self.nodes.values().flatten().map(String::as_str).collect()
    }
}

#[derive(Debug)]
pub struct Served {
    out: PathBuf,
    current: Option<String>,
    index: Index,
}

#[derive(Debug, Default)]
pub struct Changes {
    /// Nodes of which a file changes, with the text before and after.
    pub changed: Vec<Changed>,
    /// Names that are there already and not ours.
    pub foreign: Vec<String>,
    /// Names that two nodes would have.
    pub twice: Vec<(String, String, String)>,
    pub new: Vec<String>,
    pub gone: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub node: String,
    /// A name of its file.
    pub path: String,
    pub before: String,
    pub after: String,
}

impl Changes {
    pub fn is_none(&self) -> bool {
        self.changed.is_empty() && self.new.is_empty() && self.gone.is_empty()
    }
}

/// The two texts that a node may have: their folder in a generation.
fn kind(path: &str) -> &'static str {
    let is_uefi = path.starts_with("xcat/xnba/nodes/") && path.ends_with(".uefi");
    if is_uefi { "uefi" } else { "plain" }
}

/// The name under which a node's text lies in a generation.
fn place(node: &str, kind: &str) -> PathBuf {
    Path::new(kind).join(node)
}

/// Where the link of a name leads.
fn target(path: &str, node: &str) -> PathBuf {
    through_current(path, &place(node, kind(path)))
}

/// The way from a name to a place of the generation that counts.
fn through_current(path: &str, place: &Path) -> PathBuf {
    let up = path.matches('/').count();
    let mut target = PathBuf::new();
    (0..up).for_each(|_| target.push(".."));
    target.join(HOME).join(CURRENT).join(place)
}

impl Served {
    /// Reads what is there.
    /// Errors: It cannot be read, or is not what imgbuild wrote.
    pub fn open(out: &Path) -> Result<Self, StateError> {
        let home = out.join(HOME);
        let link = home.join(CURRENT);
        let current = match std::fs::read_link(&link) {
            Ok(name) => Some(name.to_string_lossy().into_owned()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
            Err(error) => return Err(StateError::of("read", &link)(error)),
        };
        let mut index = Index { format_version: STATE_FORMAT.to_string(), ..Index::default() };
        if let Some(name) = &current {
            let path = home.join(name).join(INDEX);
            let bytes = std::fs::read(&path).map_err(StateError::of("read", &path))?;
            index = serde_json::from_slice(&bytes).map_err(|error| StateError::Damaged {
                path,
                problem: format!("is not what imgbuild wrote: {error}"),
            })?;
        }
        Ok(Self { out: out.to_owned(), current, index })
    }

    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.index.nodes.keys().map(String::as_str)
    }

    /// The names of each node's files.
    pub fn files(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.index.nodes.iter().map(|(node, paths)| (node.as_str(), paths.as_slice()))
    }

    fn text(&self, node: &str, kind: &str) -> Option<String> {
        let generation = self.out.join(HOME).join(self.current.as_ref()?);
        std::fs::read_to_string(generation.join(place(node, kind))).ok()
    }

    /// What would change if nodes got these files; a node without any loses its own. The texts are kept only for who shows them:
    /// they are all of thousands of files.
    pub fn changes(&self, wanted: &BTreeMap<String, NodeFiles>, with_texts: bool) -> Changes {
        let mut changes = Changes::default();
        let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
        let kept = self.index.nodes.iter().filter(|(node, _)| !wanted.contains_key(*node));
        for (node, paths) in kept {
            owners.extend(paths.iter().map(|path| (path.as_str(), node.as_str())));
        }
        for (node, files) in wanted {
            for path in &files.paths {
                if let Some(other) = owners.insert(path, node) {
                    changes.twice.push((path.clone(), other.to_owned(), node.clone()));
                }
            }
            for (kind, after) in [("plain", Some(&files.plain)), ("uefi", files.uefi.as_ref())] {
                let fits = |path: &&String| self::kind(path) == kind;
                let path = files.paths.iter().find(fits);
                let old = self.index.nodes.get(node).and_then(|paths| paths.iter().find(fits));
                let before = old.and_then(|_| self.text(node, kind)).unwrap_or_default();
                let after = path.and(after).cloned().unwrap_or_default();
                if before != after {
                    let path = path.or(old).cloned().unwrap_or_default();
                    let keep = |text: String| if with_texts { text } else { String::new() };
                    let (before, after) = (keep(before), keep(after));
                    changes.changed.push(Changed { node: node.clone(), path, before, after });
                }
            }
        }
        let before = self.index.paths();
        for (path, node) in &owners {
            let link = self.out.join(path);
            let is_ours = std::fs::read_link(&link).is_ok_and(|to| is_ours(&to));
            if !is_ours && link.symlink_metadata().is_ok() {
                changes.foreign.push((*path).to_owned());
            }
            let leads = is_ours && std::fs::read_link(&link).is_ok_and(|to| to == target(path, node));
            if !leads && wanted.contains_key(*node) {
                changes.new.push((*path).to_owned());
            }
        }
        changes.gone = before.into_iter().filter(|path| !owners.contains_key(path)).map(str::to_owned).collect();
        changes
    }
}

fn is_ours(target: &Path) -> bool {
    let marker = Path::new(HOME).join(CURRENT);
    target.to_string_lossy().contains(&*marker.to_string_lossy())
}
