//! Device nodes that scripts and package managers make: mknod(2) of those that each Linux has gives a file that stands for one, as a
//! container of root's would give the node. All others are the kernel's to refuse.

use rustix::fs::{Mode, OFlags};

use super::asker::{Place, enter_parent, text_at};
use crate::filter;
use base::device;

/// The kernel's permission bits of a mode.
const PERMISSIONS: u32 = 0o7777;

/// Answers a call with an error number, or 0; none if it is to go on.
pub(super) fn answer(asked: &libc::seccomp_notif) -> Option<i32> {
    // mknod(path, mode, device); mknodat(directory, path, ..). Source: the system call tables.
    let arguments = &asked.data.args;
    let (directory, rest) = match filter::name_of(asked.data.arch, asked.data.nr) {
        Some("mknod") => (libc::AT_FDCWD, &arguments[..3]),
        _ => (arguments[0] as i32, &arguments[1..4]),
    };
    let (mode, (major, minor)) = (rest[1] as u32, device::numbers(rest[2]));
    if mode & libc::S_IFMT != libc::S_IFCHR || !device::is_common(major, minor) {
        return None;
    }
    let (user, umask) = credentials(asked.pid)?;
    // Only root may, as everywhere.
    if user != 0 {
        return None;
    }
    let pid = i32::try_from(asked.pid).ok()?;
    let path = text_at(pid, rest[0])?;
    let place = Place::of(pid, directory, &path)?;
    let mode = Mode::from_raw_mode(mode & PERMISSIONS & !umask);
    place.run(|| {
        let Some(name) = enter_parent(&path) else { return libc::ENOENT };
        rustix::process::umask(Mode::empty());
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::open(name, flags, mode);
        let written = made.and_then(|file| rustix::io::write(&file, device::stand_in(major, minor).as_bytes()));
        written.err().map_or(0, rustix::io::Errno::raw_os_error)
    })
}

/// The user as which a process uses files, as it is called here, and its umask. Source: proc_pid_status(5).
fn credentials(pid: u32) -> Option<(u32, u32)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
    let user = field("Uid:")?.split_whitespace().nth(3)?.parse().ok()?;
    Some((user, u32::from_str_radix(field("Umask:")?.trim(), 8).ok()?))
}
