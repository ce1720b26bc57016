//! docs/respond.md is walked: each of its commands is one that the program takes, and those that build nothing run on the example site.

use serde_json::{Value, json};

use crate::audit::{Pass, lock};
use crate::support::{Ran, Space, project};

fn page() -> String {
    std::fs::read_to_string(project().join("docs/respond.md")).unwrap()
}

/// Blocks of a language in the page.
fn blocks(page: &str, language: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut block: Option<String> = None;
    for line in page.lines() {
        match (&mut block, line.strip_prefix("```")) {
            (Some(_), Some(_)) => found.extend(block.take()),
            (Some(text), None) => *text = format!("{text}{line}\n"),
            (None, Some(opened)) if opened == language => block = Some(String::new()),
            _ => {}
        }
    }
    found
}

/// Commands of the page, word by word, without the program's name.
fn commands(page: &str) -> Vec<Vec<String>> {
    let lines = ["sh", "console"].into_iter().flat_map(|language| blocks(page, language));
    let lines: Vec<String> = lines.flat_map(|block| block.lines().map(str::to_owned).collect::<Vec<_>>()).collect();
    let words = |line: &String| {
        let line = line.trim_start_matches("$ ").strip_prefix("imgbuild ")?;
        let line = line.split(" #").next().unwrap_or_default();
        Some(line.split_whitespace().map(|word| word.trim_matches('\'').to_owned()).collect())
    };
    lines.iter().filter_map(words).collect()
}

#[test]
fn each_command_is_one_that_the_program_takes() {
    let commands = commands(&page());
    assert!(commands.len() >= 9, "{commands:?}");
    let wrong: Vec<String> = commands
        .iter()
        .filter_map(|words| {
            let line = std::iter::once("imgbuild").chain(words.iter().map(String::as_str));
            imgbuild::help::command().try_get_matches_from(line).err().map(|error| format!("{words:?}: {error}"))
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    // In the order of a sitting.
    let verbs: Vec<&str> = commands.iter().map(|words| words[0].as_str()).collect();
    let sitting = ["audit", "audit", "update", "plan", "build", "nodes", "roll", "roll", "audit"];
    assert_eq!(verbs[..sitting.len()], sitting);
}

/// The example site with locks, and the file that the page calls `all.zip`: here one record of OSV.
fn site() -> Space {
    let space = Space::example("site");
    let passes: &[Pass] = &[
        ("tools", &["apt"], &[("apt", "2.6.1", "apt")]),
        ("base", &["?essential"], &[("libssl3", "3.0.11-1~deb12u2", "openssl"), ("bash", "5.2.15-2+b7", "bash")]),
    ];
    let text = lock("debian bookworm x86_64", passes);
    for name in ["compute/image.plain.lock", "compute/image.debug.lock", "login/image.lock"] {
        space.write(&format!("images/{name}"), &text);
    }
    let record = json!({ "id": "DEBIAN-CVE-2024-5535", "modified": "2026-01-01T00:00:00Z", "affected": [{
        "package": { "ecosystem": "Debian:12", "name": "openssl" },
        "ranges": [{ "type": "ECOSYSTEM", "events": [{ "introduced": "0" }, { "fixed": "3.0.14-1~deb12u1" }] }] }] });
    space.write("all.zip", &record.to_string());
    space
}

/// Runs a command of the page where the file lies.
fn run(space: &Space, words: &[String]) -> Ran {
    let file = space.path().join("all.zip").display().to_string();
    let words: Vec<&str> = words.iter().map(|word| if word == "all.zip" { file.as_str() } else { word }).collect();
    space.run(&words)
}

#[test]
fn the_sitting_begins_with_what_is_affected_and_who_has_it() {
    let space = site();
    space.run(&["check"]).good();
    let page = page();
    let commands = commands(&page);
    let images = run(&space, &commands[0]);
    assert_eq!(images.code, 2, "{}", images.err);
    for image in ["compute-plain", "compute-debug", "login"] {
        assert!(images.out.contains(image), "{}", images.out);
    }
    assert!(images.err.contains("3 findings in 3 images"), "{}", images.err);
    // The site's synced file is text: it is named, and changes nothing.
    assert!(
        images.err.contains("1 file of `login` that no package provides is compared with nothing (/etc/motd)"),
        "{}",
        images.err
    );
    // No node has a build yet: that is no good answer.
    let nodes = run(&space, &commands[1]);
    assert_eq!(nodes.code, 1, "{}", nodes.err);
    assert!(nodes.err.contains("has not given cn[001-008] a build yet"), "{}", nodes.err);
    // The statement in the page is one that counts.
    let statements = blocks(&page, "json");
    assert_eq!(statements.len(), 1);
    let document: Value = serde_json::from_str(&statements[0]).unwrap();
    let until = document["statements"][0]["until"].as_str().unwrap();
    space.write("page.openvex.json", &statements[0].replace(until, "2999-12-31"));
    let silenced = run(&space, &[&commands[0][..], &["-v".to_owned()]].concat()).good();
    assert!(silenced.err.contains("3 do not count by a statement"), "{}", silenced.err);
    assert!(silenced.out.contains("Anna Admin"), "{}", silenced.out);
    // The site's own is read, too: a day is needed there, and a reason.
    space.edit("site.openvex.json", "\"justification\": \"vulnerable_code_not_present\",", "");
    space.edit("site.openvex.json", "\"impact_statement\"", "\"other\"");
    let refused = run(&space, &commands[0]);
    assert!(refused.code == 1 && refused.err.contains("site.openvex.json"), "{}", refused.err);
}
