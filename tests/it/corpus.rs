//! The real lists beside the checkout: what each means, in one committed table.

use std::fmt::Write as _;
use std::path::Path;

use crate::support::{collected, imgbuild, project};

/// The table: one line a file, and its findings.
fn table(root: &Path) -> String {
    let mut files: Vec<_> = walkdir::WalkDir::new(root)
        .into_iter()
        .map(|entry| entry.unwrap().path().to_owned())
        .filter(|path| path.is_file())
        .collect();
    files.sort();
    let mut text = String::from(
        "# Written by the test `every_real_list_has_its_result`; what `imgbuild check --as KIND` says of each file.\n",
    );
    for path in files {
        let name = path.strip_prefix(root).unwrap().display().to_string();
        let kind = match () {
            () if name.ends_with(".otherpkgs.pkglist") => "otherpkgs",
            () if name.ends_with(".pkglist") => "pkglist",
            () if name.ends_with(".exlist") => "exlist",
            () if name.ends_with(".synclist") => "synclist",
            () => continue,
        };
        let output = imgbuild().args(["check", "--json", "--as", kind]).arg(&path).output().unwrap();
        let json: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{name}: {error}"));
        let _ = writeln!(text, "{name}\texit {}\t{}", output.status.code().unwrap(), summary(&json));
        for finding in json["findings"].as_array().unwrap() {
            let place = finding["file"].as_str().unwrap_or_default().replace(&format!("{}/", root.display()), "");
            let _ = writeln!(
                text,
                "  {} {}:{} {} {}",
                finding["severity"].as_str().unwrap(),
                place,
                finding["line"],
                finding["code"].as_str().unwrap(),
                finding["message"].as_str().unwrap().replace(&format!("{}/", root.display()), "")
            );
        }
    }
    text
}

/// What a list came to, short enough for a line and exact enough to notice a change.
fn summary(json: &serde_json::Value) -> String {
    let names = |list: &serde_json::Value, field: &str| -> Vec<String> {
        list.as_array()
            .into_iter()
            .flatten()
            .map(|item| {
                let folder = item["subdir"].as_str().map(|folder| format!("{folder}/")).unwrap_or_default();
                format!("{folder}{}", item[field].as_str().unwrap_or_default())
            })
            .collect()
    };
    let mut parts = Vec::new();
    for pass in json["passes"].as_array().into_iter().flatten() {
        let mut text = format!("[{}]", names(&pass["install"], "name").join(" "));
        for (word, field) in [("pre", "remove_before"), ("post", "remove_after"), ("env", "environment")] {
            let list = names(&pass[field], "name");
            if !list.is_empty() {
                let _ = write!(text, " {word}[{}]", list.join(" "));
            }
        }
        parts.push(text);
    }
    for (word, field) in [("exclude", "exclude"), ("include", "include")] {
        let list = names(&json[field], "pattern");
        if !list.is_empty() {
            parts.push(format!("{word}[{}]", list.join(" ")));
        }
    }
    parts.join(" ; ")
}

#[test]
fn every_real_list_has_its_result() {
    let Some(root) = collected("corpus/xcat") else { return };
    let root = root.canonicalize().unwrap();
    let table = table(&root);
    let path = project().join("tests/fixtures/xcat-corpus.tsv");
    if std::env::var_os("UPDATE_CORPUS_TABLE").is_some() {
        std::fs::write(&path, &table).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    let differing: Vec<_> = table.lines().zip(committed.lines()).filter(|(now, was)| now != was).take(5).collect();
    assert!(
        table == committed,
        "the table is stale (UPDATE_CORPUS_TABLE=1 renews it); first differences: {differing:#?}"
    );
}
