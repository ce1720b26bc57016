//! What `imgbuild sync` brings to a running node, and what it does not.

use std::collections::{BTreeMap, BTreeSet};

use super::facts::Facts;
use super::places::Place;
use build::diff::{Difference, Package, PackageDifference, Packages};
use recipe::{Family, plain_version};

/// What `imgbuild sync` would bring now, by the recipe of the image that the node is to boot.
#[derive(Debug)]
pub struct Means {
    /// Files that its sync lists copy to all nodes, by path without a slash in front: the content's digest as a comparison has it, or none
    /// for a directory. Else why none are known.
    pub files: Result<BTreeMap<String, Option<String>>, String>,
    /// The packages of its lock; else why they cannot be brought.
    pub packages: Result<Packages, String>,
    /// Digests of the files of the build that is to boot, by path: at least of those of sync lists that differ.
    pub contents: BTreeMap<String, String>,
    /// Files of packages that differ, as the packages bring them: what [`Facts::brought`] finds.
    pub brought: BTreeSet<String>,
}

/// A path that differs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Change<'a> {
    pub(crate) path: &'a str,
    pub(crate) kind: ChangeKind,
    pub(crate) is_directory: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ChangeKind {
    Added,
    Removed,
    Changed,
    /// Only mode, owner or extended attributes.
    Attributes,
}

/// Who brings a path to a running node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum By {
    Files,
    Packages,
}

pub(crate) struct Bring<'a> {
    means: &'a Means,
    was: &'a Facts,
    now: &'a Facts,
    /// Names of packages of which something differs.
    moved: BTreeSet<&'a str>,
    /// Those that one build has with other content than the other, in the same version.
    rebuilt: BTreeSet<&'a str>,
    /// Why no package comes.
    refused: Option<String>,
    /// Folders above what comes.
    folders: BTreeSet<String>,
}

const NO_ONE: &str = "no sync list and no package brings it to a running node";
const GONE: &str = "the image no longer has it, and `imgbuild sync` removes nothing";
const KEEPS: &str = "nodes may keep their file: a package leaves files in /etc as they are if someone has edited them";

/// Names of packages of which something differs.
pub(crate) fn names(packages: &PackageDifference) -> BTreeSet<&str> {
    let whole = [&packages.added, &packages.removed].into_iter().flatten().map(|one| one.name.as_str());
    let moved = [&packages.upgraded, &packages.downgraded].into_iter().flatten().map(|one| one.name.as_str());
    whole.chain(moved).collect()
}

/// Why no package comes to a running node, if that is so: as `sync` refuses.
fn refused(difference: &Difference, was: &Facts, now: &Facts, means: &Means) -> Option<String> {
    let lock = match &means.packages {
        Ok(lock) => lock,
        Err(why) => return Some(why.clone()),
    };
    let Some(packages) = &difference.packages else { return Some("the packages of a build are not known".to_owned()) };
    if let Some(gone) = packages.removed.first() {
        return Some(format!("the image no longer has `{}`, and `imgbuild sync` removes no package", gone.name));
    }
    let (Some(_), Some(has)) = (&was.packages, &now.packages) else {
        return Some("the image has no package database".to_owned());
    };
    let key = |one: &Package| (one.name.clone(), one.arch.clone(), plain_version(&one.version).to_owned());
    let in_lock: BTreeMap<_, bool> = lock.all.iter().map(|(one, digest)| (key(one), digest.is_some())).collect();
    let moved = packages.upgraded.iter().chain(&packages.downgraded);
    let moved = moved.map(|one| (one.name.clone(), one.arch.clone(), plain_version(&one.now).to_owned()));
    for wanted in packages.added.iter().map(key).chain(moved) {
        match in_lock.get(&wanted) {
            Some(true) => {}
            Some(false) => {
                return Some(format!("`{}` comes from the container image: there is no file of it", wanted.0));
            }
            None => {
                return Some(format!("image.lock does not have `{}` {}, but the build does", wanted.0, wanted.2));
            }
        }
    }
    let has: BTreeSet<_> =
        has.iter().map(|(name, arch, version)| (name, arch, plain_version(version).to_owned())).collect();
    let more = in_lock.keys().find(|(name, arch, version)| !has.contains(&(name, arch, version.clone())));
    if let Some((name, _, version)) = more {
        return Some(format!("image.lock has `{name}` {version}, but the build does not"));
    }
    // `sync` refuses nodes with packages that the lock lacks. Keys of rpm are none.
    let known: BTreeSet<_> = in_lock.keys().map(|(name, arch, _)| (name, arch)).collect();
    let surplus = has.iter().find(|(name, arch, _)| *name != "gpg-pubkey" && !known.contains(&(*name, *arch)));
    surplus.map(|(name, ..)| format!("the build has `{name}`, but image.lock does not: `imgbuild sync` refuses that"))
}

impl<'a> Bring<'a> {
    pub(crate) fn new(difference: &'a Difference, (was, now): (&'a Facts, &'a Facts), means: &'a Means) -> Self {
        let packages = difference.packages.as_ref();
        let rebuilt = packages.into_iter().flat_map(|all| &all.changed).map(|one| one.name.as_str()).collect();
        let mut bring = Self {
            means,
            was,
            now,
            moved: packages.map(names).unwrap_or_default(),
            rebuilt,
            refused: refused(difference, was, now, means),
            folders: BTreeSet::new(),
        };
        let added = difference.files.iter().flat_map(|files| &files.added).filter(|file| file.kind != "directory");
        for file in added {
            let mut folder = file.path.as_str();
            while let Some((above, _)) = folder.rsplit_once('/') {
                if !bring.folders.insert(above.to_owned()) {
                    break;
                }
                folder = above;
            }
        }
        bring
    }

    /// Whether packages differ, and why they do not come if that is so.
    pub(crate) fn packages(&self) -> (bool, Option<&str>) {
        (!self.moved.is_empty() || !self.rebuilt.is_empty(), self.refused.as_deref())
    }

    /// Whether a sync list has a path.
    pub(crate) fn lists(&self, path: &str) -> bool {
        self.means.files.as_ref().is_ok_and(|files| files.contains_key(path))
    }

    /// Whether the scripts of packages start services that are new.
    pub(crate) fn starts_new_services(&self) -> bool {
        self.means.packages.as_ref().is_ok_and(|lock| lock.family == Family::Debian)
    }

    /// Whether versions of a package differ.
    pub(crate) fn is_moved(&self, package: &str) -> bool {
        self.moved.contains(package)
    }

    /// Whether a link leads to a file of a package of which versions differ.
    fn leads_to_moved(&self, change: Change<'_>) -> bool {
        let facts = if change.kind == ChangeKind::Removed { self.was } else { self.now };
        let real = facts.real(change.path);
        facts.links.contains_key(change.path) && facts.owner(&real).is_some_and(|package| self.is_moved(package))
    }

    /// Whether a path of a package of which versions differ is as the package brings it.
    /// Errors: Why it may not be.
    fn is_as_brought(&self, change: Change<'_>) -> Result<(), String> {
        let path = change.path;
        let is_good = match change.kind {
            ChangeKind::Attributes => true,
            // The package would bring it again.
            ChangeKind::Removed if self.now.owner(path).is_some() => return Err(GONE.to_owned()),
            ChangeKind::Changed | ChangeKind::Removed if path.starts_with("etc/") => return Err(KEEPS.to_owned()),
            ChangeKind::Removed => true,
            _ if change.is_directory || self.means.brought.contains(path) => true,
            _ => self.leads_to_moved(change),
        };
        match is_good {
            true => Ok(()),
            false if self.now.digest(path).is_some() => Err("the build has other content than the package".to_owned()),
            false => Err("not known: whether the package brings it as the build has it".to_owned()),
        }
    }

    /// Who brings a path; none for folders that come with what is in them.
    /// Errors: Why it does not come; the text of what is not known begins with `not known: `.
    pub(crate) fn of(&self, change: Change<'_>, package: Option<&str>, place: Place) -> Result<Option<By>, String> {
        if let Ok(files) = &self.means.files
            && let Some(digest) = files.get(change.path)
            && change.kind != ChangeKind::Removed
        {
            let content = self.means.contents.get(change.path);
            return match content == digest.as_ref() || fault::planted("restart-synced-source-moved") {
                true => Ok(Some(By::Files)),
                false if content.is_none() => {
                    Err("not known: whether the file of the sync list has the build's content".to_owned())
                }
                false => Err("the file that the sync list names has changed since the build".to_owned()),
            };
        }
        if change.is_directory && change.kind == ChangeKind::Added && self.folders.contains(change.path) {
            return Ok(None);
        }
        let (differ, refused) = self.packages();
        let is_of_moved = package.is_some_and(|package| self.is_moved(package));
        let comes = match place {
            Place::Derived => differ,
            Place::OfPackages => self.leads_to_moved(change),
            _ => is_of_moved,
        };
        if comes {
            if let Some(why) = refused {
                return Err(why.to_owned());
            }
            if !matches!(place, Place::Derived | Place::OfPackages) {
                self.is_as_brought(change)?;
            }
            return Ok(Some(By::Packages));
        }
        if package.is_some_and(|package| self.rebuilt.contains(package)) {
            return Err(
                "the package has other content in the same version, which `imgbuild sync` does not see".to_owned()
            );
        }
        match (&self.means.files, change.kind) {
            (_, ChangeKind::Removed) => Err(GONE.to_owned()),
            (Err(why), _) => Err(why.clone()),
            _ => Err(NO_ONE.to_owned()),
        }
    }
}
