//! Whether it can be: of the process, of the system that runs, of the new root.

use std::path::Path;

use crate::cmdline::Parameters;
use crate::image::root;
use crate::node::statelite::inside::within;
use crate::sys;

pub(super) const SYSTEMCTL: &str = "/usr/bin/systemctl";
/// systemd has it from version 254 on, as it has the order.
const TARGET: [&str; 2] = ["usr/lib/systemd/system/soft-reboot.target", "lib/systemd/system/soft-reboot.target"];
/// Files by which systemd takes a directory for a system. Source: systemd, src/basic/os-util.c, `path_is_os_tree`.
const RELEASE: [&str; 2] = ["etc/os-release", "usr/lib/os-release"];
/// File systems of servers whose clients are in the kernel, and hold what they have mounted against the end of a network service.
const IN_THE_WAY: [&str; 6] = ["lustre", "gpfs", "beegfs", "panfs", "wekafs", "pvfs2"];
/// What this program says that it mounts.
const OURS: &str = "imgbuild";

/// Whether this process may do it, and is seen by systemd.
pub(super) fn this_process() -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    if !std::fs::metadata("/proc/self").is_ok_and(|own| own.uid() == 0) {
        return Err("only root can start user space again".to_owned());
    }
    let namespace = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
    match namespace("self") == namespace("1") {
        true => Ok(()),
        false => Err("this process has mounts of its own, which systemd does not see: call it by ssh".to_owned()),
    }
}

/// Whether the system that runs can go over.
pub(super) fn running_system() -> Result<(), String> {
    if !Path::new("/run/systemd/system").is_dir() || !Path::new(SYSTEMCTL).exists() {
        return Err("systemd does not run this node".to_owned());
    }
    if !has_any(Path::new("/"), &TARGET) {
        return Err("the running image has a systemd before 254, which has no soft-reboot.target".to_owned());
    }
    let Parameters { statelite, state, nfs_root, root, .. } = Parameters::read();
    if root.is_lazy() {
        return Err("this node reads its root over the network (imgbuild.root=lazy): reboot it instead".to_owned());
    }
    if statelite.is_some() || state.is_some() || nfs_root.is_some() {
        return Err("this node has statelite paths or its root over NFS: only the initrd mounts those".to_owned());
    }
    mounts_in_the_way(&mount_table())
}

fn mounts_in_the_way(table: &str) -> Result<(), String> {
    let found = mounts(table).find(|mount| IN_THE_WAY.contains(&mount.kind));
    match found.filter(|_| !fault::planted("node-soft-reboot-over-mounts")) {
        Some(Mount { at, kind, .. }) => {
            Err(format!("{kind} is mounted at {at}, and keeps its servers busy: unmount it"))
        }
        None => Ok(()),
    }
}

/// Whether the new root can take the place of the running one.
pub(super) fn new_root() -> Result<(), String> {
    let new = Path::new(root());
    if !has_any(new, &RELEASE) {
        return Err("the new image has no os-release: systemd goes over to nothing else".to_owned());
    }
    if !has_any(new, &TARGET) {
        return Err("the new image has a systemd before 254, which has no soft-reboot.target".to_owned());
    }
    same_kernel(Path::new("/"), new, &sys::kernel_release())
}

/// The kernel stays: its modules have to be in the new root, unless no root has any.
fn same_kernel(running: &Path, new: &Path, release: &str) -> Result<(), String> {
    let of = |release: &str| ["usr/lib/modules/", "lib/modules/"].map(|folder| format!("{folder}{release}"));
    let has = |tree: &Path, release: &str| has_any(tree, &of(release).each_ref().map(String::as_str));
    let is_needed = has(running, release) || has(new, "");
    if is_needed && !has(new, release) && !fault::planted("node-soft-reboot-any-kernel") {
        return Err(format!(
            "the new image has no modules of the running kernel, {release}: its kernel is another one"
        ));
    }
    Ok(())
}

/// Whether a tree has one of these paths, links followed within it.
fn has_any(tree: &Path, paths: &[&str]) -> bool {
    paths.iter().any(|path| within(tree, path, true).is_ok_and(|found| found.exists()))
}

/// A line of mountinfo. Source: proc_pid_mountinfo(5).
struct Mount<'a> {
    at: &'a str,
    kind: &'a str,
    source: &'a str,
}

fn mounts(table: &str) -> impl Iterator<Item = Mount<'_>> {
    table.lines().filter_map(|line| {
        let (own, rest) = line.split_once(" - ")?;
        let mut rest = rest.split(' ');
        Some(Mount { at: own.split(' ').nth(4)?, kind: rest.next()?, source: rest.next()? })
    })
}

fn mount_table() -> String {
    let bytes = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether this program mounted what is at a place now.
pub(super) fn is_ours(place: &str) -> bool {
    is_ours_in(&mount_table(), place)
}

fn is_ours_in(table: &str, place: &str) -> bool {
    mounts(table).filter(|mount| mount.at == place).last().is_some_and(|mount| mount.source == OURS)
}

/// Whether a place is free: not there, or an empty directory.
pub(super) fn nothing_at(place: &str) -> Result<(), String> {
    let table = mount_table();
    let mounted = mounts(&table).filter(|mount| mount.at == place).last().map(|mount| mount.kind);
    if let Some(kind) = mounted {
        return Err(format!("{kind} is mounted at {place}, and not by imgbuild: unmount it"));
    }
    let is_free = match Path::new(place).symlink_metadata() {
        Err(_) => true,
        Ok(found) => found.is_dir() && std::fs::read_dir(place).is_ok_and(|mut entries| entries.next().is_none()),
    };
    if is_free { Ok(()) } else { Err(format!("{place} is not an empty directory: remove it")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = "22 1 0:21 / / rw,relatime shared:1 - overlay imgbuild rw,lowerdir=/l\n\
        30 22 0:26 / /run rw,nosuid shared:5 - tmpfs tmpfs rw\n\
        40 30 0:40 / /run/nextroot rw shared:9 - overlay imgbuild rw\n\
        41 30 0:41 / /run/imgbuild/next rw - tmpfs imgbuild rw\n\
        no line\n";

    #[test]
    fn mounts_are_known_by_who_made_them() {
        assert!(is_ours_in(TABLE, "/run/nextroot") && is_ours_in(TABLE, "/run/imgbuild/next"));
        let over = format!("{TABLE}50 40 8:1 / /run/nextroot rw - ext4 /dev/sda1 rw\n");
        assert!(!is_ours_in(&over, "/run/nextroot") && !is_ours_in(TABLE, "/run") && !is_ours_in(TABLE, "/x"));
        assert_eq!(mounts_in_the_way(TABLE), Ok(()));
        let lustre = format!("{TABLE}60 22 0:50 / /scratch rw - lustre 10.0.0.1@o2ib:/work rw\n");
        assert!(mounts_in_the_way(&lustre).unwrap_err().starts_with("lustre is mounted at /scratch"));
    }

    #[test]
    fn the_running_kernels_modules_are_in_the_new_root() {
        let top = std::env::temp_dir().join(format!("imgbuild-same-kernel-{}", std::process::id()));
        let (bare, running, new, other) = (top.join("bare"), top.join("running"), top.join("new"), top.join("other"));
        std::fs::create_dir_all(&bare).unwrap();
        for (tree, release) in [(&running, "6.12.1"), (&new, "6.12.1"), (&new, "6.12.2"), (&other, "6.12.2")] {
            std::fs::create_dir_all(tree.join("usr/lib/modules").join(release)).unwrap();
        }
        std::os::unix::fs::symlink("usr/lib", new.join("lib")).unwrap();
        let same = |running: &Path, new: &Path| same_kernel(running, new, "6.12.1");
        assert_eq!((same(&running, &new), same(&bare, &bare), same(&bare, &new)), (Ok(()), Ok(()), Ok(())));
        for (running, new) in [(&running, &other), (&running, &bare), (&bare, &other)] {
            assert!(same(running, new).unwrap_err().contains("6.12.1"), "{running:?} {new:?}");
        }
        std::fs::remove_dir_all(&top).unwrap();
    }

    #[test]
    fn an_empty_directory_is_free() {
        let top = std::env::temp_dir().join(format!("imgbuild-free-{}", std::process::id()));
        let place = top.display().to_string();
        assert_eq!(nothing_at(&place), Ok(()));
        std::fs::create_dir_all(&top).unwrap();
        assert_eq!(nothing_at(&place), Ok(()));
        std::fs::write(top.join("x"), "").unwrap();
        assert!(nothing_at(&place).unwrap_err().contains("is not an empty directory"));
        std::fs::remove_dir_all(&top).unwrap();
        std::os::unix::fs::symlink("/", &top).unwrap();
        assert!(nothing_at(&place).is_err());
        std::fs::remove_file(&top).unwrap();
    }
}
