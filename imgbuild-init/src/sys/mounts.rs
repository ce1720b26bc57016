//! Wrappers of mount(2) and umount(2).

use std::io;

use super::{c, check};

pub(super) fn mount(source: &str, target: &str, kind: &str, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    let (source, target, kind, data) = (c(source)?, c(target)?, c(kind)?, c(data)?);
    // SAFETY: all pointers are to live, terminated strings.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) })
        .map(drop)
}

/// Mounts /proc, /sys, /dev and /run.
pub(crate) fn mount_kernel_trees() {
    let quiet = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    for (source, target, kind, flags, data) in [
        ("proc", "/proc", "proc", quiet, ""),
        ("sysfs", "/sys", "sysfs", quiet, ""),
        ("devtmpfs", "/dev", "devtmpfs", libc::MS_NOSUID, "mode=755"),
        ("tmpfs", "/run", "tmpfs", libc::MS_NOSUID | libc::MS_NODEV, "mode=755"),
    ] {
        let _ = std::fs::create_dir_all(target);
        // Who started this program may have done it, as in a container.
        if is_mount_point(target) {
            continue;
        }
        if let Err(error) = mount(source, target, kind, flags, data) {
            crate::say!("{target} cannot be mounted: {error}");
        }
    }
}

/// Whether a directory is on another file system than the root.
fn is_mount_point(path: &str) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &str| std::fs::metadata(path).map(|found| found.dev());
    device(path).is_ok_and(|one| device("/").is_ok_and(|root| root != one))
}

/// Makes the file system of the new root.
pub(crate) fn mount_root(target: &str, size: &str, flags: Option<&str>) -> io::Result<()> {
    let _ = std::fs::create_dir_all(target);
    // Inodes cost memory as well; without a limit of their own the size's default would be too low for small files.
    let flags = flags.map(|flags| format!(",{flags}")).unwrap_or_default();
    mount("imgbuild", target, "tmpfs", 0, &format!("mode=755,size={size},nr_inodes=0{flags}"))
}

/// Mounts an image for reading.
pub(crate) fn mount_image(device: &str, target: &str, kind: &str) -> io::Result<()> {
    let _ = std::fs::create_dir_all(target);
    mount(device, target, kind, libc::MS_RDONLY, "")
}

/// Mounts a disk that keeps frames. Nothing on it is a program or a device, and no link of it is followed.
pub(crate) fn mount_cache(device: &str, target: &str, kind: &str) -> io::Result<()> {
    /// Source: Linux 5.10, include/uapi/linux/mount.h.
    const MS_NOSYMFOLLOW: libc::c_ulong = 256;
    std::fs::create_dir_all(target)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOATIME;
    mount(device, target, kind, flags | MS_NOSYMFOLLOW, "")
}

/// Joins what can only be read with a tmpfs that takes what is written.
pub(crate) fn mount_overlay(target: &str, lower: &str, upper: &str) -> io::Result<()> {
    for path in [target.to_owned(), format!("{upper}/upper"), format!("{upper}/work")] {
        std::fs::create_dir_all(path)?;
    }
    mount("imgbuild", target, "overlay", 0, &format!("lowerdir={lower},upperdir={upper}/upper,workdir={upper}/work"))
}

/// Shows the kernel's side of SELinux.
pub(crate) fn mount_selinux(target: &str) -> io::Result<()> {
    mount("selinuxfs", target, "selinuxfs", libc::MS_NOSUID | libc::MS_NOEXEC, "")
}

/// Takes a file system away, no matter who still uses it.
pub(crate) fn unmount(target: &str) {
    if let Ok(target) = c(target) {
        // SAFETY: the pointer is to a live, terminated string.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Unmounts a file system that is no longer used, and waits until all of it is on its disk; true if it was unmounted.
pub(crate) fn unmount_now(target: &str) -> bool {
    // SAFETY: the pointer is to a live, terminated string.
    c(target).is_ok_and(|target| unsafe { libc::umount2(target.as_ptr(), 0) } == 0)
}

/// Moves a mount.
pub(crate) fn move_mount(from: &str, to: &str) -> io::Result<()> {
    let _ = std::fs::create_dir_all(to);
    mount(from, to, "", libc::MS_MOVE, "")
}

/// How a file system is mounted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct MountFlags {
    /// For reading alone.
    pub read_only: bool,
    /// Without the rights of files' owners.
    pub no_suid: bool,
    /// Without devices.
    pub no_dev: bool,
    /// Without programs.
    pub no_exec: bool,
    /// Without times of access.
    pub no_atime: bool,
}

/// Mounts with flags and with options of the kind.
pub(crate) fn mount_with(source: &str, target: &str, kind: &str, flags: MountFlags, data: &str) -> io::Result<()> {
    std::fs::create_dir_all(target)?;
    let all = [
        (flags.read_only, libc::MS_RDONLY),
        (flags.no_suid, libc::MS_NOSUID),
        (flags.no_dev, libc::MS_NODEV),
        (flags.no_exec, libc::MS_NOEXEC),
        (flags.no_atime, libc::MS_NOATIME),
    ];
    let flags = all.into_iter().filter(|(is_set, _)| *is_set).fold(0, |flags, (_, flag)| flags | flag);
    mount(source, target, kind, flags, data)
}

/// Shows a file or a directory at another place too.
pub(crate) fn bind(from: &str, to: &str, read_only: bool) -> io::Result<()> {
    mount(from, to, "", libc::MS_BIND, "")?;
    if !read_only {
        return Ok(());
    }
    // A second step, as the first one takes no flags. Those that the mount has may have to stay: nosuid and the like of a user's mounts.
    let change = libc::MS_BIND | libc::MS_REMOUNT | libc::MS_RDONLY;
    mount("", to, "", change, "")
        .or_else(|_| mount("", to, "", change | libc::MS_NOSUID | libc::MS_NODEV, ""))
        .inspect_err(|_| unmount(to))
}

/// Moves a mount with all that is mounted below it; shows it twice where it cannot be moved.
pub(crate) fn show_tree(from: &str, to: &str) -> io::Result<()> {
    std::fs::create_dir_all(to)?;
    mount(from, to, "", libc::MS_MOVE, "").or_else(|_| mount(from, to, "", libc::MS_BIND | libc::MS_REC, ""))
}

/// Takes no more writes to a file system.
pub(crate) fn make_read_only(target: &str) -> io::Result<()> {
    mount("", target, "", libc::MS_REMOUNT | libc::MS_RDONLY, "")
}

/// What is mounted at or below a place of its own is not shown to anyone else.
pub(crate) fn make_private(target: &str) -> io::Result<()> {
    mount("", target, "", libc::MS_PRIVATE, "")
}

/// Waits until all that was written is on its disk or server.
pub(crate) fn write_out() {
    // SAFETY: no arguments.
    unsafe { libc::sync() };
}

/// What a kernel answers that does not know a kind of file system.
pub(crate) const NO_SUCH_KIND: i32 = libc::ENODEV;
