//! Mirrors that lie, stall, break or go away: what is said, the exit code, and that nothing is harmed.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::private_archive::{Archive, Deb, Deed, Mirror, Signer, copy_from, fails_with, xz};
use super::store;

/// A mirror with the tiny image's packages and some more.
fn mirror_with(names: &[&str]) -> (Mirror, Archive) {
    let mut archive = Archive::of_tiny();
    for name in names {
        archive.add(&Deb::new(name));
    }
    let mirror = Mirror::start();
    mirror.publish(&archive);
    (mirror, archive)
}

#[test]
fn a_release_file_that_cannot_be_trusted_is_refused() {
    let (mirror, archive) = mirror_with(&["site-release"]);
    let space = copy_from(&mirror, &["site-release"]);
    let try_it = |change: &dyn Fn(&mut Archive), words: &[&str]| {
        let mut changed = archive.clone();
        change(&mut changed);
        mirror.publish(&changed);
        fails_with(&space, &[], 4, words);
    };
    try_it(
        &|archive| archive.fields = "Valid-Until: Sat, 17 May 2025 09:45:39 UTC\n".to_owned(),
        &["`InRelease` from", "was valid until Sat, 17 May 2025", "check-valid-until = false"],
    );
    try_it(&|archive| archive.signer = Signer::Nobody, &["the signature of `InRelease`", "it is not signed"]);
    try_it(&|archive| archive.signer = Signer::Stranger, &["is not in the keyring", "signed-by"]);
    try_it(&|archive| archive.codename = "trixie".to_owned(), &["is for `trixie`, not `bookworm`"]);
    // Changed after it was signed.
    mirror.publish(&archive);
    let signed = packages::Fetcher::new().read(&format!("{}/dists/bookworm/InRelease", mirror.url), 1 << 20).unwrap();
    let changed = String::from_utf8(signed).unwrap().replace("Origin: test", "Origin: evil");
    mirror.misbehave("InRelease", Deed::Give(changed.into_bytes()));
    fails_with(&space, &[], 4, &["the signature of `InRelease`", "the file was altered"]);
}

#[test]
fn an_index_that_is_not_what_was_signed_or_cannot_be_meant_is_refused() {
    let (mirror, archive) = mirror_with(&["site-index"]);
    let space = copy_from(&mirror, &["site-index"]);
    let index = xz(archive.stanzas.as_bytes());
    let mut other = index.clone();
    let middle = other.len() / 2;
    other[middle] ^= 1;
    mirror.misbehave("Packages.xz", Deed::Give(other));
    fails_with(
        &space,
        &[],
        4,
        &["`Packages.xz` from", "has the SHA-256", "was expected", "half way through an update"],
    );
    let try_it = |change: &dyn Fn(&mut Archive), words: &[&str]| {
        let mut changed = archive.clone();
        change(&mut changed);
        mirror.publish(&changed);
        fails_with(&space, &[], 4, words);
    };
    try_it(&|archive| archive.plain = false, &["lists `main/binary-amd64/Packages.xz` but not", "apt needs to read"]);
    try_it(&|archive| archive.index = Some(bomb(600 << 20)), &["Packages.xz", "decompresses to more than 512 MiB"]);
    try_it(&|archive| archive.index = Some(index[..middle].to_vec()), &["Packages.xz", "cannot be unpacked"]);
    let own = "Filename: pool/main/site-index_1.0_all.deb";
    for path in ["../../etc/passwd", "pool/../../../etc/passwd", "/etc/passwd"] {
        try_it(
            &|archive| archive.stanzas = archive.stanzas.replace(own, &format!("Filename: {path}")),
            &["has a bad Filename for `site-index`", path],
        );
    }
    let (before, after) = archive.stanzas.rsplit_once("Package: site-index\n").unwrap();
    let evil = format!("{before}Package: site-index\n{}", after.replace("Version: 1.0\n", "Version: 1/../../../x\n"));
    try_it(&|archive| archive.stanzas.clone_from(&evil), &["has a bad Version for `site-index`"]);
    // A dependency may bring in what nobody asks for by name.
    let evil = "Package: ../../evil\nVersion: 1.0\nArchitecture: all\nEssential: yes\nMaintainer: x <x@example.invalid>\n\
                Description: x\nFilename: pool/evil.deb\nSize: 1\nSHA256: 0000000000000000000000000000000000000000000000000000000000000000\n\n";
    try_it(&|archive| archive.stanzas.push_str(evil), &["has a bad Package", "../../evil"]);
}

/// An index that unpacks to so many bytes.
fn bomb(size: u64) -> Vec<u8> {
    use std::io::Read;
    let mut out = Vec::new();
    liblzma::read::XzEncoder::new(std::io::repeat(b' ').take(size), 0).read_to_end(&mut out).unwrap();
    out
}

#[test]
fn redirects_are_followed_to_http_only_and_not_for_ever() {
    let (mirror, archive) = mirror_with(&["site-redirect"]);
    let space = copy_from(&mirror, &["site-redirect"]);
    mirror.misbehave("InRelease", Deed::Redirect("InRelease".to_owned()));
    fails_with(&space, &[], 4, &["cannot download `InRelease`", "too many redirects"]);
    let canary = space.path().join("canary");
    std::fs::write(&canary, "secret of the host\n").unwrap();
    for to in [format!("file://{}", canary.display()), format!("ftp://{}", &mirror.url[7..]), "gopher://x/1".to_owned()]
    {
        mirror.misbehave("InRelease", Deed::Redirect(to));
        let said = fails_with(&space, &[], 4, &["cannot download `InRelease`", "which is neither http nor https"]);
        assert!(!said.contains("secret of the host"), "{said}");
    }
    // https is spoken in earnest: this server does not.
    mirror.misbehave("InRelease", Deed::Redirect(format!("https://{}/dists/bookworm/InRelease", &mirror.url[7..])));
    fails_with(&space, &["--mirror-timeout", "2"], 4, &["cannot download `InRelease`"]);
    // One to the right place does no harm.
    mirror.publish(&archive);
    let to = format!("{}/dists/bookworm/InRelease", mirror.url);
    mirror.rule(move |request, _| match request.path.as_str() {
        "dists/bookworm/InRelease" if request.from == 0 => Deed::Serve,
        path if path.ends_with("Packages.xz") => Deed::Status(404),
        _ => Deed::Redirect(to.clone()),
    });
    fails_with(&space, &[], 4, &["`Packages.xz` is not at", "404", "components of [[repo]]"]);
}

#[test]
fn a_server_that_stalls_drips_or_breaks_is_asked_again_and_then_named() {
    use std::sync::{Arc, Mutex};
    use std::time::Instant;

    // Each mostly waits: side by side.
    let endless = "site-endless";
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let (mirror, _) = mirror_with(&["site-stall"]);
            let space = copy_from(&mirror, &["site-stall"]);
            let asked = Arc::new(Mutex::new(Vec::new()));
            let times = Arc::clone(&asked);
            mirror.rule(move |request, _| match request.path.ends_with("InRelease") {
                true => {
                    times.lock().unwrap().push(Instant::now());
                    Deed::Stall
                }
                false => Deed::Serve,
            });
            fails_with(&space, &["--mirror-timeout", "1"], 4, &["cannot download `InRelease`", "timeout"]);
            // With the usual patience it would be longer from the first time to the last, however busy the machine is.
            let asked = asked.lock().unwrap();
            assert!(asked.len() == 5 && asked[4] - asked[0] < 4 * packages::PATIENCE, "{asked:?}");
            mirror.misbehave("InRelease", Deed::Close);
            fails_with(&space, &["--mirror-timeout", "1"], 4, &["cannot download `InRelease`"]);
            assert_eq!(mirror.seen().len(), 5);
        });
        scope.spawn(|| {
            let (mirror, _) = mirror_with(&["site-drip"]);
            let space = copy_from(&mirror, &["site-drip"]);
            mirror.misbehave("Packages.xz", Deed::Drip);
            let words = ["cannot download `Packages.xz`", "fewer than 1024 per second", "can be reached from here"];
            fails_with(&space, &["--mirror-timeout", "1"], 4, &words);
            // Each try goes on where the one before ended.
            let starts: Vec<usize> =
                mirror.seen().iter().filter(|seen| seen.path.ends_with(".xz")).map(|seen| seen.from).collect();
            assert!(starts.len() == 5 && starts.windows(2).all(|pair| pair[0] < pair[1]), "{starts:?}");
            mirror.misbehave("Packages.xz", Deed::Endless);
            fails_with(&space, &[], 4, &["cannot download `Packages.xz`", "it is larger than the"]);
        });
        scope.spawn(|| {
            let (mirror, archive) = mirror_with(&[endless]);
            let space = copy_from(&mirror, &[endless]);
            for code in [500, 503] {
                mirror.misbehave("InRelease", Deed::Status(code));
                let answer = format!("the server answers {code}");
                fails_with(&space, &[], 4, &["cannot download `InRelease`", &answer]);
                assert_eq!(mirror.seen().len(), 5);
            }
            mirror.misbehave("InRelease", Deed::Status(404));
            fails_with(&space, &[], 1, &["has no suite `", "404", "[[repo]]"]);
            let seen: Vec<String> = mirror.seen().into_iter().map(|seen| seen.path).collect();
            // What follows asks whether the archive is a flat one, for the remedy.
            let flat = ["Packages.xz", "Packages.gz", "Packages"];
            assert_eq!(seen, [&["dists/bookworm/InRelease", "dists/bookworm/Release"][..], &flat].concat());
            mirror.misbehave("InRelease", Deed::Endless);
            fails_with(&space, &[], 4, &["cannot download `InRelease`", "it is larger than 16777216 bytes"]);
            drop(archive);
        });
    });
}

#[test]
fn a_package_that_is_not_what_was_announced_is_refused_and_named() {
    let (mirror, _) = mirror_with(&["site-package"]);
    let space = copy_from(&mirror, &["site-package"]);
    let file = "site-package_1.0_all.deb";
    let bytes = packages::Fetcher::new().read(&format!("{}/pool/main/{file}", mirror.url), 1 << 20).unwrap();
    let mut other = bytes.clone();
    *other.last_mut().unwrap() ^= 1;
    mirror.misbehave(file, Deed::Give(other));
    let words =
        [&format!("`{file}` from {}/pool/main", mirror.url), "has the SHA-256", "was expected", "another mirror"];
    fails_with(&space, &[], 4, &words);
    mirror.misbehave(file, Deed::Give([bytes.clone(), bytes.clone()].concat()));
    fails_with(&space, &[], 4, &[file, &format!("it is larger than the {} bytes announced", bytes.len())]);
    mirror.misbehave(file, Deed::Cut(40));
    fails_with(&space, &[], 4, &["cannot download", file]);
    let starts: Vec<usize> =
        mirror.seen().iter().filter(|seen| seen.path.ends_with(file)).map(|seen| seen.from).collect();
    assert_eq!(starts, [0, 40, 80, 120, 160]);
    mirror.misbehave(file, Deed::Status(404));
    fails_with(&space, &[], 4, &[&format!("`{file}` is not at"), "404"]);
}

#[test]
fn a_locked_package_that_left_the_mirror_is_named_with_the_ways_to_go_on() {
    let (mirror, _) = mirror_with(&[]);
    let other = tempfile::tempdir().unwrap();
    let space = copy_from(&mirror, &[]).with_store(&other.path().join("store"));
    let lock = std::fs::read_to_string(space.path().join("image.lock")).unwrap();
    // As an earlier imgbuild wrote it, without what the recipe says of repositories: it answers for all.
    let (before, rest) = lock.split_once("repo = [\n").unwrap();
    let lock = format!("{before}{}", rest.split_once("]\n").unwrap().1);
    space.write("image.lock", &lock);
    let lock = recipe::Lock::parse(&lock).unwrap();
    let tools = &lock.pass("tools").unwrap().packages;
    let gone = tools.iter().find(|package| package.name == "gzip").unwrap();
    // All but one are there already.
    for package in tools.iter().filter(|package| package.name != gone.name) {
        let hex = package.sha256.to_string();
        let to = space.store().join("v1/packages").join(&hex[..2]);
        std::fs::create_dir_all(&to).unwrap();
        std::fs::copy(store().join("v1/packages").join(&hex[..2]).join(&hex), to.join(&hex)).unwrap();
    }
    mirror.misbehave(gone.file.rsplit('/').next().unwrap(), Deed::Status(404));
    let words = [
        &format!("takes `gzip` {} from `{}`", gone.version, gone.origin),
        "404 Not Found) no longer has it",
        "`imgbuild update --package gzip`",
        "snapshot",
        "`imgbuild vendor DIR`",
        "deleting image.lock",
    ];
    fails_with(&space, &[], 4, &words);
}

#[test]
fn a_mirror_that_goes_away_and_comes_back_costs_only_what_was_missing() {
    let names: Vec<String> = (0..12).map(|number| format!("site-back-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let (mirror, _) = mirror_with(&names);
    let space = copy_from(&mirror, &names);
    let served = AtomicUsize::new(0);
    mirror.rule(move |request, _| {
        let of_us = request.path.contains("site-back");
        if of_us && served.fetch_add(1, Ordering::SeqCst) >= 5 { Deed::Close } else { Deed::Serve }
    });
    fails_with(&space, &["--mirror-timeout", "2"], 4, &["cannot download `site-back-", mirror.url.as_str()]);
    // It is back; one download breaks off on the way and is taken up where it broke.
    let broken = AtomicUsize::new(0);
    mirror.rule(move |request, _| {
        let first = request.path.contains("site-back") && broken.fetch_add(1, Ordering::SeqCst) == 0;
        if first { Deed::Cut(100) } else { Deed::Serve }
    });
    space.run(&["build"]).good();
    let seen: Vec<_> = mirror.seen().into_iter().filter(|seen| seen.path.contains("site-back")).collect();
    assert_eq!(seen.len(), 12 - 5 + 1, "{seen:?}");
    assert_eq!(seen.iter().filter(|seen| seen.from == 100).count(), 1, "{seen:?}");
    let shown = space.run(&["shell", "--", "/bin/sh", "-c", "cat /opt/site-back-* | wc -l"]).good().out;
    assert_eq!(shown.trim(), "12");
    assert!(std::fs::read_to_string(space.path().join("image.lock")).unwrap().contains("site-back-11"));
}
