//! Mistakes of a first day that `check` and `plan` tell before anything is built, each at its file and line.

use crate::support::{Ran, Space, imgbuild};

const RECIPE: &str = "[image]\nname = \"n\"\nrelease = \"bookworm\"\n";
const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty admin@site\n";

fn space(more: &str) -> Space {
    let space = Space::new();
    space.write("image.toml", &format!("{RECIPE}{more}"));
    space
}

#[track_caller]
fn said(space: &Space, code: i32, words: &[&str]) {
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, code, "{}", ran.err);
    // Lines are folded, also within words.
    let flat = |text: &str| text.split_whitespace().filter(|word| *word != "│").collect::<String>();
    let told = flat(&ran.err);
    for word in words {
        assert!(told.contains(&flat(word)), "{word}: {}", ran.err);
    }
}

fn script(space: &Space, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    space.write("post", text);
    std::fs::set_permissions(space.path().join("post"), std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn a_script_that_nothing_could_run_is_told() {
    let own = space("[postinstall]\nscript = \"post\"\n");
    for (text, words) in [
        ("#!/bin/sh\r\necho\r\n", &["image.toml:5", "Windows", "sed -i 's/\\r$//' post"][..]),
        ("#!/usr/bin/python3\n", &["image.toml:5", "needs /usr/bin/python3", "tools = [\"python3\"]"]),
        ("#!/usr/bin/env python3\n", &["needs python3", "tools = [\"python3\"]"]),
        ("#!sh\n", &["`sh`, which is not an absolute path"]),
        ("echo\n", &["does not say which interpreter runs it", "#!/bin/sh"]),
    ] {
        script(&own, text);
        said(&own, 1, words);
    }
    for text in ["#!/bin/sh\n", "#! /bin/bash -e\n", "#!/usr/bin/env bash\n", "#!/usr/bin/perl -w\n"] {
        script(&own, text);
        said(&own, 0, &[]);
    }
    let with_tools = space("[postinstall]\nscript = \"post\"\ntools = [\"python3-yaml\"]\n");
    script(&with_tools, "#!/usr/bin/python3\n");
    said(&with_tools, 0, &[]);
}

#[test]
fn what_opens_no_login_is_told() {
    let own = space("[system]\nauthorized_keys = [\"admin.pub\"]\n");
    for (text, words) in [
        ("hello world\n", &["admin.pub:1:1", "names no key type", "ssh-keygen"][..]),
        (&format!("# ours\n{KEY}ssh-rsa AAAAB3Nz\n"), &["admin.pub:3:1", "truncated or damaged"]),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", &["is a private key", ".pub"]),
        ("---- BEGIN SSH2 PUBLIC KEY ----\n", &["SSH2", "ssh-keygen -i -f admin.pub"]),
        ("# nobody\n", &["image.toml:5", "contains no key"]),
    ] {
        own.write("admin.pub", text);
        said(&own, 1, words);
    }
    own.write("admin.pub", &format!("# ours\n\nfrom=\"10.0.0.0/8\" {KEY}"));
    said(&own, 0, &[]);
}

#[test]
fn keys_of_a_repository_that_are_none_are_told() {
    let own = space("[[repo]]\nuri = \"http://mirror.invalid/x\"\nsuites = [\"./\"]\nsigned-by = \"x.gpg\"\n");
    own.write("x.gpg", "<html>404 Not Found</html>\n");
    said(&own, 1, &["image.toml:7", "`x.gpg` contains no usable keys"]);
    let path = crate::support::project().join("crates/pgp/src/keys/debian-archive.asc");
    std::fs::copy(path, own.path().join("x.gpg")).unwrap();
    said(&own, 0, &[]);
}

#[test]
fn drivers_and_packages_that_mean_nothing_are_told() {
    let own = space("[kernel]\ndrivers = [\"+ice\", \"-be2nett\"]\n");
    said(&own, 0, &["image.toml:5", "`-be2nett` removes nothing", "\"-be2net\""]);
    let own = space("[otherpkgs]\ndir = \"debs\"\n");
    own.write("debs/readme.txt", "");
    said(&own, 0, &["image.toml:5", "there is no .deb file in or below `debs`"]);
}

#[test]
fn repositories_that_cannot_be_meant_are_told() {
    for (repo, words) in [
        ("uri = \"http://m\"\nsuites = [\"./\"]\ncomponents = [\"main\"]\n", "it has no components"),
        ("uri = \"http://m\"\nsuites = [\"bookworm\"]\n", "suites = [\"./\"]"),
        ("uri = \"http://m\"\nsuites = [\"../../x\"]\ncomponents = [\"main\"]\n", "not a suite or component"),
        ("source = \"host\"\ntrusted = true\n", "the distribution's own archives"),
        ("source = \"host\"\nfile = \"a.sources\"\n", "one of `source`, `uri` and `file`"),
    ] {
        let own = space(&format!("[[repo]]\n{repo}"));
        own.write("a.sources", "");
        said(&own, 1, &["image.toml:4", words]);
    }
}

#[test]
fn places_of_lists_are_those_of_the_line() {
    let own = space("[packages]\nlists = [\"a.pkglist\"]\n");
    std::fs::write(own.path().join("a.pkglist"), b"bash\nna\xefve\n").unwrap();
    said(&own, 1, &["a.pkglist:2:3", "this is not UTF-8", "iconv"]);
    let own = space("[exclude]\nlists = [\"a.exlist\"]\n");
    own.write("a.exlist", "./usr/share/doc[a\n./usr/share/man[ab]*\n./opt/x[]]\n");
    said(&own, 0, &["a.exlist:1:1", "is not closed"]);
    let ran = own.run(&["check"]);
    assert_eq!(ran.err.matches("is not closed").count(), 1, "{}", ran.err);
}

#[test]
fn a_conflict_in_the_lock_is_told_with_the_way_out() {
    let own = space("");
    own.write("image.lock", "format = 1\n<<<<<<< HEAD\nepoch = 1\n=======\nepoch = 2\n>>>>>>> theirs\n");
    said(&own, 1, &["image.lock:2:1", "both sides of a git conflict", "git checkout --ours", "imgbuild build"]);
}

#[test]
fn the_bare_command_names_three_others() {
    let ran: Ran = imgbuild().output().unwrap().into();
    assert_eq!((ran.code, ran.err.lines().count(), ran.out.as_str()), (64, 3, ""), "{}", ran.err);
    for command in ["imgbuild init NAME ", "imgbuild build ", "imgbuild help "] {
        assert!(ran.err.contains(command), "{}", ran.err);
    }
}

#[test]
fn messages_are_coloured_as_asked() {
    let space = Space::new();
    space.write("image.toml", "[image]\nname = 7\n");
    let plain = space.run(&["check"]);
    assert!(plain.code == 1 && !plain.err.contains('\x1b'), "{}", plain.err);
    let coloured = space.run(&["--color", "always", "check"]);
    assert!(coloured.code == 1 && coloured.err.contains("\x1b["), "{}", coloured.err);
    let never = space.run_with(&["check", "--color", "never"], &[("CLICOLOR_FORCE", "1"), ("FORCE_COLOR", "1")]);
    assert_eq!(never.err, plain.err);
}

#[test]
fn a_dry_run_is_the_plan_and_does_nothing() {
    let space = Space::example("mini");
    let plan = space.run(&["plan"]).good();
    let dry = space.run(&["build", "--dry-run"]).good();
    assert_eq!(dry.out, plan.out);
    assert!(!space.path().join("out").exists());
    let ran = space.run(&["build", "--dry-run", "--verify"]);
    assert!(ran.code == 64 && ran.err.contains("--verify"), "{}", ran.err);
    // Quiet is no kind of verbose.
    assert_eq!(space.run(&["build", "-q", "-v"]).code, 64);
}
