//! The last step: the new root becomes the root, and its init takes this process.

use std::path::Path;

use crate::image::ROOT;
use crate::{say, sys};

/// What is tried, as the kernel itself does.
const INITS: [&str; 4] = ["sbin/init", "usr/lib/systemd/systemd", "etc/init", "bin/init"];

/// Does not return unless it fails; gives the reason.
pub fn switch_root() -> String {
    let found = INITS.iter().find(|path| Path::new(ROOT).join(path).symlink_metadata().is_ok());
    let Some(init) = found else {
        sys::unmount(ROOT);
        return format!("the image has no init ({}); is a package such as systemd-sysv in its list?", INITS.join(", "));
    };
    say!("starting /{init}");
    for name in ["dev", "proc", "sys", "run"] {
        if let Err(error) = sys::move_mount(&format!("/{name}"), &format!("{ROOT}/{name}")) {
            say!("/{name} cannot be moved into the image: {error}");
        }
    }
    match sys::become_root(ROOT, &format!("/{init}")) {
        Ok(never) => match never {},
        Err(error) => format!("/{init} cannot be started: {error}"),
    }
}
