//! The compute example: built, unpacked by GNU cpio, booted and logged into.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

use base::digest::{Digest, Sha256};
use boot::{FileServer, Machine, Running};
use recipe::Lock;
use store::{Kind, Manifest, merge};

use super::machine::{Node, cmdline, expect, free_port, start};
use super::{Built, compute, store};
use crate::support::{Space, copy_locked};

const MAC: &str = "52:54:00:00:00:17";

/// Boots the example and waits for ssh.
fn boot(built: &Built, memory_mib: u64) -> (Running, Node, FileServer) {
    let server = FileServer::start(&built.space.artefact("compute", ".").canonicalize().unwrap()).unwrap();
    let port = free_port();
    let words = cmdline(built, "compute", &format!("http://10.0.2.2:{}", server.port()));
    let running = start(built, "compute", words, |machine| {
        machine.memory_mib = memory_mib;
        let (network, device) = Machine::user_network(MAC, Some(port));
        machine.network = vec![(format!("{network},hostname=node17"), device)];
    });
    expect(&running, "imgbuild: the image is complete");
    let node = Node::forwarded(port, &built.key);
    node.wait(&running);
    (running, node, server)
}

/// The image as squashfs, of the same actions otherwise.
fn as_squashfs() -> Built {
    let space = Space::new().with_store(&store());
    copy_locked(compute().space.path(), space.path());
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    space.write("image.toml", &format!("{recipe}\n[pack]\narchive = \"squashfs\"\n"));
    let ran = space.run(&["build", "--locked"]).good();
    assert!(ran.err.contains("pack/rootimg; kept"), "{}", ran.err);
    Built { space, key: compute().key.clone() }
}

/// A node as squashfs has all that it has unpacked, in half the memory.
fn assert_is_whole_as_squashfs(built: &Built, running: &Running, node: &Node) {
    assert_eq!(node.run("findmnt -n -o FSTYPE /"), "overlay");
    assert!(node.run("getcap /usr/bin/ping").contains("cap_net_raw=ep"));
    node.run("su user -c 'ping -c 1 -W 5 10.0.2.2'");
    node.run("/usr/local/sbin/node-check");
    // ACLs: the format has no place for them, the index has.
    for path in with_acl(built) {
        assert_eq!(node.run(&format!("ls -ld /{path} | cut -c 11")), "+", "{path}");
    }
    assert_eq!(node.run("dpkg --audit"), "");
    assert_running(running, node);
    // What is written is there; what is removed is gone; the image below is as it was.
    node.run("echo more >>/etc/motd && rm /usr/share/common-licenses/GPL-2 && mkdir /srv/new && sync");
    assert_eq!(node.run("test -e /usr/share/common-licenses/GPL-2 || echo gone"), "gone");
    // The image is 120 MB of the memory; unpacked it would be three times that.
    let available: u64 = node.run("awk '/MemAvailable/ {print $2}' /proc/meminfo").parse().unwrap();
    assert!(available > 500 << 10, "{available} kB");
}

/// "starting" may last while a job runs; it must end well.
#[track_caller]
fn assert_running(running: &Running, node: &Node) {
    let state = node.run("systemctl is-system-running --wait; true");
    assert_eq!(state, "running", "{}\n{}", node.run("systemctl --failed --no-legend"), running.console());
}

/// Paths whose attributes the index has.
fn with_acl(built: &Built) -> Vec<String> {
    let name = "rootimg.sfs.index";
    let index: serde_json::Value =
        serde_json::from_slice(&std::fs::read(built.space.artefact("compute", name)).unwrap()).unwrap();
    let xattrs = index["xattrs"].as_array().unwrap().iter();
    let acls = xattrs.map(|one| {
        assert!(one[1].as_str().unwrap().starts_with("system.posix_acl"), "{one}");
        one[0].as_str().unwrap().to_owned()
    });
    acls.collect()
}

#[test]
fn boot_compute_node_is_what_the_recipe_says() {
    let built = compute();
    let (running, node, _server) = boot(built, 2048);
    // The kernel that runs is the artefact.
    let release = node.run("uname -r");
    let info: serde_json::Value =
        serde_json::from_slice(&std::fs::read(built.space.artefact("compute", "build.json")).unwrap()).unwrap();
    assert_eq!(release, info["kernel_release"].as_str().unwrap());
    // Postinstall's work.
    assert_eq!(node.run("cat /etc/cluster-release"), format!("built for kernel {release} as compute"));
    assert_eq!(node.run("cat /etc/cluster-kernel"), release);
    assert!(node.run("cat /etc/security/limits.d/50-cluster.conf").contains("memlock unlimited"));
    // Synced files with their modes.
    assert_eq!(node.run("stat -c '%a %U' /etc/motd"), "644 root");
    assert_eq!(node.run("stat -c '%a %U' /usr/local/sbin/node-check"), "755 root");
    node.run("/usr/local/sbin/node-check");
    // File capabilities, and what they are for.
    assert!(node.run("getcap /usr/bin/ping").contains("cap_net_raw=ep"));
    node.run("su user -c 'ping -c 1 -W 5 10.0.2.2'");
    // tmpfs sizes.
    for path in ["/tmp", "/var/tmp"] {
        assert_eq!(node.run(&format!("findmnt -n -b -o SIZE {path}")), (50 << 20).to_string(), "{path}");
    }
    assert_eq!(node.run("dpkg --audit"), "");
    assert!(node.run("dpkg -l linux-image-amd64").contains("ii  linux-image-amd64"));
    assert_running(&running, &node);
    assert_eq!(node.run("hostname"), "node17");
    assert!(node.run("cat /etc/resolv.conf").contains("nameserver 10.0.2.3"));
    assert_eq!(node.run("cat /proc/sys/kernel/random/boot_id | wc -c"), "37");
    assert_eq!(node.run("stat -c %a /etc/machine-id"), "444");
    assert_identity(&node);
}

#[test]
fn boot_compute_node_as_squashfs_is_whole() {
    let packed = as_squashfs();
    let (running, node, _server) = boot(&packed, 1024);
    assert_identity(&node);
    assert_is_whole_as_squashfs(&packed, &running, &node);
}

/// The same MAC gives the same id at each boot; host keys are made at each: the image has none.
#[track_caller]
fn assert_identity(node: &Node) {
    let source = Sha256::of(format!("imgbuild machine-id {MAC}").as_bytes()).to_string();
    assert_eq!(node.run("cat /etc/machine-id"), source[..32]);
    assert!(node.run("cat /etc/ssh/ssh_host_ed25519_key.pub").starts_with("ssh-ed25519 "));
}

/// What a path is, in a form that can be compared.
#[derive(Debug, PartialEq, Eq)]
struct Shape {
    kind: String,
    mode: u32,
    uid: u32,
    gid: u32,
    mtime: i64,
    links: u64,
}

/// Names of each hard link, by layer and first name.
type Groups = BTreeMap<(usize, String), Vec<String>>;

/// The tree that the layers make, read from their manifests, less what the exclude list drops.
fn expected(built: &Built) -> (BTreeMap<String, Shape>, Groups) {
    let info: serde_json::Value =
        serde_json::from_slice(&std::fs::read(built.space.artefact("compute", "build.json")).unwrap()).unwrap();
    let manifests: Vec<Manifest> = info["layers"]
        .as_array()
        .unwrap()
        .iter()
        .map(|layer| {
            Manifest::parse(
                &std::fs::read_to_string(store().join("v1/manifests").join(layer[1].as_str().unwrap())).unwrap(),
            )
            .unwrap()
        })
        .collect();
    let tree = merge(manifests);
    let loaded = recipe::load(built.space.path());
    let paths = tree.0.iter().map(|(path, found)| (path.clone(), found.entry.is_directory())).collect();
    let excluded = loaded.recipe.unwrap().exclude.apply(&paths).excluded;
    assert!(excluded.len() > 1000, "the example's exclude list drops much");
    let mut groups: BTreeMap<(usize, String), Vec<String>> = BTreeMap::new();
    for (path, found) in tree.0.iter().filter(|(path, _)| !excluded.contains(*path)) {
        if let Some(group) = &found.entry.link_group {
            groups.entry((found.layer, group.clone())).or_default().push(path.clone());
        }
    }
    groups.retain(|_, names| names.len() > 1);
    let shapes = tree
        .0
        .iter()
        .filter(|(path, _)| !excluded.contains(*path))
        .map(|(path, found)| {
            let entry = &found.entry;
            let (kind, plain) = match &entry.kind {
                Kind::Directory => ("directory".to_owned(), false),
                Kind::File { size, digest } => (format!("file {size} {digest}"), true),
                Kind::Symlink(target) => (format!("link {target}"), false),
                other => (format!("{other:?}"), true),
            };
            let links = match &entry.link_group {
                Some(group) => groups.get(&(found.layer, group.clone())).map_or(1, |names| names.len() as u64),
                None => u64::from(plain || matches!(entry.kind, Kind::Symlink(_))),
            };
            (
                path.clone(),
                Shape {
                    kind,
                    mode: entry.mode,
                    uid: entry.uid,
                    gid: entry.gid,
                    mtime: if path == "." || matches!(entry.kind, Kind::Symlink(_)) { 0 } else { entry.mtime },
                    links,
                },
            )
        })
        .collect();
    (shapes, groups)
}

fn found(root: &Path) -> BTreeMap<String, Shape> {
    let mut shapes = BTreeMap::new();
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        let path = entry.path().strip_prefix(root).unwrap().to_str().unwrap();
        let metadata = entry.path().symlink_metadata().unwrap();
        let (kind, links) = if metadata.is_dir() {
            ("directory".to_owned(), 0)
        } else if metadata.is_symlink() {
            (format!("link {}", std::fs::read_link(entry.path()).unwrap().display()), metadata.nlink())
        } else {
            let bytes = std::fs::read(entry.path()).unwrap();
            (format!("file {} {}", bytes.len(), Digest::of(&bytes)), metadata.nlink())
        };
        let shape = Shape {
            // A link's own bits say nothing, and cpio sets 777.
            mode: if metadata.is_symlink() { 0o777 } else { metadata.mode() & 0o7777 },
            kind,
            uid: metadata.uid(),
            gid: metadata.gid(),
            // GNU cpio 2.13 does not set the time of a symbolic link, nor that of the directory it unpacks into.
            mtime: if metadata.is_symlink() || path.is_empty() { 0 } else { metadata.mtime() },
            links,
        };
        shapes.insert(if path.is_empty() { ".".to_owned() } else { path.to_owned() }, shape);
    }
    shapes
}

#[test]
fn privileged_cpio_unpacks_exactly_the_merged_layers() {
    assert!(rustix::process::getuid().is_root(), "this test needs root: cpio must be able to change owners");
    let built = compute();
    let root = tempfile::tempdir().unwrap();
    let image = std::fs::File::open(built.space.artefact("compute", "rootimg.cpio.zst")).unwrap();
    let mut unpack = Command::new("zstd").args(["-d", "-c"]).stdin(image).stdout(Stdio::piped()).spawn().unwrap();
    let cpio = Command::new("cpio")
        .args(["-idm", "--quiet"])
        .current_dir(root.path())
        .stdin(unpack.stdout.take().unwrap())
        .status()
        .unwrap();
    assert!(unpack.wait().unwrap().success() && cpio.success());
    let (expected, groups) = expected(built);
    let found = found(root.path());
    let missing: Vec<_> = expected.keys().filter(|path| !found.contains_key(*path)).take(5).collect();
    let extra: Vec<_> = found.keys().filter(|path| !expected.contains_key(*path)).take(5).collect();
    assert!(missing.is_empty() && extra.is_empty(), "missing {missing:?}, extra {extra:?}");
    let kinds: std::collections::BTreeSet<String> = expected
        .iter()
        .filter(|(path, shape)| found[*path] != **shape)
        .map(|(path, shape)| {
            format!(
                "{} {} {}",
                shape.kind.split(' ').next().unwrap(),
                shape.mtime == found[path].mtime,
                shape.links == found[path].links
            )
        })
        .collect();
    println!("{kinds:?}");
    let differing: Vec<_> = expected
        .iter()
        .filter(|(path, shape)| found[*path] != **shape)
        .map(|(path, shape)| (path, shape, &found[path]))
        .take(5)
        .collect();
    assert!(differing.is_empty(), "{differing:#?}");
    // Names of one hard link are one file, and there are some.
    assert!(!groups.is_empty());
    for names in groups.values() {
        let inodes: std::collections::BTreeSet<u64> =
            names.iter().map(|name| root.path().join(name).symlink_metadata().unwrap().ino()).collect();
        assert_eq!(inodes.len(), 1, "{names:?}");
    }
    no_secret_in(root.path());
}

/// No private key, no machine's identity.
fn no_secret_in(root: &Path) {
    for entry in walkdir::WalkDir::new(root) {
        let entry = entry.unwrap();
        if entry.file_type().is_file() {
            let bytes = std::fs::read(entry.path()).unwrap();
            // The first line of a key's file; programs that read keys hold the words too, but not at a line's start.
            let text = String::from_utf8_lossy(&bytes);
            let has = text.lines().any(|line| line.starts_with("-----BEGIN") && line.ends_with("PRIVATE KEY-----"));
            assert!(!has, "{} holds a private key", entry.path().display());
        }
    }
    assert_eq!(std::fs::read(root.join("etc/machine-id")).unwrap(), b"");
    let boot: Vec<_> = std::fs::read_dir(root.join("boot")).unwrap().collect();
    assert!(boot.is_empty(), "{boot:?}");
}

#[test]
fn no_layer_has_an_initrd_or_host_keys() {
    let built = compute();
    let info: serde_json::Value =
        serde_json::from_slice(&std::fs::read(built.space.artefact("compute", "build.json")).unwrap()).unwrap();
    for layer in info["layers"].as_array().unwrap() {
        let text = std::fs::read_to_string(store().join("v1/manifests").join(layer[1].as_str().unwrap())).unwrap();
        for line in text.lines() {
            assert!(!line.starts_with("boot/initrd") && !line.starts_with("etc/ssh/ssh_host_"), "{layer}: {line}");
        }
    }
}

/// What the package database of an image lists: exactly what its lock has.
pub fn package_database(space: &Space) -> Vec<String> {
    let ran = space
        .run(&[
            "shell",
            "--",
            "/bin/sh",
            "-c",
            "dpkg --audit; dpkg-query -W -f '${Package} ${Version} ${Architecture} ${db:Status-Status}\\n'",
        ])
        .good();
    let lock = lock(space);
    let mut wanted: Vec<String> = lock
        .pass
        .iter()
        .filter(|pass| !pass.name.starts_with("tools"))
        .flat_map(|pass| &pass.packages)
        .map(|package| format!("{} {} {} installed", package.name, package.version, package.architecture))
        .collect();
    wanted.sort();
    let mut listed: Vec<String> = ran.out.lines().map(str::to_owned).collect();
    listed.sort();
    assert_eq!(listed, wanted);
    listed
}

pub fn lock(space: &Space) -> Lock {
    Lock::parse(&std::fs::read_to_string(space.path().join("image.lock")).unwrap()).unwrap()
}

#[test]
fn the_package_database_lists_everything() {
    let listed = package_database(&compute().space);
    assert!(listed.iter().any(|line| line.starts_with("linux-image-6")));
}
