//! `sbom`, `provenance` and `verify` on a small published directory: what independent validators say of the documents, that the same
//! image gives the same bytes, and that each byte that differs is named.

use std::path::{Path, PathBuf};
use std::process::Command;

use base::digest::Sha256;

use crate::support::{Ran, Space, files, imgbuild, needed, project};

mod refused;

/// An entry of cpio's `newc` form. Source: cpio(5).
fn newc(name: &str, mode: u32, content: &str) -> Vec<u8> {
    let fields = [1, mode, 0, 0, 1, 0, content.len() as u32, 0, 0, 0, 0, name.len() as u32 + 1, 0];
    let fields: String = fields.iter().map(|field| format!("{field:08x}")).collect();
    let mut bytes = format!("070701{fields}{name}\0").into_bytes();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes.extend(content.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

/// A root of Debian's with three packages, of which one has a source of another name and one a version with all that a version can
/// have; a file that a site changed, and two that no package has.
fn tree() -> Vec<u8> {
    let status = "Package: bash\nStatus: install ok installed\nArchitecture: amd64\nVersion: 5.2.15-2+b7\nSource: bash (5.2.15-2)\n\
                  Maintainer: Somebody of Bash <bash@lists.test>\n\n\
                  Package: libc6\nStatus: install ok installed\nArchitecture: amd64\nVersion: 2.36-9+deb12u9\nSource: glibc\n\n\
                  Package: odd+name\nStatus: install ok installed\nArchitecture: all\nVersion: 1:2.0~rc1+dfsg-1\n";
    let files = [
        ("etc/bash.bashrc", "edited here"),
        ("etc/munge/munge.key", "a key of the site"),
        ("usr/bin/bash", "abc"),
        ("usr/lib/modules/6.1/updates/mlx5.ko", "a driver"),
        ("usr/lib/os-release", "ID=debian\nVERSION_ID=\"12\"\n"),
        ("var/lib/dpkg/info/bash.list", "/.\n/etc/bash.bashrc\n/usr/bin/bash\n/usr/lib/os-release\n"),
        (
            "var/lib/dpkg/info/bash.md5sums",
            "900150983cd24fb0d6963f7d28e17f72  usr/bin/bash\n00000000000000000000000000000000  etc/bash.bashrc\n",
        ),
        ("var/lib/dpkg/status", status),
    ];
    let entries = files.iter().map(|(name, content)| newc(name, 0o100_644, content));
    entries.chain([newc("TRAILER!!!", 0, "")]).collect::<Vec<_>>().concat()
}

/// A lock of the image; its own package is in a tools root.
const LOCK: &str = "format = 1\nminor = 7\nepoch = 1793491200\ntarget = \"debian 12 x86_64\"\nsuite = []\n";

fn lock() -> String {
    let pass = |name: &str, packages: &[(&str, &str, &str)]| {
        let rows: String = packages
            .iter()
            .map(|(name, version, arch)| {
                let sha256 = Sha256::of(name.as_bytes());
                format!("    {{ name = \"{name}\", version = \"{version}\", arch = \"{arch}\", size = 1, sha256 = \"{sha256}\", origin = \"main\", file = \"pool/{name}.deb\" }},\n")
            })
            .collect();
        format!("\n[[pass]]\nname = \"{name}\"\ninstall = []\npackages = [\n{rows}]\n")
    };
    let base = [
        ("bash", "5.2.15-2+b7", "amd64"),
        ("libc6", "2.36-9+deb12u9", "amd64"),
        ("odd+name", "1:2.0~rc1+dfsg-1", "all"),
    ];
    format!("{LOCK}{}{}", pass("tools", &[("apt", "2.6.1", "amd64")]), pass("base", &base))
}

/// Publishes a made-up image into a directory as `build` writes it, with the lock that `pull` puts beside it.
fn publish(directory: &Path) {
    std::fs::create_dir_all(directory).unwrap();
    let image = tree();
    let third = image.len() / 3;
    let mut offset = 0;
    let frames: Vec<serde_json::Value> = [&image[..third], &image[third..2 * third], &image[2 * third..]]
        .into_iter()
        .map(|frame| {
            let at = offset;
            offset += frame.len();
            serde_json::json!({"offset": at, "size": frame.len(), "unpacked": frame.len(), "sha256": Sha256::of(frame)})
        })
        .collect();
    let index =
        serde_json::json!({"format": 1, "archive": "cpio", "compress": "none", "size": image.len(), "frames": frames})
            .to_string();
    let word = format!("imgdigest=sha256:{}", Sha256::of(index.as_bytes()));
    let all = [
        ("initrd-stateless", b"an initrd".to_vec()),
        ("kernel", b"a kernel".to_vec()),
        ("rootimg.cpio", image),
        ("rootimg.cpio.index", index.into_bytes()),
    ];
    let mut artefacts = Vec::new();
    let mut sums = String::new();
    for (name, bytes) in &all {
        std::fs::write(directory.join(name), bytes).unwrap();
        artefacts.push(serde_json::json!({"name": name, "size": bytes.len(), "sha256": Sha256::of(bytes)}));
        sums.push_str(&format!("{}  {name}\n", Sha256::of(bytes)));
    }
    std::fs::write(directory.join("SHA256SUMS"), sums).unwrap();
    let build = serde_json::json!({
        "format_version": "1.0", "name": "compute", "target": "debian 12 x86_64", "epoch": 1_793_491_200,
        "kernel_release": "6.1.0-31-amd64", "cmdline": ["imgurl={url}/rootimg.cpio", word, "quiet"], "memory": 1,
        "artefacts": artefacts, "layers": [["rootfs/base", "0".repeat(64)]], "not_reproducible": [], "own_drivers": ["drivers/mlx"],
    });
    std::fs::write(directory.join("build.json"), build.to_string()).unwrap();
    std::fs::write(directory.join("image.lock"), lock()).unwrap();
}

/// Puts one more artefact beside the others, as a build with `[publish] sbom` does.
fn add(directory: &Path, name: &str, bytes: &[u8]) {
    std::fs::write(directory.join(name), bytes).unwrap();
    let path = directory.join("build.json");
    let mut build: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    let artefacts = build["artefacts"].as_array_mut().unwrap();
    artefacts.retain(|one| one["name"] != name);
    artefacts.push(serde_json::json!({"name": name, "size": bytes.len(), "sha256": Sha256::of(bytes)}));
    let line =
        |one: &serde_json::Value| format!("{}  {}\n", one["sha256"].as_str().unwrap(), one["name"].as_str().unwrap());
    std::fs::write(directory.join("SHA256SUMS"), artefacts.iter().map(line).collect::<String>()).unwrap();
    std::fs::write(path, build.to_string()).unwrap();
}

fn published() -> (Space, PathBuf) {
    let space = Space::new();
    let directory = space.path().join("compute");
    publish(&directory);
    (space, directory)
}

fn json(ran: &Ran) -> serde_json::Value {
    serde_json::from_str(&ran.out).unwrap_or_else(|error| panic!("{error}: {}{}", ran.out, ran.err))
}

/// A key, and its public half.
fn key(space: &Space, name: &str) -> String {
    let path = space.path().join(name);
    space.run(&["cache", "key", path.to_str().unwrap()]).good().out.trim().to_owned()
}

/// Writes a signed statement into a file.
fn sign(space: &Space, key: &str, to: &str) {
    let key = space.path().join(key);
    space.run(&["provenance", "./compute", "--sign", key.to_str().unwrap(), "-o", to]).good();
}

/// Says what is wrong with documents in SPDX 2.3 and CycloneDX 1.6 and with the package URLs in them.
const CHECK: &str = r#"
import json, sys
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL
from spdx_tools.spdx.parser.parse_anything import parse_file
from spdx_tools.spdx.validation.document_validator import validate_full_spdx_document
spdx, cyclonedx = sys.argv[1:]
wrong = [message.validation_message for message in validate_full_spdx_document(parse_file(spdx))]
error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(open(cyclonedx).read())
wrong += [] if error is None else [str(error)]
urls = [one["purl"] for one in json.load(open(cyclonedx))["components"] if "purl" in one]
urls += [one["referenceLocator"] for package in json.load(open(spdx))["packages"] for one in package.get("externalRefs", [])]
wrong += [url for url in urls if PackageURL.from_string(url).to_string() != url]
print(json.dumps({"wrong": wrong, "urls": len(urls)}))
"#;

/// What validators that are not ours find wrong with the two documents; nothing where they are missing, and where that is said.
fn mistakes(spdx: &Path, cyclonedx: &Path) -> Option<(Vec<String>, u64)> {
    let python = needed(project().join("target/bill-tools/bin/python"), "tests/run installs it")?;
    let answer = Command::new(python).args(["-c", CHECK]).arg(spdx).arg(cyclonedx).output().unwrap();
    assert!(answer.status.success(), "{}", String::from_utf8_lossy(&answer.stderr));
    let answer: serde_json::Value = serde_json::from_slice(&answer.stdout).unwrap();
    Some((serde_json::from_value(answer["wrong"].clone()).unwrap(), answer["urls"].as_u64().unwrap()))
}

#[test]
fn the_bills_are_valid_complete_and_the_same_each_time() {
    let (space, directory) = published();
    let write = |format: &str, name: &str| {
        let ran = space.run(&["sbom", "./compute", "--format", format, "--output", name]).good();
        assert_eq!((ran.out.as_str(), ran.err.as_str()), ("", ""), "{format}");
        space.path().join(name)
    };
    let (spdx, cyclonedx) = (write("spdx", "a.spdx.json"), write("cyclonedx", "a.cdx.json"));
    let text = |path: &Path| std::fs::read_to_string(path).unwrap();
    // Another copy in another place, by another way.
    let copy = space.path().join("elsewhere/copy");
    publish(&copy);
    let printed = imgbuild().args(["sbom", "--format", "cyclonedx"]).arg(&copy).output().unwrap();
    assert_eq!(String::from_utf8(printed.stdout).unwrap(), text(&cyclonedx));
    if let Some((wrong, urls)) = mistakes(&spdx, &cyclonedx) {
        // Packages in both, and sources in one.
        assert_eq!((wrong, urls), (Vec::new(), 3 + 3 + 3));
        space.write(
            "bad.spdx.json",
            &text(&spdx).replacen(
                "\"relatedSpdxElement\": \"SPDXRef-Package-0-bash\"",
                "\"relatedSpdxElement\": \"SPDXRef-none\"",
                1,
            ),
        );
        space.write("bad.cdx.json", &text(&cyclonedx).replacen("operating-system", "bogus", 1));
        let (wrong, _) = mistakes(&space.path().join("bad.spdx.json"), &space.path().join("bad.cdx.json")).unwrap();
        assert_eq!(wrong.len(), 2, "{wrong:?}");
    }
    let document: serde_json::Value = serde_json::from_str(&text(&cyclonedx)).unwrap();
    let all = document["components"].as_array().unwrap();
    let of = |name: &str| all.iter().find(|one| one["name"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!(
        of("bash")["purl"],
        "pkg:deb/debian/bash@5.2.15-2%2Bb7?arch=amd64&distro=debian-12&upstream=bash%405.2.15-2"
    );
    assert_eq!(of("odd+name")["purl"], "pkg:deb/debian/odd%2Bname@1:2.0~rc1%2Bdfsg-1?arch=all&distro=debian-12");
    let digest = |name: &str| of(name)["hashes"][0]["content"].as_str().unwrap().to_owned();
    assert_eq!(digest("libc6"), Sha256::of(b"libc6").to_string());
    assert_eq!(digest("kernel"), Sha256::of(b"a kernel").to_string());
    assert_eq!(digest("image.lock"), Sha256::of(&std::fs::read(directory.join("image.lock")).unwrap()).to_string());
    assert_eq!(digest("/etc/munge/munge.key"), Sha256::of(b"a key of the site").to_string());
    assert_eq!(of("/usr/lib/modules/6.1/updates/mlx5.ko")["type"], "device-driver");
    assert_eq!(of("/etc/bash.bashrc")["properties"][0]["value"], "bash");
    assert_eq!(document["metadata"]["timestamp"], "2026-11-01T00:00:00Z");
    // Neither what a package brought as it is, nor what the package manager keeps.
    assert!(all.iter().all(|one| one["name"] != "/usr/bin/bash" && one["name"] != "/var/lib/dpkg/status"));
    // Without a lock, and with another one, it says so.
    std::fs::remove_file(directory.join("image.lock")).unwrap();
    let ran = space.run(&["sbom", "./compute"]).good();
    assert!(ran.err.contains("no image.lock") && !ran.out.contains(&Sha256::of(b"libc6").to_string()), "{}", ran.err);
    space.write("compute/image.lock", &lock().replace("5.2.15-2+b7", "5.2.15-2+b8"));
    let ran = space.run(&["sbom", "./compute"]).good();
    assert!(ran.err.contains("not the one that the image was built by"), "{}", ran.err);
    assert!(!ran.out.contains(&Sha256::of(b"bash").to_string()) && ran.out.contains(&Sha256::of(b"libc6").to_string()));
}

#[test]
fn each_file_of_which_one_byte_differs_is_named() {
    let (space, directory) = published();
    let public = key(&space, "site.key");
    sign(&space, "site.key", "compute/provenance.intoto.jsonl");
    let verify = |more: &[&str]| space.run(&[&["verify", "./compute"], more].concat());
    let good = verify(&["--key", &public]).good();
    assert!(
        good.err.contains(&format!("signed by {public}\n")) && good.err.contains("5 files and 3 frames"),
        "{}",
        good.err
    );
    let before = files(&directory);
    assert_eq!(before.len(), 8);
    for (name, bytes) in &before {
        // In the beginning, in the middle and at the end.
        for at in [0, bytes.len() / 2, bytes.len() - 2] {
            let mut spoilt = bytes.clone();
            spoilt[at] ^= 1;
            std::fs::write(directory.join(name), spoilt).unwrap();
            let ran = verify(&["--key", &public]);
            assert_eq!(ran.code, 1, "{name} {at}: {}", ran.err);
            assert!(ran.err.contains(name.as_str()), "{name} {at}: {}", ran.err);
            std::fs::write(directory.join(name), bytes).unwrap();
        }
        std::fs::remove_file(directory.join(name)).unwrap();
        let ran = verify(&["--key", &public]);
        // The lock is not part of what nodes get.
        let is_part = name != "image.lock";
        assert_eq!(ran.code, i32::from(is_part), "{name}: {}", ran.err);
        assert!(!is_part || ran.err.contains(name.as_str()), "{name}: {}", ran.err);
        std::fs::write(directory.join(name), bytes).unwrap();
    }
    verify(&["--key", &public]).good();
}

#[test]
fn the_frame_that_differs_is_named_in_text_and_json() {
    let (space, directory) = published();
    let path = directory.join("rootimg.cpio");
    let mut bytes = std::fs::read(&path).unwrap();
    let third = bytes.len() / 3;
    bytes[third + 5] ^= 1;
    std::fs::write(&path, &bytes).unwrap();
    let ran = space.run(&["verify", "./compute"]);
    let text = format!("`rootimg.cpio`: frame 1 (bytes {third} to {}) differs", 2 * third - 1);
    assert!(ran.code == 1 && ran.err.contains(&text), "{}", ran.err);
    let ran = space.run(&["verify", "./compute", "--json"]);
    let report = json(&ran);
    assert_eq!(ran.code, 1);
    assert_eq!(report["wrong"].as_array().unwrap().len(), 1, "{report}");
    assert_eq!((&report["wrong"][0]["frame"], &report["wrong"][0]["offset"]), (&1.into(), &third.into()));
    // Nothing is said of what such an image is made of.
    for words in [&["sbom", "./compute"][..], &["provenance", "./compute"]] {
        let ran = space.run(words);
        assert!(ran.code == 1 && ran.out.is_empty() && ran.err.contains("rootimg.cpio"), "{}{}", ran.out, ran.err);
    }
}

#[test]
fn a_copy_of_an_image_that_describes_itself_is_told_by_who_signed_it() {
    let (space, directory) = published();
    let (own, other) = (key(&space, "site.key"), key(&space, "other.key"));
    sign(&space, "site.key", "own.jsonl");
    // All of it is made over: another kernel, with digests that fit.
    let kernel = Sha256::of(b"a kernel").to_string();
    std::fs::write(directory.join("kernel"), b"b kernel").unwrap();
    for name in ["SHA256SUMS", "build.json"] {
        space.edit(&format!("compute/{name}"), &kernel, &Sha256::of(b"b kernel").to_string());
    }
    let verify = |more: &[&str]| space.run(&[&["verify", "./compute"], more].concat());
    let ran = verify(&[]).good();
    assert!(ran.err.contains("no signed statement describes this image"), "{}", ran.err);
    let ran = verify(&["--key", &own, "--provenance", "own.jsonl"]);
    assert!(ran.code == 1 && ran.err.contains("`build.json`") && ran.err.contains("`kernel`"), "{}", ran.err);
    // Signed by another key, which says whose it is.
    sign(&space, "other.key", "other.jsonl");
    let ran = verify(&["--key", &own, "--provenance", "other.jsonl"]);
    assert!(
        ran.code == 1 && ran.err.contains("not signed by a key that is named") && ran.err.contains(&other),
        "{}",
        ran.err
    );
    let ran = verify(&["--provenance", "other.jsonl"]).good();
    assert!(ran.err.contains("not compared with a key that you trust"), "{}", ran.err);
    verify(&["--key", &own, "--key", &other, "--provenance", "other.jsonl"]).good();
    assert_eq!(verify(&["--key", &own]).code, 1);
    assert_eq!(verify(&["--key", "ed25519:12"]).code, 64);
    let digest = Sha256::of(&std::fs::read(directory.join("build.json")).unwrap()).to_string();
    verify(&["--digest", &digest]).good();
    let ran = verify(&["--digest", &kernel]);
    assert!(ran.code == 1 && ran.err.contains("was expected"), "{}", ran.err);
    // What is not described is named, and what leads elsewhere is not read.
    space.write("compute/extra", "x");
    let ran = verify(&[]).good();
    assert!(ran.err.contains("`extra` in it is not part of the image"), "{}", ran.err);
    std::fs::rename(directory.join("kernel"), space.path().join("kernel")).unwrap();
    std::os::unix::fs::symlink("../kernel", directory.join("kernel")).unwrap();
    let ran = verify(&[]);
    assert!(ran.code == 1 && ran.err.contains("not a regular file"), "{}", ran.err);
    space.edit("compute/build.json", "\"kernel\"", "\"../kernel\"");
    let ran = verify(&[]);
    assert!(ran.code == 1 && ran.err.contains("unknown artefact `../kernel`"), "{}", ran.err);
}

#[test]
fn a_statement_is_signed_as_other_programs_check_it() {
    let (space, directory) = published();
    let public = key(&space, "site.key");
    let plain = space.run(&["provenance", "./compute", "--builder-id", "https://ci.test/runner"]).good();
    let statement = json(&plain);
    let digest = |one: &serde_json::Value| one["digest"]["sha256"].as_str().unwrap().to_owned();
    assert_eq!(statement["subject"][0]["name"], "build.json");
    assert_eq!(
        digest(&statement["subject"][0]),
        Sha256::of(&std::fs::read(directory.join("build.json")).unwrap()).to_string()
    );
    assert_eq!(statement["predicateType"], "https://slsa.dev/provenance/v1");
    assert_eq!(statement["predicate"]["runDetails"]["builder"]["id"], "https://ci.test/runner");
    let from = statement["predicate"]["buildDefinition"]["resolvedDependencies"].as_array().unwrap();
    let names: Vec<&str> = from.iter().map(|one| one["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["image.lock", "apt", "bash", "libc6", "odd+name"]);
    assert_eq!(digest(&from[0]), Sha256::of(lock().as_bytes()).to_string());
    sign(&space, "site.key", "a.jsonl");
    sign(&space, "site.key", "b.jsonl");
    let text = std::fs::read(space.path().join("a.jsonl")).unwrap();
    assert_eq!(text, std::fs::read(space.path().join("b.jsonl")).unwrap());
    // As openssl checks it.
    let envelope: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let base64 = |text: &serde_json::Value| data_encoding::BASE64.decode(text.as_str().unwrap().as_bytes()).unwrap();
    let payload = base64(&envelope["payload"]);
    let message = [format!("DSSEv1 28 application/vnd.in-toto+json {} ", payload.len()).as_bytes(), &payload].concat();
    let raw = data_encoding::HEXLOWER.decode(public.strip_prefix("ed25519:").unwrap().as_bytes()).unwrap();
    // Source: RFC 8410: the head of a public key of 32 bytes.
    let der = [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00][..], &raw].concat();
    for (name, bytes) in
        [("message", &message), ("signature", &base64(&envelope["signatures"][0]["sig"])), ("key.der", &der)]
    {
        std::fs::write(space.path().join(name), bytes).unwrap();
    }
    let checked = |message: &str| {
        let words = [
            "pkeyutl",
            "-verify",
            "-pubin",
            "-keyform",
            "DER",
            "-inkey",
            "key.der",
            "-rawin",
            "-in",
            message,
            "-sigfile",
            "signature",
        ];
        Command::new("openssl").args(words).current_dir(space.path()).output().map(|output| output.status.success())
    };
    match checked("message") {
        Ok(is_good) => assert!(is_good && !checked("key.der").unwrap()),
        Err(error) => crate::support::skip(&format!("openssl cannot be run: {error}")),
    }
    // A key that others can read signs nothing.
    let key = space.path().join("site.key");
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    let ran = space.run(&["provenance", "./compute", "--sign", key.to_str().unwrap()]);
    assert!(ran.code == 1 && ran.out.is_empty() && ran.err.contains("can be read by others"), "{}", ran.err);
}

#[test]
fn an_image_is_found_by_name_and_its_build_by_the_name_of_the_directory() {
    let space = Space::new();
    let made = space.path().join("made");
    publish(&made);
    std::fs::remove_file(made.join("image.lock")).unwrap();
    let short: String =
        Sha256::of(&std::fs::read(made.join("build.json")).unwrap()).to_string().chars().take(12).collect();
    let place = space.path().join(format!("images/.builds/compute/{short}"));
    std::fs::create_dir_all(place.parent().unwrap()).unwrap();
    std::fs::rename(made, &place).unwrap();
    std::os::unix::fs::symlink(format!(".builds/compute/{short}"), space.path().join("images/compute")).unwrap();
    let out = space.path().join("images");
    let verify = || space.run(&["verify", "compute", "--out", out.to_str().unwrap()]);
    verify().good();
    // Nobody signed it, but its directory is called after it.
    space.edit(&format!("images/.builds/compute/{short}/build.json"), "\"memory\":1", "\"memory\":2");
    let ran = verify();
    assert!(ran.code == 1 && ran.err.contains("`build.json`") && ran.err.contains(&short), "{}", ran.err);
    // Nor is anything said of such a build, or signed.
    let _ = key(&space, "site.key");
    let site = space.path().join("site.key");
    for words in [&["sbom"][..], &["provenance"], &["provenance", "--sign", site.to_str().unwrap()]] {
        let ran = space.run(&[words, &["compute", "--out", out.to_str().unwrap()]].concat());
        assert!(ran.code == 1 && ran.out.is_empty() && ran.err.contains(&short), "{words:?}: {}{}", ran.out, ran.err);
    }
    assert_eq!(space.run(&["verify", "none", "--out", out.to_str().unwrap()]).code, 1);
    let ran = space.run(&["verify", "./nothing"]);
    assert!(ran.code == 1 && ran.err.contains("nothing"), "{}", ran.err);
}

#[test]
fn bills_beside_an_image_are_those_of_the_command_and_compared_with_the_image() {
    let (space, directory) = published();
    let bill = |format: &str| space.run(&["sbom", "./compute", "--format", format]).good().out;
    let both = [("sbom.spdx.json", bill("spdx")), ("sbom.cdx.json", bill("cyclonedx"))];
    for (name, text) in &both {
        add(&directory, name, text.as_bytes());
    }
    // They are no part of what they describe.
    assert_eq!([bill("spdx"), bill("cyclonedx")], [both[0].1.clone(), both[1].1.clone()]);
    let verify = || space.run(&["verify", "./compute"]);
    assert!(verify().good().err.contains("7 files and 3 frames"));
    for (name, text) in &both {
        for (from, to, problem) in [
            (
                "libc6@2.36-9",
                "libc6@2.36-8",
                "differs from the image in 2 places: it lacks pkg:deb/debian/libc6@2.36-9",
            ),
            ("{", "[", "cannot be read"),
        ] {
            // Of the document's own references to it, too.
            let count = if from == "{" { 1 } else { usize::MAX };
            add(&directory, name, text.replacen(from, to, count).as_bytes());
            let ran = verify();
            assert!(ran.code == 1 && ran.err.contains(&format!("`{name}` {problem}")), "{}", ran.err);
        }
        add(&directory, name, text.as_bytes());
    }
    verify().good();
}

#[test]
fn documents_are_written_whole_or_not_at_all() {
    let (space, _) = published();
    for command in ["sbom", "provenance"] {
        let run = |before: &str| -> Ran {
            let script = format!("{before}exec \"$0\" \"$@\"");
            let mut shell = Command::new("sh");
            shell.args(["-c", &script, env!("CARGO_BIN_EXE_imgbuild"), "-C"]).arg(space.path());
            shell.args([command, "./compute", "-o", "document"]).env("NO_COLOR", "1").output().unwrap().into()
        };
        for before in ["", "what was there"] {
            let path = space.path().join("document");
            let _ = std::fs::remove_file(&path);
            if !before.is_empty() {
                space.write("document", before);
            }
            let names = || std::fs::read_dir(space.path()).unwrap().count();
            let count = names();
            let ran = run("ulimit -f 0; ");
            assert_eq!((ran.code, names()), (3, count), "{command}: {}", ran.err);
            assert_eq!(std::fs::read_to_string(&path).unwrap_or_default(), before, "{command}");
            run("").good();
            assert!(std::fs::read_to_string(&path).unwrap().ends_with("}\n"));
        }
    }
}
