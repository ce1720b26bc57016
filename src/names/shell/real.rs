//! The command of the same name further down PATH: xCAT's own, which gets what imgbuild does not know.

use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Finds it. `program` is what this process was started as: by a path, or by the name alone, which the shell looked up in PATH.
///
/// Only places after the own one count, so that two imgbuilds in one PATH never hand a command to and fro, and only xCAT's: `nodeset`
/// is a program of ClusterShell, too.
pub(super) fn find(name: &str, program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    let own = std::env::current_exe().ok().and_then(|own| identity(&own));
    let root = std::env::var_os("XCATROOT").map(PathBuf::from);
    let places = std::env::split_paths(&path).collect::<Vec<_>>();
    find_in(&places, name, program, own, root.as_deref())
}

/// Whether a program is xCAT's: the one that its commands are links to (`xcatclient`, `xcatclientnnr`), or, itself or by the link that
/// it is, a program of a directory of xCAT. Such a directory lies below `XCATROOT`, or it or the `bin` beside it has the file
/// `xcatclient`. A link to it does not make a directory xCAT's. Source: xCAT's xcat-client.spec, which puts `xcatclient` into
/// /opt/xcat/bin, and other commands into sbin.
fn is_xcats(path: &Path, root: Option<&Path>) -> bool {
    let Ok(path) = path.canonicalize() else { return false };
    if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("xcatclient")) {
        return true;
    }
    let Some(place) = path.parent() else { return false };
    let is_below = root.and_then(|root| root.canonicalize().ok()).is_some_and(|root| place.starts_with(root));
    let beside = [Some(place.join("xcatclient")), place.parent().map(|above| above.join("bin/xcatclient"))];
    let is_file = |client: PathBuf| client.symlink_metadata().is_ok_and(|metadata| metadata.is_file());
    (is_below || beside.into_iter().flatten().any(is_file)) && !is_clustershells(&path)
}

/// Whether a program is one of ClusterShell's, wherever someone put it: its `nodeset` is a script that imports the package.
fn is_clustershells(path: &Path) -> bool {
    let mut head = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(4096).read_to_end(&mut head));
    read.is_ok() && memchr::memmem::find(&head, b"ClusterShell").is_some()
}

fn find_in(
    places: &[PathBuf],
    name: &str,
    program: &str,
    own: Option<(u64, u64)>,
    root: Option<&Path>,
) -> Option<PathBuf> {
    let is_own_place = |place: &PathBuf| match program.rsplit_once('/') {
        Some((directory, _)) => {
            let directory = if directory.is_empty() { "/" } else { directory };
            identity(place).is_some_and(|place| Some(place) == identity(Path::new(directory)))
        }
        None => is_program(&place.join(name)),
    };
    let after = places.iter().position(is_own_place).map_or(0, |at| at + 1);
    let found = places[after..].iter().map(|place| place.join(name));
    let mut others = found.filter(|path| is_program(path) && identity(path) != own && is_xcats(path, root));
    // A path of a single word would be looked up in PATH again.
    others.next().map(|path| std::path::absolute(&path).unwrap_or(path))
}

/// Which file it is, whatever links lead there.
fn identity(path: &Path) -> Option<(u64, u64)> {
    std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()))
}

fn is_program(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_further_down_and_is_another_program_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let program = |name: &str, mode: u32| {
            std::fs::create_dir_all(at(name).parent().unwrap()).unwrap();
            std::fs::write(at(name), "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(at(name), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        program("imgbuild", 0o755);
        for place in ["ours", "ours-too"] {
            std::fs::create_dir(at(place)).unwrap();
            std::os::unix::fs::symlink(at("imgbuild"), at(place).join("lsdef")).unwrap();
        }
        program("no-program/lsdef", 0o644);
        program("above/lsdef", 0o755);
        program("above/xcatclient", 0o755);
        program("xcat/lsdef", 0o755);
        program("xcat/xcatclient", 0o755);
        program("cluster-shell/nodeset", 0o755);
        program("opt/xcat/bin/xcatclient", 0o755);
        program("opt/xcat/sbin/nodeset", 0o755);
        let own = identity(&at("imgbuild"));
        let places = ["above", "ours", "no-program", "ours-too", "xcat"].map(at);
        let find_in = |places: &[PathBuf], name: &str, program: &str, own| find_in(places, name, program, own, None);
        let by_path = at("ours").join("lsdef").display().to_string();
        assert_eq!(find_in(&places, "lsdef", &by_path, own), Some(at("xcat/lsdef")));
        // Started by its name: the first in PATH is the one that runs.
        assert_eq!(find_in(&places[1..], "lsdef", "lsdef", own), Some(at("xcat/lsdef")));
        // From elsewhere all of PATH is further down.
        assert_eq!(find_in(&places, "lsdef", "/nowhere/lsdef", own), Some(at("above/lsdef")));
        assert_eq!(find_in(&places[..4], "lsdef", &by_path, own), None);
        // Another imgbuild is no loop: it looks after its own place.
        let other = at("ours-too").join("lsdef").display().to_string();
        assert_eq!(find_in(&places, "lsdef", &other, None), Some(at("xcat/lsdef")));
        assert_eq!(find_in(&places, "nodeset", &by_path, own), None);
        // A program of another package is not xCAT's, wherever it stands.
        let places = ["ours", "cluster-shell", "opt/xcat/sbin"].map(at);
        assert_eq!(find_in(&places[..2], "nodeset", &by_path, own), None);
        assert_eq!(find_in(&places, "nodeset", &by_path, own), Some(at("opt/xcat/sbin/nodeset")));
        let by_root = super::find_in(&places[..2], "nodeset", &by_path, own, Some(&at("cluster-shell")));
        assert_eq!(by_root, Some(at("cluster-shell/nodeset")));
        // Links to xCAT's programs are xCAT's, and make nothing beside them so.
        for (name, target) in
            [("usr/bin/xcatclient", "opt/xcat/bin/xcatclient"), ("usr/bin/lsdef", "opt/xcat/bin/xcatclient")]
        {
            std::fs::create_dir_all(at("usr/bin")).unwrap();
            std::os::unix::fs::symlink(at(target), at(name)).unwrap();
        }
        program("usr/bin/nodeset", 0o755);
        let places = ["ours", "usr/bin"].map(at);
        assert_eq!(find_in(&places, "nodeset", &by_path, own), None);
        program("opt/xcat/bin/xcatclient", 0o755);
        assert_eq!(find_in(&places, "lsdef", &by_path, own), Some(at("usr/bin/lsdef")));
        // Whose program it is stands in it.
        std::fs::write(at("opt/xcat/sbin/nodeset"), "#!/usr/bin/python3\nfrom ClusterShell.CLI.Nodeset import main\n")
            .unwrap();
        assert_eq!(find_in(&[at("ours"), at("opt/xcat/sbin")], "nodeset", &by_path, own), None);
    }
}
