//! What nodes unpack, fed into a tree: beside it nothing may change, whatever names and links the archives have.

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use archive::{Body, Head, write_entry, write_trailer};

use crate::image::tar::Left;
use crate::image::unpack;
use crate::seeds;
use crate::sys::{Devices, Root};

/// What stands between two frames of an input.
const NEXT: &[u8] = b"=FRAME=";

/// Unpacks frames as a host does, one after the other.
pub fn unpacked(bytes: &[u8], place: &Path) {
    let all = place.join("node");
    let tree = all.join("tree");
    let _ = std::fs::remove_dir_all(&all);
    std::fs::create_dir_all(&tree).unwrap();
    std::fs::create_dir_all(all.join("beside/folder")).unwrap();
    for name in ["beside/victim", "beside/folder/victim", "victim"] {
        std::fs::write(all.join(name), "precious").unwrap();
    }
    let before = seen(&all);
    unpack_all(bytes, tree.to_str().unwrap());
    assert_eq!(seen(&all), before, "something changed next to the tree");
}

fn unpack_all(bytes: &[u8], tree: &str) {
    let mut left = Left::default();
    for frame in frames(bytes) {
        let compress = match frame {
            [0x28, 0xb5, 0x2f, 0xfd, ..] => "zstd",
            [0x1f, 0x8b, ..] => "gzip",
            [0xfd, b'7', b'z', ..] => "xz",
            [0x04, 0x22, 0x4d, 0x18, ..] => "lz4",
            _ => "none",
        };
        let is_cpio = frame.windows(6).take(64).any(|start| start == b"070701");
        let Ok(more) = unpack::frame(frame, if is_cpio { "cpio" } else { "tar" }, compress, tree, Devices::Refused)
        else {
            continue;
        };
        left.times.extend(more.times);
        left.links.extend(more.links);
    }
    let root = Root::open(tree, Devices::Refused).unwrap();
    for (name, file) in &left.links {
        let _ = root.hard_link(name, file);
    }
    for (path, time) in &left.times {
        let _ = root.set_time(path, *time);
        let _ = root.set_xattr(path, "user.fed", "00");
    }
}

/// Frames with [`NEXT`] between them.
fn frames(bytes: &[u8]) -> Vec<&[u8]> {
    let mut rest = bytes;
    let mut found = Vec::new();
    while let Some(at) = rest.windows(NEXT.len()).position(|part| part == NEXT) {
        found.push(&rest[..at]);
        rest = &rest[at + NEXT.len()..];
    }
    found.push(rest);
    found
}

/// All next to the tree: contents, modes, owners, times, names of each file.
fn seen(all: &Path) -> BTreeMap<PathBuf, (Vec<u8>, [u64; 5])> {
    let walk = walkdir::WalkDir::new(all).into_iter().filter_entry(|entry| entry.file_name() != "tree").flatten();
    let look = |path: &Path| {
        let found = path.symlink_metadata().unwrap();
        // The tree's own folder has a time that moves with nothing but names in it.
        let time = u64::from_ne_bytes(found.mtime().to_ne_bytes());
        let numbers = [u64::from(found.mode()), u64::from(found.uid()), u64::from(found.gid()), found.nlink(), time];
        (std::fs::read(path).unwrap_or_default(), numbers)
    };
    walk.map(|entry| (entry.path().to_owned(), look(entry.path()))).collect()
}

/// Names that try to get out: by links, by dots, from the root, by second names; in one frame and over several.
fn tries(place: &Path) -> [Vec<(String, Try)>; 4] {
    let beside = place.join("node/beside").display().to_string();
    let link = |name: &str, to: &str| (name.to_owned(), Try::Link(to.to_owned()));
    let file = |name: &str| (name.to_owned(), Try::File);
    let same = |name: &str, to: &str| (name.to_owned(), Try::Same(to.to_owned()));
    let folder = |name: &str| (name.to_owned(), Try::Folder);
    [
        vec![folder("d"), link("d/l", "../../beside"), file("d/l/victim"), file("d/l/new"), folder("d/l/folder")],
        vec![link("l", &beside), folder("l"), file("l/victim"), same("h", "l/victim"), file("h")],
        vec![file("../victim"), file(&format!("{beside}/victim")), folder("../beside"), same("h", "../victim")],
        vec![
            folder("a"),
            file("a/b"),
            link("c", "a"),
            file("c/x"),
            link("d", "a/b"),
            file("d"),
            same("e", "d"),
            folder("d"),
        ],
    ]
}

enum Try {
    File,
    Folder,
    Link(String),
    Same(String),
}

fn as_cpio(entries: &[(String, Try)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, (name, what)) in (1..).zip(entries) {
        let head = |links, mode| Head { inode: number, links, mode, uid: 0, gid: 0, mtime: 9 };
        let body = || Body::File(4, Some(Box::new(&b"evil"[..])));
        let _ = match what {
            Try::File => write_entry(&mut out, name, head(1, 0o4755), body()).unwrap(),
            Try::Folder => write_entry(&mut out, name, head(2, 0o777), Body::Directory).unwrap(),
            Try::Link(to) => write_entry(&mut out, name, head(1, 0o777), Body::Symlink(to)).unwrap(),
            Try::Same(to) => {
                write_entry(&mut out, to, head(2, 0o666), Body::File(0, Some(Box::new(&b""[..])))).unwrap();
                write_entry(&mut out, name, head(2, 0o666), body()).unwrap()
            }
        };
    }
    write_trailer(&mut out).unwrap();
    out
}

fn as_tar(entries: &[(String, Try)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, what) in entries {
        let (kind, to) = match what {
            Try::File => (tar::EntryType::Regular, None),
            Try::Folder => (tar::EntryType::Directory, None),
            Try::Link(to) => (tar::EntryType::Symlink, Some(to)),
            Try::Same(to) => (tar::EntryType::Link, Some(to)),
        };
        let content: &[u8] = if kind.is_file() { b"evil" } else { b"" };
        let mut header = tar::Header::new_ustar();
        // As they are: the crate itself would refuse such names.
        let fields = header.as_old_mut();
        for (field, text) in [(&mut fields.name, name), (&mut fields.linkname, to.unwrap_or(&String::new()))] {
            let length = text.len().min(field.len());
            field[..length].copy_from_slice(&text.as_bytes()[..length]);
        }
        header.set_entry_type(kind);
        header.set_size(content.len() as u64);
        header.set_mode(0o4777);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(9);
        header.set_cksum();
        builder.append(&header, content).unwrap();
    }
    builder.into_inner().unwrap()
}

pub fn cpios(place: &Path) -> Vec<Vec<u8>> {
    tries(place).iter().map(|entries| as_cpio(entries)).chain([seeds::cpio()]).collect()
}

pub fn tars(place: &Path) -> Vec<Vec<u8>> {
    tries(place).iter().map(|entries| as_tar(entries)).chain([seeds::tar()]).collect()
}

/// Each entry in a frame of its own, compressed or not.
pub fn in_frames(place: &Path) -> Vec<Vec<u8>> {
    let zstd = |bytes: Vec<u8>| zstd::encode_all(&bytes[..], 1).unwrap();
    let plain = |bytes: Vec<u8>| bytes;
    let joined =
        |entries: &[(String, Try)], write: fn(&[(String, Try)]) -> Vec<u8>, pack: &dyn Fn(Vec<u8>) -> Vec<u8>| {
            let frames: Vec<Vec<u8>> = entries.iter().map(|entry| pack(write(std::slice::from_ref(entry)))).collect();
            frames.join(NEXT)
        };
    let tries = tries(place);
    let all = tries.iter().flat_map(|entries| {
        [joined(entries, as_cpio, &plain), joined(entries, as_tar, &plain), joined(entries, as_cpio, &zstd)]
    });
    all.collect()
}
