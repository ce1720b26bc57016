//! CentOS 7 as itself: real packages, installed by their own rpm, resolved by their own yum.

mod stand_ins;

use std::process::Command;
use std::sync::OnceLock;

use super::compute::lock;
use super::container_base::{Image, base_layers};
use super::kills::forget_with;
use super::offline::{SAME, assert_same, run_through};
use super::rpm_node::{QUERY, boot, copy_of, listed, locked};
use super::rpm_words::{METAPACKAGES, assert_gone, write_metapackages};
use super::same_bytes::Ordinary;
use super::{Built, shared, store};
use crate::corpus_rpm::corpus;
use crate::support::{Space, collected, copy_tree, project};

/// The node, built once for all tests.
fn node() -> Option<&'static Built> {
    static NODE: OnceLock<Option<Built>> = OnceLock::new();
    NODE.get_or_init(|| {
        let place = stand_ins::repositories()?;
        Some(shared::built("centos7", |space| {
            copy_tree(&project().join("tests/fixtures/centos7"), space.path());
            space.edit("image.toml", "@PLACE@/base", &format!("{}/base", place.display()));
            space.edit("image.toml", "@PLACE@/stand-ins", &format!("{}/stand-ins", place.display()));
            let keys = space.path().join("keys");
            std::fs::create_dir_all(&keys).unwrap();
            std::fs::copy(corpus().join("keys/centos/RPM-GPG-KEY-CentOS-7"), keys.join("RPM-GPG-KEY-CentOS-7"))
                .unwrap();
            let key = space.path().join("admin");
            let made =
                Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(&key).status().unwrap();
            assert!(made.success());
            std::fs::copy(key.with_extension("pub"), keys.join("admin.pub")).unwrap();
            space.run(&["build", "--progress", "plain"]).good();
        }))
    })
    .as_ref()
}

/// What `rpm -Va` may say: files that scripts write, and what lies below the emptied /run.
#[track_caller]
fn assert_verified(said: &str) {
    let allowed = |line: &&str| {
        ["  c /", "  g /"].iter().any(|mark| line.contains(mark)) || line.starts_with("missing     /var/run/")
    };
    let wrong: Vec<&str> = said.lines().filter(|line| !line.trim().is_empty() && !allowed(line)).collect();
    assert!(wrong.is_empty() && said.contains("ca-bundle"), "{wrong:#?}\n{said}");
}

#[test]
fn boot_centos_7_composed_by_its_own_yum_and_rpm_is_logged_into() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let Some(built) = node() else { return };
    let space = &built.space;
    let shell = |script: &str| space.run(&["shell", "--", "/bin/sh", "-c", script]).good().out;
    let packages = listed(&shell(QUERY));
    assert_eq!(packages, locked(space));
    assert!(packages.len() > 130 && packages.contains("rpm 4.11.3-35.el7 x86_64"), "{packages:#?}");
    assert_verified(&shell("rpm -Va; true"));
    // The times of the database are the image's, in its index too; what openldap made for this image alone is gone.
    let times = shell("rpm -qa --qf '%{INSTALLTIME} %{INSTALLTID}\\n' | sort -u");
    let (time, transaction) = times.trim().split_once(' ').unwrap();
    assert_eq!(time, transaction, "{times}");
    assert_eq!(shell(&format!("rpm -q --tid {time} | wc -l")).trim(), packages.len().to_string());
    assert_eq!(shell("ls /etc/openldap/certs; ls /var/lib/rpm | grep __db; true"), "");
    // Directories have the modes of their packages, also those that imgbuild makes on the way.
    assert_eq!(shell("stat -c '%a %n' / /boot /usr/lib /root"), "555 /\n555 /boot\n555 /usr/lib\n550 /root\n");

    let (_running, node) = boot(built, "centos7", "52:54:00:00:00:c7");
    assert_eq!(listed(&node.run(QUERY)), packages);
    assert_eq!(
        node.run("cat /etc/motd /etc/centos-release"),
        "A node of CentOS 7.\nCentOS Linux release 7.6.1810 (Core)"
    );
    assert_eq!(node.run("rpm --version; bash -c 'echo $BASH_VERSION'"), "RPM version 4.11.3\n4.2.46(2)-release");
    assert_eq!(node.run("getcap /usr/bin/ping"), "/usr/bin/ping = cap_net_admin,cap_net_raw+p");
    // The node's own rpm can go on with the database: an installed package goes, and all indices know.
    node.run("rpm -e vim-minimal --nodeps && ! rpm -q vim-minimal && rpm --rebuilddb && rpm -q bash");
    assert!(node.run("python -c 'import rpm, yum; print yum.__version__'").starts_with("3.4.3"));
}

#[test]
fn centos_7_gives_the_same_bytes_to_root_and_to_others_later_with_copied_trees() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let Some(built) = node() else { return };
    let own_store = |name: &str| {
        let space = copy_of(&built.space);
        let store = space.path().join(name);
        space.with_store(&store)
    };
    let space = own_store(".store");
    let words = ["faketime", "-f", "+400d"];
    run_through(&words, &space, &["-j1", "--assemble", "copy", "build", "--locked"]).good();
    assert_same(&built.space, &space, "centos7");
    // An ordinary user, whose user namespace gives it 65536 ids.
    let user = Ordinary::new("imgbuild-u7", Some(700_000_000));
    let packages = user.home.join("vendored");
    built.space.run(&["vendor", packages.to_str().unwrap()]).good();
    let recipe = user.copy(&built.space);
    user.run(&[], &recipe, &["build", "--locked", "--vendor", packages.to_str().unwrap()]).good();
    for name in SAME {
        let theirs = std::fs::read(recipe.join("out/centos7").join(name)).unwrap();
        assert!(theirs == std::fs::read(built.space.artefact("centos7", name)).unwrap(), "{name} differs");
    }
}

#[test]
fn edits_of_a_centos_7_recipe_run_what_they_must() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let Some(built) = node() else { return };
    assert_eq!(built.space.to_do(), Vec::<String>::new());
    let space = copy_of(&built.space);
    space.run(&["build", "--locked"]).good();
    space.write("motd", "another text\n");
    assert_eq!(space.to_do(), ["rootfs/sync run", "pack/rootimg depends"]);
    space.edit("image.toml", "\"virtio_net\"", "\"virtio_net\", \"veth\"");
    assert_eq!(space.to_do(), ["rootfs/sync run", "initrd/stateless run", "pack/rootimg depends"]);
    space.write("motd", "A node of CentOS 7.\n");
    space.edit("image.toml", ", \"veth\"", "");
    // One package more: yum resolves it with all others held, its pass installs, and the same bytes twice.
    space.edit("node.pkglist", "sudo\n", "sudo\nmokutil\n");
    forget_with(&space, "rootfs/packages-1.2", &["package mokutil:"]);
    let ran = space.run(&["build", "--verify"]).good();
    // The groups at the beginning of the list are a layer of their own, which stays.
    assert!(ran.err.contains("image.lock: mokutil ") && ran.err.contains("ran rootfs/packages-1.2, "), "{}", ran.err);
    assert!(!ran.err.contains("rootfs/base,") && !ran.err.contains("not reproducible"), "{}", ran.err);
    // What no repository has is named with its line.
    space.edit("node.pkglist", "mokutil\n", "mokutl\n");
    let ran = space.run(&["build"]);
    assert!(ran.code != 0 && ran.err.contains("node.pkglist:11") && ran.err.contains("mokutl"), "{}", ran.err);
    // Packages without files, as yum tells them to programs.
    let site = space.path().join("site");
    write_metapackages(&site, "%define _binary_payload w9.gzdio\n");
    let site =
        format!("[[repo]]\nid = \"site\"\nuri = \"file:{}\"\ncheck-packages = false\n\n[packages]", site.display());
    space.edit("image.toml", "[packages]", &site);
    space.edit("node.pkglist", "mokutl\n", METAPACKAGES);
    space.run(&["update"]).good();
    assert_gone(&space);
}

#[test]
fn packages_of_centos_7_come_over_a_container_image_with_a_berkeley_database() {
    if collected("corpus/rpm").is_none() {
        return;
    }
    let Some(built) = node() else { return };
    // The base and the groups at the beginning of the list.
    let pushed = copy_of(&built.space);
    pushed.run(&["build", "--locked"]).good();
    let space = Space::new().with_store(&store());
    let digest = Image { layers: base_layers(&pushed), ..Image::new() }.write(&space.path().join("base"), "7");
    copy_tree(&built.space.path().join("keys"), &space.path().join("keys"));
    for name in ["image.toml", "node.pkglist", "node.synclist", "motd"] {
        std::fs::copy(built.space.path().join(name), space.path().join(name)).unwrap();
    }
    space.edit("image.toml", "release = \"7\"\n", "release = \"7\"\nfrom = \"oci:./base:7\"\n");
    space.edit("node.pkglist", "sudo\n", "sudo\nmokutil\n");
    space.run(&["build", "--verify"]).good();
    let locked = lock(&space);
    let base = locked.base.as_ref().unwrap();
    assert!(base.manifest.sha256 == digest && base.packages.len() > 60, "{}", base.packages.len());
    let line = |name: &str, version: &str, arch: &str| format!("{name} {version} {arch}");
    let mut all: Vec<String> =
        base.packages.iter().map(|one| line(&one.name, &one.version, &one.architecture)).collect();
    let mut fetched = 0;
    for one in locked.image_passes().flat_map(|pass| &pass.packages) {
        fetched += 1;
        all.push(line(&one.name, &one.version, &one.architecture));
    }
    assert!(fetched > 10 && fetched < base.packages.len(), "{fetched}");
    let shell = |script: &str| space.run(&["shell", "--", "/bin/sh", "-c", script]).good().out;
    assert_eq!(listed(&shell(QUERY)), all.into_iter().collect());
    assert_verified(&shell("rpm -Va; true"));
    assert_eq!(shell("ls /var/lib/rpm | grep __db; rpm -q mokutil | wc -l"), "1\n");
}
