//! Images for another CPU: built here, with nothing registered on the host, and booted in QEMU.

use super::callers::{looks_at_the_machine, machine_of};
use super::{has_init, store};
use crate::support::Space;
use crate::support::cluster::chmod;

/// The recipe of examples/arm: the smallest image that boots.
fn space() -> Space {
    Space::example("arm").with_store(&store())
}

#[test]
fn boot_an_image_for_arm_is_built_and_boots() {
    if !has_init("aarch64") {
        return;
    }
    let before = std::fs::read_dir("/proc/sys/fs/binfmt_misc").map_or(0, Iterator::count);
    let space = space();
    space.run(&["build"]).good();
    let kept = space.run(&["plan"]).good().out;
    assert!(!kept.contains(" run ") && !kept.contains("emulated"), "{kept}");
    assert_eq!(std::fs::read_dir("/proc/sys/fs/binfmt_misc").map_or(0, Iterator::count), before);
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    // The image is for arm64; tools run as they are, and the emulator is one of them.
    assert!(lock.contains("name = \"libc6\"") && lock.contains("arch = \"arm64\""), "{lock}");
    assert!(lock.contains("name = \"qemu-user-static\", version = "), "{lock}");
    let ran = space.run(&["shell", "--", "/bin/sh", "-c", "uname -m; dpkg --print-architecture"]).good();
    assert_eq!(ran.out, "aarch64\narm64\n");
    // What a script copies as it is on this host cannot run there: said, with its path.
    std::fs::create_dir_all(space.path().join("site")).unwrap();
    std::fs::copy("/bin/true", space.path().join("site/tool")).unwrap();
    // Another layer each time: what was said of one that is kept is not said again.
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    let script = "set -e\ntest \"$(chroot \"$1\" uname -m)\" = aarch64\ncp site/tool \"$1/usr/local/bin/tool\"";
    let looks = looks_at_the_machine();
    space.write("post", &format!("#!/bin/sh\n{script}\n{looks}echo {now} >\"$1/etc/now\"\n"));
    chmod(&space.path().join("post"), 0o755);
    let table = "[postinstall]\nscript = \"post\"\ninputs = [\"site/tool\"]\n\n[exclude]";
    space.edit("image.toml", "[exclude]", table);
    let plan = space.run(&["plan"]).good().out;
    assert!(
        plan.contains("emulated, as this host is x86_64: postinstall") && plan.contains("programs of aarch64"),
        "{plan}"
    );
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("gate::other_cpu") && ran.err.contains("/usr/local/bin/tool"), "{}", ran.err);
    // The host's own programs in the tools root see the image's CPU, and so do emulated ones.
    assert_eq!(machine_of(&space), include_str!("seen/aarch64.txt"));
    // An emulator that the kernel does not take: the remedy, and nothing published anew.
    space.write("post", &format!("#!/bin/sh\n# {now}\nexit 0\n"));
    let ran = crate::support::imgbuild()
        .arg("-C")
        .arg(space.path())
        .arg("--store")
        .arg(space.store())
        .args(["build"])
        .env("IMGBUILD_FAULT", "emulator.refused")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.code() == Some(3) && said.contains("sandbox::no_emulator") && said.contains("6.7"), "{said}");
    let ran = space.run(&["boot", "--until", " login:", "--timeout", "2400"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(!ran.out.contains("Initramfs unpacking failed"), "{}", ran.out);
}

#[test]
fn what_an_image_for_another_cpu_cannot_have_is_said() {
    if !has_init("aarch64") {
        return;
    }
    let space = space();
    space.edit("image.toml", "arch = \"aarch64\"", "arch = \"arm65\"");
    let ran = space.run(&["check"]);
    assert!(ran.code == 1 && ran.err.contains("aarch64") && ran.err.contains("image.toml:"), "{}", ran.err);
    space.edit("image.toml", "arch = \"arm65\"", "arch = \"ppc64le\"");
    // A package that only other CPUs have, where it is requested.
    space.edit("image.toml", "arch = \"ppc64le\"", "arch = \"aarch64\"");
    space.edit("image.toml", "\"openssh-server\"]", "\"openssh-server\", \"memtest86+\"]");
    let ran = space.run(&["update"]);
    let told = "`memtest86+` exists for amd64, but not for arm64";
    assert!(ran.code == 1 && ran.err.contains(told) && ran.err.contains("image.toml:"), "{} {}", ran.code, ran.err);
    space.edit("image.toml", ", \"memtest86+\"", "");
    // An emulator that needs a loader, which the image's root has not: said with the variable that names it.
    let ran = crate::support::imgbuild()
        .arg("-C")
        .arg(space.path())
        .arg("--store")
        .arg(space.path().join("empty"))
        .args(["build"])
        .env("IMGBUILD_EMULATOR_PROGRAM", "/bin/sh")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert!(ran.status.code() == Some(3) && said.contains("stage::no_emulator"), "{said}");
    assert!(said.contains("IMGBUILD_EMULATOR_PROGRAM names `/bin/sh`, which is no static program"), "{said}");
    space.edit("image.toml", "arch = \"aarch64\"", "arch = \"ppc64le\"");
    // An imgbuild that has its program would build it.
    if std::env::var_os("IMGBUILD_INIT_PPC64LE").is_some() {
        return;
    }
    let ran = space.run(&["build"]);
    assert!(ran.code == 3 && ran.err.contains("imgbuild-init/cross ppc64le"), "{} {}", ran.code, ran.err);
}
