//! `update --security` in a small archive: only what mends moves; what is pinned, refused or not offered is named; the lock is as it was
//! where nothing moves. Nothing is packed.

use serde_json::{Value, json};

use super::private_archive::{Archive, Deb, Mirror, copy_from};
use crate::support::{Ran, Space};
use recipe::Lock;

/// A package of the source `site`, or of its own.
fn deb(name: &str, version: &'static str, fields: &str) -> Deb {
    Deb::new(name).of_version(version).fields(fields)
}

/// What is there from the start: a program that needs the library of its source in the same version, and one of another source.
fn first() -> Archive {
    let mut archive = Archive::of_tiny();
    archive.add(&deb("site-app", "1.0", "Source: site\nDepends: site-lib (= 1.0)\n"));
    archive.add(&deb("site-lib", "1.0", "Source: site\n"));
    archive.add(&deb("site-other", "1.0", ""));
    archive
}

fn with_mends(archive: &mut Archive) {
    archive.add(&deb("site-app", "2.0", "Source: site\nDepends: site-lib (= 2.0)\n"));
    archive.add(&deb("site-lib", "2.0", "Source: site\n"));
    archive.add(&deb("site-other", "2.0", ""));
}

/// A record of OSV on a source package of Debian 12; without a version that mends it where that is empty.
fn record(space: &Space, id: &str, source: &str, fixed: &str) {
    let mut events = vec![json!({ "introduced": "0" })];
    if !fixed.is_empty() {
        events.push(json!({ "fixed": fixed }));
    }
    let record = json!({
        "id": id,
        "modified": "2026-01-01T00:00:00Z",
        "affected": [{
            "package": { "ecosystem": "Debian:12", "name": source },
            "ranges": [{ "type": "ECOSYSTEM", "events": events }],
        }],
    });
    space.write(&format!("{id}.json"), &record.to_string());
}

fn text(space: &Space) -> String {
    std::fs::read_to_string(space.path().join("image.lock")).unwrap()
}

fn version(space: &Space, name: &str) -> String {
    let lock = Lock::parse(&text(space)).unwrap();
    let found = lock.pass.iter().flat_map(|pass| &pass.packages).find(|package| package.name == name);
    found.map(|package| package.version.clone()).unwrap_or_default()
}

fn security(space: &Space, ids: &[&str], more: &[&str]) -> Ran {
    let files = ["CVE-2026-0001.json", "CVE-2026-0002.json", "CVE-2026-0003.json"];
    let paths = files.map(|name| space.path().join(name).display().to_string());
    let words = paths.iter().flat_map(|path| ["--db", path.as_str()]);
    space.run(&[&["update", "--security"], ids, &words.collect::<Vec<_>>(), more].concat())
}

/// A recipe that asks for some words, its lock, and an archive that then has the mends.
fn space(words: &[&str]) -> (Space, Mirror, Archive) {
    let mut archive = first();
    let mirror = Mirror::start();
    mirror.publish(&archive);
    let space = copy_from(&mirror, words);
    space.run(&["update"]).good();
    record(&space, "CVE-2026-0001", "site", "2.0");
    record(&space, "CVE-2026-0002", "site-other", "");
    record(&space, "CVE-2026-0003", "site-nowhere", "2.0");
    with_mends(&mut archive);
    mirror.publish(&archive);
    (space, mirror, archive)
}

#[test]
fn only_what_mends_moves_and_what_has_no_mend_is_left() {
    let (space, _mirror, _) = space(&["site-app", "site-other"]);
    let before = text(&space);
    // Known, and of no package of the image; a mend that is not published.
    let ran = security(&space, &["CVE-2026-0003"], &[]);
    assert_eq!(ran.code, 0, "{}", ran.err);
    let ran = security(&space, &["CVE-2026-0002"], &[]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.out.contains("no fixed version is published yet"), "{}", ran.out);
    assert_eq!(text(&space), before);
    // The command that audit prints is the one that works.
    let database = space.path().join("CVE-2026-0001.json").display().to_string();
    let audit: Value = serde_json::from_str(&space.run(&["audit", "--json", "--db", &database]).out).unwrap();
    let words: Vec<&str> =
        audit["findings"][0]["update"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!(words[..2], ["imgbuild", "update"]);
    let ran = space.run(&[&words[1..], &["--json"]].concat());
    assert_eq!(ran.code, 0, "{}", ran.err);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    let mended = &document["images"][0]["mended"][0];
    assert_eq!((&mended["from"], &mended["to"]), (&Value::from("1.0"), &Value::from("2.0")));
    assert_eq!(["site-app", "site-lib", "site-other"].map(|name| version(&space, name)), ["2.0", "2.0", "1.0"]);
    assert_eq!(document["images"][0]["also"], json!([]));
    // All that is found: nothing is left to move, and one is left open.
    let after = text(&space);
    let ran = security(&space, &[], &[]);
    assert_eq!((ran.code, text(&space)), (2, after), "{}", ran.err);
    assert!(ran.out.contains("CVE-2026-0002") && !ran.out.contains("mended"), "{}", ran.out);
}

#[test]
fn what_the_recipe_pins_is_not_mended_and_stops_no_other() {
    let (space, mirror, mut archive) = space(&["site-app=1.0", "site-other"]);
    record(&space, "CVE-2026-0002", "site-other", "2.0");
    let ran = security(&space, &[], &["--json"]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    let document: Value = serde_json::from_str(&ran.out).unwrap();
    let image = &document["images"][0];
    assert_eq!(
        (&image["mended"][0]["id"], &image["open"][0]["finding"]["id"]),
        (&json!("CVE-2026-0002"), &json!("CVE-2026-0001"))
    );
    assert_eq!(image["open"][0]["reason"], "pinned");
    assert!(image["open"][0]["why"].as_str().unwrap().contains("`site-app=1.0`"), "{image}");
    assert_eq!(["site-app", "site-lib", "site-other"].map(|name| version(&space, name)), ["1.0", "1.0", "2.0"]);
    // A mend that no repository has.
    record(&space, "CVE-2026-0002", "site-other", "3.0");
    let before = text(&space);
    let ran = security(&space, &["CVE-2026-0002"], &[]);
    assert_eq!(ran.code, 2, "{}", ran.err);
    assert!(ran.out.contains("no repository of the recipe has 3.0 (newest there: 2.0)"), "{}", ran.out);
    // A newer version that mends nothing is not taken either.
    archive.add(&deb("site-other", "2.5", ""));
    mirror.publish(&archive);
    let ran = security(&space, &["CVE-2026-0002"], &[]);
    assert_eq!((ran.code, text(&space)), (2, before), "{}", ran.err);
    // What the recipe asks for besides is no update for security.
    space.edit("image.toml", "\"site-other\"", "\"site-other\", \"site-lib\"");
    record(&space, "CVE-2026-0002", "site-other", "2.5");
    let ran = security(&space, &["CVE-2026-0002"], &[]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let said = ran.err.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ");
    assert!(said.contains("out of date with the recipe"), "{said}");
}

/// The image's kernel under another name and version: an image without a kernel's files is refused.
fn as_another(space: &Space, name: &str) -> Vec<u8> {
    let lock = Lock::parse(&text(space)).unwrap();
    let is_kernel = |name: &str| name.starts_with("linux-image-") && name != "linux-image-cloud-amd64";
    let kernel = lock.pass.iter().flat_map(|pass| &pass.packages).find(|package| is_kernel(&package.name)).unwrap();
    let place = tempfile::tempdir().unwrap();
    let (tree, file) = (place.path().join("tree"), place.path().join("new.deb"));
    let dpkg = |words: &[&std::ffi::OsStr]| {
        assert!(std::process::Command::new("dpkg-deb").args(words).output().unwrap().status.success(), "{words:?}");
    };
    let digest = kernel.sha256.to_string();
    let package = super::store().join(format!("v1/packages/{}/{digest}", &digest[..2]));
    dpkg(&["-R".as_ref(), package.as_ref(), tree.as_ref()]);
    let control = tree.join("DEBIAN/control");
    let is_other = |line: &&str| !["Package:", "Version:", "Source:"].iter().any(|key| line.starts_with(key));
    let before = std::fs::read_to_string(&control).unwrap();
    let kept: Vec<&str> = before.lines().filter(is_other).collect();
    let head = format!("Package: {name}\nVersion: 6.1.9999-1\nSource: linux-signed-amd64 (6.1.9999+1)\n");
    std::fs::write(&control, head + &kept.join("\n") + "\n").unwrap();
    dpkg(&["-Zgzip".as_ref(), "-z1".as_ref(), "-b".as_ref(), tree.as_ref(), file.as_ref()]);
    std::fs::read(file).unwrap()
}

#[test]
fn the_next_kernel_comes_by_the_package_that_leads_to_it() {
    let (space, mirror, mut archive) = space(&["site-other"]);
    let was = version(&space, "linux-image-cloud-amd64");
    let name = "linux-image-6.1.0-999-cloud-amd64";
    let depends = format!("Source: linux-signed-amd64 (6.1.9999+1)\nDepends: {name} (= 6.1.9999-1)\n");
    archive.put(&format!("pool/{name}.deb"), as_another(&space, name));
    archive.add(&deb("linux-image-cloud-amd64", "6.1.9999-1", &depends));
    mirror.publish(&archive);
    record(&space, "CVE-2026-0003", "linux", "6.1.9999-1");
    let ran = security(&space, &["CVE-2026-0003"], &[]);
    assert_eq!(ran.code, 0, "{}{}", ran.out, ran.err);
    assert!(ran.err.contains("the kernel moves from") && ran.err.contains("nodes need a restart"), "{}", ran.err);
    assert_eq!((version(&space, name), version(&space, "site-other")), ("6.1.9999-1".to_owned(), "1.0".to_owned()));
    assert_ne!(version(&space, "linux-image-cloud-amd64"), was);
}
