//! The sync layer: files of the build host, copied, appended or merged (D25).

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::inside::edit::{layer_by_edit, layer_by_writing};
use archive::{Extractor, Meta};
use base::digest::Digest;
use recipe::owners::Home;
use sandbox::helper::News;
use store::{Entry, Kind, LayerReader, Merged, ScanAnswer};

use super::accounts::Accounts;
use super::earlier::Earlier;
use xcat::{Clause, appended, merged};

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SyncItem {
    /// File with the content, relative to the store's directory; none for a directory or a link.
    pub content: Option<String>,
    pub link: Option<String>,
    pub destination: String,
    /// Name below the destination, if that is a folder in the image.
    pub name_in_folder: Option<String>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Name or number of the user that the recipe names.
    pub user: Option<String>,
    pub group: Option<String>,
    /// The mode, if the recipe says it.
    pub said_mode: Option<u32>,
    pub clause: Clause,
}

impl SyncItem {
    fn at(destination: &str, mode: u32) -> Self {
        Self {
            content: None,
            link: None,
            destination: destination.to_owned(),
            name_in_folder: None,
            mode,
            uid: 0,
            gid: 0,
            user: None,
            group: None,
            said_mode: None,
            clause: Clause::Copy,
        }
    }

    /// Whether the recipe says something of it: then a folder that is there gets it, too.
    fn is_said(&self) -> bool {
        self.user.is_some() || self.group.is_some() || self.said_mode.is_some()
    }

    /// A copy of a file of the store.
    pub(crate) fn file(destination: &str, content: String, mode: u32) -> Self {
        Self { content: Some(content), ..Self::at(destination, mode) }
    }

    pub(crate) fn directory(destination: &str) -> Self {
        Self::at(destination, 0o755)
    }

    pub(crate) fn link(destination: &str, target: &str) -> Self {
        Self { link: Some(target.to_owned()), ..Self::at(destination, 0o777) }
    }
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SyncRequest {
    /// Scratch directory, relative to the store's.
    pub scratch: String,
    /// Layers below.
    pub base: Vec<Digest>,
    pub epoch: i64,
    /// In order.
    pub items: Vec<SyncItem>,
    pub homes: Vec<Home>,
    /// The layer that the last build made of this action, if there is one: files of it that are the same get further names.
    #[serde(default)]
    pub earlier: Option<Digest>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SyncAnswer {
    /// The layer; or the item that cannot be copied, and why.
    pub layer: Result<ScanAnswer, (usize, String)>,
    /// Whether it is what the recipe says of the item's owner.
    #[serde(default)]
    pub is_of_owner: bool,
    pub notes: Vec<String>,
    /// Items that were copied over another one: which, and over which.
    pub doubled: Vec<(usize, usize)>,
    /// A file of the store that is not what its name says, by its path there; the layer is not made then.
    #[serde(default)]
    pub damaged: Option<String>,
}

#[derive(Debug, PartialEq, Eq)]
enum Written {
    /// A copy of a file of the store, by its path; files of the same content have one.
    Copy(String),
    Made(Vec<u8>),
}

enum Unmade {
    Failed(String),
    Refused(usize, String),
    /// An account that the recipe names for an item, and that is not there.
    Unknown(usize, String),
    /// The file of the store that is not what its name says.
    Damaged(String),
}

impl From<String> for Unmade {
    fn from(text: String) -> Self {
        Self::Failed(text)
    }
}

/// The digest that a file of the store has in its name.
fn digest_in(content: &str) -> Option<Digest> {
    Digest::parse(content.rsplit('/').next()?).ok()
}

fn content_of(content: &str) -> Result<Vec<u8>, Unmade> {
    let bytes = std::fs::read(content).map_err(|error| format!("{content}: {error}"))?;
    match digest_in(content) == Some(Digest::of(&bytes)) {
        true => Ok(bytes),
        false => Err(Unmade::Damaged(content.to_owned())),
    }
}

impl Written {
    fn bytes(&self) -> Result<Vec<u8>, Unmade> {
        match self {
            Self::Copy(content) => content_of(content),
            Self::Made(bytes) => Ok(bytes.clone()),
        }
    }
}

/// What a path of the tree is after following links, at most 40 of them as the kernel does.
fn resolved<'t>(tree: &'t Merged, path: &str) -> Option<(String, &'t Kind)> {
    let mut path = path.trim_matches('/').to_owned();
    for _ in 0..40 {
        let mut done = String::new();
        let mut again = None;
        for part in path.split('/').filter(|part| !part.is_empty() && *part != ".") {
            let next = if done.is_empty() { part.to_owned() } else { format!("{done}/{part}") };
            if let Kind::Symlink(target) = &tree.0.get(&next)?.entry.kind {
                let rest = path.get(path.find(&next)? + next.len()..).unwrap_or_default();
                let is_absolute = target.starts_with('/') && !fault::planted("sync-link-out");
                let base = if is_absolute { String::new() } else { done.clone() };
                again = Some(normal(&format!("{base}/{target}{rest}")));
                break;
            }
            done = next;
        }
        match again {
            Some(next) => path = next,
            None if done.is_empty() => return tree.0.get(".").map(|found| (".".to_owned(), &found.entry.kind)),
            None => return tree.0.get(&done).map(|found| (done, &found.entry.kind)),
        }
    }
    None
}

/// Takes `.` and `..` out of a path; `..` stops at the root.
fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    parts.join("/")
}

pub(crate) fn inside(request: SyncRequest, _: News<'_>) -> Result<SyncAnswer, String> {
    let reader = LayerReader::open(&request.base)?;
    let (mut notes, mut doubled) = (Vec::new(), Vec::new());
    let mut copied: BTreeMap<String, usize> = BTreeMap::new();
    let mut written: BTreeMap<String, Written> = BTreeMap::new();
    let mut unmade = None;
    let earlier = request.earlier.as_ref().and_then(Earlier::open);
    let accounts = Accounts::of(&reader, &request.items)?;
    // Folders that lists made so far.
    let made: RefCell<BTreeSet<String>> = RefCell::default();
    // Makes what is missing above a path below a home, for the home's user.
    let own_folders = |tree: &mut Extractor, place: &str| -> Result<(), String> {
        let Some(home) = request.homes.iter().find(|home| home.has(place)) else { return Ok(()) };
        for (end, _) in place.match_indices('/') {
            let folder = &place[..end];
            let is_there = || matches!(resolved(&reader.tree, folder), Some((_, Kind::Directory)));
            if home.has(folder) && !is_there() && made.borrow_mut().insert(folder.to_owned()) {
                let meta = Meta { mode: 0o755, uid: home.uid, gid: home.gid, mtime: request.epoch, ..Meta::default() };
                tree.directory(folder.as_bytes(), &meta)?;
            }
        }
        Ok(())
    };
    let mut make = |tree: &mut Extractor, index: usize, item: &SyncItem| -> Result<(), Unmade> {
        if let Some(file) = file_above(&reader.tree, &written, &item.destination) {
            return Err(Unmade::Refused(
                index,
                format!("`{file}` is a file in the image, so nothing can be copied below it"),
            ));
        }
        let (uid, gid) = accounts.of_item(item).map_err(|problem| Unmade::Unknown(index, problem))?;
        let meta = Meta { mode: item.mode, mtime: request.epoch, uid, gid, ..Meta::default() };
        if let Some(target) = &item.link {
            tree.symlink(item.destination.trim_start_matches('/').as_bytes(), target.as_bytes(), &meta)?;
            return Ok(());
        }
        let Some(content) = &item.content else {
            let place = place_of(&reader.tree, &item.destination);
            let there = reader.tree.0.get(&place).map(|found| &found.entry).filter(|entry| entry.is_directory());
            if there.is_none() || item.is_said() {
                own_folders(tree, &place)?;
                let home = request.homes.iter().find(|home| home.has(&place));
                let meta = match (there, home) {
                    (Some(there), _) => kept(there, item, meta),
                    (None, Some(home)) if (meta.uid, meta.gid) == (0, 0) && item.user.is_none() => {
                        Meta { uid: home.uid, gid: home.gid, ..meta }
                    }
                    _ => meta,
                };
                tree.directory(place.as_bytes(), &meta)?;
                made.borrow_mut().insert(place);
            }
            return Ok(());
        };
        let destination = destination_of(&reader.tree, item);
        if destination != item.destination {
            let folder = &item.destination;
            notes.push(format!(
                "`{folder}` is a folder in the image: the file goes to `{destination}`; write `{folder}/` if that is intended"
            ));
        }
        let place = place_of(&reader.tree, &destination);
        own_folders(tree, &place)?;
        let (bytes, meta) = match item.clause {
            Clause::Copy => {
                let copy = Written::Copy(content.clone());
                if let Some(earlier) = copied.insert(place.clone(), index)
                    && written.get(&place) != Some(&copy)
                {
                    doubled.push((index, earlier));
                }
                let digest = digest_in(content);
                let is_there = match (&earlier, digest) {
                    (Some(earlier), Some(digest)) => earlier.name_in(tree, &place, digest, &meta)?,
                    _ => false,
                };
                if !is_there {
                    // Whatever its size.
                    let mut file = std::fs::File::open(content).map_err(|error| format!("{content}: {error}"))?;
                    let found = tree.hashed_file(place.as_bytes(), &meta, &mut file)?;
                    if digest != Some(found) {
                        return Err(Unmade::Damaged(content.clone()));
                    }
                }
                written.insert(place, copy);
                return Ok(());
            }
            clause => {
                let before = match written.get(&place) {
                    Some(written) => Some(written.bytes()?),
                    None => reader.read(&place)?,
                };
                let entry = reader.tree.0.get(&place).map(|found| &found.entry);
                let Some(before) = before else {
                    let why = format!("`{destination}` is not in the image, so nothing can be added to it");
                    return Err(Unmade::Refused(index, why));
                };
                let meta = match entry {
                    Some(entry) => kept(entry, item, meta),
                    None => Meta { mode: item.said_mode.unwrap_or(meta.mode), ..meta },
                };
                let bytes = content_of(content)?;
                (if clause == Clause::Append { appended(&before, &bytes) } else { merged(&before, &bytes) }, meta)
            }
        };
        tree.file(place.as_bytes(), &meta, &mut &bytes[..])?;
        written.insert(place, Written::Made(bytes));
        Ok(())
    };
    let work = |tree: &mut Extractor| {
        for (index, item) in request.items.iter().enumerate() {
            match make(tree, index, item) {
                Ok(()) => {}
                Err(Unmade::Failed(text)) => return Err(text),
                Err(other) => {
                    unmade = Some(other);
                    return Err(String::new());
                }
            }
        }
        Ok(())
    };
    let (scratch, base) = (&request.scratch, &request.base);
    let layer = match places(&reader.tree, &request.items) {
        Some(places) => layer_by_writing(scratch, base, request.epoch, places.iter().map(String::as_str), work),
        None => layer_by_edit(scratch, base, request.epoch, work),
    };
    let is_of_owner = matches!(unmade, Some(Unmade::Unknown(..)));
    let (layer, damaged) = match unmade {
        Some(Unmade::Refused(index, why) | Unmade::Unknown(index, why)) => (Err((index, why)), None),
        Some(Unmade::Damaged(content)) => (Err((0, String::new())), Some(content)),
        Some(Unmade::Failed(text)) => return Err(text),
        None => (Ok(layer?), None),
    };
    Ok(SyncAnswer { layer, is_of_owner, notes, doubled, damaged })
}

/// Owner and mode of what is there: of them only what the recipe says changes.
fn kept(there: &Entry, item: &SyncItem, said: Meta) -> Meta {
    Meta {
        mode: item.said_mode.unwrap_or(there.mode),
        uid: if item.user.is_some() || fault::planted("sync-owner-takes-all") { said.uid } else { there.uid },
        gid: if item.group.is_some() { said.gid } else { there.gid },
        ..said
    }
}

/// Where a file goes: what its line says, or below that, where the image has a folder there.
pub(super) fn destination_of(tree: &Merged, item: &SyncItem) -> String {
    match (&item.name_in_folder, resolved(tree, &item.destination)) {
        (Some(name), Some((_, Kind::Directory))) => format!("{}/{name}", item.destination),
        _ => item.destination.clone(),
    }
}

/// The path that a destination leads to, links followed where it is there.
pub(super) fn place_of(tree: &Merged, destination: &str) -> String {
    resolved(tree, destination).map_or_else(|| destination.trim_start_matches('/').to_owned(), |(path, _)| path)
}

/// All paths that may be written to, in the tree as it is. None where a link that is made leads others elsewhere.
fn places(tree: &Merged, items: &[SyncItem]) -> Option<Vec<String>> {
    let links = items.iter().filter(|item| item.link.is_some());
    let mut folders = links.map(|link| format!("{}/", link.destination.trim_end_matches('/')));
    if folders.any(|folder| items.iter().any(|item| item.destination.starts_with(&folder)))
        && !fault::planted("sync-link-through")
    {
        return None;
    }
    let of_item = |item: &SyncItem| match (&item.content, &item.link) {
        (_, Some(_)) => Some(item.destination.clone()),
        (Some(_), None) => Some(place_of(tree, &destination_of(tree, item))),
        // One that is there stays as it is, unless the recipe says it.
        (None, None) => {
            let is_there = matches!(resolved(tree, &item.destination), Some((_, Kind::Directory)));
            (!is_there || item.is_said()).then(|| place_of(tree, &item.destination))
        }
    };
    Some(items.iter().filter_map(of_item).collect())
}

/// The nearest thing above a destination that is there and no directory, links followed.
fn file_above(tree: &Merged, copied: &BTreeMap<String, Written>, destination: &str) -> Option<String> {
    let mut path = destination.trim_start_matches('/');
    while let Some((above, _)) = path.rsplit_once('/') {
        if copied.contains_key(above) {
            return Some(format!("/{above}"));
        }
        match resolved(tree, above) {
            Some((_, Kind::Directory)) => return None,
            Some(_) => return Some(format!("/{above}")),
            None => path = above,
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_in_the_image_are_followed_within_it() {
        let mut tree = Merged::default();
        let entry = |kind| Entry { kind, ..Entry::whiteout() };
        for (path, kind) in [
            (".", Kind::Directory),
            ("lib", Kind::Symlink("usr/lib".into())),
            ("usr", Kind::Directory),
            ("usr/lib", Kind::Directory),
            ("usr/lib/up", Kind::Symlink("../../../../etc".into())),
            ("usr/lib/top", Kind::Symlink("/etc".into())),
            ("etc", Kind::Directory),
            ("loop", Kind::Symlink("loop".into())),
        ] {
            tree.apply(path.to_owned(), entry(kind), 0);
        }
        assert_eq!(resolved(&tree, "/lib").unwrap().0, "usr/lib");
        assert_eq!(resolved(&tree, "/lib/up/").unwrap().0, "etc");
        assert_eq!(resolved(&tree, "/lib/top").unwrap().0, "etc");
        assert!(resolved(&tree, "/loop/x").is_none());
        assert!(resolved(&tree, "/nothing").is_none());
    }

    #[test]
    fn a_folder_that_is_there_keeps_what_the_recipe_does_not_say() {
        let there = Entry { kind: Kind::Directory, mode: 0o2775, uid: 7, gid: 8, ..Entry::whiteout() };
        let said = Meta { mode: 0o755, uid: 1, gid: 2, ..Meta::default() };
        let name = || Some("x".to_owned());
        for (user, group, mode, expected) in [
            (None, None, Some(0o700), (0o700, 7, 8)),
            (name(), None, None, (0o2775, 1, 8)),
            (None, name(), None, (0o2775, 7, 2)),
            (name(), name(), Some(0o1777), (0o1777, 1, 2)),
        ] {
            let item = SyncItem { user, group, said_mode: mode, ..SyncItem::directory("/srv") };
            let found = kept(&there, &item, said.clone());
            assert_eq!((found.mode, found.uid, found.gid), expected);
        }
    }

    #[test]
    fn all_paths_that_are_written_are_known_before() {
        let mut tree = Merged::default();
        let entry = |kind| Entry { kind, ..Entry::whiteout() };
        for (path, kind) in [
            (".", Kind::Directory),
            ("etc", Kind::Directory),
            ("etc/real", Kind::Fifo),
            ("etc/link", Kind::Symlink("real".into())),
        ] {
            tree.apply(path.to_owned(), entry(kind), 0);
        }
        let item = |content: Option<&str>, link: Option<&str>, destination: &str| SyncItem {
            content: content.map(str::to_owned),
            link: link.map(str::to_owned),
            name_in_folder: Some("name".to_owned()),
            ..SyncItem::at(destination, 0o644)
        };
        let file = |destination| item(Some("blob"), None, destination);
        let items =
            [file("/etc"), file("/etc/link"), file("/srv/new"), item(None, None, "/etc"), item(None, None, "/opt/dir")];
        assert_eq!(places(&tree, &items).unwrap(), ["etc/name", "etc/real", "srv/new", "opt/dir"]);
        // A link that another file goes through.
        let through = [item(None, Some("/etc"), "/opt/etc"), file("/opt/etc/motd")];
        assert!(places(&tree, &through).is_none());
        assert!(places(&tree, &[item(None, Some("/etc"), "/opt/etc"), file("/opt/etc.conf")]).is_some());
    }
}
