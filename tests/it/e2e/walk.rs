//! What docs/nodes.md and docs/sync.md tell a new administrator: a node that is booted, synced, rebooted and synced again, from a
//! management node that has never seen it.

use std::collections::BTreeSet;

use super::machine::Node;
use super::netboot::{Cluster, Firmware, PATIENCE};
use crate::support::{Ran, project};

/// The management node: an empty home, nothing known of any node but what nodes report.
struct Administrator {
    cluster: Cluster,
    home: tempfile::TempDir,
    /// What `sync` was called with, as the page writes it.
    calls: BTreeSet<String>,
}

/// What docs/sync.md calls `sync` with at its beginning, for any range.
fn calls_of_the_page() -> BTreeSet<String> {
    let text = std::fs::read_to_string(project().join("docs/sync.md")).unwrap();
    let block = text.split("```sh\n").nth(1).unwrap().split("```").next().unwrap();
    let words = |line: &str| line.split(" #").next().unwrap().split_whitespace().skip(3).collect::<Vec<_>>().join(" ");
    let calls: BTreeSet<String> =
        block.lines().inspect(|line| assert!(line.starts_with("imgbuild sync "), "{line}")).map(words).collect();
    assert!(calls.len() > 4 && calls.contains(""), "{calls:?}");
    calls
}

impl Administrator {
    fn sync(&mut self, words: &[&str]) -> Ran {
        self.calls.insert(words.join(" "));
        let space = &self.cluster.space;
        let mut command = self.cluster.net.command(env!("CARGO_BIN_EXE_imgbuild"));
        command.arg("-C").arg(space.path()).arg("--store").arg(space.store()).args(["sync", "cn001"]).args(words);
        let ssh = format!("ssh -i {} -o IdentitiesOnly=yes", space.path().join("admin").display());
        command.args(["--ssh", &ssh]).envs([("NO_COLOR", "1"), ("COLUMNS", "100")]).env("HOME", self.home.path());
        command.output().unwrap().into()
    }

    fn build(&self) {
        self.cluster.run(&["build", "compute"]).good();
    }
}

#[track_caller]
fn logged_in(cluster: &Cluster) -> Node {
    let node = cluster.node(1);
    let began = std::time::Instant::now();
    while !node.connect() {
        assert!(began.elapsed() < PATIENCE, "the node does not answer:\n{}", cluster.text(1));
        std::thread::sleep(std::time::Duration::from_secs(1));
    }
    node
}

#[test]
fn network_privileged_boot_a_node_is_synced_rebooted_and_synced() {
    let mut one =
        Administrator { cluster: Cluster::new("ipxe"), home: tempfile::tempdir().unwrap(), calls: BTreeSet::new() };
    let recipe = "images/compute/image.toml";
    let motd = "images/compute/site/motd";
    one.cluster
        .space
        .write(motd, "as built\n")
        .write("images/compute/compute.synclist", "site/motd -> /etc/motd\n")
        .edit(
            recipe,
            "name = \"compute\"",
            "name = \"compute\"\n\n[node]\npostscripts = [\"site/hello\"]\n\n[sync]\nlists = [\"compute.synclist\"]",
        )
        .write("images/compute/site/hello", "#!/bin/sh\necho hello >>/run/hello\n");
    let script = one.cluster.space.path().join("images/compute/site/hello");
    std::fs::set_permissions(script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    one.build();
    one.cluster.run(&["nodeset", "cn001"]).good();
    let serving = one.cluster.serve();
    let machine = one.cluster.start(1, Firmware::Bios);
    let first = one.cluster.wait_for(1, "up", 0, &serving);
    let node = logged_in(&one.cluster);
    assert_eq!(node.run("cat /etc/motd"), "as built");
    let ran = one.sync(&[]).good();
    assert!(ran.out.contains("cn001: up to date"), "{}\n{}", ran.out, ran.err);

    // A change that is not built: the node has it at once, and no other file of it was touched.
    one.cluster.space.write(motd, "as synced\n");
    assert_eq!(one.sync(&["--check"]).code, 2);
    let ran = one.sync(&["--plan"]).good();
    assert!(ran.out.contains("cn001: would change") && ran.out.contains("/etc/motd"), "{}\n{}", ran.out, ran.err);
    assert_eq!(node.run("cat /etc/motd"), "as built");
    let ran = one.sync(&[]).good();
    assert!(ran.out.contains("cn001: changed") && ran.out.contains("/etc/motd"), "{}\n{}", ran.out, ran.err);
    assert_eq!(node.run("cat /etc/motd"), "as synced");
    assert_eq!(one.sync(&["--check"]).code, 0);

    // It starts again, diskless: with the files of its build, and with other host keys.
    let keys = node.run("cat /etc/ssh/ssh_host_ed25519_key.pub");
    one.cluster.net.end(machine);
    one.cluster.start(1, Firmware::Bios);
    let began = first["time"].as_u64().unwrap() + 1;
    assert_eq!(one.cluster.wait_for(1, "up", began, &serving)["build"], first["build"]);
    let node = logged_in(&one.cluster);
    assert_ne!(node.run("cat /etc/ssh/ssh_host_ed25519_key.pub"), keys);
    assert_eq!(node.run("cat /etc/motd"), "as built");
    assert_eq!(one.sync(&["--check"]).code, 2);
    let ran = one.sync(&[]).good();
    assert!(ran.out.contains("cn001: changed"), "{}\n{}", ran.out, ran.err);
    assert_eq!(node.run("cat /etc/motd"), "as synced");

    // A package comes with the next build's lock, without a restart.
    one.cluster.space.edit(recipe, "\n[sync]", "\n[packages]\ninstall = [\"tree\"]\n\n[sync]");
    let ran = one.sync(&["--packages"]);
    assert!(ran.code == 1 && ran.err.contains("imgbuild build"), "{}\n{}", ran.out, ran.err);
    one.build();
    let ran = one.sync(&["--packages"]).good();
    assert!(ran.out.contains("cn001: changed") && ran.out.contains("tree "), "{}\n{}", ran.out, ran.err);
    assert!(node.run("tree --version").contains("tree v"));

    // Its postscripts again, alone and with all else.
    assert_eq!(node.run("cat /run/hello"), "hello");
    let ran = one.sync(&["--scripts"]).good();
    assert!(ran.out.contains("hello") && ran.out.contains(" ran"), "{}\n{}", ran.out, ran.err);
    one.sync(&["--files", "--packages", "--scripts"]).good();
    assert_eq!(node.run("cat /run/hello"), "hello\nhello\nhello");
    let page = calls_of_the_page();
    assert!(page.is_subset(&one.calls), "the page says {page:?}, and {:?} were called", one.calls);
}
