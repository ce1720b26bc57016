//! The last step: the new root becomes the root, and its init takes this process.

use std::path::{Path, PathBuf};

use crate::image::root;
use crate::{say, selinux, sys};

/// What is tried, as the kernel itself does.
const INITS: [&str; 4] = ["sbin/init", "usr/lib/systemd/systemd", "etc/init", "bin/init"];

/// The image's init: a file that can be executed, links followed within the image.
pub(crate) fn find_init() -> Result<&'static str, String> {
    let works = |path: &&&str| {
        resolve(path).is_some_and(|file| {
            use std::os::unix::fs::PermissionsExt;
            file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
        })
    };
    INITS.iter().find(works).copied().ok_or_else(|| {
        format!("the image has no init that can be started ({}); is a package such as systemd-sysv in its list, and not in its exclude list?", INITS.join(", "))
    })
}

/// Follows links as they would be after the root has changed.
fn resolve(path: &str) -> Option<PathBuf> {
    let mut rest: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    let mut done = PathBuf::from(root());
    let mut links = 0;
    while let Some(part) = rest.pop() {
        match part.as_str() {
            "" | "." => continue,
            ".." => {
                if done != Path::new(root()) {
                    done.pop();
                }
                continue;
            }
            _ => {}
        }
        let next = done.join(&part);
        if next.symlink_metadata().ok()?.is_symlink() {
            links += 1;
            if links > 40 {
                return None;
            }
            let target = std::fs::read_link(&next).ok()?.into_os_string().into_string().ok()?;
            if target.starts_with('/') {
                done = PathBuf::from(root());
            }
            rest.extend(target.split('/').rev().map(str::to_owned));
        } else {
            done = next;
        }
    }
    Some(done)
}

/// Does not return unless it fails; gives the reason. The mode is SELinux's, where it is on.
pub(crate) fn switch_root(mode: Option<selinux::Mode>) -> String {
    let init = match find_init() {
        Ok(init) => init,
        Err(problem) => return problem,
    };
    say!("starting /{init}");
    for name in ["dev", "proc", "sys", "run"] {
        if let Err(error) = sys::move_mount(&format!("/{name}"), &format!("{}/{name}", root())) {
            say!("/{name} cannot be moved into the image: {error}");
        }
    }
    // Only now: what this program does, no policy foresees.
    let last = || match mode {
        Some(selinux::Mode::Enforcing) => selinux::enforce(true),
        _ => Ok(()),
    };
    match sys::become_root(root(), &format!("/{init}"), last) {
        Ok(never) => match never {},
        Err(error) => format!("/{init} cannot be started: {error}"),
    }
}
