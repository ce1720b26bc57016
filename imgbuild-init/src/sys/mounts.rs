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
pub fn mount_kernel_trees() {
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
pub fn mount_root(target: &str, size: &str, flags: Option<&str>) -> io::Result<()> {
    let _ = std::fs::create_dir_all(target);
    // Inodes cost memory as well; without a limit of their own the size's default would be too low for small files.
    let flags = flags.map(|flags| format!(",{flags}")).unwrap_or_default();
    mount("imgbuild", target, "tmpfs", 0, &format!("mode=755,size={size},nr_inodes=0{flags}"))
}

/// Mounts an image for reading.
pub fn mount_image(device: &str, target: &str, kind: &str) -> io::Result<()> {
    let _ = std::fs::create_dir_all(target);
    mount(device, target, kind, libc::MS_RDONLY, "")
}

/// Mounts a disk that keeps frames. Nothing on it is a program or a device, and no link of it is followed.
pub fn mount_cache(device: &str, target: &str, kind: &str) -> io::Result<()> {
    /// Source: Linux 5.10, include/uapi/linux/mount.h.
    const MS_NOSYMFOLLOW: libc::c_ulong = 256;
    std::fs::create_dir_all(target)?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOATIME;
    mount(device, target, kind, flags | MS_NOSYMFOLLOW, "")
}

/// Joins what can only be read with a tmpfs that takes what is written.
pub fn mount_overlay(target: &str, lower: &str, upper: &str) -> io::Result<()> {
    for path in [target.to_owned(), format!("{upper}/upper"), format!("{upper}/work")] {
        std::fs::create_dir_all(path)?;
    }
    mount("imgbuild", target, "overlay", 0, &format!("lowerdir={lower},upperdir={upper}/upper,workdir={upper}/work"))
}

/// Shows the kernel's side of SELinux.
pub fn mount_selinux(target: &str) -> io::Result<()> {
    mount("selinuxfs", target, "selinuxfs", libc::MS_NOSUID | libc::MS_NOEXEC, "")
}

/// Takes a file system away, no matter who still uses it.
pub fn unmount(target: &str) {
    if let Ok(target) = c(target) {
        // SAFETY: the pointer is to a live, terminated string.
        unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) };
    }
}

/// Unmounts a file system that is no longer used, and waits until all of it is on its disk; true if it was unmounted.
pub fn unmount_now(target: &str) -> bool {
    // SAFETY: the pointer is to a live, terminated string.
    c(target).is_ok_and(|target| unsafe { libc::umount2(target.as_ptr(), 0) } == 0)
}

/// Moves a mount.
pub fn move_mount(from: &str, to: &str) -> io::Result<()> {
    let _ = std::fs::create_dir_all(to);
    mount(from, to, "", libc::MS_MOVE, "")
}
