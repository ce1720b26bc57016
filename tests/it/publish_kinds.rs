//! `publish` for other provisioners, on a small published directory: messages, exit codes, what a recipe may list.

use std::path::PathBuf;

use base::digest::Sha256;

use crate::support::{Ran, Space};

/// A directory as a build leaves it, with cpio in no compression and squashfs.
pub fn published(space: &Space) -> PathBuf {
    let files = [
        ("initrd-stateless", "an initrd"),
        ("kernel", "a kernel"),
        ("rootimg.cpio", "an archive"),
        ("rootimg.cpio.index", r#"{"xattrs":[["usr/bin/ping","security.capability","01"]]}"#),
        ("rootimg.sfs", &"hsqs".repeat(128)),
        ("rootimg.sfs.index", "{}"),
    ];
    let mut artefacts = Vec::new();
    for (name, text) in files {
        space.write(&format!("out/compute/{name}"), text);
        let sha256 = Sha256::of(text.as_bytes()).to_string();
        artefacts.push(serde_json::json!({"name": name, "size": text.len(), "sha256": sha256}));
    }
    let digest = |name: &str| artefacts.iter().find(|one| one["name"] == name).unwrap()["sha256"].clone();
    let words = |rootimg: &str| {
        let index = digest(&format!("{rootimg}.index"));
        let index = index.as_str().unwrap();
        vec![format!("imgurl={{url}}/{rootimg}"), format!("imgdigest=sha256:{index}"), "quiet".to_owned()]
    };
    let info = serde_json::json!({
        "format_version": "1.0", "name": "compute", "target": "debian 12 x86_64", "epoch": 0, "kernel_release": "6.1.0-31-amd64",
        "cmdline": words("rootimg.cpio"), "memory": 1, "artefacts": artefacts, "layers": [], "not_reproducible": [],
        "also": [{"rootimg": "rootimg.sfs", "cmdline": words("rootimg.sfs"), "memory": 1}],
    });
    space.write("out/compute/build.json", &info.to_string());
    space.path().join("out")
}

fn publish(space: &Space, more: &[&str]) -> Ran {
    let target = format!("tree:{}", space.path().join("www").display());
    let out = space.path().join("out");
    let words = ["publish", &target, "compute", "--out", out.to_str().unwrap()];
    space.run(&[&words, more].concat())
}

#[test]
fn what_would_change_is_shown_and_then_changed_once() {
    let space = Space::new();
    published(&space);
    let would = publish(&space, &["--dry-run"]).good();
    assert!(would.err.contains("would publish compute "), "{}", would.err);
    assert!(would.err.contains("  + boot.ipxe\n") && !space.path().join("www").exists(), "{}", would.err);
    let done = publish(&space, &[]).good();
    assert!(done.err.contains("published compute ") && done.err.contains("next: serve "), "{}", done.err);
    let again = publish(&space, &[]).good();
    assert!(again.err.contains(" unchanged\n") && !again.err.contains("next:"), "{}", again.err);
    space.write("www/boot.ipxe", "edited");
    let would = publish(&space, &["--dry-run", "-q"]).good();
    assert!(would.err.starts_with("warning: tree:") && would.err.contains("changed by hand"), "{}", would.err);
    assert_eq!(std::fs::read_to_string(space.path().join("www/boot.ipxe")).unwrap(), "edited");
    publish(&space, &[]).good();
    assert!(std::fs::read_to_string(space.path().join("www/boot.ipxe")).unwrap().starts_with("#!ipxe\n"));
}

#[test]
fn files_of_the_site_stay_unless_they_are_meant() {
    let space = Space::new();
    published(&space);
    space.write("www/boot.ipxe", "the site's");
    for more in [&[][..], &["--dry-run"]] {
        let refused = publish(&space, more);
        assert_eq!(refused.code, 1, "{}", refused.err);
        assert!(
            refused.err.contains("was not written by imgbuild") && refused.err.contains("--replace"),
            "{}",
            refused.err
        );
    }
    assert!(!space.path().join("www/builds").exists());
    publish(&space, &["--replace"]).good();
    publish(&space, &[]).good();
}

#[test]
fn what_is_not_a_whole_build_is_refused_with_the_file() {
    let space = Space::new();
    published(&space);
    std::fs::remove_file(space.path().join("out/compute/rootimg.sfs")).unwrap();
    let refused = publish(&space, &[]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("`rootimg.sfs` is missing"), "{}", refused.err);
    published(&space);
    space.write("out/compute/kernel", "a kerneL");
    let refused = publish(&space, &[]);
    assert_eq!(refused.code, 1);
    assert!(refused.err.contains("is not as it was built: `kernel`"), "{}", refused.err);
    assert!(!space.path().join("www/boot.ipxe").exists());
}

#[test]
fn an_image_of_others_writes_no_lines_of_its_own_and_names_no_files_of_this_host() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    for (from, to) in [
        ("\"quiet\"", "\"quiet\\nshell\"".to_owned()),
        ("\"quiet\"", "\"||\",\"shell\"".to_owned()),
        ("\"name\":\"kernel\"", format!("\"name\":\"{}\"", secret.path().display())),
        ("\"name\":\"kernel\"", "\"name\":\"../../secret\"".to_owned()),
        ("6.1.0-31-amd64", "../../../etc/6.1.0".to_owned()),
    ] {
        let space = Space::new();
        published(&space);
        space.edit("out/compute/build.json", from, &to);
        let refused = publish(&space, &[]);
        assert_eq!(refused.code, 1, "{to}: {}", refused.err);
        assert!(refused.err.contains("`build.json`") || refused.err.contains("`kernel`"), "{to}: {}", refused.err);
        assert!(!space.path().join("www").exists(), "{to}");
    }
    let space = Space::new();
    published(&space);
    std::fs::remove_file(space.path().join("out/compute/kernel")).unwrap();
    std::os::unix::fs::symlink(secret.path(), space.path().join("out/compute/kernel")).unwrap();
    let refused = publish(&space, &[]);
    assert!(refused.code == 1 && refused.err.contains("`kernel` is not a regular file"), "{}", refused.err);
}

#[test]
fn a_recipe_lists_kinds_and_places_and_check_compares_them() {
    for (list, said) in [
        (r#"["kickstart:/srv"]"#, "there is no kind `kickstart`"),
        (r#"["/srv"]"#, "it does not say who takes the image"),
        (r#"["tree:srv"]"#, "`srv` is not an absolute path"),
        (r#"["cobbler:http://u:p@host/cobbler_api"]"#, "names a user or a password"),
        (r#"["xcat:/install/compute"]"#, "is an option of a build"),
        (r#"["tree:/srv/a", "tree:/srv/a"]"#, "is listed twice"),
    ] {
        let space = Space::new();
        space
            .write("image.toml", &format!("[image]\nname = \"x\"\nrelease = \"bookworm\"\n\n[publish]\nto = {list}\n"));
        let checked = space.run(&["check"]);
        assert_eq!(checked.code, 1, "{}", checked.err);
        let text = checked.out + &checked.err;
        assert!(text.contains(said) && text.contains("image.toml:6"), "{list}: {text}");
    }
    let space = Space::new();
    let to = r#"to "tree:/srv/a" "warewulf:/var/lib/warewulf""#;
    space.write("image.kdl", &format!("image name=\"x\" release=\"bookworm\"\npublish {{\n    {to}\n}}\n"));
    let checked = space.run(&["check"]);
    assert!(checked.code == 0 && checked.err.contains("the recipe is good (1 warning, 0 notes)"), "{}", checked.err);
}
