//! Mounts what a dump is written to.

use std::path::PathBuf;

use crate::modules::Modules;
use crate::network::lease::Lease;
use crate::node::statelite::{mount_disk, mount_nfs};
use crate::statelite::Source;
use crate::sys;

/// Where it is mounted.
const PLACE: &str = "/dump";

/// A server that went away must not hold the dump for ever; two minutes until an error.
const NFS_OPTIONS: &str = "soft,timeo=300,retrans=3,nolock,tcp";
const WAITING: &str = "soft,timeo=300,retrans=3";

/// A file system of a disk, and a directory below it, which is made.
pub(super) fn disk(device: &str, directory: &str, options: &str, modules: &Modules) -> Result<PathBuf, String> {
    let source = Source::Disk { device: device.to_owned(), options: options.to_owned() };
    mount_disk(&source, PLACE, modules).map_err(|problem| format!("{device}: {problem}"))?;
    let base = PathBuf::from(format!("{PLACE}{directory}"));
    std::fs::create_dir_all(&base).map_err(|error| format!("{device}: {directory} cannot be created: {error}"))?;
    // A link on the disk may lead to this kernel's own memory.
    match base.canonicalize() {
        Ok(real) if real.starts_with(PLACE) => Ok(real),
        _ => Err(format!("{device}: {directory} is a link that leads out of the disk")),
    }
}

/// A directory of a server.
pub(super) fn nfs(
    server: &str,
    directory: &str,
    options: &str,
    lease: &Lease,
    modules: &Modules,
) -> Result<PathBuf, String> {
    let source =
        Source::Server { server: server.to_owned(), directory: directory.to_owned(), options: nfs_options(options) };
    mount_nfs(&source, PLACE, lease, modules).map_err(|problem| format!("{source}: {problem}"))?;
    Ok(PathBuf::from(PLACE))
}

/// Options of the mount: the site's, and a limit to waiting, if they do not say how to wait.
fn nfs_options(own: &str) -> String {
    let waits = |option: &str| ["hard", "soft", "softerr"].contains(&option);
    match own {
        "" => NFS_OPTIONS.to_owned(),
        own if own.split(',').any(waits) || fault::planted("node-nfs-waits-forever") => own.to_owned(),
        own => format!("{own},{WAITING}"),
    }
}

/// Takes it away; nothing is lost then.
pub(super) fn close() -> Result<(), String> {
    sys::write_out();
    match sys::unmount_now(PLACE) {
        true => Ok(()),
        false => Err("the dump cannot be written out to its disk or server".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_went_away_is_not_waited_for_unless_the_site_says_so() {
        assert_eq!(nfs_options(""), NFS_OPTIONS);
        assert_eq!(nfs_options("nfsvers=3"), "nfsvers=3,soft,timeo=300,retrans=3");
        assert_eq!(nfs_options("nfsvers=3,hard"), "nfsvers=3,hard");
    }
}
