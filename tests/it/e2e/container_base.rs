//! Images whose root file system begins with a container image.

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use base::digest::Sha256;
use serde_json::{Value, json};

use super::compute::lock;
use super::oci::{Registry, good, listing, similar, tool};
use super::offline::SAME;
use super::private_archive::{Archive, Deb, Mirror};
use super::repositories::with_repo;
use crate::support::{Ran, Space, imgbuild};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";

/// A layer before it is compressed.
pub(super) fn archive(write: impl FnOnce(&mut tar::Builder<Vec<u8>>)) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    write(&mut builder);
    builder.into_inner().unwrap()
}

pub(super) fn entry(
    builder: &mut tar::Builder<Vec<u8>>,
    kind: tar::EntryType,
    path: &str,
    (mode, uid): (u32, u64),
    text: &str,
) {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_uid(uid);
    header.set_gid(uid);
    header.set_mtime(1_000_000_000);
    let is_file = kind == tar::EntryType::Regular;
    header.set_size(if is_file { text.len() as u64 } else { 0 });
    let fields = header.as_gnu_mut().unwrap();
    fields.name[..path.len()].copy_from_slice(path.as_bytes());
    if !is_file {
        fields.linkname[..text.len()].copy_from_slice(text.as_bytes());
    }
    header.set_cksum();
    builder.append(&header, if is_file { text.as_bytes() } else { b"" }).unwrap();
}

pub(super) fn file(builder: &mut tar::Builder<Vec<u8>>, path: &str, text: &str) {
    entry(builder, tar::EntryType::Regular, path, (0o644, 0), text);
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// A container image in a directory in OCI's layout.
pub(super) struct Image {
    pub architecture: &'static str,
    /// Compressed layers, each with its diff_id.
    pub layers: Vec<(Vec<u8>, Sha256)>,
}

impl Image {
    pub fn new() -> Self {
        Self { architecture: "amd64", layers: Vec::new() }
    }

    pub fn with(mut self, plain: &[u8]) -> Self {
        self.layers.push((gzip(plain), Sha256::of(plain)));
        self
    }

    /// Writes it; gives the digest of its manifest.
    pub fn write(&self, layout: &Path, tag: &str) -> Sha256 {
        let blobs = layout.join("blobs/sha256");
        std::fs::create_dir_all(&blobs).unwrap();
        let put = |kind: &str, bytes: &[u8]| -> Value {
            let digest = Sha256::of(bytes);
            std::fs::write(blobs.join(digest.to_string()), bytes).unwrap();
            json!({ "mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len() })
        };
        let diffs: Vec<String> = self.layers.iter().map(|(_, diff)| format!("sha256:{diff}")).collect();
        let config = json!({
            "architecture": self.architecture, "os": "linux", "config": {},
            "rootfs": { "type": "layers", "diff_ids": diffs }
        });
        let config = put("application/vnd.oci.image.config.v1+json", config.to_string().as_bytes());
        let layers: Vec<Value> = self.layers.iter().map(|(bytes, _)| put(LAYER, bytes)).collect();
        let kind = "application/vnd.oci.image.manifest.v1+json";
        let manifest = json!({ "schemaVersion": 2, "mediaType": kind, "config": config, "layers": layers }).to_string();
        let mut named = put(kind, manifest.as_bytes());
        named["annotations"] = json!({ "org.opencontainers.image.ref.name": tag });
        std::fs::write(layout.join("oci-layout"), "{\"imageLayoutVersion\":\"1.0.0\"}").unwrap();
        let index = json!({ "schemaVersion": 2, "manifests": [named] });
        std::fs::write(layout.join("index.json"), index.to_string()).unwrap();
        Sha256::of(manifest.as_bytes())
    }
}

/// What makes a root of Debian 12 to those who look at it.
fn small() -> Vec<u8> {
    archive(|builder| {
        file(builder, "etc/os-release", "ID=debian\nVERSION_CODENAME=bookworm\n");
        file(
            builder,
            "var/lib/dpkg/status",
            "Package: some\nStatus: install ok installed\nVersion: 1\nArchitecture: amd64\n",
        );
    })
}

const TINY: &str = "[image]\nname = \"tiny\"\nrelease = \"bookworm\"\nfrom = \"oci:./base\"\n\n\
    [[repo]]\nuri = \"http://127.0.0.1:1\"\nsuites = [\"bookworm\"]\ncomponents = [\"main\"]\ntrusted = true\n\n\
    [kernel]\npackage = \"linux-image-cloud-amd64\"\n\n[system]\nauthorized_keys = [\"admin.pub\"]\n";

/// A text without what wrapping puts into it, at slashes and hyphens too.
pub(super) fn unwrapped(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_whitespace() && *letter != '│').collect()
}

pub(super) fn refused(space: &Space, code: &str, words: &[&str]) {
    let ran = space.run(&["build"]);
    let said = unwrapped(&ran.err);
    assert!(ran.code == 1 && said.contains(code), "{} {}", ran.code, ran.err);
    for word in words {
        assert!(said.contains(&unwrapped(word)), "`{word}`: {}", ran.err);
    }
}

#[test]
fn a_container_image_that_cannot_be_the_base_is_refused_with_the_reason() {
    let space = Space::new();
    space
        .write("image.toml", TINY)
        .write("admin.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty x\n");
    let layout = space.path().join("base");
    let of = |write: &dyn Fn(&mut tar::Builder<Vec<u8>>)| Image::new().with(&small()).with(&archive(|one| write(one)));
    let try_it = |image: &Image, words: &[&str]| {
        let _ = std::fs::remove_dir_all(&layout);
        image.write(&layout, "12");
        refused(&space, "recipe::refused", words);
    };
    use tar::EntryType as Kind;
    let os_release = |text: &'static str| of(&move |one| file(one, "etc/os-release", text));
    try_it(&os_release("ID=ubuntu\nVERSION_CODENAME=noble\n"), &["is ubuntu noble, but", "debian bookworm"]);
    try_it(&os_release("ID=debian\nVERSION_CODENAME=trixie\n"), &["is debian trixie, but", "debian bookworm"]);
    try_it(&of(&|one| file(one, "etc/.wh.os-release", "")), &["no /etc/os-release"]);
    try_it(&of(&|one| file(one, "var/lib/dpkg/.wh.status", "")), &["no database of packages", "distroless"]);
    let status = |text: &'static str| of(&move |one| file(one, "var/lib/dpkg/status", text));
    const HEAD: &str = "Status: install ok installed\nVersion: 1\n";
    let kernel = format!("Package: linux-image-6.1.0-30-amd64\n{HEAD}Architecture: amd64\n").leak();
    try_it(&status(kernel), &["linux-image-6.1.0-30-amd64", "[kernel]"]);
    let foreign = format!("Package: libc6\n{HEAD}Architecture: i386\n").leak();
    try_it(&status(foreign), &["`libc6` is of i386"]);
    try_it(&status("Package: x\nStatus: install ok unpacked\nVersion: 1\nArchitecture: all\n"), &["dpkg --configure"]);
    // Hostile entries.
    let hostile = |entries: &'static [(Kind, &'static str, &'static str)]| {
        of(&move |one| entries.iter().for_each(|(kind, path, text)| entry(one, *kind, path, (0o644, 0), text)))
    };
    let outside = space.path().join("outside");
    std::fs::write(&outside, "canary").unwrap();
    try_it(&hostile(&[(Kind::Regular, "../outside", "evil")]), &["layer 2", "escapes"]);
    try_it(&hostile(&[(Kind::Link, "x", "../outside")]), &["layer 2", "escapes"]);
    try_it(&hostile(&[(Kind::Link, "x", "/no/such")]), &["layer 2", "cannot link"]);
    try_it(&hostile(&[(Kind::Block, "etc/disk", "")]), &["layer 2", "special file"]);
    let absolute: &'static str = outside.to_str().unwrap().to_owned().leak();
    let through: &'static [_] = vec![(Kind::Symlink, "x", absolute), (Kind::Regular, "x/y", "evil")].leak();
    try_it(&hostile(through), &["layer 2", "cannot write"]);
    assert_eq!(std::fs::read(&outside).unwrap(), b"canary");
    // Bazel's rules and the like have /lib as a directory in a layer of their own.
    let merged = archive(|one| {
        entry(one, Kind::Directory, "usr/lib", (0o755, 0), "");
        entry(one, Kind::Symlink, "lib", (0o777, 0), "usr/lib");
    });
    let over = archive(|one| {
        entry(one, Kind::Directory, "lib", (0o755, 0), "");
        file(one, "lib/more", "x");
    });
    let image = Image::new().with(&small()).with(&merged);
    try_it(
        &Image { layers: image.layers.clone(), ..Image::new() }.with(&over),
        &["layer 3", "/lib, a link to usr/lib"],
    );
    // What it says of itself is not so.
    let mut image = Image::new().with(&small());
    image.layers[0].1 = Sha256::of(b"other");
    try_it(&image, &["diff_id"]);
    let mut image = Image::new().with(&small());
    let half = image.layers[0].0.len() / 2;
    image.layers[0].0.truncate(half);
    try_it(&image, &["layer 1", "cannot be unpacked"]);
    // Of these nothing is in the store; the three whose databases cannot be gone on from are good layers.
    let actions = walkdir::WalkDir::new(space.store().join("v1/actions")).into_iter().flatten();
    assert_eq!(actions.filter(|one| one.file_type().is_file()).count(), 3);
    let _ = std::fs::remove_dir_all(&layout);
    Image { architecture: "arm64", ..Image::new().with(&small()) }.write(&layout, "12");
    refused(&space, "oci::not_a_base", &["no image for linux/amd64; it has linux/arm64"]);
    space.edit("image.toml", "./base", "./base:13");
    refused(&space, "oci::not_there", &["no such tag", "name one of its tags: 12"]);
    // Before anything is asked for.
    space.edit("image.toml", "oci:./base:13", "debian:12");
    refused(&space, "recipe::base_image", &["oci:REGISTRY/NAME:TAG"]);
    space.edit("image.toml", "debian:12", "oci:./base");
    space.edit("image.toml", "[kernel]", "[packages]\nbase = \"minbase\"\n\n[kernel]");
    refused(&space, "recipe::base_image", &["remove this line"]);
}

#[test]
fn a_registry_whose_blob_is_damaged_is_not_believed() {
    let space = Space::new();
    space
        .write("image.toml", TINY)
        .write("admin.pub", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGKRkbNXsrZuG0DY24YcLBn0bpOjO3bUTMXsZkVDp8Ty x\n");
    let layout = space.path().join("made");
    let image = Image::new().with(&small());
    image.write(&layout, "12");
    let place = space.path().join("registry");
    let registry = Registry::start(&place, "");
    let from = registry.url("site/base:12");
    copy_to(&layout, "12", &from, "oci");
    space.edit("image.toml", "oci:./base", &from);
    // The packages cannot be had, but the container image is.
    let ran = space.run(&["build"]);
    assert!(ran.code != 0 && !ran.err.contains("oci::"), "{}", ran.err);
    let _ = std::fs::remove_dir_all(space.store());
    let digest = Sha256::of(&image.layers[0].0).to_string();
    let blob = place.join(format!("data/docker/registry/v2/blobs/sha256/{}/{digest}/data", &digest[..2]));
    let mut bytes = std::fs::read(&blob).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&blob, &bytes).unwrap();
    refused(&space, "oci::digest", &[&digest]);
    space.edit("image.toml", "site/base:12", "site/base:13");
    refused(&space, "oci::not_there", &["name one of its tags: 12"]);
    let kept = walkdir::WalkDir::new(space.store().join("v1/packages")).into_iter().flatten();
    assert!(kept.filter(|one| one.file_type().is_file()).all(|one| {
        let mut bytes = Vec::new();
        std::fs::File::open(one.path()).unwrap().read_to_end(&mut bytes).unwrap();
        one.file_name().to_str() == Some(&Sha256::of(&bytes).to_string())
    }));
}

/// Sends an image of a layout to a registry, in OCI's form or Docker's.
fn copy_to(layout: &Path, tag: &str, to: &str, form: &str) {
    let from = format!("oci:{}:{tag}", layout.display());
    let to = to.replace("oci:", "docker:");
    good(tool("skopeo", &["copy", "-q", "--format", form, "--dest-tls-verify=false", &from, &to]));
}

fn site(mirror: &Mirror) -> String {
    format!(
        "[[repo]]\nuri = \"{}\"\nsuites = [\"bookworm\"]\ncomponents = [\"main\"]\nsigned-by = \"known.asc\"",
        mirror.url
    )
}

fn publish(packages: &[Deb]) -> Mirror {
    let mirror = Mirror::start();
    let mut archive = Archive::empty();
    packages.iter().for_each(|one| archive.add(one));
    mirror.publish(&archive);
    mirror
}

/// The lowest layers of an image of imgbuild, as far as a container has them: without kernel, settings and scripts.
pub(super) fn base_layers(space: &Space) -> Vec<(Vec<u8>, Sha256)> {
    let layout = space.path().join("pushed");
    space.run(&["push", "--as-container", &format!("oci-layout:{}:1", layout.display())]).good();
    lowest(&layout)
}

/// The two lowest layers of the image in a layout.
pub(super) fn lowest(layout: &Path) -> Vec<(Vec<u8>, Sha256)> {
    let read = |digest: &Value| -> Vec<u8> {
        let digest = digest.as_str().unwrap().trim_start_matches("sha256:");
        std::fs::read(layout.join("blobs/sha256").join(digest)).unwrap()
    };
    let index: Value = serde_json::from_slice(&std::fs::read(layout.join("index.json")).unwrap()).unwrap();
    let manifest: Value = serde_json::from_slice(&read(&index["manifests"][0]["digest"])).unwrap();
    let config: Value = serde_json::from_slice(&read(&manifest["config"]["digest"])).unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter().take(2);
    let diffs = config["rootfs"]["diff_ids"].as_array().unwrap();
    let diff = |one: &Value| Sha256::parse(one.as_str().unwrap().trim_start_matches("sha256:")).unwrap();
    layers.zip(diffs).map(|(layer, one)| (read(&layer["digest"]), diff(one))).collect()
}

/// What people put into such images, and what engines leave there.
fn upper() -> Vec<u8> {
    use tar::EntryType as Kind;
    archive(|one| {
        for (path, text) in [
            (".dockerenv", ""),
            ("etc/resolv.conf", ""),
            ("etc/hostname", ""),
            ("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n"),
            ("etc/dpkg/dpkg.cfg.d/docker", "path-exclude /usr/share/doc/*\npath-include /usr/share/doc/*/copyright\n"),
            ("etc/skel/.wh..wh..opq", ""),
            ("etc/skel/.mine", "mine\n"),
            ("etc/.wh.issue.net", ""),
            ("opt/agent2/file", "two\n"),
        ] {
            file(one, path, text);
        }
        entry(one, Kind::Regular, "srv/of-ldap", (0o640, 70_000), "x");
        entry(one, Kind::Link, "usr/local/bin/cat2", (0o755, 0), "usr/bin/cat");
        entry(one, Kind::Symlink, "opt/absolute", (0o777, 0), "/etc");
        file(one, "opt/absolute/through-a-link", "still inside\n");
        entry(one, Kind::Fifo, "srv/pipe", (0o600, 0), "");
        one.append_pax_extensions([("SCHILY.xattr.user.note", &b"kept"[..])]).unwrap();
        file(one, "srv/noted", "x");
    })
}

/// The tree of the lowest layer, whose owners are shifted in the store.
fn base_tree(space: &Space) -> (PathBuf, u32) {
    let text = std::fs::read(space.artefact("tiny", "build.json")).unwrap();
    let build: Value = serde_json::from_slice(&text).unwrap();
    let layers = build["layers"].as_array().unwrap().iter();
    let base = layers.map(|one| one.to_string()).find(|one| one.contains("rootfs/base")).unwrap();
    let digest = base.split('"').find(|word| word.len() == 64).unwrap().to_owned();
    let tree = walkdir::WalkDir::new(space.store().join("v1/trees")).max_depth(2).into_iter().flatten();
    let tree = tree.map(walkdir::DirEntry::into_path).find(|path| path.ends_with(&digest)).unwrap();
    let owner = std::os::unix::fs::MetadataExt::uid(&std::fs::metadata(&tree).unwrap());
    (tree, owner)
}

/// A listing without what depends on the file system, and with the owners that are meant.
fn plain(listing: &str, shift: u32) -> String {
    let line = |line: &str| -> String {
        let owner = |word: &str| -> Option<String> {
            let (uid, gid) = word.split_once(':')?;
            let less = |id: &str| id.parse::<u32>().ok()?.checked_sub(shift);
            Some(format!("{}:{}", less(uid)?, less(gid)?))
        };
        line.split(' ')
            .enumerate()
            .map(|(at, word)| if at == 2 { owner(word) } else { None }.unwrap_or_else(|| word.to_owned()))
            .collect::<Vec<_>>()
            .join(" ")
    };
    listing.lines().map(|one| line(one) + "\n").collect()
}

#[test]
fn privileged_an_image_begins_with_a_container_image_of_a_registry() {
    // A container image with a package of the site, made of layers of an image.
    let old = publish(&[Deb::new("agent")]);
    let maker = with_repo("agent", &site(&old));
    // Nothing is left out: packages are to be installed over it.
    maker.write("tiny.exlist", "./boot/*\n");
    maker.run(&["build"]).good();
    let space = Space::new();
    let layout = space.path().join("layout");
    let image = Image { layers: base_layers(&maker), ..Image::new() }.with(&upper());
    let digest = image.write(&layout, "1");
    let registry = Registry::start(&space.path().join("registry"), "");
    let url = registry.url("site/base:1").replace("oci://", "oci:");
    copy_to(&layout, "1", &registry.url("site/base:1"), "oci");

    // Over it a package that needs a later version of what is there.
    let new =
        publish(&[Deb::new("agent").of_version("2.0"), Deb::new("tool").fields("Depends: agent (>= 2.0), dpkg\n")]);
    // A store of its own: what is said of a container image is said when it becomes a layer.
    let node = with_repo("tool", &site(&new)).with_store(&space.path().join("store-of-node"));
    node.edit("image.toml", "base = \"essential\"\n", "");
    node.edit("image.toml", "release = \"bookworm\"", &format!("release = \"bookworm\"\nfrom = \"{url}\""));
    let ran = node.run(&["build"]).good();
    assert!(unwrapped(&ran.err).contains("/usr/share/doc/*(/etc/dpkg/dpkg.cfg.d/docker)"), "{}", ran.err);
    let locked = lock(&node);
    let base = locked.base.clone().unwrap();
    assert_eq!((base.manifest.sha256, base.layers.len()), (digest, 3));
    let has = |name: &str, version: &str| base.packages.iter().any(|one| one.name == name && one.version == version);
    assert!(has("agent", "1.0") && !has("tool", "1.0"));
    assert!(locked.pass("base").unwrap().packages.is_empty());
    let names = |pass: &str| -> Vec<String> {
        let packages = locked.pass(pass).unwrap().packages.iter();
        packages.map(|one| format!("{} {}", one.name, one.version)).collect()
    };
    let mut first = names("packages-1");
    first.sort();
    assert_eq!(first, ["agent 2.0", "tool 1.0"]);
    assert!(!names("kernel").iter().any(|one| one.starts_with("dpkg ") || one.starts_with("libc6 ")));
    // What came out of it.
    let asked = node.run(&["shell", "--", "dpkg-query", "-W", "-f", "${Package} ${Version}\\n", "agent", "tool"]);
    assert_eq!(asked.good().out, "agent 2.0\ntool 1.0\n");
    let explained = node.run(&["explain", "rootfs/base", "--json"]).good().out;
    assert!(explained.contains("container manifest") && explained.contains(&digest.to_string()), "{explained}");

    // The tree is what other tools make of it, but for what is a container's.
    let bundle = space.path().join("bundle");
    good(tool("umoci", &["unpack", "--image", &format!("{}:1", layout.display()), bundle.to_str().unwrap()]));
    let of_containers = [".dockerenv ", "etc/resolv.conf ", "etc/hostname ", "usr/sbin/policy-rc.d "];
    let expected = listing(&bundle.join("rootfs"));
    for name in of_containers {
        assert!(expected.lines().any(|line| line.starts_with(name)), "{name}");
    }
    let kept = |line: &&str| !of_containers.iter().any(|name| line.starts_with(name));
    let expected: String = expected.lines().filter(kept).map(|line| format!("{line}\n")).collect();
    let (tree, shift) = base_tree(&node);
    let found = plain(&listing(&tree), shift);
    for needed in ["70000:70000", "user.note=6b657074", "etc/through-a-link", "srv/pipe p"] {
        assert!(found.contains(needed), "{needed}");
    }
    similar(&plain(&expected, 0), &found, "umoci");

    // The tag moves: what is locked stays, and updating names it.
    // Made once more, it gave one of its groups another number.
    let group = locked.groups.iter().find(|group| group.pass == "base").expect("a container image has groups").clone();
    let text = std::fs::read_to_string(tree.join("etc/group")).unwrap();
    let (was, now) = (format!("{}:x:{}:", group.name, group.gid), format!("{}:x:{}:", group.name, group.gid + 20_000));
    assert!(text.contains(&was), "{was} {text}");
    let moved = Image { layers: image.layers.clone(), ..Image::new() }.with(&archive(|one| {
        file(one, "opt/moved", "x");
        file(one, "etc/group", &text.replace(&was, &now));
    }));
    let moved_digest = moved.write(&space.path().join("layout2"), "1");
    copy_to(&space.path().join("layout2"), "1", &registry.url("site/base:1"), "v2s2");
    let before: Vec<Vec<u8>> = SAME.iter().map(|name| std::fs::read(node.artefact("tiny", name)).unwrap()).collect();
    let same = |space: &Space| {
        for (name, bytes) in SAME.iter().zip(&before) {
            assert!(std::fs::read(space.artefact("tiny", name)).unwrap() == *bytes, "{name}");
        }
    };
    node.run(&["build", "--locked"]).good();
    same(&node);
    let text = std::fs::read_to_string(node.path().join("image.lock")).unwrap();

    // Vendored, without the registry, in an empty store: the same bytes.
    let vendored = space.path().join("vendored");
    node.run(&["vendor", vendored.to_str().unwrap()]).good();
    let inspected = good(tool("skopeo", &["inspect", &format!("oci:{}:base", vendored.join("container").display())]));
    assert!(inspected.contains(&format!("sha256:{digest}")), "{inspected}");
    let other_store = space.path().join("store");
    let build = |more: &[&str]| -> Ran {
        let mut command = imgbuild();
        command.arg("-C").arg(node.path()).arg("--store").arg(&other_store).args(["build", "--locked"]).args(more);
        command.output().unwrap().into()
    };
    std::fs::remove_dir_all(node.path().join("out")).unwrap();
    let updated = {
        let ran = node.run(&["update"]).good();
        format!("{} {}", ran.out, ran.err)
    };
    // Docker's form of the same has a manifest of its own.
    assert!(!updated.contains(&moved_digest.to_string()), "{updated}");
    assert!(updated.contains(&format!("the container image sha256:{digest} -> sha256:")), "{updated}");
    assert_eq!(lock(&node).base.unwrap().layers.len(), 4);
    // Its files belong to the new number: the lock follows, and says so.
    let of_group = |lock: &recipe::Lock| {
        let all = lock.groups.iter().filter(|one| one.name == group.name);
        all.map(|one| (one.gid, one.fixed)).collect::<Vec<_>>()
    };
    assert_eq!(of_group(&lock(&node)), [(group.gid + 20_000, false)], "{updated}");
    assert!(unwrapped(&updated).contains(&unwrapped("as the container image has it: files on NFS")), "{updated}");
    node.run(&["build", "--locked"]).good();
    node.write("image.lock", &text);
    drop(registry);
    let ran = build(&[]);
    assert!(ran.code == 3 && ran.err.contains("oci::unreached"), "{} {}", ran.code, ran.err);
    build(&["--vendor", vendored.to_str().unwrap()]).good();
    same(&node);
}

#[test]
fn a_sites_package_takes_the_place_of_the_container_images_of_the_same_version() {
    // The same control files, other content: nothing that apt knows tells them apart.
    let of_site = |name: &str| {
        let deb = Deb::new(name);
        Deb { files: vec![(format!("opt/{name}"), b"site\n".to_vec())], ..deb }
    };
    let archive = publish(&[
        Deb::new("t-own"),
        Deb::new("t-dep"),
        Deb::new("t-far"),
        Deb::new("t-between").fields("Depends: t-far\n"),
        Deb::new("t-old").of_version("2.0"),
        Deb::new("t-lone"),
        Deb::new("t-plain"),
    ]);
    let maker = with_repo("t-own\", \"t-dep\", \"t-between\", \"t-old\", \"t-lone", &site(&archive));
    // Nothing is left out: packages are to be installed over it.
    maker.write("tiny.exlist", "./boot/*\n");
    maker.run(&["build"]).good();
    let node = with_repo("t-plain", &site(&archive));
    Image { layers: base_layers(&maker), ..Image::new() }.write(&node.path().join("base"), "1");
    let own = node.path().join("own");
    of_site("t-own").write(&own.join("named"));
    for package in [
        of_site("t-dep").fields("Depends: t-new\n"),
        of_site("t-new"),
        of_site("t-far"),
        of_site("t-old"),
        of_site("t-lone"),
        of_site("t-user").fields("Depends: t-dep, t-between\n"),
    ] {
        package.write(&own.join("rest"));
    }
    node.write("o.pkglist", "named/t-own\nt-user\n#NEW_INSTALL_LIST#\nnamed/t-own\n");
    node.edit("image.toml", "base = \"essential\"\n", "");
    node.edit("image.toml", "release = \"bookworm\"", "release = \"bookworm\"\nfrom = \"oci:./base\"");
    node.edit("image.toml", "[kernel]", "[otherpkgs]\ndir = \"own\"\nlists = [\"o.pkglist\"]\n\n[kernel]");
    let ran = node.run(&["build"]).good();
    let locked = lock(&node);
    let names = |pass: &str| -> Vec<String> {
        let packages = locked.pass(pass).unwrap().packages.iter();
        let mut names: Vec<String> = packages.map(|one| format!("{}/{}", one.origin, one.name)).collect();
        names.sort();
        names
    };
    let rest = ["t-dep", "t-far", "t-new", "t-user"].map(|name| format!("otherpkgs/rest/{name}"));
    assert_eq!(names("otherpkgs-1"), [&["otherpkgs/named/t-own".to_owned()][..], &rest].concat());
    assert_eq!(names("otherpkgs-2"), Vec::<String>::new());
    let files =
        ["t-own", "t-dep", "t-far", "t-between", "t-old", "t-lone"].map(|name| format!("/opt/{name}")).join(" ");
    let said = node.run(&["shell", "--", "/bin/sh", "-c", &format!("cat {files}; dpkg --audit")]).good().out;
    assert_eq!(said, "site\nsite\nsite\nt-between\nt-old\nt-lone\n");
    let said = unwrapped(&ran.err);
    for text in [
        "give way to others of the same name: `t-lone` 1.0 (otherpkgs/rest, 1.0 of the container image)",
        "`t-old` 1.0 (otherpkgs/rest, 2.0 of the container image)",
    ] {
        assert!(said.contains(&unwrapped(text)), "{}", ran.err);
    }
    assert!(!said.contains(&unwrapped("`t-own` 1.0")), "{}", ran.err);
    assert!(node.run(&["build"]).good().err.contains("ran nothing"));
}
