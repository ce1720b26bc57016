//! Links that others planted where a command writes: nothing outside is written, whoever runs it; the command replaces the link or
//! says that it is one. `fetch` and the imports have theirs in `fetch.rs`, `hostile.rs` and `bundles.rs`, nodes in `nodes/nodeset.rs`.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::support::{Ran, Space, cluster, files};

/// All below `outside`: names, and what is in files.
fn outside(space: &Space) -> Vec<(PathBuf, Option<Vec<u8>>)> {
    let walk = walkdir::WalkDir::new(space.path().join("outside")).sort_by_file_name().into_iter().flatten();
    walk.map(|entry| (entry.path().to_owned(), std::fs::read(entry.path()).ok())).collect()
}

/// Plants a link, runs a command, and looks whether anything happened where the link leads.
#[track_caller]
fn planted(space: &Space, link: &str, to: &str, command: &[&str]) -> Ran {
    space.write("outside/kept", "kept");
    let at = space.path().join(link);
    std::fs::create_dir_all(at.parent().unwrap()).unwrap();
    symlink(space.path().join("outside").join(to), &at).unwrap();
    let before = outside(space);
    let ran = space.run(command);
    assert_eq!(outside(space), before, "{command:?} with {link} writes outside: {} {}", ran.out, ran.err);
    assert_ne!(ran.code, 101, "{command:?}: {}", ran.err);
    // A link that is left was in the way; `init`, and what git leaves out, make only what is not there.
    if at.is_symlink() && !link.ends_with(".gitignore") && command[0] != "init" {
        assert!(ran.code != 0, "{command:?} with {link}: {} {}", ran.code, ran.err);
    }
    let _ = std::fs::remove_file(&at);
    ran
}

#[test]
fn plans_and_recipes_are_not_written_through_links() {
    let space = cluster::cluster();
    let plan = space.path().join("p.plan");
    for to in ["kept", "created"] {
        planted(&space, "p.plan", to, &["plan", "-o", plan.to_str().unwrap()]).good();
        planted(&space, "image.kdl", to, &["convert"]);
    }
    let copy = space.path().join("elsewhere");
    for to in ["", "created"] {
        planted(&space, "elsewhere", to, &["copy", "compute", copy.to_str().unwrap()]);
    }
    let space = Space::new();
    for to in ["kept", "created"] {
        planted(&space, "new/image.toml", to, &["init", "new"]);
    }
}

#[test]
fn packages_are_not_vendored_through_links_or_into_directories_of_others() {
    let space = cluster::cluster();
    let (to, theirs) = (space.path().join("v"), space.path().join("theirs"));
    let (to, theirs) = (to.to_str().unwrap(), theirs.to_str().unwrap());
    let mark = "# Written by imgbuild.\n";
    for link in ["v/suites", "v/repositories", "v/suites/deep/link", "v/vendor.toml.link"] {
        space.write("v/vendor.toml", mark);
        let ran = planted(&space, link, "", &["vendor", to]);
        assert!(ran.code == 1 && ran.err.contains("is a link"), "{link}: {} {}", ran.code, ran.err);
    }
    // The mark itself.
    std::fs::remove_file(space.path().join("v/vendor.toml")).unwrap();
    let _ = std::fs::remove_dir_all(space.path().join("v/suites"));
    let ran = planted(&space, "v/vendor.toml", "created", &["vendor", to]);
    assert!(ran.code == 1, "{} {}", ran.code, ran.err);
    if rustix::process::geteuid().is_root() {
        std::fs::create_dir(theirs).unwrap();
        std::os::unix::fs::chown(theirs, Some(1234), Some(1234)).unwrap();
        let ran = space.run(&["vendor", theirs]);
        let said = ran.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
        assert!(ran.code == 1 && said.contains("belongs to another user"), "{} {}", ran.code, ran.err);
        assert_eq!(std::fs::read_dir(theirs).unwrap().count(), 0);
    }
}

/// A node's tree with one package.
pub fn node(space: &Space, folder: &str) {
    space
        .write(
            &format!("{folder}/var/lib/dpkg/status"),
            "Package: base-files\nStatus: install ok installed\nVersion: 12.4\nArchitecture: amd64\n",
        )
        .write(&format!("{folder}/var/lib/dpkg/info/base-files.list"), "/.\n/etc\n/etc/os-release\n")
        .write(
            &format!("{folder}/etc/os-release"),
            "ID=debian\nVERSION_ID=12\nVERSION_CODENAME=bookworm\nPRETTY_NAME=\"Debian 12\"\n",
        )
        .write(&format!("{folder}/srv/own"), "by hand\n");
}

#[test]
fn captures_are_not_written_through_links() {
    let capture = ["capture", "node", "--into", "into", "--name", "n"];
    let force = [&capture[..], &["--force"]].concat();
    for (link, to, command) in [
        ("into/images", "", &capture[..]),
        ("into/images/n", "", &capture),
        ("into/images/n", "", &force),
        ("into/images/n", "created", &force),
        ("into/.gitignore", "created", &capture),
        ("into/imgbuild.toml", "created", &capture),
        ("into/images/n/overlay.tar", "kept", &force),
        ("into/images/n/image.toml", "kept", &force),
        ("into/images/n/drivers", "", &force),
    ] {
        let space = Space::new();
        node(&space, "node");
        planted(&space, link, to, command);
    }
}

#[test]
#[cfg(feature = "e2e")]
fn stores_are_not_saved_through_links() {
    let space = Space::new();
    for to in ["kept", "created"] {
        planted(&space, "saved.tar", to, &["store", "save", space.path().join("saved.tar").to_str().unwrap()]).good();
    }
}

#[test]
fn names_of_xcat_are_not_made_through_links() {
    let space = Space::new();
    space.write("imgbuild.toml", "images = []\n");
    planted(&space, "bin/genimage", "kept", &["install-xcat-names", "bin"]);
    planted(&space, "bin/packimage", "created", &["install-xcat-names", "bin"]);
}

/// What a cache that several users share has: a folder each of entries and files.
fn cache_of(space: &Space) -> PathBuf {
    let cache = space.path().join("cache");
    std::fs::create_dir_all(cache.join("v1/actions")).unwrap();
    std::fs::create_dir_all(cache.join("v1/objects")).unwrap();
    cache
}

#[test]
fn what_looks_after_a_cache_stays_in_it() {
    let space = Space::new();
    let cache = cache_of(&space);
    let named = cache.to_str().unwrap();
    let other = space.path().join("root");
    // Names as in a cache, and others.
    let digest = "51".repeat(32);
    for name in [format!("51/{digest}"), "51/notes".to_owned(), "51/.imgbuild-new.x".to_owned()] {
        space.write(&format!("root/{name}"), "precious");
    }
    let before = files(&other.join("51"));
    let old = std::time::SystemTime::now() - std::time::Duration::from_secs(100_000);
    for (name, _) in &before {
        std::fs::File::options().append(true).open(other.join("51").join(name)).unwrap().set_modified(old).unwrap();
    }
    for (place, target) in [
        ("v1/objects/51", other.join("51")),
        ("v1/objects", other.clone()),
        ("v1/actions", other.clone()),
        ("v1", space.path().join("v1-of-root")),
    ] {
        let at = cache.join(place);
        if at.is_dir() {
            std::fs::rename(&at, space.path().join("aside")).unwrap();
        }
        if place == "v1" {
            std::fs::create_dir_all(&target).unwrap();
            symlink(&other, target.join("objects")).unwrap();
        }
        symlink(&target, &at).unwrap();
        for words in [&["gc", named, "--size", "1"][..], &["verify", named, "--repair"], &["stats", named]] {
            let ran = space.run(&[&["cache"], words].concat());
            let is_refused = ran.code == 3 && ran.err.contains("a link");
            let is_left = ran.code == 0 && ran.err.contains("not imgbuild's");
            assert!(is_refused || is_left, "{place} {words:?}: {} {}", ran.code, ran.err);
            assert_eq!(files(&other.join("51")), before, "{place} {words:?}");
        }
        std::fs::remove_file(&at).unwrap();
        if space.path().join("aside").exists() {
            std::fs::rename(space.path().join("aside"), &at).unwrap();
        }
    }
    // An entry of 20 GB without anything in it takes no memory.
    let key = format!("v1/actions/51/{digest}.json");
    space.write(&format!("cache/{key}"), "");
    std::fs::File::options().write(true).open(cache.join(&key)).unwrap().set_len(20 << 30).unwrap();
    space.run(&["cache", "stats", named]).good();
    let ran = space.run(&["cache", "verify", named]);
    assert!(ran.code == 5 && ran.err.contains("larger than"), "{} {}", ran.code, ran.err);
    space.run(&["cache", "gc", named, "--size", "1"]).good();
    assert!(!cache.join(&key).exists());
}

#[test]
fn a_cache_that_anyone_may_write_to_needs_a_key() {
    let space = Space::example("mini");
    let cache = cache_of(&space);
    let named = cache.to_str().unwrap();
    let set = |mode| std::fs::set_permissions(&cache, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
    set(0o1777);
    for verb in ["plan", "build"] {
        let ran = space.run(&[verb, "--cache", named]);
        assert!(ran.code == 1 && ran.err.contains("cache::open"), "{verb}: {} {}", ran.code, ran.err);
    }
    let ran = space.run(&["plan", "--cache", named, "--cache-trust", "unsigned"]).good();
    assert!(!ran.err.contains("signature"), "{}", ran.err);
    let ran = space.run(&["plan", "--cache", named, "--cache-trust", "outputs-only"]).good();
    assert!(ran.err.contains("no one signed"), "{}", ran.err);
    set(0o755);
    space.run(&["plan", "--cache", named]).good();
    let ran = space.run(&["plan", "--cache", "http://127.0.0.1:1/x", "--cache-trust", "unsigned"]).good();
    assert!(ran.err.contains("does not ask servers"), "{}", ran.err);
    // A key that others can read signs nothing.
    let key = space.path().join("site.key");
    space.run(&["cache", "key", key.to_str().unwrap()]).good();
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let ran = space.run(&["plan", "--cache", named, "--cache-key", key.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.err.contains("cache::open_key"), "{} {}", ran.code, ran.err);
}
