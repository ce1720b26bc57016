//! Choices of a recipe that the examples do not make.

use boot::FileServer;

use super::locked_copy as copy;
use super::machine::{expect, start};
use super::namespaced::Lan;
use super::private_archive::{Archive, Deb, Mirror, copy_from, fails_keeping_artefacts};
use super::{Built, tiny};

#[test]
fn privileged_gzip_throughout_with_an_address_that_is_given() {
    let space = copy();
    space.edit(
        "image.toml",
        "[boot]",
        "[pack]\ncompress = \"gzip\"\nlevel = 1\n\n[initrd]\ncompress = \"gzip\"\n\n[boot]",
    );
    space.run(&["build", "--locked"]).good();
    let bytes = |name: &str| std::fs::read(space.artefact("tiny", name)).unwrap();
    assert!(
        bytes("initrd-stateless").starts_with(&[0x1f, 0x8b]) && bytes("rootimg.cpio.gz").starts_with(&[0x1f, 0x8b])
    );
    // An independent reader takes the many members as one file.
    let listed = std::process::Command::new("sh")
        .arg("-c")
        .arg("gzip -dc \"$0\" | cpio -it --quiet | grep -c .")
        .arg(space.artefact("tiny", "rootimg.cpio.gz"))
        .output()
        .unwrap();
    assert!(String::from_utf8_lossy(&listed.stdout).trim().parse::<usize>().unwrap() > 1000);
    let built = Built { space, key: tiny().key.clone() };
    let directory = built.space.artefact("tiny", ".").canonicalize().unwrap();
    let lan = Lan::new();
    let server = lan.enter(|| FileServer::start_on([0, 0, 0, 0].into(), &directory).unwrap());
    let words = super::machine::cmdline(&built, "tiny", &format!("http://10.0.2.2:{}", server.port()));
    let words = format!("{words} ip=10.0.2.77::10.0.2.2:255.255.255.0:given:eth0:none:10.0.2.3");
    let mut node = lan.start(&directory.join("initrd-stateless"), &words, 1024);
    node.expect("has 10.0.2.77/24");
    node.expect("NODE IS UP: given");
    assert_eq!(lan.acknowledged(), 0);
}

#[test]
fn a_script_that_gives_the_same_layer_stops_there() {
    let space = copy();
    space.run(&["build", "--locked"]).good();
    space.edit("tiny.postinstall", "set -e\n", "# another comment\nset -e\n");
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("ran rootfs/postinstall;"), "{}", ran.err);
}

#[test]
fn modules_from_the_image_get_into_the_initrd() {
    let space = copy();
    space.edit("image.toml", "[boot]", "[initrd]\nmodules_from = \"rootfs\"\n\n[boot]");
    space.edit(
        "tiny.postinstall",
        "set -e\n",
        "set -e\nmkdir -p $1/etc/modprobe.d\necho 'blacklist floppy' >$1/etc/modprobe.d/site.conf\n",
    );
    space.run(&["build"]).good();
    let listed = std::process::Command::new("sh")
        .arg("-c")
        .arg("zstd -dc \"$0\" | cpio -it --quiet")
        .arg(space.artefact("tiny", "initrd-stateless"))
        .output()
        .unwrap();
    let names = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(names.contains("etc/modprobe.d/site.conf") && names.contains("virtio_net.ko"), "{names}");
}

#[test]
fn options_that_only_the_image_has_are_refused_and_a_file_that_sets_nothing_masks_them() {
    let mirror = Mirror::start();
    let mut archive = Archive::of_tiny();
    let file = ("usr/lib/modprobe.d/site.conf".to_owned(), b"options virtio_net napi_tx=0\n".to_vec());
    archive.add(&Deb { files: vec![file], ..Deb::new("site-options") });
    mirror.publish(&archive);
    let space = copy_from(&mirror, &["site-options"]);
    let said = fails_keeping_artefacts(
        &space,
        &[],
        4,
        &["the initrd loads drivers without the options", "`virtio_net` in /usr/lib/modprobe.d/site.conf"],
    );
    // What is proposed works: a file of that name that sets nothing ..
    assert!(said.contains("/etc/modprobe.d/site.conf"), "{said}");
    space.write("mask/site.conf", "# virtio_net as the kernel has it\n").write("other.conf", "# nothing\n");
    space.write("a.synclist", "other.conf -> /etc/modprobe.d/other.conf\n");
    space.edit("image.toml", "[exclude]", "[sync]\nlists = [\"a.synclist\"]\n\n[exclude]");
    fails_keeping_artefacts(&space, &[], 4, &["`virtio_net` in /usr/lib/modprobe.d/site.conf"]);
    space.write("a.synclist", "mask/site.conf -> /etc/modprobe.d/\n");
    space.run(&["build"]).good();
    // .. but not one that sets options: no synced file is in the initrd.
    for (place, text) in [
        ("/etc/modprobe.d/", "options virtio_net napi_tx=1\n"),
        ("/usr/lib/modprobe.d/", "options virtio_net napi_tx=1\n"),
        ("/etc/modprobe.d/", "blacklist floppy\n"),
    ] {
        space.write("mask/site.conf", text).write("a.synclist", &format!("mask/site.conf -> {place}\n"));
        let said = "the image's drivers differ from those in the initrd";
        fails_keeping_artefacts(&space, &[], 4, &[said, "modprobe.d/site.conf"]);
    }
    // .. or the initrd takes its drivers and their options from the image.
    space.write("a.synclist", "other.conf -> /etc/other.conf\n");
    space.edit("image.toml", "[boot]", "[initrd]\nmodules_from = \"rootfs\"\n\n[boot]");
    space.run(&["build"]).good();
    let listed = std::process::Command::new("sh")
        .args(["-c", "zstd -dc \"$0\" | cpio -i --quiet --to-stdout etc/modprobe.d/site.conf"])
        .arg(space.artefact("tiny", "initrd-stateless"))
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&listed.stdout), "options virtio_net napi_tx=0\n");
}

#[test]
fn artefacts_can_go_elsewhere_and_progress_can_be_json() {
    let space = copy();
    let out = tempfile::tempdir().unwrap();
    let ran = space.run(&["--progress", "json", "build", "--locked", "--out", out.path().to_str().unwrap()]).good();
    assert!(out.path().join("tiny/kernel").exists() && !space.path().join("out").exists());
    for line in ran.err.lines() {
        let event: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{line}: {error}"));
        assert!(event["event"].is_string(), "{line}");
    }
}

#[test]
fn a_flipped_byte_of_a_published_file_is_mended() {
    let space = copy();
    space.run(&["build", "--locked"]).good();
    let path = space.artefact("tiny", "rootimg.cpio.zst");
    let good = std::fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    assert!(space.run(&["list"]).good().out.contains("rootimg.cpio.zst was modified"));
    space.run(&["build", "--locked"]).good();
    assert!(std::fs::read(&path).unwrap() == good);
}

#[test]
fn boot_a_single_stream_is_an_initramfs_that_the_kernel_takes() {
    let space = copy();
    space.edit("image.toml", "[boot]", "[pack]\nframes = \"single\"\n\n[boot]");
    space.run(&["build", "--locked"]).good();
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(space.artefact("tiny", "rootimg.cpio.zst.index")).unwrap()).unwrap();
    assert_eq!(index["frames"].as_array().unwrap().len(), 1);
    let key = tiny().key.clone();
    let image = space.artefact("tiny", "rootimg.cpio.zst").canonicalize().unwrap();
    let built = Built { space, key };
    // The kernel itself unpacks it: no initrd, no network.
    let running = start(&built, "tiny", "console=ttyS0 rdinit=/sbin/init".to_owned(), |machine| machine.initrd = image);
    expect(&running, "NODE IS UP");
}

#[test]
fn a_script_is_offered_the_locked_packages() {
    let space = copy();
    space.edit("image.toml", "script = \"tiny.postinstall\"", "script = \"tiny.postinstall\"\npackages = \"locked\"");
    space.edit(
        "tiny.postinstall",
        "set -e\n",
        "set -e\nrm $1/usr/bin/grep\nchroot $1 sh -c 'dpkg -i $IMGBUILD_PACKAGES/grep_*.deb'\ntest -x $1/usr/bin/grep\n",
    );
    space.run(&["build", "--locked"]).good();
}
