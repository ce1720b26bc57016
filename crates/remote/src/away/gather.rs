//! Which files a build on another machine needs: those that the plan looked at, in the workspace and where a recipe names
//! others.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::parcel::{Item, What};
use base::digest::Digest;
use recipe::owners;
use witness::{Kind, SeenPath, Witness};

/// Files of which only the kind was asked are sent up to this size, in bytes.
const UNREAD_LIMIT: u64 = 1 << 20;

#[derive(Debug, Default)]
pub struct Gathered {
    /// Sorted by place.
    pub items: Vec<Item>,
    pub files: BTreeMap<Digest, PathBuf>,
    /// User, group and mode of what has others than the files that are made there, by place.
    pub owners: BTreeMap<PathBuf, (u32, u32, u32)>,
}

impl Gathered {
    /// Adds a file of the workspace that no plan looked at; one that cannot be read is left out.
    pub fn add_file(&mut self, path: &Path, root: &Path) {
        use std::os::unix::fs::PermissionsExt;
        let (Ok(below), Ok(bytes)) = (path.strip_prefix(root), std::fs::read(path)) else { return };
        let place = Path::new("ws").join(below);
        if self.items.iter().any(|item| item.place == place) {
            return;
        }
        let mode = std::fs::metadata(path).map_or(0o644, |found| found.permissions().mode() & 0o7777);
        let digest = Digest::of(&bytes);
        self.items.push(Item { place, what: What::File { mode, size: bytes.len() as u64, digest } });
        self.files.insert(digest, path.to_owned());
    }
}

pub struct Site<'a> {
    /// The workspace's directory, without links.
    pub root: &'a Path,
    pub named: &'a BTreeSet<PathBuf>,
    /// Directories that are no part of it: the store, what was published.
    pub without: &'a [PathBuf],
}

impl Site<'_> {
    fn place(&self, path: &Path) -> Option<PathBuf> {
        if self.without.iter().any(|one| path.starts_with(one)) {
            return None;
        }
        if let Ok(below) = path.strip_prefix(self.root) {
            return Some(Path::new("ws").join(below));
        }
        let mut named = self.named.iter().filter(|one| !one.starts_with(self.root));
        // What lies below something that is named, and links on the way there.
        let is_named = named.any(|one| path.starts_with(one) || one.starts_with(path));
        is_named.then(|| outside(path))
    }

    /// Where a link leads that is followed on the way to what is named: `from` is where it goes.
    fn led(&self, link: &Path, target: &Path, from: &Path) -> PathBuf {
        if !self.named.iter().any(|one| one.starts_with(link)) {
            return target.to_owned();
        }
        let target = recipe::plain(&link.parent().unwrap_or(link).join(target));
        let to = match target.strip_prefix(self.root) {
            Ok(below) => Path::new("ws").join(below),
            Err(_) => outside(&target),
        };
        recipe::between(from.parent().unwrap_or(from), &to)
    }
}

fn outside(path: &Path) -> PathBuf {
    Path::new("abs").join(path.strip_prefix("/").unwrap_or(path))
}

/// Gathers what plans looked at.
/// Errors: What cannot be read, in words.
pub fn gather(witnesses: &[Witness], site: &Site<'_>) -> Result<Gathered, String> {
    let mut all: BTreeMap<PathBuf, What> = BTreeMap::new();
    let mut files = BTreeMap::new();
    let mut owners = BTreeMap::new();
    let seen: Vec<SeenPath<'_>> = witnesses.iter().flat_map(Witness::there).collect();
    // git's own directories were looked at for what it tracks; only one that is copied with all in it is sent.
    let listed: BTreeSet<&Path> = seen.iter().filter(|one| one.is_listed).map(|one| one.path).collect();
    let is_of_git = |one: &SeenPath<'_>| {
        let own = one.path.ancestors().find(|above| above.file_name().is_some_and(|name| name == ".git"));
        own.is_some_and(|own| match one.kind {
            // It names a repository elsewhere.
            Kind::File if own == one.path => !own.parent().is_some_and(|above| listed.contains(above)),
            _ => !listed.contains(own),
        })
    };
    for seen in seen {
        let Some(place) = site.place(seen.path).filter(|_| !is_of_git(&seen)) else { continue };
        let owner = match seen.kind {
            Kind::Directory | Kind::File => owner(&seen)?,
            _ => (0, 0, seen.mode),
        };
        let needed = if seen.kind == Kind::Directory { 0o500 } else { 0o400 };
        if (owner.0, owner.1) != (0, 0) || owner.2 & 0o7000 != 0 || owner.2 & needed != needed {
            owners.insert(place.clone(), owner);
        }
        let what = match seen.kind {
            Kind::Directory => What::Folder(owner.2),
            Kind::Link => {
                let target = std::fs::read_link(seen.path).map_err(|error| unread(seen.path, &error))?;
                What::Link(site.led(seen.path, &target, &place))
            }
            Kind::File if seen.is_read || seen.size <= UNREAD_LIMIT => {
                let digest = content(&seen, all.get(&place))?;
                files.insert(digest, seen.path.to_owned());
                What::File { mode: owner.2, size: seen.size, digest }
            }
            // Actions refuse these, or were never asked for them.
            Kind::File | Kind::Other => continue,
        };
        all.insert(place, what);
    }
    let items = all.into_iter().map(|(place, what)| Item { place, what }).collect();
    Ok(Gathered { items, files, owners })
}

/// What git says of a file, or what it has itself. With the numbers of the recipe's own file the others are compared there, too.
fn owner(seen: &SeenPath<'_>) -> Result<(u32, u32, u32), String> {
    let own = owners::read(seen.path).map_err(|error| unread(seen.path, &error))?;
    let is_of_recipe = seen.path.file_name().is_some_and(|name| name == "image.toml" || name == "image.kdl");
    Ok(if is_of_recipe { (seen.uid, seen.gid, own.mode) } else { (own.uid, own.gid, own.mode) })
}

fn content(seen: &SeenPath<'_>, earlier: Option<&What>) -> Result<Digest, String> {
    match (seen.digest, earlier) {
        (Some(digest), _) => Ok(digest),
        (None, Some(What::File { digest, .. })) => Ok(*digest),
        (None, _) => {
            let mut hasher = blake3::Hasher::new();
            let read = std::fs::File::open(seen.path).and_then(|file| hasher.update_reader(file).map(drop));
            read.map_err(|error| unread(seen.path, &error))?;
            Ok(Digest(*hasher.finalize().as_bytes()))
        }
    }
}

fn unread(path: &Path, error: &std::io::Error) -> String {
    format!("`{}` cannot be read: {error}", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;
    use witness::{Known, canonicalize, digest, list, recording};

    #[test]
    fn what_was_looked_at_is_sent_and_links_lead_to_where_it_goes() {
        let here = tempfile::tempdir().unwrap();
        let top = here.path().canonicalize().unwrap();
        let (root, other) = (top.join("site"), top.join("other"));
        std::fs::create_dir_all(root.join("tree")).unwrap();
        std::fs::create_dir_all(&other).unwrap();
        for (path, text) in [(root.join("tree/a"), "a"), (root.join("unasked"), "u"), (other.join("motd"), "m")] {
            std::fs::write(path, text).unwrap();
        }
        std::fs::write(other.join("private"), "p").unwrap();
        std::os::unix::fs::symlink(other.join("motd"), root.join("motd")).unwrap();
        std::os::unix::fs::symlink("/etc/issue", root.join("tree/link")).unwrap();
        let ((), witness) = recording(Known::default(), || {
            canonicalize(&root.join("motd")).unwrap();
            digest(&other.join("motd")).unwrap();
            list(&root.join("tree")).unwrap();
            digest(&root.join("tree/a")).unwrap();
            witness::link_target(&root.join("tree/link")).unwrap();
            let _ = canonicalize(&other.join("private"));
        });
        let named = [root.join("motd"), other.join("motd"), root.join("tree")].into_iter().collect();
        let site = Site { root: &root, named: &named, without: &[] };
        let gathered = gather(&[witness], &site).unwrap();
        let of = |name: &str| gathered.items.iter().find(|item| item.place == Path::new(name)).map(|item| &item.what);
        let abs = format!("abs{}", other.display());
        assert_eq!(of(&format!("{abs}/motd")).map(|what| matches!(what, What::File { .. })), Some(true));
        assert_eq!(of("ws/motd"), Some(&What::Link(Path::new("..").join(&abs).join("motd"))));
        assert_eq!(of("ws/tree/link"), Some(&What::Link("/etc/issue".into())));
        assert!(matches!(of("ws/tree/a"), Some(What::File { size: 1, .. })));
        assert_eq!((of("ws/unasked"), of(&format!("{abs}/private"))), (None, None));
        assert_eq!(gathered.files.len(), 2);
    }

    #[test]
    fn owners_and_modes_are_sent_as_they_were_read() {
        use std::os::unix::fs::PermissionsExt;
        let here = tempfile::tempdir().unwrap();
        let root = here.path().canonicalize().unwrap();
        std::fs::create_dir(root.join("tree")).unwrap();
        for name in ["image.toml", "tree/tracked", "tree/new", "tree/set"] {
            std::fs::write(root.join(name), name).unwrap();
        }
        for words in [&["init", "-q"][..], &["add", "tree/tracked"]] {
            let done = std::process::Command::new("git").current_dir(&root).args(words).status().unwrap();
            assert!(done.success());
        }
        let modes = [("tree", 0o700), ("tree/tracked", 0o600), ("tree/new", 0o600), ("tree/set", 0o2755)];
        for (name, mode) in modes {
            std::fs::set_permissions(root.join(name), PermissionsExt::from_mode(mode)).unwrap();
        }
        let ((), witness) = recording(Known::default(), || {
            for name in ["image.toml", "tree", "tree/tracked", "tree/new", "tree/set"] {
                owners::read(&root.join(name)).unwrap();
            }
            list(&root.join("tree")).unwrap();
        });
        let named = BTreeSet::new();
        let gathered = gather(&[witness], &Site { root: &root, named: &named, without: &[] }).unwrap();
        let of = |name: &str| gathered.items.iter().find(|item| item.place == Path::new(name)).map(|item| &item.what);
        assert_eq!(of("ws/tree"), Some(&What::Folder(0o755)));
        assert!(matches!(of("ws/tree/tracked"), Some(What::File { mode: 0o644, .. })));
        assert!(matches!(of("ws/tree/new"), Some(What::File { mode: 0o600, .. })));
        let of_git = |item: &&Item| item.place.components().any(|part| part.as_os_str() == ".git");
        assert_eq!(gathered.items.iter().find(of_git), None);
        // What is tracked is root's there, too; what has numbers has them.
        let found = std::fs::metadata(root.join("tree/set")).unwrap();
        use std::os::unix::fs::MetadataExt;
        let own = (found.uid(), found.gid(), 0o2755);
        assert_eq!(gathered.owners.get(Path::new("ws/tree/set")), Some(&own));
        assert_eq!(gathered.owners.get(Path::new("ws/tree/tracked")), None);
    }
}
