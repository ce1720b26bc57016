//! `roll`: what it refuses, what it plans, and what it does with nodes that have the build already. Slurm's commands are scripts.

use std::os::unix::fs::PermissionsExt;

use super::needs::{publish, report, site, tree};
use crate::support::{Ran, Space};

/// A workspace with two builds, the second published; cn1 runs that, cn2 and cn3 the first, which has another kernel command line.
fn cluster() -> Space {
    let space = site_of(&[("cn2", "nosmt"), ("cn3", "nosmt")]);
    let second = publish(&space, &tree(), &[], "rootimg.sfs");
    report(&space, "cn1", "up", Some(&second));
    space
}

/// A workspace with three nodes, of which some run a build with another word of the kernel command line.
fn site_of(words: &[(&str, &str)]) -> Space {
    let space = site("cn[1-3]");
    for (node, word) in words {
        let build = publish(&space, &tree(), &[word], "rootimg.sfs");
        report(&space, node, "up", Some(&build));
    }
    let nodes = std::fs::read_to_string(space.path().join("nodes.toml")).unwrap();
    let out = space.path().join("tftpboot");
    std::fs::create_dir(&out).unwrap();
    let more = format!(
        "\n[nodeset]\nout = \"{}\"\nurl = \"http://10.0.0.1\"\n\n[defaults]\nloader = \"ipxe\"\n",
        out.display()
    );
    let macs = "mac = \"52:54:00:00:00:0[1-3]\"\n";
    space.write("nodes.toml", &format!("{nodes}{macs}{more}"));
    space
}

/// Runs `roll` with these words of Slurm's commands.
fn roll(space: &Space, scontrol: &str, more: &[&str]) -> Ran {
    let folder = space.path().join("slurm");
    for (name, text) in [("scontrol", scontrol), ("squeue", "exit 0")] {
        space.write(&format!("slurm/{name}"), &format!("#!/bin/sh\n{text}\n"));
        std::fs::set_permissions(folder.join(name), std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap());
    space.run_with(&[&["roll"], more].concat(), &[("PATH", &path), ("TZ", "Nowhere/At-All")])
}

const ANSWERS: &str = "[ \"$1\" = -o ] || exit 9
echo 'NodeName=cn1 Arch=x86_64 State=IDLE ThreadsPerCore=1'
echo 'NodeName=cn2 Arch=x86_64 State=MIXED ThreadsPerCore=1'
echo 'NodeName=cn3 Arch=x86_64 State=IDLE+DRAIN ThreadsPerCore=1 Reason=bad DIMM [root@2026-11-30T10:00:00]'";

#[test]
fn what_is_not_known_is_refused_with_the_remedy() {
    let space = cluster();
    let cases: &[(&str, &[&str], i32, &str)] = &[
        (ANSWERS, &["cn[1-3]", "compute"], 64, "--scheduler slurm drains nodes"),
        (ANSWERS, &["cn9", "compute", "--scheduler", "slurm"], 1, "cn9"),
        (ANSWERS, &["cn1", "nothing", "--scheduler", "slurm"], 1, "there is no image `nothing`"),
        (ANSWERS, &["cn1", "compute", "--scheduler", "slurm", "--window", "22-06"], 64, "HH:MM-HH:MM"),
        (
            ANSWERS,
            &["cn1", "compute", "--scheduler", "slurm", "--window", "22:00-06:00"],
            3,
            "timedatectl set-timezone",
        ),
        ("echo no controller >&2; exit 1", &["cn1", "compute", "--scheduler", "slurm"], 3, "Slurm does not answer"),
        ("echo no controller >&2; exit 1", &["cn1", "compute", "--scheduler", "slurm", "--plan"], 3, "scontrol ping"),
    ];
    for (scontrol, words, code, text) in cases {
        let ran = roll(&space, scontrol, words);
        assert_eq!((ran.code, ran.err.contains(text)), (*code, true), "{words:?}: {}", ran.err);
    }
    assert!(!space.path().join(".imgbuild/nodes/roll.json").exists());
    let ran = roll(&space, ANSWERS, &["--abort"]);
    assert_eq!(ran.code, 0, "{}", ran.err);
}

#[test]
fn lists_that_have_changed_since_the_build_are_refused_before_a_node_is_drained() {
    let space = site_of(&[]);
    let mut edited = tree();
    edited.insert("etc/motd", "before");
    let first = publish(&space, &edited, &[], "rootimg.sfs");
    publish(&space, &tree(), &[], "rootimg.sfs");
    report(&space, "cn1", "up", Some(&first));
    let words = ["cn1", "compute", "--scheduler", "slurm"];
    let planned = roll(&space, ANSWERS, &[&words[..], &["--plan"]].concat()).good();
    assert!(planned.out.contains("batch 1 (canary): cn1: sync"), "{}", planned.out);
    space.write("images/compute/agent.conf", "not built");
    // Any order but a look fails otherwise than that.
    for more in [&["--plan"][..], &[]] {
        let ran = roll(&space, ANSWERS, &[&words[..], more].concat());
        assert_eq!(ran.code, 1, "{}", ran.err);
        assert!(ran.err.contains("changed since compute@") && ran.err.contains("etc/agent.conf"), "{}", ran.err);
    }
    // Nodes that no sync is for do not need the lists.
    let other = publish(&space, &tree(), &["nosmt"], "rootimg.sfs");
    report(&space, "cn1", "up", Some(&other));
    publish(&space, &tree(), &[], "rootimg.sfs");
    let planned = roll(&space, ANSWERS, &[&words[..], &["--plan"]].concat()).good();
    assert!(planned.out.contains("cn1: reboot"), "{}", planned.out);
    assert!(!space.path().join(".imgbuild/nodes/assigned.json").exists());
}

#[test]
fn a_plan_has_each_node_and_changes_nothing() {
    let space = cluster();
    let ran =
        roll(&space, ANSWERS, &["cn[1-3]", "compute", "--scheduler", "slurm", "--plan", "--max-down", "2"]).good();
    for line in ["at once: cn1: nothing", "batch 1 (canary): cn2: reboot", "left alone: cn3  (it is drained: bad DIMM)"]
    {
        assert!(ran.out.contains(line), "{line}: {}", ran.out);
    }
    let ran = roll(&space, ANSWERS, &["cn[1-3]", "compute", "--scheduler", "slurm", "--plan", "--json"]).good();
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    crate::schemas::assert_valid("roll", &document);
    assert_eq!(document["nodes"].as_array().unwrap().len(), 3);
    assert!(!space.path().join(".imgbuild/nodes/assigned.json").exists());
}

#[test]
fn nodes_that_have_the_build_are_not_touched() {
    let space = cluster();
    // Any order but a look fails.
    let ran = roll(&space, ANSWERS, &["cn1", "compute", "--scheduler", "slurm"]).good();
    assert!(ran.err.contains("1 node done"), "{}", ran.err);
    let assigned = std::fs::read_to_string(space.path().join(".imgbuild/nodes/assigned.json")).unwrap();
    assert!(assigned.contains("cn1") && !assigned.contains("cn2"), "{assigned}");
    let ran = roll(&space, ANSWERS, &["cn[1,3]", "compute", "--scheduler", "slurm", "--max-down", "2"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.err.contains("cn3: left alone: it is drained: bad DIMM"), "{}", ran.err);
}

/// What the page shows of a roll is what the roll keeps, as it goes on.
#[test]
fn the_page_shows_how_far_a_roll_is() {
    use roll::{Build, Record, Scheduler, Stage};
    let space = cluster();
    let state = nodes::State::of(space.path(), None);
    let mut command = crate::support::server::command(&["--listen", "127.0.0.1:0"]);
    command.current_dir(space.path());
    let server = crate::support::server::started(command);
    let page = || String::from_utf8(server.get("/", "").1).unwrap();
    assert!(!page().contains("Roll"), "{}", page());
    let target = Build { image: "compute".to_owned(), build: "0123456789abcdef".to_owned() };
    let node = |stage: Stage| {
        let text = serde_json::json!({"stage": stage});
        serde_json::from_value::<roll::Node>(text).unwrap()
    };
    let mut nodes = std::collections::BTreeMap::from([("cn1".to_owned(), node(Stage::Done))]);
    nodes.insert("cn2".to_owned(), roll::Node { problem: Some("no answer".to_owned()), ..node(Stage::Failed) });
    let order = vec!["cn1".to_owned(), "cn2".to_owned()];
    let roll =
        roll::Roll { id: "r1".to_owned(), target, scheduler: Scheduler::None, time: 1, order, nodes, batches: 1 };
    let record = Record { format_version: "1.0".to_owned(), roll: Some(roll), ..Record::default() };
    state.set_roll(&record).unwrap();
    let shown = page();
    assert!(shown.contains("2 nodes to <code>compute@0123456789ab</code>: 1 done, 1 failed"), "{shown}");
    assert!(shown.contains("<li>cn2 failed: no answer</li>"), "{shown}");
    state.set_roll(&Record { roll: None, ..record }).unwrap();
    assert!(!page().contains("Roll"), "{}", page());
}
