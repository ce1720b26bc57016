//! Clones of one commit over one cache: whatever umask, owner and options of git they have, they give the same bytes, and what one
//! of them built no other builds again. With a real git; keys alone are compared in `owners.rs`.

use std::os::unix::fs::lchown;
use std::path::Path;

use super::offline::{assert_same, fresh, run_through, vendored};
use crate::support::cluster::{chmod, clone, commit_all};
use crate::support::{Ran, Space};

/// A file in the image, its owner and its mode.
const INSIDE: [&str; 9] = [
    "/etc/motd root:root 644",
    "/srv/conf root:root 755",
    "/srv/conf/run root:root 755",
    "/srv/conf/app root:root 755",
    "/srv/conf/app/a.conf root:root 644",
    "/opt/site root:root 755",
    "/opt/site/input root:root 644",
    "/opt/site/tool root:root 755",
    "/srv/own root:root 640",
];

/// The tiny image with one of each kind of file that is read from a checkout, in one commit.
fn origin() -> Space {
    let origin = fresh();
    std::fs::remove_file(origin.path().join("admin")).unwrap();
    origin
        .write("motd", "a node\n")
        .write("conf/app/a.conf", "a\n")
        .write("conf/run", "#!/bin/sh\n")
        .write("site/input", "input\n")
        .write("site/tool", "#!/bin/sh\n")
        .write("a.synclist", "motd -> /etc/motd\nconf -> /srv/conf\nown/own -> /srv/own\n");
    let inputs = "script = \"tiny.postinstall\"\ninputs = [\"site/**\"]\n\n[sync]\nlists = [\"a.synclist\"]\n";
    origin.edit("image.toml", "script = \"tiny.postinstall\"\n", inputs);
    origin.edit("tiny.postinstall", "set -e\n", "set -e\ncp -a /recipe/site \"$1/opt/site\"\n");
    ["conf/run", "site/tool", "tiny.postinstall"].iter().for_each(|name| chmod(&origin.path().join(name), 0o755));
    commit_all(origin.path());
    origin
}

/// A clone, with a file that git does not track.
fn cloned(origin: &Space, umask: &str, more: &str) -> Space {
    let space = clone(origin.path(), umask, more);
    space.write("own/own", "of this site\n");
    chmod(&space.path().join("own"), 0o755);
    chmod(&space.path().join("own/own"), 0o640);
    space
}

fn all(space: &Space) -> impl Iterator<Item = walkdir::DirEntry> {
    walkdir::WalkDir::new(space.path()).into_iter().map(Result::unwrap)
}

/// A build without a network, by a caller with a umask, in a store of its own.
fn build(space: &Space, umask: &str, cache: &Path, more: &[&str]) -> Ran {
    let script = format!("umask {umask}; exec unshare -n -- \"$@\"");
    let words = ["build", "--locked", "--cache", cache.to_str().unwrap()];
    run_through(&["sh", "-c", &script, "sh"], space, &[&words, more].concat())
}

#[test]
fn clones_with_any_umask_and_owner_give_one_image_which_only_the_first_builds() {
    let origin = origin();
    let cache = tempfile::tempdir().unwrap();
    let first = cloned(&origin, "077", "");
    let ran = build(&first, "077", cache.path(), &["--vendor", vendored().to_str().unwrap()]).good();
    assert!(ran.err.contains("were written to the cache"), "{}", ran.err);
    let paths = INSIDE.iter().map(|line| line.split(' ').next().unwrap());
    let words: Vec<&str> = ["shell", "--", "/usr/bin/stat", "-c", "%n %U:%G %a"].into_iter().chain(paths).collect();
    assert_eq!(first.run(&words).good().out.lines().collect::<Vec<_>>(), INSIDE);

    let others = cloned(&origin, "077", "");
    all(&others).for_each(|entry| lchown(entry.path(), Some(1000), Some(1000)).unwrap());
    let bare = cloned(&origin, "022", "");
    std::fs::remove_dir_all(bare.path().join(".git")).unwrap();
    let without_modes = cloned(&origin, "022", "-c core.fileMode=false");
    let is_tracked = |entry: &walkdir::DirEntry| {
        let below = entry.path().strip_prefix(without_modes.path()).unwrap();
        !below.starts_with(".git") && !below.starts_with("own") && entry.depth() > 0
    };
    all(&without_modes).filter(is_tracked).for_each(|entry| chmod(entry.path(), 0o755));
    for (what, space, umask) in [
        ("umask 022", cloned(&origin, "022", ""), "022"),
        ("core.sharedRepository", cloned(&origin, "007", "-c core.sharedRepository=group"), "002"),
        ("a checkout of another user", others, "022"),
        ("a tree without .git", bare, "077"),
        ("a file system without modes", without_modes, "022"),
    ] {
        let ran = build(&space, umask, cache.path(), &[]);
        assert!(ran.code == 0 && ran.err.contains("ran nothing"), "{what}: {} {}", ran.code, ran.err);
        assert_same(&first, &space, "tiny");
        assert!(!ran.err.contains("were written to the cache"), "{what}: {}", ran.err);
    }

    // A file that git does not track has what it has: another mode is another image, and only what has it is made again.
    let space = cloned(&origin, "022", "");
    chmod(&space.path().join("own/own"), 0o600);
    let ran = build(&space, "022", cache.path(), &[]).good();
    assert!(ran.err.contains("rootfs/sync") && !ran.err.contains("rootfs/postinstall"), "{}", ran.err);
    let ran = space.run(&["shell", "--", "/usr/bin/stat", "-c", "%a", "/srv/own"]).good();
    assert_eq!(ran.out, "600\n");
}
