//! A node of the RPM distribution whose packages zypper chose: built, booted, logged into.

use std::sync::OnceLock;

use super::Built;
use super::compute::lock;
use super::rpm_node::{QUERY, assert_verified, boot, copy_of, information, listed, locked, repository, write_keys};
use super::shared;

/// The node, built once for all tests.
fn node() -> &'static Built {
    static NODE: OnceLock<Built> = OnceLock::new();
    NODE.get_or_init(|| {
        shared::built("suse", |space| {
            write_keys(space);
            let distro =
                format!("{}exclude = [\"kernel\", \"kernel-core\", \"kernel-modules*\"]\n", repository("distro"));
            space.write(
                "few.pkglist",
                "patterns-base-minimal_base\nopenssh-server\n#NEW_INSTALL_LIST#\nfiglet\n-less\n",
            );
            space.write("few.exlist", "./usr/share/doc/*\n./boot/*\n");
            space.write(
                "image.toml",
                &format!(
                    "[image]\nname = \"suse\"\ndistro = \"opensuse\"\nrelease = \"1\"\n\n{distro}\n{}\n\
                 [packages]\nlists = [\"few.pkglist\"]\n\n[kernel]\ndrivers = [\"virtio_net\"]\n\n\
                 [system]\nauthorized_keys = [\"keys/admin.pub\"]\n\n[exclude]\nlists = [\"few.exlist\"]\n\n\
                 [boot]\ncmdline = [\"console=ttyS0\"]\n",
                    repository("suse")
                ),
            );
            let ran = space.run(&["build", "--progress", "plain"]).good();
            // What needs a package goes with it, and that is said.
            assert!(ran.err.contains("also removes what needs it: patterns-base-minimal_base"), "{}", ran.err);
        })
    })
}

#[test]
fn boot_a_node_that_zypper_composed_with_modules_in_zstd() {
    let built = node();
    let (running, node) = boot(built, "suse", "52:54:00:00:00:19");
    let release = node.run("uname -r");
    assert_eq!(release, information(&built.space, "suse")["kernel_release"].as_str().unwrap());
    assert_eq!(listed(&node.run(QUERY)), locked(&built.space));
    assert_verified(&node.run("rpm -Va; true"));
    assert!(node.run("rpm -q kernel-default").starts_with("kernel-default-6.1.0."));
    assert!(node.run("modinfo -n veth").ends_with(".ko.zst"));
    node.run("modprobe veth");
    let state = node.run("systemctl is-system-running --wait; true");
    assert_eq!(state, "running", "{}\n{}", node.run("systemctl --failed --no-legend"), running.console());
}

#[test]
fn zypper_builds_an_image_whose_kernel_has_another_release_than_its_package() {
    let space = &node().space;
    let release = information(space, "suse")["kernel_release"].as_str().unwrap().to_owned();
    let passes = lock(space).pass;
    let packages = passes.iter().filter(|pass| !pass.name.starts_with("tools")).flat_map(|pass| &pass.packages);
    let package = packages.into_iter().find(|one| one.name == "kernel-default").unwrap().version.clone();
    assert!(release.ends_with("-cloud-amd64") && !package.contains("cloud"), "{release} {package}");
    let shell = |script: &str| space.run(&["shell", "--", "/bin/sh", "-c", script]).good().out;
    assert_eq!(shell("ls /usr/lib/modules"), format!("{release}\n"));
    assert_eq!(listed(&shell(QUERY)), locked(space));
    assert_verified(&shell("rpm -Va; true"));
    assert!(shell("rpm -q figlet openssh-server systemd").lines().count() == 3);
    assert_eq!(space.to_do(), Vec::<String>::new());
    // A copy runs nothing; names and solver's words are as with dnf.
    let copy = copy_of(space);
    assert!(copy.run(&["build", "--locked"]).good().err.contains("ran nothing"));
    copy.edit("few.pkglist", "figlet", "figlex");
    let ran = copy.run(&["build"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("few.pkglist:4:1") && ran.err.contains("did you mean figlet"), "{}", ran.err);
    copy.edit("few.pkglist", "figlex", "needs-nothing");
    copy.edit("image.toml", "[packages]", &format!("{}\n[packages]", repository("broken")));
    let ran = copy.run(&["build"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("cannot be installed together") && ran.err.contains("no-such-package"), "{}", ran.err);
}
