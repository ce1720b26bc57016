//! What is beside an image: bills and statements come with it, and what someone put there stays.

use super::{Server, fetch, frames, publish};
use crate::support::files;
use base::digest::Sha256;
use std::path::Path;

const NAME: &str = "provenance.intoto.jsonl";

/// A statement about the build in a directory, with a word of who says it.
fn statement(of: &Path, who: &str) -> String {
    let build = Sha256::of(&std::fs::read(of.join("build.json")).unwrap()).to_string();
    serde_json::json!({"subject": [{"name": "build.json", "digest": {"sha256": build}}], "who": who}).to_string()
}

#[test]
fn a_good_statement_comes_with_its_image_and_is_never_dropped() {
    let place = tempfile::tempdir().unwrap();
    let (origin, to) = (place.path().join("origin"), place.path().join("copies/compute"));
    publish(&origin, &frames(b"ab"));
    let server = Server::of(&origin);
    let there = || std::fs::read_to_string(to.join(NAME)).unwrap_or_default();
    fetch(&server.url, &to, &[]).good();
    assert_eq!(there(), "");
    // One that came to the server later comes to a whole copy, too.
    let own = statement(&origin, "server");
    std::fs::write(origin.join(NAME), &own).unwrap();
    let ran = fetch(&server.url, &to, &[]).good();
    assert!(ran.err.contains("already has the image") && ran.err.contains(&format!("fetched besides: {NAME}")));
    assert_eq!(files(&to), files(&origin));
    // It stays where the server has none, has another, or does not say.
    let other = statement(&origin, "another");
    std::fs::write(origin.join(NAME), &other).unwrap();
    fetch(&server.url, &to, &[]).good();
    assert_eq!(there(), own);
    std::fs::remove_file(origin.join(NAME)).unwrap();
    for forbidden in [false, true] {
        if forbidden {
            std::fs::write(origin.join("forbidden"), "").unwrap();
        }
        // Also where the image itself is damaged here, and is brought again.
        for damaged in [false, true] {
            if damaged {
                std::fs::write(to.join("kernel"), "x").unwrap();
            }
            fetch(&server.url, &to, &[]).good();
            assert_eq!(there(), own, "{forbidden} {damaged}");
        }
    }
    // A later image: the statement that someone put here for it stays, that of the image before goes with it: notes say both.
    publish(&origin, &frames(b"abc"));
    std::fs::write(to.join(NAME), statement(&origin, "early")).unwrap();
    fetch(&server.url, &to, &[]).good();
    assert_eq!(there(), statement(&origin, "early"));
    publish(&origin, &frames(b"abcd"));
    let ran = fetch(&server.url, &to, &[]).good();
    assert_eq!(there(), "");
    assert!(ran.err.contains(&format!("note: {NAME} was not fetched: the server answers 403")), "{}", ran.err);
    assert!(ran.err.contains(&format!("{NAME} in the directory was about the image before")), "{}", ran.err);
    // The server's own, of another build, is not taken.
    std::fs::write(origin.join(NAME), &own).unwrap();
    let ran = fetch(&server.url, &to, &[]).good();
    assert!(there().is_empty() && ran.err.contains("is about another build: it was not taken"), "{}", ran.err);
}

#[test]
fn files_of_others_are_left_alone_and_what_is_no_image_is_refused() {
    let place = tempfile::tempdir().unwrap();
    let (origin, to) = (place.path().join("origin"), place.path().join("copies/compute"));
    publish(&origin, &frames(b"ab"));
    let server = Server::of(&origin);
    // A directory that is not an image's.
    std::fs::create_dir_all(&to).unwrap();
    std::fs::write(to.join("notes.txt"), "ours").unwrap();
    let ran = fetch(&server.url, &to, &[]);
    assert!(ran.code == 1 && ran.err.contains("notes.txt"), "{}", ran.err);
    std::fs::remove_file(to.join("notes.txt")).unwrap();
    // One in which there is a statement alone.
    std::fs::write(to.join(NAME), statement(&origin, "early")).unwrap();
    fetch(&server.url, &to, &[]).good();
    assert_eq!(std::fs::read_to_string(to.join(NAME)).unwrap(), statement(&origin, "early"));
    std::fs::write(to.join("notes.txt"), "ours").unwrap();
    publish(&origin, &frames(b"abc"));
    let ran = fetch(&server.url, &to, &["--json"]).good();
    let json: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["left_alone"], serde_json::json!(["notes.txt"]));
    assert_eq!(std::fs::read_to_string(to.join("notes.txt")).unwrap(), "ours");
    // What cannot go with a directory that is replaced.
    std::fs::create_dir(to.join("more")).unwrap();
    publish(&origin, &frames(b"abcd"));
    let before = std::fs::read(to.join("build.json")).unwrap();
    let ran = fetch(&server.url, &to, &[]);
    assert!(ran.code == 1 && ran.err.contains("`more`"), "{}", ran.err);
    assert_eq!(std::fs::read(to.join("build.json")).unwrap(), before);
    assert!(to.join("more").is_dir() && to.join("notes.txt").is_file());
}
