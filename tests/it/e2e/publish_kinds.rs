//! One image, published to every kind that is a directory: by the recipe, killed in between, in places that others prepared.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::locked_copy;
use super::machine::{PATIENCE, Server};
use crate::all_or_nothing::tree;
use crate::support::Space;

const KINDS: [&str; 4] = ["warewulf", "confluent", "tree", "systemd"];

fn to(space: &Space, kind: &str) -> PathBuf {
    space.path().join("to").join(kind)
}

/// The tiny image with squashfs beside its cpio, built and published as its recipe lists it.
fn built() -> Space {
    let space = locked_copy();
    let list: Vec<String> = KINDS.iter().map(|kind| format!("\"{kind}:{}\"", to(&space, kind).display())).collect();
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let more = format!("[[pack.also]]\narchive = \"squashfs\"\n\n[publish]\nto = [{}]\n", list.join(", "));
    space.write("image.toml", &format!("{recipe}\n{more}"));
    let ran = space.run(&["build", "--locked"]).good();
    let told: Vec<usize> = KINDS
        .iter()
        .map(|kind| ran.err.find(&format!(" in {kind}:")).unwrap_or_else(|| panic!("{}", ran.err)))
        .collect();
    assert!(told.is_sorted(), "they are done in the order of the list: {}", ran.err);
    space
}

/// Files of a destination without imgbuild's own.
fn there(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut all = tree(directory);
    all.retain(|path, _| !path.starts_with(".imgbuild-publish"));
    all
}

fn record(space: &Space, kind: &str) -> serde_json::Value {
    let path = to(space, kind).join(".imgbuild-publish/tiny.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Publishes the image, killed at the first place of that name.
fn killed_at(space: &Space, kind: &str, place: &str) {
    let sign = tempfile::tempdir().unwrap();
    let reached = sign.path().join("reached");
    let target = format!("{kind}:{}", to(space, kind).display());
    let mut child = Command::new(env!("CARGO_BIN_EXE_imgbuild"))
        .arg("-C")
        .arg(space.path())
        .arg("--store")
        .arg(space.store())
        .args(["publish", &target])
        .envs([("IMGBUILD_FAULT", place.as_ref()), ("IMGBUILD_FAULT_FILE", reached.as_os_str())])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let began = Instant::now();
    while !reached.exists() && child.try_wait().unwrap().is_none() && began.elapsed() < Duration::from_secs(60) {
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(reached.exists(), "{kind}: {place} was not reached");
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn one_image_reaches_every_directory_whole_and_the_same() {
    let space = built();
    let info: serde_json::Value =
        serde_json::from_slice(&std::fs::read(space.artefact("tiny", "build.json")).unwrap()).unwrap();
    let builds: Vec<_> = KINDS.iter().map(|kind| record(&space, kind)["build"].clone()).collect();
    assert!(builds.windows(2).all(|two| two[0] == two[1]), "{builds:?}");
    let digest_of = |name: &str| {
        let all = info["artefacts"].as_array().unwrap();
        all.iter().find(|one| one["name"] == name).unwrap()["sha256"].clone()
    };
    for (kind, index) in [
        ("warewulf", "rootimg.cpio.zst.index"),
        ("tree", "rootimg.cpio.zst.index"),
        ("confluent", "rootimg.sfs.index"),
        ("systemd", "rootimg.sfs.index"),
    ] {
        assert_eq!(record(&space, kind)["image"], digest_of(index), "{kind}");
    }
    // What Warewulf's kernel unpacks is the archive that nodes unpack elsewhere.
    let image = to(&space, "warewulf").join("provision/images/tiny.img");
    let unpacked = Command::new("zstd").arg("-dcq").arg(space.artefact("tiny", "rootimg.cpio.zst")).output().unwrap();
    assert!(std::fs::read(&image).unwrap() == unpacked.stdout, "the bytes differ");
    let packed = Command::new("gzip").arg("-dc").arg(image.with_extension("img.gz")).output().unwrap();
    assert!(packed.status.success() && packed.stdout == unpacked.stdout, "the bytes differ");
    // Killed at each place, with an edited file so that there is something to do.
    for (kind, edited) in [("tree", "boot.ipxe"), ("warewulf", "chroots/tiny/readonly"), ("confluent", "build-info")] {
        let whole = there(&to(&space, kind));
        for place in ["publish.kinds.made", "publish.kinds.decided", "publish.kinds.changing", "publish.kinds.recorded"]
        {
            std::fs::write(to(&space, kind).join(edited), "edited").unwrap();
            killed_at(&space, kind, place);
            let target = format!("{kind}:{}", to(&space, kind).display());
            let ran = space.run(&["publish", &target]).good();
            let is_settled = ran.err.contains("the publication before was interrupted");
            assert_eq!(is_settled, place != "publish.kinds.made", "{kind} {place}: {}", ran.err);
            assert!(there(&to(&space, kind)) == whole, "{kind}: {place}");
        }
    }
}

#[test]
fn a_failure_says_what_is_done_and_what_is_not() {
    let space = built();
    // Someone's own file in the third place.
    std::fs::remove_dir_all(to(&space, "tree")).unwrap();
    space.write("to/tree/boot.ipxe", "the site's");
    let ran = space.run(&["build", "--locked"]);
    assert_eq!(ran.code, 1, "{}", ran.err);
    let shown = |kind: &str| format!("{kind}:{}", to(&space, kind).display());
    let done = format!("note: tiny is published in {}, {}\n", shown("warewulf"), shown("confluent"));
    assert!(ran.err.contains(&done), "{}", ran.err);
    let command = format!("  imgbuild -C {} publish", space.path().display());
    let rest = format!("{command} {} tiny\n{command} {} tiny\n", shown("tree"), shown("systemd"));
    assert!(ran.err.contains(&rest), "{}", ran.err);
    // A plan of it is no build, and writes nothing.
    let before = tree(&space.path().join("to"));
    space.run(&["build", "--dry-run"]);
    assert!(tree(&space.path().join("to")) == before);
    space.run(&["build", "--locked", "--replace"]).good();
}

/// A machine with nothing but a card that has iPXE in its memory; dropped, it is switched off.
struct Machine(std::process::Child);

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn boot_a_node_boots_by_the_script_of_a_tree() {
    let space = built();
    let server = Server::start(&to(&space, "tree"), 0, Arc::new(|_: &str, _, bytes| Some(bytes)));
    // As docs/publish.md has it: the address first, then the script.
    let base = format!("http://10.0.2.2:{}", server.port);
    space.write("tftp/start", &format!("#!ipxe\nset imgbuild-base {base}\nchain ${{imgbuild-base}}/boot.ipxe\n"));
    let console = space.path().join("console");
    let machine = Command::new("qemu-system-x86_64")
        .args("-accel tcg -cpu max -m 1536 -smp 1 -display none -monitor none -no-reboot -netdev".split(' '))
        .arg(format!("user,id=n,tftp={},bootfile=start", space.path().join("tftp").display()))
        .args(["-device", "virtio-net-pci,netdev=n,bootindex=1", "-serial"])
        .arg(format!("file:{}", console.display()))
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    let _machine = Machine(machine);
    let text = || std::fs::read(&console).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let began = Instant::now();
    while !text().contains("NODE IS UP") {
        assert!(began.elapsed() < PATIENCE, "{}", text());
        std::thread::sleep(Duration::from_millis(200));
    }
}
