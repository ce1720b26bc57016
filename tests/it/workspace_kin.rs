//! `extends`, `[remove]` and `[variant]`: what a recipe inherits, and what is said when that goes wrong.

use crate::support::{Space, without_paths};
use crate::workspace::run_in;

const BASE: &str = "[image]\nrelease = \"bookworm\"\n\n[packages]\nlists = [\"base.pkglist\"]\ninstall = [\"chrony\", \"vim\"]\n\n[kernel]\nversion = \"6.1.0-30-amd64\"\ndrivers = [\"+ice\"]\n\n[system]\nauthorized_keys = [\"keys/admin.pub\"]\n\n[environment]\nSITE = \"a\"\n";

/// A base with a list and a key of its own, and one image that inherits from it.
fn family(child: &str) -> Space {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    space.write("base/image.toml", BASE).write("base/base.pkglist", "less\n");
    space.write(
        "base/keys/admin.pub",
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty x\n",
    );
    space.write("images/compute/image.toml", child);
    space
}

const CHILD: &str = "extends = \"../../base/image.toml\"\n\n[image]\nname = \"compute\"\n";

/// What `check` says of the family with this child.
#[track_caller]
fn said(space: &Space, code: i32) -> String {
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, code, "{}", ran.err);
    without_paths(&ran.err, space)
}

/// Names of the images, and the files of their locks.
fn names(space: &Space) -> Vec<String> {
    let ran = space.run(&["list", "--json"]).good();
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    json["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_child_of_a_base_is_good_and_the_base_is_no_image() {
    let space = family(CHILD);
    assert_eq!(names(&space), ["compute"]);
    space.run(&["check"]).good();
    let ran = run_in(&space, "base", &["check"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("`image.name` is missing"), "{}", ran.err);
    // An inherited file that is gone is told at the line that names it.
    std::fs::remove_file(space.path().join("base/base.pkglist")).unwrap();
    insta::assert_snapshot!("inherited_file_is_missing", said(&space, 1));
}

#[test]
fn what_a_base_says_is_checked_even_where_it_is_overridden() {
    let space = family(&format!("{CHILD}\n[kernel]\nversion = \"6.1.0-31-amd64\"\n"));
    space.edit("base/image.toml", "version = \"6.1.0-30-amd64\"", "version = 6");
    space.edit("base/image.toml", "install", "instal");
    insta::assert_snapshot!(said(&space, 1));
}

#[test]
fn the_same_problem_of_a_shared_file_is_said_once() {
    let space = family(CHILD);
    space.write("images/login/image.toml", &CHILD.replace("compute", "login"));
    space.edit("base/image.toml", "chrony", "a;b");
    let said = said(&space, 1);
    assert_eq!(said.matches("a;b").count(), 2, "once in the message, once in the line shown:\n{said}");
    assert!(said.contains("base/image.toml:6:"), "{said}");
    assert!(said.contains("compute, login cannot be built"), "{said}");
}

#[test]
fn circles_are_refused_with_the_whole_chain() {
    let space = family(CHILD);
    space.write("base/image.toml", &format!("extends = [\"other.toml\"]\n{BASE}"));
    space.write("base/other.toml", "# inherits back\n\nextends = \"image.toml\"\n");
    insta::assert_snapshot!("circle", said(&space, 1));
    space.write("images/compute/image.toml", "extends = \"image.toml\"\n[image]\nname = \"compute\"\n");
    insta::assert_snapshot!("circle_of_one", said(&space, 1));
}

#[test]
fn parents_that_are_missing_no_file_or_outside_have_their_place() {
    let parents = "\"../../base/imag.toml\", \"../../base\", \"/etc/hosts\", 3";
    let text = CHILD.replace("\"../../base/image.toml\"", &format!("[{parents}]"));
    let space = family(&text);
    insta::assert_snapshot!("no_file_of_that_kind", said(&space, 1));
    space.edit("images/compute/image.toml", ", 3", "");
    insta::assert_snapshot!("missing_parents", said(&space, 1));
    let space = family(CHILD);
    std::fs::remove_file(space.path().join("imgbuild.toml")).unwrap();
    let ran = run_in(&space, "images/compute", &["check"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("an empty `imgbuild.toml` in a folder above both"), "{}", ran.err);
}

#[test]
fn a_chain_may_be_sixteen_files_deep() {
    let space = family("extends = \"1.toml\"\n[image]\nname = \"compute\"\n");
    let chain = |length: usize| {
        for number in 1..length {
            space.write(&format!("images/compute/{number}.toml"), &format!("extends = \"{}.toml\"\n", number + 1));
        }
        space.write(&format!("images/compute/{length}.toml"), "extends = \"../../base/image.toml\"\n");
        space.run(&["check"])
    };
    chain(15).good();
    let ran = chain(16);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("inherited too deep") && ran.err.contains("16.toml:1"), "{}", ran.err);
}

#[test]
fn removals_that_cannot_be_are_told() {
    let space = family(&format!(
        "{CHILD}\n[remove]\npackages.install = \"vim\"\nkernel.versio = true\nsystem = false\nimage.release = [\"x\"]\nnothing = true\n"
    ));
    insta::assert_snapshot!("removals_that_are_wrong", said(&space, 1));
    let space = family(&format!(
        "{CHILD}\n[remove]\npackages.install = [\"vin\"]\nkernel.dir = true\nenvironment.SIDE = true\nrepo = [\"site\"]\n"
    ));
    insta::assert_snapshot!("removals_of_nothing", said(&space, 0));
}

#[test]
fn variants_are_images_with_names_and_locks_of_their_own() {
    let variants = "\n[variant.old.image]\nrelease = \"bullseye\"\n\n[variant.gpu]\nimage.name = \"gpu-node\"\nkernel.drivers = [\"+nvme\"]\n";
    let space = family(&format!("{CHILD}{variants}"));
    assert_eq!(names(&space), ["compute-old", "gpu-node"]);
    space.edit("images/compute/image.toml", "extends", "plain = true\nextends");
    assert_eq!(names(&space), ["compute", "compute-old", "gpu-node"]);
    let plan = space.run(&["plan", "compute-*"]).good().out;
    assert!(plan.starts_with("compute-old\n") && !plan.contains("gpu"), "{plan}");
    let ran = space.run(&["build", "--locked", "compute-old"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    space.edit("images/compute/image.toml", "plain = true", "plain = false");
    let ran = space.run(&["plan", "compute"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("write 'compute-*', or plain = true in its recipe"), "{}", ran.err);
}

#[test]
fn variants_are_inherited_and_can_be_taken_out() {
    let space = family(CHILD);
    space.write(
        "base/image.toml",
        &format!("{BASE}\n[variant.old.image]\nrelease = \"bullseye\"\n\n[variant.new.image]\nrelease = \"trixie\"\n"),
    );
    assert_eq!(names(&space), ["compute-new", "compute-old"]);
    space.write("images/compute/image.toml", &format!("{CHILD}\n[remove]\nvariant.old = true\n"));
    assert_eq!(names(&space), ["compute-new"]);
    space.write("images/compute/image.toml", &format!("{CHILD}\n[remove]\nvariant.odl = true\n"));
    assert!(said(&space, 1).contains("no variant `odl` is inherited"));
    space.write("images/compute/image.toml", &format!("{CHILD}\n[remove]\nvariant = true\n"));
    assert_eq!(names(&space), ["compute"]);
}

#[test]
fn mistakes_in_variants_have_their_lines() {
    let variants =
        "\n[variant.\"a b\"]\n\n[variant.old.imag]\nrelease = \"x\"\n\n[variant.x]\nvariant = 1\nplain = true\n";
    insta::assert_snapshot!("variant_keys", said(&family(&format!("{CHILD}{variants}")), 1));
    let space = family(&format!("{CHILD}\n[variant.a.image]\nname = \"same\"\n\n[variant.b.image]\nname = \"same\"\n"));
    insta::assert_snapshot!("variants_of_one_name", said(&space, 1));
    let space = family(&format!("{CHILD}\n[variant.\"a b\"]\n"));
    insta::assert_snapshot!("variant_name", said(&space, 1));
}

#[test]
fn a_file_without_a_name_or_a_release_says_where_both_could_stand() {
    let space = family("extends = \"../../base/image.toml\"\n");
    space.edit("base/image.toml", "release = \"bookworm\"", "arch = \"x86_64\"");
    insta::assert_snapshot!(said(&space, 1));
}

/// Runs `check`, and fails instead of waiting for a writer to a FIFO for ever.
#[track_caller]
fn check_of_odd_file(space: &Space) -> String {
    let ran = std::process::Command::new("timeout")
        .args(["20", env!("CARGO_BIN_EXE_imgbuild"), "-C"])
        .arg(space.path())
        .arg("check")
        .env("NO_COLOR", "1")
        .env("COLUMNS", "1000")
        .output()
        .unwrap();
    let err = String::from_utf8_lossy(&ran.stderr).into_owned();
    assert_eq!(ran.status.code(), Some(1), "{err}");
    err
}

fn fifo(path: &std::path::Path) {
    assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
}

#[test]
fn a_recipe_that_is_no_file_is_an_error_and_not_passed_over() {
    use std::os::unix::fs::symlink;
    for (target, problem) in [
        (None, "image.toml` is a FIFO, not a file"),
        (Some("/dev/zero"), "is a link to `/dev/zero`, which is outside"),
        (Some("nowhere.toml"), "image.toml` is a dangling link"),
        (Some("image.toml"), "image.toml` is a symlink loop"),
    ] {
        let space = family(CHILD);
        let path = space.path().join("images/odd/image.toml");
        std::fs::create_dir(path.parent().unwrap()).unwrap();
        match target {
            Some(target) => symlink(target, &path).unwrap(),
            None => fifo(&path),
        }
        let said = check_of_odd_file(&space);
        assert!(said.contains("images/odd/image.toml") && said.contains(problem), "{target:?}: {said}");
    }
    let space = family(&CHILD.replace("image.toml", "pipe.toml"));
    fifo(&space.path().join("base/pipe.toml"));
    let said = check_of_odd_file(&space);
    assert!(said.contains("`../../base/pipe.toml` is a FIFO, not a file") && said.contains("image.toml:1:"), "{said}");
}

#[test]
fn a_recipe_may_be_a_link_within_the_workspace_and_not_out_of_it() {
    use std::os::unix::fs::symlink;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "root:secret:1::\n").unwrap();
    let space = family(CHILD);
    let path = space.path().join("images/compute/image.toml");
    std::fs::rename(&path, space.path().join("images/compute/real.toml")).unwrap();
    symlink("real.toml", &path).unwrap();
    space.run(&["check"]).good();
    std::fs::remove_file(&path).unwrap();
    symlink(secret.path(), &path).unwrap();
    let file = path.to_str().unwrap();
    let other = path.with_extension("kdl");
    for arguments in [
        &["check"][..],
        &["convert", file, "-o", "-"],
        &["convert", file],
        &["convert", "--replace", file],
        &["set", "compute", "image.release=trixie"],
        &["copy", "compute", "other"],
    ] {
        let ran = space.run(arguments);
        assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{arguments:?}: {}", ran.err);
        let said = ran.err.contains("is a link to") || ran.err.contains("no image");
        assert!(said && !ran.err.contains("secret"), "{arguments:?}: {}", ran.err);
        assert!(!other.exists() && !space.path().join("images/other").exists(), "{arguments:?}");
    }
    let ran = run_in(&space, "images/compute", &["convert"]);
    assert!(ran.code == 1 && ran.err.contains("is a link to") && !ran.err.contains("secret"), "{}", ran.err);
    assert_eq!(std::fs::read_to_string(secret.path()).unwrap(), "root:secret:1::\n");
}

#[test]
fn a_copy_of_a_recipe_that_is_a_link_leaves_the_file_that_it_leads_to() {
    let space = family(CHILD);
    let path = space.path().join("images/compute/image.toml");
    std::fs::rename(&path, space.path().join("images/shared.toml")).unwrap();
    std::os::unix::fs::symlink("../shared.toml", &path).unwrap();
    let before = std::fs::read_to_string(&path).unwrap();
    space.run(&["copy", "compute", "other"]).good();
    assert_eq!(std::fs::read_to_string(space.path().join("images/shared.toml")).unwrap(), before);
    let copied = space.path().join("images/other/image.toml");
    assert!(!copied.is_symlink());
    assert_eq!(std::fs::read_to_string(copied).unwrap(), before.replace("compute", "other"));
}

#[test]
fn what_is_wrong_with_a_recipe_is_said_before_that_no_image_has_the_name() {
    let space = family(&format!("{CHILD}\n[variant.big]\n"));
    space.write("base/image.toml", "junk junk\n");
    let ran = space.run(&["plan", "compute-big"]);
    assert_eq!(ran.code, 1);
    let (problem, unknown) = (ran.err.find("base/image.toml:1:6]"), ran.err.find("no image is called `compute-big`"));
    assert!(problem.is_some() && problem < unknown, "{}", ran.err);
    assert!(ran.err.contains("no image can be read"), "{}", ran.err);
}

#[test]
fn an_image_that_lost_its_name_is_called_as_its_directory() {
    let space = family(CHILD);
    space.write("images/beta/image.toml", "");
    for arguments in [&["check", "beta"][..], &["check", "images/beta"], &["plan", "beta"]] {
        let ran = space.run(arguments);
        assert_eq!(ran.code, 1);
        let said = &ran.err;
        assert!(said.contains("[image] is missing") && !said.contains("no image is called"), "{arguments:?}: {said}");
    }
}
