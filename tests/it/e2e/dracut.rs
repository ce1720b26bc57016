//! Initrds that the release's own dracut composes, and the nodes that boot them.

use std::process::{Command, Stdio};
use std::sync::{Arc, OnceLock};

use super::cache::{boots, disk};
use super::machine::{Server, cmdline, expect, start};
use super::offline::assert_same;
use super::{Built, build, shared, store, tiny};
use crate::support::{Space, copy_locked, copy_tree, project};

/// Appended to the recipe of the tiny image: dracut, and a file of the site.
const INITRD: &str = "\n[initrd]\ngenerator = \"dracut\"\ndracut_conf = [\"site.conf\"]\n";

/// The tiny image with dracut's initrd; its init also says whether the program that keeps the lease is alive.
fn tiny_of(release: &str) -> Space {
    let space = Space::new().with_store(&store());
    write_tiny(&space, release);
    space
}

fn write_tiny(space: &Space, release: &str) {
    copy_tree(&project().join("tests/fixtures/tiny"), space.path());
    std::fs::create_dir_all(space.path().join("keys")).unwrap();
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("{}{INITRD}", recipe.replace("bookworm", release)));
    space.write("site.conf", "install_items+=\" /etc/debian_version \"\n");
    space.edit(
        "tiny.postinstall",
        "while :;",
        "for p in /proc/[0-9]*; do\n    grep -q imgbuild-init $p/cmdline 2>/dev/null && echo \"THE LEASE IS KEPT\"\ndone\nwhile :;",
    );
}

/// With the host's release; built once.
fn dracut() -> &'static Built {
    static DRACUT: OnceLock<Built> = OnceLock::new();
    DRACUT.get_or_init(|| {
        shared::built("dracut", |space| {
            write_tiny(space, "bookworm");
            // The same packages as the tiny image of the other tests, and dracut's besides.
            std::fs::copy(tiny().space.path().join("image.lock"), space.path().join("image.lock")).unwrap();
            build(space);
        })
    })
}

/// A copy of its recipe and lock.
fn fresh() -> Space {
    let space = Space::new();
    copy_locked(dracut().space.path(), space.path());
    space
}

/// A copy of it, built: everything is in the store.
fn copy() -> Space {
    let space = fresh().with_store(&store());
    space.run(&["build", "--locked"]).good();
    space
}

fn names(space: &Space) -> Vec<String> {
    let initrd = std::fs::File::open(space.artefact("tiny", "initrd-stateless")).unwrap();
    let mut plain = Command::new("zstd").arg("-dc").stdin(initrd).stdout(Stdio::piped()).spawn().unwrap();
    let listed = Command::new("cpio").args(["-t", "--quiet"]).stdin(plain.stdout.take().unwrap()).output().unwrap();
    assert!(plain.wait().unwrap().success() && listed.status.success());
    String::from_utf8(listed.stdout).unwrap().lines().map(str::to_owned).collect()
}

/// What each of these initrds must hold, whatever the release's dracut.
#[track_caller]
fn check_contents(space: &Space) {
    let names = names(space);
    let count = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
    for end in [
        "/hooks/cmdline/95-parse-imgbuild.sh",
        "/hooks/mount/10-mount-imgbuild.sh",
        "usr/bin/imgbuild-init",
        "bin/reboot",
        "etc/cmdline.d/90-imgbuild.conf",
        "etc/debian_version",
        "/virtio_net.ko",
        "/modules.dep",
    ] {
        assert_eq!(count(end), 1, "{end}: {names:?}");
    }
    assert!(names.contains(&"init".to_owned()) && names.contains(&"dev/console".to_owned()), "{names:?}");
    // The reduced tree, and nothing else of the kernel: no driver of disks or sound.
    assert!(names.iter().filter(|name| name.contains(".ko")).count() < 80, "{names:?}");
}

#[test]
fn the_initrd_has_what_the_site_adds_and_only_the_drivers_of_imgbuilds_own() {
    check_contents(&dracut().space);
    assert_eq!(dracut().space.to_do(), Vec::<String>::new());
}

#[test]
fn boot_dracuts_initrd_brings_the_image_up_from_xcats_command_line_and_the_lease_is_kept() {
    let directory = dracut().space.artefact("tiny", ".").canonicalize().unwrap();
    let server = Server::start(&directory, 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let words = format!(
        "imgurl=http://10.0.2.2:{}//rootimg.cpio.zst XCAT=10.0.2.2:3001 NODE=node7 FC=0 nonodestatus XCATHTTPPORT=80 BOOTIF=01-52-54-00-12-34-56 console=ttyS0 selinux=0",
        server.port
    );
    let running = start(dracut(), "tiny", words, |_| {});
    expect(&running, "NODE IS UP: node7");
    expect(&running, "ROOT IS TMPFS");
    expect(&running, "THE LEASE IS KEPT");
    let console = running.console();
    for text in ["dracut: ", "imgbuild: the image is complete", "Switching root"] {
        assert!(console.contains(text), "{text}\n{console}");
    }
}

#[test]
fn boot_dracuts_initrd_mounts_what_stays_packed_from_memory_or_from_a_disk() {
    let space = fresh().with_store(&store());
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let more = "[pack]\narchive = \"squashfs\"\n\n[[pack.also]]\narchive = \"erofs\"\n\n\
                [boot.cache]\ndevice = \"LABEL=nodecache\"\nimage = \"cache\"\nwrites = \"cache\"\n";
    space.write("image.toml", &format!("{recipe}\n{more}"));
    space.edit(
        "tiny.postinstall",
        "while :;",
        "grep -q ' / overlay ' /proc/mounts && echo \"ROOT IS OVERLAY\"\n\
         echo new >/srv/written && echo \"WRITES ARE TAKEN\"\n\
         cat /usr/bin/* /usr/lib/*/*.so* >/dev/null && echo \"READS ARE WHOLE\"\nsync; echo \"ALL IS WRITTEN\"\nwhile :;",
    );
    space.run(&["build", "--locked"]).good();
    let built = Built { space, key: dracut().key.clone() };
    let all = ["ROOT IS OVERLAY", "WRITES ARE TAKEN", "READS ARE WHOLE", "THE LEASE IS KEPT", "dracut: "];
    let has = |console: &str, text: &str| assert!(console.contains(text), "{text}\n{console}");
    // The disk is not there: the image is in memory.
    let console = boots(&built, "rootimg.sfs", None, 768);
    all.iter().for_each(|text| has(&console, text));
    has(&console, "the image is mounted as it is");
    let place = disk(&built.space, "disk", 256);
    let console = boots(&built, "rootimg.erofs", Some(&place), 512);
    all.iter().for_each(|text| has(&console, text));
    has(&console, "from the disk of imgcache=; what is written goes to that disk");
}

#[test]
fn boot_a_wrong_digest_is_said_and_the_node_starts_again_without_a_shell() {
    let directory = dracut().space.artefact("tiny", ".").canonicalize().unwrap();
    let server = Server::start(&directory, 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let words = cmdline(dracut(), "tiny", &format!("http://10.0.2.2:{}", server.port));
    let at = words.find("sha256:").unwrap() + 7;
    let wrong = format!("{}{}{} imgbuild.reboot_after=4", &words[..at], "0".repeat(64), &words[at + 64..]);
    let running = start(dracut(), "tiny", wrong, |_| {});
    expect(&running, "wrong digest:");
    expect(&running, "no image after 4 seconds without progress: rebooting");
    let console = running.console();
    assert!(!console.contains("NODE IS UP") && !console.contains("emergency"), "{console}");
}

#[test]
fn boot_systemd_in_the_initrd_leaves_the_lease_to_its_keeper() {
    let space = copy();
    space.edit("image.toml", "dracut_conf", "dracut_packages = [\"systemd\"]\ndracut_conf");
    let built = Built { key: dracut().key.clone(), space };
    built.space.run(&["build"]).good();
    let names = names(&built.space);
    assert!(names.iter().any(|name| name.ends_with("/dracut-mount.service")), "{names:?}");
    let directory = built.space.artefact("tiny", ".").canonicalize().unwrap();
    let server = Server::start(&directory, 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let words = cmdline(&built, "tiny", &format!("http://10.0.2.2:{}", server.port));
    let running = start(&built, "tiny", words, |_| {});
    expect(&running, "NODE IS UP: node-525400123456");
    expect(&running, "THE LEASE IS KEPT");
    let console = running.console();
    assert!(console.contains("dracut mount hook") && console.contains("Switch Root"), "{console}");
}

#[test]
fn another_store_and_copied_trees_give_dracuts_initrd_the_same_bytes() {
    let vendored = store().with_file_name("vendored-dracut");
    let vendored = vendored.to_str().unwrap();
    dracut().space.run(&["vendor", vendored]).good();
    let space = fresh();
    let ran = space.run(&["--assemble", "copy", "build", "--locked", "--vendor", vendored]).good();
    assert!(ran.err.contains("initrd/stateless"), "{}", ran.err);
    assert_same(&dracut().space, &space, "tiny");
}

#[test]
fn an_edit_of_dracuts_configuration_or_modules_runs_the_initrd_alone() {
    let space = copy();
    assert_eq!(space.to_do(), Vec::<String>::new());
    // What a store that outlives the tests has not seen.
    let nonce = std::process::id();
    space.write("site.conf", &format!("# {nonce}\ninstall_items+=\" /etc/issue /no/such \"\n"));
    insta::assert_snapshot!(crate::support::without_estimate(&space.run(&["plan"]).good().out), @r"
    tiny
      rootfs   keep
      kernel   keep
      initrd   run
        stateless      run
          site.conf content changed
      pack     keep
    ");
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("ran initrd/stateless;"), "{}", ran.err);
    assert!(ran.err.contains("has no `/no/such`") && ran.err.contains("image.toml:25:"), "{}", ran.err);
    assert!(names(&space).contains(&"etc/issue".to_owned()));
    space.edit("image.toml", "dracut_conf", "dracut_modules = [\"-resume\", \"+bash\"]\ndracut_conf");
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("ran initrd/stateless;"), "{}", ran.err);
    assert!(!names(&space).iter().any(|name| name.ends_with("parse-resume.sh")));
}

#[test]
fn drivers_and_modules_that_are_missing_fail_with_what_is_missing() {
    let space = copy();
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.edit("image.toml", "-cloud-amd64\"", "-cloud-amd64\"\ndrivers = [\"+virtio_nett\"]");
    let ran = space.run(&["build"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("has no driver `virtio_nett`") && ran.err.contains("virtio_net"), "{}", ran.err);
    space.write("image.toml", &recipe);
    space.edit("image.toml", "dracut_conf", "dracut_modules = [\"no-such\"]\ndracut_conf");
    let ran = space.run(&["build"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("dracut exited with status 1") && ran.err.contains("no-such"), "{}", ran.err);
    assert!(ran.err.contains("cannot be found"), "{}", ran.err);
    // What was published before stays.
    assert!(dracut().space.artefact("tiny", "initrd-stateless").exists());
}

/// Builds for another release, and compares what comes out with what must be in each.
fn builds(space: Space, version: &str) {
    let built = super::built(space);
    check_contents(&built.space);
    let lock = std::fs::read_to_string(built.space.path().join("image.lock")).unwrap();
    assert!(lock.contains(&format!("name = \"dracut-core\", version = \"{version}")), "{version}");
}

#[test]
fn network_the_dracut_of_debian_13_composes_it_too() {
    builds(tiny_of("trixie"), "106-");
}

#[test]
fn network_the_dracut_of_debian_11_composes_it_too() {
    let space = tiny_of("bullseye").with_store(&store());
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    // Mirrors drop it piece by piece, security updates first.
    space.write("image.toml", &format!("{recipe}\n[[repo]]\nsource = \"host\"\nsuites = [\"bullseye\"]\n"));
    std::fs::write(
        space.path().join("keys/admin.pub"),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty test\n",
    )
    .unwrap();
    let ran = space.run(&["build", "--until", "kernel"]);
    if super::is_dropped("Debian 11", &ran) {
        return;
    }
    ran.good();
    builds(space, "051-");
}
