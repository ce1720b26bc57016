use std::io::Cursor;

use super::tree::TreeMaker;
use super::*;
use crate::store::Kind;

fn entry(kind: Kind) -> Entry {
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    Entry { kind, mode: 0o644, uid, gid, mtime: 1_700_000_000, ..Entry::whiteout() }
}

fn file(text: &str) -> Entry {
    entry(Kind::File { size: text.len() as u64, digest: Digest::of(text.as_bytes()) })
}

#[test]
fn a_tree_that_is_made_leads_nowhere_else() {
    let outside = tempfile::tempdir().unwrap();
    let space = tempfile::tempdir().unwrap();
    let maker = TreeMaker::new(space.path().join("tree").to_str().unwrap()).unwrap();
    maker.other("link", &entry(Kind::Symlink(outside.path().to_str().unwrap().to_owned()))).unwrap();
    for path in ["link/evil", "../evil", "a/../../evil", "/evil", "..", ".", ""] {
        assert!(maker.file(path, &file("x"), &mut Cursor::new(b"x")).is_err(), "{path}");
        assert!(maker.link(path, "link").is_err(), "{path}");
        assert!(maker.other(path, &entry(Kind::Fifo)).is_err(), "{path}");
    }
    assert!(maker.directory("link/evil").is_err() && maker.settle("link", &entry(Kind::Directory)).is_err());
    assert_eq!(std::fs::read_dir(outside.path()).unwrap().count(), 0);
    let names: Vec<_> = std::fs::read_dir(space.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(names, ["tree"]);
}

#[test]
fn a_content_that_is_not_the_manifests_is_refused() {
    let space = tempfile::tempdir().unwrap();
    let maker = TreeMaker::new(space.path().join("tree").to_str().unwrap()).unwrap();
    maker.file("good", &file("good"), &mut Cursor::new(b"good")).unwrap();
    assert!(maker.file("other", &file("good"), &mut Cursor::new(b"evil")).is_err());
    assert!(maker.file("short", &file("good"), &mut Cursor::new(b"goo")).is_err());
}

#[test]
fn devices_are_refused() {
    let space = tempfile::tempdir().unwrap();
    let maker = TreeMaker::new(space.path().join("tree").to_str().unwrap()).unwrap();
    assert!(maker.other("mem", &entry(Kind::Character(1, 1))).is_err());
    assert!(maker.other("disk", &entry(Kind::Block(8, 0))).is_err());
}

#[test]
fn a_hard_link_group_has_its_content_at_its_first_path_here() {
    let mut first = file("x");
    first.link_group = Some("below/a".to_owned());
    let manifest = Manifest([("b".to_owned(), first.clone()), ("c".to_owned(), first.clone())].into());
    let names = Names::of(&manifest);
    assert_eq!((names.other_name("b", &first), names.other_name("c", &first)), (None, Some("b")));
}
