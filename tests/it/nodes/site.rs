//! Nodes are changed in place, come from other tools, and answer to xCAT's names.

use std::process::Command;

use super::nodeset::published;
use super::{NODES, cluster};
use crate::support::{Ran, Space};

fn text(space: &Space) -> String {
    std::fs::read_to_string(space.path().join("nodes.toml")).unwrap()
}

#[test]
fn values_of_nodes_are_set_in_place() {
    let space = cluster();
    space.run(&["set", "cn[001-003]", "image=gpu", "variables.rack=r1"]).good();
    assert!(text(&space).contains("[node.\"cn[001-003]\"]       # the rack\nip = \"10.0.0.[11-13]\"\nimage = \"gpu\"\nvariables = { rack = \"r1\" }\n"), "{}", text(&space));
    space.run(&["set", "@compute", "kernel_args+=quiet"]).good();
    space.run(&["set", "cn002", "--unset", "kernel_args"]).good();
    let values = space.run(&["nodes", "cn002", "--effective"]).good().out;
    assert!(values.contains("\"quiet\"") && !values.contains("nosmt"), "{values}");
    assert!(text(&space).contains("# moved in May"));
    // What would be wrong is not written.
    let before = text(&space);
    for (change, said) in [
        ("image=gpuu", "the workspace has no image `gpuu`"),
        ("ip=10.0.0.1", "has 1 value for 3 nodes"),
        ("imag=x", "did you mean `image`"),
    ] {
        let ran = space.run(&["set", "cn[001-003]", change]);
        assert!(ran.code == 1 && ran.err.contains(said), "{}", ran.err);
        assert_eq!(text(&space), before);
    }
    assert!(space.run(&["set", "cn[001-009]", "image=gpu"]).err.contains("are not in nodes.toml"));
    // Images are changed as ever.
    space.run(&["set", "compute", "packages.install+=less"]).good();
}

#[test]
fn nodes_of_xcat_come_in_and_go_back() {
    let space = cluster();
    std::fs::remove_file(space.path().join("nodes.toml")).unwrap();
    space.write("nodes.stanza", "compute:\n    objtype=group\n    grouptype=static\n    netboot=grub2\n\nn01:\n    objtype=node\n    groups=compute\n    ip=10.0.0.1\n    mac=aa:bb:cc:00:00:01\n    netboot=grub2\n    provmethod=compute\n    bmc=10.1.0.1\n\nn02:\n    objtype=node\n    groups=compute\n    mac=aa:bb:cc:00:00:02\n    netboot=grub2\n    provmethod=install-it\n");
    let files = space.path().join("nodes.stanza");
    let import =
        |more: &[&str]| space.run(&[&["import", "nodes", files.to_str().unwrap(), "--into", "."], more].concat());
    assert!(import(&["--dry-run"]).good().out.contains("[group.compute]\nnodes = \"n[01-02]\"\nloader = \"grub\"\n"));
    assert!(!space.path().join("nodes.toml").exists());
    let ran = import(&[]).good();
    assert!(
        ran.err.contains("`bmc` of 1 object has no counterpart") && ran.err.contains("`install-it`"),
        "{}",
        ran.err
    );
    assert!(import(&[]).err.contains("already exists"));
    let back = space.run(&["export", "nodes"]).good().out;
    assert!(back.contains("\nn01:\n    objtype=node\n    groups=compute\n    ip=10.0.0.1\n    mac=aa:bb:cc:00:00:01\n    netboot=grub2\n    provmethod=compute\n"), "{back}");
    assert!(back.contains("\ncompute:\n    objtype=group\n    grouptype=static\n    members=n01,n02\n"), "{back}");
}

fn named(space: &Space, words: &[&str]) -> Ran {
    let link = space.path().join("bin").join(words[0]);
    if !link.exists() {
        std::fs::create_dir_all(link.parent().unwrap()).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_imgbuild"), &link).unwrap();
    }
    let mut command = Command::new(&link);
    command
        .args(&words[1..])
        .env("IMGBUILD_WORKSPACE", space.path())
        .env("NO_COLOR", "1")
        .env("PATH", space.path().join("bin"));
    command.output().unwrap().into()
}

#[test]
fn nodeset_chdef_and_lsdef_answer_for_nodes() {
    let (space, first) = published();
    space.edit("nodes.toml", "[defaults]", "[nodeset]\nout = \"tftpboot\"\nurl = \"http://10.0.0.1\"\n\n[defaults]");
    let ran = named(&space, &["nodeset", "compute", "osimage=compute"]).good();
    assert!(ran.err.contains("nodeset 'cn[001-003]' compute"), "{}", ran.err);
    assert_eq!(
        named(&space, &["nodeset", "cn001-cn002", "stat"]).good().out,
        format!("cn001: netboot compute@{first}\ncn002: netboot compute@{first}\n")
    );
    named(&space, &["chdef", "-t", "group", "compute", "provmethod=gpu"]).good();
    named(&space, &["chdef", "-t", "group", "compute", "-p", "postbootscripts=settmpsize"]).good();
    assert!(text(&space).contains("image = \"gpu\"\npostbootscripts = [\"settmpsize\"]\n"), "{}", text(&space));
    // Without an image, that of each node.
    named(&space, &["nodeset", "cn003", "osimage"]).good();
    assert!(named(&space, &["nodeset", "cn003", "stat"]).good().out.starts_with("cn003: netboot gpu@"));
    named(&space, &["chdef", "cn003", "provmethod=compute", "mac=52:54:00:00:00:33!cn003|*"]).good();
    let shown = named(&space, &["lsdef", "cn003", "--osimage"]).good().out;
    assert!(
        shown.contains("Object name: cn003\n")
            && shown.contains("    mac=52:54:00:00:00:33\n")
            && shown.contains("Object name: compute\n"),
        "{shown}"
    );
    assert_eq!(named(&space, &["lsdef", "compute", "-s"]).good().out, "cn001  (node)\ncn002  (node)\ncn003  (node)\n");
    assert_eq!(
        named(&space, &["lsdef", "cn001", "-i", "ip,groups"]).good().out,
        "Object name: cn001\n    ip=10.0.0.11\n    groups=compute\n"
    );
    for (words, said) in [
        (&["nodeset", "cn003-cn001", "boot"][..], "counts backwards"),
        (&["nodeset", "nosuch", "boot"], "there is no node `nosuch`"),
        (&["nodeset", "cn001", "runcmd=bmcsetup"], "no `nodeset` of xCAT further down PATH"),
        (&["chdef", "cn001", "bmc=10.1.0.1"], "`bmc` has no counterpart"),
        (&["lsdef", "-t", "network"], "no `lsdef` of xCAT further down PATH"),
    ] {
        let ran = named(&space, words);
        assert!(ran.code == 1 && ran.err.contains(said), "{words:?}: {}", ran.err);
    }
    assert_ne!(text(&space), NODES);
}
