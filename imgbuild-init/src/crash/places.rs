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

/// A file system of a disk, and a directory below it, which is made.
pub fn disk(device: &str, directory: &str, options: &str, modules: &Modules) -> Result<PathBuf, String> {
    let source = Source::Disk { device: device.to_owned(), options: options.to_owned() };
    mount_disk(&source, PLACE, modules).map_err(|problem| format!("{device}: {problem}"))?;
    let base = PathBuf::from(format!("{PLACE}{directory}"));
    std::fs::create_dir_all(&base).map_err(|error| format!("{device}: {directory} cannot be made: {error}"))?;
    Ok(base)
}

/// A directory of a server.
pub fn nfs(server: &str, directory: &str, options: &str, lease: &Lease, modules: &Modules) -> Result<PathBuf, String> {
    let options = if options.is_empty() { NFS_OPTIONS } else { options };
    let source =
        Source::Server { server: server.to_owned(), directory: directory.to_owned(), options: options.to_owned() };
    mount_nfs(&source, PLACE, lease, modules).map_err(|problem| format!("{source}: {problem}"))?;
    Ok(PathBuf::from(PLACE))
}

/// Takes it away; nothing is lost then.
pub fn close() -> Result<(), String> {
    sys::write_out();
    match sys::unmount_now(PLACE) {
        true => Ok(()),
        false => Err("the dump cannot be written out to its disk or server".to_owned()),
    }
}

/// Takes away what an attempt left.
pub fn unmount() {
    sys::unmount(PLACE);
}
