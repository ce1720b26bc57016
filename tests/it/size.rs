//! `imgbuild size` of trees and archives that somebody else made.

use std::process::Command;

use crate::support::Space;

/// A tree of dpkg's with two packages, a file of nobody, and a file with two names.
fn tree() -> Space {
    let space = Space::new();
    let status = "Package: one\nStatus: install ok installed\nVersion: 1\nArchitecture: all\n\n\
                  Package: two\nStatus: install ok installed\nVersion: 2\nArchitecture: all\n";
    space.write("tree/var/lib/dpkg/status", status);
    space.write("tree/var/lib/dpkg/info/one.list", "/.\n/usr\n/usr/bin\n/usr/bin/one\n");
    space.write("tree/var/lib/dpkg/info/two.list", "/.\n/bin\n/bin/two\n");
    // Random enough that a compressor finds little.
    let noise: String = (0u64..4000).map(|at| format!("{:x}", at.wrapping_mul(0x9e37_79b9_7f4a_7c15))).collect();
    space.write("tree/usr/bin/one", &noise);
    space.write("tree/usr/bin/two", &noise[..20_000]);
    space.write("tree/opt/site", &noise[..10_000]);
    std::fs::hard_link(space.path().join("tree/usr/bin/one"), space.path().join("tree/usr/bin/other-name")).unwrap();
    std::os::unix::fs::symlink("usr/bin", space.path().join("tree/bin")).unwrap();
    space
}

fn rows(space: &Space, arguments: &[&str]) -> (u64, Vec<(String, u64)>) {
    let ran = space.run(&[&["size", "--json", "--by", "package"], arguments].concat()).good();
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let image = &document["images"][0];
    let row = |row: &serde_json::Value| (row["name"].as_str().unwrap().to_owned(), row["raw"].as_u64().unwrap());
    (image["packed"].as_u64().unwrap(), image["rows"].as_array().unwrap().iter().map(row).collect())
}

#[test]
fn a_tree_of_somebody_else_is_told_by_its_own_packages() {
    let space = tree();
    let one = std::fs::metadata(space.path().join("tree/usr/bin/one")).unwrap().len();
    let (_, found) = rows(&space, &["./tree"]);
    let raw = |found: &[(String, u64)], name: &str| found.iter().find(|row| row.0 == name).unwrap().1;
    // With the link `bin` itself, which it lists as its directory.
    let two = 20_000 + "usr/bin".len() as u64;
    assert_eq!((raw(&found, "one"), raw(&found, "two")), (one, two));
    // The other name of a file costs nothing; a file behind a link at the top belongs to its package.
    assert!(raw(&found, "(no package)") < 10_000 + 1000, "{found:?}");
    for (ending, option) in [("tar", ""), ("tar.gz", "z"), ("tar.xz", "J")] {
        let made = Command::new("tar")
            // Of two names of a file the first in the archive has its bytes.
            .args(["--sort=name", &format!("-c{option}f"), &format!("tree.{ending}"), "-C", "tree", "."])
            .current_dir(space.path())
            .status()
            .unwrap();
        assert!(made.success());
        let (packed, of_archive) = rows(&space, &[&format!("./tree.{ending}")]);
        assert_eq!((raw(&of_archive, "one"), raw(&of_archive, "two")), (one, two));
        let size = std::fs::metadata(space.path().join(format!("tree.{ending}"))).unwrap().len();
        assert!(packed.abs_diff(size) <= 1, "{packed} of {size}");
    }
    let ran = space.run(&["size", "./tree"]).good();
    assert!(
        ran.out.contains("/usr/bin") && ran.err.contains("what each file takes by itself"),
        "{}{}",
        ran.out,
        ran.err
    );
    space.write("bare/x", "x");
    let ran = space.run(&["size", "--by", "package", "./bare"]).good();
    assert!(ran.err.contains("no package database") && ran.out.contains("(no package)"), "{}{}", ran.out, ran.err);
}

#[test]
fn a_squashfs_of_somebody_else_is_read_without_mounting_it() {
    let space = tree();
    let image = crate::support::project().join("tests/fixtures/squashfs/small.sfs");
    let image = image.to_str().unwrap();
    let ran = space.run(&["size", image, "--by", "directory", "--json"]).good();
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    let rows = document["images"][0]["rows"].as_array().unwrap();
    let etc = rows.iter().find(|row| row["name"].as_str().unwrap().ends_with("etc")).unwrap();
    // Lines of 1 to 3000; a hole of 20,000 bytes and three behind it; six bytes of two names.
    assert_eq!(etc["raw"], 13_893 + 20_003 + 6, "{rows:?}");
    space.run(&["diff", image, image, "--detailed-exitcode"]).good();
    let tree = space.path().join("tree");
    let ran = space.run(&["diff", image, tree.to_str().unwrap()]).good();
    assert!(ran.out.contains("etc/motd"), "{}", ran.out);
}

#[test]
fn what_cannot_be_looked_into_is_said_with_what_to_do() {
    let space = tree();
    space.write("text", "a text that is long enough to be read as whatever it may be");
    let made = Command::new("tar").args(["-czf", "cut.tar.gz", "tree"]).current_dir(space.path()).status().unwrap();
    assert!(made.success());
    let bytes = std::fs::read(space.path().join("cut.tar.gz")).unwrap();
    std::fs::write(space.path().join("cut.tar.gz"), &bytes[..bytes.len() / 2]).unwrap();
    std::fs::create_dir_all(space.path().join("bad/var/lib/rpm")).unwrap();
    space.write("bad/var/lib/rpm/rpmdb.sqlite", "no database");
    for (arguments, words) in [
        (&["./nothing"][..], "cannot read"),
        (&["./text"], "neither a directory nor an archive"),
        (&["./cut.tar.gz"], "cannot read"),
        (&["./bad"], "package database"),
        (&["./tree", "compute"], "ask for each separately"),
    ] {
        let ran = space.run(&[&["size"], arguments].concat());
        assert!(ran.code != 0 && ran.err.contains(words), "{arguments:?}: {} {}", ran.code, ran.err);
    }
}

/// An entry of cpio's `newc` form. Source: cpio(5).
fn newc(name: &str, content: &str) -> Vec<u8> {
    let mut bytes = format!(
        "070701{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{name}\0",
        1,
        0o100_644,
        0,
        0,
        1,
        0,
        content.len(),
        0,
        0,
        0,
        0,
        name.len() + 1,
        0
    )
    .into_bytes();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(content.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

#[test]
fn an_initrd_of_several_archives_is_read_to_its_end() {
    let space = Space::new();
    let trailer = newc("TRAILER!!!", "");
    let mut early = [newc("kernel/microcode", &"m".repeat(1000)), trailer.clone()].concat();
    early.resize(early.len().next_multiple_of(512), 0);
    let mut packer = flate2::write::GzEncoder::new(early, flate2::Compression::default());
    std::io::Write::write_all(&mut packer, &[newc("usr/bin/main", &"x".repeat(5000)), trailer].concat()).unwrap();
    std::fs::write(space.path().join("initrd"), packer.finish().unwrap()).unwrap();
    let ran = space.run(&["size", "--json", "./initrd"]).good();
    let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(document["images"][0]["raw"], 6000, "{}", ran.out);
    assert_eq!(document["images"][0]["files"], 2);
}
