//! Other releases than the host's: built on it, booted, logged into.

use boot::{FileServer, Machine};

use super::compute::{lock, package_database};
use super::machine::{Node, cmdline, expect, free_port, start};
use super::{Built, store, tiny};
use crate::support::{Space, copy_tree};

/// `examples/mini` for another release; `suites` are those of the host's archives that it takes, none means all.
fn mini_of(release: &str, suites: &[&str]) -> Space {
    let space = Space::example("mini");
    space.edit("image.toml", "release = \"bookworm\"", &format!("release = \"{release}\""));
    if !suites.is_empty() {
        let text = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
        space.write("image.toml", &format!("{text}\n[[repo]]\nsource = \"host\"\nsuites = {suites:?}\n"));
    }
    space
}

/// Boots an image until its login prompt, logs in, and checks that it is up, and of the release that was asked for.
pub fn boots(built: &Built, version: &str, more: impl FnOnce(&Node)) {
    let server = FileServer::start(&built.space.artefact("mini", ".").canonicalize().unwrap()).unwrap();
    let port = free_port();
    let words = cmdline(built, "mini", &format!("http://10.0.2.2:{}", server.port()));
    let running = start(built, "mini", words, |machine| {
        machine.network = vec![Machine::user_network("52:54:00:12:34:56", Some(port))];
    });
    expect(&running, "node-525400123456 login:");
    let node = Node::forwarded(port, &built.key);
    node.wait(&running);
    let says = node.run("cat /etc/os-release");
    assert!(says.contains(&format!("VERSION_ID=\"{version}\"")), "{says}");
    // "starting" may last while a job runs; it must end well.
    let failed = || node.run("systemctl --failed --no-legend");
    assert_eq!(node.run("systemctl is-system-running --wait; true"), "running", "{}\n{}", failed(), running.console());
    let info: serde_json::Value =
        serde_json::from_slice(&std::fs::read(built.space.artefact("mini", "build.json")).unwrap()).unwrap();
    assert_eq!(node.run("uname -r"), info["kernel_release"].as_str().unwrap());
    // The node's users and groups are those of the lock, however the release's packages make them.
    let (passwd, group) = (node.run("cat /etc/passwd"), node.run("cat /etc/group"));
    let locked = lock(&built.space);
    assert!(locked.users.iter().any(|user| user.name == "sshd"));
    for user in &locked.users {
        let line = format!("{}:x:{}:{}:", user.name, user.uid, user.gid);
        assert!(passwd.lines().any(|known| known.starts_with(&line)), "{line}\n{passwd}");
    }
    for locked in &locked.groups {
        let line = format!("{}:x:{}:", locked.name, locked.gid);
        assert!(group.lines().any(|known| known.starts_with(&line)), "{line}\n{group}");
    }
    more(&node);
}

#[test]
fn boot_debian_13_is_built_on_this_host_and_boots() {
    // A mirror without Debian 13 fails this test: it is what sites move to.
    let built = super::built(mini_of("trixie", &[]));
    let listed = package_database(&built.space);
    assert!(listed.iter().any(|line| line.starts_with("linux-image-6.12.")), "{listed:?}");
    boots(&built, "13", |node| {
        // Its kernel's modules are compressed, and so those that the initrd loaded were.
        let driver = "/usr/lib/modules/$(uname -r)/kernel/drivers/net/virtio_net.ko.xz";
        node.run(&format!("test -f {driver} && test -d /sys/module/virtio_net"));
    });
    assert_eq!(built.space.to_do(), Vec::<String>::new());
}

#[test]
fn boot_debian_11_is_built_on_this_host_and_boots() {
    // Mirrors drop it piece by piece, security updates first: only what was its last state.
    let space = mini_of("bullseye", &["bullseye"]).with_store(&store());
    let ran = space.run(&["build", "--until", "kernel"]);
    if super::is_dropped("Debian 11", &ran) {
        return;
    }
    ran.good();
    let built = super::built(space);
    let listed = package_database(&built.space);
    assert!(listed.iter().any(|line| line.starts_with("linux-image-5.10.")), "{listed:?}");
    boots(&built, "11", |_| {});
}

#[test]
fn network_a_release_that_the_archive_does_not_have_is_the_recipes_fault() {
    let space = mini_of("no-such-release", &[]).with_store(&store());
    let ran = space.run(&["build"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("has no suite `no-such-release`") && ran.err.contains("404"), "{}", ran.err);
    assert!(!space.path().join("image.lock").exists());
    let space = mini_of("trixie", &["trixie", "trixie-updates", "trixie-security"]).with_store(&store());
    space.edit("image.toml", "\"trixie-security\"", "\"trixie-backports\"");
    let ran = space.run(&["build"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("`trixie-backports`") && ran.err.contains("trixie-updates"), "{}", ran.err);
}

#[test]
fn suites_that_nobody_named_may_be_missing_and_packages_may_not() {
    // A mirror that has a release, and neither its updates nor its packages.
    let mirror = tempfile::tempdir().unwrap();
    let vendored = mirror.path().join("vendored");
    tiny().space.run(&["vendor", vendored.to_str().unwrap()]).good();
    std::fs::remove_dir_all(vendored.join("suites/bookworm/pool")).unwrap();
    std::os::unix::fs::symlink("vendored/suites/bookworm", mirror.path().join("debian")).unwrap();
    // In a store of its own, which has no packages either.
    let space = Space::new();
    copy_tree(tiny().space.path(), space.path());
    let ran = space.run(&["build", "--mirror", &format!("file:{}", mirror.path().join("debian").display())]);
    assert!(ran.err.contains("note: ") && ran.err.contains("has no suite `bookworm-updates`"), "{}", ran.err);
    // Security updates that are missing are worth a warning, at the release's line.
    let warned = ran.err.split("distro::no_suite").nth(1).unwrap_or_default();
    assert!(warned.contains("has no suite `bookworm-security`") && warned.contains("image.toml:3:"), "{}", ran.err);
    assert!(ran.err.contains("distro::not_there") && ran.err.contains("whether the mirror is"), "{}", ran.err);
    assert_eq!(ran.code, 4, "{}", ran.err);
}
