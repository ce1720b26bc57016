//! What is published can change though no action runs: the plan says so, and a plan file holds a build to it.

use super::store;
use crate::support::{Space, copy_tree, project};

fn space() -> Space {
    let space = Space::new().with_store(&store());
    copy_tree(&project().join("tests/fixtures/tiny"), space.path());
    space.write(
        "keys/admin.pub",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty publishing\n",
    );
    space.run(&["build", "--progress", "plain"]).good();
    assert_eq!(space.run(&["plan", "--detailed-exitcode"]).code, 0);
    space
}

/// Causes of what is published anew; the plan says that there is work.
fn causes(space: &Space, more: &[&str]) -> Vec<String> {
    let ran = space.run(&[&["plan", "--json", "--detailed-exitcode"], more].concat());
    assert_eq!(ran.code, 2, "{}", ran.out);
    let plan: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let stages = plan["images"][0]["stages"].as_array().unwrap();
    assert!(stages[..4].iter().all(|stage| stage["action"] == "keep"), "{}", ran.out);
    assert_eq!(stages[4]["stage"], "publish");
    stages[4]["causes"].as_array().unwrap().iter().map(|cause| cause["message"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn an_edit_of_the_command_line_is_published_and_planned_and_approved() {
    let space = space();
    let plan = space.path().join("plan.json");
    let plan = plan.to_str().unwrap();
    space.run(&["plan", "-o", plan]).good();
    space.edit("image.toml", "[\"console=ttyS0\"]", "[\"console=ttyS0\", \"quiet\"]\nroot_size = \"1G\"");
    assert_eq!(causes(&space, &[]), ["image.toml:22 boot.root_size = 1G", "image.toml:21 boot.cmdline += \"quiet\""]);
    let ran = space.run(&["build", "--plan", plan]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    assert!(ran.err.contains("quiet") && ran.err.contains("boot.root_size"), "{}", ran.err);
    space.run(&["build"]).good();
    let info = std::fs::read_to_string(space.artefact("tiny", "build.json")).unwrap();
    let ran = space.run(&["diff", "tiny@previous", "tiny"]).good();
    assert!(ran.out.contains("console=ttyS0 -> rootlimit=1G console=ttyS0 quiet"), "{}", ran.out);
    assert!(info.contains("rootlimit=1G") && info.contains("\"quiet\""), "{info}");
    assert_eq!(space.run(&["plan", "--detailed-exitcode"]).code, 0);
    // What is taken away stood somewhere, and the lines that stay have no part in it.
    space.edit("image.toml", "\"console=ttyS0\", ", "").edit("image.toml", "1G", "2G");
    assert_eq!(
        causes(&space, &[]),
        ["image.toml:22 boot.root_size 1G -> 2G", "image.toml boot.cmdline -= \"console=ttyS0\""]
    );
    // The word itself, as xCAT's sites write it, is one of the recipe's own.
    space.edit("image.toml", "[\"quiet\"]\nroot_size = \"2G\"", "[\"rootlimit=2G\", \"quiet\"]");
    space.run(&["build"]).good();
    assert_eq!(space.run(&["plan", "--detailed-exitcode"]).code, 0);
}

#[test]
fn an_edit_that_is_taken_back_is_published_from_what_is_kept() {
    let space = space();
    let first = std::fs::read(space.artefact("tiny", "build.json")).unwrap();
    let list = std::fs::read_to_string(space.path().join("tiny.exlist")).unwrap();
    space.write("tiny.exlist", &format!("{list}./usr/lib/locale/*\n"));
    space.run(&["build"]).good();
    assert_ne!(std::fs::read(space.artefact("tiny", "build.json")).unwrap(), first);
    space.write("tiny.exlist", &list);
    assert_eq!(causes(&space, &[]), ["tiny.exlist removed \"./usr/lib/locale/*\""]);
    space.run(&["build"]).good();
    assert_eq!(std::fs::read(space.artefact("tiny", "build.json")).unwrap(), first);
    assert_eq!(space.run(&["plan", "--detailed-exitcode"]).code, 0);
}

#[test]
fn against_a_revision_an_edit_of_the_command_line_is_work() {
    let space = space();
    let git = |arguments: &[&str]| {
        let ran = std::process::Command::new("git")
            .args(["-c", "user.name=t", "-c", "user.email=t@example.invalid"])
            .arg("-C")
            .arg(space.path())
            .args(arguments)
            .output()
            .unwrap();
        assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    };
    git(&["init", "-q"]);
    // Wherever `out` is, no commit takes the images.
    let listed =
        std::process::Command::new("git").arg("-C").arg(space.path()).args(["status", "-s", "-uall"]).output().unwrap();
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(listed.contains("image.toml") && !listed.contains(".builds"), "{listed}");
    space.write(".gitignore", "out/\n");
    git(&["add", "."]);
    git(&["commit", "-qm", "first"]);
    space.edit("image.toml", "[\"console=ttyS0\"]", "[\"console=ttyS1\"]");
    let told = causes(&space, &["--against", "HEAD"]);
    assert_eq!(told[0], "image.toml:21 boot.cmdline += \"console=ttyS1\"");
    let ran = space.run(&["plan", "--against", "HEAD", "--format", "github"]).good();
    assert!(ran.out.contains("file=image.toml,line=21"), "{}", ran.out);
}
