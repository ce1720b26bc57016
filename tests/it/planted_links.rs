//! Links that others planted where a command writes: nothing outside is written, whoever runs it; the command replaces the link or
//! says that it is one. `fetch` and the imports have theirs in `fetch.rs`, `hostile.rs` and `bundles.rs`, nodes in `nodes/nodeset.rs`.

use std::os::unix::fs::symlink;
use std::path::PathBuf;

use crate::support::{Ran, Space, cluster};

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
