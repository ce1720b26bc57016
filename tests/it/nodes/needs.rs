//! `nodes --needs`: the smallest restart between the build that a node reported and the one that it is to boot.

use std::collections::BTreeMap;
use std::process::Command;

use serde_json::{Value, json};

use super::nodeset::nodeset;
use crate::support::Space;

/// Paths of an image's tree with their texts.
pub(crate) type Tree = BTreeMap<&'static str, &'static str>;

pub(crate) fn tree() -> Tree {
    [
        ("etc/motd", "hello"),
        ("etc/site.txt", "one"),
        ("usr/lib/systemd/systemd", "#!/bin/sh\n"),
        ("usr/lib/systemd/libsystemd-shared-257.so", "library"),
        ("usr/lib/systemd/system/soft-reboot.target", "[Unit]\n"),
        ("usr/lib/systemd/system/agent.service", "[Service]\nExecStart=/usr/bin/agent --config=/etc/agent.conf\n"),
        ("usr/bin/agent", "#!/bin/sh\n"),
        ("etc/agent.conf", "one"),
    ]
    .into()
}

/// A workspace with an image whose sync list has two files, and its nodes.
pub(crate) fn site(nodes: &str) -> Space {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    let recipe = "[image]\nname = \"compute\"\nrelease = \"bookworm\"\n\n[sync]\nlists = [\"site.synclist\"]\n";
    space.write("images/compute/image.toml", recipe);
    space.write("images/compute/site.synclist", "motd -> /etc/motd\nagent.conf -> /etc/agent.conf\n");
    space.write("images/compute/motd", "hello").write("images/compute/agent.conf", "one");
    space.write(
        "nodes.toml",
        &format!("[group.compute]\nnodes = \"{nodes}\"\nimage = \"compute\"\n\n[node.\"{nodes}\"]\n"),
    );
    space
}

/// Publishes a build with these files, as `build` does; its name. Readers look at the image's bytes, whatever its name says.
pub(crate) fn publish(space: &Space, tree: &Tree, words: &[&str], rootimg: &str) -> String {
    let root = tempfile::tempdir().unwrap();
    for (path, text) in tree {
        let path = root.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        if text.starts_with("#!") {
            std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        }
    }
    let file = |name: &str| json!({"name": name, "size": 1, "sha256": "0".repeat(64)});
    let image = format!("imgurl={{url}}/{rootimg}");
    let cmdline = [&[image.as_str(), "imgdigest=sha256:00"], words].concat();
    let info = json!({
        "format_version": "1.0", "name": "compute", "target": "debian bookworm amd64", "epoch": 0, "kernel_release": "6.12.0",
        "cmdline": cmdline, "memory": 900u64 << 20,
        "artefacts": [file("initrd-stateless"), file("kernel")], "layers": [["tree", format!("{tree:?}")]], "not_reproducible": [],
    });
    let text = format!("{info:#}\n");
    let build = base::digest::Sha256::of(text.as_bytes()).short();
    let directory = format!("images/compute/out/.builds/compute/{build}");
    for (name, text) in [("build.json", text.as_str()), ("kernel", "k"), ("initrd-stateless", "i")] {
        space.write(&format!("{directory}/{name}"), text);
    }
    let mut tar = Command::new("tar");
    tar.args(["--sort=name", "--owner=0", "--group=0", "-cf"]).arg(space.path().join(&directory).join(rootimg));
    assert!(tar.arg("-C").arg(root.path()).arg(".").status().unwrap().success());
    let link = space.path().join("images/compute/out/compute");
    let _ = std::fs::remove_file(&link);
    std::os::unix::fs::symlink(format!(".builds/compute/{build}"), link).unwrap();
    build
}

pub(crate) fn report(space: &Space, node: &str, state: &str, build: Option<&str>) {
    let mut text = json!({"format_version": "1.0", "state": state, "reason": "no disk", "time": 1});
    if let Some(build) = build {
        (text["image"], text["build"]) = ("compute".into(), build.into());
    }
    space.write(&format!(".imgbuild/nodes/reports/{node}.json"), &text.to_string());
}

fn document(space: &Space, more: &[&str]) -> Value {
    let ran = space.run(&[&["nodes", "--needs", "--json"], more].concat()).good();
    let document = serde_json::from_str(&ran.out).unwrap();
    crate::schemas::assert_valid("needs", &document);
    document
}

/// A node, and the answer for its builds.
fn of<'a>(document: &'a Value, name: &str) -> (&'a Value, &'a Value) {
    let node = document["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name).unwrap();
    let at = node["comparison"].as_u64();
    (node, at.map_or(&Value::Null, |at| &document["comparisons"][usize::try_from(at).unwrap()]["answer"]))
}

#[test]
fn each_node_has_the_smallest_restart_from_what_it_reported() {
    let space = site("cn[1-9]");
    let edited = |path: &'static str| {
        let mut tree = tree();
        tree.insert(path, "before");
        tree
    };
    let words = publish(&space, &tree(), &["nosmt"], "rootimg.sfs");
    let motd = publish(&space, &edited("etc/motd"), &[], "rootimg.sfs");
    let agent = publish(&space, &edited("etc/agent.conf"), &[], "rootimg.sfs");
    let unlisted = publish(&space, &edited("etc/site.txt"), &[], "rootimg.sfs");
    let again = publish(&space, &tree(), &[], "rootimg.tar");
    let now = publish(&space, &tree(), &[], "rootimg.sfs");
    for (node, build) in
        [("cn1", &now), ("cn2", &motd), ("cn3", &agent), ("cn4", &unlisted), ("cn5", &words), ("cn6", &again)]
    {
        report(&space, node, "up", Some(build));
    }
    report(&space, "cn7", "up", None);
    report(&space, "cn8", "up", Some("0123456789ab"));
    let document = document(&space, &[]);
    for (node, restart) in [
        ("cn1", "nothing"),
        ("cn2", "sync"),
        ("cn3", "restart"),
        ("cn4", "soft-reboot"),
        ("cn5", "reboot"),
        // Only the packed image differs.
        ("cn6", "nothing"),
        ("cn7", "reboot"),
        ("cn8", "reboot"),
        ("cn9", "reboot"),
    ] {
        let (entry, comparison) = of(&document, node);
        assert_eq!(entry["restart"], restart, "{node}: {entry} {comparison}");
        assert_eq!(entry["boots"]["build"], now.as_str());
    }
    assert_eq!(document["comparisons"].as_array().unwrap().len(), 6);
    let first = |node: &str| of(&document, node).1["reasons"][0].clone();
    assert_eq!(of(&document, "cn2").1["sync"], json!(["files"]));
    assert_eq!(of(&document, "cn3").1["services"], json!(["agent.service"]));
    assert_eq!(first("cn4")["paths"], json!(["etc/site.txt"]));
    assert_eq!(first("cn5")["word"], "nosmt");
    assert!(
        first("cn8")["text"]
            .as_str()
            .unwrap()
            .starts_with("not known: what differs: the build compute@0123456789ab is missing")
    );
    assert_eq!((&first("cn8")["known"], &of(&document, "cn7").0["runs"]), (&json!(false), &Value::Null));
    for node in ["cn7", "cn9"] {
        let entry = of(&document, node).0;
        assert!(entry["reason"].as_str().unwrap().starts_with("not known: ") && entry["help"].is_string(), "{entry}");
    }
    // For people, nodes with one answer together, and what is to be run.
    let ran = space.run(&["nodes", "--needs"]).good();
    for line in [
        format!("cn2: sync  compute@{motd} -> compute@{now}"),
        "$ imgbuild sync cn2 --files".to_owned(),
        "$ systemctl daemon-reload && systemctl try-restart agent.service".to_owned(),
        "cn1: nothing".to_owned(),
        "soft-reboot: etc/site.txt: no sync list and no package brings it to a running node".to_owned(),
        "reboot: kernel command line: `nosmt` is no longer there".to_owned(),
    ] {
        assert!(ran.out.contains(&line), "{line}\n{}", ran.out);
    }
    assert!(ran.err.contains("9 nodes: 2 nothing, 1 sync, 1 restart, 1 soft-reboot, 4 reboot"), "{}", ran.err);
}

#[test]
fn a_report_from_before_the_last_start_does_not_count() {
    let space = site("cn[1-2]");
    let now = publish(&space, &tree(), &[], "rootimg.sfs");
    for (node, time) in [("cn1", 2), ("cn2", 0)] {
        report(&space, node, "up", Some(&now));
        let asked = json!({"format_version": "1.0", "time": time, "from": "10.0.0.1"});
        space.write(&format!(".imgbuild/nodes/asked/{node}.json"), &asked.to_string());
    }
    let document = document(&space, &[]);
    let node = of(&document, "cn1").0;
    let text = "not known: it has started again and has not reported since";
    assert_eq!((&node["restart"], &node["reason"], &node["runs"]), (&json!("reboot"), &json!(text), &Value::Null));
    assert_eq!(of(&document, "cn2").0["restart"], "nothing");
}

#[test]
fn what_sync_would_bring_is_compared_with_the_build() {
    let space = site("cn1");
    let mut tree = tree();
    let before = publish(&space, &tree, &[], "rootimg.sfs");
    tree.insert("etc/motd", "new");
    publish(&space, &tree, &[], "rootimg.sfs");
    report(&space, "cn1", "up", Some(&before));
    let answer = || {
        let document = document(&space, &[]);
        let comparison = of(&document, "cn1").1.clone();
        (
            comparison["restart"].as_str().unwrap().to_owned(),
            comparison["reasons"][0]["text"].as_str().unwrap().to_owned(),
        )
    };
    // The file is as it was when the first build was made.
    assert_eq!(
        answer(),
        ("soft-reboot".to_owned(), "the file that the sync list names has changed since the build".to_owned())
    );
    space.write("images/compute/motd", "new");
    assert_eq!(answer().0, "sync");
    // A line for some nodes is not what the image has, and a list with an error brings nothing.
    space.write("images/compute/site.synclist", "motd -> (cn1) /etc/motd\n");
    assert_eq!(answer().0, "soft-reboot");
    space.write("images/compute/site.synclist", "nothing -> /etc/motd\n");
    let (restart, text) = answer();
    assert!(restart == "soft-reboot" && text.contains("`imgbuild check` shows"), "{restart} {text}");
}

#[test]
fn a_pair_of_builds_is_compared_once_for_all_nodes() {
    let space = site("cn[001-300]");
    let first = publish(&space, &tree(), &[], "rootimg.cpio.zst");
    for node in 1..=300 {
        report(&space, &format!("cn{node:03}"), "up", Some(&first));
    }
    let mut tree = tree();
    tree.insert("etc/site.txt", "two");
    let next = publish(&space, &tree, &[], "rootimg.cpio.zst");
    let unpinned = document(&space, &[]);
    assert_eq!(unpinned["comparisons"].as_array().unwrap().len(), 1);
    // Whether two unpacked images have room is not known.
    let (node, comparison) = of(&unpinned, "cn300");
    assert_eq!((&node["boots"]["build"], &node["restart"]), (&json!(next), &json!("reboot")));
    let text = comparison["reasons"][0]["text"].as_str().unwrap();
    assert!(text.starts_with("not known: ") && text.contains("900 MiB"), "{text}");
    report(&space, "cn002", "failed", Some(&first));
    let failed = document(&space, &["cn002"]);
    let (node, _) = of(&failed, "cn002");
    assert_eq!((&node["restart"], &node["reason"]), (&json!("reboot"), &json!("its last start failed: no disk")));
}

#[test]
fn nodes_that_boot_no_build_say_so() {
    let space = super::cluster();
    let document = document(&space, &["cn001"]);
    let (node, _) = of(&document, "cn001");
    assert_eq!((&node["restart"], &node["reason"]), (&Value::Null, &json!("nothing is published of `compute`")));
    assert!(node["help"].as_str().unwrap().contains("imgbuild build"));
    let (space, first) = super::nodeset::published();
    report(&space, "cn001", "up", Some(&first));
    nodeset(&space, &["cn001", "boot"]).good();
    let ran = space.run(&["nodes", "cn00[1-2]", "--needs"]).good();
    assert!(ran.out.contains("cn001: reboot  it runs a build, and it is to boot its disk"), "{}", ran.out);
    assert!(ran.out.contains("cn002: reboot  not known: it has not reported which build it runs"), "{}", ran.out);
    // What `nodeset` gave counts, not what is published since. A damaged image is no reason to guess.
    nodeset(&space, &["cn003", "compute"]).good();
    let second = super::nodeset::publish(&space, "compute", "second");
    report(&space, "cn003", "up", Some(&first));
    assert_eq!(space.run(&["nodes", "cn003", "--needs"]).good().out, "cn003: nothing\n");
    nodeset(&space, &["cn003", "compute"]).good();
    let ran = space.run(&["nodes", "cn003", "--needs"]).good();
    assert!(ran.out.contains("reboot: not known: what differs: ") && ran.out.contains(&second), "{}", ran.out);
    assert_eq!(space.run(&["nodes", "--needs", "--watch"]).code, 64);
}
