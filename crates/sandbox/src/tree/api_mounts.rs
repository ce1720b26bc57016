//! /proc, /dev, /sys, /run and /tmp of a root, the same on every host (D3).

use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use super::machine;
use crate::emulator::images_machine;

/// Device nodes that exist inside; each is the host's, bind-mounted, because a user namespace cannot make any.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Release of a kernel that means nothing. The number is one that the C libraries of all releases accept: older ones end with "kernel
/// too old" below their own (glibc: sysdeps/unix/sysv/linux/dl-osinfo.h).
pub const NO_RELEASE: &str = "6.1.0-imgbuild";

/// Opens a directory below `root` without following any link, making what is missing.
pub(crate) fn directory_below(root: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    let mut current = rustix::fs::openat2(root, ".", flags, Mode::empty(), resolve)?;
    for component in path.components() {
        let Component::Normal(name) = component else { continue };
        match rustix::fs::mkdirat(&current, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => {}
            Err(error) => return Err(error),
        }
        current = rustix::fs::openat2(&current, name, flags, Mode::empty(), resolve)?;
    }
    Ok(current)
}

fn open_root(path: &Path) -> Result<OwnedFd, Errno> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// Mounts at a directory below `root`: the mount point is entered first, so no link can lead elsewhere.
fn mount_at(root: &OwnedFd, point: &str, mount: impl FnOnce() -> Result<(), Errno>) -> Result<(), String> {
    let said = |error: Errno| format!("cannot mount /{point}: {error}");
    let directory = directory_below(root, Path::new(point)).map_err(said)?;
    rustix::process::fchdir(&directory).map_err(said)?;
    mount().map_err(said)
}

fn tmpfs(options: &std::ffi::CStr, flags: MountFlags) -> Result<(), Errno> {
    rustix::mount::mount("tmpfs", ".", "tmpfs", flags, Some(options))
}

/// Makes /dev below `root` while the host's is still reachable.
pub(crate) fn mount_devices(root: &Path) -> Result<(), String> {
    let top = open_root(root).map_err(|error| format!("cannot open the root: {error}"))?;
    mount_at(&top, "dev", || tmpfs(c"mode=755,size=4m", MountFlags::NOSUID))?;
    let here = |error: Errno| format!("cannot fill /dev: {error}");
    rustix::process::fchdir(directory_below(&top, Path::new("dev")).map_err(here)?).map_err(here)?;
    for device in DEVICES {
        rustix::fs::open(device, OFlags::CREATE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::from_raw_mode(0o666))
            .map_err(here)?;
        rustix::mount::mount_bind(format!("/dev/{device}"), device)
            .map_err(|error| format!("cannot bring in /dev/{device}: {error}"))?;
    }
    for (name, to) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        rustix::fs::symlink(to, name).map_err(here)?;
    }
    for (name, kind, options) in
        [("pts", "devpts", c"newinstance,ptmxmode=0666,mode=620"), ("shm", "tmpfs", c"mode=1777,size=64m")]
    {
        rustix::fs::mkdir(name, Mode::from_raw_mode(0o755)).map_err(here)?;
        rustix::mount::mount(kind, name, kind, MountFlags::NOSUID | MountFlags::NOEXEC, Some(options))
            .map_err(|error| format!("cannot mount /dev/{name}: {error}"))?;
    }
    Ok(())
}

/// Mounts a fresh /proc below `root`.
///
/// Before the host's tree is gone and before anything is masked: the kernel allows it in a user namespace only
/// while another /proc is visible as a whole (mount_namespaces(7)).
pub(crate) fn mount_proc(root: &Path) -> Result<(), String> {
    let top = open_root(root).map_err(|error| format!("cannot open the root: {error}"))?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_at(&top, "proc", || rustix::mount::mount("proc", ".", "proc", quiet, None))
}

/// Covers what /proc tells of the host and mounts /sys, /run and /tmp below `root`; `devices` brings /dev as well.
pub(crate) fn mount_kernel_trees(root: &Path, devices: Option<&Path>, release: &str) -> Result<(), String> {
    let top = open_root(root).map_err(|error| format!("cannot open the root: {error}"))?;
    let proc = directory_below(&top, Path::new("proc")).map_err(|error| error.to_string())?;
    rustix::process::fchdir(&proc).map_err(|error| error.to_string())?;
    rustix::mount::mount_bind("sys", "sys").map_err(|error| format!("cannot cover /proc/sys: {error}"))?;
    read_only("sys").map_err(|error| format!("cannot make /proc/sys read-only: {error}"))?;
    mount_files(&top, "sys", &machine::in_sys())?;
    mount_at(&top, "run", || tmpfs(c"mode=755", MountFlags::NOSUID | MountFlags::NODEV))?;
    mount_at(&top, "tmp", || tmpfs(c"mode=1777", MountFlags::NOSUID | MountFlags::NODEV))?;
    cover_proc(root, &top, &proc, release)?;
    if let Some(devices) = devices {
        mount_at(&top, "dev", || rustix::mount::mount_bind_recursive(devices, "."))?;
    }
    rustix::process::chdir("/").map_err(|error| error.to_string())
}

const QUIET: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

fn read_only(mounted: &str) -> Result<(), Errno> {
    rustix::mount::mount_remount(mounted, MountFlags::BIND | MountFlags::RDONLY | QUIET, "")
}

/// Mounts files at a directory below `root`, read-only. A name with a slash at its end is an empty directory.
fn mount_files(root: &OwnedFd, point: &str, files: &[(impl AsRef<str>, String)]) -> Result<(), String> {
    mount_at(root, point, || tmpfs(c"mode=555,size=16m", QUIET))?;
    let said = |error: std::io::Error| format!("cannot fill /{point}: {error}");
    let inside = directory_below(root, Path::new(point)).map_err(|error| said(error.into()))?;
    rustix::process::fchdir(&inside).map_err(|error| said(error.into()))?;
    for (name, text) in files {
        let (directory, file) = name.as_ref().rsplit_once('/').unwrap_or(("", name.as_ref()));
        std::fs::create_dir_all(directory).map_err(said)?;
        if !file.is_empty() {
            std::fs::write(name.as_ref(), text).map_err(said)?;
            rustix::fs::chmod(name.as_ref(), Mode::from_raw_mode(0o444)).map_err(|error| said(error.into()))?;
        }
    }
    read_only(".").map_err(|error| said(error.into()))
}

/// Covers what a /proc tells of the host with the same files everywhere, and what has none of these with nothing: all but processes and
/// namespaces. Which files there are stays the host's.
fn cover_proc(root: &Path, top: &OwnedFd, proc: &OwnedFd, release: &str) -> Result<(), String> {
    const ASIDE: &str = "tmp/.imgbuild-proc";
    let said = |error: std::io::Error| format!("cannot cover /proc: {error}");
    let mut files = machine::in_proc(release, images_machine());
    files.extend(["none", "none-in/"].map(|name| (name, String::new())));
    mount_files(top, ASIDE, &files)?;
    rustix::process::fchdir(proc).map_err(|error| said(error.into()))?;
    let mut covers: Vec<(String, &str)> = files.iter().map(|(name, _)| ((*name).to_owned(), *name)).collect();
    for entry in std::fs::read_dir(".").map_err(said)? {
        let entry = entry.map_err(said)?;
        let (name, kind) = (entry.file_name().to_string_lossy().into_owned(), entry.file_type().map_err(said)?);
        let is_kept =
            machine::KEPT_IN_PROC.contains(&name.as_str()) || name.starts_with(|one: char| one.is_ascii_digit());
        // Links lead to a process, or to /sys. What only root of the host may read, no one inside can.
        if kind.is_dir() && !is_kept {
            covers.push((name, "none-in"));
        } else if kind.is_file()
            && files.iter().all(|(known, _)| *known != name)
            && entry.metadata().is_ok_and(|found| found.mode() & 0o004 != 0)
        {
            covers.push((name, "none"));
        }
    }
    if fault::planted("machine-of-host") {
        covers.retain(|(name, _)| name != "cpuinfo");
    }
    let aside = root.join(ASIDE);
    // Not every kernel has each of them.
    for (name, by) in covers.iter().filter(|(name, _)| Path::new(name).exists()) {
        rustix::mount::mount_bind(aside.join(by), name)
            .map_err(|error| format!("cannot cover /proc/{name}: {error}"))?;
    }
    rustix::mount::unmount(&aside, UnmountFlags::DETACH).map_err(|error| said(error.into()))?;
    std::fs::remove_dir(&aside).map_err(said)
}

/// Makes `root` the root directory; nothing of the old tree stays reachable.
pub(crate) fn pivot(root: &Path) -> Result<(), String> {
    let said = |error: Errno| format!("cannot change the root: {error}");
    rustix::process::chdir(root).map_err(said)?;
    rustix::process::pivot_root(".", ".").map_err(said)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(said)?;
    rustix::process::chdir("/").map_err(said)
}
