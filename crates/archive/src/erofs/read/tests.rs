//! On images that mkfs.erofs made, as they are and damaged. tests/it/e2e/forms.rs has larger ones, and imgbuild's own, beside the kernel.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};

use super::*;

/// `mkfs.erofs -zlz4` (1.5) of a tree with one of each kind.
const LZ4: &[u8] = include_bytes!("../../../../../tests/fixtures/erofs/lz4.erofs");
/// The same with `-zlz4hc -C16384`.
const LARGE: &[u8] = include_bytes!("../../../../../tests/fixtures/erofs/big.erofs");
/// The same without compression.
const PLAIN: &[u8] = include_bytes!("../../../../../tests/fixtures/erofs/plain.erofs");

fn listed(bytes: &[u8]) -> io::Result<String> {
    let mut file = tempfile::tempfile()?;
    file.write_all(bytes)?;
    let mut text = String::new();
    list_erofs(&file, &mut |entry, content| {
        let mut all = Vec::new();
        content.take(1 << 20).read_to_end(&mut all)?;
        let Listed { path, mode, uid, gid, size, mtime, device, .. } = entry;
        let _ = write!(text, "{path} {mode:o} {uid}:{gid} {size} {mtime} {}:{}", device.0, device.1);
        let _ = write!(text, " {} {}", all.len(), blake3::hash(&all).to_hex().get(..8).unwrap_or_default());
        for word in entry.target.iter().chain(&entry.same_as) {
            let _ = write!(text, " -> {word}");
        }
        for (name, value) in &entry.xattrs {
            let _ = write!(text, " {name}={}", value.escape_ascii());
        }
        text.push('\n');
        Ok(())
    })?;
    Ok(text)
}

#[test]
fn one_of_each_kind_is_read_however_it_is_stored() {
    let plain = listed(PLAIN).unwrap();
    let shown: Vec<&str> = plain.lines().filter(|line| !line.contains("file-with-a-long-name")).collect();
    insta::assert_snapshot!(shown.join("\n"));
    assert_eq!(plain.matches("file-with-a-long-name").count(), 150);
    assert!(listed(LZ4).unwrap() == plain && listed(LARGE).unwrap() == plain);
}

#[test]
fn what_is_not_read_is_named() {
    let with = |at: usize, value: &[u8]| {
        let mut bytes = PLAIN.to_vec();
        bytes[at..at + value.len()].copy_from_slice(value);
        listed(&bytes).unwrap_err().to_string()
    };
    assert_eq!(
        with(1024 + 80, &[4, 0, 0, 0]),
        "it is an erofs with chunks, which imgbuild does not support: mount it and pass the directory"
    );
    assert!(with(1024 + 81, &[1]).contains("features of newer kernels"));
    assert!(with(1024 + 12, &[30]).contains("its blocks have 2^30 bytes"));
    assert!(listed(&PLAIN[..1030]).unwrap_err().to_string().contains("is truncated"));
    assert!(listed(&PLAIN[..5000]).is_err());
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(600))]

    #[test]
    fn a_damaged_image_is_an_error_or_another_image(
        which in 0..3usize,
        changes in proptest::collection::vec((0..PLAIN.len(), 0u8..), 1..6),
    ) {
        let mut bytes = [PLAIN, LZ4, LARGE][which].to_vec();
        for (at, value) in changes {
            let at = at % bytes.len();
            bytes[at] = value;
        }
        let _ = listed(&bytes);
    }
}
