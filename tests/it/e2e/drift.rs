//! What somebody changes behind imgbuild's back is told apart from changes of the recipe, and mended.

use std::path::{Path, PathBuf};

use super::offline::{assert_same, build, warm};
use super::tiny;
use crate::support::Space;

fn built() -> Space {
    let space = warm();
    build(&space).good();
    space
}

/// The directory of a layer in the store.
fn layer(space: &Space, action: &str) -> PathBuf {
    let info: serde_json::Value =
        serde_json::from_slice(&std::fs::read(space.artefact("tiny", "build.json")).unwrap()).unwrap();
    let layers = info["layers"].as_array().unwrap();
    let digest = layers.iter().find(|layer| layer[0] == action).unwrap()[1].as_str().unwrap();
    space.store().join("v1/trees").join(digest)
}

fn any_file(directory: &Path) -> PathBuf {
    let found = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().flatten();
    found.filter(|entry| entry.file_type().is_file() && entry.path().extension().is_none()).last().unwrap().into_path()
}

#[test]
fn published_files_and_layers_that_somebody_changed_are_told_and_mended() {
    let space = built();
    assert_eq!(space.run(&["plan", "--thorough", "--detailed-exitcode"]).code, 0);
    // A touch is not a change: the file is read, and is the same.
    let initrd = space.artefact("tiny", "initrd-stateless");
    let file = std::fs::File::options().append(true).open(&initrd).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(space.run(&["plan", "--detailed-exitcode"]).code, 0);
    // Another content of the same size.
    let mut bytes = std::fs::read(&initrd).unwrap();
    bytes[1000] ^= 1;
    std::fs::write(&initrd, bytes).unwrap();
    std::fs::remove_file(space.artefact("tiny", "SHA256SUMS")).unwrap();
    let ran = space.run(&["plan", "--detailed-exitcode"]);
    assert_eq!(ran.code, 2);
    insta::assert_snapshot!(ran.out, @r"
    tiny
      rootfs   keep
      kernel   keep
      initrd   keep
      pack     keep
      modified outside imgbuild:
        published SHA256SUMS is missing or was modified
        published initrd-stateless was modified
        `imgbuild build` restores it
    ");
    build(&space).good();
    assert_same(&tiny().space, &space, "tiny");
    // A layer in the store: a file of the tools' base that nobody packs again.
    std::fs::write(layer(&space, "rootfs/base").join("etc/debian_version"), "bogus\n").unwrap();
    let ran = space.run(&["plan", "--thorough", "--detailed-exitcode"]);
    assert_eq!(ran.code, 2);
    assert!(ran.out.contains("store rootfs/base `etc/debian_version` has different content"), "{}", ran.out);
    assert!(ran.out.contains("`imgbuild build --thorough` restores it"), "{}", ran.out);
    let vendored = super::offline::vendored().to_str().unwrap();
    let ran = space.run(&["build", "--locked", "--thorough", "--vendor", vendored]).good();
    assert!(ran.err.contains("layer rootfs/base was modified") && ran.err.contains("ran rootfs/base;"), "{}", ran.err);
    assert_same(&tiny().space, &space, "tiny");
    assert_eq!(space.run(&["plan", "--thorough", "--detailed-exitcode"]).code, 0);
}

#[test]
fn what_is_gone_from_the_store_is_made_again() {
    let space = built();
    for (what, place) in [
        ("a layer", layer(&space, "rootfs/system")),
        ("a manifest", {
            let tree = layer(&space, "rootfs/postinstall");
            space.store().join("v1/manifests").join(tree.file_name().unwrap())
        }),
        ("a frame", any_file(&space.store().join("v1/frames"))),
        ("the initrd's file", any_file(&space.store().join("v1/blobs"))),
    ] {
        if place.is_dir() {
            std::fs::remove_dir_all(&place).unwrap()
        } else {
            std::fs::remove_file(&place).unwrap()
        };
        let ran = space.run(&["plan", "--detailed-exitcode"]);
        // A file that no result needs, such as the program of the initrd, is not a drift.
        assert!(
            ran.code == 2 && ran.out.contains("missing from the store: ") || what == "the initrd's file",
            "{what}: {}",
            ran.out
        );
        build(&space).good();
        assert_same(&tiny().space, &space, "tiny");
        assert_eq!(space.run(&["plan", "--detailed-exitcode"]).code, 0, "{what}");
    }
    // A frame that was cut short, and a published image that has to be put together from it.
    let frame = any_file(&space.store().join("v1/frames"));
    let bytes = std::fs::read(&frame).unwrap();
    std::fs::write(&frame, &bytes[..bytes.len() / 2]).unwrap();
    std::fs::remove_file(space.artefact("tiny", "rootimg.cpio.zst")).unwrap();
    build(&space).good();
    assert_same(&tiny().space, &space, "tiny");
}
