//! Which servers run for a workspace, and with which state: a name in the kernel's table of abstract sockets, which goes with its process
//! and needs no directory that both may write.

use std::os::linux::net::SocketAddrExt;
use std::os::unix::fs::MetadataExt;
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
/// can claim to be one: only an imgbuild of root's, of this user's or of the state's owner is believed.
pub fn other_state(root: &Path, state: &Path) -> Option<(u32, String)> {
    let table = std::fs::read("/proc/net/unix").ok()?;
    let owner = std::fs::metadata(state).ok().map(|found| found.uid());
    let believed = [Some(0), Some(rustix::process::geteuid().as_raw()), owner];
    // This program, by whatever name it was started, is one.
    let own = program(std::process::id()).map(|(_, name)| name);
    other_in(&String::from_utf8_lossy(&table), (root, state), &|process| {
        program(process).is_some_and(|(user, name)| {
            believed.contains(&Some(user)) && (name.starts_with("imgbuild") || own.as_deref() == Some(name.as_str()))
        })
    })
}

/// The same of a table of sockets. Source: proc(5), /proc/net/unix.
fn other_in(table: &str, (root, state): (&Path, &Path), is_server: &dyn Fn(u32) -> bool) -> Option<(u32, String)> {
    let wanted = format!("@{PREFIX}{}/", digest(root));
    let of_line = |line: &str| -> Option<(String, u32, String)> {
        let (state, rest) = line.split_once(&wanted)?.1.split_once('/')?;
        let (process, directory) = rest.split_once(':')?;
        Some((state.to_owned(), process.parse().ok()?, directory.to_owned()))
    };
    let mut servers = table.lines().filter_map(of_line).filter(|(_, process, _)| is_server(*process));
    let (own, mut other) = (digest(state), None);
    // One that has this is enough.
    match servers.any(|(state, process, directory)| {
        other.get_or_insert((process, directory));
        state == own
    }) {
        true => None,
        false => other,
    }
}

/// The user of a process, and the name of its program: where it may not be looked at, as the process says.
fn program(process: u32) -> Option<(u32, String)> {
    let directory = Path::new("/proc").join(process.to_string());
    let user = std::fs::metadata(&directory).ok()?.uid();
    let name = match std::fs::read_link(directory.join("exe")) {
        Ok(program) => program.file_name()?.to_string_lossy().into_owned(),
        Err(_) => std::fs::read_to_string(directory.join("comm")).ok()?,
    };
    Some((user, name))
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

    #[test]
    fn what_is_no_imgbuild_or_another_users_is_not_believed() {
        let directory = tempfile::tempdir().unwrap();
        let (root, own, other) = (directory.path(), directory.path().join("own"), directory.path().join("other"));
        let line = |state: &Path, process: &str| {
            format!("0: 00000002 0 0 0002 01 9 @{PREFIX}{}/{}/{process}:/srv/state\n", digest(root), digest(state))
        };
        let at = |table: &str| other_in(table, (root, &own), &|process| process == 7);
        let seven = Some((7, "/srv/state".to_owned()));
        assert_eq!(at(&line(&other, "7")), seven);
        // Neither does it say that there is another, nor hide one.
        assert_eq!(at(&line(&other, "8")), None);
        assert_eq!(at(&[line(&own, "8"), line(&other, "7")].concat()), seven);
        assert_eq!(at(&[line(&other, "7"), line(&own, "7")].concat()), None);
        assert_eq!(at(&[line(&other, "x"), line(&other, "")].concat()), None);
        // A name that is no text hides no one.
        let name = SocketAddr::from_abstract_name([0xff, 0xfe, 0xe9]).unwrap();
        let odd = UnixDatagram::bind_addr(&name).unwrap();
        let server = announce(root, &other).unwrap();
        assert_eq!(other_state(root, &own).map(|(process, _)| process), Some(std::process::id()));
        drop(server);
        // Another program of this user.
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let claimed = format!("{PREFIX}{}/{}/{}:/srv/state", digest(root), digest(&other), child.id());
        let claimed = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(claimed.as_bytes()).unwrap()).unwrap();
        assert_eq!(other_state(root, &own), None);
        child.kill().unwrap();
        child.wait().unwrap();
        drop((odd, claimed));
    }
}
