//! Runs a command in an assembled root, with the layers of an image at /target.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::mount::MountFlags;
use rustix::thread::UnshareFlags;
use serde::{Deserialize, Serialize};

use super::log::Pump;
use super::tree::api_mounts;
use super::tree::copy::copy_layers;
use super::tree::overlay::upper_is_whole;
use super::{TreeMount, filter};
use crate::failure::{NO_SPACE, NOT_STARTED, not_started};
use crate::fault;

/// A file or directory of the store that the command sees.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Bind {
    /// Path relative to the store's directory.
    pub source: String,
    /// Absolute path inside.
    pub target: String,
    /// Whether it can be written.
    pub writable: bool,
}

/// What to run, where.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct CommandRequest {
    /// The root directory: usually a tools root.
    pub root: TreeMount,
    /// The image's tree, at /target.
    pub target: Option<TreeMount>,
    /// What else is visible.
    pub binds: Vec<Bind>,
    /// What of the root is also visible below /target: (absolute path, absolute path inside the target).
    pub target_binds: Vec<(String, String)>,
    /// Programs put in front of the search path inside the target, by name with their text; they vanish with /run.
    pub stand_ins: Vec<(String, String)>,
    /// Whether the command's root is /target itself.
    pub enter_target: bool,
    /// Where the command starts, as it sees it.
    pub working_directory: String,
    /// The command and its arguments.
    pub arguments: Vec<String>,
    /// Its whole environment.
    pub environment: Vec<(String, String)>,
    /// File, relative to the store's directory, that takes what the command prints.
    pub log: String,
    /// Empty directory, relative to the store's directory, that the root is mounted on.
    pub mount_point: String,
    /// Whether the command talks to the caller's terminal instead of the log.
    pub interactive: bool,
}

/// How a command ended.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CommandResult {
    /// Exit status, or 128 plus the signal's number.
    pub status: i32,
    /// What it printed last, at most 40 lines.
    pub last_lines: Vec<String>,
}

/// Runs a command; meant to be called inside, by process 1 of the namespace. Where the caller asked for another command to
/// stand in, that one runs in the same root, and nothing comes of the operation.
///
/// # Errors
/// A text that says what could not be set up; the command's own failure is in the result.
pub fn run_command(request: &CommandRequest) -> Result<CommandResult, String> {
    match super::substitute::asked_for() {
        Some(substitute) => Err(super::substitute::ended(run(&substitute.in_place_of(request))?.status)),
        None => run(request),
    }
}

fn run(request: &CommandRequest) -> Result<CommandResult, String> {
    // Made anew, and appended to: a script may open its own output again.
    let _ = std::fs::remove_file(&request.log);
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(&request.log)
        .map_err(|error| format!("cannot open the log {}: {error}", request.log))?;
    let program = request.arguments.first().ok_or("no command given")?.clone();
    let report = PathBuf::from(format!("{}.setup", request.log));
    let _ = std::fs::remove_file(&report);
    let mut command = Command::new(&program);
    command.args(&request.arguments[1..]).env_clear().envs(request.environment.iter().cloned());
    let mut printed = None;
    if !request.interactive {
        let (from, to) = std::io::pipe().map_err(|error| format!("cannot make a pipe: {error}"))?;
        let same = || to.try_clone().map(Stdio::from).map_err(|error| error.to_string());
        command.stdin(Stdio::null()).stdout(same()?).stderr(same()?);
        printed = Some(from);
    }
    let setup = request.clone();
    let complaint = std::fs::File::create(&report).map_err(|error| error.to_string())?;
    // SAFETY: the closure runs in the forked child of a process whose other threads, if any, are idle; it only makes
    // system calls and allocates, which glibc allows after fork.
    unsafe {
        command.pre_exec(move || {
            prepare(&setup).map_err(|text| {
                use std::io::Write;
                let _ = (&complaint).write_all(text.as_bytes());
                std::io::Error::other("set-up failed")
            })
        });
    }
    fault::point("command.before");
    let mut pump = None;
    let outcome = command.spawn().and_then(|mut child| {
        // Only now: the child is forked off a process without other threads that work.
        if let Some(from) = printed.take() {
            match Pump::start(from, log) {
                Ok(started) => pump = Some(started),
                Err(error) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(error);
                }
            }
        }
        fault::point("command.running");
        child.wait()
    });
    fault::point("command.ended");
    end_all_others();
    // The pipe's last ends outside the command.
    drop(command);
    if let Some(pump) = pump {
        pump.wait();
    }
    let said = std::fs::read_to_string(&report).unwrap_or_default();
    let _ = std::fs::remove_file(&report);
    match outcome {
        Ok(status) => {
            let result = CommandResult {
                status: status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or(0)),
                last_lines: last_lines(Path::new(&request.log), 40),
            };
            if result.status != 0 && !request.interactive && is_full(Path::new(&request.log)) {
                return Err(format!(
                    "{NO_SPACE} while `{program}` ran; its last lines:\n{}",
                    result.last_lines.join("\n")
                ));
            }
            if result.status != 0 && !request.interactive && lacks_processes(Path::new(&request.log)) {
                return Err(format!(
                    "{NOT_STARTED} while `{program}` ran; its last lines:\n{}",
                    result.last_lines.join("\n")
                ));
            }
            Ok(result)
        }
        Err(_) if !said.is_empty() => Err(said),
        Err(error) => Err(format!("cannot run `{program}`: {}", not_started(error))),
    }
}

/// Ends whatever the command left running: it would go on writing into the layer while that is hashed.
fn end_all_others() {
    if std::process::id() != 1 {
        return;
    }
    // SAFETY: as process 1 of a pid namespace this reaches its processes only; `status` is live.
    unsafe {
        libc::kill(-1, libc::SIGKILL);
        let mut status = 0;
        while libc::waitpid(-1, &raw mut status, 0) > 0 {}
    }
}

/// Whether a command failed for want of space: it says so, or so little is left that it could not even say it.
///
/// What it said may stand far from the end of its log, and by now another action that failed may have freed its space.
fn is_full(log: &Path) -> bool {
    let left = rustix::fs::statvfs(".").map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
    left < 1 << 20 || tail_of(log).windows(NO_SPACE.len()).any(|words| words == NO_SPACE.as_bytes())
}

/// Whether a command failed because it could not fork.
fn lacks_processes(log: &Path) -> bool {
    tells_of_no_processes(&String::from_utf8_lossy(&tail_of(log)))
}

/// The C library's words for EAGAIN, those of shells and perl, and apt's (fileutl.cc, `ExecFork`).
fn tells_of_no_processes(text: &str) -> bool {
    let tail = text.to_lowercase();
    let of_fork = |line: &str| line.contains("fork") || line.contains("thread") || line.contains("subprocess");
    tail.lines().any(|line| line.contains("resource temporarily unavailable") && of_fork(line))
        || ["cannot fork", "failed to fork"].iter().any(|words| tail.contains(words))
}

/// The end of a log, at most 64 KiB.
fn tail_of(log: &Path) -> Vec<u8> {
    use std::io::{Read, Seek, SeekFrom};
    let mut bytes = Vec::new();
    let read = std::fs::File::open(log).and_then(|mut file| {
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(64 * 1024)))?;
        file.read_to_end(&mut bytes)
    });
    drop(read);
    bytes
}

/// A line of a log as it may be shown: without what a terminal would obey, at most 400 characters.
pub fn shown(line: &str) -> String {
    line.chars().take(400).map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// The end of a log, at most `count` lines of at most 400 characters.
fn last_lines(log: &Path, count: usize) -> Vec<String> {
    let tail = tail_of(log);
    let text = String::from_utf8_lossy(&tail);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(count)..].iter().map(|line| shown(line)).collect()
}

/// Builds the root around the child that is about to become the command.
fn prepare(request: &CommandRequest) -> Result<(), String> {
    // SAFETY: this is the only thread of a freshly forked process.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
        .map_err(|error| format!("cannot create a mount namespace: {error}"))?;
    let store = rustix::fs::open(
        ".",
        rustix::fs::OFlags::PATH | rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )
    .map_err(|error| error.to_string())?;
    let to_store = || rustix::process::fchdir(&store).map_err(|error| format!("cannot return to the store: {error}"));
    let point = Path::new(&request.mount_point);
    request.root.mount(point)?;
    if let Some(target) = &request.target {
        let root = open_directory(point)?;
        api_mounts::directory_below(&root, Path::new("target")).map_err(|error| format!("/target: {error}"))?;
        target.mount(&point.join("target"))?;
    }
    api_mounts::mount_proc(point)?;
    to_store()?;
    if request.target.is_some() {
        api_mounts::mount_proc(&point.join("target"))?;
        to_store()?;
    }
    api_mounts::mount_devices(point)?;
    to_store()?;
    for bind in &request.binds {
        bind_into(point, bind, &format!("{}-empty", request.mount_point))?;
    }
    api_mounts::pivot(point)?;
    api_mounts::mount_kernel_trees(Path::new("/"), None)?;
    if request.target.is_some() {
        api_mounts::mount_kernel_trees(Path::new("/target"), Some(Path::new("/dev")))?;
        place_stand_ins(&request.stand_ins)?;
        for (from, to) in &request.target_binds {
            bind_into_target(from, to)?;
        }
    }
    if request.enter_target {
        rustix::process::chroot("/target").map_err(|error| format!("cannot enter the image: {error}"))?;
    }
    let directory = if request.working_directory.is_empty() { "/" } else { &request.working_directory };
    rustix::process::chdir(directory).map_err(|error| format!("cannot enter {directory}: {error}"))?;
    if request.interactive {
        // SAFETY: restores the default, which the helper had set aside for itself.
        unsafe { libc::signal(libc::SIGINT, libc::SIG_DFL) };
    } else {
        let _ = rustix::process::setsid();
    }
    // A kernel without seccomp is only slower, and has a kernel log and vsock in sight.
    let _ = filter::install();
    // SAFETY: marks descriptors above 2 close-on-exec; none is used after exec.
    unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Ok(())
}

fn open_directory(path: &Path) -> Result<std::os::fd::OwnedFd, String> {
    use rustix::fs::{Mode, OFlags};
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
        .map_err(|error| format!("cannot open {}: {error}", path.display()))
}

/// Shows something of the store; `empty` is the name of an empty directory to make.
fn bind_into(root: &Path, bind: &Bind, empty: &str) -> Result<(), String> {
    use rustix::fs::{Mode, OFlags};
    let said = |error: rustix::io::Errno| format!("cannot bring in {}: {error}", bind.target);
    let top = open_directory(root)?;
    let target = Path::new(bind.target.trim_start_matches('/'));
    let is_directory = std::fs::metadata(&bind.source).map_err(|error| format!("{}: {error}", bind.source))?.is_dir();
    let point = root.join(target);
    if is_directory {
        api_mounts::directory_below(&top, target).map_err(said)?;
    } else {
        let parent = target.parent().unwrap_or(Path::new(""));
        let parent = api_mounts::directory_below(&top, parent).map_err(said)?;
        let name = target.file_name().ok_or_else(|| format!("{} is not a path", bind.target))?;
        let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)).map_err(said)?;
    }
    if is_directory && !bind.writable {
        // Not a bind mount: whoever is root inside can make one writable again, and where that root is the user who
        // builds, the files below are that user's. An overlay without an upper directory can never be written.
        std::fs::create_dir_all(empty).map_err(|error| format!("cannot make {empty}: {error}"))?;
        if upper_is_whole() {
            // Without overlayfs a copy is shown: whatever is done to it is done to nothing else.
            let copy = format!("{empty}/{}", bind.target.replace('/', "-"));
            std::fs::create_dir_all(&copy).map_err(|error| format!("cannot make {copy}: {error}"))?;
            copy_layers(std::slice::from_ref(&bind.source), &copy)?;
            return rustix::mount::mount_bind(copy.as_str(), &point).map_err(said);
        }
        let options = std::ffi::CString::new(format!("lowerdir={empty}:{},userxattr", bind.source))
            .map_err(|error| error.to_string())?;
        return rustix::mount::mount("overlay", &point, "overlay", MountFlags::RDONLY, Some(options.as_c_str()))
            .map_err(said);
    }
    rustix::mount::mount_bind_recursive(bind.source.as_str(), &point).map_err(said)?;
    if !bind.writable {
        set_read_only(&point).map_err(|error| format!("cannot make {} read-only: {error}", bind.target))?;
    }
    Ok(())
}

/// Shows a directory of the root inside the target, read-only.
fn bind_into_target(from: &str, to: &str) -> Result<(), String> {
    let top = open_directory(Path::new("/target"))?;
    let said = |error: rustix::io::Errno| format!("cannot show {from} at {to}: {error}");
    let point = api_mounts::directory_below(&top, Path::new(to.trim_start_matches('/'))).map_err(said)?;
    rustix::process::fchdir(&point).map_err(said)?;
    rustix::mount::mount_bind_recursive(from, ".").map_err(said)?;
    rustix::process::chdir("/").map_err(said)?;
    set_read_only(&Path::new("/target").join(to.trim_start_matches('/'))).map_err(|error| format!("{to}: {error}"))
}

/// Adds `ro` to a mount and those below it, whatever other flags it has to keep.
fn set_read_only(point: &Path) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(point.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: path and attributes outlive the call, and the size given is that of the structure.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::AT_FDCWD,
            path.as_ptr(),
            libc::AT_RECURSIVE,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    if result == 0 {
        return Ok(());
    }
    // Kernels before 5.12.
    rustix::mount::mount_remount(point, MountFlags::BIND | MountFlags::RDONLY, "").map_err(Into::into)
}

/// Directory of the stand-ins inside the target; on /run, which is never part of a layer.
pub const STAND_IN_DIRECTORY: &str = "/run/imgbuild/bin";

fn place_stand_ins(programs: &[(String, String)]) -> Result<(), String> {
    let directory = PathBuf::from(format!("/target{STAND_IN_DIRECTORY}"));
    std::fs::create_dir_all(&directory).map_err(|error| error.to_string())?;
    for (name, text) in programs {
        use std::os::unix::fs::PermissionsExt;
        let path = directory.join(name);
        std::fs::write(&path, text).map_err(|error| error.to_string())?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).map_err(|error| error.to_string())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::tells_of_no_processes;

    #[test]
    fn words_for_too_few_processes_are_known_and_no_others() {
        for words in [
            "FATAL -> Failed to fork.",
            "bash: fork: retry: Resource temporarily unavailable",
            "Can't open pipe: cannot fork",
            "dpkg: error: fork failed: Resource temporarily unavailable",
        ] {
            assert!(tells_of_no_processes(words), "{words}");
        }
        for words in ["read: Resource temporarily unavailable\nforked", "the project was forked", ""] {
            assert!(!tells_of_no_processes(words), "{words}");
        }
    }
}
