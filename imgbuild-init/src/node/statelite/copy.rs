//! Copies of files and trees, with all that belongs to them.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, lchown, symlink};
use std::path::Path;

use crate::sys;

fn said(path: &Path) -> impl Fn(io::Error) -> io::Error + '_ {
    move |error| io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// Copies a file or a tree. Directories that are there stay, and what is in them; other entries are replaced.
///
/// # Errors
/// With the path that it is about.
pub(super) fn copy(from: &Path, to: &Path) -> io::Result<()> {
    let found = from.symlink_metadata().map_err(said(from))?;
    if found.is_dir() {
        match to.symlink_metadata() {
            Ok(there) if there.is_dir() => {}
            Ok(_) => {
                fs::remove_file(to).map_err(said(to))?;
                fs::create_dir(to).map_err(said(to))?;
            }
            Err(_) => fs::create_dir(to).map_err(said(to))?,
        }
        for entry in fs::read_dir(from).map_err(said(from))? {
            let name = entry.map_err(said(from))?.file_name();
            copy(&from.join(&name), &to.join(&name))?;
        }
        return dress(from, to, &found);
    }
    match to.symlink_metadata() {
        Ok(there) if there.is_dir() => {
            return Err(io::Error::other(format!("{} is a directory, but {} is not", to.display(), from.display())));
        }
        Ok(_) => fs::remove_file(to).map_err(said(to))?,
        Err(_) => {}
    }
    let kind = found.file_type();
    if kind.is_symlink() {
        symlink(fs::read_link(from).map_err(said(from))?, to).map_err(said(to))?;
    } else if kind.is_file() {
        io::copy(&mut File::open(from).map_err(said(from))?, &mut File::create_new(to).map_err(said(to))?)
            .map_err(said(to))?;
    } else if kind.is_socket() {
        // Its listener is not here.
        return Ok(());
    } else {
        sys::make_special(to, found.mode(), found.rdev()).map_err(said(to))?;
    }
    dress(from, to, &found)
}

/// Gives owner, mode, attributes and time.
pub(super) fn dress(from: &Path, to: &Path, found: &Metadata) -> io::Result<()> {
    lchown(to, Some(found.uid()), Some(found.gid())).map_err(said(to))?;
    if !found.is_symlink() {
        fs::set_permissions(to, fs::Permissions::from_mode(found.mode() & 0o7777)).map_err(said(to))?;
    }
    for (name, value) in sys::attributes(from) {
        match sys::set_attribute(to, &name, &value) {
            // NFS has no place for some, as tmpfs for others: what matters is refused by nothing.
            Err(error) if error.raw_os_error() == Some(libc_unsupported()) => {}
            other => other.map_err(said(to))?,
        }
    }
    if found.is_file() || found.is_dir() {
        let times = fs::FileTimes::new().set_modified(found.modified()?);
        File::open(to).and_then(|file| file.set_times(times)).map_err(said(to))?;
    }
    Ok(())
}

fn libc_unsupported() -> i32 {
    sys::UNSUPPORTED
}

/// Copies beside, and gives it its name when it is whole: what was begun at an earlier boot is no copy.
///
/// # Errors
/// As [`copy`].
pub(super) fn copy_whole(from: &Path, to: &Path) -> io::Result<()> {
    let name = to.file_name().ok_or_else(|| io::Error::other("a copy needs a name"))?.to_string_lossy().into_owned();
    let aside = to.with_file_name(format!(".imgbuild-new.{name}"));
    match aside.symlink_metadata() {
        Ok(left) if left.is_dir() => fs::remove_dir_all(&aside).map_err(said(&aside))?,
        Ok(_) => fs::remove_file(&aside).map_err(said(&aside))?,
        Err(_) => {}
    }
    if let Err(error) = copy(from, &aside) {
        let _ = fs::remove_dir_all(&aside);
        let _ = fs::remove_file(&aside);
        return Err(error);
    }
    sys::write_out();
    fs::rename(&aside, to).map_err(said(to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_has_all_that_the_tree_has_and_leaves_what_is_beside() {
        let space = std::env::temp_dir().join(format!("imgbuild-copy-{}", std::process::id()));
        let (from, to) = (space.join("from"), space.join("to"));
        fs::create_dir_all(from.join("a/b")).unwrap();
        fs::create_dir_all(to.join("a")).unwrap();
        fs::write(from.join("a/b/file"), "text").unwrap();
        fs::set_permissions(from.join("a/b/file"), fs::Permissions::from_mode(0o4711)).unwrap();
        fs::set_permissions(from.join("a/b"), fs::Permissions::from_mode(0o1777)).unwrap();
        symlink("nowhere", from.join("a/link")).unwrap();
        fs::write(to.join("a/other"), "stays").unwrap();
        fs::write(to.join("a/link"), "goes").unwrap();
        copy(&from, &to).unwrap();
        assert_eq!(fs::read_to_string(to.join("a/b/file")).unwrap(), "text");
        assert_eq!(to.join("a/b/file").metadata().unwrap().mode() & 0o7777, 0o4711);
        assert_eq!(to.join("a/b").metadata().unwrap().mode() & 0o7777, 0o1777);
        assert_eq!(fs::read_link(to.join("a/link")).unwrap(), Path::new("nowhere"));
        assert_eq!(fs::read_to_string(to.join("a/other")).unwrap(), "stays");
        let time = |path: &Path| path.metadata().unwrap().modified().unwrap();
        assert_eq!(time(&from.join("a/b/file")), time(&to.join("a/b/file")));
        // What an earlier boot began is no copy.
        fs::create_dir_all(space.join(".imgbuild-new.kept/half")).unwrap();
        copy_whole(&from, &space.join("kept")).unwrap();
        assert!(space.join("kept/a/b/file").is_file() && !space.join("kept/half").exists());
        assert!(!space.join(".imgbuild-new.kept").exists());
        assert!(copy(&from.join("a/b/file"), &to.join("a")).is_err());
        fs::remove_dir_all(&space).unwrap();
    }
}
