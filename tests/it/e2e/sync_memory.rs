//! What nodes that say what they like can take of the management node's memory: measured, all nodes of a command together.

use std::process::Stdio;
use std::time::Duration;

use base::digest::Sha256;
use build::requested;
use recipe::{Lock, LockedSuite, load};

use crate::support::{Space, imgbuild};

/// MiB that answers may cost: those that are counted, and what the program and its threads are.
const MOST: u64 = 768;

/// A workspace with nodes of an image, and an `ssh` that answers as a node's own program would.
fn site(answer: &str) -> Space {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"compute\"]\n");
    space.write(
        "compute/image.toml",
        "[image]\nname = \"compute\"\nrelease = \"bookworm\"\n[packages]\nbase = \"essential\"\n[sync]\nlists = [\"compute.synclist\"]\n",
    );
    space.write("compute/compute.synclist", "motd -> /etc/motd\n").write("compute/motd", "a node\n");
    space.write("nodes.toml", "[defaults]\nimage = \"compute\"\n[node.\"cn[1-8]\"]\n");
    let loaded = load(&space.path().join("compute"));
    let mut lock: Lock = requested(&loaded.recipe.unwrap_or_else(|| panic!("{:#?}", loaded.findings)));
    lock.suite = vec![LockedSuite { name: "bookworm".to_owned(), release: Sha256::of(b"x") }];
    space.write("compute/image.lock", &lock.to_text());
    let hello = "read -r line\necho \"imgbuild-sync 1 ${line#nonce=} 0 /var/lib/imgbuild/sync 77\"\necho ready\n";
    // What is sent to it is read, so that no one waits.
    space.write("ssh", &format!("{hello}cat >/dev/null &\n{answer}\n"));
    space
}

/// The most memory that a command had, in MiB, and what it said.
fn peak(space: &Space, words: &[&str]) -> (u64, String) {
    let mut command = imgbuild();
    command.arg("-C").arg(space.path()).arg("sync").args(["cn[1-8]", "--plan", "--timeout", "200"]).args(words);
    command.arg("--ssh").arg(format!("sh {}", space.path().join("ssh").display()));
    command.env("IMGBUILD_STORE", space.store());
    let said = std::fs::File::create(space.path().join("said")).unwrap();
    let mut child = command.stdin(Stdio::null()).stdout(said.try_clone().unwrap()).stderr(said).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        let status = std::fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
        peak = peak.max(kib.unwrap_or_default() >> 10);
        std::thread::sleep(Duration::from_millis(10));
    }
    (peak, std::fs::read_to_string(space.path().join("said")).unwrap())
}

#[test]
fn what_nodes_say_takes_no_more_memory_than_the_limit_whatever_its_shape() {
    for (shape, answer, words) in [
        ("lines of one letter", "echo 'F 1'; exec yes a", &["--files"][..]),
        ("scripts that wait", "exec seq -f 'q %.0f' 1 999999999", &["--files"]),
        ("packages", "echo l; exec seq -f 'ii \t%.0f\t1\ta' 1 999999999", &["--packages"]),
        // Each of them ends its answer within what it may say.
        (
            "surplus packages",
            "echo l; seq -f 'ii \t%.0f\t1\ta' 1 200000; echo .; echo 'l 0'; exec sleep 100",
            &["--packages"],
        ),
    ] {
        let space = site(answer);
        let (peak, said) = peak(&space, words);
        println!("{shape}: {peak} MiB");
        assert!(peak < MOST, "{shape}: {peak} MiB\n{said}");
        let is_refused = said.contains("longer than the limit for all nodes") || said.contains(" packages more");
        assert!(is_refused, "{shape}: {said}");
    }
}
