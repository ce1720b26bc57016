//! A directory of package files with sub-directories, and what `imgbuild init` writes.

use std::path::Path;
use std::process::Command;

use super::kills::forget_with;
use super::{store, tiny};
use crate::support::{Space, copy_locked};

fn package(directory: &Path, name: &str, version: &str, depends: &str) {
    let root = tempfile::tempdir().unwrap();
    let debian = root.path().join("DEBIAN");
    std::fs::create_dir_all(&debian).unwrap();
    let depends = if depends.is_empty() { String::new() } else { format!("Depends: {depends}\n") };
    let control = format!(
        "Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: nobody <n@example.invalid>\n{depends}Description: x\n"
    );
    std::fs::write(debian.join("control"), control).unwrap();
    let file = root.path().join("opt").join(name);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, format!("{version}\n")).unwrap();
    std::fs::create_dir_all(directory).unwrap();
    let made = Command::new("dpkg-deb")
        .args(["--root-owner-group", "--build"])
        .arg(root.path())
        .arg(directory.join(format!("{name}_{version}.deb")))
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
}

#[test]
fn network_other_packages_come_from_the_folder_that_the_list_names() {
    let space = Space::new().with_store(&store());
    copy_locked(tiny().space.path(), space.path());
    let dir = space.path().join("otherpkgs");
    package(&dir.join("core"), "site-tool", "1.0", "site-lib");
    package(&dir.join("dep/x86"), "site-lib", "2.0", "");
    package(&dir.join("dep/x86"), "site-tool", "9.0", "");
    space.write("o.pkglist", "core/site-tool\n");
    space.edit("image.toml", "[kernel]", "[otherpkgs]\ndir = \"otherpkgs\"\nlists = [\"o.pkglist\"]\n\n[kernel]");
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("o.pkglist:1 added \"core/site-tool\""), "{plan}");
    space.run(&["build"]).good();
    let show = |space: &Space| {
        space.run(&["shell", "--", "/bin/sh", "-c", "cat /opt/site-tool /opt/site-lib; dpkg --audit"]).good().out
    };
    assert_eq!(show(&space), "1.0\n2.0\n");
    // The base is the lock's own: nothing else moved.
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("ran nothing"), "{}", ran.err);
    // One repository is updated: otherpkgs and what lies below run, nothing above.
    std::fs::remove_file(dir.join("core/site-tool_1.0.deb")).unwrap();
    package(&dir.join("core"), "site-tool", "1.1", "site-lib");
    assert_eq!(space.to_do()[0], "rootfs/lock run");
    forget_with(&space, "rootfs/otherpkgs-1", &["package site-tool:all", "1.1 "]);
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("ran rootfs/otherpkgs-1, rootfs/kernel, rootfs/system"), "{}", ran.err);
    assert!(
        !ran.err.contains("rootfs/base:")
            && !ran.err.contains("kernel/payload:")
            && !ran.err.contains("initrd/stateless:"),
        "{}",
        ran.err
    );
    assert_eq!(show(&space), "1.1\n2.0\n");
    // A name that the folder lacks has its line.
    space.write("o.pkglist", "# x\ncore/site-lib\n");
    let failed = space.run(&["build"]);
    assert_eq!(failed.code, 1);
    assert!(failed.err.contains("o.pkglist:2:1") && failed.err.contains("core/site-lib"), "{}", failed.err);
}

#[test]
fn network_what_init_writes_builds_as_it_is() {
    let space = Space::new().with_store(&store());
    space.run(&["init", "fresh"]).good();
    space.run(&["build"]).good();
    assert!(space.artefact("fresh", "rootimg.cpio.zst").exists());
    assert_eq!(space.to_do(), Vec::<String>::new());
}
