//! Kernels of RPM packages with more drivers, and with initrds that the release's own dracut composes.

use std::sync::Arc;

use super::Built;
use super::kills::forget_with;
use super::machine::{Server, cmdline, expect, start};
use super::rpm_distro::distribution;
use super::rpm_node::{copy_of, information, node};
use crate::support::Space;

/// A copy of the node with a driver package beside its recipe.
fn with_driver(repository: &str, name: &str) -> Space {
    let space = copy_of(&node().space);
    let packages = std::fs::read_dir(distribution().repository(repository).join("Packages")).unwrap();
    let mut packages = packages.map(|entry| entry.unwrap().path());
    let package = packages.find(|path| path.file_name().unwrap().to_str().unwrap().starts_with(name)).unwrap();
    std::fs::create_dir(space.path().join("drivers")).unwrap();
    std::fs::copy(package, space.path().join("drivers/driver.rpm")).unwrap();
    space.edit("image.toml", "[kernel]\n", "[kernel]\nupdates = [\"rpm:drivers/driver.rpm\"]\n");
    space
}

#[test]
fn a_driver_package_gets_into_the_image_and_the_initrd_or_is_refused_with_its_vermagic() {
    let space = with_driver("distro", "driver-ifb");
    space.edit("image.toml", "\"virtio_net\"", "\"virtio_net\", \"ifb\"");
    // systemd's package sets an option of that driver, which the initrd would not have.
    space.write("ifb.conf", "# ifb has its two interfaces\n");
    let list = std::fs::read_to_string(space.path().join("node.synclist")).unwrap();
    space.write("node.synclist", &format!("{list}ifb.conf -> /etc/modprobe.d/systemd.conf\n"));
    forget_with(&space, "kernel/payload", &["driver.rpm"]);
    let to_do = space.to_do();
    assert!(
        to_do.contains(&"kernel/payload run".to_owned()) && !to_do.iter().any(|one| one.starts_with("rootfs/packages"))
    );
    space.run(&["build"]).good();
    let release = information(&space, "node")["kernel_release"].as_str().unwrap().to_owned();
    let script = format!("ls /usr/lib/modules/{release}/updates; modinfo -k {release} -n ifb");
    let said = space.run(&["shell", "--", "/bin/sh", "-c", &script]).good().out;
    assert!(said.contains("ifb.ko") && said.contains("/updates/"), "{said}");
    let initrd = std::fs::read(space.artefact("node", "initrd-stateless")).unwrap();
    let plain = zstd::decode_all(&initrd[..]).unwrap();
    assert!(plain.windows(7).any(|window| window == b"/ifb.ko"));
    let space = with_driver("broken", "driver-nlmon");
    let ran = space.run(&["build"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("nlmon") && ran.err.contains(&release), "{}", ran.err);
}

#[test]
fn boot_an_rpm_node_comes_up_from_the_initrd_of_its_releases_dracut() {
    let space = copy_of(&node().space);
    space.edit("image.toml", "[system]", "[initrd]\ngenerator = \"dracut\"\n\n[system]");
    forget_with(&space, "initrd/stateless", &["dracut version", "rocky"]);
    let ran = space.run(&["build"]).good();
    assert!(ran.err.contains("initrd/stateless") && !ran.err.contains("rootfs/packages-1"), "{}", ran.err);
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    assert!(lock.contains("name = \"tools-dracut\"") && lock.contains("name = \"dracut\", version = \"059-"), "{lock}");
    let built = Built { key: node().key.clone(), space };
    let directory = built.space.artefact("node", ".").canonicalize().unwrap();
    let server = Server::start(&directory, 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    let words = cmdline(&built, "node", &format!("http://10.0.2.2:{}", server.port));
    let running = start(&built, "node", words, |machine| machine.memory_mib = 1536);
    expect(&running, " dracut-059-4 (Initramfs)");
    expect(&running, "imgbuild: the image is complete");
    expect(&running, "node-525400123456 login:");
}

/// Releases of the distribution's kernels, older first, and their packages' versions.
fn kernels() -> Vec<(String, String)> {
    let packages = std::fs::read_dir(distribution().repository("distro").join("Packages")).unwrap();
    let mut all: Vec<(String, String)> = packages
        .filter_map(|entry| {
            let name = entry.unwrap().file_name().into_string().unwrap();
            let version = name.strip_prefix("kernel-core-")?.strip_suffix(".x86_64.rpm")?.to_owned();
            Some((format!("{}-cloud-amd64", version.strip_suffix(".fx1")?), version))
        })
        .collect();
    all.sort();
    assert_eq!(all.len(), 2, "{all:?}");
    all
}

#[test]
fn an_older_kernel_is_chosen_by_its_version_and_of_two_none_is_guessed() {
    let all = kernels();
    let [(old, old_version), (new, _)] = &all[..] else { unreachable!() };
    let space = copy_of(&node().space);
    space.edit("node.pkglist", "kernel-modules\n", "");
    space.edit("image.toml", "[kernel]\n", &format!("[kernel]\npackage = \"kernel-{old_version}\"\n"));
    space.run(&["build", "--until", "kernel"]).good();
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    assert!(lock.contains(&format!("name = \"kernel-core\", version = \"{old_version}\"")), "{lock}");
    space.edit("image.toml", &format!("package = \"kernel-{old_version}\"\n"), "");
    space.edit("node.pkglist", "hello\n", &format!("hello\nkernel-core-{old_version}\n"));
    // The lock would hold the older one.
    std::fs::remove_file(space.path().join("image.lock")).unwrap();
    let ran = space.run(&["build", "--until", "kernel"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let said = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains(&format!("the packages provide 2 kernels: {old}, {new}")), "{said}");
    // The other one stays in the image, and in its package database.
    space.edit("image.toml", "[kernel]\n", &format!("[kernel]\nversion = \"{old}\"\n"));
    space.run(&["build"]).good();
    assert_eq!(information(&space, "node")["kernel_release"].as_str(), Some(old.as_str()));
}
