//! What goes through a node's shell comes out as it was, and the stream has whole records.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use super::stream::{Bytes, Entry, RECORD, aside, records, send};
use super::words::{encoded, quoted};

proptest::proptest! {
    #[test]
    fn names_go_through_a_shell_as_they_are(name in proptest::collection::vec(1u8..=255, 0..40)) {
        let word = encoded(Path::new(OsStr::from_bytes(&name)));
        assert!(!word.contains([' ', '\n', '\'', '"', '*']), "{word}");
        // As node.sh undoes it.
        let script = format!("v=$(printf '%b.' {}); printf '%s' \"${{v%.}}\"", quoted(&word));
        let output = Command::new("sh").args(["-c", &script]).env("LC_ALL", "C").output().unwrap();
        assert_eq!(output.stdout, name);
    }
}

#[test]
fn a_stream_has_whole_records_and_a_file_that_shrank_its_size() {
    let entry = |path: &str, bytes: Bytes| Entry { path: path.into(), mode: 0o600, uid: 0, gid: 0, bytes };
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "short").unwrap();
    let long = format!("/etc/{}", "x/".repeat(100));
    let entries = [
        entry("/etc/motd", Bytes::Text(Arc::new(b"text".to_vec()))),
        entry(&format!("{long}name"), Bytes::File(file, 4000)),
    ];
    let mut all = Vec::new();
    send(&mut all, &entries).unwrap();
    assert_eq!(all.len() as u64, records(&entries).unwrap() * RECORD);
    let mut archive = tar::Archive::new(all.as_slice());
    let sizes: Vec<(String, u64)> = archive
        .entries()
        .unwrap()
        .map(|entry| entry.unwrap())
        .map(|entry| (entry.path().unwrap().display().to_string(), entry.size()))
        .collect();
    assert_eq!(sizes, [("etc/motd".to_owned(), 4), (format!("{}name", &long[1..]), 4000)]);
}

#[test]
fn what_is_put_aside_lies_beside_its_destination() {
    assert_eq!(aside(Path::new("/etc/motd"), "7", 0), Path::new("/etc/.imgbuild-sync.7.0"));
    assert_eq!(aside(Path::new("/motd"), "7", 1), Path::new("/.imgbuild-sync.7.1"));
}
