//! Files that somebody edits while an image is built: a key says what a file held when it was made, and nothing else ever stands
//! under it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::kills::forget;
use super::offline::{SAME, vendored, warm};
use crate::support::{Ran, Space};

/// The tiny image with a file of each kind that an action reads of the host: the action, and the file.
const FILES: [(&str, &str); 8] = [
    ("rootfs/sync", "site/motd"),
    ("rootfs/postinstall", "tiny.postinstall"),
    ("rootfs/postinstall", "site/input"),
    ("rootfs/system", "keys/admin.pub"),
    ("rootfs/system", "site/hash"),
    ("rootfs/xcat", "post/xcatdsklspost"),
    ("kernel/payload", "site/firmware.deb"),
    ("initrd/stateless", "site/ca.pem"),
];

fn firmware(to: &Path, text: &str) {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(tree.path().join("DEBIAN")).unwrap();
    std::fs::create_dir_all(tree.path().join("lib/firmware")).unwrap();
    std::fs::write(tree.path().join("lib/firmware/site.bin"), text).unwrap();
    let control = "Package: site-firmware\nVersion: 1\nArchitecture: all\nMaintainer: site <root@localhost>\nDescription: thing\n";
    std::fs::write(tree.path().join("DEBIAN/control"), control).unwrap();
    let mut build = Command::new("dpkg-deb");
    build.args(["--root-owner-group", "--build"]).arg(tree.path()).arg(to).env("SOURCE_DATE_EPOCH", "0");
    assert!(build.output().unwrap().status.success());
}

fn image() -> Space {
    let space = warm();
    space.write("site/motd", "a node\n").write("site/input", "input\n").write("site/hash", "$6$x$y\n");
    space.write("site/ca.pem", "# none\n").write("a.synclist", "site/motd -> /etc/motd\n");
    for name in ["xcatdsklspost", "xcatpostinit1.netboot", "xcatpostinit1.service"] {
        space.write(&format!("post/{name}"), "#!/bin/sh\n");
        std::fs::set_permissions(space.path().join("post").join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    firmware(&space.path().join("site/firmware.deb"), "firmware\n");
    space.edit(
        "image.toml",
        "script = \"tiny.postinstall\"",
        "script = \"tiny.postinstall\"\ninputs = [\"site/input\"]",
    );
    space.edit("image.toml", "[kernel]", "[kernel]\nupdates = [\"site/firmware.deb\"]");
    space.edit("image.toml", "[system]", "[system]\nroot_password_hash_file = \"site/hash\"");
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let more = "[sync]\nlists = [\"a.synclist\"]\n\n[initrd]\nca = [\"site/ca.pem\"]\n\n\
                [xcat]\nnode_support = true\npostscripts = \"post\"\nosimage = \"x\"\n";
    space.write("image.toml", &format!("{recipe}\n{more}"));
    let script = std::fs::read_to_string(space.path().join("tiny.postinstall")).unwrap();
    space.write("tiny.postinstall", &format!("{script}\ncp site/input \"$1/etc/site-input\"\n"));
    space
}

fn build(space: &Space) -> Ran {
    space.run(&["build", "--vendor", vendored().to_str().unwrap()])
}

/// Builds, and does something when the first action has started.
fn build_meanwhile(space: &Space, deed: impl FnOnce()) -> Ran {
    let sign = tempfile::tempdir().unwrap();
    let reached = sign.path().join("reached");
    let child = Command::new(env!("CARGO_BIN_EXE_imgbuild"))
        .arg("-C")
        .arg(space.path())
        .arg("--store")
        .arg(space.store())
        .args(["-j1", "build", "--locked", "--vendor", vendored().to_str().unwrap()])
        .env("IMGBUILD_FAULT", "action.started")
        .env("IMGBUILD_FAULT_FILE", &reached)
        .env("NO_COLOR", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !reached.exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "no action started");
        std::thread::sleep(Duration::from_millis(2));
    }
    deed();
    std::fs::remove_file(&reached).unwrap();
    child.wait_with_output().unwrap().into()
}

fn artefacts(space: &Space) -> Vec<Vec<u8>> {
    SAME.iter().map(|name| std::fs::read(space.artefact("tiny", name)).unwrap()).collect()
}

#[test]
fn a_file_that_changes_during_a_build_is_named_and_its_new_bytes_stand_under_no_old_key() {
    let space = image();
    build(&space).good();
    let expected = artefacts(&space);
    for (action, file) in FILES {
        forget(&space, action);
        let path: PathBuf = space.path().join(file);
        let old = std::fs::read(&path).unwrap();
        let mode = std::fs::metadata(&path).unwrap().permissions();
        let ran = build_meanwhile(&space, || match file.ends_with(".deb") {
            true => firmware(&path, "other firmware\n"),
            false => std::fs::write(&path, [&old[..], b"# more\n"].concat()).unwrap(),
        });
        if blob_of(&space, &old).is_some() {
            // The store has what the key says: that is used, and what the file is now belongs to the next build.
            assert_eq!(ran.code, 0, "{file}: {}", ran.err);
            assert!(artefacts(&space) == expected, "{file}");
            assert!(space.to_do().iter().any(|one| one.starts_with(action)), "{file}: {:?}", space.to_do());
            std::fs::write(&path, &old).unwrap();
            std::fs::set_permissions(&path, mode).unwrap();
            continue;
        }
        assert_eq!(ran.code, 1, "{file}: {}", ran.err);
        let said = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(&format!("`{file}` changed while the image was built")), "{file}: {said}");
        // The old content again: what was kept is of it.
        std::fs::write(&path, &old).unwrap();
        std::fs::set_permissions(&path, mode).unwrap();
        build(&space).good();
        assert!(artefacts(&space) == expected, "{file}");
    }
    // Where the store has it not, what it became is noticed. The mode is part of the key, too.
    for (action, file) in [("rootfs/sync", "site/motd"), ("rootfs/postinstall", "tiny.postinstall")] {
        forget(&space, action);
        let path = space.path().join(file);
        let mode = std::fs::metadata(&path).unwrap().permissions();
        let blob = blob_of(&space, &std::fs::read(&path).unwrap()).expect("it was taken");
        std::fs::remove_file(blob).unwrap();
        let ran = build_meanwhile(&space, || {
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode.mode() ^ 0o100)).unwrap();
        });
        assert!(ran.code == 1 && ran.err.contains(&format!("`{file}` changed")), "{}", ran.err);
        std::fs::set_permissions(&path, mode).unwrap();
    }
}

/// Content is compared with its name before a script or a driver is made of it: nothing else looks at it.
#[test]
fn a_damaged_copy_of_a_script_or_driver_is_taken_once_more() {
    let space = image();
    build(&space).good();
    let expected = artefacts(&space);
    for (action, file) in FILES {
        let Some(blob) = blob_of(&space, &std::fs::read(space.path().join(file)).unwrap()) else { continue };
        let whole = std::fs::read(&blob).unwrap();
        let mut bytes = whole.clone();
        *bytes.last_mut().unwrap() ^= 1;
        std::fs::write(&blob, bytes).unwrap();
        forget(&space, action);
        build(&space).good();
        assert!(artefacts(&space) == expected, "{file}");
        assert!(std::fs::read(&blob).unwrap() == whole, "{file}");
    }
}

/// The store's copy of a content.
fn blob_of(space: &Space, content: &[u8]) -> Option<PathBuf> {
    let entries = walkdir::WalkDir::new(space.store().join("v1/blobs")).into_iter().flatten();
    let files = entries.filter(|entry| entry.file_type().is_file()).map(walkdir::DirEntry::into_path);
    files
        .filter(|path| path.metadata().unwrap().len() == content.len() as u64)
        .find(|path| std::fs::read(path).unwrap() == content)
}
