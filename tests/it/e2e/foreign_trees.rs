//! Images that others made, which root unpacks for nodes whose root is mounted over NFS: nothing but the tree is touched.

use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use base::digest::Sha256;

use super::private_archive::copy;
use super::tiny;
use crate::support::{Ran, Space};

/// An entry: name, mode with its type, content or where a link leads, and the entry that it is a further name of.
type Entry<'e> = (&'e str, u32, &'e str, Option<&'e str>);

/// An image: what it tries, its frames, and attributes.
type Case<'e> = (&'e str, Vec<Vec<Entry<'e>>>, &'e [[&'e str; 3]]);

fn as_cpio(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut put = |name: &str, mode: u32, inode: usize, links: u32, data: &[u8]| {
        let size = data.len() as u32;
        let fields = [inode as u32, mode, 70_001, 70_002, links, 7, size, 0, 0, 1, 3, name.len() as u32 + 1, 0];
        let fields: String = fields.iter().map(|field| format!("{field:08x}")).collect();
        all.extend(format!("070701{fields}{name}\0").bytes());
        all.resize(all.len().next_multiple_of(4), 0);
        all.extend(data);
        all.resize(all.len().next_multiple_of(4), 0);
    };
    for (at, (name, mode, text, same)) in entries.iter().enumerate() {
        match same {
            Some(other) => {
                put(name, *mode, at, 2, b"");
                put(other, *mode, at, 2, b"evil");
            }
            None => put(name, *mode, at, 1, text.as_bytes()),
        }
    }
    all
}

fn as_tar(entries: &[Entry<'_>]) -> Vec<u8> {
    let mut all = Vec::new();
    for (name, mode, text, same) in entries {
        let kind = match (same, mode & 0o170_000) {
            (Some(_), _) => tar::EntryType::Link,
            (_, 0o040_000) => tar::EntryType::Directory,
            (_, 0o120_000) => tar::EntryType::Symlink,
            (_, 0o020_000) => tar::EntryType::Char,
            (_, 0o010_000) => tar::EntryType::Fifo,
            _ => tar::EntryType::Regular,
        };
        let data = if kind.is_file() { text.as_bytes() } else { b"" };
        let mut head = tar::Header::new_ustar();
        // Past what the crate refuses.
        head.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        let target = same.unwrap_or(if kind.is_symlink() { text } else { "" });
        head.as_old_mut().linkname[..target.len()].copy_from_slice(target.as_bytes());
        head.set_entry_type(kind);
        head.set_mode(mode & 0o7777);
        head.set_uid(70_001);
        head.set_gid(70_002);
        head.set_mtime(7);
        head.set_size(data.len() as u64);
        head.set_device_major(1).unwrap();
        head.set_device_minor(3).unwrap();
        head.set_cksum();
        all.extend(head.as_bytes());
        all.extend(data);
        all.resize(all.len().next_multiple_of(512), 0);
    }
    all
}

/// A recipe with a published image of such frames.
fn image(archive: &str, frames: &[Vec<u8>], xattrs: &[[&str; 3]]) -> Space {
    let space = copy();
    let from = tiny().space.artefact("tiny", "build.json");
    let to = space.path().join("out/tiny");
    std::fs::create_dir_all(&to).unwrap();
    let rootimg = format!("rootimg.{archive}.zst");
    let info = std::fs::read_to_string(from).unwrap().replace("rootimg.cpio.zst", &rootimg);
    std::fs::write(to.join("build.json"), info).unwrap();
    std::fs::write(to.join("statelite.json"), "{}").unwrap();
    std::fs::write(to.join(&rootimg), frames.concat()).unwrap();
    let mut offset = 0;
    let described: Vec<serde_json::Value> = frames
        .iter()
        .map(|frame| {
            let at = offset;
            offset += frame.len();
            serde_json::json!({"offset": at, "size": frame.len(), "sha256": Sha256::of(frame).to_string()})
        })
        .collect();
    let index = serde_json::json!({
        "format": 2, "archive": archive, "compress": "none", "size": offset, "memory": 4096, "inodes": 9, "frames": described,
        "xattrs": xattrs, "labels": {},
    });
    std::fs::write(to.join(format!("{rootimg}.index")), index.to_string()).unwrap();
    space
}

fn publish(space: &Space) -> Ran {
    space.run(&["publish", &format!("nfs:{}", space.path().join("nfs").display()), "tiny"])
}

/// What is seen of a file: its path, numbers, names of attributes, content.
type Seen = (PathBuf, [u64; 6], Vec<u8>, Vec<u8>);

/// Names, modes, owners, times, attributes and content of a directory.
fn look(place: &Path) -> Vec<Seen> {
    let entries = walkdir::WalkDir::new(place).sort_by_file_name().into_iter().map(|entry| entry.unwrap().into_path());
    let one = |path: PathBuf| {
        let meta = path.symlink_metadata().unwrap();
        let numbers =
            [meta.mode().into(), meta.uid().into(), meta.gid().into(), meta.nlink(), meta.ino(), meta.mtime() as u64];
        let mut names = [0u8; 512];
        let length = rustix::fs::llistxattr(&path, &mut names).unwrap_or(0);
        let content = std::fs::read(&path).unwrap_or_default();
        (path, numbers, names[..length].to_vec(), content)
    };
    entries.map(one).collect()
}

const LINK: u32 = 0o120_777;
const FILE: u32 = 0o104_755;
const DIRECTORY: u32 = 0o040_777;
const DEVICE: u32 = 0o020_666;
const PIPE: u32 = 0o010_600;

#[test]
fn privileged_an_image_of_others_touches_nothing_but_its_tree() {
    let victim = tempfile::tempdir().unwrap();
    let there = victim.path().to_str().unwrap();
    std::fs::create_dir(victim.path().join("dir")).unwrap();
    std::fs::write(victim.path().join("secret"), "kept").unwrap();
    std::fs::set_permissions(victim.path().join("secret"), PermissionsExt::from_mode(0o600)).unwrap();
    symlink("secret", victim.path().join("link")).unwrap();
    let before = look(victim.path());
    let (absolute, link) = (format!("{there}/secret"), ("a", LINK, there, None));
    let top = (".", DIRECTORY, "", None);
    let user = [["a/secret", "user.evil", "6869"]];
    let access = [["a", "system.posix_acl_access", "0200000001000600ffffffff04000600ffffffff20000600ffffffff"]];
    let cases: Vec<Case<'_>> = vec![
        ("a file through a link", vec![vec![top, link, ("a/made", FILE, "evil", None)]], &[]),
        ("in a later frame", vec![vec![top, link], vec![("a/made", FILE, "evil", None)]], &[]),
        ("a mode through a link", vec![vec![top, link, ("a/dir", DIRECTORY, "", None)]], &[]),
        ("a link as a file", vec![vec![top, ("a", LINK, &absolute, None), ("a", FILE, "evil", None)]], &[]),
        ("a further name there", vec![vec![top, link, ("a/made", FILE, "", Some("own"))]], &[]),
        ("a further name of it", vec![vec![top, link, ("own", FILE, "", Some("a/secret"))]], &[]),
        ("an absolute name", vec![vec![top, (&absolute, FILE, "evil", None)]], &[]),
        ("a name with dots", vec![vec![top, ("d/../../../../made", FILE, "evil", None)]], &[]),
        ("an attribute through a link", vec![vec![top, link]], &user),
        ("an attribute with dots", vec![vec![top]], &[["../../../secret", "user.evil", "6869"]]),
        ("an access list of a link", vec![vec![top, ("a", LINK, &absolute, None)]], &access),
        ("a device", vec![vec![top, ("null", DEVICE, "", None)]], &[]),
        ("a link for imgbuild's own folder", vec![vec![top, (".statelite", LINK, there, None)]], &[]),
    ];
    for (archive, make) in [("cpio", as_cpio as fn(&[Entry<'_>]) -> Vec<u8>), ("tar", as_tar)] {
        for (name, frames, xattrs) in &cases {
            let frames: Vec<Vec<u8>> = frames.iter().map(|entries| make(entries)).collect();
            let space = image(archive, &frames, xattrs);
            let said = publish(&space);
            assert_eq!(look(victim.path()), before, "{archive}: {name}");
            if *name == "a link for imgbuild's own folder" {
                // It leads nowhere in the tree, and gives way.
                assert!(said.code == 0 && space.path().join("nfs/rootimg/.statelite/statelite.json").is_file());
                continue;
            }
            assert_eq!(said.code, 3, "{archive}: {name}: {} {}", said.out, said.err);
            let names: Vec<_> = std::fs::read_dir(space.path().join("nfs")).unwrap().flatten().collect();
            assert!(
                names.iter().all(|one| one.file_name() == ".imgbuild-publish.lock"),
                "{archive}: {name}: {names:?}"
            );
        }
    }
}

#[test]
fn privileged_a_published_tree_has_the_images_owners_modes_times_and_attributes() {
    let capability = "0000000200040000000000000000000000000000";
    for (archive, make) in [("cpio", as_cpio as fn(&[Entry<'_>]) -> Vec<u8>), ("tar", as_tar)] {
        let first =
            make(&[(".", 0o040_750, "", None), ("bin", DIRECTORY, "", None), (".statelite", LINK, "bin", None)]);
        let second = make(&[
            ("bin/sh", FILE, "shell", None),
            ("bin/pipe", PIPE, "", None),
            ("bin/link", LINK, "/etc", None),
            if archive == "cpio" { ("bin/second", FILE, "", Some("bin/one")) } else { ("bin/one", FILE, "evil", None) },
            if archive == "cpio" { ("bin/x", FILE, "", None) } else { ("bin/second", FILE, "", Some("bin/one")) },
        ]);
        let xattrs = [["bin/sh", "security.capability", capability]];
        let space = image(archive, &[first, second], &xattrs);
        publish(&space).good();
        let tree = space.path().join("nfs/rootimg");
        let meta = |name: &str| tree.join(name).symlink_metadata().unwrap();
        let of = |name: &str| (meta(name).mode(), meta(name).uid(), meta(name).gid(), meta(name).mtime());
        assert_eq!(of("bin/sh"), (FILE, 70_001, 70_002, 7), "{archive}");
        assert_eq!(of("bin/pipe"), (PIPE, 70_001, 70_002, 7), "{archive}");
        assert_eq!((of("bin/link").1, of("bin/link").3), (70_001, 7), "{archive}");
        assert_eq!((meta("bin/one").ino(), meta("bin/one").nlink()), (meta("bin/second").ino(), 2), "{archive}");
        assert_eq!(std::fs::read(tree.join("bin/statelite.json")).unwrap(), b"{}", "{archive}");
        let mut value = [0u8; 64];
        let length = rustix::fs::lgetxattr(tree.join("bin/sh"), "security.capability", &mut value).unwrap();
        assert!(
            length >= 20 && value[4..20] == [0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            "{archive}: {value:?}"
        );
    }
}
