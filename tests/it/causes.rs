//! No cause without a name: each input of each action of all fixtures says what a person would change to change it.

use std::collections::BTreeSet;

use base::digest::{Digest, Sha256};
use build::{Forms, graph_of, requested};
use plan::{ActionKind, Change, InputKind, InputName, Origin, Subject};
use recipe::{Lock, PinnedPackage, Recipe, load};
use store::{Root, Store};

use crate::support::cluster::{chmod, write_cluster};
use crate::support::{Space, copy_tree, project, without_paths};

/// Recipes of examples and fixtures, in copies that have the files that tests make.
fn recipes() -> Vec<(String, Space)> {
    let folders = [
        "examples/mini",
        "examples/compute",
        "examples/service",
        "examples/statelite",
        "tests/fixtures/tiny",
        "tests/fixtures/selinux",
        "tests/fixtures/rpm-node",
    ];
    let mut all: Vec<(String, Space)> = folders
        .iter()
        .map(|folder| {
            let space = Space::new();
            copy_tree(&project().join(folder), space.path());
            if !space.path().join("keys/admin.pub").exists() {
                space.write(
                    "keys/admin.pub",
                    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty admin\n",
                );
            }
            if folder.ends_with("rpm-node") {
                // What its own tests make.
                space.edit("image.toml", "@DISTRIBUTION@", "/srv");
                space
                    .write("keys/RPM-GPG-KEY-site", include_str!("../../crates/pgp/src/keys/debian-archive.asc"))
                    .write("otherpkgs/x", "");
            }
            ((*folder).to_owned(), space)
        })
        .collect();
    let space = Space::new();
    copy_tree(all[all.len() - 3].1.path(), space.path());
    space.edit("image.toml", "base = \"essential\"\n", "");
    space.edit("image.toml", "[image]\n", "[image]\nfrom = \"oci:registry.test/base:1\"\n");
    all.push(("a container image as the base".to_owned(), space));
    let space = Space::new();
    write_cluster(&space, "");
    all.push(("the cluster's image".to_owned(), space));
    let space = Space::new();
    write_cluster(&space, "");
    every_kind(&space);
    all.push(("one of every kind".to_owned(), space));
    all
}

/// Adds what the other recipes do not have.
fn every_kind(space: &Space) {
    space.edit(
        "image.toml",
        "drivers = [\n    \"+ice\",\n]",
        "drivers = [\"ice\", \"allupdate\"]\nfirmware = \"require\"\nupdates = [\"update\", \"one.ko\"]\nversion = \"6.1.0-30-cloud-amd64\"\nfirmware_packages = [\"firmware-linux-free\"]",
    );
    space.edit(
        "image.toml",
        "[system]\n",
        "[[kernel.build]]\nsource = \"driver\"\nmake = [\"modules\"]\ntools = [\"bc\"]\n\n[initrd]\ngenerator = \"dracut\"\ndracut_modules = [\"-debug\", \"nfs\"]\ndracut_conf = [\"dracut.conf\"]\ndracut_packages = [\"nfs-common\"]\nca = [\"ca.pem\"]\n\n[boot]\ntmpfs = { \"/tmp\" = \"50m\" }\n\n[otherpkgs]\ndir = \"other\"\ninstall = [\"site-thing\"]\n\n[xcat]\nnode_support = true\npostscripts = \"post\"\nosimage = \"x\"\n\n[node]\npostscripts = [\"post/xcatdsklspost x\"]\npostbootscripts = [\"post/xcatdsklspost\"]\ntimeout = 5\n\n[groups]\nmunge = 902\n\n[[role]]\nansible = \"play/site.yml\"\ngroups = [\"compute\"]\nvars = { port = 80 }\nvars_files = [\"vars.yml\"]\ninputs = [\"keys/**\"]\n\n[system]\nroot_password_hash_file = \"hash\"\nexports = [\"/srv *(ro)\"]\n",
    );
    space.edit(
        "image.toml",
        "script = \"compute.postinstall\"",
        "script = \"compute.postinstall\"\ntools = [\"perl\"]\npackages = \"locked\"",
    );
    space.edit("compute.pkglist", "htop\n", "#ENV:A=b#\nhtop\n-nano\n--vim\n");
    for (name, text) in [
        ("update/a.ko", "x"),
        ("one.ko", "x"),
        ("driver/Makefile", "x"),
        ("dracut.conf", "x"),
        ("play/site.yml", "- hosts: all\n  roles: [web]\n"),
        ("play/roles/web/tasks/main.yml", "[]\n"),
        ("vars.yml", "a: 1\n"),
        ("ca.pem", "# none"),
        ("hash", "$6$x$y\n"),
        ("other/x", ""),
    ] {
        space.write(name, text);
    }
    for name in ["xcatdsklspost", "xcatpostinit1.netboot", "xcatpostinit1.service"] {
        space.write(&format!("post/{name}"), "#!/bin/sh\n");
        chmod(&space.path().join("post").join(name), 0o755);
    }
}

/// What the recipe asks for, each transaction with packages.
fn lock_of(recipe: &Recipe) -> Lock {
    let mut lock = requested(recipe);
    for pass in &mut lock.pass {
        let mut names: Vec<String> =
            pass.install.iter().filter(|name| !name.starts_with(['?', '~', '@'])).cloned().collect();
        names.push("libwhatever".to_owned());
        pass.packages = names
            .into_iter()
            .map(|name| PinnedPackage {
                version: "1".to_owned(),
                architecture: "amd64".to_owned(),
                size: 1,
                sha256: Sha256::of(name.as_bytes()),
                origin: "x".to_owned(),
                file: "x.deb".to_owned(),
                automatic: name == "libwhatever",
                beside: false,
                name,
            })
            .collect();
        pass.modules = vec!["perl:5".to_owned()];
        pass.remove_with = vec!["another".to_owned()];
    }
    lock
}

#[test]
fn each_input_of_each_action_names_the_hand_that_changes_it() {
    let mut kinds = BTreeSet::new();
    let mut nameless = Vec::new();
    for (name, space) in recipes() {
        let loaded = load(space.path());
        let recipe = loaded.recipe.unwrap_or_else(|| panic!("{name}: {:#?}", loaded.findings));
        let lock = lock_of(&recipe);
        let stages = graph_of(&recipe, &lock, &Digest::of(b"init"), Forms::AndGzip).unwrap();
        for action in stages.graph.in_order() {
            kinds.insert(action.kind);
            for input in &action.inputs {
                if input.origin == Origin::Unknown {
                    nameless.push(format!("{name}: {}: {} has no origin", action.id, input.name));
                }
                if InputName::of(&input.name).kind == InputKind::Other {
                    nameless.push(format!("{name}: {}: {} has no kind", action.id, input.name));
                }
                for change in [Change::Added("1 a"), Change::Removed("1 a"), Change::Changed("1 a", "2 b")] {
                    let place = input.place.as_ref();
                    let subject = Subject {
                        name: &input.name,
                        origin: &input.origin,
                        place,
                        was_place: None,
                        lock: "image.lock",
                    };
                    let said = subject.cause(change).message;
                    let raw = ["parameter ", "tools tools", "driver module", "synced ", "remove-with ", " file "];
                    if said.trim().is_empty()
                        || raw.iter().any(|word| format!(" {said}").contains(word))
                        || said.contains("inputs changed")
                    {
                        nameless.push(format!("{name}: {}: {}: {said}", action.id, input.name));
                    }
                }
            }
        }
    }
    assert!(nameless.is_empty(), "{nameless:#?}");
    let all = ActionKind::ALL.into_iter().filter(|kind| ![ActionKind::Lock, ActionKind::Publish].contains(kind));
    let all: BTreeSet<ActionKind> = all.collect();
    assert_eq!(kinds, all, "a kind of action that no fixture has is not tested");
}

#[test]
fn a_file_of_another_recipe_says_that_it_was_inherited() {
    let place = plan::Place { file: "../base/image.toml".to_owned(), line: 8 };
    let origin = Origin::Item("kernel.drivers".to_owned());
    let subject =
        Subject { name: "driver ice", origin: &origin, place: Some(&place), was_place: None, lock: "image.lock" };
    let cause = subject.cause(Change::Added("named"));
    assert_eq!(cause.message, "../base/image.toml:8 extends: kernel.drivers += \"ice\"");
    assert_eq!((cause.file.as_deref(), cause.line), (Some("../base/image.toml"), Some(8)));
}

/// A store that remembers a build of a cluster's image, published in a directory.
fn built(space: &Space, published: &str) {
    let recipe = space.path().canonicalize().unwrap();
    let place = recipe.join(published).join(".builds/compute/0123456789ab");
    let root = Root {
        format: 1,
        image: "compute".to_owned(),
        published: if published.is_empty() { Default::default() } else { place },
        recipe,
        ..Root::default()
    };
    std::fs::create_dir_all(space.store().join("v1/roots")).unwrap();
    Store::existing(&space.store()).set_root(&root).unwrap();
}

#[test]
fn another_output_directory_is_no_change_by_somebody_else() {
    let space = Space::new();
    write_cluster(&space, "");
    for (published, asked, said) in [
        ("out", "new", "the last build was published in [DIR]/out, not in [DIR]/new"),
        ("old", "out", "the last build was published in [DIR]/old, not in [DIR]/out"),
        ("", "out", "nothing was published yet"),
    ] {
        built(&space, published);
        let asked = space.path().join(asked);
        let text = without_paths(&space.run(&["plan", "--out", asked.to_str().unwrap()]).good().out, &space);
        assert!(!text.contains("modified outside imgbuild"), "{text}");
        assert!(text.contains(&format!("  publish  run\n    artefacts      run\n      {said}\n")), "{said}\n{text}");
        let printed = space.run(&["plan", "-o", "-", "--out", asked.to_str().unwrap()]).good().out;
        let file: serde_json::Value = serde_json::from_str(&printed).unwrap();
        assert_eq!(file["images"][0]["drift"], serde_json::json!([]));
    }
    // What was published there and is gone was taken by somebody.
    built(&space, "out");
    let text = space.run(&["plan"]).good().out;
    assert!(text.contains("modified outside imgbuild:\n    published build.json is missing"), "{text}");
    assert!(!text.contains("  publish "), "{text}");
}
