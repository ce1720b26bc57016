//! Recipes in KDL: the same as in TOML, messages and plans included.

use crate::support::{Space, without_paths};

fn kdl(text: &str) -> Space {
    let space = Space::new();
    space
        .write("image.kdl", text)
        .write("k.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty x\n");
    space
}

#[test]
fn a_recipe_in_kdl_is_read() {
    let space = kdl("image x release=bookworm\nsystem { authorized_keys k.pub }\npackages { install vim }\n");
    space.run(&["check"]).good();
    let plan = space.plan();
    assert_eq!(plan["images"][0]["name"], "x");
}

#[test]
fn mistakes_in_kdl_are_told_as_well_as_in_toml() {
    let space = kdl(
        "image x relase=bookworm\npackages {\n    list \"a.pkglist\"\n    base minbas\n}\npack level=99 compress=3\nkernell\nxcat node_support=\"yes\"\n",
    );
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!(without_paths(&ran.err, &space), @r##"
    recipe::unknown_key

      × `relase` is not a key of `image`
       ╭─[image.kdl:1:9]
     1 │ image x relase=bookworm
       ·         ───┬──
       ·            ╰── unknown key
     2 │ packages {
       ╰────
      help: did you mean `release`?

    recipe::missing_key

      × `image.release` is missing
       ╭─[image.kdl:1:1]
     1 │ image x relase=bookworm
       · ───────────┬───────────
       ·            ╰── here
     2 │ packages {
       ╰────
      help: add it; `imgbuild init` writes a recipe that has all of them (missing: image.release)

    recipe::unknown_key

      × `list` is not a key of `packages`
       ╭─[image.kdl:3:5]
     2 │ packages {
     3 │     list "a.pkglist"
       ·     ──┬─
       ·       ╰── unknown key
     4 │     base minbas
       ╰────
      help: did you mean `lists`?

    recipe::unknown_value

      × `packages.base` cannot be `minbas`
       ╭─[image.kdl:4:10]
     3 │     list "a.pkglist"
     4 │     base minbas
       ·          ───┬──
       ·             ╰── unknown value
     5 │ }
       ╰────
      help: did you mean "minbase"? It can be "essential", "minbase"

    recipe::range

      × `pack.level` must be in 1 to 19
       ╭─[image.kdl:6:12]
     5 │ }
     6 │ pack level=99 compress=3
       ·            ─┬
       ·             ╰── out of range
     7 │ kernell
       ╰────

    recipe::unknown_value

      × `pack.compress` cannot be `a whole number`
       ╭─[image.kdl:6:24]
     5 │ }
     6 │ pack level=99 compress=3
       ·                        ┬
       ·                        ╰── unknown value
     7 │ kernell
       ╰────
      help: it can be "zstd", "gzip", "xz", "lz4", "none"

    recipe::unknown_key

      × `kernell` is not a key of a recipe
       ╭─[image.kdl:7:1]
     6 │ pack level=99 compress=3
     7 │ kernell
       · ───┬───
       ·    ╰── unknown key
     8 │ xcat node_support="yes"
       ╰────
      help: did you mean `kernel`?

    recipe::wrong_type

      × `xcat.node_support` must be #true or #false, not a string
       ╭─[image.kdl:8:19]
     7 │ kernell
     8 │ xcat node_support="yes"
       ·                   ──┬──
       ·                     ╰── expected #true or #false
       ╰────

    the recipe has 8 errors
    "##);
}

#[test]
fn remedies_are_written_in_kdl() {
    let space = kdl(
        "image x release=bookworm\nkernel { drivers igb \"+ice\" }\npackages { lists a.pkglist }\nboot { tmpfs { \"tmp\" \"50m\" } }\n",
    );
    space.write("a.pkglist", "#INCLUDE:/opt/xcat/x#\nlinux-image-amd64\n#INCLUDE:$SITE/b#\n");
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!(without_paths(&ran.err, &space), @r##"
    include::missing

      × `/opt/xcat/x` cannot be included: /opt/xcat/x: no such file or directory
       ╭─[a.pkglist:1:1]
     1 │ #INCLUDE:/opt/xcat/x#
       · ──────────┬──────────
       ·           ╰── included by a.pkglist
     2 │ linux-image-amd64
       ╰────
      help: create the file or correct the path; an absolute path of an xCAT host can be mapped: xcat { path_map { "/opt/xcat/share/xcat" "vendor/xcat" } }

    include::variable

      × the variable `SITE` of `$SITE/b` is not set
       ╭─[a.pkglist:3:1]
     2 │ linux-image-amd64
     3 │ #INCLUDE:$SITE/b#
       · ────────┬────────
       ·         ╰── here
       ╰────
      help: set it in the recipe: environment { SITE "..." }

    boot::tmpfs_path

      × `tmp` is not an absolute path for a tmpfs
       ╭─[image.kdl:4:22]
     3 │ packages { lists a.pkglist }
     4 │ boot { tmpfs { "tmp" "50m" } }
       ·                      ──┬──
       ·                        ╰── here
       ╰────
      help: write for instance "/tmp" "50m"; the size of / is `boot` root_size

    kernel::drivers

      × `drivers` mixes edits and plain names
       ╭─[image.kdl:2:10]
     1 │ image x release=bookworm
     2 │ kernel { drivers igb "+ice" }
       ·          ─────────┬────────
       ·                   ╰── named here
     3 │ packages { lists a.pkglist }
       ╰────
      help: either edit the default list ("+ice", "-be2net"), or give a whole one ("ice", "igb")

    system::no_login

      ⚠ no one can log in: root is locked and has no key
       ╭─[image.kdl:1:1]
     1 │ image x release=bookworm
       · ▲
       · ╰── here
     2 │ kernel { drivers igb "+ice" }
       ╰────
      help: add to the recipe: system { authorized_keys "keys/admin.pub" }

    note: a.pkglist:2:1: `linux-image-amd64` is a kernel and is handled by `kernel`
    the recipe has 4 errors
    "##);
}

#[test]
fn syntax_errors_in_kdl_have_their_place() {
    let space = kdl("image x release=bookworm\nxcat { node_support true }\npackages {\n");
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 1);
    insta::assert_snapshot!(without_paths(&ran.err, &space), @r##"
    recipe::syntax

      × the recipe is not KDL: Expected identifier string
       ╭─[image.kdl:2:21]
     1 │ image x release=bookworm
     2 │ xcat { node_support true }
       ·                     ──┬─
       ·                       ╰── KDL 2 writes #true
     3 │ packages {
       ╰────
      help: write #true

    recipe::syntax

      × the recipe is not KDL: No closing '}' for child block
       ╭─[image.kdl:3:10]
     2 │ xcat { node_support true }
     3 │ packages {
       ·          ┬
       ·          ╰── here
       ╰────
      help: see https://kdl.dev for the syntax (KDL 2)

    recipe::syntax

      × the recipe is not KDL: Closing '}' was not found after nodes
       ╭─[image.kdl:3:11]
     2 │ xcat { node_support true }
     3 │ packages {
       ·           ┬
       ·           ╰── here
       ╰────
      help: see https://kdl.dev for the syntax (KDL 2)

    the recipe has 3 errors
    "##);
    let space = kdl(&"a /-{ ".repeat(40));
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("nested deeper than 4"), "{}", ran.err);
}

#[test]
fn two_recipes_and_none_are_errors_that_name_both_files() {
    let space = kdl("image x release=y\n");
    space.write("image.toml", "[image]\nname = \"x\"\nrelease = \"y\"\n");
    let ran = space.run(&["check"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("image.toml and image.kdl"), "{}", ran.err);
    let ran = Space::new().run(&["check"]);
    assert_eq!(ran.code, 1);
    assert!(ran.err.contains("neither image.toml nor image.kdl"), "{}", ran.err);
}

#[test]
fn check_as_takes_variables_from_a_recipe_in_kdl() {
    let space = kdl("image x release=y\nenvironment SITE=site\n");
    space.write("a.pkglist", "#INCLUDE:$SITE/b.pkglist#\n").write("site/b.pkglist", "vim\n");
    let list = space.path().join("a.pkglist");
    let ran = space.run(&["check", "--as", "pkglist", list.to_str().unwrap()]).good();
    assert!(ran.out.contains("vim"), "{}", ran.out);
}

#[test]
fn convert_writes_the_other_format_and_never_overwrites() {
    let space = Space::example("compute");
    let toml = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let ran = space.run(&["convert"]).good();
    assert!(ran.err.contains("remove"), "{}", ran.err);
    let kdl = std::fs::read_to_string(space.path().join("image.kdl")).unwrap();
    // Nothing was removed, so that there are two now.
    assert_eq!(space.run(&["check"]).code, 1);
    let again = space.run(&["convert", "image.toml"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("already exists"), "{}", again.err);
    std::fs::remove_file(space.path().join("image.toml")).unwrap();
    space.run(&["check"]).good();
    assert_eq!(space.run(&["convert", "--to", "kdl", "-o", "-"]).good().out, kdl);
    assert_eq!(space.run(&["convert", "--to", "kdl"]).code, 64);
    assert_eq!(space.run(&["convert", "-o", "x.kdl"]).code, 64);
    space.run(&["convert", "--replace"]).good();
    assert!(!space.path().join("image.kdl").exists());
    let back = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let value = |text: &str| toml::from_str::<serde_json::Value>(text).unwrap();
    assert_eq!(value(&back), value(&toml));
    space.run(&["check"]).good();
}

#[test]
fn each_example_plans_the_same_in_kdl() {
    // Only lines differ.
    let lines = regex::Regex::new(r#""line":[0-9]+"#).unwrap();
    for name in ["mini", "compute", "service"] {
        let space = Space::example(name);
        let before = space.plan();
        space.run(&["convert", "--replace"]).good();
        let text = |plan: &serde_json::Value| plan.to_string().replace("image.toml", "image.kdl");
        let plain = |plan: &serde_json::Value| lines.replace_all(&text(plan), "").into_owned();
        assert_eq!(plain(&space.plan()), plain(&before), "{name}");
    }
}

#[test]
fn init_writes_kdl_too() {
    let space = Space::new();
    space.run(&["init", "compute", "--format", "kdl"]).good();
    assert!(!space.path().join("image.toml").exists());
    let ran = space.run(&["check"]).good();
    assert!(!ran.err.contains("image.toml"), "{}", ran.err);
    let kdl = std::fs::read_to_string(space.path().join("image.kdl")).unwrap();
    assert!(kdl.contains("image name=\"compute\""), "{kdl}");
    assert_eq!(space.plan()["images"][0]["name"], "compute");
    // It says what the other says.
    let other = Space::new();
    other.run(&["init", "compute"]).good();
    let value = |text: &str| toml::from_str::<serde_json::Value>(text).unwrap();
    let toml = std::fs::read_to_string(other.path().join("image.toml")).unwrap();
    assert_eq!(value(&space.run(&["convert", "-o", "-"]).good().out), value(&toml));
    let again = space.run(&["init", "compute"]);
    assert_eq!(again.code, 1);
    assert!(again.err.contains("image.kdl` already exists"), "{}", again.err);
}
