//! Which servers run for a workspace, and with which state: a name in the kernel's table of abstract sockets, which goes with its process
//! and needs no directory that both may write.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;

const PREFIX: &str = "imgbuild-serve/";
/// Longest path in such a name, which the kernel limits to 107 bytes.
const LONGEST: usize = 50;

fn real(path: &Path) -> std::path::PathBuf {
    path.canonicalize().unwrap_or_else(|_| std::path::absolute(path).unwrap_or_else(|_| path.to_owned()))
}

fn digest(path: &Path) -> String {
    blake3::hash(real(path).as_os_str().as_encoded_bytes()).to_hex().as_str()[..12].to_owned()
}

/// Says that this process serves the nodes of a workspace, as long as what is given lives; nothing where the kernel does not take it.
pub fn announce(root: &Path, state: &Path) -> Option<UnixDatagram> {
    let shown = real(state).display().to_string();
    // The end says more than the beginning.
    let cut = shown.char_indices().map(|(at, _)| at).find(|at| shown.len() - at <= LONGEST).unwrap_or(0);
    let shown = if cut == 0 { shown } else { format!("..{}", &shown[cut..]) };
    let name = format!("{PREFIX}{}/{}/{}:{shown}", digest(root), digest(state), std::process::id());
    let address = SocketAddr::from_abstract_name(name.as_bytes()).ok()?;
    UnixDatagram::bind_addr(&address).ok()
}

/// A server of this workspace with another state than this one, if none has this: its process, and the directory. Anyone on this machine
/// can claim to be one.
pub fn other_state(root: &Path, state: &Path) -> Option<(u32, String)> {
    let table = std::fs::read_to_string("/proc/net/unix").ok()?;
    let wanted = format!("@{PREFIX}{}/", digest(root));
    let servers: Vec<&str> = table.lines().filter_map(|line| line.split_once(&wanted).map(|(_, rest)| rest)).collect();
    let same = format!("{}/", digest(state));
    if servers.iter().any(|server| server.starts_with(&same)) {
        return None;
    }
    servers.into_iter().find_map(|server| {
        let (process, directory) = server.split_once('/')?.1.split_once(':')?;
        Some((process.parse().ok()?, directory.to_owned()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_with_another_state_is_seen_and_one_with_this_is_enough() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let (one, other) = (root.join("one"), root.join(format!("{}/é", "long".repeat(40))));
        assert_eq!(other_state(root, &one), None);
        let first = announce(root, &other).unwrap();
        let (process, shown) = other_state(root, &one).unwrap();
        assert!(process == std::process::id() && shown.starts_with("..") && shown.ends_with("long/é"), "{shown}");
        assert_eq!((other_state(root, &other), other_state(&one, &one)), (None, None));
        let second = announce(root, &one).unwrap();
        assert_eq!(other_state(root, &one), None);
        drop((first, second));
        assert_eq!(other_state(root, &other), None);
    }
}
