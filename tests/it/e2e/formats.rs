//! What a real build writes and prints fits the committed schemas, by a validator and a reader that are not imgbuild's; and
//! a recipe in KDL is the same recipe.

use std::path::Path;

use serde_json::Value;

use super::built_copy as copy;
use super::store;
use crate::schemas::assert_valid;
use crate::support::project;

/// A TOML file as Python's own reader has it.
fn toml(path: &Path) -> Value {
    let program = "import json, sys, tomllib; json.dump(tomllib.load(open(sys.argv[1], 'rb')), sys.stdout)";
    let ran = std::process::Command::new("python3").args(["-c", program]).arg(path).output().expect("python3 is there");
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    serde_json::from_slice(&ran.stdout).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn network_what_a_build_writes_and_prints_fits_the_schemas() {
    let examples = walkdir::WalkDir::new(project().join("examples")).into_iter().flatten();
    let recipes: Vec<_> = examples.filter(|entry| entry.file_name() == "image.toml").collect();
    assert!(recipes.len() > 3, "{recipes:?}");
    for recipe in recipes {
        assert_valid("image", &toml(recipe.path()));
    }
    let space = copy();
    assert_valid("lock", &toml(&space.path().join("image.lock")));
    assert_valid("build", &json(&std::fs::read_to_string(space.artefact("tiny", "build.json")).unwrap()));
    assert_valid("list", &json(&space.run(&["list", "--json"]).good().out));
    assert_valid("plan", &space.plan());
    let mut records = 0;
    for entry in std::fs::read_dir(store().join("v1/actions")).unwrap().flatten() {
        // Other tests write and remove records meanwhile.
        if let Ok(text) = std::fs::read_to_string(entry.path()) {
            assert_valid("record", &json(&text));
            records += 1;
        }
    }
    assert!(records > 5, "{records}");

    // Causes and events of a build that does something.
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let with_name = recipe.replace("[system]\n", "[system]\nhostname = \"formats\"\n");
    assert_ne!(recipe, with_name);
    space.write("image.toml", &with_name);
    let plan = space.plan();
    assert_valid("plan", &plan);
    assert!(plan.to_string().contains("\"reason\":\"changed\""), "{plan}");
    let ran = space.run(&["build", "--progress", "json"]).good();
    let events: Vec<Value> = ran.err.lines().filter(|line| line.starts_with('{')).map(json).collect();
    for event in &events {
        assert_valid("progress", event);
    }
    for kind in ["started", "finished", "summary"] {
        assert!(events.iter().any(|event| event["event"] == kind), "{kind}: {}", ran.err);
    }
    // A file of its own: the other has a second name elsewhere.
    std::fs::remove_file(space.artefact("tiny", "kernel")).unwrap();
    std::fs::write(space.artefact("tiny", "kernel"), "not a kernel").unwrap();
    let list = json(&space.run(&["list", "--json"]).good().out);
    assert_valid("list", &list);
    assert_eq!(list["images"][0]["drift"].as_array().unwrap().len(), 1, "{list}");
}

#[test]
fn network_a_converted_recipe_builds_nothing_anew() {
    let space = copy();
    let files = || {
        let mut all: Vec<_> = std::fs::read_dir(space.path().join("out/tiny"))
            .unwrap()
            .flatten()
            .map(|entry| (entry.file_name(), std::fs::read(entry.path()).unwrap()))
            .collect();
        all.sort();
        all
    };
    let explained = space.run(&["explain"]).good().out;
    let built = files();
    space.run(&["convert", "--replace"]).good();
    assert!(!space.path().join("image.toml").exists());
    assert_eq!(space.to_do(), Vec::<String>::new());
    assert_eq!(space.run(&["plan", "--detailed-exitcode"]).code, 0);
    assert_eq!(space.run(&["explain"]).good().out, explained);
    let said = space.run(&["build"]).good().err;
    assert!(files() == built, "{said}");
    // An edit of the converted recipe is told at its place there.
    let kdl = std::fs::read_to_string(space.path().join("image.kdl")).unwrap();
    space.edit("image.kdl", "\"tiny.exlist\"", "\"tiny.exlist\" \"a.exlist\"").write("a.exlist", "./usr/share/bug/*\n");
    assert_eq!(space.to_do(), ["pack/rootimg run"]);
    space.write("image.kdl", &kdl.replace("system {", "system hostname=\"x\" {"));
    let plan = space.run(&["plan"]).good().out;
    assert!(plan.contains("image.kdl:"), "{plan}");
}
