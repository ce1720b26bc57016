//! Several images in one command, and in two at once: what they have in common is made once, and one that fails stops
//! no other.

use std::os::unix::fs::PermissionsExt;

use super::store;
use crate::support::{Ran, Space, copy_tree, imgbuild, project};

/// A base that is the image `tiny`, and three images that inherit from it; the script of one fails.
fn workspace() -> Space {
    let space = Space::new().with_store(&store());
    copy_tree(&project().join("tests/fixtures/tiny"), &space.path().join("base"));
    space.edit("base/image.toml", "name = \"tiny\"\n", "");
    space.write(
        "base/keys/admin.pub",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty x\n",
    );
    space.write("imgbuild.toml", "images = [\"images/*\"]\nout = \"out\"\n");
    let extends = "extends = \"../../base/image.toml\"\n\n";
    for (name, more) in [
        ("alpha", "[sync]\nlists = [\"a.synclist\"]\n"),
        ("beta", "[boot]\ncmdline = [\"quiet\"]\n"),
        ("bad", "[postinstall]\nscript = \"fail\"\n"),
    ] {
        space.write(&format!("images/{name}/image.toml"), &format!("{extends}[image]\nname = \"{name}\"\n\n{more}"));
    }
    space.write("images/alpha/a.synclist", "motd -> /etc/motd\n").write("images/alpha/motd", "alpha\n");
    space.write("images/bad/fail", "#!/bin/sh\necho the site server is not there\nexit 7\n");
    let script = space.path().join("images/bad/fail");
    std::fs::set_permissions(script, std::fs::Permissions::from_mode(0o755)).unwrap();
    space
}

fn events(ran: &Ran) -> Vec<serde_json::Value> {
    ran.err.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

fn begun(events: &[serde_json::Value], action: &str) -> usize {
    events.iter().filter(|event| event["event"] == "started" && event["action"] == action).count()
}

#[test]
fn network_images_share_what_they_agree_on_and_one_that_fails_stops_no_other() {
    let space = workspace();
    // New locks take the epoch of locks beside them: one with which no test has built yet.
    let epoch = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs() - 5000;
    let beside = format!("format = 1\nepoch = {epoch}\ntarget = \"debian bookworm x86_64\"\nsuite = []\npass = []\n");
    space.write("images/bad/image.old.lock", &beside);
    let ran = space.run(&["build", "--keep-going", "-j", "2", "--progress", "json"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    let all = events(&ran);
    for action in ["rootfs/base", "kernel/payload", "rootfs/kernel", "rootfs/system"] {
        assert_eq!(begun(&all, action), 1, "{action}");
    }
    for (event, image) in [("started", "alpha"), ("finished", "beta"), ("summary", "beta")] {
        assert!(all.iter().any(|one| one["event"] == event && one["image"] == image), "{event} {image}");
    }
    for (name, is_built) in [("alpha", true), ("beta", true), ("bad", false)] {
        assert_eq!(space.artefact(name, "build.json").exists(), is_built, "{name}");
    }
    let end = all.last().unwrap();
    assert_eq!(end["images"][1]["image"], "bad");
    let failure = &end["images"][1]["failures"][0];
    assert_eq!(failure["action"], "rootfs/postinstall");
    let log = std::fs::read_to_string(failure["log"].as_str().unwrap()).unwrap();
    assert!(log.contains("the site server is not there"), "{log}");
    assert_eq!(space.run(&["plan", "alpha", "beta", "--detailed-exitcode"]).code, 0);

    // In words; without --keep-going the next image is not begun.
    let ran = space.run(&["build", "--keep-going", "b*"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    let said = ran
        .err
        .rsplit("1 of 2 images were built\n")
        .next()
        .unwrap()
        .replace(space.store().to_str().unwrap(), "[STORE]");
    let said = regex::Regex::new(r"logs/\d+").unwrap().replace(&said, "logs/[PID]").into_owned();
    insta::assert_snapshot!(said);
    let ran = space.run(&["build", "-j", "1", "bad", "beta"]);
    assert_eq!(ran.code, 4, "{}", ran.err);
    assert!(ran.err.contains("beta not tried") && ran.err.contains("--keep-going"), "{}", ran.err);

    // With next to no memory actions run one after another, whatever -j says.
    space.write(
        "base/keys/admin.pub",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty xb\n",
    );
    let ran = space.run(&["build", "alpha", "beta", "--memory", "1", "-j", "4", "--progress", "json"]).good();
    let all = events(&ran);
    assert_eq!((begun(&all, "rootfs/system"), begun(&all, "rootfs/postinstall")), (1, 2));
    let mut running = 0;
    for event in &all {
        running += match event["event"].as_str() {
            Some("started") => 1,
            Some("finished") => -1,
            _ => 0,
        };
        assert!(running <= 1, "{}", ran.err);
    }

    // What both take together is said before and after; what they share counts once.
    space.write(
        "base/keys/admin.pub",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty xc\n",
    );
    let plan: serde_json::Value =
        serde_json::from_str(&space.run(&["plan", "alpha", "beta", "--json"]).good().out).unwrap();
    let total = &plan["estimate"];
    let actions = |image: &serde_json::Value| image["estimate"]["actions"].as_array().unwrap().len() as u64;
    let all: u64 = plan["images"].as_array().unwrap().iter().map(actions).sum();
    let (shared, unknown) = (total["shared"].as_u64().unwrap(), &total["unknown"]);
    assert!(shared >= 1 && total["actions"].as_u64().unwrap() + shared == all, "{total}");
    assert_eq!((unknown, &total["download_bytes"]["most"]), (&serde_json::json!(0), &serde_json::json!(0)));
    let most = |estimate: &serde_json::Value| estimate["milliseconds"]["most"].as_u64().unwrap();
    let longest = plan["images"].as_array().unwrap().iter().map(|image| most(&image["estimate"])).max().unwrap();
    assert!(most(total) >= longest, "{plan}");
    let ran = space.run(&["build", "alpha", "beta"]).good();
    for words in ["2 images together: estimate: ", "2 images together: estimated ", "shared and count once"] {
        assert!(ran.err.contains(words), "{words}: {}", ran.err);
    }

    // Two processes at once, and an epoch that no layer was made with yet.
    for name in ["alpha", "beta"] {
        let lock = std::fs::read_to_string(space.path().join(format!("images/{name}/image.lock"))).unwrap();
        let epoch = lock.lines().find(|line| line.starts_with("epoch")).unwrap();
        let seconds: i64 = epoch.rsplit(' ').next().unwrap().parse().unwrap();
        space.edit(&format!("images/{name}/image.lock"), epoch, &format!("epoch = {}", seconds - 1000));
    }
    let start = |name: &str| {
        let mut command = imgbuild();
        command.arg("-C").arg(space.path()).arg("--store").arg(space.store());
        command.args(["build", "--locked", "--until", "rootfs", "--progress", "json", name]);
        command.stderr(std::process::Stdio::piped()).spawn().unwrap()
    };
    let both = [start("alpha"), start("beta")].map(|child| Ran::from(child.wait_with_output().unwrap()).good());
    let all: Vec<_> = both.iter().flat_map(events).collect();
    for action in ["rootfs/base", "rootfs/system"] {
        assert_eq!(begun(&all, action), 1, "{action}");
    }
}
