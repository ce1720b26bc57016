//! `imgbuild push` and `pull` against a registry that fails, lies and wants to know who asks; real ones are in `e2e::oci`.

mod hostile;
mod referrers;
pub mod server;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base::digest::{Digest, Sha256};
use server::{Door, Fault, Registry};
use store::{ActionRecord, Outputs, Root, Store};

use crate::support::{Ran, files, imgbuild};

/// Frames of one byte each repeated: content that tells one from another.
pub fn frames(kinds: &[u8]) -> Vec<Vec<u8>> {
    kinds.iter().map(|kind| (0..100_000u32).map(|at| (at % 251) as u8 ^ kind).collect()).collect()
}

/// build.json and all files of a made-up image.
fn image(frames: &[Vec<u8>]) -> Vec<(String, Vec<u8>)> {
    let mut offset = 0;
    let mut listed = Vec::new();
    for frame in frames {
        let (sha256, size) = (Sha256::of(frame).to_string(), frame.len());
        listed.push(serde_json::json!({"offset": offset, "size": size, "unpacked": size, "sha256": sha256}));
        offset += size;
    }
    let index =
        serde_json::json!({"format": 1, "archive": "cpio", "compress": "zstd", "size": offset, "frames": listed});
    let mut files = vec![
        ("initrd-stateless".to_owned(), b"an initrd".repeat(1000)),
        ("kernel".to_owned(), b"a kernel".repeat(1000)),
        ("rootimg.cpio.zst".to_owned(), frames.concat()),
        ("rootimg.cpio.zst.index".to_owned(), index.to_string().into_bytes()),
    ];
    let artefacts: Vec<_> = files
        .iter()
        .map(|(name, bytes)| {
            serde_json::json!({"name": name, "size": bytes.len(), "sha256": Sha256::of(bytes).to_string()})
        })
        .collect();
    let sums: String = files.iter().map(|(name, bytes)| format!("{}  {name}\n", Sha256::of(bytes))).collect();
    let build = serde_json::json!({
        "format_version": "1.0", "name": "made-up", "target": "debian 12 x86_64", "epoch": 1, "kernel_release": "6.1",
        "cmdline": ["imgurl={url}/rootimg.cpio.zst"], "memory": 1, "artefacts": artefacts, "layers": [],
        "not_reproducible": [],
    });
    files.push(("SHA256SUMS".to_owned(), sums.into_bytes()));
    files.push(("build.json".to_owned(), build.to_string().into_bytes()));
    files.sort();
    files
}

/// A directory of images with the made-up one, as `build` publishes it.
pub fn publish(out: &Path, frames: &[Vec<u8>]) {
    let place = out.join("made-up");
    std::fs::create_dir_all(&place).unwrap();
    for (name, bytes) in image(frames) {
        std::fs::write(place.join(name), bytes).unwrap();
    }
}

/// A place for images here and there, and who asks: no one, unless a file says so.
struct Place {
    directory: tempfile::TempDir,
    registry: Registry,
}

impl Place {
    fn new() -> Self {
        let place = Self { directory: tempfile::tempdir().unwrap(), registry: Registry::start() };
        publish(&place.at("out"), &frames(b"abcdefgh"));
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn run(&self, words: &[&str]) -> Ran {
        let mut command = imgbuild();
        for name in ["no_proxy", "NO_PROXY", "DOCKER_CONFIG", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"] {
            command.env_remove(name);
        }
        // No proxy is asked for what is here.
        command.env("http_proxy", "http://127.0.0.1:9");
        let path = format!("{}:{}", self.at("bin").display(), std::env::var("PATH").unwrap());
        command.env("HOME", self.directory.path()).env("PATH", path).env_remove("REGISTRY_AUTH_FILE");
        command.arg("-C").arg(self.directory.path()).args(words).output().unwrap().into()
    }

    fn push(&self, to: &str) -> Ran {
        self.run(&["push", &self.registry.url(to), "made-up", "--out", self.at("out").to_str().unwrap()])
    }

    fn pull(&self, from: &str) -> Ran {
        self.run(&["pull", &self.registry.url(from), "there"])
    }

    /// What is published at the other place.
    fn there(&self) -> Vec<(String, Vec<u8>)> {
        files(&self.at("there/made-up"))
    }
}

/// Ends as it should, with a code and words; says nothing twice.
#[track_caller]
fn refused(ran: &Ran, code: i32, said: &[&str]) {
    for word in said {
        let text = ran.err.split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", "");
        assert!(text.contains(word), "{word}:\n{}", ran.err);
    }
    assert_eq!(ran.code, code, "{}", ran.err);
    assert!(ran.out.is_empty(), "{}", ran.out);
}

#[test]
fn only_what_is_missing_is_sent_and_comes_and_the_files_are_the_same() {
    let place = Place::new();
    let first = place.push("site/compute:1").good();
    // Config, build.json, kernel, initrd, index and eight frames.
    assert!(first.err.contains("13 of 13 blobs"), "{}", first.err);
    let digest = first.out.trim().rsplit_once('@').unwrap().1.to_owned();
    let again = place.push("site/compute:again").good();
    assert!(again.err.contains("0 of 13 blobs") && again.out == first.out, "{}", again.err);
    let ran = place.pull("site/compute:1").good();
    assert!(ran.err.contains("11 of 12 blobs") && ran.out.trim() == digest, "{} {}", ran.err, ran.out);
    assert_eq!(place.there(), files(&place.at("out/made-up")));
    // It lies as builds publish: a link to a directory that nothing changes.
    let link = std::fs::read_link(place.at("there/made-up")).unwrap();
    assert_eq!(link.parent().unwrap(), Path::new(".builds/made-up"));
    let ran = place.pull("site/compute:1").good();
    assert!(ran.err.contains("already has the image"), "{}", ran.err);
    // One frame is another one: it alone is sent and comes, with what names it.
    publish(&place.at("out"), &frames(b"abcXefgh"));
    let ran = place.push("site/compute:2").good();
    assert!(ran.err.contains("0.1 of 0.8 MB were sent, 3 of 13 blobs"), "{}", ran.err);
    let ran = place.pull("site/compute:2").good();
    assert!(ran.err.contains("0.1 of 0.8 MB came from the registry, 2 of 12 blobs"), "{}", ran.err);
    assert_eq!(place.there(), files(&place.at("out/made-up")));
    // The one before is there by its digest, and comes from what is here.
    let said: serde_json::Value = serde_json::from_str(
        &place.run(&["pull", &place.registry.url(&format!("site/compute@{digest}")), "there", "--json"]).good().out,
    )
    .unwrap();
    assert_eq!((&said["moved"], &said["digest"], &said["format_version"]), (&0.into(), &digest.into(), &"1.0".into()));
    // What was pulled can be pushed elsewhere, without a recipe.
    let there = place.at("there");
    let ran =
        place.run(&["push", &place.registry.url("other/x:1"), "made-up", "--out", there.to_str().unwrap(), "--json"]);
    let said: serde_json::Value = serde_json::from_str(&ran.good().out).unwrap();
    assert_eq!(first.out.trim().rsplit_once('@').unwrap().1, said["digest"]);
    assert_eq!((&said["blobs_sent"], &said["blobs"]), (&0.into(), &13.into()));
    let ran =
        place.run(&["boot-entry", "made-up", "--out", there.to_str().unwrap(), "--url", "http://10.0.0.1"]).good();
    assert!(ran.out.contains("http://10.0.0.1"), "{}", ran.out);
}

#[test]
fn a_registry_that_fails_is_asked_again_and_nothing_gets_a_name_before_all_is_there() {
    let place = Place::new();
    // Once each: it helps to ask again. An upload that broke begins anew.
    place.registry.fail(&[
        Fault::Status("HEAD", 503, 1),
        Fault::Status("POST", 500, 1),
        Fault::CutUpload(1),
        Fault::Status("PUT /v2/x/manifests", 502, 1),
    ]);
    place.push("x:1").good();
    assert_eq!(place.registry.asked("PUT /v2/x/manifests"), 2);
    place.registry.fail(&[Fault::Status("GET", 500, 1), Fault::CutDownload(3)]);
    let ran = place.pull("x:1").good();
    assert!(ran.err.contains("11 of 12"), "{}", ran.err);
    assert_eq!(place.there(), files(&place.at("out/made-up")));
    // For ever.
    let before = place.there();
    publish(&place.at("out"), &frames(b"ABCD"));
    place.registry.fail(&[Fault::CutUpload(1000)]);
    refused(
        &place.push("x:new"),
        3,
        &["oci::unreached", "cannot send a blob", "what it has is not sent again", "--ca"],
    );
    assert_eq!(place.registry.asked("PUT /v2/x/manifests"), 0);
    assert!(!place.registry.state.lock().unwrap().manifests.contains_key("new"));
    // All that is not the upload's work is done when it goes on.
    place.registry.fail(&[Fault::Status("PUT /v2/x/manifests", 500, 1000)]);
    refused(&place.push("x:new"), 3, &["take the manifest", "500", "UNKNOWN: told to"]);
    place.registry.fail(&[]);
    let ran = place.push("x:new").good();
    assert!(ran.err.contains("0 of 9 blobs"), "{}", ran.err);
    place.registry.fail(&[Fault::CutDownload(1000)]);
    refused(&place.pull("x:new"), 3, &["oci::unreached", "get ", "what came is kept"]);
    assert_eq!(place.there(), before);
    place.registry.fail(&[Fault::Status("GET /v2/x/blobs", 404, 1000)]);
    refused(&place.pull("x:new"), 1, &["oci::not_there", "push the image again"]);
    for fault in [Fault::OtherBytes, Fault::OtherManifest] {
        place.registry.fail(&[fault]);
        refused(&place.pull("x:new"), 1, &["oci::digest", "was expected", "push the image again"]);
    }
    place.registry.fail(&[Fault::Longer]);
    refused(&place.pull("x:new"), 3, &["it is longer than"]);
    assert_eq!(place.there(), before);
    place.registry.fail(&[]);
    place.pull("x:new").good();
    assert_eq!(place.there(), files(&place.at("out/made-up")));
    // No server, and no such tag or name.
    refused(&place.pull("x:nothing"), 1, &["oci::not_there", "name one of its tags: 1, new"]);
    let gone = format!(
        "oci://127.0.0.1:{}/x:1",
        std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
    );
    refused(&place.run(&["pull", &gone, "there"]), 3, &["oci::unreached", "check that the registry can be reached"]);
    place.registry.fail(&[Fault::Status("PUT", 413, 1000), Fault::Status("POST", 404, 1000)]);
    publish(&place.at("out"), &frames(b"Z"));
    refused(&place.push("x:1"), 1, &["oci::refused", "404", "create the repository"]);
    place.registry.fail(&[Fault::Status("PUT", 413, 1000)]);
    refused(&place.push("x:1"), 1, &["413", "client_max_body_size"]);
    // A file that someone changed is not sent.
    place.registry.fail(&[]);
    std::fs::write(place.at("out/made-up/kernel"), b"another!".repeat(1000)).unwrap();
    publish_without_kernel(&place);
    refused(&place.push("x:1"), 1, &["oci::modified", "imgbuild build"]);
}

/// Publishes once more, but for the kernel.
fn publish_without_kernel(place: &Place) {
    let changed = b"another!".repeat(1000);
    publish(&place.at("out"), &frames(b"Y"));
    std::fs::write(place.at("out/made-up/kernel"), changed).unwrap();
    let kernel = format!("sha256:{}", Sha256::of(&b"a kernel".repeat(1000)));
    place.registry.state.lock().unwrap().blobs.remove(&kernel);
}

#[test]
fn registries_that_want_to_know_who_asks_are_told_and_no_one_else_is() {
    let place = Place::new();
    // user:secret
    let header = "Basic dXNlcjpzZWNyZXQ=";
    let address = place.registry.address.clone();
    let log_in = |name: &str, text: String| {
        let path = place.at(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    place.registry.door(Door::Basic(header.to_owned()));
    refused(
        &place.push("x:1"),
        1,
        &["oci::denied", "push to `x`", "none is known", &format!("podman login {address}")],
    );
    log_in(".docker/config.json", format!(r#"{{"auths": {{"{address}": {{"auth": "dXNlcjp3cm9uZw=="}}}}}}"#));
    refused(&place.push("x:1"), 1, &["oci::denied", "does not accept the user or the password"]);
    // The file of podman goes before that of docker.
    log_in(
        ".config/containers/auth.json",
        format!(r#"{{"auths": {{"{address}/x": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#),
    );
    place.push("x:1").good();
    place.pull("x:1").good();
    // Tokens, which count a few times only: new ones are got on the way.
    place.registry.door(Door::Bearer(Some(header.to_owned()), 8));
    publish(&place.at("out"), &frames(b"ijklmnop"));
    place.push("x:2").good();
    let log = std::mem::take(&mut place.registry.state.lock().unwrap().log);
    let scopes: Vec<&String> = log.iter().filter(|line| line.starts_with("SCOPE")).collect();
    assert!(scopes.len() >= 3, "{scopes:?}");
    assert!(
        scopes[0].contains("service=s") && scopes[0].contains("pull%2Cpush") || scopes[0].contains("pull,push"),
        "{scopes:?}"
    );
    place.pull("x:2").good();
    assert_eq!(place.there(), files(&place.at("out/made-up")));
    // Anonymous tokens, and a server of tokens that refuses.
    std::fs::remove_file(place.at(".config/containers/auth.json")).unwrap();
    refused(&place.pull("x:2"), 1, &["oci::denied", "pull `x`", "server of tokens does not accept"]);
    std::fs::remove_file(place.at(".docker/config.json")).unwrap();
    refused(&place.pull("x:2"), 1, &["server of tokens wants a user"]);
    place.registry.door(Door::Bearer(None, 100));
    place.pull("x:2").good();
    // A token that never counts.
    place.registry.door(Door::Bearer(None, 0));
    refused(&place.pull("x:2"), 1, &["oci::denied", "401"]);
    // A program keeps the password.
    place.registry.door(Door::Basic(header.to_owned()));
    log_in(".docker/config.json", format!(r#"{{"credHelpers": {{"{address}": "test"}}}}"#));
    log_in(
        "bin/docker-credential-test",
        format!(
            "#!/bin/sh\nread -r place\n[ \"$place\" = {address} ] && echo '{{\"Username\": \"user\", \"Secret\": \"secret\"}}'\n"
        ),
    );
    std::fs::set_permissions(place.at("bin/docker-credential-test"), std::fs::Permissions::from_mode(0o755)).unwrap();
    place.pull("x:2").good();
    log_in(".docker/config.json", "{\"auths\": 1".to_owned());
    refused(&place.pull("x:2"), 1, &["oci::credentials", "line 1", "log in again"]);
    log_in(".docker/config.json", format!(r#"{{"auths": {{"{address}": {{"auth": "dXNlcjpzZWNyZXQ="}}}}}}"#));
    // Blobs elsewhere: what opens the registry is not for that server.
    let storage = Registry::start();
    let blobs = place.registry.state.lock().unwrap().blobs.clone();
    storage.state.lock().unwrap().blobs = blobs;
    place.registry.fail(&[Fault::BlobsAt(format!("http://{}/v2/x/blobs", storage.address))]);
    // It would say so: a wrong way to show who one is.
    storage.door(Door::Open);
    std::fs::remove_dir_all(place.at("there")).unwrap();
    place.pull("x:2").good();
    assert!(storage.asked("GET") > 5);
    assert_eq!(place.there(), files(&place.at("out/made-up")));
    place.registry.fail(&[Fault::BlobsAt("file:///etc".to_owned())]);
    std::fs::remove_dir_all(place.at("there")).unwrap();
    refused(&place.pull("x:2"), 1, &["oci::address", "neither http nor https"]);
    // Uploads go to the registry alone.
    publish(&place.at("out"), &frames(b"q"));
    place.registry.fail(&[Fault::UploadsTo(format!("http://{}/v2/x/blobs/uploads/1", storage.address))]);
    refused(&place.push("x:3"), 1, &["oci::address", "another host", "nothing was sent there"]);
    assert_eq!(storage.asked("PUT"), 0);
}

#[test]
fn blobs_that_another_repository_has_are_mounted() {
    let place = Place::new();
    place.registry.state.lock().unwrap().mountable = Some("site/base".to_owned());
    let out = place.at("out");
    let words = |from: &str, tag: &str| -> Ran {
        let to = place.registry.url(&format!("x:{tag}"));
        place.run(&["push", &to, "made-up", "--out", out.to_str().unwrap(), "--mount-from", from])
    };
    let ran = words("site/base", "1").good();
    assert!(ran.err.contains("0 of 13 blobs, 13 were taken from another repository"), "{}", ran.err);
    assert_eq!(place.registry.asked("PUT /v2/x/blobs"), 0);
    // One that lacks them: they are sent.
    publish(&place.at("out"), &frames(b"r"));
    let ran = words("site/none", "2").good();
    assert!(ran.err.contains("3 of 6 blobs") && !ran.err.contains("taken from"), "{}", ran.err);
    refused(&words("Bad Name", "3"), 64, &["oci::usage", "without the registry"]);
}

#[test]
fn layouts_and_archives_are_places_without_a_server() {
    let place = Place::new();
    let out = place.at("out");
    let push = |to: &str| place.run(&["push", to, "made-up", "--out", out.to_str().unwrap()]);
    let first = push("oci-layout:layout:a").good();
    publish(&place.at("out"), &frames(b"abcXefgh"));
    let ran = push("oci-layout:layout:b").good();
    assert!(ran.err.contains("3 of 13 blobs"), "{}", ran.err);
    place.run(&["pull", "oci-layout:layout:b", "there"]).good();
    assert_eq!(place.there(), files(&place.at("out/made-up")));
    let ran = place.run(&["pull", "oci-layout:layout:a", "there"]).good();
    assert_eq!(ran.out, first.out);
    refused(
        &place.run(&["pull", "oci-layout:layout:c", "there"]),
        1,
        &["oci::not_there", "name one of its tags: a, b"],
    );
    // The same bytes each time.
    push("oci-archive:one.tar:x").good();
    push("oci-archive:two.tar:x").good();
    assert_eq!(std::fs::read(place.at("one.tar")).unwrap(), std::fs::read(place.at("two.tar")).unwrap());
    refused(&push("oci-layout:out"), 1, &["oci::layout", "other files", "empty or new"]);
    refused(&push("oci-layout:one.tar"), 1, &["is not a directory"]);
    let _ = std::fs::remove_dir_all(place.at("there"));
    place.run(&["pull", "oci-archive:one.tar:x", "there"]).good();
    assert_eq!(place.there(), files(&place.at("out/made-up")));
    refused(&place.run(&["pull", "oci-archive:one.tar:y", "there"]), 1, &["oci::not_there", "name one of its tags: x"]);
    // Damaged, cut off, and no archive at all.
    let whole = std::fs::read(place.at("one.tar")).unwrap();
    let frame = &frames(b"e")[0][..64];
    let at = whole.windows(64).position(|bytes| bytes == frame).unwrap();
    let mut damaged = whole.clone();
    damaged[at] ^= 1;
    for (bytes, words) in [
        (&damaged[..], &["oci::digest"][..]),
        (&whole[..at], &["no index.json"][..]),
        (b"no archive", &["cannot read as a tar archive"][..]),
    ] {
        std::fs::write(place.at("bad.tar"), bytes).unwrap();
        let _ = std::fs::remove_dir_all(place.at("there"));
        let ran = place.run(&["pull", "oci-archive:bad.tar:x", "there"]);
        let said = ran.err.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(ran.code != 0 && words.iter().all(|word| said.contains(word)), "{} {}", ran.code, ran.err);
    }
    refused(&push(&place.registry.url("x")), 64, &["has no tag"]);
    refused(&push(&place.registry.url(&format!("x@sha256:{}", "0".repeat(64)))), 64, &["follows from what is pushed"]);
    assert_eq!(push("http://x/y").code, 64);
    assert_eq!(push("oci://User:p@host/x:1").code, 64);
    let ran = place.run(&["pull", &place.registry.url("x:1"), "there", "--ca", "nothing.pem"]);
    refused(&ran, 64, &["--ca nothing.pem is not a file"]);
}

/// A result that a cache gave, or that came to be here.
fn record(action: &str, believed: Option<&str>, layer: Option<Digest>) -> ActionRecord {
    ActionRecord {
        format: 1,
        key: Digest::of(action.as_bytes()),
        action: action.to_owned(),
        inputs: Vec::new(),
        outputs: Outputs { layer, ..Outputs::default() },
        milliseconds: 1,
        differing: None,
        differs_in: None,
        believed: believed.map(str::to_owned),
        digest: None,
    }
}

#[test]
fn what_is_a_caches_word_alone_is_said_when_it_is_pushed() {
    let place = Place::new();
    let (out, directory) = (place.at("out"), place.at("store"));
    let ids = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let store = Store::open(&directory, "uid 0 gid 0", ids).unwrap();
    let (layer, cache) = (Digest::of(b"a layer"), Some("/shared/cache"));
    let records = [
        record("rootfs/base", cache, None),
        record("pack/rootimg", cache, None),
        record("rootfs/sync", None, None),
        record("rootfs/other", cache, Some(layer)),
    ];
    records.iter().for_each(|record| store.commit_anew(record).unwrap());
    let push = |more: &[&str]| {
        let (out, store) = (out.to_str().unwrap(), directory.to_str().unwrap());
        let words = ["push", "oci-layout:layout:a", "made-up", "--out", out, "--store", store];
        place.run(&[&words[..], more].concat()).good()
    };
    let said = |ran: &Ran| ran.err.split_whitespace().collect::<Vec<_>>().join(" ").replace("│ ", "");
    let listed = || {
        let ran = push(&["--json"]);
        let document: serde_json::Value = serde_json::from_str(&ran.out).unwrap();
        let all = document["believed"].as_array().cloned().unwrap_or_default();
        all.iter().map(|one| format!("{} {}", one["action"], one["cache"]).replace('"', "")).collect::<Vec<_>>()
    };
    // What the store has of other images is no matter of this one.
    assert!(!said(&push(&[])).contains("cache's word"));
    assert!(listed().is_empty());
    let root = Root {
        format: 1,
        image: "made-up".to_owned(),
        recipe: place.at("recipe"),
        published: out.join("made-up").canonicalize().unwrap(),
        actions: records[..3].iter().map(|record| (record.action.clone(), record.key)).collect(),
        ..Root::default()
    };
    store.set_root(&root).unwrap();
    let text = said(&push(&[]));
    assert!(text.contains("nothing compared: pack/rootimg, rootfs/base (from /shared/cache)"), "{text}");
    assert!(text.contains("build with --cache-sample 100%"), "{text}");
    assert_eq!(listed(), ["pack/rootimg /shared/cache", "rootfs/base /shared/cache"]);
    // A layer has its name in build.json, whichever build of the store it is of.
    let path = out.join("made-up/build.json");
    let mut build: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    build["layers"] = serde_json::json!([["rootfs/other", layer.to_string()]]);
    std::fs::write(&path, build.to_string()).unwrap();
    assert_eq!(listed().len(), 3);
    // What was compared since is known.
    for one in &records {
        store.commit_anew(&ActionRecord { believed: None, ..one.clone() }).unwrap();
    }
    assert!(listed().is_empty() && !said(&push(&[])).contains("cache's word"));
}
