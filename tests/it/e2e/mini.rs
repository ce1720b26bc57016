//! The smallest example: size, the whole way through `imgbuild boot`, gc, and a shell that changes nothing.

use super::{mini, store};
use crate::support::Space;

#[test]
fn mini_is_small() {
    let size = std::fs::metadata(mini().space.artefact("mini", "rootimg.cpio.zst")).unwrap().len();
    assert!(size < 60_000_000, "{size}");
}

#[test]
fn boot_until_a_text_shows_the_console() {
    let ran = mini().space.run(&["boot", "--until", "node-525400123456 login:", "--timeout", "240"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("imgbuild: the image is whole"), "{}", ran.out);
    assert!(!ran.out.contains("Initramfs unpacking failed"));
    let never = mini().space.run(&["boot", "--until", "this never comes", "--timeout", "5"]);
    assert_eq!(never.code, 4);
}

#[test]
fn a_shell_changes_nothing() {
    let space = &mini().space;
    assert_eq!(space.run(&["shell", "--", "/bin/sh", "-c", "rm -rf /etc; touch /evil; exit 7"]).code, 7);
    assert_eq!(space.run(&["shell", "--", "/bin/sh", "-c", "test -e /etc/passwd && test ! -e /evil"]).code, 0);
    assert_eq!(space.to_do(), Vec::<String>::new());
}

#[test]
fn the_sandbox_shows_nothing_of_the_host() {
    let canary = tempfile::NamedTempFile::new().unwrap();
    let script = format!(
        "test ! -e {} && test $(hostname) = imgbuild && test -z \"$(ls /sys)\" && ! echo x >/proc/sys/kernel/hostname && ! mknod /tmp/n b 8 0 && test $(ls /sys /home | wc -l) -lt 5",
        canary.path().display()
    );
    let ran = mini().space.run(&["shell", "--", "/bin/sh", "-c", &script]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(canary.path().exists());
}

#[test]
fn explain_shows_the_inputs_of_an_action() {
    let ran = mini().space.run(&["explain", "pack"]).good();
    assert!(
        ran.out.contains("pack/rootimg keep") && ran.out.contains("exclude ./usr/share/doc/* = yes"),
        "{}",
        ran.out
    );
}

#[test]
fn gc_keeps_what_the_last_build_uses() {
    // A store of its own: gc takes what other tests use.
    let built = mini();
    let own = tempfile::tempdir().unwrap();
    // While nobody writes into the store.
    let held = imgbuild::store::FileLock::take(&store().join("v1/locks/use")).unwrap();
    let status = std::process::Command::new("cp")
        .args(["-a", "--reflink=auto"])
        .arg(store())
        .arg(own.path().join("store"))
        .status()
        .unwrap();
    assert!(status.success());
    drop(held);
    let space = Space::example("mini").with_store(&own.path().join("store"));
    for name in ["image.lock", "keys/admin.pub"] {
        std::fs::copy(built.space.path().join(name), space.path().join(name)).unwrap();
    }
    space.run(&["build"]).good();
    // Builds of directories that are gone are roots too, until they are forgotten: here only ours counts.
    for entry in std::fs::read_dir(own.path().join("store/v1/roots")).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if !text.contains(space.path().canonicalize().unwrap().to_str().unwrap()) {
            std::fs::remove_file(path).unwrap();
        }
    }
    let ran = space.run(&["gc"]).good();
    assert!(ran.err.contains("removed"), "{}", ran.err);
    assert_eq!(space.to_do(), Vec::<String>::new());
    let second = space.run(&["gc", "--dry-run"]).good();
    assert!(second.err.starts_with("0 entries"), "{}{}", second.out, second.err);
}
