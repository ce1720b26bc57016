//! The planted faults: each switch in the sources has a row in the table, each row a switch and a test, each room two.
//! `tests/planted/run` plants them.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use serde::Deserialize;

use crate::support::project;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    fault: Vec<Fault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    name: String,
    room: String,
    promise: String,
    test: String,
    gate: Option<bool>,
    /// Why it is not in the gate.
    why: Option<String>,
    /// Why a test cannot tell that it was reached.
    unseen: Option<String>,
}

fn table() -> Vec<Fault> {
    let text = std::fs::read_to_string(project().join("tests/planted/faults.toml")).unwrap();
    toml::from_str::<Table>(&text).unwrap().fault
}

/// Folders whose folders are rooms.
const PARTED: [&str; 6] = ["archive", "build/actions", "nodes", "packages", "serve", "site"];

/// The room of a file: a crate, a folder of a crate that is parted, a folder of `imgbuild-init/src`, or the program.
fn room(path: &str) -> String {
    let path = path.trim_end_matches(".rs");
    if let Some(below) = path.strip_prefix("imgbuild-init/src/") {
        return format!("imgbuild-init/{}", below.split('/').next().unwrap());
    }
    let Some(of_crate) = path.strip_prefix("crates/") else { return "imgbuild".to_owned() };
    let parts: Vec<&str> = of_crate.split('/').enumerate().filter(|(at, _)| *at != 1).map(|(_, part)| part).collect();
    let is_parted = |depth: usize| parts.len() > depth + 1 && PARTED.contains(&parts[..depth].join("/").as_str());
    let depth = (1..3).find(|depth| is_parted(*depth)).map_or(1, |depth| depth + 1);
    parts[..depth].join("/")
}

fn sources(below: &str) -> Vec<(String, String)> {
    let files = walkdir::WalkDir::new(project().join(below)).sort_by_file_name().into_iter().map(Result::unwrap);
    files
        .filter(|file| file.path().extension().is_some_and(|ending| ending == "rs"))
        .map(|file| {
            let name = file.path().strip_prefix(project()).unwrap().to_str().unwrap().to_owned();
            (name, std::fs::read_to_string(file.path()).unwrap())
        })
        .collect()
}

/// Switches by name, with the files that have them.
fn switches() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (file, text) in ["src", "crates", "imgbuild-init/src"].into_iter().flat_map(sources) {
        for (at, call) in text.match_indices("fault::planted(\"") {
            let name = text[at + call.len()..].split('"').next().unwrap();
            found.entry(name.to_owned()).or_default().push(file.clone());
        }
    }
    // The one that only opens what notes others.
    found.remove("");
    found
}

#[test]
fn each_switch_has_a_row_and_each_row_one_switch() {
    let (table, switches) = (table(), switches());
    let rows: BTreeSet<&str> = table.iter().map(|fault| fault.name.as_str()).collect();
    assert_eq!(rows.len(), table.len(), "a name stands twice");
    assert_eq!(switches.keys().map(String::as_str).collect::<BTreeSet<_>>(), rows);
    for fault in &table {
        let files = &switches[&fault.name];
        assert_eq!(files.len(), 1, "{}: {files:?}", fault.name);
        assert_eq!(room(&files[0]), fault.room, "{}: {files:?}", fault.name);
        // By it the program of the node is chosen.
        assert_eq!(fault.name.starts_with("node-"), fault.room.starts_with("imgbuild-init/"), "{}", fault.name);
        assert!(!fault.promise.is_empty() && fault.unseen.as_deref() != Some(""), "{}", fault.name);
        assert_eq!(fault.gate, fault.why.as_ref().map(|_| false), "{}: gate = false has a reason", fault.name);
    }
}

#[test]
fn each_planted_fault_names_a_test_that_exists() {
    let texts: BTreeMap<String, String> =
        ["src", "crates", "imgbuild-init/src", "tests/it"].into_iter().flat_map(sources).collect();
    for Fault { name, test, .. } in table() {
        let mut parts: Vec<&str> = test.split("::").collect();
        let function = parts.pop().unwrap();
        let root = match parts.remove(0) {
            "imgbuild" => "src".to_owned(),
            "imgbuild-init" => "imgbuild-init/src".to_owned(),
            "it" => "tests/it".to_owned(),
            library => format!("crates/{}/src", library.replace('_', "-")),
        };
        // A module is a file, or the end of one.
        let at = |parts: &[&str]| Path::new(&root).join(parts.join("/")).to_str().unwrap().to_owned();
        let inner = parts.len() - usize::from(parts.last() == Some(&"tests"));
        let files = [at(&parts), at(&parts[..inner])].map(|path| [format!("{path}.rs"), format!("{path}/mod.rs")]);
        let of_root = ["main", "lib"].map(|file| format!("{root}/{file}.rs"));
        let has = |file: &String| texts.get(file).is_some_and(|text| text.contains(&format!("fn {function}(")));
        assert!(files.iter().flatten().chain(&of_root).any(has), "{name}: there is no test {test}");
    }
}

/// The rooms that need faults.
fn rooms() -> BTreeSet<String> {
    let mut found = BTreeSet::from(["imgbuild".to_owned()]);
    let folders = |below: &str| -> Vec<String> {
        let entries = std::fs::read_dir(project().join(below)).unwrap().map(Result::unwrap);
        let names = entries.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().into_string().unwrap());
        names.filter(|name| name != "snapshots").map(|name| format!("{below}/{name}")).collect()
    };
    found.extend(folders("imgbuild-init/src").iter().map(|folder| room(&format!("{folder}/x"))));
    for folder in folders("crates") {
        match PARTED.contains(&folder.trim_start_matches("crates/")) {
            true => found.extend(folders(&format!("{folder}/src")).iter().map(|inner| room(&format!("{inner}/x")))),
            false => drop(found.insert(room(&format!("{folder}/src/x")))),
        }
    }
    found.extend(folders("crates/build/src/actions").iter().map(|folder| room(&format!("{folder}/x"))));
    // Words, bytes of a program, and the switches themselves.
    for none in ["base", "embedded", "fault"] {
        found.remove(none);
    }
    found
}

fn counts() -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for fault in table() {
        *counts.entry(fault.room).or_default() += 1;
    }
    counts
}

#[test]
fn each_room_has_two_planted_faults() {
    let counts = counts();
    assert!(counts.values().sum::<usize>() >= 90);
    let few: Vec<String> = rooms().into_iter().filter(|room| counts.get(room).copied().unwrap_or(0) < 2).collect();
    assert!(few.is_empty(), "fewer than two planted faults: {few:?}");
}

/// docs/testing.md has the rooms with their numbers.
#[test]
fn the_page_has_as_many_planted_faults_as_there_are() {
    let page = std::fs::read_to_string(project().join("docs/testing.md")).unwrap();
    let (_, section) = page.split_once("\n## Planted faults\n").unwrap();
    let mut rows = BTreeMap::new();
    for line in section.lines().take_while(|line| !line.starts_with("## ")).filter(|line| line.starts_with('|')) {
        for cell in line.trim_matches('|').split('|') {
            let (room, count) = cell.trim().rsplit_once(' ').unwrap_or_default();
            if let (Some(room), Ok(count)) =
                (room.strip_prefix('`').and_then(|room| room.strip_suffix('`')), count.parse::<usize>())
            {
                rows.insert(room.to_owned(), count);
            }
        }
    }
    let counts = counts();
    let mut cells: Vec<String> = counts.iter().map(|(room, count)| format!("`{room}` {count}")).collect();
    cells.resize(cells.len().next_multiple_of(4), String::new());
    let table: Vec<String> = cells.chunks(4).map(|four| format!("| {} |", four.join(" | "))).collect();
    assert_eq!(rows, counts, "write:\n{}", table.join("\n"));
}

/// What is not compiled for tests has no faults: the function says so, and a release is searched for the variable.
#[test]
fn no_release_has_planted_faults() {
    let text = std::fs::read_to_string(project().join("crates/fault/src/lib.rs")).unwrap();
    let none = "#[cfg(not(feature = \"e2e\"))]\npub const fn planted(_: &str) -> bool {\n    false\n}\n";
    assert!(text.contains(none), "{text}");
    // Each function that names the variable is for tests.
    let named: Vec<&str> = text.split("\n#[cfg(").filter(|part| part.contains("\"IMGBUILD_PLANTED")).collect();
    assert!(named.len() <= 3 && named.iter().all(|part| part.starts_with("feature = \"e2e\")]")), "{text}");
    let release = std::fs::read_to_string(project().join(".ci/release")).unwrap();
    assert!(release.contains("grep -c IMGBUILD_PLANTED"), "{release}");
    let manifest = std::fs::read_to_string(project().join("imgbuild-init/Cargo.toml")).unwrap();
    assert!(manifest.contains("\ne2e = [\"fault/e2e\"]\n") && !manifest.contains("default ="));
}
