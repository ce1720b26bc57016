//! The planted faults: each still has its place in the source, and a test that there is. `tests/planted/run` runs them.

use std::process::Command;

use crate::support::project;

#[test]
fn each_planted_fault_can_be_planted() {
    let mut faults = 0;
    for entry in std::fs::read_dir(project().join("tests/planted")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|ending| ending != "patch") {
            continue;
        }
        faults += 1;
        // Without a repository above, such as in a directory of an archive, git apply works, too.
        let out = Command::new("git").args(["apply", "--check"]).arg(&path).current_dir(project()).output().unwrap();
        assert!(out.status.success(), "{}: {}", path.display(), String::from_utf8_lossy(&out.stderr));
        let text = std::fs::read_to_string(&path).unwrap();
        let test = text.lines().find_map(|line| line.strip_prefix("Test: ")).unwrap();
        // `it::e2e::mirror::a_release..` or a whole module: the file has it.
        let name = test.trim_end_matches("::").rsplit("::").next().unwrap();
        let below = if test.starts_with("it::") { "tests/it" } else { "src" };
        let has = walkdir::WalkDir::new(project().join(below)).into_iter().any(|entry| {
            let path = entry.unwrap().into_path();
            let is_named = path.file_stem().is_some_and(|stem| stem == name) || path.is_dir() && path.ends_with(name);
            is_named
                || path.extension().is_some_and(|ending| ending == "rs")
                    && std::fs::read_to_string(&path).unwrap().contains(&format!("fn {name}"))
        });
        assert!(has, "{}: there is no test {test}", path.display());
    }
    assert!(faults > 20, "{faults}");
}
