use std::io::Cursor;

use super::tree::TreeMaker;
use super::*;
use crate::Kind;

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

/// A stream: the contents' line, a layer's texts, and what its files hold.
fn packed(manifest: &Manifest, layers: usize, content: &mut dyn std::io::Read) -> Vec<u8> {
    let text = manifest.to_text();
    let layer = Digest::of(text.as_bytes());
    let skeleton = Manifest::default().to_text();
    let texts = LayerTexts { layer, manifest: text.len() as u64, skeleton: skeleton.len() as u64 };
    let contents = Contents { format: FORMAT, layers: vec![texts; layers], frames: Vec::new() };
    let mut stream = zstd::Encoder::new(Vec::new(), 3).unwrap();
    std::io::Write::write_all(&mut stream, &serde_json::to_vec(&contents).unwrap()).unwrap();
    std::io::Write::write_all(&mut stream, format!("\n{}", (text + &skeleton).repeat(layers)).as_bytes()).unwrap();
    std::io::copy(content, &mut stream).unwrap();
    stream.finish().unwrap()
}

fn load_of(packed: &[u8]) -> Result<Loaded, String> {
    let space = tempfile::tempdir().unwrap();
    let from = space.path().join("from");
    std::fs::write(&from, packed).unwrap();
    let scratch = space.path().join("scratch").to_str().unwrap().to_owned();
    let request = LoadRequest { from: from.to_str().unwrap().to_owned(), scratch };
    load_layers(&request)
}

/// The same of a layer whose files hold zeros; and how long the stream is.
fn load(manifest: &Manifest, layers: usize, zeros: u64) -> (Result<Loaded, String>, usize) {
    let packed = packed(manifest, layers, &mut std::io::Read::take(std::io::repeat(0), zeros));
    (load_of(&packed), packed.len())
}

#[test]
fn a_byte_that_was_flipped_anywhere_is_said_to_be_damage() {
    // Several blocks: the first has the texts, the others the file alone.
    let text: String = (0..60_000_u32).map(|number| format!("{} ", number.wrapping_mul(2_654_435_761))).collect();
    let packed = packed(&Manifest([("a".to_owned(), file(&text))].into()), 1, &mut text.as_bytes());
    for at in (0..packed.len()).step_by(packed.len() / 97) {
        let mut bytes = packed.clone();
        bytes[at] ^= 0x20;
        // What is not read in the end is not looked at: bits that say nothing.
        if let Err(said) = load_of(&bytes) {
            assert!(said.contains("is damaged") || said.contains("is refused"), "{at}: {said}");
        }
    }
}

#[test]
fn a_small_file_that_would_become_large_is_refused_before_anything_is_written() {
    const SIZE: u64 = 1 << 30;
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(std::io::Read::take(std::io::repeat(0), SIZE)).unwrap();
    let zeros = entry(Kind::File { size: SIZE, digest: Digest(*hasher.finalize().as_bytes()) });
    let (outcome, packed) = load(&Manifest([("zeros".to_owned(), zeros)].into()), 1, SIZE);
    assert!(packed < 200_000, "{packed}");
    let said = outcome.unwrap_err();
    assert!(said.contains("is refused") && said.contains("256 times"), "{said}");
}

#[test]
fn what_no_store_could_have_is_refused() {
    let layer = |entry: Entry| Manifest([("a".to_owned(), entry)].into());
    let odd = [
        Entry { uid: u32::MAX, ..entry(Kind::Directory) },
        Entry { gid: u32::MAX, ..entry(Kind::Directory) },
        Entry { mode: 0o177_777, ..entry(Kind::Directory) },
    ];
    for entry in odd {
        let said = load(&layer(entry), 1, 0).0.unwrap_err();
        assert!(said.contains("damaged") && said.contains("`a`"), "{said}");
    }
    let said = load(&layer(entry(Kind::Directory)), 2, 0).0.unwrap_err();
    assert!(said.contains("twice"), "{said}");
}
