//! What gc keeps and takes, what verify finds, and what the store's statistics say.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::offline::{assert_same, build, fresh, vendored, warm};
use super::tiny;
use crate::support::Space;

fn json(space: &Space, arguments: &[&str]) -> serde_json::Value {
    serde_json::from_str(&space.run(arguments).good().out).unwrap()
}

/// Builds the image with a host name: cheap, and another build.
fn named(space: &Space, was: &str, now: &str) {
    space.edit("image.toml", was, now);
    build(space).good();
}

/// Whether nothing is to be done.
fn is_kept(space: &Space) -> bool {
    space.run(&["plan", "--no-memo", "--detailed-exitcode"]).code == 0
}

fn entries(space: &Space, below: &str) -> usize {
    std::fs::read_dir(space.store().join("v1").join(below)).map_or(0, Iterator::count)
}

#[test]
fn gc_keeps_pins_and_as_many_builds_as_it_is_told_and_says_the_bytes() {
    let space = warm();
    let system = "[system]\nhostname = \"one\"\n";
    space.edit("image.toml", "[system]\n", system);
    build(&space).good();
    space.run(&["store", "pin", "first"]).good();
    named(&space, "\"one\"", "\"two\"");
    named(&space, "\"two\"", "\"three\"");
    let stats = json(&space, &["store", "stats", "--json"]);
    assert_eq!(stats["pins"], serde_json::json!(["first"]), "{stats:#}");
    let kinds: u64 = stats["kinds"].as_array().unwrap().iter().map(|kind| kind["bytes"].as_u64().unwrap()).sum();
    assert_eq!(kinds, stats["bytes"].as_u64().unwrap());
    let packages = stats["kinds"].as_array().unwrap().iter().find(|kind| kind["kind"] == "package").unwrap();
    let on_disk: u64 = walkdir::WalkDir::new(space.store().join("v1/packages"))
        .into_iter()
        .flatten()
        .filter(|entry| entry.file_type().is_file())
        .map(|entry| entry.metadata().unwrap().len())
        .sum();
    assert_eq!(packages["bytes"].as_u64().unwrap(), on_disk);
    let text = space.run(&["store", "stats"]).good().out;
    assert!(text.contains("pinned: first") && text.contains("would be freed by `imgbuild gc`"), "{text}");

    // Dry runs take nothing and say the same as what follows.
    let trees = entries(&space, "trees");
    let two = json(&space, &["gc", "--keep", "2", "--dry-run", "--json"]);
    let builds = |document: &serde_json::Value| {
        let builds = document["builds"].as_array().unwrap();
        (builds.iter().filter(|one| one["kept"] == true).count(), builds.len())
    };
    assert_eq!(builds(&two), (3, 4), "the last two and the pin, which is the first: {two:#}");
    let unsaid = json(&space, &["gc", "--dry-run", "--json"]);
    assert_eq!(builds(&unsaid), (4, 4), "three and the pin: {unsaid:#}");
    assert_eq!(unsaid["removed_bytes"], stats["gc_would_free_bytes"]);
    let one = json(&space, &["gc", "--keep", "1", "--dry-run", "--json"]);
    assert_eq!(builds(&one), (2, 4), "{one:#}");
    let text = space.run(&["gc", "--keep", "1", "--dry-run"]).good().out;
    let fates: Vec<&str> = text.lines().map(|line| line.split_whitespace().next().unwrap()).collect();
    assert_eq!(fates, ["keep", "remove", "keep", "remove"], "{text}");
    assert!(text.contains("pinned as first") && text.contains("that no kept build needs"), "{text}");
    assert!(one["removed_bytes"].as_u64().unwrap() > two["removed_bytes"].as_u64().unwrap());
    assert_eq!(entries(&space, "trees"), trees);
    let ran = json(&space, &["gc", "--keep", "1", "--json"]);
    assert_eq!((&ran["removed"], &ran["dry_run"]), (&one["removed"], &serde_json::json!(false)));
    assert!(is_kept(&space));
    // The one in between is gone, the pinned one is not.
    space.edit("image.toml", "\"three\"", "\"two\"");
    assert!(!is_kept(&space));
    space.edit("image.toml", "\"two\"", "\"one\"");
    assert_eq!(space.to_do(), ["publish/artefacts run"]);
    space.edit("image.toml", "\"one\"", "\"three\"");

    // An age that no build has reached takes nothing; one that all have takes all that is not pinned.
    let young = json(&space, &["gc", "--max-age", "1d", "--json"]);
    assert_eq!(young["removed"].as_array().unwrap().len(), 0, "{young:#}");
    let old = json(&space, &["gc", "--max-age", "0s", "--dry-run", "--json"]);
    assert_eq!(builds(&old).0, 1, "{old:#}");
    // So does a size that cannot be kept; the pin stays, and that is said.
    let ran = space.run(&["gc", "--max-size", "1M"]).good();
    assert!(ran.err.contains("more than --max-size remains"), "{}", ran.err);
    assert!(!is_kept(&space));
    space.run(&["store", "pin", "first", "--remove"]).good();
    assert_eq!(space.run(&["store", "pin", "first", "--remove"]).code, 1);
    assert_eq!(space.run(&["store", "pin"]).good().out, "");
    space.run(&["gc", "--max-size", "0"]).good();
    assert_eq!((entries(&space, "trees"), entries(&space, "actions"), entries(&space, "manifests")), (0, 0, 0));
    assert!(space.artefact("tiny", "kernel").is_file(), "what is published stays");
    for wrong in ["../up", ".hidden", "a/b", ""] {
        assert_ne!(space.run(&["store", "pin", wrong]).code, 0, "{wrong}");
    }
}

#[test]
fn gc_leaves_what_was_just_fetched_and_logs_that_a_message_names() {
    let space = fresh();
    build(&space).good();
    let place = |name: &str, text: &str| {
        let path = space.store().join("v1").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, text).unwrap();
        path
    };
    // As an interrupted build leaves them: nothing remembers it.
    let digest = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let package = place(&format!("packages/ba/{digest}"), "abc");
    let log = place("logs/failed.log", "why it failed");
    let age = |path: &std::path::Path, days: u64| {
        let file = std::fs::File::options().append(true).open(path).unwrap();
        file.set_modified(std::time::SystemTime::now() - Duration::from_secs(days * 86_400)).unwrap();
    };
    space.run(&["gc"]).good();
    assert!(package.exists() && log.exists());
    age(&package, 2);
    age(&log, 13);
    space.run(&["gc"]).good();
    assert!(!package.exists() && log.exists());
    age(&log, 15);
    space.run(&["gc"]).good();
    assert!(!log.exists());
    // Where the store has to become small, the package can be fetched again.
    place(&format!("packages/ba/{digest}"), "abc");
    space.run(&["gc", "--max-size", "1T"]).good();
    assert!(!package.exists());
    assert!(is_kept(&space));
}

#[test]
fn gc_takes_nothing_from_a_build_that_runs_in_another_process() {
    let space = warm();
    build(&space).good();
    space.edit("image.toml", "[system]\n", "[system]\nhostname = \"other\"\n");
    let sign = tempfile::tempdir().unwrap();
    std::fs::set_permissions(sign.path(), std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    let reached = sign.path().join("reached");
    let mut child = Command::new(env!("CARGO_BIN_EXE_imgbuild"))
        .arg("-C")
        .arg(space.path())
        .arg("--store")
        .arg(space.store())
        .args(["build", "--vendor", vendored().to_str().unwrap()])
        .env("IMGBUILD_FAULT", "action.ran")
        .env("IMGBUILD_FAULT_FILE", &reached)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !reached.exists() && began.elapsed() < Duration::from_secs(120) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let stopped = reached.exists();
    let before: Vec<usize> = ["trees", "manifests", "actions", "scratch"].map(|name| entries(&space, name)).to_vec();
    let ran = space.run(&["gc", "--max-size", "0"]);
    let repaired = space.run(&["store", "verify", "--repair"]);
    let after: Vec<usize> = ["trees", "manifests", "actions", "scratch"].map(|name| entries(&space, name)).to_vec();
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(stopped, "the build did not come to its place");
    assert_eq!((ran.code, repaired.code), (3, 3), "{}{}", ran.err, repaired.err);
    assert!(ran.err.contains("a build is using the store"), "{}", ran.err);
    assert_eq!(before, after);
    build(&space).good();
}

/// Some file of a directory of the store, the last by name.
fn some_file(space: &Space, below: &str) -> PathBuf {
    let found = walkdir::WalkDir::new(space.store().join("v1").join(below)).sort_by_file_name().into_iter().flatten();
    let whole = |path: &Path| path.extension().is_none_or(|ending| ending == "json");
    found.filter(|entry| entry.file_type().is_file() && whole(entry.path())).last().unwrap().into_path()
}

#[test]
fn verify_names_all_that_is_damaged_and_repair_lets_the_next_build_make_it_again() {
    let space = warm();
    build(&space).good();
    let ran = space.run(&["store", "verify"]).good();
    assert!(ran.err.contains(" read, 0 damaged"), "{}", ran.err);
    let layer = {
        let build: serde_json::Value =
            serde_json::from_slice(&std::fs::read(space.artefact("tiny", "build.json")).unwrap()).unwrap();
        let layers = build["layers"].as_array().unwrap();
        let base = layers.iter().find(|layer| layer[0] == "rootfs/base").unwrap();
        space.store().join("v1/trees").join(base[1].as_str().unwrap())
    };
    let damaged = [
        some_file(&space, "blobs"),
        some_file(&space, "frames"),
        some_file(&space, "packages"),
        some_file(&space, "actions"),
        layer.join("etc/debian_version"),
    ];
    for path in &damaged {
        let mut bytes = std::fs::read(path).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] = bytes[middle].wrapping_add(1) | 0x80;
        std::fs::write(path, bytes).unwrap();
    }
    let ran = space.run(&["store", "verify"]);
    assert_eq!(ran.code, 5, "{}{}", ran.out, ran.err);
    assert_eq!(ran.out.lines().count(), damaged.len(), "{}", ran.out);
    for path in damaged.iter().take(4).chain([&layer]) {
        let name = path.strip_prefix(space.store().join("v1")).unwrap().to_str().unwrap();
        assert!(ran.out.contains(name), "{name}: {}", ran.out);
    }
    assert!(ran.err.contains("store verify --repair"), "{}", ran.err);
    let document = space.run(&["store", "verify", "--json"]);
    assert_eq!(document.code, 5);
    let document: serde_json::Value = serde_json::from_str(&document.out).unwrap();
    assert_eq!(document["damaged"].as_array().unwrap().len(), damaged.len(), "{document:#}");
    space.run(&["store", "verify", "--repair"]).good();
    space.run(&["store", "verify"]).good();
    assert!(!is_kept(&space));
    build(&space).good();
    assert_same(&tiny().space, &space, "tiny");
    space.run(&["store", "verify"]).good();
}
