//! Vendored packages: every test that needs an empty store builds from them, with no network.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

use super::{shared, tiny};
use crate::support::{Ran, Space, copy_locked};

/// All packages of the tiny image, as `imgbuild vendor` keeps them.
pub fn vendored() -> &'static Path {
    static VENDORED: OnceLock<PathBuf> = OnceLock::new();
    VENDORED.get_or_init(|| {
        shared::once("vendored", |directory| {
            let ran = tiny().space.run(&["vendor", directory.to_str().unwrap()]).good();
            assert!(ran.err.contains("needs no network"), "{}", ran.err);
        })
    })
}

/// A copy of the tiny image and its lock, with an empty store of its own.
pub fn fresh() -> Space {
    copied_to(Space::new())
}

/// The same, with a store of its own in which it is built. Nothing is known of other recipes there, and each file is this store's
/// alone: it may be damaged.
pub fn warm() -> Space {
    let template = shared::once("tiny-store", |place| {
        let space = copied_to(Space::kept(place));
        build(&space).good();
        for known in ["roots", "earlier", "history", "memos"] {
            let _ = std::fs::remove_dir_all(space.store().join("v1").join(known));
        }
    });
    let space = fresh();
    let copied = Command::new("cp").arg("-a").arg(template.join(".store")).arg(space.store()).status().unwrap();
    assert!(copied.success());
    space
}

pub fn copied_to(space: Space) -> Space {
    copy_locked(tiny().space.path(), space.path());
    space
}

/// Runs the program on a space through another command, for instance one that takes the network away.
pub fn run_through(prefix: &[&str], space: &Space, arguments: &[&str]) -> Ran {
    let mut command = Command::new(prefix[0]);
    command.args(&prefix[1..]).arg(env!("CARGO_BIN_EXE_imgbuild"));
    command.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(arguments);
    command.env("NO_COLOR", "1").output().unwrap().into()
}

/// A locked build from the vendored packages.
pub fn build(space: &Space) -> Ran {
    space.run(&["build", "--locked", "--vendor", vendored().to_str().unwrap()])
}

/// The files that two builds of one lock must have equal.
pub const SAME: [&str; 6] =
    ["kernel", "initrd-stateless", "rootimg.cpio.zst", "rootimg.cpio.zst.index", "build.json", "SHA256SUMS"];

/// Fails unless two published images are equal byte for byte.
#[track_caller]
pub fn assert_same(one: &Space, two: &Space, image: &str) {
    for name in SAME {
        let read = |space: &Space| std::fs::read(space.artefact(image, name)).unwrap();
        assert!(read(one) == read(two), "{name} differs between {:?} and {:?}", one.path(), two.path());
    }
}

#[test]
fn a_build_from_vendored_packages_needs_no_network() {
    let space = fresh();
    let vendored = vendored().to_str().unwrap();
    let ran = run_through(&["unshare", "-n"], &space, &["build", "--locked", "--vendor", vendored]).good();
    assert!(ran.err.contains("rootfs/base"), "{}", ran.err);
    assert_same(&tiny().space, &space, "tiny");
    // Resolving works too: the indices are there. Only a package that was not vendored is missing, and that is said.
    std::fs::remove_file(space.path().join("image.lock")).unwrap();
    run_through(&["unshare", "-n"], &space, &["build", "--vendor", vendored]).good();
    space.edit("image.toml", "base = \"essential\"", "base = \"essential\"\ninstall = [\"less\"]");
    let ran = run_through(&["unshare", "-n"], &space, &["build", "--vendor", vendored]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("less_") && ran.err.contains("imgbuild vendor DIR"), "{}", ran.err);
}

/// What is kept of packages without xz: files by name, and when each was used.
fn decompressed(space: &Space) -> BTreeMap<PathBuf, SystemTime> {
    let shards = std::fs::read_dir(space.store().join("v1/decompressed")).unwrap();
    let files = shards.flat_map(|shard| std::fs::read_dir(shard.unwrap().path()).unwrap().map(|file| file.unwrap()));
    files.map(|file| (file.path(), file.metadata().unwrap().modified().unwrap())).collect()
}

#[test]
fn packages_are_decompressed_once_and_a_damaged_one_again() {
    let space = fresh();
    build(&space).good();
    let first = decompressed(&space);
    assert!(first.len() > 5, "{first:?}");
    // One is damaged, one cut off, one empty; nothing else is left of the build.
    let whole: Vec<(&PathBuf, Vec<u8>)> =
        first.keys().take(3).map(|path| (path, std::fs::read(path).unwrap())).collect();
    let mut damaged = whole[0].1.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 1;
    std::fs::write(whole[0].0, damaged).unwrap();
    std::fs::write(whole[1].0, &whole[1].1[..whole[1].1.len() - 100]).unwrap();
    std::fs::write(whole[2].0, b"").unwrap();
    for directory in ["actions", "trees", "manifests", "frames", "blobs"] {
        std::fs::remove_dir_all(space.store().join("v1").join(directory)).unwrap();
    }
    let ran = build(&space).good();
    assert!(ran.err.contains("rootfs/base"), "{}", ran.err);
    assert_same(&tiny().space, &space, "tiny");
    let second = decompressed(&space);
    assert!(second.keys().eq(first.keys()));
    assert!(second.iter().all(|(path, used)| first[path] < *used), "{first:?} {second:?}");
    assert!(whole.iter().all(|(path, bytes)| std::fs::read(path).unwrap() == *bytes));
    // gc spares them for a day, unless the store has to become small.
    space.run(&["store", "verify"]).good();
    space.run(&["gc"]).good();
    assert_eq!(decompressed(&space).len(), first.len());
    let ran = space.run(&["gc", "--max-size", "1"]).good();
    assert!(
        ran.out.contains("decompressed package") || ran.err.contains("decompressed package"),
        "{}{}",
        ran.out,
        ran.err
    );
    assert_eq!(decompressed(&space).len(), 0);
}

#[test]
fn a_killed_vendor_goes_on_and_leaves_what_one_run_leaves() {
    let space = fresh().with_store(&super::store());
    let to = space.path().join("v");
    crate::ended::each_time(&space, &["vendor", to.to_str().unwrap()], "v", &["vendor.marked"], 6);
}

#[test]
fn vendoring_leaves_strange_directories_alone() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("thesis.tex"), "years of work").unwrap();
    let ran = tiny().space.run(&["vendor", directory.path().to_str().unwrap()]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("was not made by"), "{}", ran.err);
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}
