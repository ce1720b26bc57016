//! Recipes and repositories that somebody else wrote, as CI reads them for merge requests: what may be read of the machine,
//! and what is left behind.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::support::cluster::{cluster, commit_all, git, write_cluster};
use crate::support::{Ran, Space, imgbuild};

fn plan_against(space: &Space, revision: &str, temporary: &Path) -> Ran {
    let mut command = imgbuild();
    command.arg("-C").arg(space.path()).args(["plan", "--against", revision]).env("TMPDIR", temporary);
    command.output().unwrap().into()
}

fn names(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn what_is_read_of_a_revision_goes_away_whatever_ends_the_command() {
    let space = cluster();
    space.edit("compute.synclist", "motd ->", "many/* -> /srv/many/\nmotd ->");
    for number in 0..3000 {
        space.write(&format!("many/{number}"), &format!("{number}\n"));
    }
    git(space.path(), &["add", "-A", "-f"]);
    git(space.path(), &["commit", "-q", "-m", "many"]);
    let temporary = tempfile::tempdir().unwrap();
    let ran = plan_against(&space, "HEAD", temporary.path()).good();
    assert!(ran.out.contains("compute"), "{}", ran.out);
    assert_eq!(names(temporary.path()), [""; 0]);
    for signal in [Signal::TERM, Signal::INT, Signal::HUP, Signal::KILL] {
        let mut was_ended_by_it = false;
        for _ in 0..20 {
            // Below nohup, a hangup would end no child.
            let mut command = Command::new("env");
            command.args(["--default-signal=HUP", env!("CARGO_BIN_EXE_imgbuild")]).arg("-C").arg(space.path());
            command.args(["plan", "--against", "HEAD"]).env("TMPDIR", temporary.path());
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            while names(temporary.path()).is_empty() && child.try_wait().unwrap().is_none() {
                std::thread::sleep(Duration::from_micros(200));
            }
            let _ = kill_process(Pid::from_child(&child), signal);
            was_ended_by_it |= !child.wait().unwrap().success();
            let began = Instant::now();
            while !names(temporary.path()).is_empty() && began.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(1));
            }
            assert_eq!(names(temporary.path()), [""; 0], "after {signal:?}");
            if was_ended_by_it {
                break;
            }
        }
        assert!(was_ended_by_it, "no run was ended by {signal:?}");
    }
}

#[test]
fn of_a_large_repository_only_what_the_recipe_names_is_read() {
    let space = Space::new();
    write_cluster(&space, "images/compute");
    space.write("images/compute/beside/large", &"x".repeat(1 << 20));
    space.write("elsewhere/large", "y");
    commit_all(space.path());
    // An object that nobody needs may even be gone: a partial clone has none of them.
    for name in ["images/compute/beside/large", "elsewhere/large"] {
        let id = git(space.path(), &["rev-parse", &format!("HEAD:{name}")]);
        std::fs::remove_file(space.path().join(".git/objects").join(&id[..2]).join(&id[2..])).unwrap();
    }
    let plan = |name: &str| -> Ran {
        let mut command = imgbuild();
        command.arg("-C").arg(space.path().join("images/compute")).args(["plan", "--against", "HEAD", name]);
        command.output().unwrap().into()
    };
    let ran = plan("--json").good();
    let plan_of_it: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let stages = plan_of_it["images"][0]["stages"].as_array().unwrap();
    assert!(!stages.is_empty() && stages.iter().all(|stage| stage["action"] == "keep"), "{}", ran.out);
    // One that the recipe names is missed, and named.
    let id = git(space.path(), &["rev-parse", "HEAD:images/compute/motd"]);
    std::fs::remove_file(space.path().join(".git/objects").join(&id[..2]).join(&id[2..])).unwrap();
    let ran = plan("--json");
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
    assert!(ran.err.contains("images/compute/motd") && ran.err.contains("git fetch"), "{}", ran.err);
}

#[test]
fn a_recipe_that_is_a_link_out_of_its_directory_is_not_read_where_there_is_no_workspace() {
    let secret = "root:secret:1::\n";
    let space = Space::new();
    space.write("secret", secret).write("rec/motd", "x\n");
    symlink("../secret", space.path().join("rec/image.toml")).unwrap();
    let mut command = imgbuild();
    let ran: Ran = command.arg("-C").arg(space.path().join("rec")).arg("check").output().unwrap().into();
    assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{}", ran.err);
    assert!(ran.err.contains("is a link to") && !ran.err.contains("secret:1"), "{}", ran.err);
    // Of a revision: beside its files there is nothing that belongs to it.
    let space = cluster();
    let temporary = tempfile::tempdir().unwrap();
    std::fs::create_dir(temporary.path().join("other")).unwrap();
    std::fs::write(temporary.path().join("other/image.toml"), secret).unwrap();
    let real = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    for target in ["../other/image.toml", "/etc/passwd"] {
        std::fs::remove_file(space.path().join("image.toml")).unwrap();
        symlink(target, space.path().join("image.toml")).unwrap();
        git(space.path(), &["commit", "-q", "-a", "-m", "a link"]);
        std::fs::remove_file(space.path().join("image.toml")).unwrap();
        space.write("image.toml", &real);
        let ran = plan_against(&space, "HEAD", temporary.path()).good();
        assert!(!ran.out.contains("secret:1") && !ran.out.contains("root:"), "{}", ran.out);
        assert!(ran.out.contains("is a link to"), "{}", ran.out);
    }
}
