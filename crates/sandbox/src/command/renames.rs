//! Renames of directories that lie in lower layers.
//!
//! overlayfs refuses them with EXDEV (Documentation/filesystems/overlayfs.rst, "Renaming directories"; `redirect_dir` cannot be had
//! together with `userxattr`). mv(1) copies then, but rename(2) in a script does not: rpm's guidelines tell packages to replace a
//! directory by a link with `os.rename` in Lua, and such a script fails, or spins. So each rename asks here first: a directory of
//! lower layers is recreated above them, as mv would, and the call goes on. A layer is what differs between two trees, so its bytes
//! are those of the other way to assemble trees, where no rename fails.

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};
use rustix::io::Errno;

use super::asker::{Place, enter_parent, text_at};
use crate::filter;
use crate::tree::copy::copy_layers;

/// Recreates what a call renames, where it is a directory of lower layers. Whatever fails here fails in the call, too.
pub(super) fn make_room(asked: &libc::seccomp_notif) -> Option<()> {
    let pid = i32::try_from(asked.pid).ok()?;
    // rename(old, new); renameat(olddir, old, ..). Source: the system call tables.
    let (directory, address) = match filter::name_of(asked.data.arch, asked.data.nr) {
        Some("rename") => (libc::AT_FDCWD, asked.data.args[0]),
        _ => (asked.data.args[0] as i32, asked.data.args[1]),
    };
    let path = text_at(pid, address)?;
    let place = Place::of(pid, directory, &path)?;
    // Most renames are of files. This look never leaves the directory; the one that counts is made where the process is.
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let resolve = if path[0] == b'/' { ResolveFlags::IN_ROOT } else { ResolveFlags::BENEATH };
    if let Ok(found) = rustix::fs::openat2(&place.base, path.as_slice(), flags, Mode::empty(), resolve)
        && rustix::fs::fstat(&found).is_ok_and(|stat| stat.st_mode & libc::S_IFMT != libc::S_IFDIR)
    {
        return None;
    }
    place.visit(|| recreate(&path))
}

/// Makes a directory again if it cannot be renamed.
fn recreate(path: &[u8]) -> Option<()> {
    let name = enter_parent(path)?;
    let name = name.to_str()?;
    let stat = rustix::fs::statat(CWD, name, rustix::fs::AtFlags::SYMLINK_NOFOLLOW).ok()?;
    if stat.st_mode & libc::S_IFMT != libc::S_IFDIR {
        return None;
    }
    // The kernel says best whether it can be renamed.
    let aside = format!(".imgbuild-renamed-{}", std::process::id());
    match rustix::fs::rename(name, &aside) {
        Ok(()) => return rustix::fs::rename(&aside, name).ok(),
        Err(Errno::XDEV) => {}
        Err(_) => return None,
    }
    std::fs::create_dir(&aside).ok()?;
    if copy_layers(&[name.to_owned()], &aside).is_err() {
        let _ = std::fs::remove_dir_all(&aside);
        return None;
    }
    std::fs::remove_dir_all(name).ok()?;
    rustix::fs::rename(&aside, name).ok()
}
