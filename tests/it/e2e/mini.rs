//! The smallest example: size, the whole way through `imgbuild boot`, gc, and a shell that changes nothing.

use super::{mini, tiny};

#[test]
fn mini_is_small() {
    let size = std::fs::metadata(mini().space.artefact("mini", "rootimg.cpio.zst")).unwrap().len();
    assert!(size < 60_000_000, "{size}");
}

#[test]
fn boot_until_a_text_shows_the_console() {
    // The smallest root: mini's own login is waited for by the tests of leases and of capture.
    let ran = tiny().space.run(&["boot", "--until", "NODE IS UP: node-525400123456", "--timeout", "240"]);
    assert_eq!(ran.code, 0, "{}\n{}", ran.out, ran.err);
    assert!(ran.out.contains("imgbuild: the image is complete"), "{}", ran.out);
    assert!(!ran.out.contains("Initramfs unpacking failed"));
    let never = tiny().space.run(&["boot", "--until", "this never comes", "--timeout", "5"]);
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
        "test ! -e {} && test $(hostname) = imgbuild && test \"$(ls /sys)\" = devices && ! echo x >/proc/sys/kernel/hostname && ! mknod /tmp/n b 8 0 && test $(ls /sys /home | wc -l) -lt 5",
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
    let space = super::offline::warm();
    super::offline::build(&space).good();
    space.edit("tiny.postinstall", "set -e\n", "set -e\necho more >\"$1/etc/more\"\n");
    super::offline::build(&space).good();
    let ran = space.run(&["gc", "--keep", "1"]).good();
    assert!(ran.err.starts_with("1 build removed with "), "{}", ran.err);
    assert_eq!(space.to_do(), Vec::<String>::new());
    assert_eq!(space.run(&["plan", "--thorough", "--detailed-exitcode"]).code, 0);
    let second = space.run(&["gc", "--dry-run"]).good();
    assert!(second.err.starts_with("0 builds would be removed with 0 B; 1 kept"), "{}{}", second.out, second.err);
    assert!(second.out.starts_with("keep    tiny  2"), "{}", second.out);
}
