//! `imgbuild.toml`: which images there are, and which of them a command is for.

use std::process::Output;

use crate::support::{Ran, Space, imgbuild, without_paths};

const KEY: &str = "[system]\nauthorized_keys = [\"k.pub\"]\n";

/// Adds an image that checks without a word.
pub fn image(space: &Space, directory: &str, name: &str) {
    space.write(
        &format!("{directory}/image.toml"),
        &format!("[image]\nname = \"{name}\"\nrelease = \"bookworm\"\n\n{KEY}"),
    );
    space.write(
        &format!("{directory}/k.pub"),
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty x\n",
    );
}

pub fn three() -> Space {
    let space = Space::new();
    space.write("imgbuild.toml", "images = [\"images/*\"]\n");
    for name in ["compute", "login", "login-gpu"] {
        image(&space, &format!("images/{name}"), name);
    }
    space
}

pub fn run_in(space: &Space, below: &str, arguments: &[&str]) -> Ran {
    let output: Output = imgbuild()
        .arg("-C")
        .arg(space.path().join(below))
        .arg("--store")
        .arg(space.store())
        .args(arguments)
        .output()
        .unwrap();
    output.into()
}

/// Names of the images that a command is for.
fn chosen(space: &Space, below: &str, patterns: &[&str]) -> Vec<String> {
    let ran = run_in(space, below, &[&["list", "--json"], patterns].concat()).good();
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    json["images"].as_array().unwrap().iter().map(|image| image["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn where_one_stands_and_patterns_say_which_images() {
    let space = three();
    std::fs::create_dir_all(space.path().join("images/login/site/deep")).unwrap();
    std::fs::create_dir_all(space.path().join("docs")).unwrap();
    let all = ["compute", "login", "login-gpu"];
    assert_eq!(chosen(&space, "", &[]), all);
    assert_eq!(chosen(&space, "docs", &[]), all);
    assert_eq!(chosen(&space, "images", &[]), all);
    assert_eq!(chosen(&space, "images/login", &[]), ["login"]);
    assert_eq!(chosen(&space, "images/login/site/deep", &[]), ["login"]);
    assert_eq!(chosen(&space, "", &["login*"]), ["login", "login-gpu"]);
    assert_eq!(chosen(&space, "images/login", &["compute", "*gpu", "compute"]), ["compute", "login-gpu"]);
    for command in ["plan", "check"] {
        let ran = run_in(&space, "images/login", &[command, "compute"]).good();
        assert_eq!(ran.out.contains("compute"), command == "plan", "{}", ran.out);
    }
}

#[test]
fn a_recipe_that_no_glob_names_is_built_where_it_lies_and_needs_no_workspace() {
    let space = three();
    image(&space, "else/where", "alone");
    assert_eq!(chosen(&space, "else/where", &[]), ["alone"]);
    assert_eq!(run_in(&space, "else/where", &["list", "alone"]).code, 1);
    std::fs::remove_file(space.path().join("imgbuild.toml")).unwrap();
    assert_eq!(chosen(&space, "else/where", &["al*"]), ["alone"]);
    assert_eq!(chosen(&space, "images/login", &[]), ["login"]);
    assert_eq!(run_in(&space, "", &["plan"]).code, 1);
}

#[test]
fn globs_take_in_and_take_out_in_their_order() {
    let space = three();
    image(&space, "images/old/deep", "deep");
    image(&space, ".hidden", "hidden");
    let with = |images: &str| {
        space.write("imgbuild.toml", &format!("images = [{images}]\n"));
        chosen(&space, "", &[])
    };
    assert_eq!(with("\"**\""), ["compute", "deep", "login", "login-gpu"]);
    assert_eq!(with("\"**\", \"!images/login*\""), ["compute", "deep"]);
    assert_eq!(with("\"images/*\", \"!images/*\", \"images/login\""), ["login"]);
    assert_eq!(with("\"./images/{compute,login}/\""), ["compute", "login"]);
    assert_eq!(with("\"images/*/deep\""), ["deep"]);
}

/// What is said of a bad `imgbuild.toml`.
#[track_caller]
fn said_of(text: &str, code: i32) -> String {
    let space = three();
    space.write("imgbuild.toml", text);
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, code, "{}", ran.err);
    without_paths(&ran.err, &space)
}

#[test]
fn mistakes_in_the_workspace_have_their_lines_and_a_remedy() {
    insta::assert_snapshot!("workspace_keys", said_of("image = [\"x\"]\nout = 3\n\n[workspace]\nalow = []\n", 1));
    insta::assert_snapshot!("workspace_syntax", said_of("images = [\n", 1));
    insta::assert_snapshot!("workspace_escapes", said_of("images = [\"../*\", \"/etc\", \"a[\", \"\"]\n", 1));
    insta::assert_snapshot!(
        "workspace_no_directory",
        said_of("images = [\"images/login\", \"images\", \"nowhere\"]\n", 1)
    );
    insta::assert_snapshot!("workspace_no_match", said_of("images = [\"images/*\", \"roles/*\", \"!images/x*\"]\n", 0));
    insta::assert_snapshot!("workspace_empty", said_of("", 1));
}

#[test]
fn two_images_of_one_name_are_refused_with_both_places() {
    let space = three();
    image(&space, "images/other", "login");
    let ran = space.run(&["plan"]);
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!(without_paths(&ran.err, &space));
}

#[test]
fn a_pattern_that_means_no_image_names_near_ones() {
    let space = three();
    let said = |patterns: &[&str]| {
        let ran = space.run(&[&["plan"], patterns].concat());
        assert_eq!(ran.code, 1);
        assert_eq!(ran.out, "");
        ran.err.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(said(&["logn"]).contains("did you mean `login`?"), "{}", said(&["logn"]));
    let all = said(&["zzz", "images/compute"]);
    assert!(all.contains("there are compute, login, login-gpu"), "{all}");
    assert!(all.contains("the image of that directory is called `compute`"), "{all}");
    assert!(said(&["[a"]).contains("is not a pattern of names"));
}

#[test]
fn a_package_where_an_image_is_expected_says_what_is_meant() {
    let space = three();
    let ran = space.run(&["update", "openssl"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("`imgbuild update --package openssl`"), "{}", ran.err);
    assert!(!space.store().exists());
}

#[test]
fn a_command_for_one_image_wants_its_name_where_there_are_several() {
    let space = three();
    for command in [&["boot"][..], &["shell"], &["explain"], &["vendor", "kept"]] {
        let ran = space.run(command);
        assert_eq!(ran.code, 64, "{command:?}: {}", ran.err);
        assert!(ran.err.contains("compute, login, login-gpu"), "{}", ran.err);
    }
    for command in [&["boot", "login"][..], &["explain", "--image", "login"], &["vendor", "kept", "login"]] {
        let ran = space.run(command);
        assert_eq!(ran.code, 1, "{command:?}: {}", ran.err);
        assert!(!ran.err.contains("name it"), "{}", ran.err);
    }
}

#[test]
fn a_broken_recipe_stops_all_but_not_those_that_are_named() {
    let space = three();
    space.write("images/login/image.toml", "[image\n");
    let ran = space.run(&["plan"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("images/login/image.toml:1:"), "{}", ran.err);
    assert!(ran.out.is_empty());
    let ran = space.run(&["plan", "compute"]).good();
    assert!(ran.err.contains("the recipe in `images/login` cannot be read"), "{}", ran.err);
    assert_eq!(space.run(&["plan", "login"]).code, 1);
    let json = space.run(&["check", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&json.out).unwrap();
    let images: Vec<_> = json["images"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["name"].as_str().unwrap(), one["good"].as_bool().unwrap()))
        .collect();
    assert_eq!(images, [("compute", true), ("images/login", false), ("login-gpu", true)]);
    assert_eq!(json["findings"][0]["file"], "images/login/image.toml");
}

#[test]
fn the_workspace_allows_paths_and_maps_them_for_all_images() {
    let space = three();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("a.pkglist"), "vim\n").unwrap();
    let real = outside.path().canonicalize().unwrap();
    for name in ["compute", "login"] {
        let list = real.join("a.pkglist");
        space.edit(
            &format!("images/{name}/image.toml"),
            "[system]",
            &format!("[packages]\nlists = [\"{}\", \"/opt/site/b.pkglist\"]\n\n[system]", list.display()),
        );
    }
    space.write("lists/b.pkglist", "less\n");
    assert_eq!(space.run(&["check"]).code, 1);
    let allow = format!("[workspace]\nallow = [\"{}/**\"]\n", real.display());
    space.write(
        "imgbuild.toml",
        &format!(
            "images = [\"images/*\"]\nout = \"built\"\n{allow}[xcat]\npath_map = {{ \"/opt/site\" = \"lists\" }}\n"
        ),
    );
    space.run(&["check"]).good();
    let ran = space.run(&["boot", "login"]);
    assert!(ran.err.contains("built/login"), "{}", ran.err);
}

#[test]
fn a_workspace_that_is_no_file_is_an_error_and_not_passed_over() {
    use std::os::unix::fs::symlink;
    for (target, problem) in [
        (None, "imgbuild.toml` is a FIFO, not a file"),
        (Some("pipe"), "imgbuild.toml` is a link to `pipe`, which is a FIFO, not a file"),
        (Some("gone/site.toml"), "imgbuild.toml` is a link to `gone/site.toml`, which does not exist"),
        (Some("imgbuild.toml"), "imgbuild.toml` is a link to `imgbuild.toml`, which is a symlink loop"),
        (Some("images"), "imgbuild.toml` is a link to `images`, which is a directory, not a file"),
    ] {
        let space = three();
        let path = space.path().join("imgbuild.toml");
        std::fs::remove_file(&path).unwrap();
        let fifo = |path: &std::path::Path| {
            assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
        };
        fifo(&space.path().join("pipe"));
        match target {
            Some(target) => symlink(target, &path).unwrap(),
            None => fifo(&path),
        }
        for (below, command) in [("", "check"), ("images/login", "plan"), ("images/login", "list"), ("", "init")] {
            let ran: Ran = std::process::Command::new("timeout")
                .args(["20", env!("CARGO_BIN_EXE_imgbuild"), "-C"])
                .arg(space.path().join(below))
                .arg("--store")
                .arg(space.store())
                .args(if command == "init" { vec!["init", "new"] } else { vec![command] })
                .env("COLUMNS", "1000")
                .output()
                .unwrap()
                .into();
            assert_eq!((ran.code, ran.out.as_str()), (1, ""), "{target:?} {command}: {}", ran.err);
            assert!(ran.err.contains(problem), "{target:?} {command}: {}", ran.err);
            assert!(ran.err.contains("put a file there, or remove it"), "{}", ran.err);
        }
    }
}

#[test]
fn a_directory_whose_name_is_no_utf_8_is_told_and_not_passed_over() {
    use std::os::unix::ffi::OsStrExt;
    let space = three();
    let name = std::ffi::OsStr::from_bytes(b"gpu-\xff\n");
    let odd = space.path().join("images").join(name);
    std::fs::create_dir(&odd).unwrap();
    // Without a recipe it is not an image.
    for pattern in ["images/*", "images/g*", "**"] {
        space.write("imgbuild.toml", &format!("images = [\"images/login\", \"{pattern}\"]\n"));
        assert!(!space.run(&["check"]).err.contains("UTF-8"));
    }
    std::fs::copy(space.path().join("images/login/image.toml"), odd.join("image.toml")).unwrap();
    for pattern in ["images/*", "images/g*", "**"] {
        let text = format!("images = [\"images/login\", \"{pattern}\"]\n");
        space.write("imgbuild.toml", &text);
        for command in ["check", "plan", "list"] {
            let ran = space.run(&[command]);
            assert_eq!(ran.code, 1, "{}", ran.err);
            for said in [
                "imgbuild.toml:1:27",
                "the name of the directory `images/gpu-\\xff\\n` is not UTF-8",
                "rename the directory",
                "\"!images/gpu-*\"",
            ] {
                assert!(ran.err.contains(said), "{said}\n{}", ran.err);
            }
        }
        space.write("imgbuild.toml", &text.replace(']', ", \"!images/gpu-*\"]"));
        let left: &[&str] = if pattern == "images/g*" { &["login"] } else { &["compute", "login", "login-gpu"] };
        assert_eq!(chosen(&space, "", &[]), left);
    }
}
