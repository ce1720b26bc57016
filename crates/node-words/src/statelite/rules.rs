//! Which entries cannot be beside one another.

use super::list::Entry;
use super::paths::holds;
use super::way::{Home, Way};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Conflict {
    /// Files are put one behind the other, folders are not.
    ConOnFolder,
    OverlayOnFile,
    /// The folder of this one is read-only, or cannot be one.
    BelowReadOnly,
    /// Below a link there are only links, and none to a tree.
    BelowLink,
    LinkBelow,
    /// Below what persists all persists.
    BelowPersistent,
}

/// A conflict of an entry, by number, and the folder's entry that it is with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    pub entry: usize,
    pub folder: Option<usize>,
    pub conflict: Conflict,
}

/// Always a link to what the kernel says is mounted, whatever its folder is.
pub(super) const MTAB: &str = "/etc/mtab";

fn below(folder: Way, child: &Entry) -> Option<Conflict> {
    if child.path == MTAB {
        return None;
    }
    match folder {
        Way::Ro | Way::LinkRo | Way::Con | Way::LinkCon => Some(Conflict::BelowReadOnly),
        _ if folder.is_link() && (!child.way.is_link() || child.way == Way::LinkRo) => Some(Conflict::BelowLink),
        _ if !folder.is_link() && child.way.is_link() => Some(Conflict::LinkBelow),
        _ if folder.home() == Home::State && child.way.home() != Home::State => Some(Conflict::BelowPersistent),
        _ => None,
    }
}

/// All conflicts of a list. Source: xCAT 2.19, liteimg; `overlay` is imgbuild's.
pub fn conflicts(entries: &[Entry]) -> Vec<Found> {
    let mut found = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let is_folder = entry.path.ends_with('/');
        if entry.way.is_for_files() && is_folder {
            found.push(Found { entry: at, folder: None, conflict: Conflict::ConOnFolder });
        }
        if entry.way.is_overlay() && !is_folder {
            found.push(Found { entry: at, folder: None, conflict: Conflict::OverlayOnFile });
        }
        let folders = entries.iter().enumerate().filter(|(_, folder)| holds(&folder.path, &entry.path));
        let first = folders.filter_map(|(folder, one)| {
            Some(Found { entry: at, folder: Some(folder), conflict: below(one.way, entry)? })
        });
        found.extend(first.take(1));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_say_what_can_be_below_them() {
        let all = |list: &[(&str, &str)]| -> Vec<Conflict> {
            let entries: Vec<Entry> =
                list.iter().map(|(way, path)| Entry::new(path, Way::parse(way).unwrap())).collect();
            conflicts(&entries).into_iter().map(|found| found.conflict).collect()
        };
        let child = |folder: &str, child: &str| all(&[(folder, "/var/"), (child, "/var/log/x")]);
        for (folder, one, expected) in [
            ("tmpfs", "tmpfs", None),
            ("tmpfs", "persistent", None),
            ("tmpfs", "localdisk", None),
            ("tmpfs", "ro", None),
            ("tmpfs", "con", None),
            ("tmpfs", "link", Some(Conflict::LinkBelow)),
            ("ro", "tmpfs", Some(Conflict::BelowReadOnly)),
            ("link,ro", "link", Some(Conflict::BelowReadOnly)),
            ("link", "link", None),
            ("link", "link,persistent", None),
            ("link", "link,con", None),
            ("link", "link,ro", Some(Conflict::BelowLink)),
            ("link", "tmpfs", Some(Conflict::BelowLink)),
            ("persistent", "persistent", None),
            ("persistent", "tmpfs", Some(Conflict::BelowPersistent)),
            ("link,persistent", "link", Some(Conflict::BelowPersistent)),
            ("localdisk", "tmpfs", None),
            ("overlay", "tmpfs", None),
            ("overlay", "persistent", None),
            ("overlay,persistent", "tmpfs", Some(Conflict::BelowPersistent)),
            ("overlay", "link", Some(Conflict::LinkBelow)),
        ] {
            assert_eq!(child(folder, one), Vec::from_iter(expected), "{folder} over {one}");
        }
        assert_eq!(all(&[("con", "/etc/")]), [Conflict::ConOnFolder]);
        assert_eq!(all(&[("overlay", "/etc/hosts")]), [Conflict::OverlayOnFile]);
        // Only a path that ends in `/` is a folder, and the table always has a link for mtab.
        assert_eq!(all(&[("ro", "/root"), ("tmpfs", "/root/x")]), []);
        assert_eq!(all(&[("tmpfs", "/etc/"), ("link", "/etc/mtab")]), []);
    }
}
