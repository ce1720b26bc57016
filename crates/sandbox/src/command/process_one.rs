//! Process 1 of a command's own pid namespace.
//!
//! The tools of a release find out whether they run in a chroot by comparing `/` with `/proc/1/root`: systemctl and udevadm then
//! do nothing and succeed, and package scripts count on it (systemd: src/basic/virt.c, `running_in_chroot`; debianutils: ischroot).
//! The helper cannot be that process 1, because nothing inside may look through its /proc entries: it has the host's files in
//! sight. So each command gets a pid namespace with a process 1 whose root is /dev of the command's own tree, and whose program is a
//! file in memory: `/proc/1/exe` leads to no file of the host either. Nothing inside can trace it (the filter has no ptrace), stop or kill it (the
//! kernel gives process 1 no signal of its own namespace), or lead it elsewhere (imgbuild-init's `sys/reaper.rs`).
//!
//! ```text
//! helper ── waits: outside of the new namespace, hands on the status
//!             └─ process 1: makes the root, reaps
//!                  └─ the command, in the image's root where it asks for that
//! ```

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::OnceLock;

use rustix::fs::MemfdFlags;
use rustix::process::DumpableBehavior;
use rustix::thread::UnshareFlags;

use super::{CommandRequest, supervisor};
use crate::filter;
use crate::tree::overlay::upper_is_whole;

/// First word of the program's arguments when it is to be process 1; imgbuild-init knows it.
const NAME: &str = "imgbuild-process-1";

static PROGRAM: OnceLock<&[u8]> = OnceLock::new();

/// Says which program becomes process 1 of each command: a static one that waits for the process that its first argument names, reaps all
/// others, ends with that one's status, and closes the descriptor of its second argument once it cannot be led elsewhere. Without one process 1 cannot be looked at, and no chroot is found.
pub fn set_process_one(program: &'static [u8]) {
    let _ = PROGRAM.set(program);
}

/// Splits the calling process, a freshly forked one, in three (see above), and returns in the one that becomes the command; where
/// `assemble` fails, in process 1, which has to end. `request` says what uname(2) tells the command, and what stands in for programs.
/// Errors: What `assemble` says, or which system call failed.
pub(super) fn below_a_new_one(
    request: &CommandRequest,
    assemble: impl FnOnce() -> Result<(), String>,
) -> Result<(), String> {
    let said = |what: &str| format!("cannot {what}: {}", std::io::Error::last_os_error());
    // SAFETY: this is the only thread of a freshly forked process.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWPID) }
        .map_err(|error| format!("cannot create a pid namespace: {error}"))?;
    let (outer, inner) = rustix::net::socketpair(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::SEQPACKET,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .map_err(|error| format!("cannot create a pair of sockets: {error}"))?;
    // SAFETY: as above; neither process uses what the other one changes.
    match unsafe { libc::fork() } {
        -1 => return Err(said("fork")),
        0 => drop(outer),
        child => {
            drop(inner);
            if let (Some(listener), Some(end)) = (supervisor::receive(&outer), supervisor::end_of(child)) {
                close_all_but(&listener, &end);
                supervisor::serve(&listener, end.as_fd(), request);
            }
            end_as(child)
        }
    }
    assemble()?;
    // A kernel without seccomp is slower, and has all its calls in sight.
    let listener = match filter::install(!upper_is_whole(), !request.stand_ins.is_empty()) {
        Err(error) if error.raw_os_error() != Some(libc::ENOSYS) => {
            return Err(format!("cannot restrict system calls: {error}"));
        }
        _ if fault::planted("no-filter") => None,
        installed => installed.ok().flatten(),
    };
    supervisor::hand_over(&inner, listener.as_ref());
    drop((inner, listener));
    let program = PROGRAM.get().and_then(|bytes| in_memory(bytes));
    // Its end is closed when process 1 has become the program, can be looked at, and cannot be led elsewhere.
    let (mut ready, becoming) = std::io::pipe().map_err(|error| format!("cannot create a pipe: {error}"))?;
    // SAFETY: as above.
    match unsafe { libc::fork() } {
        -1 => Err(said("fork")),
        0 => {
            drop(becoming);
            let _ = std::io::copy(&mut ready, &mut std::io::sink());
            Ok(())
        }
        child => {
            drop(ready);
            // Another root than the command's, whichever that is: so it is in a chroot.
            let _ = rustix::process::chroot("/dev").and_then(|()| rustix::process::chdir("/"));
            if let Some(program) = program {
                become_program(&program, child, &becoming);
            }
            drop(becoming);
            end_as(child)
        }
    }
}

/// Closes what a process inherited: the host process waits for the ends of pipes.
fn close_all_but(one: &OwnedFd, other: &OwnedFd) {
    let mut kept = [one.as_raw_fd() as u32, other.as_raw_fd() as u32];
    kept.sort_unstable();
    let ranges = [(3, kept[0].wrapping_sub(1)), (kept[0] + 1, kept[1].wrapping_sub(1)), (kept[1] + 1, u32::MAX)];
    for (first, last) in ranges.into_iter().filter(|(first, last)| first <= last) {
        // SAFETY: what is closed is no longer used.
        unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    }
}

/// Waits for a process, reaps others, and ends as that one did: with its status, or 128 and the signal's number.
fn end_as(child: libc::pid_t) -> ! {
    // SAFETY: descriptors that are closed are no longer used; `status` is live.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, 0);
        let mut status = 0;
        loop {
            match libc::waitpid(-1, &raw mut status, 0) {
                found if found == child && libc::WIFEXITED(status) => libc::_exit(libc::WEXITSTATUS(status)),
                found if found == child && libc::WIFSIGNALED(status) => libc::_exit(128 + libc::WTERMSIG(status)),
                -1 if std::io::Error::last_os_error().kind() != std::io::ErrorKind::Interrupted => libc::_exit(1),
                _ => {}
            }
        }
    }
}

/// A file in memory that can be started.
fn in_memory(bytes: &[u8]) -> Option<OwnedFd> {
    // Kernels before 6.3 do not know the flag; later ones may ask for it.
    let file = rustix::fs::memfd_create(NAME, MemfdFlags::CLOEXEC | MemfdFlags::EXEC)
        .or_else(|_| rustix::fs::memfd_create(NAME, MemfdFlags::CLOEXEC))
        .ok()?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let written = rustix::io::write(&file, rest).ok().filter(|written| *written > 0)?;
        rest = &rest[written..];
    }
    Some(file)
}

/// Becomes the program; returns where that cannot be done.
fn become_program(program: &OwnedFd, child: libc::pid_t, ready: &std::io::PipeWriter) {
    let argument = |number: i32| CString::new(number.to_string());
    let (Ok(child), Ok(number)) = (argument(child), argument(ready.as_raw_fd())) else { return };
    let Ok(name) = CString::new(NAME) else { return };
    let arguments = [name.as_ptr(), child.as_ptr(), number.as_ptr(), std::ptr::null()];
    let environment = [std::ptr::null::<libc::c_char>()];
    // SAFETY: descriptors are only marked; the texts and both lists, which end with a null, outlive the calls.
    unsafe {
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        libc::fcntl(ready.as_raw_fd(), libc::F_SETFD, 0);
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        );
    }
    // Still imgbuild: its program is the host's file, and its memory no one's inside.
    let _ = rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable);
}
