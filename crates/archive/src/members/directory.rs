//! What a directory holds, in the form of an archive's list.

use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use node_words::name::text_of;

use super::listing::{Listed, Look};

/// Lists a directory by path; links are not followed. What `keep` says no to, by its path without a slash in front, is left out
/// with all that is below it. Each name of a file is listed with its content, hard links too.
/// Errors: The first file or directory that cannot be read; `look`'s.
pub fn list_directory(
    directory: &Path,
    keep: &mut dyn FnMut(&walkdir::DirEntry) -> bool,
    look: &mut Look<'_>,
) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    for entry in walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().filter_entry(keep) {
        let entry = entry.map_err(io::Error::from)?;
        let path = entry.path();
        let said = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", path.display()));
        let found = entry.metadata().map_err(io::Error::from)?;
        let below = path.strip_prefix(directory).unwrap_or(path);
        let target = found.is_symlink().then(|| std::fs::read_link(path)).transpose().map_err(said)?;
        let listed = Listed {
            path: text_of(below.as_os_str().as_bytes()).into_owned(),
            mode: found.mode(),
            uid: found.uid(),
            gid: found.gid(),
            size: if found.is_file() { found.len() } else { 0 },
            mtime: found.mtime(),
            target: target.map(|target| text_of(target.as_os_str().as_bytes()).into_owned()),
            same_as: None,
            file: None,
            device: (rustix::fs::major(found.rdev()), rustix::fs::minor(found.rdev())),
            xattrs: xattrs_of(path).map_err(said)?,
        };
        if found.is_file() {
            // Something may have put a link or a pipe in its place since.
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_CLOEXEC;
            let mut file = std::fs::File::options().read(true).custom_flags(flags).open(path).map_err(said)?;
            look(&listed, &mut file).map_err(said)?;
        } else {
            look(&listed, &mut io::empty()).map_err(said)?;
        }
    }
    Ok(())
}

/// Extended attributes of a file itself; none where the file system has none.
fn xattrs_of(path: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    use rustix::io::Errno;
    let mut names = vec![0u8; 1 << 16];
    let length = match rustix::fs::llistxattr(path, &mut names) {
        Ok(length) => length,
        Err(Errno::NOTSUP | Errno::PERM) => return Ok(Vec::new()),
        Err(error) => return Err(error.into()),
    };
    let mut found = Vec::new();
    for name in names[..length].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let name = String::from_utf8_lossy(name).into_owned();
        // What the host's policy or overlayfs set is not the tree's.
        if name == "security.selinux" || name.contains(".overlay.") {
            continue;
        }
        let mut value = vec![0u8; 1 << 16];
        match rustix::fs::lgetxattr(path, name.as_str(), &mut value) {
            Ok(length) => value.truncate(length),
            Err(Errno::NODATA | Errno::NOTSUP | Errno::PERM) => continue,
            Err(error) => return Err(error.into()),
        }
        found.push((name, value));
    }
    Ok(found)
}
