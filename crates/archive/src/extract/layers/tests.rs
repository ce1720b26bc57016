//! Layers that people and hostile ones make.

use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;

use super::*;
use crate::extract::Extractor;

/// A layer of entries: kind, path, target or content.
fn layer(entries: &[(EntryType, &str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (kind, path, text) in entries {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(*kind);
        header.set_mode(if *kind == EntryType::Directory { 0o755 } else { 0o644 });
        header.set_uid(u64::from(rustix::process::getuid().as_raw()));
        header.set_gid(u64::from(rustix::process::getgid().as_raw()));
        let content = if *kind == EntryType::Regular { text.as_bytes() } else { b"" };
        header.set_size(content.len() as u64);
        let fields = header.as_gnu_mut().unwrap();
        fields.name[..path.len()].copy_from_slice(path.as_bytes());
        if *kind != EntryType::Regular {
            fields.linkname[..text.len()].copy_from_slice(text.as_bytes());
        }
        header.set_cksum();
        bytes.extend_from_slice(header.as_bytes());
        bytes.extend_from_slice(content);
        bytes.resize(bytes.len().next_multiple_of(512), 0);
    }
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn unpack(root: &Path, layers: &[Vec<u8>]) -> Result<(), String> {
    let mut extractor = Extractor::new(root.to_str().unwrap()).unwrap();
    for bytes in layers {
        let look = look_at_layer(&mut &bytes[..], &Sha256::of(bytes), MOST)?;
        extractor.layer(&mut &bytes[..], &look)?;
    }
    Ok(())
}

fn tree(root: &Path) -> Vec<String> {
    let entries = walkdir::WalkDir::new(root).min_depth(1).sort_by_file_name();
    entries.into_iter().map(|entry| entry.unwrap().path().strip_prefix(root).unwrap().display().to_string()).collect()
}

const MOST: LayerSize = LayerSize { bytes: 1 << 20, entries: 100 };
const DIR: EntryType = EntryType::Directory;
const FILE: EntryType = EntryType::Regular;
const LINK: EntryType = EntryType::Symlink;
const HARD: EntryType = EntryType::Link;

/// A layer of one file with such an extended header.
fn with_records(records: &[u8], path: &str) -> Vec<u8> {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(EntryType::XHeader);
    header.set_size(records.len() as u64);
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(records);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes.extend(layer(&[(FILE, path, "x")]));
    bytes
}

#[test]
fn what_an_extended_header_says_is_taken_or_refused_and_never_lost() {
    let refused = |bytes: Vec<u8>| {
        let root = tempfile::tempdir().unwrap();
        unpack(root.path(), &[bytes]).unwrap_err()
    };
    let root = tempfile::tempdir().unwrap();
    unpack(root.path(), &[with_records(b"18 path=very/long\n", "short")]).unwrap();
    assert_eq!(tree(root.path()), ["very", "very/long"]);
    // A capability of which a byte is a line feed; the path after it would not be seen.
    let said =
        refused(with_records(b"41 SCHILY.xattr.security.capability=\x01\n\x02\x03\n18 path=very/long\n", "short"));
    assert!(said.contains("has a line feed"), "{said}");
    let said = refused(with_records(b"22 GNU.sparse.major=1\n", "GNUSparseFile.1/lastlog"));
    assert!(said.contains("file with holes"), "{said}");
    // Names that no path can have are not kept.
    assert!(part_of(&b"a".repeat(255)).is_ok() && part_of(&b"a".repeat(300)).is_err());
    assert!(part_of(&b"a/".repeat(3000)).is_err());
}

#[test]
fn what_a_layer_takes_away_is_of_the_layers_below_wherever_it_stands() {
    let root = tempfile::tempdir().unwrap();
    let lower = layer(&[
        (DIR, "a/", ""),
        (FILE, "a/old", "1"),
        (DIR, "a/deep/", ""),
        (FILE, "a/deep/file", "1"),
        (FILE, "b", "1"),
        (DIR, "c/", ""),
        (FILE, "c/x", "1"),
        (FILE, "kept", "1"),
        (HARD, "kept2", "kept"),
    ]);
    let upper = layer(&[
        (FILE, "a/new", "2"),
        // Behind what the same layer brings.
        (FILE, "a/.wh..wh..opq", ""),
        (FILE, ".wh.b", ""),
        (FILE, "b", "2"),
        (FILE, ".wh.never", ""),
        (FILE, "nowhere/.wh.x", ""),
        (FILE, ".wh..wh.plnk", ""),
        (FILE, "c/.wh.x", ""),
        (FILE, "kept", "2"),
    ]);
    unpack(root.path(), &[lower, upper]).unwrap();
    assert_eq!(tree(root.path()), ["a", "a/new", "b", "c", "kept", "kept2"]);
    let read = |name: &str| std::fs::read_to_string(root.path().join(name)).unwrap();
    assert_eq!((read("b"), read("kept"), read("kept2")), ("2".into(), "2".into(), "1".into()));
}

#[test]
fn one_kind_takes_the_place_of_another_and_links_are_made_across_layers() {
    let root = tempfile::tempdir().unwrap();
    let lower = layer(&[
        (DIR, "usr/lib/", ""),
        (LINK, "lib", "usr/lib"),
        (FILE, "lib/below", "1"),
        (LINK, "was-link", "usr"),
        (DIR, "was-dir/", ""),
        (FILE, "was-dir/x", "1"),
        (FILE, "was-file", "1"),
    ]);
    let upper = layer(&[
        (FILE, "lib/more", "2"),
        (HARD, "hard", "usr/lib/below"),
        (DIR, "was-link/", ""),
        (LINK, "was-dir", "usr"),
        (DIR, "was-file/", ""),
        (EntryType::Fifo, "pipe", ""),
    ]);
    unpack(root.path(), &[lower, upper]).unwrap();
    let at = |name: &str| root.path().join(name);
    assert!(at("lib").is_symlink() && at("usr/lib/more").is_file() && at("usr/lib/below").is_file());
    assert_eq!(std::fs::metadata(at("hard")).unwrap().nlink(), 2);
    assert!(!at("was-link").is_symlink() && at("was-link").is_dir());
    assert_eq!(std::fs::read_link(at("was-dir")).unwrap(), Path::new("usr"));
    assert!(at("was-file").is_dir());
    let pipe = std::fs::symlink_metadata(at("pipe")).unwrap();
    assert_eq!((pipe.mode() & 0o170_000, pipe.permissions().mode() & 0o777), (0o010_000, 0o644));
}

#[test]
fn no_layer_reaches_what_lies_outside() {
    let place = tempfile::tempdir().unwrap();
    let outside = place.path().to_str().unwrap();
    let canary = place.path().join("canary");
    std::fs::write(&canary, "canary").unwrap();
    let absolute = canary.to_str().unwrap();
    let through: &[(EntryType, &str, &str)] = &[(LINK, "out", outside), (FILE, "out/canary", "evil")];
    for (name, layers) in [
        ("parent", vec![layer(&[(FILE, "../canary", "evil")])]),
        ("parent later", vec![layer(&[(FILE, "a/../../canary", "evil")])]),
        ("absolute", vec![layer(&[(FILE, absolute, "evil")])]),
        ("through a link", vec![layer(through)]),
        ("through a link of another layer", vec![layer(&through[..1]), layer(&through[1..])]),
        ("whiteout through a link", vec![layer(&through[..1]), layer(&[(FILE, "out/.wh.canary", "")])]),
        ("opaque through a link", vec![layer(&through[..1]), layer(&[(FILE, "out/.wh..wh..opq", "")])]),
        ("whiteout of the parent", vec![layer(&[(FILE, "a/.wh...", "")])]),
        ("hard link", vec![layer(&[(HARD, "x", absolute), (FILE, "x", "evil")])]),
        ("hard link by dots", vec![layer(&[(HARD, "x", "../canary")])]),
        ("hard link through a link", vec![layer(&[(LINK, "out", outside), (HARD, "x", "out/canary")])]),
        ("over a link", vec![layer(&[(LINK, "x", absolute)]), layer(&[(FILE, "x", "evil")])]),
        ("a link to all", vec![layer(&[(LINK, "x", "/")]), layer(&[(FILE, ".wh.x", "")])]),
    ] {
        let root = place.path().join("root");
        std::fs::create_dir(&root).unwrap();
        let _ = unpack(&root, &layers);
        assert_eq!(std::fs::read(&canary).unwrap(), b"canary", "{name}");
        assert_eq!(std::fs::metadata(&canary).unwrap().nlink(), 1, "{name}");
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 2, "{name}");
        std::fs::remove_dir_all(&root).unwrap();
    }
}

#[test]
fn a_layer_that_is_not_as_it_should_be_is_refused_before_anything_is_made() {
    let good = layer(&[(FILE, "a", "1")]);
    let said =
        |bytes: &[u8], expected: &Sha256, most: LayerSize| look_at_layer(&mut &bytes[..], expected, most).unwrap_err();
    assert!(said(&good, &Sha256::of(b"other"), MOST).contains("diff_id"));
    assert!(said(&good, &Sha256::of(&good), LayerSize { bytes: 700, ..MOST }).contains("limit of 700 unpacked bytes"));
    let two = layer(&[(FILE, "a", "1"), (FILE, "b", "1")]);
    assert!(said(&two, &Sha256::of(&two), LayerSize { entries: 1, ..MOST }).contains("limit of 1 entries"));
    for (entries, problem) in [
        (vec![(FILE, "../x", "")], "escapes the archive"),
        (vec![(FILE, ".wh.", "")], "not a name"),
        (vec![(FILE, ".wh...", "")], "not a name"),
        (vec![(FILE, ".wh.a/b", "")], "below a name"),
        (vec![(EntryType::Char, "etc/null", "")], "special file"),
        (vec![(EntryType::Block, "sda", "")], "special file"),
        (vec![(HARD, "x", "../y")], "escapes the archive"),
    ] {
        let bytes = layer(&entries);
        let said = said(&bytes, &Sha256::of(&bytes), MOST);
        assert!(said.contains(problem), "{said}");
    }
    let deep = "d/".repeat(48) + "x";
    let bytes = layer(&[(FILE, &deep, ""), (EntryType::Char, "dev/null", "")]);
    let look = look_at_layer(&mut &bytes[..], &Sha256::of(&bytes), MOST).unwrap();
    assert_eq!(look.devices.into_iter().collect::<Vec<_>>(), ["dev/null"]);
    let garbage = vec![7; 4096];
    assert!(look_at_layer(&mut &garbage[..], &Sha256::of(&garbage), MOST).is_err());
}

#[test]
fn compressors_are_told_by_the_first_bytes() {
    let bytes = layer(&[(FILE, "a", "1")]);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&bytes).unwrap();
    let zstd = zstd::encode_all(&bytes[..], 3).unwrap();
    let chunked = [&[0x50, 0x2a, 0x4d, 0x18, 2, 0, 0, 0, 1, 2][..], &zstd].concat();
    for packed in [bytes.clone(), gzip.finish().unwrap(), zstd, chunked] {
        let mut plain = Vec::new();
        plain_layer(&packed[..]).unwrap().read_to_end(&mut plain).unwrap();
        assert!(plain == bytes);
    }
}
