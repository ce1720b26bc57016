//! Images for another CPU: built here, with nothing registered on the host, and booted in QEMU.

use super::store;
use crate::support::Space;

/// The recipe of examples/arm: the smallest image that boots.
fn space() -> Space {
    Space::example("arm").with_store(&store())
}

#[test]
fn boot_an_image_for_arm_is_built_and_boots() {
    let before = std::fs::read_dir("/proc/sys/fs/binfmt_misc").map_or(0, Iterator::count);
    let space = space();
    space.run(&["build"]).good();
    let kept = space.run(&["plan"]).good().out;
    assert!(!kept.contains(" run "), "{kept}");
    assert_eq!(std::fs::read_dir("/proc/sys/fs/binfmt_misc").map_or(0, Iterator::count), before);
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    // The image is for arm64; tools run as they are, and the emulator is one of them.
    assert!(lock.contains("name = \"libc6\"") && lock.contains("arch = \"arm64\""), "{lock}");
    assert!(lock.contains("name = \"qemu-user-static\", version = "), "{lock}");
    let ran = space.run(&["shell", "--", "/bin/sh", "-c", "uname -m; dpkg --print-architecture"]).good();
    assert_eq!(ran.out, "aarch64\narm64\n");
    let ran = space.run(&["boot", "--until", " login:", "--timeout", "600"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(!ran.out.contains("Initramfs unpacking failed"), "{}", ran.out);
}

#[test]
fn what_an_image_for_another_cpu_cannot_have_is_said() {
    let space = space();
    space.edit("image.toml", "arch = \"aarch64\"", "arch = \"arm65\"");
    let ran = space.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("aarch64") && ran.err.contains("image.toml:"), "{}", ran.err);
    space.edit("image.toml", "arch = \"arm65\"", "arch = \"ppc64le\"");
    let ran = space.run(&["build"]);
    assert!(ran.code == 3 && ran.err.contains("imgbuild-init/cross ppc64le"), "{} {}", ran.code, ran.err);
}
