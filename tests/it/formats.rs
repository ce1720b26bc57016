//! What an older imgbuild does with newer files: later minor versions are read, later major ones refused with the
//! release that reads them. docs/formats.md has the rule.

use base::digest::Digest;
use serde_json::{Value, json};
use store::{Item, ItemKind, Store};

use crate::exact::{lock_of, read, recipe_document, write_files, write_toml};
use crate::support::{Ran, Space};

fn space() -> Space {
    let space = Space::new();
    write_files(&space);
    write_toml(&space, &recipe_document());
    let lock = lock_of(&read(space.path())).to_text();
    space.write("image.lock", &lock);
    space
}

#[track_caller]
fn refused(ran: &Ran, code: i32, version: &str, needs: &str) {
    assert_eq!(ran.code, code, "{}", ran.err);
    let words = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words.contains(&format!("has format {version}")), "{words}");
    assert!(words.contains(needs), "{words}");
}

#[test]
fn a_lock_of_a_later_form_is_refused_and_of_a_later_minor_form_read() {
    let space = space();
    let wanted = space.run(&["explain"]).good().out;
    let [own, later] = [0, 1].map(|more| format!("minor = {}\n", recipe::LOCK_MINOR + more));
    space.edit("image.lock", &own, &format!("{later}seal = \"x\"\n"));
    space.edit("image.lock", "name = \"base\"\n", "name = \"base\"\nhints = [1, 2]\n");
    assert_eq!(space.run(&["explain"]).good().out, wanted);
    space.edit("image.lock", &format!("format = 1\n{later}"), "format = 2\nneeds_imgbuild = \"0.7.0\"\n");
    for command in [&["plan"][..], &["explain"], &["build", "--locked"], &["update"]] {
        let before = std::fs::read(space.path().join("image.lock")).unwrap();
        refused(&space.run(command), 1, "2.0", "imgbuild 0.7.0 or later");
        assert_eq!(std::fs::read(space.path().join("image.lock")).unwrap(), before);
    }
    space.edit("image.lock", "needs_imgbuild = \"0.7.0\"\n", "");
    refused(&space.run(&["plan"]), 1, "2.0", "one that writes format 2");
}

fn publish(space: &Space, build: &Value) {
    space.write("out/.builds/node/x/build.json", &build.to_string());
    let link = space.path().join("out/node");
    if !link.exists() {
        std::os::unix::fs::symlink(".builds/node/x", link).unwrap();
    }
}

#[test]
fn a_build_record_of_a_later_form_is_refused_and_of_a_later_minor_form_read() {
    let space = space();
    let mut build = json!({
        "format_version": "1.9", "name": "node", "target": "debian bookworm x86_64", "epoch": 1, "kernel_release": "6.1.0",
        "cmdline": ["quiet"], "memory": 1, "artefacts": [], "layers": [], "not_reproducible": [], "sbom": {"a": [1]},
    });
    publish(&space, &build);
    assert!(space.run(&["list"]).good().out.contains("kernel 6.1.0"));
    build["format_version"] = "2.0".into();
    build["needs_imgbuild"] = "0.7.0".into();
    publish(&space, &build);
    refused(&space.run(&["list"]), 1, "2.0", "imgbuild 0.7.0 or later");
    refused(&space.run(&["boot"]), 1, "2.0", "imgbuild 0.7.0 or later");
    // It may be no longer what this imgbuild takes for a build record.
    publish(&space, &json!({"format_version": "3.1", "image": {}}));
    refused(&space.run(&["list", "--json"]), 1, "3.1", "one that writes format 3");
}

#[test]
fn a_store_of_a_later_form_is_touched_by_no_command() {
    let space = space();
    let store = space.store();
    std::fs::create_dir_all(store.join("v1/roots")).unwrap();
    std::fs::write(store.join("v1/format"), "1.8\n").unwrap();
    space.run(&["plan"]).good();
    std::fs::write(store.join("v1/format"), "2.0 0.7.0\n").unwrap();
    std::fs::write(store.join("v1/roots/x.json"), "{}").unwrap();
    let names = || {
        let entries = std::fs::read_dir(store.join("v1")).unwrap();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    };
    // What the first plan remembered lies there too.
    assert_eq!(names(), ["format", "memos", "roots"]);
    for command in [&["plan"][..], &["build", "--locked"], &["gc"], &["explain"]] {
        refused(&space.run(command), 3, "2.0", "imgbuild 0.7.0 or later");
    }
    assert_eq!(names(), ["format", "memos", "roots"]);
    assert!(store.join("v1/roots/x.json").exists());
}

#[test]
fn what_a_later_imgbuild_keeps_beside_is_not_looked_at() {
    let space = space();
    let store = space.store();
    std::fs::create_dir_all(store.join("v2/actions")).unwrap();
    std::fs::write(store.join("v2/actions/x.json"), "{\"format\": 2}").unwrap();
    std::fs::create_dir_all(store.join("v1")).unwrap();
    space.run(&["plan"]).good();
    let ran = space.run(&["gc"]);
    assert!(ran.code == 0 || ran.code == 3, "{}", ran.err);
    assert!(store.join("v2/actions/x.json").exists());
}

#[test]
fn a_record_of_a_later_form_is_left_alone_and_of_a_later_minor_form_read() {
    let directory = tempfile::tempdir().unwrap();
    let actions = directory.path().join("v1/actions");
    std::fs::create_dir_all(&actions).unwrap();
    let key = Digest::of(b"a key");
    let path = actions.join(format!("{key}.json"));
    let mut record = json!({
        "format": 1, "key": key, "action": "rootfs/sync", "inputs": [{"name": "a", "value": "b", "place": "x:1"}],
        "outputs": {"layer": null, "later": []}, "milliseconds": 5, "host": "later",
    });
    let store = Store::existing(directory.path());
    let item =
        Item { path: format!("actions/{key}.json"), kind: ItemKind::Record, bytes: 0, age: std::time::Duration::ZERO };
    let damage = || store.damage_of(&item);
    // As every record ends: with the digest of what stands before it.
    let sealed = |record: &serde_json::Value| {
        let text = serde_json::to_string_pretty(record).unwrap();
        let body = text.strip_suffix("\n}").unwrap();
        format!("{body},\n  \"digest\": \"{}\"\n}}", Digest::of(body.as_bytes()))
    };
    std::fs::write(&path, sealed(&record)).unwrap();
    assert_eq!(store.record(&key).unwrap().inputs[0].value, "b");
    // An earlier imgbuild wrote no digest: the action runs again, and that is not a damage.
    std::fs::write(&path, record.to_string()).unwrap();
    assert_eq!((store.record(&key), damage()), (None, None));
    record["format"] = 2.into();
    std::fs::write(&path, sealed(&record)).unwrap();
    assert_eq!(store.record(&key), None);
    assert_eq!(damage(), None);
    std::fs::write(&path, sealed(&record).replace("x:1", "x:2").replace("\"format\": 2", "\"format\": 1")).unwrap();
    assert_eq!(store.record(&key), None);
    assert!(damage().is_some() && path.exists());
}

#[test]
fn the_documentation_names_every_event() {
    let text = std::fs::read_to_string(crate::support::project().join("docs/ci.md")).unwrap();
    let schema: serde_json::Value = serde_json::from_str(&crate::schemas::schema("progress")).unwrap();
    let events = schema["oneOf"].as_array().unwrap();
    assert!(events.len() >= 7, "{events:?}");
    for event in events {
        let name = event["properties"]["event"]["const"].as_str().unwrap();
        let line = text.lines().find(|line| line.starts_with(&format!("| `{name}` |"))).expect(name);
        for field in
            event["properties"].as_object().unwrap().keys().filter(|field| !["event", "image"].contains(&&***field))
        {
            assert!(line.contains(&format!("`{field}`")), "{name} has {field}");
        }
    }
}

#[test]
fn the_documentation_names_every_schema() {
    let text = std::fs::read_to_string(crate::support::project().join("docs/formats.md")).unwrap();
    for format in crate::schemas::FORMATS {
        assert!(text.contains(&format!("({}", format_args!("../schemas/{format}.schema.json)"))), "{format}");
    }
}
