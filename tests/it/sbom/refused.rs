//! What `sbom`, `provenance` and `verify` refuse: images in another's place, locks and bills that nothing vouches for, files that
//! are none.

use std::os::unix::fs::symlink;

use super::*;

fn digest_of(path: &Path) -> Sha256 {
    Sha256::of(&std::fs::read(path).unwrap())
}

/// Puts a made-up image where a build puts it; gives the name of the build.
fn place(space: &Space, name: &str, memory: u32) -> String {
    let made = space.path().join("made");
    publish(&made);
    space.edit("made/build.json", "\"name\":\"compute\"", &format!("\"name\":\"{name}\""));
    space.edit("made/build.json", "\"memory\":1", &format!("\"memory\":{memory}"));
    let short = digest_of(&made.join("build.json")).short();
    let place = space.path().join(format!("images/.builds/{name}/{short}"));
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::rename(made, &place).unwrap();
    short
}

fn lead(space: &Space, build: &str) {
    let link = space.path().join("images/compute");
    let _ = std::fs::remove_file(&link);
    symlink(format!(".builds/{build}"), link).unwrap();
}

#[test]
fn another_image_in_its_place_is_refused_and_another_build_is_said() {
    let space = Space::new();
    let (own, older, other) = (place(&space, "compute", 1), place(&space, "compute", 2), place(&space, "other", 1));
    let out = space.path().join("images");
    let by_name = ["compute", "--out", out.to_str().unwrap()];
    lead(&space, &format!("other/{other}"));
    for words in ["verify", "sbom", "provenance"] {
        for which in [&by_name[..], &["./images/compute"]] {
            let ran = space.run(&[&[words], which].concat());
            let problem = ran.err.contains("is of the image `other`, not of `compute`");
            assert!(ran.code == 1 && ran.out.is_empty() && problem, "{words} {which:?}: {}{}", ran.out, ran.err);
        }
    }
    // By its own name it is as it was published.
    space.run(&["verify", &format!("./images/.builds/other/{other}")]).good();
    for build in [own, older] {
        lead(&space, &format!("compute/{build}"));
        let ran = space.run(&[&["verify"], &by_name[..]].concat()).good();
        let last = ran.err.lines().last().unwrap().to_owned();
        let what = format!("image compute, build {build}, epoch 2026-11-01T00:00:00Z: ");
        assert!(last.contains(&what), "{}", ran.err);
    }
    // A build that was moved below another image's name.
    let moved = space.path().join(format!("images/.builds/compute/{other}"));
    std::fs::rename(space.path().join(format!("images/.builds/other/{other}")), &moved).unwrap();
    let ran = space.run(&["verify", moved.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.err.contains("is of the image `other`, not of `compute`"), "{}", ran.err);
}

#[test]
fn a_lock_that_cannot_be_the_build_s_is_no_absent_lock() {
    let (space, directory) = published();
    let public = key(&space, "site.key");
    let path = directory.join("image.lock");
    let verify = |more: &[&str]| space.run(&[&["verify", "./compute"], more].concat());
    std::fs::rename(&path, space.path().join("a.lock")).unwrap();
    // The statement is made without it.
    sign(&space, "site.key", "without.jsonl");
    let signed = ["--key", public.as_str(), "--provenance", "without.jsonl"];
    verify(&signed).good();
    for is_link in [true, false] {
        match is_link {
            true => symlink("../a.lock", &path).unwrap(),
            false => std::fs::create_dir(&path).unwrap(),
        }
        for words in ["verify", "sbom", "provenance"] {
            let ran = space.run(&[words, "./compute"]);
            let is_named = ran.err.contains("image.lock") && ran.err.contains("not a regular file");
            assert!(ran.code == 1 && ran.out.is_empty() && is_named, "{words}: {}{}", ran.out, ran.err);
        }
        match is_link {
            true => std::fs::remove_file(&path).unwrap(),
            false => std::fs::remove_dir(&path).unwrap(),
        }
    }
    symlink("a.lock", space.path().join("b.lock")).unwrap();
    let ran = verify(&["--lock", "b.lock"]);
    assert!(ran.code == 1 && ran.err.contains("not a regular file"), "{}", ran.err);
    verify(&["--lock", "a.lock"]).good();
    // Put beside the image after it was signed.
    std::fs::copy(space.path().join("a.lock"), &path).unwrap();
    let ran = verify(&signed);
    assert!(ran.code == 1 && ran.err.contains("`image.lock` is not in the statement"), "{}", ran.err);
    // One that installs nothing.
    space.write("compute/image.lock", &format!("{LOCK}pass = []\n"));
    let ran = verify(&[]);
    assert!(ran.code == 1 && ran.err.contains("`image.lock` lists other packages"), "{}", ran.err);
    let ran = space.run(&["sbom", "./compute"]).good();
    assert!(ran.err.contains("not the one that the image was built by"), "{}", ran.err);
}

#[test]
fn a_bill_that_build_json_does_not_list_is_compared_with_its_digests() {
    let (space, directory) = published();
    let verify = || space.run(&["verify", "./compute"]);
    for (name, format) in [("sbom.spdx.json", "spdx"), ("sbom.cdx.json", "cyclonedx")] {
        let text = space.run(&["sbom", "./compute", "--format", format]).good().out;
        let path = directory.join(name);
        std::fs::write(&path, &text).unwrap();
        verify().good();
        let digest = |text: &str| Sha256::of(text.as_bytes()).to_string();
        for (from, to, problem) in [
            (digest("libc6"), digest("x"), "gives another digest of pkg:deb/debian/libc6@"),
            (digest("a kernel"), digest("x"), "gives another digest of "),
            (digest("a driver"), digest("x"), "gives another digest of "),
            ("munge.key".to_owned(), "munge.kex".to_owned(), "lacks "),
            ("libc6@2.36-9".to_owned(), "libc6@2.36-8".to_owned(), "lacks pkg:deb/debian/libc6@2.36-9"),
        ] {
            assert!(text.contains(&from), "{name} {from}");
            std::fs::write(&path, text.replace(&from, &to)).unwrap();
            let ran = verify();
            let is_named = ran.err.contains(&format!("`{name}` differs")) && ran.err.contains(problem);
            assert!(ran.code == 1 && is_named, "{name} {problem}: {}", ran.err);
        }
        std::fs::remove_file(&path).unwrap();
        symlink("build.json", &path).unwrap();
        let ran = verify();
        assert!(ran.code == 1 && ran.err.contains(&format!("`{name}` cannot be read")), "{}", ran.err);
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn who_signed_is_asked_before_what_and_a_named_key_alone_is_no_trust() {
    let (space, directory) = published();
    let (own, _) = (key(&space, "site.key"), key(&space, "other.key"));
    sign(&space, "other.key", "other.jsonl");
    let verify = |more: &[&str]| space.run(&[&["verify", "./compute"], more].concat());
    let report = |more: &[&str]| json(&verify(&[more, &["--json"]].concat()));
    assert_eq!(report(&["--key", &own, "--provenance", "other.jsonl"])["is_trusted"], false);
    assert_eq!(report(&["--provenance", "other.jsonl"])["is_trusted"], false);
    sign(&space, "site.key", "own.jsonl");
    let good = report(&["--key", &own, "--provenance", "own.jsonl"]);
    assert_eq!((&good["is_trusted"], &good["epoch"]), (&true.into(), &1_793_491_200.into()));
    // Its payload is `{}`.
    space.write("none.jsonl", r#"{"payloadType":"application/vnd.in-toto+json","payload":"e30=","signatures":[]}"#);
    let ran = verify(&["--provenance", "none.jsonl"]);
    assert!(ran.code == 1 && ran.err.contains("has no valid signature"), "{}", ran.err);
    symlink("own.jsonl", space.path().join("link.jsonl")).unwrap();
    let ran = verify(&["--provenance", "link.jsonl"]);
    assert!(ran.code == 1 && ran.err.contains("not a regular file"), "{}", ran.err);
    // What is no file, is too long or has no sense is wrong, and no failure of this machine.
    let path = directory.join("build.json");
    std::fs::rename(&path, space.path().join("build.json")).unwrap();
    symlink("../build.json", &path).unwrap();
    assert_eq!(verify(&[]).code, 1);
    std::fs::remove_file(&path).unwrap();
    std::fs::File::create(&path).unwrap().set_len((64 << 20) + 1).unwrap();
    let ran = verify(&[]);
    assert!(ran.code == 1 && ran.err.contains("the limit is"), "{}", ran.err);
}

#[test]
fn a_key_is_read_once() {
    let (space, _) = published();
    let public = key(&space, "site.key");
    let run = |script: &str| -> Ran {
        let mut shell = Command::new("sh");
        shell.args(["-c", script, env!("CARGO_BIN_EXE_imgbuild"), "-C"]).arg(space.path());
        shell.args(["provenance", "./compute", "--sign", "/dev/stdin", "-o", "a.jsonl"]);
        shell.current_dir(space.path()).env("NO_COLOR", "1").env("COLUMNS", "1000").output().unwrap().into()
    };
    run("cat site.key | \"$0\" \"$@\"").good();
    space.run(&["verify", "./compute", "--key", &public, "--provenance", "a.jsonl"]).good();
    let ran = run("echo x | \"$0\" \"$@\"");
    assert!(ran.code == 1 && ran.err.contains("is no key of `imgbuild cache key`"), "{}", ran.err);
}
