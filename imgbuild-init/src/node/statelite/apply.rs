//! Actions of the resolver, done to the root.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::copy::{copy, copy_whole, dress};
use super::inside::within;
use super::{BASE, DISK, IMAGE, MEMORY, STATE};
use crate::image::root;
use crate::statelite::{Action, Area, Place, Seen, View};
use crate::{say, sys};

/// Where things lie.
pub(super) struct Areas {
    trees: Vec<PathBuf>,
}

fn said(path: &Path) -> impl Fn(io::Error) -> String + '_ {
    move |error| format!("{}: {error}", path.display())
}

impl View for Areas {
    fn look(&self, place: &Place) -> Seen {
        let Ok(path) = within(&self.folder(place.area), &place.path, true) else { return Seen::Nothing };
        match path.symlink_metadata() {
            Ok(found) if found.is_dir() => match fs::read_dir(&path).map(|mut entries| entries.next().is_some()) {
                Ok(true) => Seen::Folder,
                _ => Seen::EmptyFolder,
            },
            Ok(_) => Seen::File,
            // A link that leads nowhere is there all the same.
            Err(_) => match within(&self.folder(place.area), &place.path, false).map(|path| path.symlink_metadata()) {
                Ok(Ok(_)) => Seen::File,
                _ => Seen::Nothing,
            },
        }
    }
}

impl Areas {
    /// With these trees: a directory, or one of the image.
    pub(super) fn of(trees: &[(Option<String>, String)]) -> Self {
        let folder = |(mounted, own): &(Option<String>, String)| match mounted {
            Some(mounted) => PathBuf::from(mounted),
            None => PathBuf::from(format!("{IMAGE}{own}")),
        };
        Self { trees: trees.iter().map(folder).collect() }
    }

    fn folder(&self, area: Area) -> PathBuf {
        match area {
            Area::Root => PathBuf::from(root()),
            Area::Image => PathBuf::from(IMAGE),
            Area::Memory => PathBuf::from(MEMORY),
            Area::State => PathBuf::from(STATE),
            Area::Disk => PathBuf::from(DISK),
            Area::Tree(number) => self.trees.get(number).cloned().unwrap_or_default(),
        }
    }

    /// The path of a place; its last part is not followed.
    fn path(&self, place: &Place) -> Result<PathBuf, String> {
        within(&self.folder(place.area), &place.path, false).map_err(|error| error.to_string())
    }

    /// The path of what is read: its last part is followed, unless it leads nowhere.
    fn source(&self, place: &Place) -> Result<PathBuf, String> {
        let folder = self.folder(place.area);
        let followed = within(&folder, &place.path, true).map_err(|error| error.to_string())?;
        if followed.symlink_metadata().is_ok() { Ok(followed) } else { self.path(place) }
    }

    /// Where something is to be made: its folders are there then, with owners and modes of those of the image.
    fn target(&self, place: &Place) -> Result<PathBuf, String> {
        let folder = self.folder(place.area);
        let path = self.path(place)?;
        let above: Vec<&Path> =
            path.ancestors().skip(1).take_while(|one| *one != folder && one.starts_with(&folder)).collect();
        for one in above.into_iter().rev() {
            if one.symlink_metadata().is_ok() {
                continue;
            }
            fs::create_dir(one).map_err(said(one))?;
            let own = one.strip_prefix(&folder).unwrap_or(one).to_string_lossy().into_owned();
            let like = within(Path::new(IMAGE), &own, true).map_err(|error| error.to_string())?;
            if let Ok(found) = like.metadata() {
                dress(&like, one, &found).map_err(|error| error.to_string())?;
            }
        }
        Ok(path)
    }

    /// Makes sure that something of the same kind is where it is to be mounted.
    fn mount_point(&self, on: &Place, is_folder: bool) -> Result<PathBuf, String> {
        let path = self.target(on)?;
        match path.symlink_metadata() {
            Ok(found) if found.is_symlink() => fs::remove_file(&path).map_err(said(&path))?,
            Ok(found) if found.is_dir() == is_folder => return Ok(path),
            Ok(found) => {
                let kind = |is_folder: bool| if is_folder { "a directory" } else { "a file" };
                return Err(format!(
                    "{} is {} in the image, but {} where it comes from",
                    on.path,
                    kind(found.is_dir()),
                    kind(is_folder)
                ));
            }
            Err(_) => {}
        }
        match is_folder {
            true => fs::create_dir(&path),
            false => fs::write(&path, ""),
        }
        .map_err(said(&path))?;
        Ok(path)
    }

    /// Does one action.
    ///
    /// # Errors
    /// A text.
    pub(super) fn run(&self, action: &Action) -> Result<(), String> {
        match action {
            Action::Copy { from, to } => {
                let (source, target) = (self.source(from)?, self.target(to)?);
                if source.is_symlink() {
                    // It leads nowhere here; what is to lie there comes later.
                    say!("statelite: {} is a link that leads nowhere: an empty file in its place", from.path);
                    return fs::write(&target, "").map_err(said(&target));
                }
                match to.area {
                    Area::State | Area::Disk if target.symlink_metadata().is_err() => copy_whole(&source, &target),
                    _ => copy(&source, &target),
                }
                .map_err(|error| format!("{}: {error}", to.path))
            }
            Action::Concatenate { from, to } => {
                let target = self.target(to)?;
                let mut text = Vec::new();
                for one in from {
                    let source = self.source(one)?;
                    text.extend(fs::read(&source).map_err(said(&source))?);
                }
                let _ = fs::remove_file(&target);
                fs::write(&target, text).map_err(said(&target))?;
                fs::set_permissions(&target, fs::Permissions::from_mode(0o644)).map_err(said(&target))
            }
            Action::Bind { from, on, read_only } => {
                let source = self.source(from)?;
                let point = self.mount_point(on, source.is_dir())?;
                sys::bind(&source.to_string_lossy(), &point.to_string_lossy(), *read_only).map_err(said(&point))
            }
            Action::Overlay { lowers, upper, on } => self.overlay(lowers, upper, on),
            Action::Link { at, to } => {
                let link = self.target(at)?;
                let place = self.folder(to.area).join(to.path.trim_start_matches('/'));
                let _ = fs::remove_file(&link);
                symlink(place, &link).map_err(said(&link))
            }
            Action::Mounts(at) => {
                let link = self.target(at)?;
                let _ = fs::remove_file(&link);
                symlink("/proc/mounts", &link).map_err(said(&link))
            }
            Action::Redirect(path) => redirect(Path::new(root()), path),
            Action::Missing(path) => {
                say!("statelite: {path} is neither in a tree nor in the image: nothing is done");
                Ok(())
            }
        }
    }

    fn overlay(&self, lowers: &[Place], upper: &Place, on: &Place) -> Result<(), String> {
        let mut below = Vec::new();
        for lower in lowers {
            let path = self.source(lower)?;
            if !path.is_dir() {
                return Err(format!("{} is no directory: an overlay cannot lie over it", lower.path));
            }
            below.push(path);
        }
        let point = match on.path.is_empty() {
            true => PathBuf::from(root()),
            false => self.mount_point(on, true)?,
        };
        let own = self.folder(upper.area).join(".overlay").join(plain_name(&upper.path));
        let written = own.join("upper");
        if !written.is_dir() {
            fs::create_dir_all(&written).map_err(said(&written))?;
            if let Some(first) = below.first() {
                let found = first.metadata().map_err(said(first))?;
                dress(first, &written, &found).map_err(|error| error.to_string())?;
            }
        }
        let lower: Vec<String> = below.iter().map(|path| escaped(&path.to_string_lossy())).collect();
        sys::mount_overlay(&point.to_string_lossy(), &lower.join(":"), &own.to_string_lossy()).map_err(said(&point))
    }
}

/// A path as one name that needs no quotes among the options of a mount.
fn plain_name(path: &str) -> String {
    let mut name = String::from("root");
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' => name.push(char::from(byte)),
            byte => name += &format!("%{byte:02X}"),
        }
    }
    name
}

/// Source: Linux, Documentation/filesystems/overlayfs.rst: colons are escaped; commas part options.
fn escaped(path: &str) -> String {
    path.replace('\\', "\\\\").replace(':', "\\:").replace(',', "\\,")
}

/// Puts a link in place of a path that leads to the same one in memory.
fn redirect(tree: &Path, path: &str) -> Result<(), String> {
    let link = within(tree, path, false).map_err(|error| error.to_string())?;
    if let Some(folder) = link.parent() {
        fs::create_dir_all(folder).map_err(said(folder))?;
    }
    match link.symlink_metadata() {
        Ok(found) if found.is_dir() => fs::remove_dir_all(&link),
        Ok(_) => fs::remove_file(&link),
        Err(_) => Ok(()),
    }
    .map_err(said(&link))?;
    let depth = link.strip_prefix(tree).map_or(1, |own| own.components().count());
    let up = "../".repeat(depth.saturating_sub(1));
    let plain = path.trim_end_matches('/');
    symlink(format!("{up}{}/tmpfs{plain}", BASE.trim_start_matches('/')), &link).map_err(said(&link))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_leads_from_the_root_to_memory() {
        let tree = std::env::temp_dir().join(format!("imgbuild-redirect-{}", std::process::id()));
        fs::create_dir_all(tree.join("etc/ssh/x")).unwrap();
        fs::create_dir_all(tree.join("run")).unwrap();
        symlink("/run", tree.join("v")).unwrap();
        redirect(&tree, "/etc/ssh/").unwrap();
        redirect(&tree, "/v/deep/file").unwrap();
        redirect(&tree, "/top").unwrap();
        let leads = |path: &str| fs::read_link(tree.join(path)).unwrap();
        assert_eq!(leads("etc/ssh"), Path::new("../.statelite/tmpfs/etc/ssh"));
        assert_eq!(leads("run/deep/file"), Path::new("../../.statelite/tmpfs/v/deep/file"));
        assert_eq!(leads("top"), Path::new(".statelite/tmpfs/top"));
        fs::remove_dir_all(&tree).unwrap();
    }

    #[test]
    fn names_of_overlays_are_plain() {
        assert_eq!(plain_name("/var/my,dir:x"), "root%2Fvar%2Fmy%2Cdir%3Ax");
        assert_eq!(plain_name(""), "root");
        assert_eq!(escaped("/a:b,c\\d"), "/a\\:b\\,c\\\\d");
    }
}
