//! What an edit rebuilds, on the real example.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::kills::forget_with;
use super::offline::{assert_same, build, fresh, warm};
use super::{compute, store};
use crate::support::{Space, copy_locked};

/// A copy of the built example whose lock is the same: everything is in the store.
fn copy() -> Space {
    let built = compute();
    let space = Space::new().with_store(&store());
    copy_locked(built.space.path(), space.path());
    space.run(&["build", "--locked"]).good();
    space
}

#[test]
fn after_a_build_everything_is_kept() {
    let built = compute();
    assert_eq!(built.space.to_do(), Vec::<String>::new());
    assert_eq!(built.space.run(&["plan", "--detailed-exitcode"]).code, 0);
    let again = built.space.run(&["build"]).good();
    assert!(again.err.contains("ran nothing"), "{}", again.err);
}

#[test]
fn a_copy_of_the_recipe_elsewhere_runs_nothing_and_gives_the_same_bytes() {
    let (built, space) = (compute(), copy());
    for name in ["kernel", "initrd-stateless", "rootimg.cpio.zst", "rootimg.cpio.zst.index", "build.json", "SHA256SUMS"]
    {
        let read = |space: &Space| std::fs::read(space.artefact("compute", name)).unwrap();
        assert!(read(&built.space) == read(&space), "{name} differs");
    }
}

#[test]
fn editing_a_synced_file_runs_the_sync_layer_and_pack_alone() {
    let space = copy();
    space.write("site/motd", "another text\n");
    insta::assert_snapshot!(crate::support::without_estimate(&space.run(&["plan"]).good().out), @r"
    compute
      rootfs   run
        sync           run
          site/motd content changed
      kernel   keep
      initrd   keep
      pack     depends
        rootimg        depends
          site/motd content changed (through rootfs/sync)
    ");
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("ran rootfs/sync, pack/rootimg;"), "{}", ran.err);
    assert_eq!(space.to_do(), Vec::<String>::new());
    // The way back is the store's: nothing runs.
    space.write("site/motd", "This node runs an image that imgbuild built.\n");
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
}

/// Paths below a store's directory that end so.
fn found(space: &Space, below: &str, is_so: &dyn Fn(&Path, &Metadata) -> bool) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(space.store().join("v1").join(below)).into_iter().flatten();
    let files = entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    files.filter(|path| is_so(path, &path.metadata().unwrap())).collect()
}

#[test]
fn a_synced_file_that_did_not_change_is_not_written_again() {
    let space = warm();
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"files.synclist\"]\n\n[exclude]");
    space.write("files.synclist", "site/* -> /opt/site/\n");
    space.write("site/large", &"x".repeat(1 << 20));
    let edited = |text: &str| {
        space.write("site/small", text);
        build(&space).good()
    };
    let inodes = || -> BTreeSet<u64> {
        let large = found(&space, "trees", &|path, _| path.ends_with("opt/site/large"));
        large.iter().map(|path| path.metadata().unwrap().ino()).collect()
    };
    edited("one\n");
    edited("two\n");
    assert_eq!(inodes().len(), 1);
    // What was touched since it was made may be damaged: it is copied. So is the store's own copy, and that is damaged.
    for path in found(&space, "trees", &|path, _| path.ends_with("opt/site/large")) {
        std::fs::set_permissions(&path, path.metadata().unwrap().permissions()).unwrap();
    }
    for path in found(&space, "blobs", &|_, metadata| metadata.len() == 1 << 20) {
        std::fs::write(path, "y".repeat(1 << 20)).unwrap();
    }
    let ran = edited("three\n");
    assert!(ran.err.contains("it was removed and will be rebuilt"), "{}", ran.err);
    assert_eq!(inodes().len(), 2);
    let ran = space.run(&["store", "verify"]).good();
    assert!(ran.err.contains(", 0 damaged"), "{}", ran.err);
    for path in found(&space, "trees", &|path, _| path.ends_with("opt/site/large")) {
        assert!(std::fs::read(path).unwrap().iter().all(|byte| *byte == b'x'));
    }
    // The same image from an empty store.
    let other = fresh();
    for name in ["image.toml", "files.synclist", "site/small", "site/large"] {
        other.write(name, &std::fs::read_to_string(space.path().join(name)).unwrap());
    }
    std::fs::copy(space.path().join("image.lock"), other.path().join("image.lock")).unwrap();
    build(&other).good();
    assert_same(&space, &other, "tiny");
}

#[test]
fn each_kind_of_edit_runs_its_own_stage() {
    let space = copy();
    space.edit("image.toml", "\"+vmxnet3\"", "\"+vmxnet3\", \"-be2net\"");
    assert_eq!(space.to_do(), ["initrd/stateless run"]);
    space.edit("image.toml", ", \"-be2net\"", "");
    space.edit("compute.exlist", "./boot/*\n", "./boot/*\n./opt*\n");
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("compute.exlist:8 added \"./opt*\""), "{plan}");
    assert_eq!(space.to_do(), ["pack/rootimg run"]);
    space.edit("compute.exlist", "./opt*\n", "");
    space.edit("image.toml", "\"50m\"", "\"60m\"");
    assert_eq!(
        space.to_do(),
        [
            "rootfs/system run",
            "rootfs/postinstall depends",
            "rootfs/services depends",
            "rootfs/gate run",
            "rootfs/sync depends",
            "pack/rootimg depends"
        ]
    );
    space.edit("image.toml", "\"60m\"", "\"50m\"");
    // Edits without meaning.
    space.edit("image.toml", "[exclude]", "\n# a comment\n\n[exclude]");
    space.edit("compute.pkglist", "systemd-sysv\n", "# init\n\nsystemd-sysv\n");
    assert_eq!(space.to_do(), Vec::<String>::new());
    // A package that the lock lacks: the plan says so with the list's line, and runs nothing.
    space.edit("compute.pkglist", "munge\n", "munge\nhtop\n");
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("compute.pkglist:29 added \"htop\""), "{plan}");
    // What will run is said, and that kernel and initrd are kept.
    for line in [
        "lock           run",
        "packages-1.2   run",
        "system         depends",
        "kernel   keep",
        "initrd   keep",
        "rootimg        depends",
    ] {
        assert!(plan.contains(line), "{line}\n{plan}");
    }
    let locked = space.run(&["build", "--locked"]);
    assert_eq!(locked.code, 1);
    assert!(locked.err.contains("added \"htop\""), "{}", locked.err);
}

#[test]
fn network_a_package_more_leaves_the_parts_of_the_list_before_it_alone() {
    let space = copy();
    let before = locked_part(&space, "packages-1");
    assert!(before.contains("openssh-server") && !before.contains("munge"), "{before}");
    space.edit("image.toml", "install = [\"chrony\"]", "install = [\"chrony\", \"htop\"]");
    assert_eq!(
        space.to_do()[..4],
        ["rootfs/lock run", "rootfs/packages-1.2 run", "rootfs/kernel depends", "rootfs/system depends"]
    );
    forget_with(&space, "rootfs/packages-1.2", &["package htop:"]);
    // Made a second time from nothing: the parts are functions of the lock alone.
    let ran = space.run(&["build", "--verify"]).good();
    let first = ran.err.lines().find(|line| line.starts_with("ran ")).unwrap();
    assert!(first.starts_with("ran rootfs/packages-1.2, rootfs/kernel, rootfs/system, "), "{first}");
    assert_eq!(locked_part(&space, "packages-1"), before);
    let asked =
        space.run(&["shell", "--", "dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\n", "htop", "munge"]);
    assert_eq!(asked.good().out, "ii  htop\nii  munge\n");
    assert_eq!(space.run(&["shell", "--", "dpkg", "--audit"]).good().out, "");
    // What is there only because another needs it is marked so, whichever part it is in.
    let marked =
        space.run(&["shell", "--", "apt-mark", "showauto", "libnl-3-200", "libwrap0", "htop", "openssh-server"]);
    assert_eq!(marked.good().out, "libnl-3-200\nlibwrap0\n");
}

fn locked_part(space: &Space, name: &str) -> String {
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    let is_it = |part: &&str| part.starts_with(&format!("\nname = \"{name}\"\n"));
    lock.split("[[pass]]").find(is_it).unwrap().to_owned()
}

#[test]
fn a_published_file_that_is_gone_is_noticed_and_mended() {
    let space = copy();
    let path = space.artefact("compute", "initrd-stateless");
    std::fs::remove_file(&path).unwrap();
    assert!(space.run(&["plan"]).good().out.contains("initrd-stateless"));
    assert_eq!(space.run(&["plan", "--detailed-exitcode"]).code, 2);
    space.run(&["build"]).good();
    assert!(path.exists());
    assert_eq!(space.run(&["plan", "--detailed-exitcode"]).code, 0);
}
