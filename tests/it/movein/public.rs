//! Inputs after the shapes of public ones, which lie with the crate: what is made of each is what `imgbuild check` takes.

use std::path::Path;

use super::inside;
use crate::support::Space;

/// Inputs that are refused, and what the message says.
const REFUSED: [(&str, &str); 5] = [
    ("kiwi/nothing-of-a-release", "--distro NAME --release RELEASE"),
    ("openchami/two-documents", "a second document"),
    ("warewulf/vault-template", "--distro NAME --release RELEASE"),
    ("warewulf/nodes-conf", "imgbuild import nodes"),
    ("confluent/template-of-a-profile", "not well-formed YAML"),
];

/// Those whose release has no repositories of its own here.
const WITHOUT_REPOSITORIES: [&str; 1] = ["confluent/suse-hpc"];

#[test]
fn what_is_made_of_public_shapes_is_what_check_takes() {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/movein/tests/fixtures");
    let mut count = 0;
    for kind in ["kiwi", "openchami", "warewulf", "confluent"] {
        for entry in std::fs::read_dir(all.join(kind)).unwrap() {
            let folder = entry.unwrap().path();
            let name = format!("{kind}/{}", folder.file_name().unwrap().to_str().unwrap());
            let words = std::fs::read_to_string(folder.join("arguments")).unwrap_or_else(|_| match kind {
                "openchami" => {
                    let names = std::fs::read_dir(folder.join("in")).unwrap();
                    let mut names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
                    format!("in/{}", names.find(|name| name.ends_with(".yaml")).unwrap())
                }
                _ => "in".to_owned(),
            });
            let space = Space::new();
            crate::support::copy_tree(&folder, space.path());
            let words: Vec<&str> = words.split_whitespace().collect();
            let ran = space.run(&[&["import", kind], &words[..], &["--into", "new"]].concat());
            count += 1;
            if let Some((_, word)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
                assert!(ran.code == 1 && ran.err.contains(word), "{name}: {}{}", ran.out, ran.err);
                assert!(!space.path().join("new").exists(), "{name}");
                continue;
            }
            let ran = ran.good();
            let checked = inside(&space, &["check"]);
            if WITHOUT_REPOSITORIES.contains(&name.as_str()) {
                assert!(ran.out.contains("no repository is named") && checked.code == 1, "{name}: {}", ran.out);
                continue;
            }
            assert!(ran.err.contains("imgbuild check finds no error"), "{name}: {}\n{}", ran.err, checked.err);
            checked.good();
        }
    }
    assert!(count >= 30, "{count}");
}
