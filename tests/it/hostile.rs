//! What others put where imgbuild writes, or hand to it: nothing is written elsewhere, and each refusal says what it is.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use crate::support::{Ran, Space, imgbuild};

/// Paths of all files below a directory; links are not followed.
fn tree(directory: &Path) -> Vec<PathBuf> {
    let walk = walkdir::WalkDir::new(directory).sort_by_file_name().into_iter().flatten();
    walk.map(walkdir::DirEntry::into_path).collect()
}

#[test]
fn folders_of_a_workspace_that_are_links_lead_nothing_out_of_it() {
    let stanza = "rocky9-x86_64-netboot-compute:\n    objtype=osimage\n    imagetype=linux\n    osarch=x86_64\n    osname=Linux\n    osvers=debian12\n    profile=compute\n    provmethod=netboot\n";
    let disk = "Debian GNU/Linux 12.5.0 \"Bookworm\" - Official amd64 DVD Binary-1 with firmware 20240210-11:28";
    let cases: [(&str, &[&str]); 4] = [
        ("images", &["import", "xcat", "defs", "--into", "new"]),
        ("site", &["import", "xcat", "defs", "--into", "new"]),
        ("images", &["import", "media", "disc", "--into", "new"]),
        ("repository", &["import", "media", "disc", "--into", "new"]),
    ];
    for (folder, command) in cases {
        let space = Space::new();
        space
            .write("defs/all.stanza", stanza)
            .write("disc/.disk/info", disk)
            .write("disc/dists/bookworm/main/binary-amd64/Packages", "Package: a\n")
            .write("disc/dists/bookworm/Release", "Codename: bookworm\n")
            .write("outside/kept", "kept");
        std::fs::create_dir(space.path().join("new")).unwrap();
        symlink("../outside", space.path().join("new").join(folder)).unwrap();
        let before = tree(space.path());
        let ran = space.run(command);
        assert!(ran.code == 1 && ran.err.contains("link"), "{command:?} {folder}: {} {}", ran.code, ran.err);
        assert_eq!(tree(space.path()), before, "{command:?} {folder}");
        // Without the link it works.
        std::fs::remove_file(space.path().join("new").join(folder)).unwrap();
        let ran = space.run(command);
        assert!(ran.code == 0, "{command:?}: {} {}", ran.out, ran.err);
    }
}

#[test]
fn files_that_a_link_of_nothing_names_are_not_made() {
    let space = Space::new();
    std::fs::create_dir(space.path().join("node")).unwrap();
    symlink("../created", space.path().join("node/.gitignore")).unwrap();
    let ran: Ran = imgbuild().arg("-C").arg(space.path()).args(["init", "node"]).output().unwrap().into();
    assert_eq!(ran.code, 0, "{}", ran.err);
    assert!(!space.path().join("created").exists());
}
