//! Programs that others stand in for, started by whatever path.
//!
//! What stands in is first in the search path, but scripts of real packages start `/sbin/dracut` or `/bin/kernel-install`. Nothing can
//! lie over such a path for long: a package manager cannot rename a new file over a mount (EBUSY), and the file that it unpacked has to
//! be in the image as it is. So each start of a program asks here first: a file with the name of something that stands in is covered for
//! as long as it takes to start, and no longer. What covers it starts what stands in, which asks here again: then it is uncovered.
//!
//! A script could start another path than the one that was looked at. That is its own loss: stand-ins keep results the same on all build
//! hosts, and keep no one out.

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::mount::UnmountFlags;

use super::asker::{Place, text_at};
use crate::filter;

/// Directory of the stand-ins inside the target; on /run, which is never part of a layer.
pub const STAND_IN_DIRECTORY: &str = "/run/imgbuild/bin";

/// Directory of what covers other files.
const COVERS: &str = "/run/imgbuild/covers";

/// How long a program may take to start.
const PATIENCE: Duration = Duration::from_secs(10);

/// Writes programs, by name with their text, into the target.
/// Errors: A text that says which file could not be written.
pub(super) fn place(programs: &[(String, String)]) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    let write = |directory: &str, name: &str, text: &str| {
        let path = PathBuf::from(format!("/target{directory}/{name}"));
        std::fs::create_dir_all(path.parent().unwrap_or(&path))
            .and_then(|()| std::fs::write(&path, text))
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)))
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    for (name, text) in programs {
        write(STAND_IN_DIRECTORY, name, text)?;
        write(COVERS, name, &format!("#!/bin/sh\nexec {STAND_IN_DIRECTORY}/{name} \"$@\"\n"))?;
    }
    Ok(())
}

/// A file that is covered until a process has started.
#[derive(Debug)]
struct Covered {
    pid: i32,
    place: Place,
    path: Vec<u8>,
    since: Instant,
}

impl Covered {
    fn uncover(&self) {
        self.place.visit(|| rustix::mount::unmount(self.path.as_slice(), UnmountFlags::DETACH).ok());
    }
}

/// What is covered now.
#[derive(Debug)]
pub(super) struct Covers<'n> {
    /// Names of what stands in.
    names: Vec<&'n str>,
    now: Vec<Covered>,
}

impl<'n> Covers<'n> {
    pub(super) fn new(programs: &'n [(String, String)]) -> Self {
        Self { names: programs.iter().map(|(name, _)| name.as_str()).collect(), now: Vec::new() }
    }

    /// How long may be waited for the next call until something has to be uncovered; none: for ever.
    pub(super) fn timeout(&self) -> Option<Duration> {
        (!self.now.is_empty()).then_some(PATIENCE / 10)
    }

    /// Uncovers what processes did not start that are gone, or take too long.
    pub(super) fn give_up(&mut self) {
        self.uncover(|one| one.since.elapsed() > PATIENCE || !Path::new(&format!("/proc/{}", one.pid)).exists());
    }

    fn uncover(&mut self, is_over: impl Fn(&Covered) -> bool) {
        self.now.retain(|one| {
            let is_over = is_over(one);
            if is_over {
                one.uncover();
            }
            !is_over
        });
    }

    /// Makes ready for a call that starts a program: covers it where something stands in for it.
    pub(super) fn before_start(&mut self, asked: &libc::seccomp_notif) -> Option<()> {
        let pid = i32::try_from(asked.pid).ok()?;
        // Whatever it starts now, what it was to start before has started or failed.
        self.uncover(|one| one.pid == pid);
        // execve(path, ..); execveat(directory, path, ..). Source: the system call tables.
        let (directory, address) = match filter::name_of(asked.data.arch, asked.data.nr) {
            Some("execve") => (libc::AT_FDCWD, asked.data.args[0]),
            _ => (asked.data.args[0] as i32, asked.data.args[1]),
        };
        let path = text_at(pid, address)?;
        if path.starts_with(STAND_IN_DIRECTORY.as_bytes()) || fault::planted("stands-in-by-name-alone") {
            return None;
        }
        let place = Place::of(pid, directory, &path)?;
        let name = self.name_of(&place, &path)?;
        // Another root directory has nothing that stands in.
        opened(&place.root, format!("{STAND_IN_DIRECTORY}/{name}").as_bytes())?;
        let cover = format!("{COVERS}/{name}");
        place.visit(|| {
            // What could not be started is not started either.
            let stat = rustix::fs::stat(path.as_slice()).ok()?;
            let is_program = stat.st_mode & libc::S_IFMT == libc::S_IFREG && stat.st_mode & 0o111 != 0;
            is_program.then(|| rustix::mount::mount_bind(cover.as_str(), path.as_slice()).ok()).flatten()
        })?;
        self.now.push(Covered { pid, place, path, since: Instant::now() });
        Some(())
    }

    /// Which of the names a path means: its own, or that of the file that it leads to by links.
    fn name_of(&self, place: &Place, path: &[u8]) -> Option<&'n str> {
        let known = |path: &[u8]| {
            let name = path.rsplit(|byte| *byte == b'/').next()?;
            self.names.iter().copied().find(|one| one.as_bytes() == name)
        };
        known(path).or_else(|| {
            let file = opened(if path[0] == b'/' { &place.root } else { &place.base }, path)?;
            known(std::fs::read_link(proc_path(&file)).ok()?.as_os_str().as_encoded_bytes())
        })
    }
}

fn proc_path(file: &OwnedFd) -> String {
    use std::os::fd::AsRawFd;
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Opens a file below a root directory, without its content.
fn opened(root: &OwnedFd, path: &[u8]) -> Option<OwnedFd> {
    rustix::fs::openat2(root, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), ResolveFlags::IN_ROOT).ok()
}
