//! Where the paths of a management node are found on this host.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use recipe::Workspace;

/// Where xCAT's own files lie on a management node.
pub(super) const SHARE: &str = "/opt/xcat/share/xcat";

/// Folders of the management node and where they lie here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Places {
    /// `site.installdir`.
    pub installdir: String,
    /// Folders there, and the same here. Paths below others are where they say.
    pub moved: Vec<(String, PathBuf)>,
    /// `site.timezone`, which packimage sets in images.
    pub timezone: Option<String>,
    /// Root's hash of the table `passwd`.
    pub root_hash: Option<String>,
    /// Whether nothing else of this host is read, as for definitions that someone else wrote.
    pub sealed: bool,
    /// Whether a tree of another machine was given: files of that machine are there, and this host's are others. xCAT's own, below
    /// [`SHARE`], are the same everywhere.
    pub of_tree: bool,
    /// Where a workspace has paths of the management node that this host does not have.
    pub brought: Vec<(String, PathBuf)>,
    /// For which images the tables `litefile`, `litetree` and `statelite` have rows, by table; an empty name stands for all.
    pub statelite: BTreeMap<&'static str, Vec<String>>,
}

impl Default for Places {
    fn default() -> Self {
        Self {
            installdir: "/install".to_owned(),
            moved: Vec::new(),
            timezone: None,
            root_hash: None,
            sealed: false,
            of_tree: false,
            brought: Vec::new(),
            statelite: BTreeMap::new(),
        }
    }
}

impl Places {
    /// Takes a directory as the tree of a management node, as far as it is one: its root, a copy of its `/install`, or of
    /// `/opt/xcat`.
    pub fn tree(&mut self, directory: &Path) {
        let mut add = |there: &str, here: PathBuf| {
            if here.is_dir() && here != Path::new(there) && !self.moved.iter().any(|(one, _)| one == there) {
                self.of_tree |= there != SHARE && !fault::planted("tree-not-whole");
                self.moved.push((there.to_owned(), here));
            }
        };
        add("/install", directory.join("install"));
        if directory.join("custom").is_dir() {
            add("/install", directory.to_owned());
        }
        for share in ["opt/xcat/share/xcat", "share/xcat"] {
            add(SHARE, directory.join(share));
        }
        if directory.join("netboot").is_dir() && directory.ends_with("share/xcat") {
            add(SHARE, directory.to_owned());
        }
        // Other folders that sites name in definitions: /home, /opt, /srv, ...
        let Ok(entries) = std::fs::read_dir(directory) else { return };
        let is_root = ["install", "opt/xcat", "etc/xcat"].iter().any(|below| directory.join(below).is_dir());
        for entry in entries.flatten().filter(|_| is_root) {
            let name = entry.file_name().to_string_lossy().into_owned();
            if name != "install" && entry.path().is_dir() {
                add(&format!("/{name}"), entry.path());
            }
        }
    }

    /// Takes what a workspace says of paths of the management node for those that this host does not have: for definitions alone, an
    /// earlier import brought the files.
    pub fn also(&mut self, workspace: &Path) {
        let Ok(Some(workspace)) = Workspace::above(workspace) else { return };
        let map = &workspace.model.xcat.path_map;
        self.brought.extend(map.iter().map(|(there, here)| (there.clone(), workspace.root.join(here))));
    }

    pub fn here(&self, path: &str) -> PathBuf {
        if let Some(here) = best(&self.moved, path) {
            return here;
        }
        if self.is_elsewhere(path) && !fault::planted("host-file-imported") {
            // No file lies below one.
            return Path::new("/dev/null").join(path.trim_start_matches('/'));
        }
        let own = PathBuf::from(path);
        if own.exists() { own } else { best(&self.brought, path).unwrap_or(own) }
    }

    /// Whether a path of the management node is not to be looked for on this host.
    pub fn is_elsewhere(&self, path: &str) -> bool {
        let is_xcats = path.strip_prefix(SHARE).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.moved_of(path).is_none() && (self.sealed || self.of_tree && !is_xcats)
    }

    /// Whether a file of the management node is not in the tree that was given of it.
    pub fn lacks(&self, path: &str) -> bool {
        self.of_tree && !self.here(path).exists()
    }

    /// The path as a recipe names it: here where it moved, else as it is.
    pub fn named(&self, path: &str) -> PathBuf {
        if self.moved_of(path).is_some() { self.here(path) } else { PathBuf::from(path) }
    }

    /// The path of the management node that is found at a path of this host, if it lies below a folder that moved.
    pub fn there(&self, here: &Path) -> Option<String> {
        let below = |(there, folder): &(String, PathBuf)| {
            let real = folder.canonicalize().unwrap_or_else(|_| folder.clone());
            let rest = here.strip_prefix(folder).or_else(|_| here.strip_prefix(&real)).ok()?;
            let rest = rest.display().to_string();
            Some((there.len(), if rest.is_empty() { there.clone() } else { format!("{there}/{rest}") }))
        };
        self.moved.iter().filter_map(below).max_by_key(|(length, _)| *length).map(|(_, there)| there)
    }

    /// The folder of the management node, and of this host, that a path lies in.
    pub fn moved_of(&self, path: &str) -> Option<&(String, PathBuf)> {
        let is_below =
            |there: &str| path.strip_prefix(there).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
        self.moved.iter().filter(|(there, _)| is_below(there)).max_by_key(|(there, _)| there.len())
    }
}

/// Where a path lies by the longest of some folders that it lies in.
fn best(folders: &[(String, PathBuf)], path: &str) -> Option<PathBuf> {
    let below = |there: &str| {
        let rest = path.strip_prefix(there)?;
        (rest.is_empty() || rest.starts_with('/')).then(|| rest.trim_start_matches('/'))
    };
    let all = folders.iter().filter_map(|(there, here)| Some((there.len(), here, below(there)?)));
    let (_, here, rest) = all.max_by_key(|(length, ..)| *length)?;
    // Joined with nothing it would end in a slash.
    Some(if rest.is_empty() { here.clone() } else { here.join(rest) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_a_copied_tree_are_found() {
        let folder = tempfile::tempdir().unwrap();
        for below in ["install/custom", "opt/xcat/share/xcat", "home/lists", "etc"] {
            std::fs::create_dir_all(folder.path().join(below)).unwrap();
        }
        let mut places = Places::default();
        places.tree(folder.path());
        assert_eq!(places.here("/install/custom/a"), folder.path().join("install/custom/a"));
        assert_eq!(places.here("/opt/xcat/share/xcat/netboot"), folder.path().join("opt/xcat/share/xcat/netboot"));
        assert_eq!(places.here("/home/lists/x"), folder.path().join("home/lists/x"));
        assert_eq!(places.here("/etc/hosts"), folder.path().join("etc/hosts"));
        // What is not in the tree is nowhere: this host's is another one's.
        assert!(
            !places.here("/srv/x").exists() && places.is_elsewhere("/usr/bin") && !places.here("/usr/bin").exists()
        );
        assert!(places.is_elsewhere("/installed") && !places.is_elsewhere("/etc/hosts"));
        assert_eq!(Places::default().here("/install/a"), Path::new("/install/a"));
    }
}
