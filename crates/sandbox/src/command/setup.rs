//! The root that a command gets, made around the process that becomes its process 1.

use std::path::Path;

use rustix::mount::MountFlags;
use rustix::thread::UnshareFlags;

use super::{Bind, CommandRequest, caller, stand_ins};
use crate::tree::api_mounts;
use crate::tree::copy::copy_layers;
use crate::tree::overlay::upper_is_whole;

/// Builds the root around the calling process.
pub(super) fn assemble(request: &CommandRequest) -> Result<(), String> {
    // SAFETY: this is the only thread of a freshly forked process.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
        .map_err(|error| format!("cannot create a mount namespace: {error}"))?;
    // /proc tells of the caller's control group otherwise.
    // SAFETY: as above.
    let _ = unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWCGROUP) };
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
    let release = request.release();
    api_mounts::mount_kernel_trees(Path::new("/"), None, release)?;
    if request.target.is_some() {
        api_mounts::mount_kernel_trees(Path::new("/target"), Some(Path::new("/dev")), release)?;
        stand_ins::place(&request.stand_ins)?;
        for (from, to) in &request.target_binds {
            bind_into_target(from, to)?;
        }
    }
    Ok(())
}

/// Makes the calling process ready to become the command.
/// Errors: A text that says what failed.
pub(super) fn enter(request: &CommandRequest) -> Result<(), String> {
    if request.enter_target {
        rustix::process::chroot("/target").map_err(|error| format!("cannot enter the image: {error}"))?;
    }
    let directory = if request.working_directory.is_empty() { "/" } else { &request.working_directory };
    rustix::process::chdir(directory).map_err(|error| format!("cannot enter {directory}: {error}"))?;
    // On a terminal the session stays the caller's; Ctrl-C, which the helper had set aside for itself, is the command's again.
    caller::same_for_all(request.interactive);
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
        // Not a bind mount: anyone who is root inside can make one writable again, and where that root is the user who
        // builds, the files below are that user's. An overlay without an upper directory can never be written.
        std::fs::create_dir_all(empty).map_err(|error| format!("cannot create {empty}: {error}"))?;
        if upper_is_whole() {
            // Without overlayfs a copy is shown: whatever is done to it is done to nothing else.
            let copy = format!("{empty}/{}", bind.target.replace('/', "-"));
            std::fs::create_dir_all(&copy).map_err(|error| format!("cannot create {copy}: {error}"))?;
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
pub(super) fn set_read_only(point: &Path) -> std::io::Result<()> {
    match set_flags(point, libc::MOUNT_ATTR_RDONLY) {
        Ok(()) => Ok(()),
        // Kernels before 5.12.
        Err(_) => rustix::mount::mount_remount(point, MountFlags::BIND | MountFlags::RDONLY, "").map_err(Into::into),
    }
}

/// Adds flags to a mount and those below it, whatever others it has to keep.
pub(super) fn set_flags(point: &Path, flags: u64) -> std::io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    let path = std::ffi::CString::new(point.as_os_str().as_bytes())?;
    let attributes = libc::mount_attr { attr_set: flags, attr_clr: 0, propagation: 0, userns_fd: 0 };
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
    if result == 0 { Ok(()) } else { Err(std::io::Error::last_os_error()) }
}
