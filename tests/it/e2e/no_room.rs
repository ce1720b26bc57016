//! Commands that build and write, where no byte can be written, or the disk of the recipe is full: what was there is there whole, nothing
//! half is left, and the same command does its work once there is room. Those that need no build are in `all_or_nothing.rs`.

use std::path::Path;

use super::offline::{build, run_through, vendored, warm};
use crate::all_or_nothing::{placed, tree};
use crate::support::{Ran, Space};

/// A built image that is published as xCAT has it, too, whose recipe has changed since.
fn space() -> Space {
    let space = warm();
    build(&space).good();
    space.edit("tiny.postinstall", "set -e\n", "set -e\ntouch \"$1/opt/once-more\"\n");
    space
}

/// A command of the space through another one.
fn through(prefix: &[&str], space: &Space, command: &[&str]) -> Ran {
    run_through(prefix, space, &placed(space, command).iter().map(String::as_str).collect::<Vec<_>>())
}

/// In a mount namespace of its own: the recipe's directory in a small file system that is filled. What is left there is copied to `to`.
fn on_a_full_disk(space: &Space, to: &Path, command: &[&str]) -> Ran {
    let aside = tempfile::tempdir().unwrap();
    let script = format!(
        "aside={}; space={}; mount -t tmpfs -o size=200m none $aside && cp -a $space/. $aside && mount --bind $aside $space \
         && {{ dd if=/dev/zero of=$aside/full bs=64k 2>/dev/null; dd if=/dev/zero of=$aside/full2 bs=1 2>/dev/null; cd $space; \
         \"$@\"; code=$?; rm $aside/full $aside/full2; cp -a $space/. {}; exit $code; }}",
        aside.path().display(),
        space.path().display(),
        to.display()
    );
    through(&["unshare", "--mount", "sh", "-c", &script, "sh"], space, command)
}

#[test]
fn network_privileged_where_no_byte_can_be_written_no_command_leaves_a_half() {
    let vendored = vendored().to_str().unwrap();
    for command in [
        &["build", "--locked", "--vendor", vendored][..],
        &["build", "--locked", "--vendor", vendored, "--publish", "xcat:./install"],
        &["update"],
        &["vendor", "./packages"],
        &["publish", "nfs:./nfs"],
    ] {
        let store = tempfile::tempdir().unwrap();
        let mut space = space();
        std::fs::rename(space.store(), store.path().join("store")).unwrap();
        space = space.with_store(&store.path().join("store"));
        if command[0] == "update" {
            std::fs::remove_file(space.path().join("image.lock")).unwrap();
        }
        if command[0] == "publish" {
            space.edit("tiny.postinstall", "touch \"$1/opt/once-more\"\n", "");
        }
        let before = tree(space.path());
        let refused = |ran: Ran, how: &str, now: &Path| {
            assert!(ran.code != 0, "{command:?} {how}: {} {}", ran.out, ran.err);
            assert!(!ran.err.contains("panicked"), "{command:?} {how}: {}", ran.err);
            let now = tree(now);
            let different: Vec<_> = before.iter().filter(|(path, bytes)| now.get(*path) != Some(bytes)).collect();
            let more: Vec<_> = now.keys().filter(|path| !before.contains_key(*path)).collect();
            assert!(different.is_empty() && more.is_empty(), "{command:?} {how}: {different:?} {more:?}: {}", ran.err);
        };
        let ran = through(&["sh", "-c", "ulimit -f 0; exec \"$@\"", "sh"], &space, command);
        refused(ran, "without a byte", space.path());
        let seen = tempfile::tempdir().unwrap();
        refused(on_a_full_disk(&space, seen.path(), command), "on a full disk", seen.path());
        through(&["env"], &space, command).good();
        assert_ne!(tree(space.path()), before, "{command:?}");
    }
}
