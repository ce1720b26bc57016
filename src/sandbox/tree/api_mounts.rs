//! /proc, /dev, /sys, /run and /tmp of a root, the same on every host (D3).

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Component, Path};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

/// Device nodes that exist inside; each is the host's, bind-mounted, because a user namespace cannot make any.
const DEVICES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Parts of /proc that say or change something about the host.
const MASKED_IN_PROC: [&str; 6] = ["kcore", "keys", "key-users", "sysrq-trigger", "timer_list", "kallsyms"];

/// Release of a kernel that means nothing. The number is one that the C libraries of all releases accept: older ones end with "kernel
/// too old" below their own (glibc: sysdeps/unix/sysv/linux/dl-osinfo.h).
pub const NO_RELEASE: &str = "6.1.0-imgbuild";

/// Files of /proc that tell of the host, and what they tell instead; the same on every host. What is left tells how many processors
/// there are (builds of drivers use them) and how much memory.
fn told_in_proc(release: &str) -> [(&'static str, String); 9] {
    [
        ("version", format!("Linux version {release} (imgbuild) #1 SMP\n")),
        ("sys/kernel/osrelease", format!("{release}\n")),
        ("sys/kernel/version", "#1 SMP\n".to_owned()),
        ("sys/kernel/random/boot_id", "00000000-0000-4000-8000-000000000000\n".to_owned()),
        ("cmdline", "\n".to_owned()),
        ("modules", String::new()),
        ("partitions", "major minor  #blocks  name\n\n".to_owned()),
        ("diskstats", String::new()),
        ("swaps", "Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n".to_owned()),
    ]
}

/// Opens a directory below `root` without following any link, making what is missing.
pub fn directory_below(root: impl AsFd, path: &Path) -> Result<OwnedFd, Errno> {
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
pub fn mount_devices(root: &Path) -> Result<(), String> {
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
pub fn mount_proc(root: &Path) -> Result<(), String> {
    let top = open_root(root).map_err(|error| format!("cannot open the root: {error}"))?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    mount_at(&top, "proc", || rustix::mount::mount("proc", ".", "proc", quiet, None))
}

/// Masks parts of /proc and mounts /sys, /run and /tmp below `root`; `devices` brings /dev as well.
pub fn mount_kernel_trees(root: &Path, devices: Option<&Path>, release: &str) -> Result<(), String> {
    let top = open_root(root).map_err(|error| format!("cannot open the root: {error}"))?;
    let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    let proc = directory_below(&top, Path::new("proc")).map_err(|error| error.to_string())?;
    rustix::process::fchdir(&proc).map_err(|error| error.to_string())?;
    let null = match devices {
        Some(devices) => devices.join("null"),
        None => root.join("dev/null"),
    };
    for name in MASKED_IN_PROC {
        // Not every kernel has each of them.
        let _ = rustix::mount::mount_bind(&null, name);
    }
    rustix::mount::mount_bind("sys", "sys").map_err(|error| format!("cannot cover /proc/sys: {error}"))?;
    rustix::mount::mount_remount("sys", MountFlags::BIND | MountFlags::RDONLY | quiet, "")
        .map_err(|error| format!("cannot make /proc/sys read-only: {error}"))?;
    mount_at(&top, "sys", || tmpfs(c"mode=555,size=4k", quiet | MountFlags::RDONLY))?;
    mount_at(&top, "run", || tmpfs(c"mode=755", MountFlags::NOSUID | MountFlags::NODEV))?;
    mount_at(&top, "tmp", || tmpfs(c"mode=1777", MountFlags::NOSUID | MountFlags::NODEV))?;
    tell_in_proc(root, &proc, release)?;
    if let Some(devices) = devices {
        mount_at(&top, "dev", || rustix::mount::mount_bind_recursive(devices, "."))?;
    }
    rustix::process::chdir("/").map_err(|error| error.to_string())
}

/// Covers files of a /proc with files that no longer have a path.
fn tell_in_proc(root: &Path, proc: &OwnedFd, release: &str) -> Result<(), String> {
    rustix::process::fchdir(proc).map_err(|error| error.to_string())?;
    let aside = root.join("tmp/.imgbuild-proc");
    for (name, text) in told_in_proc(release) {
        let said = |error: std::io::Error| format!("cannot cover /proc/{name}: {error}");
        if !Path::new(name).exists() {
            // Not every kernel has each of them.
            continue;
        }
        std::fs::write(&aside, text).map_err(said)?;
        rustix::fs::chmod(&aside, Mode::from_raw_mode(0o444)).map_err(|error| said(error.into()))?;
        rustix::mount::mount_bind(&aside, name).map_err(|error| said(error.into()))?;
        std::fs::remove_file(&aside).map_err(said)?;
    }
    Ok(())
}

/// Makes `root` the root directory; nothing of the old tree stays reachable.
pub fn pivot(root: &Path) -> Result<(), String> {
    let said = |error: Errno| format!("cannot change the root: {error}");
    rustix::process::chdir(root).map_err(said)?;
    rustix::process::pivot_root(".", ".").map_err(said)?;
    rustix::mount::unmount(".", UnmountFlags::DETACH).map_err(said)?;
    rustix::process::chdir("/").map_err(said)
}
