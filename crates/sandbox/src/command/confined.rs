//! Runs a program of ours on what others made, where its result has to belong to ids of this machine: shifted ids are no wall then, so that
//! what it can reach is.

use std::io::{Read, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{Mode, OFlags};
use rustix::mount::MountFlags;
use rustix::thread::UnshareFlags;

use super::setup::{set_flags, set_read_only};
use crate::tree::api_mounts;

/// A program and all that it sees.
#[derive(Debug)]
pub struct Confined<'c> {
    /// A directory that it sees as /tree, and may change.
    pub tree: &'c Path,
    /// Files that it may read, each by its own name in the root directory.
    pub files: &'c [&'c Path],
    /// A static program.
    pub program: &'static [u8],
    pub arguments: &'c [&'c str],
}

/// Most of what is kept of what it prints, in bytes.
const PRINTED: usize = 4096;

/// Runs the program; meant to be called inside.
/// Errors: What it printed where it failed, or what could not be set up.
pub fn run_confined(confined: &Confined<'_>) -> Result<(), String> {
    let (mut complaint, to) = std::io::pipe().map_err(|error| format!("cannot create a pipe: {error}"))?;
    let (place, program) = (confined.tree.to_owned(), confined.program);
    let files: Vec<PathBuf> = confined.files.iter().map(|file| (*file).to_owned()).collect();
    let mut command = Command::new("/program");
    command.args(confined.arguments).env_clear().stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    // SAFETY: the closure runs in the forked child of a process whose other threads are idle; it only makes system calls and allocates,
    // which glibc allows after fork.
    unsafe {
        command.pre_exec(move || {
            make_root(&place, &files, program).map_err(|text| {
                let _ = (&to).write_all(text.as_bytes());
                std::io::Error::other("set-up failed")
            })
        });
    }
    let child = command.spawn();
    // With it goes the writing end of the pipe.
    drop(command);
    let output = child.and_then(std::process::Child::wait_with_output).map_err(|error| {
        let mut said = String::new();
        let _ = complaint.read_to_string(&mut said);
        if said.is_empty() { format!("cannot run a program: {error}") } else { said }
    })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stdout[..output.stdout.len().min(PRINTED)]).trim().to_owned();
    Err(if said.is_empty() { output.status.to_string() } else { said })
}

/// Makes the root directory: a tmpfs with the tree, the files and the program. It is mounted over the tree's own place, which is in sight
/// by its descriptor alone from then on.
fn make_root(place: &Path, files: &[PathBuf], program: &[u8]) -> Result<(), String> {
    let said = |what: &str, error: &dyn std::fmt::Display| format!("cannot {what}: {error}");
    // SAFETY: this is the only thread of a freshly forked process.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
        .map_err(|error| said("create a mount namespace", &error))?;
    // After that, because only mounts of this namespace can be shown.
    let open = |path: &Path, flags| {
        rustix::fs::open(path, flags | OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| format!("{}: {error}", path.display()))
    };
    let tree = open(place, OFlags::DIRECTORY | OFlags::NOFOLLOW)?;
    let opened: Vec<OwnedFd> = files.iter().map(|file| open(file, OFlags::empty())).collect::<Result<_, _>>()?;
    let options = c"mode=755,size=64m";
    rustix::mount::mount("tmpfs", place, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, Some(options))
        .map_err(|error| said("mount a tmpfs", &error))?;
    let show = |descriptor: &OwnedFd, at: &Path| {
        rustix::mount::mount_bind(format!("/proc/self/fd/{}", descriptor.as_raw_fd()), at)
            .map_err(|error| said("show a file of the image", &error))
    };
    let at = place.join("tree");
    std::fs::create_dir(&at).map_err(|error| said("create a directory", &error))?;
    show(&tree, &at)?;
    // Only to be sure: nothing of the tree is started here.
    let _ = set_flags(&at, libc::MOUNT_ATTR_NOSUID | libc::MOUNT_ATTR_NODEV | libc::MOUNT_ATTR_NOEXEC);
    for (path, file) in files.iter().zip(&opened) {
        let at = place.join(path.file_name().unwrap_or_default());
        std::fs::write(&at, "").map_err(|error| said("create a file", &error))?;
        show(file, &at)?;
        set_read_only(&at).map_err(|error| said("make a file read-only", &error))?;
    }
    let at = place.join("program");
    std::fs::write(&at, program).map_err(|error| said("write a program", &error))?;
    rustix::fs::chmod(&at, Mode::from_raw_mode(0o700)).map_err(|error| said("write a program", &error))?;
    api_mounts::pivot(place)
}
