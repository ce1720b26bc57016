//! Nodes that keep what they fetched on a disk of their own: what they ask the server for, and what a disk can do wrong.

use std::path::{Path, PathBuf};
use std::process::Command;

use boot::FileServer;

use super::machine::{cmdline_of, expect, start};
use super::offline::vendored;
use super::{Built, store, tiny};
use crate::support::{Space, copy_locked};

/// A disk with a file system of so many MiB, and a label.
pub fn disk(space: &Space, name: &str, size: u64) -> PathBuf {
    let path = space.path().join(name);
    std::fs::File::create(&path).unwrap().set_len(size << 20).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-L", "nodecache"]).arg(&path).output().unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    path
}

/// What debugfs says to a request, which may change the disk.
fn debugfs(disk: &Path, request: &str) -> String {
    let ran = Command::new("debugfs").args(["-w", "-R", request]).arg(disk).output().unwrap();
    assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
    String::from_utf8_lossy(&ran.stdout).into_owned()
}

fn names(disk: &Path, folder: &str) -> Vec<String> {
    let listed = debugfs(disk, &format!("ls -p {folder}"));
    let names = listed.lines().filter_map(|line| line.split('/').nth(5));
    names.filter(|name| !name.is_empty() && !name.starts_with('.')).map(str::to_owned).collect()
}

fn build(space: &Space) {
    space.run(&["build", "--locked", "--vendor", vendored().to_str().unwrap()]).good();
}

/// Starts a form with a disk until its init runs; gives what the console said.
pub fn boots(built: &Built, rootimg: &str, disk: Option<&Path>, memory: u64) -> String {
    let server = FileServer::start(&built.space.artefact("tiny", ".").canonicalize().unwrap()).unwrap();
    let words = cmdline_of(built, "tiny", rootimg, &format!("http://10.0.2.2:{}", server.port()));
    let running = start(built, "tiny", words, |machine| {
        machine.disks = disk.into_iter().map(Path::to_owned).collect();
        machine.memory_mib = memory;
    });
    expect(&running, "NODE IS UP: node-525400123456");
    expect(&running, "ALL IS WRITTEN");
    running.console()
}

/// KiB that came from the server, and those of the image.
fn fetched(console: &str) -> (u64, u64) {
    let line = console.lines().find(|line| line.contains("KiB came from the server")).expect(console);
    let numbers: Vec<u64> = line.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    (numbers[0], numbers[1])
}

/// The tiny image, with a squashfs besides and a disk for both; its init says what it finds there.
fn image() -> Built {
    let space = Space::new().with_store(&store());
    copy_locked(tiny().space.path(), space.path());
    let recipe = std::fs::read_to_string(space.path().join("image.toml")).unwrap();
    let more = "[[pack.also]]\narchive = \"squashfs\"\n\n\
                [boot.cache]\ndevice = \"LABEL=nodecache\"\nimage = \"cache\"\nwrites = \"cache\"\n";
    space.write("image.toml", &format!("{recipe}\n{more}"));
    space.edit(
        "tiny.postinstall",
        "while :;",
        "test -e /srv/written && echo \"EARLIER WRITES ARE THERE\"\necho new >/srv/written\n\
         cat /usr/bin/* /usr/lib/*/*.so* >/dev/null && echo \"READS ARE WHOLE\"\n\
         sync; echo \"ALL IS WRITTEN\"\nwhile :;",
    );
    let built = Built { space, key: tiny().key.clone() };
    build(&built.space);
    built
}

#[test]
fn boot_frames_that_a_node_keeps_on_its_disk_are_not_fetched_again_and_never_believed() {
    let built = image();
    let place = disk(&built.space, "disk,1", 256);
    let cached = Some(place.as_path());

    // Unpacked into memory: frames are kept, and all of them are asked for once.
    let console = boots(&built, "rootimg.cpio.zst", cached, 1024);
    let (from_server, all) = fetched(&console);
    assert!(console.contains("imgcache=LABEL=nodecache is /dev/vda (ext4)"), "{console}");
    assert_eq!(from_server, all);
    let console = boots(&built, "rootimg.cpio.zst", cached, 1024);
    assert_eq!(fetched(&console), (0, all), "{console}");
    // The disk was let go before the image's init ran.
    let state = Command::new("dumpe2fs").arg("-h").arg(&place).output().unwrap();
    assert!(String::from_utf8_lossy(&state.stdout).contains("Filesystem state:         clean"));

    // One file changes, and a frame on the disk is damaged: both are asked for, and nothing else.
    let part = &names(&place, "/imgbuild-cache/1/frames")[0];
    let frame = &names(&place, &format!("/imgbuild-cache/1/frames/{part}"))[0];
    let path = format!("/imgbuild-cache/1/frames/{part}/{frame}");
    let size = debugfs(&place, &format!("stat {path}"));
    let size: usize = size.split("Size: ").nth(1).unwrap().split_whitespace().next().unwrap().parse().unwrap();
    std::fs::write(built.space.path().join("bad"), vec![7; size]).unwrap();
    debugfs(&place, &format!("rm {path}"));
    debugfs(&place, &format!("write {} {path}", built.space.path().join("bad").display()));
    built.space.edit("tiny.postinstall", "sync; echo", "echo \"ANOTHER IMAGE\"\nsync; echo");
    build(&built.space);
    let console = boots(&built, "rootimg.cpio.zst", cached, 1024);
    let (from_server, all) = fetched(&console);
    assert!(from_server > 0 && from_server < all / 2, "{from_server} of {all}: {console}");
    assert!(console.contains("ANOTHER IMAGE") && console.contains("1 frame on the disk of imgcache= was"), "{console}");

    // A disk that takes no more, and none at all: a message each, and the node is up all the same.
    let small = disk(&built.space, "small", 16);
    let console = boots(&built, "rootimg.cpio.zst", Some(&small), 1024);
    assert!(console.contains("cannot store more frames"), "{console}");
    let console = boots(&built, "rootimg.cpio.zst", None, 1024);
    assert!(console.contains("no ext4, xfs or btrfs disk has that name"), "{console}");
}

#[test]
fn boot_an_image_on_the_nodes_disk_is_mounted_from_it_and_what_is_written_goes_there() {
    let built = image();
    let place = disk(&built.space, "disk,1", 256);
    let cached = Some(place.as_path());
    // An image that is mounted from the disk, and what is written there; twice, and killed in between. It has less memory than
    // the image and what it writes would take.
    let console = boots(&built, "rootimg.sfs", cached, 256);
    let (from_server, all) = fetched(&console);
    assert!(from_server > all / 2, "{from_server} of {all}: {console}");
    let from_disk = "from the disk of imgcache=; what is written goes to that disk";
    assert!(console.contains(from_disk) && console.contains("READS ARE WHOLE"), "{console}");
    let console = boots(&built, "rootimg.sfs", cached, 256);
    assert!(fetched(&console).0 == 0 && console.contains(from_disk), "{console}");
    assert!(console.contains("READS ARE WHOLE") && !console.contains("EARLIER WRITES ARE THERE"), "{console}");

    // A disk that is too small: a message, and the node is up all the same.
    let small = disk(&built.space, "small", 16);
    let console = boots(&built, "rootimg.sfs", Some(&small), 1024);
    assert!(console.contains("the disk of imgcache= cannot hold the image") && console.contains("MiB of memory"));
}
