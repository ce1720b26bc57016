//! rmdef, rmimage and imgexport -p; whose programs get what imgbuild cannot do.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::support::{Ran, Space};
use crate::xcat_defs::{COMPUTE, site, typed};

const ROCKY: &str = "rocky9.4-x86_64-netboot-compute";

fn script(space: &Space, name: &str, text: &str) {
    space.write(name, &format!("#!/bin/sh\n{text}\n"));
    std::fs::set_permissions(space.path().join(name), PermissionsExt::from_mode(0o755)).unwrap();
}

/// A command of xCAT's own that notes what it gets.
fn noting(space: &Space, name: &str) {
    script(space, &format!("xcat/{name}"), "echo \"$(basename \"$0\") $*\" >>\"$(dirname \"$0\")/got\"");
}

fn got(space: &Space) -> String {
    std::fs::read_to_string(space.path().join("xcat/got")).unwrap_or_default()
}

#[test]
fn rmdef_removes_the_recipe_and_leaves_what_is_not_imgbuilds() {
    let space = site(&[]);
    noting(&space, "rmdef");
    let directory = space.path().join("new/images").join(COMPUTE);
    for (line, said) in [
        ("rmdef -t osimage", "name the osimage"),
        ("rmdef -t node n01", "objects of the type node belong to xCAT"),
        ("rmdef -t osimage nothing", "is not an image of"),
        (&format!("rmdef -t osimage -o {COMPUTE},nothing"), "nothing was removed"),
    ] {
        let ran = typed(&space, line, "", false);
        assert!(ran.code == 1 && ran.err.contains(said), "{line}: {}", ran.err);
    }
    assert!(directory.join("image.toml").is_file());
    // A recipe that others are made from stays.
    space.write(
        "new/images/child/image.toml",
        &format!("extends = \"../{COMPUTE}/image.toml\"\n\n[image]\nname = \"child\"\n"),
    );
    let ran = typed(&space, &format!("rmdef -t osimage {COMPUTE}"), "", false);
    assert!(ran.code == 1 && ran.err.contains("child is made from its recipe"), "{}", ran.err);
    std::fs::remove_dir_all(space.path().join("new/images/child")).unwrap();
    std::fs::write(directory.join("own.pkglist"), "vim\n").unwrap();
    std::fs::write(directory.join("image.lock"), "").unwrap();
    let ran = typed(&space, &format!("rmdef -t osimage -o {COMPUTE}"), "", true).good();
    assert!(ran.err.contains("so kept: own.pkglist"), "{}", ran.err);
    let left: Vec<_> = std::fs::read_dir(&directory).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(left, ["own.pkglist"]);
    assert_eq!(got(&space), format!("rmdef -t osimage -o {COMPUTE}\n"));
    typed(&space, &format!("rmdef -t osimage {ROCKY}"), "", false).good();
    assert!(!space.path().join("new/images").join(ROCKY).exists());
    // Nodes are xCAT's.
    typed(&space, "rmdef -t node n01", "", true).good();
    assert!(got(&space).ends_with("rmdef -t node n01\n"));
}

#[test]
fn rmimage_removes_what_is_published_and_nothing_else() {
    let space = site(&[]);
    let published = space.path().join("published");
    let at = published.display().to_string();
    typed(&space, &format!("chdef -t osimage {COMPUTE} rootimgdir={at}"), "", false).good();
    let ran = typed(&space, &format!("rmimage {COMPUTE}"), "", false);
    assert!(ran.code == 1 && ran.err.contains("does not exist"), "{}", ran.err);
    let names =
        ["kernel", "initrd-stateless.gz", "rootimg.cpio.gz", "rootimg.cpio.gz.index", "rootimg/etc/fstab", "notes"];
    for name in names {
        space.write(&format!("published/{name}"), name);
    }
    // A link in the tree is removed, and not what it leads to.
    space.write("precious/data", "x");
    symlink(space.path().join("precious"), published.join("rootimg/link")).unwrap();
    let ran = typed(&space, &format!("rmimage -V {COMPUTE}"), "", false).good();
    assert!(ran.err.contains("initrd-stateless.gz, kernel, rootimg, rootimg.cpio.gz"), "{}", ran.err);
    let left: Vec<_> = std::fs::read_dir(&published).unwrap().map(|one| one.unwrap().file_name()).collect();
    assert_eq!(left, ["notes"]);
    assert!(space.path().join("precious/data").is_file());
    for (line, said) in [
        ("rmimage", "name the osimage"),
        ("rmimage -o debian12 x", "cannot be combined"),
        ("rmimage -o debian12 -p compute", "name the osimage"),
    ] {
        let ran = typed(&space, line, "", false);
        assert!(ran.code == 1 && ran.err.contains(said), "{line}: {}", ran.err);
    }
    typed(&space, "rmimage -o debian12 -a x86_64 -p compute", "", false).good();
    typed(&space, &format!("rmimage {COMPUTE} --xcatdef"), "", false).good();
    assert!(!space.path().join("new/images").join(COMPUTE).exists());
}

/// xCAT removed the management node's /install through a mount in such a tree.
#[test]
fn rmimage_removes_nothing_where_something_is_mounted() {
    let space = site(&[]);
    let published = space.path().join("published");
    typed(&space, &format!("chdef -t osimage {COMPUTE} rootimgdir={}", published.display()), "", false).good();
    space.write("published/kernel", "k").write("published/rootimg/proc/x", "x").write("precious/data", "x");
    let mounted = published.join("rootimg/proc");
    let line = format!(
        "mount --bind '{}' '{}' || exit 77; rmimage {COMPUTE}",
        space.path().join("precious").display(),
        mounted.display()
    );
    let ran = typed(&space, &format!("unshare -m sh -c \"{line}\""), "", false);
    if ran.code == 77 || ran.err.contains("unshare:") {
        crate::support::skip("file systems cannot be mounted here");
        return;
    }
    assert!(ran.code == 1 && ran.err.contains("a file system is mounted at"), "{}", ran.err);
    assert!(space.path().join("precious/data").is_file() && published.join("kernel").is_file());
}

#[test]
fn images_that_cannot_be_built_here_go_to_xcat() {
    let space = site(&[]);
    let power = "debian12-ppc64le-netboot-compute";
    let stanza = format!(
        "{power}:\n    objtype=osimage\n    imagetype=linux\n    osarch=ppc64le\n    osvers=debian12\n    pkglist=/install/custom/netboot/debian/compute.pkglist\n    profile=compute\n    provmethod=netboot\n"
    );
    typed(&space, "mkdef -z", &stanza, false).good();
    for name in ["genimage", "packimage", "imgexport", "nodeset", "rmimage"] {
        noting(&space, name);
    }
    // A program of tests has no program of the initrd for another CPU.
    let can: Ran = Command::new(space.path().join("bin/genimage"))
        .args(["--dryrun", power])
        .env("IMGBUILD_STORE", space.store())
        .env_remove("IMGBUILD_WORKSPACE")
        .output()
        .unwrap()
        .into();
    let lines = [
        format!("genimage {power} --noupdate"),
        format!("packimage -m cpio {power}"),
        format!("imgexport {power}"),
        format!("nodeset n01 osimage={power}"),
        format!("rmimage {power}"),
    ];
    for line in &lines {
        let ran = typed(&space, &format!("unset IMGBUILD_INIT_PPC64LE; {line}"), "", true).good();
        assert!(got(&space).ends_with(&format!("{line}\n")), "{line}: {}{} {}", ran.out, ran.err, can.err);
    }
    // One for this CPU does not.
    typed(&space, &format!("genimage --dryrun {COMPUTE}"), "", true).good();
    assert!(!got(&space).contains("--dryrun"));
}

#[test]
fn a_nodeset_of_another_package_is_never_run() {
    let space = site(&[]);
    let of_clustershell = "#!/usr/bin/python3\nfrom ClusterShell.CLI.Nodeset import main\n";
    // In a directory that a site linked xcatclient into, and in xCAT's own.
    space.write("usr/bin/nodeset", of_clustershell).write("xcat/nodeset", of_clustershell);
    for name in ["usr/bin/nodeset", "xcat/nodeset"] {
        std::fs::set_permissions(space.path().join(name), PermissionsExt::from_mode(0o755)).unwrap();
    }
    symlink(space.path().join("xcat/xcatclient"), space.path().join("usr/bin/xcatclient")).unwrap();
    let line = format!("PATH=$PATH:{}; nodeset n01 osimage=x", space.path().join("usr/bin").display());
    let ran = typed(&space, &line, "", true);
    assert!(ran.code == 1 && ran.err.contains("no `nodeset` of xCAT further down PATH"), "{}{}", ran.out, ran.err);
    // A link to xCAT's client is xCAT's, wherever it is.
    script(&space, "xcat/xcatclient", "echo \"client $*\"");
    std::fs::remove_file(space.path().join("usr/bin/nodeset")).unwrap();
    symlink(space.path().join("xcat/xcatclient"), space.path().join("usr/bin/nodeset")).unwrap();
    let ran = typed(&space, &line, "", false).good();
    assert_eq!(ran.out, "client n01 osimage=x\n");
}

#[test]
fn imgexport_knows_a_nodes_postscripts() {
    let space = site(&[]);
    for name in ["kernel", "initrd-stateless.gz", "rootimg.cpio.gz"] {
        space.write(&format!("netboot/{name}"), name);
    }
    let at = space.path().join("netboot");
    typed(&space, &format!("chdef -t osimage {COMPUTE} rootimgdir={}", at.display()), "", false).good();
    let manifest = |bundle: &str| {
        let output = Command::new("tar")
            .arg("-xzOf")
            .arg(space.path().join(bundle))
            .arg("--wildcards")
            .arg("*/manifest.xml")
            .output();
        String::from_utf8(output.unwrap().stdout).unwrap()
    };
    // xCAT's own lsdef knows groups and xcatdefaults.
    script(
        &space,
        "xcat/lsdef",
        "echo \"Object name: $4\"; echo '    postbootscripts=otherpkgs'; echo '    postscripts=syslog,mine'",
    );
    typed(&space, &format!("imgexport {COMPUTE} a.tgz -p node1"), "", true).good();
    let text = manifest("a.tgz");
    assert!(
        text.contains("<postscripts>syslog,mine</postscripts>")
            && text.contains("<postbootscripts>otherpkgs</postbootscripts>"),
        "{text}"
    );
    space.write("new/nodes.toml", "[node.n07]\nmac = \"aa:bb:cc:00:00:07\"\npostscripts = [\"first\", \"second\"]\n");
    typed(&space, &format!("imgexport {COMPUTE} b.tgz -p n07"), "", false).good();
    assert!(manifest("b.tgz").contains("<postscripts>first,second</postscripts>"), "{}", manifest("b.tgz"));
    let ran = typed(&space, &format!("imgexport {COMPUTE} c.tgz -p n08"), "", false);
    assert!(
        ran.code == 1 && ran.err.contains("is for the node `n08`") && !space.path().join("c.tgz").exists(),
        "{}",
        ran.err
    );
}
