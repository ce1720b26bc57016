//! Which files of a node its packages bring, and which make it what it is.

mod scripts;
pub(super) mod tree;
mod unrecorded;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;

use serde::Serialize;

use packages::installed::{DatabaseKind, Installed, InstalledFile, InstalledPackage};

use crate::capture::census::{Census, Seen};
use crate::capture::left_out::{Rules, Why};

/// What is said of a file that its package owns and does not have in it.
const NOT_IN_PACKAGE: &str = "not in its package";

/// Why a file is in the overlay, or is removed by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// A package brings it, and it is otherwise on the node.
    Changed,
    /// No package brings it.
    Unpackaged,
    /// A package brings it, and the node has it not.
    Removed,
}

impl Reason {
    pub fn name(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unpackaged => "unpackaged",
            Self::Removed => "removed",
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OverlayFile {
    /// Path without a slash in front.
    pub path: String,
    pub reason: Reason,
    /// What is otherwise than the package has it: `content`, `mode 644, was 600`; empty where nothing is to say.
    pub detail: String,
    pub package: String,
    /// Bytes that the overlay has of it.
    pub size: u64,
    /// Mode and owner, where nothing else differs: the content stays the package's, also of a newer one.
    #[serde(skip)]
    pub attributes: Option<Attributes>,
}

/// What is set of a file whose content is its package's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attributes {
    pub mode: u32,
    /// Owner and group; none where they are the package's: setting them again would take capabilities away.
    pub owner: Option<(u32, u32)>,
}

/// How a file of a package is otherwise on the node.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Difference {
    Kind,
    /// Permission bits: now, of the package.
    Mode(u32, u32),
    /// Numbers of owner and group now, names of the package.
    Owner((u32, u32), (String, String)),
    /// Target of a link: now, of the package.
    Link(String, String),
    Content,
    /// No longer a regular file.
    NoFile,
    /// The administrator gave it mode and owner by dpkg-statoverride.
    Override,
    /// Set-id bits that its package does not give it, or without those that it does: the mode now.
    SetId(u32),
    /// A file in the place of its package's link.
    NoLink,
    /// A link that leads where no package's does: the target now.
    Relinked(String),
}

impl Difference {
    /// Whether mode and owner say all of it.
    fn is_of_attributes(&self) -> bool {
        matches!(self, Self::Mode(..) | Self::Owner(..) | Self::Override | Self::SetId(_))
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Kind => f.write_str("another kind of file"),
            Self::Mode(now, was) => write!(f, "mode {now:o}, was {was:o}"),
            Self::Owner((uid, gid), (user, group)) => write!(f, "owner {uid}:{gid}, was {user}:{group}"),
            Self::Link(now, was) => write!(f, "points to {now}, was {was}"),
            Self::Content => f.write_str("content"),
            Self::NoFile => f.write_str("no longer a file"),
            Self::Override => f.write_str("dpkg-statoverride"),
            Self::SetId(mode) if mode & 0o6000 == 0 => write!(f, "mode {mode:o}, without set-id bits"),
            Self::SetId(mode) => write!(f, "mode {mode:o}, with set-id bits"),
            Self::NoLink => f.write_str("a file instead of a link"),
            Self::Relinked(target) => write!(f, "points to {target}"),
        }
    }
}

impl OverlayFile {
    pub fn is_in_archive(&self) -> bool {
        self.reason != Reason::Removed && self.attributes.is_none()
    }
}

/// Everything that was seen, sorted out.
#[derive(Debug, Clone, Default)]
pub(super) struct Classified {
    pub overlay: Vec<OverlayFile>,
    pub left_out: BTreeMap<String, Why>,
    /// Files of packages that nothing is known of but the name.
    pub unknown: usize,
    /// Files that are as their packages bring them.
    pub as_packaged: usize,
    /// Folders of packages that the node has empty, and how many files they would bring: an exclude list has them.
    pub emptied: Vec<(String, usize)>,
    /// Links in the place of folders that packages fill: the link, and where the folder is then.
    pub folders: Vec<(String, String)>,
    /// Modules that no package brought.
    pub modules: Vec<String>,
}

fn differences(seen: &Seen, file: &InstalledFile, users: &Ids, groups: &Ids) -> Vec<Difference> {
    let mut found = Vec::new();
    if let Some(mode) = file.mode {
        let is_type = |kind: u32| mode & 0o170_000 == kind;
        if seen.listed.mode & 0o170_000 != mode & 0o170_000 {
            return vec![Difference::Kind];
        }
        let (was, now) = (mode & 0o7777, seen.listed.mode & 0o7777);
        if was != now && !is_type(0o120_000) {
            found.push(Difference::Mode(now, was));
        }
    }
    if let Some((user, group)) = &file.owner {
        let moved = |ids: &Ids, name: &str, now: u32| ids.get(name).is_some_and(|id| *id != now);
        if moved(users, user, seen.listed.uid) || moved(groups, group, seen.listed.gid) {
            found.push(Difference::Owner((seen.listed.uid, seen.listed.gid), (user.clone(), group.clone())));
        }
    }
    if let (Some(link), Some(target)) = (&file.link, &seen.listed.target)
        && link != target
    {
        found.push(Difference::Link(target.clone(), link.clone()));
    }
    if let Some(digest) = &file.digest {
        let own = match digest.len() {
            32 => Some(&seen.md5),
            64 => Some(&seen.sha256),
            _ => None,
        };
        if !seen.is_file() {
            found.push(Difference::NoFile);
        } else if own.is_some_and(|own| !own.eq_ignore_ascii_case(digest)) {
            found.push(Difference::Content);
        }
    }
    found
}

type Ids = HashMap<String, u32>;

pub(super) fn ids(text: &str) -> Ids {
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        let (name, number) = (fields.next()?, fields.nth(1)?);
        Some((name.to_owned(), number.parse().ok()?))
    };
    text.lines().filter_map(of_line).collect()
}

/// Sorts what was seen; packages that are `is_foreign` bring nothing, and of those that are not `is_wanted`
/// nothing is missing.
pub(super) fn classify(
    census: &Census,
    installed: &Installed,
    rules: &Rules,
    is_foreign: &dyn Fn(&InstalledPackage) -> bool,
    is_wanted: &dyn Fn(&str) -> bool,
) -> Classified {
    let users = ids(&census.text("etc/passwd").unwrap_or_default());
    let groups = ids(&census.text("etc/group").unwrap_or_default());
    let mut found = Classified { left_out: census.left_out.clone(), ..Classified::default() };
    // A path may belong to several packages: folders, and files that are the same in all of them.
    let mut owners: BTreeMap<String, Vec<(&str, &InstalledFile)>> = BTreeMap::new();
    let mut folders: HashMap<String, String> = HashMap::new();
    for package in installed.packages.iter().filter(|package| !is_foreign(package)) {
        for file in &package.files {
            let (folder, name) = file.path.rsplit_once('/').unwrap_or(("", &file.path));
            let folder = folders.entry(folder.to_owned()).or_insert_with(|| match folder {
                "" => String::new(),
                folder => census.resolved_folder(folder) + "/",
            });
            owners.entry(format!("{folder}{name}")).or_default().push((&package.name, file));
        }
    }
    // Packages that have a digest of each of their files; of configuration the package database itself has them.
    let has_digest = |file: &InstalledFile| file.digest.is_some() && !file.path.starts_with("etc/");
    let digested = installed.packages.iter().filter(|package| package.files.iter().any(has_digest));
    let digested: BTreeSet<&str> = digested.map(|package| package.name.as_str()).collect();
    let overridden: BTreeSet<String> = installed.overridden.iter().map(|path| census.resolved(path)).collect();
    let mut whole: BTreeSet<String> = BTreeSet::new();
    for (path, seen) in &census.seen {
        if !seen.is_plain() {
            found.left_out.insert(path.clone(), Why::Special);
            continue;
        }
        let file = |reason: Reason, detail: String, package: &str| OverlayFile {
            path: path.clone(),
            reason,
            detail,
            package: package.to_owned(),
            size: if seen.is_file() { seen.listed.size } else { 0 },
            attributes: None,
        };
        match owners.get(path) {
            None if seen.is_private_key && !rules.keep_secrets => {
                found.left_out.insert(path.clone(), Why::Secret);
            }
            None if seen.is_file() && is_module(path) => {
                found.modules.push(path.clone());
            }
            None => found.overlay.push(file(Reason::Unpackaged, String::new(), "")),
            Some(claims) => {
                let same = claims.iter().map(|(name, file)| (*name, *file, differences(seen, file, &users, &groups)));
                let best = same.min_by_key(|(_, file, differs)| (differs.len(), file.ghost));
                let Some((name, own, mut differs)) = best else { continue };
                if overridden.contains(path) {
                    differs.push(Difference::Override);
                } else if installed.kind == DatabaseKind::Dpkg {
                    let has_digests = digested.contains(name);
                    differs.extend(unrecorded::differences(path, seen, (name, own), has_digests, &owners, census));
                }
                // With a digest other than MD5 and SHA-256 the content was not compared.
                let is_compared = own.digest.as_ref().is_some_and(|digest| [32, 64].contains(&digest.len()));
                let is_known = is_compared || !seen.is_file();
                let is_folder = own.mode.is_none()
                    && (folders.contains_key(own.path.as_str()) || path.matches('/').count() < 2)
                    && !is_merged(path, seen);
                // Not for a package's own link to a file, as /etc/os-release.
                let leads_to_file =
                    || census.seen.get(&census.resolved_folder(path)).is_some_and(|target| target.is_file());
                if seen.is_private_key && (own.ghost || !differs.is_empty()) && !rules.keep_secrets {
                    found.left_out.insert(path.clone(), Why::Secret);
                } else if is_folder && seen.is_link() && !leads_to_file() {
                    found.folders.push((path.clone(), census.resolved_folder(path)));
                    found.overlay.push(file(Reason::Changed, "a link instead of a folder".to_owned(), name));
                } else if own.ghost && (seen.is_directory() || !path.starts_with("etc/")) {
                    found.left_out.insert(path.clone(), Why::Made);
                } else if own.ghost {
                    found.overlay.push(file(Reason::Changed, NOT_IN_PACKAGE.to_owned(), name));
                } else if !differs.is_empty() {
                    let words: Vec<String> = differs.iter().map(ToString::to_string).collect();
                    let mut changed = file(Reason::Changed, words.join(", "), name);
                    if differs.iter().all(Difference::is_of_attributes) {
                        let owner = (seen.listed.uid, seen.listed.gid);
                        let is_owner = |one: &Difference| match one {
                            Difference::Mode(..) => false,
                            // Whose rights the bits give.
                            Difference::SetId(mode) => mode & 0o6000 != 0 && owner != (0, 0),
                            _ => true,
                        };
                        let owner = differs.iter().any(is_owner).then_some(owner);
                        changed.size = 0;
                        changed.attributes = Some(Attributes { mode: seen.listed.mode & 0o7777, owner });
                    }
                    found.overlay.push(changed);
                } else if is_known {
                    found.as_packaged += 1;
                } else {
                    found.unknown += 1;
                }
                whole.insert(path.clone());
            }
        }
    }
    for (path, claims) in &owners {
        let is_there = census.seen.contains_key(path) || census.left_out.contains_key(path);
        if is_there || whole.contains(path) || rules.why(path).is_some() {
            continue;
        }
        // dpkg's list has folders too, and says of none of its lines what it is: what has a digest is a file.
        let wanted = claims
            .iter()
            .find(|(name, file)| is_wanted(name) && !file.ghost && (file.digest.is_some() || file.link.is_some()));
        if let Some((name, _)) = wanted {
            found.overlay.push(OverlayFile {
                path: path.clone(),
                reason: Reason::Removed,
                detail: String::new(),
                package: (*name).to_owned(),
                size: 0,
                attributes: None,
            });
        }
    }
    found.overlay.sort_by(|a, b| a.path.cmp(&b.path));
    fold(&mut found, census);
    found
}

/// Fewer files than these are named one by one.
const MANY: usize = 20;

/// Takes folders out that have nothing of their packages left: an image whose documentation an exclude list left out.
fn fold(found: &mut Classified, census: &Census) {
    let mut missing: BTreeMap<&str, usize> = BTreeMap::new();
    for file in found.overlay.iter().filter(|file| file.reason == Reason::Removed) {
        let ends = file.path.match_indices('/').map(|(at, _)| &file.path[..at]);
        // A folder at the top is never empty.
        ends.skip(1).for_each(|folder| *missing.entry(folder).or_default() += 1);
    }
    let mut folders: Vec<(String, usize)> = Vec::new();
    for (folder, &count) in &missing {
        let is_below = folders.iter().any(|(above, _)| {
            above == folder || folder.starts_with(&format!("{above}/")) || above.starts_with(&format!("{folder}/"))
        });
        let below = format!("{folder}/");
        let is_empty = || {
            let own = census.seen.range(below.clone()..).take_while(|(path, _)| path.starts_with(&below));
            !own.into_iter().any(|(_, seen)| !seen.is_directory())
        };
        if count >= MANY && !is_below && is_empty() {
            // The lowest folder that has all of them: others may get files from other packages.
            let below = missing.range(below.as_str()..).take_while(|(path, _)| path.starts_with(&below));
            let lowest = below.filter(|(_, own)| **own == count).map(|(path, _)| *path).last();
            folders.push((lowest.unwrap_or(folder).to_owned(), count));
        }
    }
    let is_folded = |path: &str| folders.iter().any(|(folder, _)| path.starts_with(&format!("{folder}/")));
    found.overlay.retain(|file| file.reason != Reason::Removed || !is_folded(&file.path));
    found.emptied = folders;
}

/// Whether a link is one of those that merge `/bin` and its like into `/usr`.
fn is_merged(path: &str, seen: &Seen) -> bool {
    let target = seen.listed.target.as_deref().unwrap_or_default();
    !path.contains('/') && target.trim_start_matches('/') == format!("usr/{path}")
}

/// Whether a path is a module of a kernel: `RELEASE/.../NAME.ko`.
fn is_module(path: &str) -> bool {
    let below = ["usr/lib/modules/", "lib/modules/"].iter().find_map(|start| path.strip_prefix(start));
    let below = below.is_some_and(|below| below.contains('/'));
    let name = path.rsplit('/').next().unwrap_or_default();
    below && [".ko", ".ko.xz", ".ko.zst", ".ko.gz"].iter().any(|ending| name.ends_with(ending))
}
