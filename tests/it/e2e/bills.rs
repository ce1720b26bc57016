//! A real image: its bill lists what dpkg has and what it does not, its statement names the commit that gives it, and its files are verified.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::offline::{build, warm};
use crate::support::Space;

fn git(directory: &Path, words: &[&str]) {
    let named = ["-c", "user.name=a", "-c", "user.email=a@example.invalid", "-c", "commit.gpgsign=false"];
    let output = Command::new("git").arg("-C").arg(directory).args(named).args(words).output().unwrap();
    assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn json(space: &Space, words: &[&str]) -> (serde_json::Value, String) {
    let ran = space.run(words).good();
    (serde_json::from_str(&ran.out).unwrap(), ran.err)
}

#[test]
fn a_real_image_is_listed_signed_and_verified() {
    let space = warm();
    build(&space).good();
    let words = ["sbom", "tiny", "--format", "cyclonedx"];
    let (bill, said) = json(&space, &words);
    assert_eq!(said, "");
    assert_eq!(bill, json(&space, &words).0);
    let all = bill["components"].as_array().unwrap();
    // All that dpkg has, each as image.lock pins it.
    let dpkg = space
        .run(&["shell", "tiny", "--", "dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture}\\n"])
        .good()
        .out;
    let installed: BTreeSet<String> = dpkg.lines().map(str::to_owned).collect();
    let listed = all.iter().filter(|one| one["purl"].is_string());
    let listed: BTreeSet<String> = listed
        .map(|one| {
            assert_eq!(one["hashes"][0]["alg"], "SHA-256", "{one}");
            let purl = one["purl"].as_str().unwrap();
            let arch = purl.split("arch=").nth(1).unwrap().split('&').next().unwrap();
            format!("{} {} {arch}", one["name"].as_str().unwrap(), one["version"].as_str().unwrap())
        })
        .collect();
    assert!(installed.len() > 20);
    assert_eq!(listed, installed);
    let has = |name: &str| all.iter().any(|one| one["name"] == name);
    // What the recipe and its script wrote, and nothing of what packages brought.
    assert!(has("/etc/passwd") && has("/root/.ssh/authorized_keys") && !has("/usr/bin/dpkg"), "{bill:#}");
    let files = all.iter().filter(|one| one["name"].as_str().unwrap().starts_with('/')).count();
    assert!(files < 200, "{files}");

    let key = space.path().join("site.key");
    let public = space.run(&["cache", "key", key.to_str().unwrap()]).good().out.trim().to_owned();
    let sign = || space.run(&["provenance", "tiny", "--sign", key.to_str().unwrap(), "-o", "tiny.jsonl"]).good().err;
    assert!(sign().contains("not in a git repository"));
    let verify = || space.run(&["verify", "tiny", "--key", &public, "--provenance", "tiny.jsonl"]);
    verify().good();
    // The commit that gives this build, and none that does not.
    space.write(".gitignore", "/out\n/.store\n/site.key\n/tiny.jsonl\n");
    git(space.path(), &["init", "-q"]);
    git(space.path(), &["add", "-A"]);
    git(space.path(), &["commit", "-q", "-m", "a"]);
    let head = Command::new("git").arg("-C").arg(space.path()).args(["rev-parse", "HEAD"]).output().unwrap();
    let head = String::from_utf8(head.stdout).unwrap().trim().to_owned();
    let (statement, said) = json(&space, &["provenance", "tiny"]);
    assert_eq!(said, "");
    let from = &statement["predicate"]["buildDefinition"]["resolvedDependencies"];
    assert_eq!((&from[0]["name"], &from[0]["digest"]["gitCommit"]), (&"recipe".into(), &head.into()));
    space.edit("tiny.postinstall", "set -e\n", "set -e\n# Another one.\n");
    let (statement, said) = json(&space, &["provenance", "tiny"]);
    assert!(said.contains("has changed since the build"), "{said}");
    assert_eq!(statement["predicate"]["buildDefinition"]["resolvedDependencies"][0]["name"], "image.lock");
    sign();
    verify().good();

    // Another kernel, with digests that fit: its directory is not called after it.
    let [kernel, record, sums] = ["kernel", "build.json", "SHA256SUMS"].map(|name| space.artefact("tiny", name));
    let before = [&kernel, &record, &sums].map(|path| std::fs::read(path).unwrap());
    let mut changed = before[0].clone();
    changed[0] ^= 1;
    std::fs::write(&kernel, &changed).unwrap();
    let [was, is] = [&before[0], &changed].map(|bytes| base::digest::Sha256::of(bytes).to_string());
    for path in [&record, &sums] {
        let text = std::fs::read_to_string(path).unwrap();
        assert!(text.contains(&was));
        std::fs::write(path, text.replace(&was, &is)).unwrap();
    }
    for words in [&["provenance", "tiny", "--sign", key.to_str().unwrap()][..], &["sbom", "tiny"], &["verify", "tiny"]]
    {
        let ran = space.run(words);
        assert!(ran.code == 1 && ran.out.is_empty() && ran.err.contains("name of its directory"), "{}", ran.err);
    }
    for (path, bytes) in [&kernel, &record, &sums].into_iter().zip(&before) {
        std::fs::write(path, bytes).unwrap();
    }

    let image = space.artefact("tiny", "rootimg.cpio.zst");
    let mut bytes = std::fs::read(&image).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    std::fs::write(&image, bytes).unwrap();
    let ran = verify();
    assert!(ran.code == 1 && ran.err.contains("`rootimg.cpio.zst`: frame "), "{}", ran.err);
    build(&space);
    space.edit("tiny.postinstall", "# Another one.\n", "");
    build(&space).good();
    verify().good();

    // Beside the artefacts, where the recipe says so: the build is the same, the bytes are those of the commands.
    let before = std::fs::read(&record).unwrap();
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("{recipe}\n[publish]\nsbom = true\n"));
    let with_key = || {
        let ran = space.run_with(&["build"], &[("IMGBUILD_CACHE_KEY", key.to_str().unwrap())]).good();
        ["sbom.spdx.json", "sbom.cdx.json", "provenance.intoto.jsonl"]
            .map(|name| (std::fs::read_to_string(space.artefact("tiny", name)).unwrap_or_default(), ran.err.clone()))
    };
    let [(spdx, said), (cyclonedx, _), (statement, _)] = with_key();
    assert!(said.contains("provenance.intoto.jsonl") && std::fs::read(&record).unwrap() == before, "{said}");
    assert_eq!(spdx, space.run(&["sbom", "tiny"]).good().out);
    assert_eq!(cyclonedx, space.run(&["sbom", "tiny", "--format", "cyclonedx"]).good().out);
    space.run(&["verify", "tiny", "--key", &public]).good();
    // What is there stays, and what is gone is written as it was.
    std::fs::remove_file(space.artefact("tiny", "sbom.spdx.json")).unwrap();
    std::fs::write(space.artefact("tiny", "sbom.cdx.json"), "a site's own").unwrap();
    let [(again, said), (own, _), (same, _)] = with_key();
    assert_eq!((again, own.as_str(), same), (spdx, "a site's own", statement));
    assert!(!said.contains("provenance.intoto.jsonl"), "{said}");
}
